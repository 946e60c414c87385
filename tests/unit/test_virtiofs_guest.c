/* Guests that break the rules of virtio and FUSE: they harm nobody but themselves. */

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/eventfd.h>

#include <cmocka.h>
#include <linux/virtio_ring.h>

#include "two_frontends.h"

/* The bad guest has begun like the good one. */
static int setup(void **state)
{
	int rc = two_frontends_setup(state);
	struct two_frontends *x = *state;

	frontend_boot(&x->bad);
	return rc;
}

static void wait_for(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	eventfd_t count;

	assert_int_equal(poll(&p, 1, 30000), 1);
	assert_int_equal(eventfd_read(fd, &count), 0);
}

static void restart(struct frontend *f)
{
	frontend_stop_queue(f, 1);
	frontend_forget_queue(f, 1);
	frontend_start_queue(f, 1, 0);
	assert_int_equal(frontend_init(f), 0);
}

/* Queue 1 stands still, says so, and works again when it is set up anew. */
static void check_broken(struct two_frontends *x)
{
	struct frontend *f = &x->bad;

	wait_for(f->queues[1].error);
	assert_true(frontend_nothing_used(f, 1));
	restart(f);
	assert_int_not_equal(frontend_walk(f, "tree/sub"), 0);
	assert_int_equal(frontend_getattr(&x->good, x->good_id), 0);
}

/* ---- Chains ---- */

#define READABLE 0
#define WRITABLE VRING_DESC_F_WRITE
#define NEXT VRING_DESC_F_NEXT
#define INDIRECT VRING_DESC_F_INDIRECT
#define END (FRONTEND_BASE + FRONTEND_MEMORY)
/* Where a table for the second half of a chain is. */
#define TABLE (FRONTEND_BASE + 0x80000)
#define BUFFER (FRONTEND_BASE + 0x90000)

struct bad_chain {
	const char *what;
	uint16_t head;
	struct frontend_descriptor direct[3];
	struct frontend_descriptor table[3];
};

static const struct bad_chain bad_chains[] = {
	{"a loop of one", 0, {{BUFFER, 40, NEXT, 0}}, {{0}}},
	{"a loop of two", 0, {{BUFFER, 40, NEXT, 1}, {BUFFER, 1, NEXT, 0}}, {{0}}},
	{"a loop of nothing", 0, {{BUFFER, 0, NEXT, 0}}, {{0}}},
	{"a next beyond the table", 0, {{BUFFER, 40, NEXT, FRONTEND_QUEUE_SIZE}}, {{0}}},
	{"a next far beyond", 0, {{BUFFER, 40, NEXT, UINT16_MAX}}, {{0}}},
	{"a head beyond the table", FRONTEND_QUEUE_SIZE, {{0}}, {{0}}},
	{"a head far beyond", UINT16_MAX, {{0}}, {{0}}},
	{"an address below memory", 0, {{FRONTEND_BASE - 1, 40, 0, 0}}, {{0}}},
	{"an address of nothing", 0, {{0, 40, 0, 0}}, {{0}}},
	{"an address at the end", 0, {{END, 1, 0, 0}}, {{0}}},
	{"an end beyond memory", 0, {{END - 39, 40, 0, 0}}, {{0}}},
	{"a length beyond memory", 0, {{BUFFER, UINT32_MAX, WRITABLE, 0}}, {{0}}},
	{"an overflow", 0, {{UINT64_MAX - 10, 40, 0, 0}}, {{0}}},
	{"an overflow to memory", 0, {{UINT64_MAX, UINT32_MAX, 0, 0}}, {{0}}},
	{"readable behind writable",
	 0,
	 {{BUFFER, 40, WRITABLE | NEXT, 1}, {BUFFER, 40, 0, 0}},
	 {{0}}},
	{"a table of no bytes", 0, {{TABLE, 0, INDIRECT, 0}}, {{0}}},
	{"a table of odd bytes", 0, {{TABLE, 17, INDIRECT, 0}}, {{BUFFER, 40, 0, 0}}},
	{"a table with a next",
	 0,
	 {{TABLE, 16, INDIRECT | NEXT, 1}, {BUFFER, 40, 0, 0}},
	 {{BUFFER, 40, 0, 0}}},
	{"a table outside memory", 0, {{END - 15, 16, INDIRECT, 0}}, {{0}}},
	{"a table that overflows", 0, {{UINT64_MAX - 15, UINT32_MAX - 15, INDIRECT, 0}}, {{0}}},
	{"a table in a table", 0, {{TABLE, 32, INDIRECT, 0}}, {{TABLE + 16, 16, INDIRECT, 0}}},
	{"a table in itself", 0, {{TABLE, 16, INDIRECT, 0}}, {{TABLE, 16, INDIRECT, 0}}},
	{"a loop in a table", 0, {{TABLE, 32, INDIRECT, 0}}, {{BUFFER, 40, NEXT, 0}}},
	{"a next beyond a table", 0, {{TABLE, 16, INDIRECT, 0}}, {{BUFFER, 40, NEXT, 1}}},
	{"readable in a table behind writable",
	 0,
	 {{BUFFER, 40, WRITABLE | NEXT, 1}, {TABLE, 16, INDIRECT, 0}},
	 {{BUFFER, 40, 0, 0}}},
};

static void test_bad_chains(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;

	for (size_t i = 0; i < ARRAY_SIZE(bad_chains); i++) {
		const struct bad_chain *c = &bad_chains[i];

		print_message("  %s\n", c->what);
		for (unsigned j = 0; j < ARRAY_SIZE(c->direct); j++) {
			frontend_put_descriptor(f, f->queues[1].base, j, c->direct[j]);
			frontend_put_descriptor(f, TABLE, j, c->table[j]);
		}
		frontend_offer(f, 1, c->head);
		check_broken(x);
	}
}

/* The first descriptor of the table is the last of memory, and says that one more follows. */
static void test_table_across_the_end(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;

	frontend_put_descriptor(
		f, END - 16, 0,
		(struct frontend_descriptor){.address = BUFFER, .flags = NEXT, .next = 1});
	frontend_put_descriptor(f, f->queues[1].base, 0,
				(struct frontend_descriptor){
					.address = END - 16, .len = 32, .flags = INDIRECT});
	frontend_offer(f, 1, 0);
	check_broken(x);
}

/* A table of so many descriptors of one byte, the last one room for a reply. */
static void offer_table(struct frontend *f, unsigned count)
{
	struct frontend_descriptor d = {.address = BUFFER, .len = 1, .flags = NEXT};

	for (unsigned i = 0; i < count; i++) {
		d.next = (uint16_t)(i + 1);
		if (i + 1 == count) {
			d = (struct frontend_descriptor){
				.address = BUFFER, .len = 64, .flags = WRITABLE};
		}
		frontend_put_descriptor(f, TABLE, i, d);
	}
	frontend_put_descriptor(f, f->queues[1].base, 0,
				(struct frontend_descriptor){.address = TABLE,
							     .len = count * 16,
							     .flags = INDIRECT});
	frontend_offer(f, 1, 0);
}

static void test_longest_chain(void **state)
{
	struct two_frontends *x = *state;
	uint32_t written;

	/* All in it is the same byte, a request that asks for its own end. */
	memset(frontend_at(&x->bad, BUFFER), 0xff, 1);
	offer_table(&x->bad, 1024);
	assert_int_equal(frontend_wait(&x->bad, 1, &written), 0);
	assert_int_equal(written, sizeof(struct fuse_out_header));
	offer_table(&x->bad, 1025);
	check_broken(x);
	offer_table(&x->bad, 4000);
	check_broken(x);
}

static void test_indirect_was_not_agreed_on(void **state)
{
	struct two_frontends *x = *state;
	struct frontend f;

	frontend_open(&f, &x->server);
	frontend_negotiate(&f, FRONTEND_FEATURES & ~VIRTIO_F_RING_INDIRECT_DESC);
	frontend_share_memory(&f);
	frontend_start_queue(&f, 1, 0);
	frontend_put_descriptor(&f, TABLE, 0, (struct frontend_descriptor){.address = BUFFER});
	frontend_put_descriptor(
		&f, f.queues[1].base, 0,
		(struct frontend_descriptor){.address = TABLE, .len = 16, .flags = INDIRECT});
	frontend_offer(&f, 1, 0);
	wait_for(f.queues[1].error);
	assert_true(frontend_nothing_used(&f, 1));
	frontend_close(&f);
}

static void test_index_beyond_the_ring(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;

	f->queues[1].available = (uint16_t)(f->queues[1].available + f->queues[1].size);
	frontend_offer_quietly(f, 1, 0);
	frontend_kick(f, 1);
	check_broken(x);
}

/* One chain offered once more while it and all others are under way. */
static void test_more_chains_than_descriptors(void **state)
{
	struct two_frontends *x = *state;
	struct frontend f;
	const struct fuse_read_in in = {.size = 5};

	frontend_open(&f, &x->server);
	f.queues[1].size = 8;
	f.stride = 1;
	frontend_boot(&f);
	uint64_t id = frontend_walk(&f, "file");

	stalled_blobs_stall(x->blobs);
	for (unsigned i = 0; i < 8; i++) {
		frontend_request(&f, 1, i, SHAPE_INDIRECT, FUSE_READ, id, &in, sizeof(in), 100);
	}
	assert_true(frontend_nothing_used(&f, 1));
	frontend_offer_quietly(&f, 1, 0);
	frontend_kick(&f, 1);
	wait_for(f.queues[1].error);
	stalled_blobs_release(x->blobs);
	for (unsigned i = 0; i < 8; i++) {
		frontend_finish(&f, 1, &x->reply);
		assert_memory_equal(x->reply.data, "hello", 5);
	}
	frontend_close(&f);
}

/* ---- Requests ---- */

/* Offers these bytes with so much room; returns how much was written. */
static uint32_t offer_bytes(struct frontend *f, const void *bytes, size_t len, size_t room)
{
	const struct frontend_descriptor in = {
		.address = BUFFER, .len = (uint32_t)len, .flags = NEXT, .next = 1};
	const struct frontend_descriptor out = {
		.address = BUFFER + 0x100000, .len = (uint32_t)room, .flags = WRITABLE};
	uint32_t written;

	memcpy(frontend_at(f, BUFFER), bytes, len);
	frontend_put_descriptor(f, f->queues[1].base, 0, in);
	frontend_put_descriptor(f, f->queues[1].base, 1, out);
	frontend_offer(f, 1, 0);
	assert_int_equal(frontend_wait(f, 1, &written), 0);
	assert_true(written <= room);
	return written;
}

static int error_of_reply(struct frontend *f)
{
	struct fuse_out_header header;

	memcpy(&header, frontend_at(f, BUFFER + 0x100000), sizeof(header));
	return header.error;
}

static void test_requests_without_sense(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	struct fuse_in_header header = {
		.len = sizeof(header) + 16, .opcode = FUSE_GETATTR, .nodeid = 1};
	struct {
		struct fuse_in_header header;
		uint8_t arg[100000];
	} *request = xcalloc(1, sizeof(*request));

	assert_int_equal(offer_bytes(f, "", 0, 100), 0);
	assert_int_equal(offer_bytes(f, "short", 5, 100), 0);
	/* says more than there is */
	assert_int_equal(offer_bytes(f, &header, sizeof(header), 200), 16);
	assert_int_equal(error_of_reply(f), -EINVAL);
	header.len = UINT32_MAX;
	assert_int_equal(offer_bytes(f, &header, sizeof(header), 200), 16);
	assert_int_equal(error_of_reply(f), -EINVAL);
	/* longer than any request */
	request->header = (struct fuse_in_header){
		.len = sizeof(*request), .opcode = FUSE_WRITE, .nodeid = 1};
	assert_int_equal(offer_bytes(f, request, sizeof(*request), 200), 16);
	assert_int_equal(error_of_reply(f), -EINVAL);
	free(request);
}

static void test_too_little_room(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	struct {
		struct fuse_in_header header;
		char name[8];
	} lookup = {.header = {.len = sizeof(lookup), .opcode = FUSE_LOOKUP, .nodeid = 1},
		    .name = "tree"};
	const size_t whole = sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out);

	assert_int_equal(offer_bytes(f, &lookup, sizeof(lookup), 0), 0);
	assert_int_equal(offer_bytes(f, &lookup, sizeof(lookup), 15), 0);
	assert_int_equal(offer_bytes(f, &lookup, sizeof(lookup), 16), 16);
	assert_int_equal(error_of_reply(f), -EIO);
	assert_int_equal(offer_bytes(f, &lookup, sizeof(lookup), whole - 1), 16);
	assert_int_equal(error_of_reply(f), -EIO);
	assert_int_equal(offer_bytes(f, &lookup, sizeof(lookup), whole), whole);
	assert_int_equal(error_of_reply(f), 0);
	uint64_t id = frontend_walk(f, "tree/big");
	const struct fuse_read_in in = {.size = 131072};

	assert_int_equal(frontend_call(f, SHAPE_SCATTERED, FUSE_READ, id, &in, sizeof(in),
				       131071, &x->reply),
			 -EINVAL);
}

/* Whatever the first bytes are, and whatever the room is. */
static void test_any_opcode(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	struct {
		struct fuse_in_header header;
		uint8_t arg[300];
	} request = {.header = {.len = sizeof(request), .nodeid = 1}};

	for (unsigned opcode = 0; opcode < 70; opcode++) {
		request.header.opcode = opcode;
		memset(request.arg, (int)(opcode * 7), sizeof(request.arg));
		offer_bytes(f, &request, sizeof(request), 16 + opcode * 40);
	}
	restart(f);
	assert_int_not_equal(frontend_walk(f, "tree/sub"), 0);
}

/* ---- Slow ones ---- */

/* Reads of one guest wait for the store; it is answered otherwise, and so are others. */
static void test_slow_store(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const struct fuse_read_in in = {.size = 5};
	uint64_t id = frontend_walk(f, "file");

	stalled_blobs_stall(x->blobs);
	for (unsigned i = 1; i < 20; i++) {
		frontend_request(f, 1, i, SHAPE_INDIRECT, FUSE_READ, id, &in, sizeof(in), 100);
	}
	stalled_blobs_await(x->blobs, 3); /* four threads less the first one */
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(frontend_getattr(f, id), 0);
		assert_int_equal(frontend_getattr(&x->good, x->good_id), 0);
	}
	stalled_blobs_release(x->blobs);
	for (unsigned i = 1; i < 20; i++) {
		frontend_finish(f, 1, &x->reply);
		assert_int_equal(x->reply.error, 0);
		assert_memory_equal(x->reply.data, "hello", 5);
	}
}

/* Stopping a ring waits for what is under way in it. */
static void test_stop_waits(void **state)
{
	struct two_frontends *x = *state;
	struct frontend *f = &x->bad;
	const struct fuse_read_in in = {.size = 5};
	struct vhost_vring_state base = {1, 0};
	uint64_t id = frontend_walk(f, "file");

	stalled_blobs_stall(x->blobs);
	frontend_request(f, 1, 1, SHAPE_INDIRECT, FUSE_READ, id, &in, sizeof(in), 100);
	stalled_blobs_await(x->blobs, 1);
	frontend_send(f, VHOST_GET_VRING_BASE, 0, &base, sizeof(base), NULL, 0);
	assert_int_equal(frontend_getattr(&x->good, x->good_id), 0);
	stalled_blobs_release(x->blobs);
	frontend_receive(f, VHOST_GET_VRING_BASE, &base, sizeof(base));
	assert_int_equal(base.num, f->queues[1].available);
	assert_int_equal(frontend_finish(f, 1, &x->reply), 1);
	assert_memory_equal(x->reply.data, "hello", 5);
}

/* The front end goes while requests are under way. */
static void test_vanish_in_the_middle(void **state)
{
	struct two_frontends *x = *state;
	const struct fuse_read_in in = {.size = 5};

	for (unsigned round = 0; round < 5; round++) {
		struct frontend f;

		frontend_open(&f, &x->server);
		frontend_boot(&f);
		uint64_t id = frontend_walk(&f, "file");

		stalled_blobs_stall(x->blobs);
		for (unsigned i = 0; i < 10; i++) {
			frontend_request(&f, 1, i, SHAPE_INDIRECT, FUSE_READ, id, &in,
					 sizeof(in), 100);
		}
		stalled_blobs_await(x->blobs, 1);
		frontend_close(&f);
		assert_int_equal(frontend_getattr(&x->good, x->good_id), 0);
		stalled_blobs_release(x->blobs);
	}
}

/* The server ends although the store does not answer; the thread that waits ends later. */
static void test_stop_while_stalled(void **state)
{
	struct two_frontends *x = *state;
	const struct fuse_read_in in = {.size = 5};
	struct server s;
	struct frontend f;

	server_start(&s, &x->driver->options, 4, false);
	frontend_open(&f, &s);
	frontend_boot(&f);
	uint64_t id = frontend_walk(&f, "file");

	stalled_blobs_stall(x->blobs);
	frontend_request(&f, 1, 0, SHAPE_INDIRECT, FUSE_READ, id, &in, sizeof(in), 100);
	stalled_blobs_await(x->blobs, 1);
	server_stop(&s);
	assert_true(frontend_dropped(&f));
	stalled_blobs_release(x->blobs);
	frontend_close(&f);
}

int main(void)
{
#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, two_frontends_teardown)
	const struct CMUnitTest tests[] = {
		WITH_SERVER(test_bad_chains),
		WITH_SERVER(test_table_across_the_end),
		WITH_SERVER(test_longest_chain),
		WITH_SERVER(test_indirect_was_not_agreed_on),
		WITH_SERVER(test_index_beyond_the_ring),
		WITH_SERVER(test_more_chains_than_descriptors),
		WITH_SERVER(test_requests_without_sense),
		WITH_SERVER(test_too_little_room),
		WITH_SERVER(test_any_opcode),
		WITH_SERVER(test_slow_store),
		WITH_SERVER(test_stop_waits),
		WITH_SERVER(test_vanish_in_the_middle),
		WITH_SERVER(test_stop_while_stalled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
