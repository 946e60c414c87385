#include "rpc/read_ahead.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/thread.h"
#include "base/util.h"

/* Parts are numbered on and on; number n is in slot n % READ_AHEAD_PARTS. */
struct slot {
	uint8_t *bytes;
	bool fetched; /* guarded by the lock, as is the outcome */
	int rc;
	struct error why;
};

struct read_ahead {
	struct read_ahead_source source;
	uint64_t start, end;
	uint64_t count; /* of parts */
	struct slot slots[READ_AHEAD_PARTS];

	pthread_mutex_t lock;   /* guards what follows */
	pthread_cond_t changed; /* a part was fetched, there is room for one, or the end */
	uint64_t begun;         /* parts that a thread has taken up */
	uint64_t taken;         /* parts that the reader has seen */
	bool holds;             /* the reader looks at the last one it has seen */
	bool stopping;
	pthread_t threads[READ_AHEAD_THREADS];
	unsigned thread_count;
};

static size_t part_len(const struct read_ahead *a, uint64_t number)
{
	uint64_t at = number * READ_AHEAD_PART;

	return (size_t)MIN(a->end - a->start - at, (uint64_t)READ_AHEAD_PART);
}

/* What the reader looks at is not written to. */
static bool has_room(const struct read_ahead *a)
{
	return a->begun < a->count && a->begun + a->holds < a->taken + READ_AHEAD_PARTS;
}

static void fetch_locked(struct read_ahead *a)
{
	uint64_t number = a->begun++;
	struct slot *s = &a->slots[number % READ_AHEAD_PARTS];
	struct error why = {0};

	s->fetched = false;
	pthread_mutex_unlock(&a->lock);
	int rc = a->source.fetch(a->source.context, a->start + number * READ_AHEAD_PART,
				 s->bytes, part_len(a, number), &why);

	pthread_mutex_lock(&a->lock);
	s->fetched = true;
	s->rc = rc;
	s->why = why;
	/* Nobody reads beyond a failure. */
	a->stopping = a->stopping || rc < 0;
	pthread_cond_broadcast(&a->changed);
}

static void *thread_main(void *arg)
{
	struct read_ahead *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->stopping && a->begun < a->count) {
		if (has_room(a)) {
			fetch_locked(a);
		} else {
			pthread_cond_wait(&a->changed, &a->lock);
		}
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* Signals are left to the threads of the program. */
static void start_threads(struct read_ahead *a)
{
	while (a->thread_count < READ_AHEAD_THREADS &&
	       thread_start(&a->threads[a->thread_count], 0, thread_main, a) == 0) {
		a->thread_count++;
	}
}

static bool make_slots(struct read_ahead *a)
{
	for (size_t i = 0; i < READ_AHEAD_PARTS && i < a->count; i++) {
		a->slots[i].bytes = malloc(part_len(a, i));
		if (!a->slots[i].bytes) {
			return false;
		}
	}
	return true;
}

struct read_ahead *read_ahead_new(const struct read_ahead_source *source, uint64_t start,
				  uint64_t end)
{
	struct read_ahead *a = xcalloc(1, sizeof(*a));

	a->source = *source;
	a->start = start;
	a->end = end;
	a->count = (end - start + READ_AHEAD_PART - 1) / READ_AHEAD_PART;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	if (make_slots(a)) {
		start_threads(a);
	}
	if (a->thread_count == 0) {
		read_ahead_free(a);
		return NULL;
	}
	return a;
}

/* A thread is at it or will be: they end at the part that fails, which comes before others. */
static bool is_coming(const struct read_ahead *a, uint64_t number)
{
	return number >= a->begun || !a->slots[number % READ_AHEAD_PARTS].fetched;
}

int read_ahead_next(struct read_ahead *a, struct bytes *out, struct error *err)
{
	uint64_t number = a->taken;
	const struct slot *s = &a->slots[number % READ_AHEAD_PARTS];

	if (number == a->count) {
		return 0;
	}
	pthread_mutex_lock(&a->lock);
	a->holds = false;
	pthread_cond_broadcast(&a->changed);
	while (is_coming(a, number)) {
		pthread_cond_wait(&a->changed, &a->lock);
	}
	int rc = s->rc < 0 ? s->rc : 1;

	if (rc < 0 && err) {
		*err = s->why;
	}
	if (rc > 0) {
		*out = bytes_of(s->bytes, part_len(a, number));
		a->taken++;
		a->holds = true;
	}
	pthread_mutex_unlock(&a->lock);
	return rc;
}

void read_ahead_free(struct read_ahead *a)
{
	if (!a) {
		return;
	}
	pthread_mutex_lock(&a->lock);
	a->stopping = true;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	if (a->thread_count) {
		a->source.stop(a->source.context);
	}
	for (unsigned i = 0; i < a->thread_count; i++) {
		pthread_join(a->threads[i], NULL);
	}
	for (size_t i = 0; i < READ_AHEAD_PARTS; i++) {
		free(a->slots[i].bytes);
	}
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	free(a);
}
