#include "services/cache/background.h"

#include <pthread.h>

#include "base/thread.h"
#include "base/util.h"

#define JOBS_MAX 4096

struct background {
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t change;
	pthread_t thread;
	bool started;
	bool ending;   /* when there are no more jobs */
	bool stopping; /* now */
	struct background_job *first, **end;
	unsigned count;
};

struct background *background_new(void)
{
	struct background *b = xcalloc(1, sizeof(*b));

	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->change, NULL);
	b->end = &b->first;
	return b;
}

static struct background_job *take_locked(struct background *b)
{
	struct background_job *j = b->first;

	if (j) {
		b->first = j->next;
		b->end = b->first ? b->end : &b->first;
		b->count--;
	}
	return j;
}

static void *background_main(void *arg)
{
	struct background *b = arg;

	pthread_mutex_lock(&b->lock);
	while (!b->stopping) {
		struct background_job *j = take_locked(b);

		if (!j && b->ending) {
			break;
		}
		if (!j) {
			pthread_cond_wait(&b->change, &b->lock);
			continue;
		}
		pthread_mutex_unlock(&b->lock);
		j->run(j, b);
		pthread_mutex_lock(&b->lock);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

static void end(struct background *b, bool now)
{
	pthread_mutex_lock(&b->lock);
	b->ending = true;
	b->stopping = now;
	pthread_cond_broadcast(&b->change);
	pthread_mutex_unlock(&b->lock);
	if (b->started) {
		pthread_join(b->thread, NULL);
	}
	for (struct background_job *j; (j = take_locked(b));) {
		j->free(j);
	}
	pthread_cond_destroy(&b->change);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

void background_finish(struct background *b)
{
	end(b, false);
}

void background_cancel(struct background *b)
{
	end(b, true);
}

void background_add(struct background *b, struct background_job *j)
{
	pthread_mutex_lock(&b->lock);
	if (!b->started && !b->ending) {
		b->started = thread_start(&b->thread, 0, background_main, b) == 0;
	}
	bool taken = b->started && !b->ending && b->count < JOBS_MAX;

	if (taken) {
		j->next = NULL;
		*b->end = j;
		b->end = &j->next;
		b->count++;
		pthread_cond_signal(&b->change);
	}
	pthread_mutex_unlock(&b->lock);
	if (!taken) {
		j->free(j);
	}
}

bool background_stopping(struct background *b)
{
	pthread_mutex_lock(&b->lock);
	bool stopping = b->stopping;

	pthread_mutex_unlock(&b->lock);
	return stopping;
}
