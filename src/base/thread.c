#include "base/thread.h"

#include <signal.h>

#include "base/util.h"

static const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL};

static int set_attributes(pthread_attr_t *attr, size_t stack_size)
{
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		sigdelset(&set, faults[i]);
	}
	int rc = pthread_attr_setsigmask_np(attr, &set);

	return rc == 0 && stack_size ? pthread_attr_setstacksize(attr, stack_size) : rc;
}

int thread_start(pthread_t *thread, size_t stack_size, void *(*fn)(void *context),
		 void *context)
{
	pthread_attr_t attr;
	int rc = pthread_attr_init(&attr);

	if (rc == 0) {
		rc = set_attributes(&attr, stack_size);
		if (rc == 0) {
			rc = pthread_create(thread, &attr, fn, context);
		}
		pthread_attr_destroy(&attr);
	}
	return rc;
}
