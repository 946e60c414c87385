/* The vhost-user protocol message by message, and front ends that break it. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "transports/virtiofs/guest_memory.h"
#include "transports/virtiofs/vhost_device.h"
#include "two_frontends.h"

/* The bad one is dropped, and comes again. */
static void check_dropped(struct two_frontends *x)
{
	assert_true(frontend_dropped(&x->bad));
	frontend_close(&x->bad);
	frontend_open(&x->bad, &x->server);
}

/* ---- What the protocol says ---- */

static void test_features(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const uint64_t unknown = 1ull << 40;
	const uint64_t none = 0;

	assert_int_equal(frontend_get(f, VHOST_GET_FEATURES) & FRONTEND_FEATURES,
			 FRONTEND_FEATURES);
	frontend_negotiate(f, FRONTEND_FEATURES);
	assert_int_equal(frontend_ask(f, VHOST_SET_FEATURES, &unknown, 8, NULL, 0), 1);
	assert_int_equal(frontend_ask(f, VHOST_SET_PROTOCOL_FEATURES, &unknown, 8, NULL, 0), 1);
	assert_int_equal(frontend_ask(f, VHOST_SET_FEATURES, &none, 8, NULL, 0), 0);
	assert_int_equal(frontend_get(f, VHOST_GET_QUEUE_NUM), VHOST_RINGS_MAX);
	assert_int_equal(frontend_get(f, VHOST_GET_MAX_MEM_SLOTS), GUEST_REGIONS_MAX);
	assert_int_equal(frontend_ask(f, VHOST_RESET_OWNER, NULL, 0, NULL, 0), 0);
}

/* Nobody waits for an answer that was not agreed on. */
static void test_acknowledgements_are_a_feature(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;

	frontend_send(f, VHOST_SET_OWNER, VHOST_NEED_REPLY, NULL, 0, NULL, 0);
	frontend_get(f, VHOST_GET_FEATURES); /* the next message is its answer */
	frontend_send(f, 99, VHOST_NEED_REPLY, NULL, 0, NULL, 0);
	check_dropped(x);
}

static void test_backend_channel(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	int pair[2];
	char byte;

	frontend_negotiate(f, FRONTEND_FEATURES);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		assert_int_equal(
			frontend_ask(f, VHOST_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1), 0);
		close(pair[1]);
		/* It is kept open. */
		assert_int_equal(recv(pair[0], &byte, 1, MSG_DONTWAIT), -1);
		assert_int_equal(errno, EAGAIN);
		close(pair[0]);
	}
}

static void test_memory_table(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	struct vhost_region_table t = {
		.count = 2, .regions = {frontend_region(0).region, frontend_region(1).region}};
	const size_t size =
		offsetof(struct vhost_region_table, regions) + 2 * sizeof(struct vhost_region);
	const int fds[2] = {f->file, f->file};

	frontend_negotiate(f, FRONTEND_FEATURES);
	assert_int_equal(frontend_ask(f, VHOST_SET_MEM_TABLE, &t, size, fds, 2), 0);
	frontend_start_queue(f, 1, 0);
	assert_int_equal(frontend_init(f), 0);
	/* Once more, while the ring runs; and then the front end changes its mind. */
	assert_int_equal(frontend_ask(f, VHOST_SET_MEM_TABLE, &t, size, fds, 2), 0);
	uint64_t id = frontend_walk(f, "tree/big");

	assert_int_equal(frontend_read(f, SHAPE_ACROSS, id, 0, 100000, &x->reply), 0);
	/* A bad table changes nothing. */
	t.regions[1].size = (uint64_t)1 << 40;
	assert_int_equal(frontend_ask(f, VHOST_SET_MEM_TABLE, &t, size, fds, 2), 1);
	assert_int_equal(frontend_read(f, SHAPE_ACROSS, id, 0, 100000, &x->reply), 0);
}

static void test_memory_slots(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const struct vhost_single_region r = frontend_region(1);

	frontend_boot(f);
	uint64_t id = frontend_walk(f, "tree/big");

	/* The rings are in the first region, so the second one may go and come. */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(
			frontend_ask(f, VHOST_REM_MEM_REG, &r, sizeof(r), &f->file, i % 2), 0);
		assert_int_equal(frontend_ask(f, VHOST_REM_MEM_REG, &r, sizeof(r), NULL, 0), 1);
		assert_int_equal(frontend_read(f, SHAPE_INDIRECT, id, 0, 5000, &x->reply), 0);
		assert_int_equal(frontend_ask(f, VHOST_ADD_MEM_REG, &r, sizeof(r), &f->file, 1),
				 0);
		assert_int_equal(frontend_read(f, SHAPE_ACROSS, id, 0, 5000, &x->reply), 0);
	}
}

/* Without PROTOCOL_FEATURES a ring runs as soon as it is set up. */
static void test_rings_of_old_front_ends(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const uint64_t features = VIRTIO_F_VERSION_1;
	const struct vhost_region_table t = {
		.count = 2, .regions = {frontend_region(0).region, frontend_region(1).region}};
	const int fds[2] = {f->file, f->file};
	const struct vhost_vring_state num = {1, FRONTEND_QUEUE_SIZE};
	const uint64_t number = 1;
	const uint64_t base = f->queues[1].base;
	const struct vhost_vring_addr addr = {.index = 1,
					      .descriptors = frontend_user_address(base),
					      .available = frontend_user_address(base + 0x4000),
					      .used = frontend_user_address(base + 0x6000)};

	f->features = features;
	frontend_send(f, VHOST_SET_OWNER, 0, NULL, 0, NULL, 0);
	frontend_send(f, VHOST_SET_FEATURES, 0, &features, 8, NULL, 0);
	frontend_send(f, VHOST_SET_MEM_TABLE, 0, &t, 72, fds, 2);
	frontend_send(f, VHOST_SET_VRING_NUM, 0, &num, sizeof(num), NULL, 0);
	frontend_send(f, VHOST_SET_VRING_ADDR, 0, &addr, sizeof(addr), NULL, 0);
	frontend_send(f, VHOST_SET_VRING_CALL, 0, &number, 8, &f->queues[1].call, 1);
	frontend_send(f, VHOST_SET_VRING_KICK, 0, &number, 8, &f->queues[1].kick, 1);
	const struct fuse_init_in in = {.major = 7, .minor = 38};

	assert_int_equal(
		frontend_call(f, SHAPE_DIRECT, FUSE_INIT, 0, &in, sizeof(in), 64, &x->reply),
		0);
}

/* ---- Messages that are none ---- */

struct bad_message {
	const char *what;
	uint32_t request;
	uint32_t size;
	unsigned fds;
};

/* All with a payload of zeros. */
static const struct bad_message bad_messages[] = {
	{"a question with a payload", VHOST_GET_FEATURES, 8, 0},
	{"a question with a descriptor", VHOST_GET_FEATURES, 0, 1},
	{"features too short", VHOST_SET_FEATURES, 7, 0},
	{"features of none", VHOST_SET_FEATURES, 0, 0},
	{"features too long", VHOST_SET_FEATURES, 9, 0},
	{"a ring size too short", VHOST_SET_VRING_NUM, 4, 0},
	{"addresses too short", VHOST_SET_VRING_ADDR, 39, 0},
	{"addresses with a descriptor", VHOST_SET_VRING_ADDR, 40, 1},
	{"a kick without a descriptor", VHOST_SET_VRING_KICK, 8, 0},
	{"a kick with two", VHOST_SET_VRING_KICK, 8, 2},
	{"a call without a descriptor", VHOST_SET_VRING_CALL, 8, 0},
	{"a call with eight", VHOST_SET_VRING_CALL, 8, 8},
	{"an error descriptor without one", VHOST_SET_VRING_ERR, 8, 0},
	{"a base too long", VHOST_GET_VRING_BASE, 16, 0},
	{"a back-end channel without one", VHOST_SET_BACKEND_REQ_FD, 0, 0},
	{"a region without a file", VHOST_ADD_MEM_REG, 40, 0},
	{"a region with two files", VHOST_ADD_MEM_REG, 40, 2},
	{"a region too short", VHOST_ADD_MEM_REG, 32, 1},
	{"a region of no bytes", VHOST_ADD_MEM_REG, 40, 1},
	{"a table too short", VHOST_SET_MEM_TABLE, 4, 0},
	{"a table with a file too many", VHOST_SET_MEM_TABLE, 8, 1},
	{"a reset with a payload", VHOST_RESET_DEVICE, 8, 0},
	{"message 0", 0, 0, 0},
	{"a message that is not offered", 24, 8, 0},
	{"a message of tomorrow", 1000, 0, 0},
	{"a message of no day", UINT32_MAX, 0, 0},
	{"nine descriptors", VHOST_SET_OWNER, 0, 9},
	{"sixty descriptors", VHOST_SET_VRING_CALL, 8, 60},
};

static unsigned count_descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(folder);
	while (readdir(folder)) {
		count++;
	}
	closedir(folder);
	return count;
}

static void test_bad_messages(void **state)
{
	struct two_frontends *x = *state;
	uint8_t zeros[sizeof(union vhost_payload)] = {0};
	int fds[60];
	unsigned before;

	frontend_get(&x->bad, VHOST_GET_FEATURES);
	before = count_descriptors();

	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = x->bad.file;
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad_messages); i++) {
		const struct bad_message *m = &bad_messages[i];

		print_message("  %s\n", m->what);
		for (unsigned j = 0; j < m->fds; j++) {
			fds[j] = x->bad.file;
		}
		frontend_send(&x->bad, m->request, 0, zeros, m->size, fds, m->fds);
		check_dropped(x);
		/* With everything agreed on, and an answer awaited where that is possible. */
		frontend_negotiate(&x->bad, FRONTEND_FEATURES);
		for (unsigned j = 0; j < m->fds; j++) {
			fds[j] = x->bad.file;
		}
		if (m->fds <= 8) {
			assert_int_equal(
				frontend_ask(&x->bad, m->request, zeros, m->size, fds, m->fds),
				1);
		}
	}
	/* As soon as the last one is freed, there is nothing more than there was at first. */
	for (unsigned i = 0; i < 100000 && count_descriptors() != before; i++) {
		frontend_get(&x->bad, VHOST_GET_FEATURES);
	}
	assert_int_equal(count_descriptors(), before);
}

static void test_bad_headers(void **state)
{
	static const struct vhost_header headers[] = {
		{VHOST_GET_FEATURES, 0, 0},
		{VHOST_GET_FEATURES, 2, 0},
		{VHOST_GET_FEATURES, 3, 0},
		{VHOST_GET_FEATURES, VHOST_VERSION | VHOST_REPLY, 0},
		{VHOST_SET_FEATURES, VHOST_VERSION, 4096},
		{VHOST_SET_FEATURES, VHOST_VERSION, UINT32_MAX},
	};
	struct two_frontends *x = *state;

	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		frontend_send_raw(&x->bad, &headers[i], sizeof(headers[i]));
		check_dropped(x);
	}
}

static void test_broken_off(void **state)
{
	struct two_frontends *x = *state;
	const struct vhost_header header = {VHOST_SET_FEATURES, VHOST_VERSION, 8};

	for (size_t len = 1; len <= sizeof(header); len += 11) {
		frontend_send_raw(&x->bad, &header, len);
		assert_int_equal(shutdown(x->bad.socket, SHUT_WR), 0);
		check_dropped(x);
	}
}

/* Bytes that come one by one are a message all the same. */
static void test_slow_message(void **state)
{
	struct two_frontends *x = *state;
	const struct vhost_header header = {VHOST_GET_QUEUE_NUM, VHOST_VERSION, 0};
	uint64_t answer;

	for (size_t i = 0; i < sizeof(header); i++) {
		frontend_send_raw(&x->bad, (const uint8_t *)&header + i, 1);
		assert_int_equal(frontend_getattr(&x->good, x->good_id), 0);
	}
	frontend_receive(&x->bad, VHOST_GET_QUEUE_NUM, &answer, sizeof(answer));
	assert_int_equal(answer, VHOST_RINGS_MAX);
}

/* Questions without end, and nobody who reads the answers. */
static void test_deaf_front_end(void **state)
{
	struct two_frontends *x = *state;
	const struct vhost_header header = {VHOST_GET_FEATURES, VHOST_VERSION, 0};
	ssize_t n;

	do {
		n = send(x->bad.socket, &header, sizeof(header), MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n > 0);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(frontend_getattr(&x->good, x->good_id), 0);
}

/* ---- Rings ---- */

static void ring_state(struct frontend *f, uint32_t request, uint32_t index, uint32_t num,
		       uint64_t expected)
{
	const struct vhost_vring_state s = {index, num};

	assert_int_equal(frontend_ask(f, request, &s, sizeof(s), NULL, 0), expected);
}

/* Whether ring 1 starts with this size and these places. */
static uint64_t try_ring(struct frontend *f, uint32_t size, uint64_t descriptors,
			 uint64_t available, uint64_t used)
{
	const struct vhost_vring_addr addr = {.index = 1,
					      .descriptors = frontend_user_address(descriptors),
					      .available = frontend_user_address(available),
					      .used = frontend_user_address(used)};
	const uint64_t number = 1;

	ring_state(f, VHOST_SET_VRING_NUM, 1, size, 0);
	assert_int_equal(frontend_ask(f, VHOST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
			 0);
	return frontend_ask(f, VHOST_SET_VRING_KICK, &number, sizeof(number),
			    &f->queues[1].kick, 1);
}

static void test_bad_rings(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const uint64_t d = f->queues[1].base;
	const uint64_t a = d + 0x4000;
	const uint64_t u = d + 0x6000;
	const uint64_t border = FRONTEND_BASE + FRONTEND_REGION_SIZE;
	const uint64_t end = FRONTEND_BASE + FRONTEND_MEMORY;

	frontend_negotiate(f, FRONTEND_FEATURES);
	assert_int_equal(try_ring(f, 256, d, a, u), 1); /* before there is memory */
	frontend_share_memory(f);
	assert_int_equal(try_ring(f, 0, d, a, u), 1);
	assert_int_equal(try_ring(f, 3, d, a, u), 1);
	assert_int_equal(try_ring(f, 2048, d, a, u), 1);
	assert_int_equal(try_ring(f, UINT32_MAX, d, a, u), 1);
	assert_int_equal(try_ring(f, 256, d + 8, a, u), 1);
	assert_int_equal(try_ring(f, 256, d, a + 1, u), 1);
	assert_int_equal(try_ring(f, 256, d, a, u + 2), 1);
	assert_int_equal(try_ring(f, 256, end, a, u), 1);
	assert_int_equal(try_ring(f, 256, end - 16, a, u), 1);
	assert_int_equal(try_ring(f, 256, d, end - 500, u), 1);
	assert_int_equal(try_ring(f, 256, d, a, end - 2000), 1);
	/* Across the border a ring is in two places here. */
	assert_int_equal(try_ring(f, 256, border - 16, a, u), 1);
	assert_int_equal(try_ring(f, 256, d, border - 16, u), 1);
	assert_int_equal(try_ring(f, 256, d, a, border - 16), 1);
	assert_int_equal(try_ring(f, 256, UINT64_MAX - 15, a, u), 1);
	assert_int_equal(try_ring(f, 256, d, a, u), 0);
	/* Now that it runs. */
	ring_state(f, VHOST_SET_VRING_NUM, 1, 128, 1);
	ring_state(f, VHOST_SET_VRING_BASE, 1, 1, 1);
	ring_state(f, VHOST_SET_VRING_BASE, 2, 65536, 1);
	ring_state(f, VHOST_SET_VRING_ENABLE, VHOST_RINGS_MAX, 1, 1);
	ring_state(f, VHOST_SET_VRING_ENABLE, UINT32_MAX, 1, 1);
	ring_state(f, VHOST_SET_VRING_ENABLE, VHOST_RINGS_MAX - 1, 1, 0);
}

static void test_old_driver(void **state)
{
	struct two_frontends *x = *state;

	frontend_negotiate(&x->bad, VHOST_F_PROTOCOL_FEATURES);
	frontend_share_memory(&x->bad);
	const uint64_t d = x->bad.queues[1].base;

	assert_int_equal(try_ring(&x->bad, 256, d, d + 0x4000, d + 0x6000), 1);
}

static void test_stopped_ring_has_a_base(void **state)
{
	struct two_frontends *x = *state;
	struct vhost_vring_state s = {5, 1234};

	frontend_negotiate(&x->bad, FRONTEND_FEATURES);
	frontend_send(&x->bad, VHOST_SET_VRING_BASE, 0, &s, sizeof(s), NULL, 0);
	s.num = 0;
	frontend_send(&x->bad, VHOST_GET_VRING_BASE, 0, &s, sizeof(s), NULL, 0);
	frontend_receive(&x->bad, VHOST_GET_VRING_BASE, &s, sizeof(s));
	assert_int_equal(s.index, 5);
	assert_int_equal(s.num, 1234);
}

static void test_no_descriptor_on_purpose(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const uint64_t number = 1 | VHOST_VRING_NO_FD;

	frontend_boot(f);
	/* No kicks is too much to ask; no calls is fine, for a guest that looks by itself. */
	assert_int_equal(frontend_ask(f, VHOST_SET_VRING_KICK, &number, 8, NULL, 0), 1);
	assert_int_equal(frontend_ask(f, VHOST_SET_VRING_CALL, &number, 8, NULL, 0), 0);
	assert_int_equal(frontend_ask(f, VHOST_SET_VRING_ERR, &number, 8, NULL, 0), 0);
	assert_int_equal(frontend_ask(f, VHOST_SET_VRING_CALL, &number, 8, &f->file, 1), 1);
	const struct fuse_getattr_in in = {.getattr_flags = 0};

	frontend_request(f, 1, 0, SHAPE_DIRECT, FUSE_GETATTR, 1, &in, sizeof(in), 200);
	/* By the time of the second answer it is used. */
	assert_false(frontend_nothing_used(f, 1));
}

/* Descriptors that are not what they should be. */
static void test_strange_descriptors(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const uint64_t number = 1;
	int ends[2];
	int full = eventfd(0, EFD_CLOEXEC); /* writing to it waits */

	frontend_boot(f);
	assert_int_equal(eventfd_write(full, UINT64_MAX - 1), 0);
	assert_int_equal(frontend_ask(f, VHOST_SET_VRING_CALL, &number, 8, &full, 1), 0);
	const struct fuse_getattr_in in = {.getattr_flags = 0};

	for (unsigned i = 0; i < 3; i++) {
		frontend_request(f, 1, i, SHAPE_DIRECT, FUSE_GETATTR, 1, &in, sizeof(in), 200);
		assert_false(frontend_nothing_used(f, 1));
		eventfd_write(f->queues[1].call, 1);
		frontend_finish(f, 1, &x->reply);
	}
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	close(ends[0]); /* SIGPIPE */
	assert_int_equal(frontend_ask(f, VHOST_SET_VRING_CALL, &number, 8, &ends[1], 1), 0);
	frontend_request(f, 1, 5, SHAPE_DIRECT, FUSE_GETATTR, 1, &in, sizeof(in), 200);
	assert_false(frontend_nothing_used(f, 1));
	/* A file cannot be waited for. */
	assert_int_equal(frontend_ask(f, VHOST_SET_VRING_KICK, &number, 8, &f->file, 1), 1);
	close(ends[1]);
	close(full);
}

/* ---- Memory ---- */

static uint64_t try_region(struct frontend *f, int fd, uint64_t address, uint64_t size,
			   uint64_t user_address, uint64_t offset)
{
	const struct vhost_single_region r = {.region = {.address = address,
							 .size = size,
							 .user_address = user_address,
							 .offset = offset}};

	return frontend_ask(f, VHOST_ADD_MEM_REG, &r, sizeof(r), &fd, 1);
}

static void test_bad_regions(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const uint64_t k = 4096;
	int folder = open("/", O_RDONLY | O_CLOEXEC | O_DIRECTORY);
	int sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	frontend_negotiate(f, FRONTEND_FEATURES);
	assert_int_equal(ftruncate(sealed, 4096), 0);
	assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(try_region(f, f->file, 0, 0, 0, 0), 1);
	assert_int_equal(try_region(f, f->file, 0, FRONTEND_MEMORY + 1, 0, 0), 1);
	assert_int_equal(try_region(f, f->file, 0, k, 0, FRONTEND_MEMORY - k + 1), 1);
	assert_int_equal(try_region(f, f->file, 0, k, 0, UINT64_MAX - 100), 1);
	assert_int_equal(try_region(f, f->file, UINT64_MAX - 100, k, 0, 0), 1);
	assert_int_equal(try_region(f, f->file, 0, k, UINT64_MAX - 100, 0), 1);
	assert_int_equal(try_region(f, f->file, 0, UINT64_MAX, 0, 0), 1);
	assert_int_equal(try_region(f, folder, 0, k, 0, 0), 1);
	assert_int_equal(try_region(f, f->socket, 0, k, 0, 0), 1);
	assert_int_equal(try_region(f, f->queues[0].kick, 0, k, 0, 0), 1);
	assert_int_equal(try_region(f, sealed, 0, k, 0, 0), 1); /* not writable */
	/* One that is good, and what overlaps it. */
	assert_int_equal(try_region(f, f->file, 10 * k, 4 * k, 1 << 20, 5), 0);
	assert_int_equal(try_region(f, f->file, 10 * k, 4 * k, 2 << 20, 0), 1);
	assert_int_equal(try_region(f, f->file, 13 * k, k, 2 << 20, 0), 1);
	assert_int_equal(try_region(f, f->file, 9 * k, k + 1, 2 << 20, 0), 1);
	assert_int_equal(try_region(f, f->file, 9 * k, 8 * k, 2 << 20, 0), 1);
	assert_int_equal(try_region(f, f->file, 9 * k, k, 2 << 20, 0), 0);
	assert_int_equal(try_region(f, f->file, 14 * k, k, 2 << 20, 0), 0);
	close(sealed);
	close(folder);
}

static void test_as_many_regions_as_offered(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;

	frontend_negotiate(f, FRONTEND_FEATURES);
	for (unsigned i = 0; i < GUEST_REGIONS_MAX; i++) {
		/* from above and from below */
		uint64_t at = (i % 2 ? 1000 - i : 1000 + i) * 8192ull;

		assert_int_equal(try_region(f, f->file, at, 4096, at + 1, 0), 0);
	}
	assert_int_equal(try_region(f, f->file, 0, 4096, 0, 0), 1);
}

/* The memory of requests that are under way stays until they are answered. */
static void test_memory_goes_in_the_middle(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const struct fuse_read_in in = {.size = 5};

	frontend_boot(f);
	uint64_t id = frontend_walk(f, "file");

	stalled_blobs_stall(x->blobs);
	frontend_request(f, 1, 0, SHAPE_ACROSS, FUSE_READ, id, &in, sizeof(in), 5000);
	stalled_blobs_await(x->blobs, 1);
	for (unsigned i = 0; i < 2; i++) {
		const struct vhost_single_region r = frontend_region(i);

		assert_int_equal(frontend_ask(f, VHOST_REM_MEM_REG, &r, sizeof(r), NULL, 0), 0);
	}
	stalled_blobs_release(x->blobs);
	/* Into memory that the guest has, still. */
	assert_int_equal(frontend_finish(f, 1, &x->reply), 0);
	assert_memory_equal(x->reply.data, "hello", 5);
	/* Without memory the ring stands still. */
	frontend_kick(f, 1);
	assert_true(frontend_nothing_used(f, 1));
	frontend_stop_queue(f, 1);
}

/* The file of the memory shrinks under the server, which is SIGBUS for whoever looks there. */
static void test_memory_is_cut_off(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const struct fuse_read_in in = {.size = 5};

	for (unsigned round = 0; round < 3; round++) {
		frontend_boot(f);
		uint64_t id = frontend_walk(f, "file");

		if (round > 0) {
			/* While the pool has a request to answer. */
			stalled_blobs_stall(x->blobs);
			frontend_request(f, 1, 0, SHAPE_ACROSS, FUSE_READ, id, &in, sizeof(in),
					 5000);
			stalled_blobs_await(x->blobs, 1);
		}
		assert_int_equal(ftruncate(f->file, 0), 0);
		stalled_blobs_release(x->blobs);
		frontend_kick(f, 1);
		check_dropped(x);
	}
}

int main(void)
{
#define WITH_SERVER(test) \
	cmocka_unit_test_setup_teardown(test, two_frontends_setup, two_frontends_teardown)
	const struct CMUnitTest tests[] = {
		WITH_SERVER(test_features),
		WITH_SERVER(test_acknowledgements_are_a_feature),
		WITH_SERVER(test_backend_channel),
		WITH_SERVER(test_memory_table),
		WITH_SERVER(test_memory_slots),
		WITH_SERVER(test_rings_of_old_front_ends),
		WITH_SERVER(test_bad_messages),
		WITH_SERVER(test_bad_headers),
		WITH_SERVER(test_broken_off),
		WITH_SERVER(test_slow_message),
		WITH_SERVER(test_deaf_front_end),
		WITH_SERVER(test_bad_rings),
		WITH_SERVER(test_old_driver),
		WITH_SERVER(test_stopped_ring_has_a_base),
		WITH_SERVER(test_no_descriptor_on_purpose),
		WITH_SERVER(test_strange_descriptors),
		WITH_SERVER(test_bad_regions),
		WITH_SERVER(test_as_many_regions_as_offered),
		WITH_SERVER(test_memory_goes_in_the_middle),
		WITH_SERVER(test_memory_is_cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
