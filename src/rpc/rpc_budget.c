#include "rpc/rpc_budget.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/moment.h"
#include "base/util.h"

struct rpc_budget {
	uint64_t bytes_max;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t given;
	uint64_t taken;
};

struct rpc_budget *rpc_budget_new(uint64_t bytes_max)
{
	struct rpc_budget *b = xcalloc(1, sizeof(*b));

	b->bytes_max = bytes_max;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->given, NULL);
	return b;
}

void rpc_budget_free(struct rpc_budget *b)
{
	if (b) {
		pthread_cond_destroy(&b->given);
		pthread_mutex_destroy(&b->lock);
		free(b);
	}
}

/* Lock held. */
static bool fits(const struct rpc_budget *b, uint64_t bytes)
{
	return bytes <= b->bytes_max && b->taken <= b->bytes_max - bytes;
}

/* Lock held. */
static void wait_until_fits(struct rpc_budget *b, uint64_t bytes, uint64_t timeout)
{
	const struct timespec until = moment_after(timeout);
	int rc = 0;

	while (!fits(b, bytes) && rc == 0) {
		rc = timeout ? pthread_cond_timedwait(&b->given, &b->lock, &until)
			     : pthread_cond_wait(&b->given, &b->lock);
	}
}

int rpc_budget_take(struct rpc_budget *b, uint64_t bytes, uint64_t held, uint64_t timeout,
		    struct error *err)
{
	pthread_mutex_lock(&b->lock);
	if (held == 0 && bytes <= b->bytes_max) {
		wait_until_fits(b, bytes, timeout);
	}
	bool enough = fits(b, bytes);
	uint64_t taken = b->taken;

	b->taken += enough ? bytes : 0;
	pthread_mutex_unlock(&b->lock);
	return enough ? 0
		      : error_set(err, ERROR_LIMIT,
				  "no memory for %ju bytes more: calls hold %ju of %ju",
				  (uintmax_t)bytes, (uintmax_t)taken, (uintmax_t)b->bytes_max);
}

void rpc_budget_give(struct rpc_budget *b, uint64_t bytes)
{
	pthread_mutex_lock(&b->lock);
	b->taken -= bytes;
	pthread_cond_broadcast(&b->given);
	pthread_mutex_unlock(&b->lock);
}
