#include "rpc/outbox.h"

#include <pthread.h>

#include "base/thread.h"
#include "rpc/upload.h"

#define WORKERS 2
#define BUCKETS 4096 /* a power of two */
/* So much waits for company, unless somebody syncs. */
#define IDLE_BYTES ((size_t)1 << 20)
#define IDLE_COUNT 512
/* Of one batch: it is acknowledged as one, and held in memory until then. */
#define BATCH_BYTES ((size_t)16 << 20)
#define BATCH_COUNT 16384

struct item {
	struct digest digest;
	struct object *object;
	uint64_t number; /* in the order of putting, over both kinds */
	bool taken;      /* by a worker */
	enum outbox_kind kind;
	struct item *before, *after; /* of its kind */
	struct item *chain;          /* of its bucket */
};

/* What has been put and not arrived, in order; from `unsent` on nobody has taken it. */
struct queue {
	struct item *first, *last, *unsent;
	size_t unsent_count, unsent_bytes;
};

struct outbox {
	struct peer *peer;
	size_t bytes_max;
	pthread_mutex_t lock;   /* guards what follows */
	pthread_cond_t work;    /* there may be something for a worker */
	pthread_cond_t changed; /* items have left */
	struct queue queues[OUTBOX_KIND_COUNT];
	struct item *buckets[BUCKETS];
	uint64_t next_number;
	size_t bytes;
	unsigned hurry; /* threads that wait for items to leave */
	bool directories_taken;
	bool stop;
	struct error failure; /* ERROR_NONE: none that was not told */
	struct error last_failure;
	uint64_t failures;
	pthread_t workers[WORKERS];
	unsigned worker_count;
};

/* ---- Items ---- */

static struct item **bucket_of(struct outbox *o, const struct digest *digest)
{
	return &o->buckets[digest_hash(digest) % BUCKETS];
}

static struct item *find(struct outbox *o, enum outbox_kind kind, const struct digest *digest)
{
	struct item *i = *bucket_of(o, digest);

	while (i && (i->kind != kind || !digest_equal(&i->digest, digest))) {
		i = i->chain;
	}
	return i;
}

static void add_item(struct outbox *o, struct item *i)
{
	struct queue *q = &o->queues[i->kind];
	struct item **bucket = bucket_of(o, &i->digest);

	i->number = o->next_number++;
	i->chain = *bucket;
	*bucket = i;
	i->before = q->last;
	*(q->last ? &q->last->after : &q->first) = i;
	q->last = i;
	q->unsent = q->unsent ? q->unsent : i;
	q->unsent_count++;
	q->unsent_bytes += i->object->len;
	o->bytes += i->object->len;
}

static void remove_item(struct outbox *o, struct item *i)
{
	struct queue *q = &o->queues[i->kind];
	struct item **at = bucket_of(o, &i->digest);

	while (*at != i) {
		at = &(*at)->chain;
	}
	*at = i->chain;
	*(i->before ? &i->before->after : &q->first) = i->after;
	*(i->after ? &i->after->before : &q->last) = i->before;
	o->bytes -= i->object->len;
	object_unref(i->object);
	free(i);
}

static void drop_unsent(struct outbox *o, struct queue *q)
{
	while (q->unsent) {
		struct item *i = q->unsent;

		q->unsent = i->after;
		remove_item(o, i);
	}
	q->unsent_count = 0;
	q->unsent_bytes = 0;
}

/* ---- Workers ---- */

struct batch {
	enum outbox_kind kind;
	size_t count;
	size_t capacity;
	struct item **items;
	struct upload *uploads;
};

static void take_item(struct batch *b, struct queue *q)
{
	struct item *i = q->unsent;

	if (b->count == b->capacity) {
		b->capacity = MAX(b->capacity * 2, (size_t)64);
		b->items = xrealloc(b->items, b->capacity * sizeof(*b->items));
		b->uploads = xrealloc(b->uploads, b->capacity * sizeof(*b->uploads));
	}
	b->items[b->count] = i;
	b->uploads[b->count++] = (struct upload){.digest = i->digest, .object = i->object};
	i->taken = true;
	q->unsent = i->after;
	q->unsent_count--;
	q->unsent_bytes -= i->object->len;
}

static bool full_enough(const struct outbox *o, enum outbox_kind kind)
{
	const struct queue *q = &o->queues[kind];

	if (!q->unsent || o->hurry || o->bytes >= o->bytes_max / 2) {
		return q->unsent != NULL;
	}
	/* Others than a cairn take closures, which are whole only when somebody syncs. */
	return (kind == OUTBOX_BLOBS || peer_known_cairn(o->peer)) &&
	       (q->unsent_bytes >= IDLE_BYTES || q->unsent_count >= IDLE_COUNT);
}

static bool take_blobs(struct outbox *o, struct batch *b)
{
	struct queue *q = &o->queues[OUTBOX_BLOBS];
	size_t bytes = 0;

	b->kind = OUTBOX_BLOBS;
	b->count = 0;
	while (full_enough(o, b->kind) || (b->count && q->unsent)) {
		if (bytes >= BATCH_BYTES || b->count == BATCH_COUNT) {
			break;
		}
		bytes += q->unsent->object->len;
		take_item(b, q);
	}
	return b->count > 0;
}

/* All up to the oldest blob that has not arrived; nobody else sends Directories meanwhile. */
static bool take_directories(struct outbox *o, struct batch *b)
{
	struct queue *q = &o->queues[OUTBOX_DIRECTORIES];
	const struct item *blob = o->queues[OUTBOX_BLOBS].first;

	b->kind = OUTBOX_DIRECTORIES;
	b->count = 0;
	if (o->directories_taken || !full_enough(o, b->kind)) {
		return false;
	}
	while (q->unsent && (!blob || q->unsent->number < blob->number)) {
		take_item(b, q);
	}
	o->directories_taken = b->count > 0;
	return b->count > 0;
}

static int send_batch(struct outbox *o, const struct batch *b, struct error *err)
{
	return b->kind == OUTBOX_BLOBS ? upload_blobs(o->peer, b->uploads, b->count, err)
				       : upload_directories(o->peer, b->uploads, b->count, err);
}

static void fail_all(struct outbox *o, const struct error *why)
{
	o->failure = *why;
	o->last_failure = *why;
	o->failures++;
	drop_unsent(o, &o->queues[OUTBOX_BLOBS]);
	drop_unsent(o, &o->queues[OUTBOX_DIRECTORIES]);
}

static void finish_batch(struct outbox *o, const struct batch *b, int rc,
			 const struct error *why)
{
	for (size_t i = 0; i < b->count; i++) {
		remove_item(o, b->items[i]);
	}
	if (b->kind == OUTBOX_DIRECTORIES) {
		o->directories_taken = false;
	}
	if (rc < 0) {
		fail_all(o, why);
	}
	pthread_cond_broadcast(&o->changed);
	pthread_cond_broadcast(&o->work);
}

static void *work(void *context)
{
	struct outbox *o = context;
	struct batch b = {0};

	pthread_mutex_lock(&o->lock);
	while (!o->stop) {
		if (!take_blobs(o, &b) && !take_directories(o, &b)) {
			pthread_cond_wait(&o->work, &o->lock);
			continue;
		}
		struct error why = {0};

		pthread_mutex_unlock(&o->lock);
		int rc = send_batch(o, &b, &why);

		pthread_mutex_lock(&o->lock);
		finish_batch(o, &b, rc, &why);
	}
	pthread_mutex_unlock(&o->lock);
	free(b.items);
	free(b.uploads);
	return NULL;
}

static int start_workers(struct outbox *o, struct error *err)
{
	while (o->worker_count < WORKERS) {
		int rc = thread_start(&o->workers[o->worker_count], 0, work, o);

		if (rc != 0 && o->worker_count == 0) {
			return error_set_errno(err, rc, "cannot start a thread");
		}
		if (rc != 0) {
			break;
		}
		o->worker_count++;
	}
	return 0;
}

/* ---- For everybody ---- */

struct outbox *outbox_new(struct peer *peer, size_t bytes_max)
{
	struct outbox *o = xcalloc(1, sizeof(*o));

	o->peer = peer;
	o->bytes_max = bytes_max;
	pthread_mutex_init(&o->lock, NULL);
	pthread_cond_init(&o->work, NULL);
	pthread_cond_init(&o->changed, NULL);
	return o;
}

void outbox_free(struct outbox *o)
{
	if (!o) {
		return;
	}
	pthread_mutex_lock(&o->lock);
	o->stop = true;
	pthread_cond_broadcast(&o->work);
	pthread_mutex_unlock(&o->lock);
	for (unsigned i = 0; i < o->worker_count; i++) {
		pthread_join(o->workers[i], NULL);
	}
	drop_unsent(o, &o->queues[OUTBOX_BLOBS]);
	drop_unsent(o, &o->queues[OUTBOX_DIRECTORIES]);
	pthread_cond_destroy(&o->work);
	pthread_cond_destroy(&o->changed);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

static int told(const struct error *why, struct error *err)
{
	return error_set(err, why->code, "%s", why->text);
}

static void wait_for_others(struct outbox *o)
{
	o->hurry++;
	pthread_cond_broadcast(&o->work);
	pthread_cond_wait(&o->changed, &o->lock);
	o->hurry--;
}

static int put_locked(struct outbox *o, struct item *i, bool *taken, struct error *err)
{
	int rc = 0;

	while (o->failure.code == ERROR_NONE && o->bytes > 0 &&
	       o->bytes + i->object->len > o->bytes_max && !find(o, i->kind, &i->digest)) {
		wait_for_others(o);
	}
	if (o->failure.code != ERROR_NONE) {
		return told(&o->failure, err);
	}
	if (find(o, i->kind, &i->digest)) {
		return 0;
	}
	if (o->worker_count < WORKERS) {
		rc = start_workers(o, err);
	}
	if (rc == 0) {
		*taken = true;
		add_item(o, i);
		if (full_enough(o, i->kind)) {
			pthread_cond_signal(&o->work);
		}
	}
	return rc;
}

int outbox_put(struct outbox *o, enum outbox_kind kind, const struct digest *digest,
	       struct bytes content, struct error *err)
{
	struct object *object = object_copy(content);
	bool taken = false;

	if (!object) {
		return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", content.len);
	}
	struct item *i = xcalloc(1, sizeof(*i));

	*i = (struct item){.digest = *digest, .object = object, .kind = kind};
	pthread_mutex_lock(&o->lock);
	int rc = put_locked(o, i, &taken, err);

	pthread_mutex_unlock(&o->lock);
	if (!taken) {
		object_unref(object);
		free(i);
	}
	return rc;
}

struct object *outbox_find(struct outbox *o, enum outbox_kind kind, const struct digest *digest)
{
	struct object *object = NULL;

	pthread_mutex_lock(&o->lock);
	struct item *i = find(o, kind, digest);

	if (i) {
		object = object_ref(i->object);
	}
	pthread_mutex_unlock(&o->lock);
	return object;
}

static bool arrived(const struct outbox *o, uint64_t number)
{
	for (size_t k = 0; k < OUTBOX_KIND_COUNT; k++) {
		const struct item *i = o->queues[k].first;

		if (i && i->number < number) {
			return false;
		}
	}
	return true;
}

/* Several threads may be here when something fails, and each is told. */
int outbox_sync(struct outbox *o, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&o->lock);
	uint64_t number = o->next_number;
	uint64_t failures = o->failures - (o->failure.code != ERROR_NONE);

	while (!arrived(o, number)) {
		wait_for_others(o);
	}
	if (o->failures != failures) {
		rc = told(&o->last_failure, err);
		o->failure.code = ERROR_NONE;
	}
	pthread_mutex_unlock(&o->lock);
	return rc;
}
