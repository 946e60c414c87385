#include "cli/stop_signals.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/util.h"

static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

/* For the handler. */
static void (*stop_object)(void *object);
static void *_Atomic object_to_stop;

static void handle(int signal_number unused)
{
	void *object = atomic_load(&object_to_stop);

	if (object) {
		stop_object(object);
	}
}

void stop_signals_block(sigset_t *before)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		sigaddset(&set, numbers[i]);
	}
	pthread_sigmask(SIG_BLOCK, &set, before);
}

void stop_signals_handle(void (*stop)(void *object), void *object, const sigset_t *mask)
{
	/* No SA_RESTART: a read of requests that began before the signal has to end. */
	struct sigaction action = {.sa_handler = handle};

	stop_object = stop;
	atomic_store(&object_to_stop, object);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		(void)sigaction(numbers[i], &action, NULL);
	}
	pthread_sigmask(SIG_SETMASK, mask, NULL);
}

void stop_signals_forget(void)
{
	atomic_store(&object_to_stop, NULL);
}
