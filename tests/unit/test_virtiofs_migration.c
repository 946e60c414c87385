/* A guest that moves to another server: what it has written to, and what it knows. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "test_fs_driver.h"
#include "vhost_frontend.h"

struct fixture {
	struct driver *driver;
	struct server here;
	struct server there; /* of the same store */
	struct frontend frontend;
	struct frontend_reply reply;
};

static int setup(void **state)
{
	struct fixture *x = xcalloc(1, sizeof(*x));

	x->driver = driver_new();
	server_start(&x->here, &x->driver->options, 0, false);
	server_start(&x->there, &x->driver->options, 0, false);
	frontend_open(&x->frontend, &x->here);
	frontend_boot(&x->frontend);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	frontend_close(&x->frontend);
	server_stop(&x->here);
	server_stop(&x->there);
	driver_free(x->driver);
	free(x);
	return 0;
}

/* ---- State ---- */

static uint64_t begin_transfer(struct frontend *f, uint32_t direction, uint32_t phase, int fd)
{
	const struct vhost_transfer t = {.direction = direction, .phase = phase};
	uint64_t answer;

	frontend_send(f, VHOST_SET_DEVICE_STATE_FD, 0, &t, sizeof(t), &fd, 1);
	frontend_receive(f, VHOST_SET_DEVICE_STATE_FD, &answer, sizeof(answer));
	return answer;
}

static void save(struct frontend *f, struct buffer *out)
{
	int ends[2];
	ssize_t n;

	*out = (struct buffer){.ptr = NULL};
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(begin_transfer(f, VHOST_TRANSFER_SAVE, 0, ends[1]),
			 VHOST_TRANSFER_NO_FD);
	close(ends[1]);
	while ((n = read(ends[0], buffer_reserve(out, 4096), 4096)) > 0) {
		out->len += (size_t)n;
	}
	assert_int_equal(n, 0);
	close(ends[0]);
	assert_int_equal(frontend_get(f, VHOST_CHECK_DEVICE_STATE), 0);
}

/* Returns the result. */
static uint64_t load(struct frontend *f, struct bytes state)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(begin_transfer(f, VHOST_TRANSFER_LOAD, 0, ends[0]),
			 VHOST_TRANSFER_NO_FD);
	close(ends[0]);
	assert_int_equal(write_full(ends[1], state.ptr, state.len), 0);
	close(ends[1]);
	return frontend_get(f, VHOST_CHECK_DEVICE_STATE);
}

static const char *const paths[] = {"tree",     "tree/sub",  "tree/sub/in", "tree/a",
				    "tree/big", "tree/link", "file",        "link",
				    "many",     "tree/sub2"};

/* There and back again, and the guest knows nothing of it. */
static void test_move(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	uint64_t ids[ARRAY_SIZE(paths)];

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		ids[i] = frontend_walk(f, paths[i]);
	}
	for (unsigned round = 0; round < 4; round++) {
		const struct server *to = round % 2 ? &x->here : &x->there;
		uint64_t features = f->features;
		uint16_t bases[2];
		struct buffer saved;

		for (unsigned q = 0; q < 2; q++) {
			bases[q] = frontend_stop_queue(f, q);
		}
		save(f, &saved);
		frontend_reconnect(f, to);
		frontend_negotiate(f, features);
		assert_int_equal(load(f, buffer_bytes(&saved)), 0);
		buffer_done(&saved);
		frontend_share_memory(f);
		for (unsigned q = 0; q < 2; q++) {
			frontend_start_queue(f, q, bases[q]);
		}
		for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
			assert_int_equal(frontend_getattr(f, ids[i]), 0);
			assert_int_equal(frontend_walk(f, paths[i]), ids[i]);
		}
		assert_int_equal(frontend_read(f, SHAPE_DIRECT, ids[3], 0, 100, &x->reply), 0);
		assert_memory_equal(x->reply.data, "hello", 5);
	}
}

/* It came to nothing: the guest goes on where it is. */
static void test_stay_after_all(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	uint64_t id = frontend_walk(f, "tree/sub");
	struct buffer saved;
	uint16_t bases[2];

	for (unsigned q = 0; q < 2; q++) {
		bases[q] = frontend_stop_queue(f, q);
	}
	save(f, &saved);
	/* A session is there already, so that one cannot be loaded. */
	assert_int_equal(load(f, buffer_bytes(&saved)), 1);
	buffer_done(&saved);
	for (unsigned q = 0; q < 2; q++) {
		frontend_start_queue(f, q, bases[q]);
	}
	assert_int_equal(frontend_getattr(f, id), 0);
}

static void test_refused_transfers(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	const uint64_t refused = VHOST_TRANSFER_NO_FD | 1;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	/* while rings run */
	assert_int_equal(begin_transfer(f, VHOST_TRANSFER_SAVE, 0, ends[1]), refused);
	assert_int_equal(frontend_get(f, VHOST_CHECK_DEVICE_STATE), 1);
	frontend_stop_queue(f, 0);
	assert_int_equal(begin_transfer(f, VHOST_TRANSFER_SAVE, 0, ends[1]), refused);
	frontend_stop_queue(f, 1);
	assert_int_equal(begin_transfer(f, VHOST_TRANSFER_SAVE, 1, ends[1]), refused);
	assert_int_equal(begin_transfer(f, 2, 0, ends[1]), refused);
	/* where it cannot be written, or read */
	assert_int_equal(begin_transfer(f, VHOST_TRANSFER_SAVE, 0, ends[0]),
			 VHOST_TRANSFER_NO_FD);
	assert_int_equal(frontend_get(f, VHOST_CHECK_DEVICE_STATE), 1);
	assert_int_equal(begin_transfer(f, VHOST_TRANSFER_LOAD, 0, ends[1]),
			 VHOST_TRANSFER_NO_FD);
	assert_int_equal(frontend_get(f, VHOST_CHECK_DEVICE_STATE), 1);
	close(ends[0]);
	/* nobody reads */
	assert_int_equal(begin_transfer(f, VHOST_TRANSFER_SAVE, 0, ends[1]),
			 VHOST_TRANSFER_NO_FD);
	assert_int_equal(frontend_get(f, VHOST_CHECK_DEVICE_STATE), 1);
	close(ends[1]);
	assert_int_equal(frontend_get(f, VHOST_CHECK_DEVICE_STATE), 0);
}

static void test_nonsense_is_no_state(void **state)
{
	struct fixture *x = *state;
	struct frontend f;
	uint8_t nonsense[1000];

	memset(nonsense, 0xa5, sizeof(nonsense));
	frontend_open(&f, &x->there);
	frontend_negotiate(&f, FRONTEND_FEATURES);
	assert_int_equal(load(&f, bytes_of(nonsense, sizeof(nonsense))), 1);
	assert_int_equal(load(&f, bytes_of(nonsense, 0)), 1);
	/* The guest can still boot. */
	frontend_share_memory(&f);
	frontend_start_queue(&f, 1, 0);
	assert_int_equal(frontend_init(&f), 0);
	assert_int_not_equal(frontend_walk(&f, "tree/sub"), 0);
	frontend_close(&f);
}

/* ---- Pages that were written to ---- */

#define LOG_SIZE ((size_t)((FRONTEND_BASE + FRONTEND_MEMORY) / 4096 / 8))
#define LOG_OFFSET 4096u

static bool is_marked(const uint8_t *log, uint64_t address)
{
	return log[LOG_OFFSET + address / 4096 / 8] >> (address / 4096 % 8) & 1;
}

static unsigned count_marked(const uint8_t *log)
{
	unsigned count = 0;

	for (size_t i = 0; i < LOG_SIZE; i++) {
		count += (unsigned)__builtin_popcount(log[LOG_OFFSET + i]);
	}
	return count;
}

static void test_written_pages(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	int fd = memfd_create("log", MFD_CLOEXEC);
	const size_t size = LOG_OFFSET + LOG_SIZE;
	const struct vhost_log base = {.size = LOG_SIZE, .offset = LOG_OFFSET};
	uint64_t features = FRONTEND_FEATURES | VHOST_F_LOG_ALL;
	uint64_t answer;
	uint64_t id = frontend_walk(f, "tree/big");
	const uint64_t border = FRONTEND_BASE + FRONTEND_REGION_SIZE;

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	uint8_t *log = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(log, MAP_FAILED);
	frontend_send(f, VHOST_SET_LOG_BASE, 0, &base, sizeof(base), &fd, 1);
	frontend_receive(f, VHOST_SET_LOG_BASE, &answer, sizeof(answer));
	/* Only from when it is agreed on. */
	frontend_getattr(f, id);
	assert_int_equal(count_marked(log), 0);
	assert_int_equal(frontend_ask(f, VHOST_SET_FEATURES, &features, 8, NULL, 0), 0);
	/* 40000 bytes from 20000 before the border, and the ring of queue 1. */
	assert_int_equal(frontend_read(f, SHAPE_ACROSS, id, 0, 40000, &x->reply), 0);
	for (uint64_t at = border - 20000; at < border + 20000; at += 4096) {
		assert_true(is_marked(log, at));
	}
	assert_true(is_marked(log, f->queues[1].base + 0x6000));
	assert_false(is_marked(log, f->queues[1].base));
	assert_false(is_marked(log, border - 20000 - 4096));
	assert_false(is_marked(log, border + 20000 + 4096));
	/*
	 * 11 pages, the header of the reply, the ring with its event index; and the event index
	 * of queue 0, if it was looked at meanwhile.
	 */
	assert_in_range(count_marked(log), 12, 15);
	/* No more when that is over. */
	features = FRONTEND_FEATURES;
	assert_int_equal(frontend_ask(f, VHOST_SET_FEATURES, &features, 8, NULL, 0), 0);
	memset(log, 0, size);
	frontend_getattr(f, id);
	assert_int_equal(count_marked(log), 0);
	munmap(log, size);
	close(fd);
}

/* A log that is too short, and one that is cut off. */
static void test_bad_logs(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	int fd = memfd_create("log", MFD_CLOEXEC);
	const struct vhost_log base = {.size = 4096};
	const uint64_t features = FRONTEND_FEATURES | VHOST_F_LOG_ALL;
	uint64_t answer;

	assert_int_equal(ftruncate(fd, 4096), 0);
	frontend_send(f, VHOST_SET_LOG_BASE, 0, &base, sizeof(base), &fd, 1);
	frontend_receive(f, VHOST_SET_LOG_BASE, &answer, sizeof(answer));
	assert_int_equal(frontend_ask(f, VHOST_SET_FEATURES, &features, 8, NULL, 0), 0);
	assert_int_not_equal(frontend_walk(f, "tree/sub"), 0);
	frontend_close(f);

	frontend_open(f, &x->here);
	const struct vhost_log whole = {.size = LOG_SIZE};

	assert_int_equal(ftruncate(fd, (off_t)LOG_SIZE), 0);
	frontend_negotiate(f, features);
	frontend_share_memory(f);
	frontend_send(f, VHOST_SET_LOG_BASE, 0, &whole, sizeof(whole), &fd, 1);
	frontend_receive(f, VHOST_SET_LOG_BASE, &answer, sizeof(answer));
	assert_int_equal(ftruncate(fd, 0), 0);
	frontend_start_queue(f, 1, 0);
	const struct fuse_init_in in = {.major = 7, .minor = 38};

	frontend_request(f, 1, 0, SHAPE_DIRECT, FUSE_INIT, 0, &in, sizeof(in), 80);
	assert_true(frontend_dropped(f));
	frontend_close(f);

	frontend_open(f, &x->here);
	frontend_send(f, VHOST_SET_LOG_BASE, 0, &whole, sizeof(whole), &fd, 1);
	assert_true(frontend_dropped(f));
	close(fd);
}

int main(void)
{
#define WITH_SERVERS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_SERVERS(test_move),
		WITH_SERVERS(test_stay_after_all),
		WITH_SERVERS(test_refused_transfers),
		WITH_SERVERS(test_nonsense_is_no_state),
		WITH_SERVERS(test_written_pages),
		WITH_SERVERS(test_bad_logs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
