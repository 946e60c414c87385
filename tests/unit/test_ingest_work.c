/* ingest/work.h: how many threads work. */

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/util.h"
#include "ingest/work.h"

#define ITEMS ((size_t)WORK_PIECE * 40)
#define BLOCK ((size_t)4096)
#define WAIT_MS 50 /* for each piece, after which there may be one more */

struct job {
	int fd; /* which pieces read from its disk; -1: they do not */
	unsigned at_once_wanted;
	atomic_uint workers, items;
	atomic_bool disk_was_read;
};

static void *worker_new(void *context)
{
	struct job *job = context;

	atomic_fetch_add(&job->workers, 1);
	return job;
}

static void worker_free(void *worker unused)
{
}

static long blocks_read(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_inblock : 0;
}

static int run(struct work *w unused, void *worker, struct work_dir *d unused,
	       struct work_span span, struct error *err)
{
	struct job *job = worker;
	void *block cleanup(cleanup_free) = NULL;
	long before = blocks_read();

	if (job->fd >= 0 && (posix_memalign(&block, BLOCK, BLOCK) != 0 ||
			     pread(job->fd, block, BLOCK, 0) != (ssize_t)BLOCK)) {
		return error_set(err, ERROR_IO, "cannot read");
	}
	if (blocks_read() > before) {
		atomic_store(&job->disk_was_read, true);
	}
	/* Gives others the time to begin. */
	for (int i = 0; i < WAIT_MS && atomic_load(&job->workers) < job->at_once_wanted; i++) {
		usleep(1000);
	}
	atomic_fetch_add(&job->items, (unsigned)span.count);
	return 0;
}

static int finish(void *worker unused, struct work_dir *d unused, struct error *err unused)
{
	return 0;
}

static void free_dir(struct work_dir *d)
{
	free(d);
}

/* Runs the job on one CPU; the number of threads that took part. */
static unsigned workers_of(struct job *job, unsigned threads)
{
	static const struct work_ops ops = {.worker_new = worker_new,
					    .worker_free = worker_free,
					    .run = run,
					    .finish = finish,
					    .free = free_dir};
	struct work_options options = {.ops = &ops, .context = job, .threads = threads};
	struct work_dir *root = xcalloc(1, sizeof(*root));
	cpu_set_t all, one;
	struct error err;

	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	root->name = "";
	root->count = root->small = ITEMS;
	assert_int_equal(work_run(&options, root, &err), 0);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	assert_int_equal(atomic_load(&job->items), ITEMS);
	return atomic_load(&job->workers);
}

static void test_one_for_each_cpu(void **state unused)
{
	struct job job = {.fd = -1};

	assert_int_equal(workers_of(&job, 0), 1);
}

/* A file that is read past the page cache, by whoever opens it so. */
static int open_on_disk(void)
{
	static uint8_t block[BLOCK];
	char path[] = "/var/tmp/cairn-test-work-XXXXXX";
	int fd cleanup(cleanup_close) = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, block, sizeof(block)), 0);
	assert_int_equal(fsync(fd), 0);
	int direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	unlink(path);
	return direct;
}

static void test_more_while_the_disk_reads(void **state unused)
{
	int fd cleanup(cleanup_close) = open_on_disk();
	struct job job = {.fd = fd, .at_once_wanted = 4};
	unsigned workers = workers_of(&job, 0);

	if (fd < 0 || !atomic_load(&job.disk_was_read)) {
		print_message("no disk, or the kernel does not count what it reads\n");
		skip();
	}
	assert_in_range(workers, 4, WORK_THREADS_MAX);
}

/* Who says how many threads gets as many. */
static void test_as_many_as_wanted(void **state unused)
{
	int fd cleanup(cleanup_close) = open_on_disk();
	struct job one = {.fd = fd}, three = {.fd = fd, .at_once_wanted = 3};

	assert_int_equal(workers_of(&one, 1), 1);
	assert_int_equal(workers_of(&three, 3), 3);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_for_each_cpu),
		cmocka_unit_test(test_more_while_the_disk_reads),
		cmocka_unit_test(test_as_many_as_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
