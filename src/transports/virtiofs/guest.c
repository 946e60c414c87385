#include "transports/virtiofs/guest.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "fs/ahead.h"
#include "transports/patience.h"
#include "transports/request_pool.h"
#include "transports/virtiofs/vhost_device.h"

/* The socket among the events; others are numbers of rings. */
#define EVENT_SOCKET UINT32_MAX
/* Requests of one ring before others have their turn. */
#define TURN 64u
/* What the pool takes over; longer requests need no waiting. */
#define JOB_REQUEST_MAX 4096u

struct guest {
	unsigned number;
	struct fs *fs;
	struct vhost_device *device;
	struct request_pool *pool;
	bool pooled;     /* there are threads beside this one */
	bool complained; /* the log knows that it breaks rules */
	int events;
	struct patience patience;
	struct fs_reply reply;
	uint8_t *request;
	struct chain chain;
};

/* A request that the pool answers. */
struct job {
	struct request_job base;
	struct virtqueue *queue;
	struct guest_memory *memory; /* where the spans are */
	uint16_t head;
	unsigned writable;
	size_t writable_len;
	size_t request_len;
	const uint8_t *request;    /* behind the spans */
	struct guest_span spans[]; /* the writable ones */
};

/* ---- Replies ---- */

/* A place in the room of a chain, which is filled piece by piece. */
struct filling {
	struct room room; /* what is left */
	size_t used;      /* of the first span */
};

static void fill(struct filling *f, const void *data, size_t len)
{
	const uint8_t *from = data;

	while (len > 0 && f->room.count > 0) {
		const struct guest_span *span = f->room.spans;
		size_t n = MIN(len, span->len - f->used);

		memcpy(span->ptr + f->used, from, n);
		from += n;
		len -= n;
		f->used += n;
		if (f->used == span->len) {
			f->room.spans++;
			f->room.count--;
			f->used = 0;
		}
	}
}

/* Gives a chain back with its reply, which may be none. */
static void send_reply(struct virtqueue *q, uint16_t head, const struct room *room,
		       size_t capacity, struct fs_reply *reply)
{
	struct filling f = {.room = *room};

	if (reply && reply->header.len > capacity) {
		/* The guest asked for less than the answer is: its driver is at fault. */
		reply->fixed_len = 0;
		reply->data_len = 0;
		reply->header.error = -EIO;
		reply->header.len = sizeof(reply->header);
	}
	if (!reply || capacity < sizeof(reply->header)) {
		virtqueue_push(q, head, room, 0);
		return;
	}
	fill(&f, &reply->header, sizeof(reply->header));
	fill(&f, reply->fixed, reply->fixed_len);
	fill(&f, reply->data, reply->data_len);
	virtqueue_push(q, head, room, reply->header.len);
}

static enum fs_outcome handle(struct fs *fs, struct bytes request, unsigned flags,
			      size_t capacity, struct fs_reply *reply)
{
	size_t data = capacity - MIN(capacity, sizeof(reply->header));

	reply->data_capacity = MIN(data, FS_DATA_MAX);
	return fs_handle(fs, request, flags, reply);
}

/* ---- The pool ---- */

static enum fs_outcome handle_job(void *context, struct request_job *base, unsigned flags,
				  struct fs_reply *reply)
{
	struct guest *g = context;
	const struct job *job = container_of(base, struct job, base);

	return handle(g->fs, bytes_of(job->request, job->request_len), flags, job->writable_len,
		      reply);
}

static void finish_job(void *context unused, struct request_job *base, enum fs_outcome outcome,
		       struct fs_reply *reply)
{
	struct job *job = container_of(base, struct job, base);
	const struct room room = {.spans = job->spans, .count = job->writable};

	send_reply(job->queue, job->head, &room, job->writable_len,
		   outcome == FS_REPLY ? reply : NULL);
	guest_memory_unref(job->memory);
	free(job);
}

/* A guest's driver does not say that somebody was interrupted: there is nothing to release. */
static const struct request_pool_ops pool_ops = {
	.handle = handle_job,
	.finish = finish_job,
};

/* False when the request is not for the pool, or the pool has enough to do. */
static bool put_job(struct guest *g, struct virtqueue *q, struct bytes request, bool at_peer)
{
	const struct chain *c = &g->chain;
	size_t spans = c->writable * sizeof(c->spans[0]);

	if (!g->pooled || request.len > JOB_REQUEST_MAX) {
		return false;
	}
	struct job *job = calloc(1, sizeof(*job) + spans + request.len);

	if (!job) {
		return false;
	}
	uint8_t *copy = (uint8_t *)job->spans + spans;

	memcpy(job->spans, c->spans + c->readable, spans);
	memcpy(copy, request.ptr, request.len);
	job->queue = q;
	job->memory = guest_memory_ref(q->memory);
	job->head = c->head;
	job->writable = c->writable;
	job->writable_len = c->writable_len;
	job->request_len = request.len;
	job->request = copy;
	if (request_pool_put(g->pool, &job->base, at_peer)) {
		return true;
	}
	guest_memory_unref(job->memory);
	free(job);
	return false;
}

/* ---- Requests ---- */

/* Copies what the guest has written. What is too long is cut, and refused for its length. */
static struct bytes copy_request(struct guest *g)
{
	const struct chain *c = &g->chain;
	size_t len = 0;

	for (unsigned i = 0; i < c->readable && len < FS_REQUEST_MAX; i++) {
		size_t n = MIN(c->spans[i].len, FS_REQUEST_MAX - len);

		memcpy(g->request + len, c->spans[i].ptr, n);
		len += n;
	}
	return bytes_of(g->request, len);
}

/* Answers the request in g->chain, or lets the pool do it. */
static void serve_request(struct guest *g, struct virtqueue *q)
{
	const struct chain *c = &g->chain;
	const struct room room = {.spans = c->spans + c->readable, .count = c->writable};
	struct bytes request = copy_request(g);

	if (g->pooled && request_is_large_read(request) && virtqueue_has_work(q) &&
	    put_job(g, q, request, false)) {
		return;
	}
	enum fs_outcome outcome =
		handle(g->fs, request, g->pooled ? FS_NOWAIT : 0, c->writable_len, &g->reply);

	if (outcome == FS_BLOCKED && put_job(g, q, request, false)) {
		return;
	}
	if (outcome == FS_BLOCKED) {
		/* No room: this thread may wait for a disk, but not for a peer. */
		outcome = handle(g->fs, request, FS_LOCAL, c->writable_len, &g->reply);
	}
	if (outcome == FS_BLOCKED && put_job(g, q, request, true)) {
		return;
	}
	if (outcome == FS_BLOCKED) {
		outcome = handle(g->fs, request, 0, c->writable_len, &g->reply);
	}
	send_reply(q, c->head, &room, c->writable_len, outcome == FS_REPLY ? &g->reply : NULL);
}

/* True when there was something to do. */
static bool serve_ring(struct guest *g, struct vhost_ring *r)
{
	struct error err;
	int rc = 0;
	unsigned served = 0;

	if (!virtqueue_has_work(&r->queue)) {
		return false;
	}
	virtqueue_quiet(&r->queue);
	while (served < TURN && (rc = virtqueue_pop(&r->queue, &g->chain, &err)) > 0) {
		serve_request(g, &r->queue);
		served++;
	}
	if (rc < 0) {
		/* A guest may do so as often as it likes, and the log is not its. */
		log_message(g->complained ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
			    "guest %u breaks the rules of virtio in queue %u, which stands "
			    "still until it is set up again: %s",
			    g->number, (unsigned)(r - g->device->rings), err.text);
		g->complained = true;
		vhost_ring_break(r);
	}
	return served > 0;
}

static bool serve_rings(struct guest *g)
{
	bool busy = false;

	for (unsigned i = 0; i < g->device->ring_count; i++) {
		struct vhost_ring *r = &g->device->rings[i];

		busy |= vhost_ring_runs(r) && serve_ring(g, r);
	}
	return busy;
}

/* Before sleeping. True when work has come meanwhile. */
static bool listen_to_rings(struct guest *g)
{
	bool work = false;

	for (unsigned i = 0; i < g->device->ring_count; i++) {
		struct vhost_ring *r = &g->device->rings[i];

		work |= vhost_ring_runs(r) && virtqueue_listen(&r->queue);
	}
	return work;
}

/* ---- The guest ---- */

static void reset(void *context)
{
	struct guest *g = context;

	fs_reset(g->fs);
}

static void resume(void *context)
{
	struct guest *g = context;

	fs_adopt(g->fs);
}

static int save(void *context, struct buffer *out, struct error *err)
{
	const struct guest *g = context;

	return fs_save(g->fs, out, err);
}

static int restore(void *context, struct bytes state, struct error *err)
{
	const struct guest *g = context;

	return fs_restore(g->fs, state, err);
}

static int watch_socket(struct guest *g, int socket, struct error *err)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = EVENT_SOCKET};

	g->events = epoll_create1(EPOLL_CLOEXEC);
	if (g->events < 0 || epoll_ctl(g->events, EPOLL_CTL_ADD, socket, &e) != 0) {
		return error_set_errno(err, errno, "cannot wait for a guest");
	}
	return 0;
}

int guest_new(int socket, const struct guest_options *o, struct guest **out, struct error *err)
{
	unsigned threads = o->threads ? o->threads - 1 : request_pool_default_threads();
	struct guest *g = xcalloc(1, sizeof(*g));
	const struct vhost_device_owner owner = {.context = g,
						 .reset = reset,
						 .resume = resume,
						 .save = save,
						 .restore = restore};

	g->number = o->number;
	g->pooled = threads > 0;
	g->events = -1;
	patience_init(&g->patience);
	int rc = watch_socket(g, socket, err);

	g->device = vhost_device_new(socket, g->events, &owner);
	g->pool = request_pool_new(threads, &pool_ops, g);
	g->request = malloc(FS_REQUEST_MAX);
	if (rc == 0) {
		rc = fs_new(o->fs, &g->fs, err);
	}
	if (rc == 0 && (!g->request || !request_reply_init_ahead(&g->reply, g->fs))) {
		rc = error_set(err, ERROR_LIMIT, "no memory for the buffers of a guest");
	}
	if (rc != 0) {
		guest_free(g);
		return rc;
	}
	*out = g;
	return 0;
}

void guest_free(struct guest *g)
{
	if (!g) {
		return;
	}
	/* The pool first: what it has in flight is in the queues. */
	request_pool_free(g->pool);
	vhost_device_free(g->device);
	cleanup_close(&g->events);
	request_reply_done(&g->reply);
	free(g->request);
	fs_free(g->fs);
	free(g);
}

/* Asker: 0 when the front end has gone. */
static int take_messages(struct guest *g, int timeout, struct error *err)
{
	struct epoll_event events[16];
	int n = epoll_wait(g->events, events, ARRAY_SIZE(events), timeout);
	int rc = 1;

	if (n < 0 && errno != EINTR) {
		return error_set_errno(err, errno, "cannot wait for a guest");
	}
	for (int i = 0; i < n && rc > 0; i++) {
		if (events[i].data.u32 == EVENT_SOCKET) {
			rc = vhost_device_receive(g->device, err);
		}
	}
	return rc;
}

/* How long to wait for messages and kicks: not at all as long as there is work. */
static int next_timeout(struct guest *g, bool busy)
{
	if (busy) {
		patience_renew(&g->patience);
		return 0;
	}
	return fs_ahead_prepare(g->reply.ahead) || patience_lasts(&g->patience) ||
			       listen_to_rings(g)
		       ? 0
		       : -1;
}

static int serve(struct guest *g, struct error *err)
{
	int timeout = -1;
	int rc;

	while ((rc = take_messages(g, timeout, err)) > 0) {
		bool busy = serve_rings(g);

		if (vhost_device_memory_broken(g->device)) {
			return error_set(err, ERROR_INVALID,
					 "the file of the guest's memory was cut off");
		}
		timeout = next_timeout(g, busy);
	}
	return rc;
}

int guest_run(struct guest *g, struct error *err)
{
	char text[FS_REQUESTS_TEXT_SIZE];
	int rc = serve(g, err);

	log_debug("guest %u: %s", g->number, fs_describe_requests(g->fs, text));
	return rc;
}

void guest_stop(struct guest *g)
{
	shutdown(g->device->socket, SHUT_RDWR);
}
