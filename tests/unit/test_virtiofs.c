/* What a guest that keeps the rules sees. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "test_fs_driver.h"
#include "vhost_frontend.h"

struct fixture {
	struct driver *driver; /* its store is served */
	struct server server;
	struct frontend frontend;
	struct frontend_reply reply;
};

static struct fixture *open_with(unsigned threads)
{
	struct fixture *x = xcalloc(1, sizeof(*x));

	x->driver = driver_new();
	server_start(&x->server, &x->driver->options, threads, false);
	frontend_open(&x->frontend, &x->server);
	return x;
}

static int setup(void **state)
{
	*state = open_with(0);
	return 0;
}

static int setup_single(void **state)
{
	*state = open_with(1);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	frontend_close(&x->frontend);
	server_stop(&x->server);
	driver_free(x->driver);
	free(x);
	return 0;
}

static void check_big(const struct frontend_reply *r, uint64_t offset, size_t len)
{
	assert_int_equal(r->len, len);
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(r->data[i], (uint8_t)((offset + i) >> 8 ^ (offset + i)));
	}
}

static void test_read_file(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;

	frontend_boot(f);
	uint64_t id = frontend_walk(f, "tree/sub/in/deep");

	assert_int_equal(frontend_read(f, SHAPE_DIRECT, id, 0, 4096, &x->reply), 0);
	assert_int_equal(x->reply.len, 5);
	assert_memory_equal(x->reply.data, "hello", 5);
	assert_int_equal(frontend_walk(f, "tree/nothing"), 0);
}

static void test_every_shape_of_chain(void **state)
{
	static const enum frontend_shape shapes[] = {SHAPE_DIRECT, SHAPE_INDIRECT, SHAPE_MIXED,
						     SHAPE_SCATTERED, SHAPE_ACROSS};
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;

	frontend_boot(f);
	uint64_t id = frontend_walk(f, "tree/big");

	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		assert_int_equal(frontend_read(f, shapes[i], id, 5, 131072, &x->reply), 0);
		check_big(&x->reply, 5, 131072);
		assert_int_equal(frontend_read(f, shapes[i], id, BIG_SIZE - 7, 4096, &x->reply),
				 0);
		check_big(&x->reply, BIG_SIZE - 7, 7);
	}
}

static void test_list_directory(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	struct fuse_read_in in = {.size = 4096};
	unsigned requests = 0;

	frontend_boot(f);
	uint64_t id = frontend_walk(f, "many");

	do {
		assert_int_equal(frontend_call(f, SHAPE_INDIRECT, FUSE_READDIRPLUS, id, &in,
					       sizeof(in), 4096, &x->reply),
				 0);
		for (size_t at = 0; at < x->reply.len;) {
			struct fuse_direntplus d;

			memcpy(&d, x->reply.data + at, sizeof(d));
			in.offset = d.dirent.off;
			at += FUSE_REC_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + d.dirent.namelen);
		}
		requests++;
	} while (x->reply.len > 0);
	assert_int_equal(in.offset, MANY_FILES + 2);
	assert_true(requests > 3);
}

static void test_forget_has_no_reply(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	const struct fuse_forget_in in = {.nlookup = 1};
	uint32_t written;

	frontend_boot(f);
	uint64_t id = frontend_walk(f, "tree");

	assert_int_equal(frontend_getattr(f, id), 0);
	frontend_request(f, 0, 1, SHAPE_DIRECT, FUSE_FORGET, id, &in, sizeof(in), 0);
	frontend_wait(f, 0, &written);
	assert_int_equal(written, 0);
	assert_int_equal(frontend_getattr(f, id), -ESTALE);
}

/* A driver without the optional features. */
static void test_plain_rings(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;

	frontend_negotiate(f, VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES |
				      VIRTIO_F_RING_INDIRECT_DESC);
	frontend_share_memory(f);
	frontend_start_queue(f, 1, 0);
	assert_int_equal(frontend_init(f), 0);
	uint64_t id = frontend_walk(f, "tree/big");

	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(frontend_read(f, SHAPE_DIRECT, id, i * 11, 100, &x->reply), 0);
		check_big(&x->reply, i * 11, 100);
	}
}

/* More requests than the index has numbers, so that all that can wrap does. */
static void test_indexes_wrap(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;

	f->queues[1].size = 4;
	f->queues[1].available = 65500;
	f->queues[1].used = 65500;
	uint16_t *index = frontend_at(f, f->queues[1].base + 0x4002);

	*index = 65500;
	index = frontend_at(f, f->queues[1].base + 0x6002);
	*index = 65500;
	frontend_negotiate(f, FRONTEND_FEATURES);
	frontend_share_memory(f);
	frontend_start_queue(f, 1, 65500);
	assert_int_equal(frontend_init(f), 0);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(frontend_getattr(f, FUSE_ROOT_ID), 0);
	}
	assert_true(f->queues[1].used < 100);
}

static void test_largest_queue(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;

	f->queues[1].size = 1024;
	frontend_boot(f);
	uint64_t id = frontend_walk(f, "tree/big");

	/* 257 pieces and more */
	assert_int_equal(
		frontend_read(f, SHAPE_SCATTERED, id, 0, (uint32_t)BIG_SIZE - 20000, &x->reply),
		0);
	check_big(&x->reply, 0, BIG_SIZE - 20000);
}

/* Many at once, over two request queues: each gets its own answer. */
static void test_many_requests(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	struct fuse_read_in in[20];

	frontend_boot(f);
	frontend_start_queue(f, 2, 0);
	uint64_t id = frontend_walk(f, "tree/big");

	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < 20; i++) {
			in[i] = (struct fuse_read_in){.offset = i * 8192 + round,
						      .size = i % 3 == 0 ? 100000 : 4096};
			frontend_request(f, 1 + i % 2, i, SHAPE_INDIRECT, FUSE_READ, id, &in[i],
					 sizeof(in[i]), 16 + in[i].size);
		}
		unsigned seen = 0;

		for (unsigned i = 0; i < 20; i++) {
			unsigned tag = frontend_finish(f, 1 + i % 2, &x->reply);

			assert_int_equal(x->reply.error, 0);
			check_big(&x->reply, in[tag].offset, in[tag].size);
			seen |= 1u << tag;
		}
		assert_int_equal(seen, (1u << 20) - 1);
	}
}

static void test_requests_in_parallel(void **state)
{
	test_many_requests(state);
}

static void test_requests_in_turn(void **state)
{
	test_many_requests(state);
}

static void test_call_descriptor_is_swapped(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	const uint64_t number = 1;

	frontend_boot(f);
	uint64_t id = frontend_walk(f, "tree/big");

	for (unsigned i = 0; i < 200; i++) {
		const struct fuse_read_in in = {.offset = i, .size = 70000};
		int call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		frontend_request(f, 1, 3, SHAPE_INDIRECT, FUSE_READ, id, &in, sizeof(in),
				 80000);
		frontend_send(f, VHOST_SET_VRING_CALL, 0, &number, sizeof(number), &call, 1);
		/* A front end signals both: a call may have gone to either. */
		frontend_get(f, VHOST_GET_FEATURES);
		close(f->queues[1].call);
		f->queues[1].call = call;
		assert_int_equal(eventfd_write(call, 1), 0);
		assert_int_equal(frontend_finish(f, 1, &x->reply), 3);
		check_big(&x->reply, i, 70000);
	}
}

/* The guest goes down and comes up; the front end and its memory stay. */
static void test_reboot(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;

	frontend_boot(f);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t id = frontend_walk(f, "tree/sub");

		assert_int_equal(frontend_getattr(f, id), 0);
		for (unsigned q = 0; q < 2; q++) {
			uint16_t base = frontend_stop_queue(f, q);

			assert_int_equal(base, f->queues[q].available);
			frontend_forget_queue(f, q);
			frontend_start_queue(f, q, 0);
		}
		assert_int_equal(frontend_init(f), 0);
		/* of the session before */
		assert_int_equal(frontend_getattr(f, id), -ESTALE);
	}
}

/* The rings stop and go on, and the guest knows nothing of it. */
static void test_pause_and_resume(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;

	frontend_boot(f);
	uint64_t id = frontend_walk(f, "tree/sub");
	uint16_t base = frontend_stop_queue(f, 1);
	const struct fuse_getattr_in in = {.getattr_flags = 0};

	assert_int_equal(base, f->queues[1].used);
	/* Offered while nobody looks. */
	frontend_request(f, 1, 0, SHAPE_INDIRECT, FUSE_GETATTR, id, &in, sizeof(in), 200);
	assert_true(frontend_nothing_used(f, 1));
	frontend_start_queue(f, 1, base);
	frontend_finish(f, 1, &x->reply);
	assert_int_equal(x->reply.error, 0);
	assert_int_equal(frontend_getattr(f, id), 0);
}

static void test_disabled_ring_waits(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	struct vhost_vring_state state_of = {1, 0};
	const struct fuse_getattr_in in = {.getattr_flags = 0};

	frontend_boot(f);
	frontend_send(f, VHOST_SET_VRING_ENABLE, 0, &state_of, sizeof(state_of), NULL, 0);
	frontend_get(f, VHOST_GET_FEATURES);
	frontend_request(f, 1, 0, SHAPE_INDIRECT, FUSE_GETATTR, 1, &in, sizeof(in), 200);
	frontend_kick(f, 1);
	assert_true(frontend_nothing_used(f, 1));
	state_of.num = 1;
	frontend_send(f, VHOST_SET_VRING_ENABLE, 0, &state_of, sizeof(state_of), NULL, 0);
	frontend_finish(f, 1, &x->reply);
	assert_int_equal(x->reply.error, 0);
}

static void test_reset_device(void **state)
{
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;

	frontend_boot(f);
	uint64_t id = frontend_walk(f, "tree");

	assert_int_equal(frontend_ask(f, VHOST_RESET_DEVICE, NULL, 0, NULL, 0), 0);
	/* Memory is still known; the session is not. */
	frontend_forget_queue(f, 1);
	frontend_start_queue(f, 1, 0);
	assert_int_equal(frontend_getattr(f, id), -EIO);
	assert_int_equal(frontend_init(f), 0);
	assert_int_equal(frontend_getattr(f, id), -ESTALE);
}

/*
 * Another server takes over, of which the guest learns nothing. What it knows is stale there,
 * and never something else; and it finds its way anew.
 */
static void test_another_server(void **state)
{
	static const char *const paths[] = {"tree",     "tree/sub",  "tree/sub/in", "tree/a",
					    "tree/big", "tree/link", "file",        "link",
					    "many",     "tree/sub2", "tree/c"};
	struct fixture *x = *state;
	struct frontend *f = &x->frontend;
	uint64_t ids[ARRAY_SIZE(paths)];

	frontend_boot(f);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		ids[i] = frontend_walk(f, paths[i]);
	}
	for (unsigned round = 0; round < 3; round++) {
		const struct fuse_forget_in one = {.nlookup = 1};
		uint64_t features = f->features;
		uint32_t written;

		frontend_reconnect(f, &x->server);
		frontend_negotiate(f, features);
		frontend_share_memory(f);
		frontend_start_queue(f, 0, f->queues[0].used);
		frontend_start_queue(f, 1, f->queues[1].used);
		assert_int_equal(frontend_getattr(f, FUSE_ROOT_ID), 0);
		for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
			assert_int_equal(frontend_getattr(f, ids[i]), -ESTALE);
			assert_int_equal(
				frontend_read(f, SHAPE_DIRECT, ids[i], 0, 100, &x->reply),
				-ESTALE);
		}
		for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
			uint64_t old = ids[i];

			ids[i] = frontend_walk(f, paths[i]);
			assert_int_not_equal(ids[i], old);
			assert_int_equal(frontend_getattr(f, ids[i]), 0);
			frontend_request(f, 0, 1, SHAPE_DIRECT, FUSE_FORGET, old, &one,
					 sizeof(one), 0);
			frontend_wait(f, 0, &written);
		}
		assert_int_equal(frontend_read(f, SHAPE_DIRECT, ids[3], 0, 100, &x->reply), 0);
		assert_memory_equal(x->reply.data, "hello", 5);
	}
}

static void test_two_guests_at_once(void **state)
{
	struct fixture *x = *state;
	struct frontend *a = &x->frontend;
	struct frontend b;

	frontend_open(&b, &x->server);
	frontend_boot(a);
	frontend_boot(&b);
	uint64_t id = frontend_walk(a, "tree/sub");

	/* Ids of one are nothing to the other. */
	assert_int_equal(frontend_getattr(&b, id), -ESTALE);
	assert_int_not_equal(frontend_walk(&b, "tree/sub"), 0);
	frontend_close(&b);
	assert_int_equal(frontend_getattr(a, id), 0);
}

static void test_many_guests_one_after_the_other(void **state)
{
	struct fixture *x = *state;

	for (unsigned i = 0; i < 50; i++) {
		struct frontend f;

		frontend_open(&f, &x->server);
		frontend_boot(&f);
		assert_int_not_equal(frontend_walk(&f, "tree/sub"), 0);
		frontend_close(&f);
	}
}

static void test_once(void **state)
{
	struct fixture *x = *state;
	struct server s;
	struct frontend f;

	server_start(&s, &x->driver->options, 0, true);
	frontend_open(&f, &s);
	frontend_boot(&f);
	frontend_close(&f);
	server_join(&s);
}

static void test_stop_with_guests(void **state)
{
	struct fixture *x = *state;
	struct server s;
	struct frontend f[3];

	server_start(&s, &x->driver->options, 0, false);
	for (unsigned i = 0; i < 3; i++) {
		frontend_open(&f[i], &s);
	}
	frontend_boot(&f[0]);
	frontend_negotiate(&f[1], FRONTEND_FEATURES);
	server_stop(&s);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(frontend_dropped(&f[i]));
		frontend_close(&f[i]);
	}
}

int main(void)
{
#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_SERVER(test_read_file),
		WITH_SERVER(test_every_shape_of_chain),
		WITH_SERVER(test_list_directory),
		WITH_SERVER(test_forget_has_no_reply),
		WITH_SERVER(test_plain_rings),
		WITH_SERVER(test_indexes_wrap),
		WITH_SERVER(test_largest_queue),
		WITH_SERVER(test_requests_in_parallel),
		cmocka_unit_test_setup_teardown(test_requests_in_turn, setup_single, teardown),
		WITH_SERVER(test_call_descriptor_is_swapped),
		WITH_SERVER(test_reboot),
		WITH_SERVER(test_pause_and_resume),
		WITH_SERVER(test_disabled_ring_waits),
		WITH_SERVER(test_reset_device),
		WITH_SERVER(test_another_server),
		WITH_SERVER(test_two_guests_at_once),
		WITH_SERVER(test_many_guests_one_after_the_other),
		WITH_SERVER(test_once),
		WITH_SERVER(test_stop_with_guests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
