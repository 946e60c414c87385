/* Guest memory: where things are in it, and what happens when its file is cut off. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "transports/virtiofs/guest_memory.h"
#include "transports/virtiofs/memory_guard.h"

#define PAGE 4096u

static int make_file(size_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static struct guest_memory *grown(struct guest_memory *m, struct guest_region r, int fd)
{
	struct guest_memory *out;

	assert_int_equal(guest_memory_add(m, &r, fd, &out, NULL), 0);
	guest_memory_unref(m);
	return out;
}

/* Regions [1000, 1100) and [1100, 1150), at odd offsets of a file, and one far away. */
static struct guest_memory *make_memory(int fd)
{
	struct guest_memory *m = guest_memory_new();

	m = grown(m, (struct guest_region){1000, 100, 70000, 5001}, fd);
	m = grown(m, (struct guest_region){1ull << 60, PAGE, 200000, 0}, fd);
	return grown(m, (struct guest_region){1100, 50, 90000, 77}, fd);
}

static void test_addresses(void **state unused)
{
	int fd = make_file(3 * PAGE);
	struct guest_memory *m = make_memory(fd);
	uint8_t buf[100];
	uint64_t address;
	size_t len = 500;

	assert_int_equal(pwrite(fd, "first", 5, 5001), 5);
	assert_int_equal(pwrite(fd, "second", 6, 77), 6);
	assert_memory_equal(guest_memory_at(m, 1000, &len), "first", 5);
	assert_int_equal(len, 100);
	len = 500;
	assert_memory_equal(guest_memory_at(m, 1101, &len), "econd", 5);
	assert_int_equal(len, 49);
	len = 1;
	assert_null(guest_memory_at(m, 999, &len));
	assert_null(guest_memory_at(m, 1150, &len));
	assert_null(guest_memory_at(m, 0, &len));
	assert_null(guest_memory_at(m, UINT64_MAX, &len));
	len = 0;
	assert_null(guest_memory_at(m, 1000, &len));
	/* from one region into the next */
	assert_int_equal(pwrite(fd, "x", 1, 5100), 1);
	assert_true(guest_memory_read(m, 1099, buf, 4));
	assert_memory_equal(buf, "xsec", 4);
	assert_false(guest_memory_read(m, 1099, buf, 52));
	/* but never at user addresses, where they are not neighbours */
	assert_non_null(guest_memory_at_user(m, 90000, 50, &address));
	assert_int_equal(address, 1100);
	assert_null(guest_memory_at_user(m, 90000, 51, &address));
	assert_null(guest_memory_at_user(m, 70099, 2, &address));
	assert_null(guest_memory_at_user(m, 1000, 1, &address));
	assert_int_equal(guest_memory_count(m), 3);
	guest_memory_unref(m);
	close(fd);
}

static void test_regions_outlive_their_maps(void **state unused)
{
	const struct guest_region first = {1000, 100, 70000, 5001};
	int fd = make_file(3 * PAGE);
	struct guest_memory *m = make_memory(fd);
	struct guest_memory *held = guest_memory_ref(m);
	struct guest_memory *less;
	size_t len = 1;

	assert_int_equal(guest_memory_remove(m, &first, &less, NULL), 0);
	guest_memory_unref(m);
	assert_null(guest_memory_at(less, 1000, &len));
	assert_non_null(guest_memory_at(less, 1100, &len));
	*(uint8_t *)guest_memory_at(held, 1000, &len) = 9;
	guest_memory_unref(less);
	*(uint8_t *)guest_memory_at(held, 1100, &len) = 9;
	guest_memory_unref(held);
	close(fd);
}

/* Threads that find the memory gone, all at the same time. */
struct toucher {
	struct guest_memory *memory;
	pthread_barrier_t *barrier;
	uint64_t address; /* that nobody else writes to */
};

static void *touch(void *context)
{
	const struct toucher *t = context;
	uint8_t buf[50];

	pthread_barrier_wait(t->barrier);
	for (unsigned i = 0; i < 1000; i++) {
		size_t len = 1;

		*(uint8_t *)guest_memory_at(t->memory, t->address, &len) = 1;
		guest_memory_read(t->memory, 1075, buf, sizeof(buf));
	}
	return NULL;
}

static void test_file_is_cut_off(void **state unused)
{
	int fd = make_file(3 * PAGE);
	struct guest_memory *m = make_memory(fd);
	pthread_barrier_t barrier;
	struct toucher touchers[4];
	pthread_t threads[4];

	assert_false(guest_memory_broken(m));
	assert_int_equal(ftruncate(fd, 0), 0);
	pthread_barrier_init(&barrier, NULL, ARRAY_SIZE(threads));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		touchers[i] = (struct toucher){m, &barrier, 1000 + i};
		assert_int_equal(pthread_create(&threads[i], NULL, touch, &touchers[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], NULL);
	}
	pthread_barrier_destroy(&barrier);
	assert_true(guest_memory_broken(m));
	guest_memory_unref(m);
	close(fd);
}

/* In a process of its own, whose end is what matters: the signal, or an exit code. */
static int fault_elsewhere(void (*handler)(int))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = make_file(PAGE);
		int guarded_fd = make_file(PAGE);
		struct memory_guard *guard;
		volatile uint8_t *other =
			mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		void *guarded =
			mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, guarded_fd, 0);

		if (signal(SIGBUS, handler) == SIG_ERR ||
		    memory_guard_new(guarded, PAGE, &guard, NULL) != 0 ||
		    ftruncate(fd, 0) != 0) {
			_exit(1);
		}
		*other = 1;
		_exit(2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void exit_on_signal(int number unused)
{
	_exit(7);
}

static void test_faults_of_others(void **state unused)
{
	int status = fault_elsewhere(SIG_DFL);

	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	status = fault_elsewhere(exit_on_signal);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_regions_outlive_their_maps),
		cmocka_unit_test(test_file_is_cut_off),
		cmocka_unit_test(test_faults_of_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
