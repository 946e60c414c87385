#include "rpc/file_upload.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "base/io.h"
#include "base/moment.h"
#include "base/thread.h"
#include "rpc/answer.h"

/* Of one message. */
#define PIECE ((size_t)1 << 20)
/* Pieces that were read and wait to be sent. */
#define QUEUE 8

/*
 * How long the caller waits for room in the queue, all in all, before it goes ahead: so many
 * times as long as it was at work, and a little, so that a short delay counts for nothing.
 */
#define PATIENCE 3
#define PATIENCE_MS 200
/* Between two looks at whether the caller is to give up. */
#define LOOK_MS 100

struct upload {
	const struct file_upload_plan *plan;
	struct hasher *hasher;  /* the caller's */
	uint64_t *watched;      /* bytes that the watch was told, in all attempts */
	uint64_t began, waited; /* milliseconds */
	pthread_t sender;
	bool sending; /* there is a sender */
	struct client_stop *stop;

	pthread_mutex_t lock; /* guards what follows, up to the sender's own */
	pthread_cond_t changed;
	uint8_t *queue[QUEUE]; /* piece n of the file in n % QUEUE */
	uint64_t read;         /* pieces that were put there */
	uint64_t taken;        /* pieces that the sender has got from there */
	bool alone;            /* nothing more comes: the sender reads the rest */
	bool stopping;
	bool ended; /* the sender has, with rc */
	int rc;
	struct error why;

	/* The sender's, until it was joined: */
	struct client_call *call;
	struct hasher *own; /* of what is sent, from when it is alone */
	struct buffer reply;
};

static size_t piece_len(const struct upload *u, uint64_t number)
{
	return (size_t)MIN(u->plan->size - number * PIECE, (uint64_t)PIECE);
}

static uint64_t piece_count(const struct upload *u)
{
	return (u->plan->size + PIECE - 1) / PIECE;
}

/* The caller of these frees it. */
static int read_piece(const struct upload *u, uint64_t number, uint8_t **out, struct error *err)
{
	size_t len = piece_len(u, number);
	uint8_t *piece = malloc(MAX(len, (size_t)1));

	if (!piece) {
		return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", len);
	}
	ssize_t n = pread_full(u->plan->fd, piece, len, (off_t)(number * PIECE));

	if (n == (ssize_t)len) {
		*out = piece;
		return 0;
	}
	int rc = n < 0 ? error_set_errno(err, errno, "cannot read")
		       : error_set(err, ERROR_CHANGED, "the file became shorter");

	free(piece);
	return rc;
}

/* ---- The sender ---- */

/* Asker: a piece from the queue; 0 when there will be none any more. */
static int take_piece(struct upload *u, uint64_t number, uint8_t **out, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&u->lock);
	while (u->read == number && !u->alone && !u->stopping) {
		pthread_cond_wait(&u->changed, &u->lock);
	}
	if (u->stopping) {
		rc = error_set(err, ERROR_CANCELED, "given up");
	} else if (number < u->read) {
		*out = u->queue[number % QUEUE];
		u->taken++;
		rc = 1;
		pthread_cond_broadcast(&u->changed);
	}
	pthread_mutex_unlock(&u->lock);
	return rc;
}

/* The bytes that are sent are those that are hashed. */
static int read_alone(struct upload *u, uint64_t number, uint8_t **out, struct error *err)
{
	int rc = read_piece(u, number, out, err);

	if (rc == 0) {
		hasher_update(u->own, bytes_of(*out, piece_len(u, number)));
	}
	return rc;
}

static int send_pieces(struct upload *u, struct error *err)
{
	uint64_t count = piece_count(u);
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < count; i++) {
		struct buffer head cleanup(buffer_done) = {0};
		uint8_t *piece;

		rc = take_piece(u, i, &piece, err);
		if (rc == 0) {
			rc = read_alone(u, i, &piece, err);
		}
		if (rc < 0) {
			return rc;
		}
		message_put_element_head(&head, 1, piece_len(u, i));
		rc = client_call_send_parts(u->call, buffer_bytes(&head),
					    bytes_of(piece, piece_len(u, i)), i + 1 == count,
					    free, piece, err);
	}
	return rc;
}

static int send_all(struct upload *u, struct error *err)
{
	int rc = peer_upload(u->plan->remote->peer, PEER_METHOD(PEER_BLOBS, "Put"), &u->call,
			     err);

	if (rc == 0) {
		rc = client_call_obey(u->call, u->stop, err);
	}
	if (rc == 0) {
		rc = send_pieces(u, err);
	}
	return rc < 0 ? rc : client_call_receive_one(u->call, &u->reply, err);
}

static void *sender_main(void *arg)
{
	struct upload *u = arg;
	struct error why = {0};
	int rc = send_all(u, &why);

	client_call_free(u->call);
	pthread_mutex_lock(&u->lock);
	u->ended = true;
	u->rc = rc;
	u->why = why;
	pthread_cond_broadcast(&u->changed);
	pthread_mutex_unlock(&u->lock);
	return NULL;
}

static int start_sender(struct upload *u, struct error *err)
{
	int rc = thread_start(&u->sender, 0, sender_main, u);

	u->sending = rc == 0;
	return rc == 0 ? 0 : error_set_errno(err, rc, "cannot start a thread");
}

static void stop_sender(struct upload *u)
{
	if (!u->sending) {
		return;
	}
	pthread_mutex_lock(&u->lock);
	u->stopping = true;
	pthread_cond_broadcast(&u->changed);
	pthread_mutex_unlock(&u->lock);
	client_stop_all(u->stop);
	pthread_join(u->sender, NULL);
	u->sending = false;
}

/* ---- The caller ---- */

/* For a moment, or until something changed. */
static int wait_locked(struct upload *u, uint64_t ms, struct error *err)
{
	uint64_t until = moment_now() + MIN(ms, (uint64_t)LOOK_MS);
	struct timespec t = {.tv_sec = (time_t)(until / 1000),
			     .tv_nsec = (long)(until % 1000) * 1000000};

	pthread_cond_timedwait(&u->changed, &u->lock, &t);
	return blob_watch_advance(u->plan->watch, 0, err);
}

/* A peer that is not there will not answer questions either. */
static bool is_out_of_reach(int rc)
{
	return rc == -ERROR_UNAVAILABLE || rc == -ERROR_TIMEOUT;
}

static int told(const struct upload *u, struct error *err)
{
	return error_set(err, u->why.code, "%s", u->why.text);
}

static bool is_full(const struct upload *u)
{
	return !u->ended && u->read - u->taken == QUEUE;
}

/* Waits for room in the queue, but not for ever; then the sender is alone with the rest. */
static int await_room(struct upload *u, struct error *err)
{
	uint64_t begin = moment_now();
	uint64_t patience = PATIENCE * (begin - u->began - u->waited) + PATIENCE_MS;
	uint64_t waited = u->waited;
	int rc = 0;

	while (rc == 0 && is_full(u) && waited < patience) {
		rc = wait_locked(u, patience - waited, err);
		waited = u->waited + (moment_now() - begin);
	}
	u->waited = waited;
	if (rc == 0 && u->ended && is_out_of_reach(u->rc)) {
		return told(u, err);
	}
	if (rc == 0 && (u->ended || is_full(u))) {
		hasher_copy(u->own, u->hasher);
		u->alone = true;
		pthread_cond_broadcast(&u->changed);
	}
	return rc;
}

static int make_room(struct upload *u, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&u->lock);
	if (!u->sending && is_full(u)) {
		rc = start_sender(u, err);
	}
	if (rc == 0 && !u->alone && (u->ended || is_full(u))) {
		rc = await_room(u, err);
	}
	pthread_mutex_unlock(&u->lock);
	return rc;
}

/* The sender's from now on, unless it is alone. */
static void pass_on(struct upload *u, uint8_t *piece)
{
	if (u->alone) {
		free(piece);
		return;
	}
	pthread_mutex_lock(&u->lock);
	u->queue[u->read++ % QUEUE] = piece;
	pthread_cond_broadcast(&u->changed);
	pthread_mutex_unlock(&u->lock);
}

static int tell_watch(struct upload *u, uint64_t at, struct error *err)
{
	uint64_t more = at > *u->watched ? at - *u->watched : 0;

	*u->watched += more;
	return blob_watch_advance(u->plan->watch, more, err);
}

static int read_all(struct upload *u, struct error *err)
{
	uint64_t count = piece_count(u);
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < count; i++) {
		uint8_t *piece;

		rc = read_piece(u, i, &piece, err);
		if (rc < 0) {
			return rc;
		}
		rc = make_room(u, err);
		if (rc < 0) {
			free(piece);
			return rc;
		}
		hasher_update(u->hasher, bytes_of(piece, piece_len(u, i)));
		pass_on(u, piece);
		rc = tell_watch(u, MIN((i + 1) * PIECE, u->plan->size), err);
	}
	return rc;
}

/* Asker. Where sending goes on meanwhile, a question without an answer is no failure. */
static int ask(struct upload *u, const struct digest *digest, struct error *err)
{
	pthread_mutex_lock(&u->lock);
	bool settled = u->ended && (u->rc == 0 || is_out_of_reach(u->rc));

	pthread_mutex_unlock(&u->lock);
	if (settled) {
		return 0;
	}
	int rc = blob_service_has(u->plan->blobs, digest, err);

	return rc < 0 && u->sending ? 0 : rc;
}

static int await_end(struct upload *u, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&u->lock);
	if (!u->sending) {
		rc = start_sender(u, err);
	}
	while (rc == 0 && !u->ended) {
		rc = wait_locked(u, LOOK_MS, err);
	}
	if (rc == 0 && u->rc < 0) {
		rc = told(u, err);
	}
	pthread_mutex_unlock(&u->lock);
	return rc;
}

/* All was read, and has this digest; unless it changed until the sender came there. */
static int settle(struct upload *u, const struct digest *digest, struct digest *out,
		  struct error *err)
{
	int rc = ask(u, digest, err);

	*out = *digest;
	if (rc != 0) {
		return rc < 0 ? rc : 0;
	}
	rc = await_end(u, err);
	if (rc == 0 && u->alone) {
		hasher_finish(u->own, out);
	}
	return rc < 0 ? rc : answer_check_digest(buffer_bytes(&u->reply), "blob", out, err);
}

static void upload_init(struct upload *u, const struct file_upload_plan *plan,
			uint64_t *watched)
{
	pthread_condattr_t attr;

	*u = (struct upload){.plan = plan, .watched = watched, .began = moment_now()};
	u->hasher = hasher_new();
	u->own = hasher_new();
	u->stop = client_stop_new();
	pthread_mutex_init(&u->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&u->changed, &attr);
	pthread_condattr_destroy(&attr);
}

static void upload_done(struct upload *u)
{
	stop_sender(u);
	for (; u->taken < u->read; u->taken++) {
		free(u->queue[u->taken % QUEUE]);
	}
	buffer_done(&u->reply);
	hasher_free(u->hasher);
	hasher_free(u->own);
	client_stop_free(u->stop);
	pthread_cond_destroy(&u->changed);
	pthread_mutex_destroy(&u->lock);
}

/* *sent: whether something was. */
static int upload_once(const struct file_upload_plan *plan, uint64_t *watched, bool *sent,
		       struct digest *out, struct error *err)
{
	struct digest digest;
	struct upload u;

	upload_init(&u, plan, watched);
	int rc = read_all(&u, err);

	if (rc == 0) {
		hasher_finish(u.hasher, &digest);
		rc = settle(&u, &digest, out, err);
	}
	stop_sender(&u);
	*sent = u.taken > 0;
	upload_done(&u);
	return rc;
}

int file_upload(const struct file_upload_plan *plan, struct digest *out, struct error *err)
{
	struct peer_retry retry = {.peer = plan->remote->peer};
	uint64_t watched = 0;
	bool sent;
	int rc;

	/* Questions were repeated already. */
	do {
		rc = upload_once(plan, &watched, &sent, out, err);
	} while (rc == -ERROR_UNAVAILABLE && sent && peer_retry(&retry, rc));
	return rc;
}
