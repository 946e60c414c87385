#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/thread.h"
#include "base/util.h"

#define REDRAW_NS 200000000L

const char *progress_size(uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	static _Thread_local char texts[4][32];
	static _Thread_local unsigned turn;
	char *text = texts[turn++ % ARRAY_SIZE(texts)];
	double n = (double)bytes;
	size_t unit = 0;

	while (n >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
		n /= 1024;
		unit++;
	}
	snprintf(text, sizeof(texts[0]), unit ? "%.1f %s" : "%.0f %s", n, units[unit]);
	return text;
}

static double seconds_since(struct timespec began)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - began.tv_sec) +
	       (double)(now.tv_nsec - began.tv_nsec) / 1e9;
}

static void draw(const struct progress *p)
{
	uint64_t files = atomic_load_explicit(p->files, memory_order_relaxed);
	uint64_t bytes = atomic_load_explicit(p->bytes, memory_order_relaxed);
	double seconds = seconds_since(p->began);

	fprintf(stderr, "\r%s %" PRIu64 " %s, %s (%s/s)\033[K", p->verb, files,
		p->noun ? p->noun : "files", progress_size(bytes),
		progress_size((uint64_t)((double)bytes / seconds)));
	(void)fflush(stderr);
}

static void *draw_all(void *arg)
{
	struct progress *p = arg;
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		next.tv_nsec += REDRAW_NS;
		next.tv_sec += next.tv_nsec / 1000000000L;
		next.tv_nsec %= 1000000000L;
		if (pthread_cond_clockwait(&p->changed, &p->lock, CLOCK_MONOTONIC, &next) !=
		    0) {
			draw(p);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void progress_start(struct progress *p, bool wanted)
{
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	clock_gettime(CLOCK_MONOTONIC, &p->began);
	if (!wanted || !isatty(STDERR_FILENO)) {
		return;
	}
	p->running = thread_start(&p->thread, 0, draw_all, p) == 0;
}

void progress_stop(struct progress *p)
{
	if (!p->running) {
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_signal(&p->changed);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	p->running = false;
	fputs("\r\033[K", stderr);
	(void)fflush(stderr);
}
