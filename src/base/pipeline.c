#include "base/pipeline.h"
#include "base/thread.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>

struct stage_state {
	uint64_t next; /* number of the slot that it begins next */
	bool busy;     /* an ordered one */
};

struct pipeline {
	const struct pipeline_plan *plan;
	unsigned threads_max;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	/* Slots are numbered on and on; number n is in slot n % slot_count. */
	uint64_t published;
	uint64_t released; /* all stages are done with those before it */
	struct stage_state stages[PIPELINE_STAGES_MAX];
	unsigned done[PIPELINE_SLOTS_MAX]; /* stages, as bits */
	bool stopping;
	bool failed;
	struct error failure;
	pthread_t threads[PIPELINE_THREADS_MAX];
	unsigned thread_count; /* without the calling one */
};

static unsigned cpu_count(void)
{
	cpu_set_t cpus;

	return sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;
}

struct pipeline *pipeline_new(const struct pipeline_plan *plan)
{
	struct pipeline *p = xcalloc(1, sizeof(*p));
	unsigned threads = plan->threads ? plan->threads : cpu_count();

	assert(plan->stage_count <= PIPELINE_STAGES_MAX);
	assert(plan->slot_count <= PIPELINE_SLOTS_MAX);
	p->plan = plan;
	p->threads_max = MIN(threads, (unsigned)PIPELINE_THREADS_MAX);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	return p;
}

static bool is_ready(const struct pipeline *p, unsigned stage)
{
	const struct pipeline_stage *what = &p->plan->stages[stage];
	const struct stage_state *state = &p->stages[stage];

	if (state->next == p->published || (what->ordered && state->busy)) {
		return false;
	}
	return (p->done[state->next % p->plan->slot_count] & what->after) == what->after;
}

static void release_slots(struct pipeline *p)
{
	unsigned all = (1u << p->plan->stage_count) - 1;

	while (p->released < p->published) {
		unsigned *done = &p->done[p->released % p->plan->slot_count];

		if (*done != all) {
			break;
		}
		*done = 0;
		p->released++;
	}
}

static void run_locked(struct pipeline *p, unsigned stage)
{
	const struct pipeline_plan *plan = p->plan;
	size_t slot = (size_t)(p->stages[stage].next++ % plan->slot_count);
	struct error why = {0};

	p->stages[stage].busy = true;
	pthread_mutex_unlock(&p->lock);
	int rc = plan->stages[stage].run(plan->context, slot, &why);

	pthread_mutex_lock(&p->lock);
	p->stages[stage].busy = false;
	p->done[slot] |= 1u << stage;
	release_slots(p);
	if (rc < 0 && !p->failed) {
		p->failed = true;
		p->failure = why;
	}
	pthread_cond_broadcast(&p->changed);
}

/* False when there is nothing to do now. The last stages first: they make room. */
static bool work_locked(struct pipeline *p)
{
	for (unsigned stage = p->plan->stage_count; stage > 0; stage--) {
		if (is_ready(p, stage - 1)) {
			run_locked(p, stage - 1);
			return true;
		}
	}
	return false;
}

static void *thread_main(void *arg)
{
	struct pipeline *p = arg;

	pthread_mutex_lock(&p->lock);
	while (!p->stopping && !p->failed) {
		if (!work_locked(p)) {
			pthread_cond_wait(&p->changed, &p->lock);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* One that cannot be started is done without. Signals are left to the calling thread. */
static void start_thread_locked(struct pipeline *p)
{
	if (thread_start(&p->threads[p->thread_count], 0, thread_main, p) == 0) {
		p->thread_count++;
	} else {
		p->threads_max = 0;
	}
}

/* Asker: 0 while the caller has to wait until so many slots are released. */
static int check_locked(const struct pipeline *p, uint64_t wanted, struct error *err)
{
	const atomic_bool *cancel = p->plan->cancel;

	if (p->failed) {
		if (err) {
			*err = p->failure;
		}
		return -(int)p->failure.code;
	}
	if (cancel && atomic_load_explicit(cancel, memory_order_relaxed)) {
		return error_set(err, ERROR_CANCELED, "interrupted");
	}
	return p->released >= wanted;
}

static int wait_released(struct pipeline *p, uint64_t wanted, struct error *err)
{
	int rc;

	pthread_mutex_lock(&p->lock);
	while ((rc = check_locked(p, wanted, err)) == 0) {
		if (!work_locked(p)) {
			pthread_cond_wait(&p->changed, &p->lock);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return rc < 0 ? rc : 0;
}

int pipeline_claim(struct pipeline *p, size_t *slot, struct error *err)
{
	/* Only this thread publishes, so the number needs no lock. */
	uint64_t number = p->published;
	unsigned slots = p->plan->slot_count;
	int rc = wait_released(p, number < slots ? 0 : number - slots + 1, err);

	if (rc == 0) {
		*slot = (size_t)(number % slots);
	}
	return rc;
}

void pipeline_publish(struct pipeline *p)
{
	pthread_mutex_lock(&p->lock);
	p->published++;
	if (p->published > 1 && p->thread_count + 1 < p->threads_max) {
		start_thread_locked(p);
	}
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

int pipeline_finish(struct pipeline *p, struct error *err)
{
	return wait_released(p, p->published, err);
}

void pipeline_free(struct pipeline *p)
{
	if (!p) {
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->thread_count; i++) {
		pthread_join(p->threads[i], NULL);
	}
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
