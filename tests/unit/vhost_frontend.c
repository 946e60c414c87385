#include "vhost_frontend.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/unix_listener.h"
#include "transports/virtiofs/vhost_protocol.h"

#include <linux/virtio_ring.h>

/* A server that does not answer for so long hangs. */
#define PATIENCE_MS 30000
/* Addresses of the front end: of the first region, and of the second one. */
#define USER_BASE 0x7f1200000000ull
#define USER_BASE_2 0x7e0000000000ull
/* In the second region, so that pieces lie in both. */
#define SCATTER_BASE (FRONTEND_BASE + FRONTEND_REGION_SIZE + ((size_t)2 << 20))
#define PIECE 1000u
#define BUFFERS ((size_t)1 << 20)
#define BUFFERS_END ((size_t)6 << 20)
#define STRIDE 8u

/* ---- The server ---- */

static void *server_main(void *context)
{
	struct server *s = context;
	struct error err;

	s->rc = virtiofs_server_run(s->server, &err);
	if (s->rc != 0) {
		fprintf(stderr, "server: %s\n", err.text);
	}
	return NULL;
}

static struct sockaddr_un server_address(const struct server *s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	/* An abstract name: nothing is left behind. */
	memcpy(address.sun_path + 1, s->path, strlen(s->path));
	return address;
}

static socklen_t server_address_size(const struct server *s)
{
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(s->path));
}

void server_start(struct server *s, const struct fs_options *fs, unsigned threads, bool once)
{
	static _Atomic unsigned number;
	const struct virtiofs_options o = {.fs = *fs, .threads = threads, .once = once};

	*s = (struct server){.rc = -1};
	snprintf(s->path, sizeof(s->path), "cairn-test-%ju-%u", (uintmax_t)getpid(),
		 atomic_fetch_add(&number, 1));
	const struct sockaddr_un address = server_address(s);

	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(s->listener >= 0);
	assert_int_equal(
		bind(s->listener, (const struct sockaddr *)&address, server_address_size(s)),
		0);
	assert_int_equal(listen(s->listener, 100), 0);
	assert_int_equal(virtiofs_server_new(s->listener, &o, &s->server, NULL), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

void server_join(struct server *s)
{
	pthread_join(s->thread, NULL);
	virtiofs_server_free(s->server);
	close(s->listener);
	assert_int_equal(s->rc, 0);
}

void server_stop(struct server *s)
{
	virtiofs_server_stop(s->server);
	server_join(s);
}

/* ---- Messages ---- */

static int connect_to(const struct server *s)
{
	const struct sockaddr_un address = server_address(s);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&address, server_address_size(s)),
			 0);
	return fd;
}

void frontend_reconnect(struct frontend *f, const struct server *s)
{
	close(f->socket);
	f->socket = connect_to(s);
}

void frontend_open(struct frontend *f, const struct server *s)
{
	*f = (struct frontend){.socket = connect_to(s)};
	f->file = memfd_create("guest", MFD_CLOEXEC);
	assert_true(f->file >= 0);
	assert_int_equal(ftruncate(f->file, (off_t)FRONTEND_MEMORY), 0);
	f->memory = mmap(NULL, FRONTEND_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, f->file, 0);
	assert_ptr_not_equal(f->memory, MAP_FAILED);
	f->next = BUFFERS;
	f->stride = STRIDE;
	for (unsigned i = 0; i < FRONTEND_QUEUES; i++) {
		f->queues[i] = (struct frontend_queue){
			.size = FRONTEND_QUEUE_SIZE,
			.base = FRONTEND_BASE + i * 0x10000u,
			.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
			.call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
			.error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		};
	}
}

void frontend_close(struct frontend *f)
{
	for (unsigned i = 0; i < FRONTEND_QUEUES; i++) {
		close(f->queues[i].kick);
		close(f->queues[i].call);
		close(f->queues[i].error);
	}
	munmap(f->memory, FRONTEND_MEMORY);
	close(f->file);
	close(f->socket);
}

void frontend_send_raw(struct frontend *f, const void *bytes, size_t len)
{
	assert_int_equal(send(f->socket, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

void frontend_send(struct frontend *f, uint32_t request, uint32_t flags, const void *payload,
		   size_t size, const int *fds, size_t fd_count)
{
	struct vhost_header header = {
		.request = request, .flags = VHOST_VERSION | flags, .size = (uint32_t)size};
	struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)(uintptr_t)payload, size}};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int) * 64)];
	} control = {.bytes = {0}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	assert_true(fd_count <= 64);
	if (fd_count > 0) {
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, fd_count * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	assert_int_equal(sendmsg(f->socket, &msg, MSG_NOSIGNAL),
			 (ssize_t)(sizeof(header) + size));
}

static void wait_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (poll(&p, 1, PATIENCE_MS) != 1) {
		fail_msg("the server hangs");
	}
}

void frontend_receive(struct frontend *f, uint32_t request, void *payload, size_t size)
{
	struct vhost_header header;

	wait_readable(f->socket);
	assert_int_equal(read_full(f->socket, &header, sizeof(header)), sizeof(header));
	assert_int_equal(header.request, request);
	assert_int_equal(header.flags, VHOST_VERSION | VHOST_REPLY);
	assert_int_equal(header.size, size);
	assert_int_equal(read_full(f->socket, payload, size), size);
}

bool frontend_dropped(struct frontend *f)
{
	char byte;

	wait_readable(f->socket);
	ssize_t n = recv(f->socket, &byte, 1, 0);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

uint64_t frontend_ask(struct frontend *f, uint32_t request, const void *payload, size_t size,
		      const int *fds, size_t fd_count)
{
	uint64_t answer;

	frontend_send(f, request, VHOST_NEED_REPLY, payload, size, fds, fd_count);
	frontend_receive(f, request, &answer, sizeof(answer));
	return answer;
}

uint64_t frontend_get(struct frontend *f, uint32_t request)
{
	uint64_t answer;

	frontend_send(f, request, 0, NULL, 0, NULL, 0);
	frontend_receive(f, request, &answer, sizeof(answer));
	return answer;
}

/* ---- Setting up ---- */

struct vhost_single_region frontend_region(unsigned which)
{
	return (struct vhost_single_region){
		.region = {.address = FRONTEND_BASE + which * FRONTEND_REGION_SIZE,
			   .size = FRONTEND_REGION_SIZE,
			   .user_address = which ? USER_BASE_2 : USER_BASE,
			   .offset = which ? 0 : FRONTEND_REGION_SIZE}};
}

uint64_t frontend_user_address(uint64_t address)
{
	uint64_t offset = address - FRONTEND_BASE;

	return offset < FRONTEND_REGION_SIZE ? USER_BASE + offset
					     : USER_BASE_2 + offset - FRONTEND_REGION_SIZE;
}

void *frontend_at(struct frontend *f, uint64_t address)
{
	uint64_t offset = address - FRONTEND_BASE;

	assert_true(offset < FRONTEND_MEMORY);
	return f->memory + (offset + FRONTEND_REGION_SIZE) % FRONTEND_MEMORY;
}

void frontend_negotiate(struct frontend *f, uint64_t features)
{
	f->features = features;
	frontend_get(f, VHOST_GET_FEATURES);
	f->protocol_features = frontend_get(f, VHOST_GET_PROTOCOL_FEATURES);
	frontend_send(f, VHOST_SET_PROTOCOL_FEATURES, 0, &f->protocol_features,
		      sizeof(f->protocol_features), NULL, 0);
	frontend_send(f, VHOST_SET_OWNER, 0, NULL, 0, NULL, 0);
	assert_int_equal(
		frontend_ask(f, VHOST_SET_FEATURES, &features, sizeof(features), NULL, 0), 0);
}

void frontend_share_memory(struct frontend *f)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct vhost_single_region r = frontend_region(i);

		assert_int_equal(frontend_ask(f, VHOST_ADD_MEM_REG, &r, sizeof(r), &f->file, 1),
				 0);
	}
}

#define AVAILABLE_OFFSET 0x4000u
#define USED_OFFSET 0x6000u

static uint16_t *available_at(struct frontend *f, unsigned queue, size_t offset)
{
	return frontend_at(f, f->queues[queue].base + AVAILABLE_OFFSET + offset);
}

static uint16_t *used_at(struct frontend *f, unsigned queue, size_t offset)
{
	return frontend_at(f, f->queues[queue].base + USED_OFFSET + offset);
}

static uint16_t load(const uint16_t *p)
{
	return atomic_load((const _Atomic uint16_t *)p);
}

static void store(uint16_t *p, uint16_t v)
{
	atomic_store((_Atomic uint16_t *)p, v);
}

void frontend_start_queue(struct frontend *f, unsigned index, uint16_t base)
{
	struct frontend_queue *q = &f->queues[index];
	const struct vhost_vring_state num = {index, q->size};
	const struct vhost_vring_state start = {index, base};
	const struct vhost_vring_state on = {index, 1};
	const uint64_t number = index;
	const struct vhost_vring_addr addr = {
		.index = index,
		.descriptors = frontend_user_address(q->base),
		.available = frontend_user_address(q->base + AVAILABLE_OFFSET),
		.used = frontend_user_address(q->base + USED_OFFSET),
	};

	frontend_send(f, VHOST_SET_VRING_NUM, 0, &num, sizeof(num), NULL, 0);
	frontend_send(f, VHOST_SET_VRING_BASE, 0, &start, sizeof(start), NULL, 0);
	frontend_send(f, VHOST_SET_VRING_ADDR, 0, &addr, sizeof(addr), NULL, 0);
	frontend_send(f, VHOST_SET_VRING_CALL, 0, &number, sizeof(number), &q->call, 1);
	frontend_send(f, VHOST_SET_VRING_ERR, 0, &number, sizeof(number), &q->error, 1);
	assert_int_equal(
		frontend_ask(f, VHOST_SET_VRING_KICK, &number, sizeof(number), &q->kick, 1), 0);
	assert_int_equal(frontend_ask(f, VHOST_SET_VRING_ENABLE, &on, sizeof(on), NULL, 0), 0);
}

uint16_t frontend_stop_queue(struct frontend *f, unsigned index)
{
	struct vhost_vring_state state = {index, 0};

	frontend_send(f, VHOST_SET_VRING_ENABLE, 0, &state, sizeof(state), NULL, 0);
	frontend_send(f, VHOST_GET_VRING_BASE, 0, &state, sizeof(state), NULL, 0);
	frontend_receive(f, VHOST_GET_VRING_BASE, &state, sizeof(state));
	assert_int_equal(state.index, index);
	assert_true(state.num <= UINT16_MAX);
	return (uint16_t)state.num;
}

void frontend_forget_queue(struct frontend *f, unsigned index)
{
	struct frontend_queue *q = &f->queues[index];

	memset(frontend_at(f, q->base), 0, 0x10000);
	q->available = 0;
	q->used = 0;
}

void frontend_boot(struct frontend *f)
{
	frontend_negotiate(f, FRONTEND_FEATURES);
	frontend_share_memory(f);
	frontend_start_queue(f, 0, 0);
	frontend_start_queue(f, 1, 0);
	assert_int_equal(frontend_init(f), 0);
}

/* ---- Rings ---- */

uint64_t frontend_alloc(struct frontend *f, size_t size)
{
	if (f->next + size > BUFFERS_END) {
		f->next = BUFFERS;
	}
	uint64_t address = FRONTEND_BASE + f->next;

	f->next += round_up(size, 64);
	return address;
}

void frontend_put_descriptor(struct frontend *f, uint64_t table, unsigned index,
			     struct frontend_descriptor d)
{
	const struct vring_desc desc = {
		.addr = d.address, .len = d.len, .flags = d.flags, .next = d.next};

	memcpy(frontend_at(f, table + index * sizeof(desc)), &desc, sizeof(desc));
}

void frontend_offer_quietly(struct frontend *f, unsigned queue, uint16_t head)
{
	struct frontend_queue *q = &f->queues[queue];

	store(available_at(f, queue, 4 + 2 * (q->available % q->size)), head);
	q->available++;
	store(available_at(f, queue, 2), q->available);
}

void frontend_kick(struct frontend *f, unsigned queue)
{
	assert_int_equal(eventfd_write(f->queues[queue].kick, 1), 0);
}

/* As a driver does it: a kick too few would hang, and a kick too many is not made. */
void frontend_offer(struct frontend *f, unsigned queue, uint16_t head)
{
	const struct frontend_queue *q = &f->queues[queue];

	frontend_offer_quietly(f, queue, head);
	atomic_thread_fence(memory_order_seq_cst);
	uint16_t event = load(used_at(f, queue, 4 + 8 * (size_t)q->size));
	bool wanted =
		f->features & VIRTIO_F_RING_EVENT_IDX
			? vring_need_event(event, q->available, (uint16_t)(q->available - 1))
			: !(load(used_at(f, queue, 0)) & VRING_USED_F_NO_NOTIFY);

	if (wanted) {
		frontend_kick(f, queue);
	}
}

static bool take_used(struct frontend *f, unsigned queue, uint16_t *head, uint32_t *written)
{
	struct frontend_queue *q = &f->queues[queue];
	struct vring_used_elem e;

	if (load(used_at(f, queue, 2)) == q->used) {
		return false;
	}
	memcpy(&e, used_at(f, queue, 4 + 8 * (size_t)(q->used % q->size)), sizeof(e));
	q->used++;
	*head = (uint16_t)e.id;
	*written = e.len;
	return true;
}

uint16_t frontend_wait(struct frontend *f, unsigned queue, uint32_t *written)
{
	struct frontend_queue *q = &f->queues[queue];
	eventfd_t count;
	uint16_t head;

	while (!take_used(f, queue, &head, written)) {
		/* "Call me when this one is used"; and look once more. */
		store(available_at(f, queue, 4 + 2 * (size_t)q->size), q->used);
		atomic_thread_fence(memory_order_seq_cst);
		if (load(used_at(f, queue, 2)) == q->used) {
			wait_readable(q->call);
			(void)eventfd_read(q->call, &count);
		}
	}
	return head;
}

bool frontend_nothing_used(struct frontend *f, unsigned queue)
{
	/* Between two messages it looks into all rings. */
	frontend_get(f, VHOST_GET_FEATURES);
	frontend_get(f, VHOST_GET_FEATURES);
	return load(used_at(f, queue, 2)) == f->queues[queue].used;
}

/* ---- Requests ---- */

/* What is under way, by tag; tests run one front end per thread. */
struct under_way {
	struct frontend_descriptor room[300];
	unsigned pieces;
	uint64_t unique;
};

static _Thread_local struct under_way under_way[FRONTEND_QUEUE_SIZE / STRIDE];

/* Cuts the room for a reply as the shape wants it. */
static void make_room(struct frontend *f, struct under_way *u, unsigned tag,
		      enum frontend_shape shape, size_t room)
{
	size_t head = MIN(room, sizeof(struct fuse_out_header));
	size_t piece = shape == SHAPE_SCATTERED ? PIECE : room;
	uint64_t border = FRONTEND_BASE + FRONTEND_REGION_SIZE;

	u->pieces = 0;
	for (size_t at = 0; at < room;) {
		size_t n = at == 0 ? head : MIN(piece, room - at);
		struct frontend_descriptor *d = &u->room[u->pieces];

		assert_true(u->pieces < ARRAY_SIZE(u->room));
		*d = (struct frontend_descriptor){.len = (uint32_t)n,
						  .flags = VRING_DESC_F_WRITE};
		if (shape == SHAPE_SCATTERED && u->pieces % 2 == 0) {
			d->address = SCATTER_BASE + tag * 0x80000u + u->pieces * 2 * PIECE;
		} else if (shape == SHAPE_ACROSS && at > 0) {
			d->address = border - n / 2;
		} else {
			d->address = frontend_alloc(f, n);
		}
		memset(frontend_at(f, d->address), 0x5a, 1);
		u->pieces++;
		at += n;
	}
}

/* Writes all descriptors of a chain into one table, or the first one into the queue's. */
static void put_chain(struct frontend *f, unsigned queue, unsigned tag,
		      enum frontend_shape shape, const struct frontend_descriptor *d,
		      unsigned count)
{
	uint64_t direct = f->queues[queue].base;
	unsigned slot = tag * f->stride;
	uint64_t table = direct;
	unsigned first = slot;

	if (shape == SHAPE_INDIRECT || shape == SHAPE_SCATTERED || shape == SHAPE_MIXED) {
		unsigned before = shape == SHAPE_MIXED;

		table = frontend_alloc(f, (size_t)count * 16);
		first = 0;
		if (before) {
			struct frontend_descriptor one = d[0];

			one.flags |= VRING_DESC_F_NEXT;
			one.next = (uint16_t)(slot + 1);
			frontend_put_descriptor(f, direct, slot, one);
			d++;
			count--;
		}
		frontend_put_descriptor(
			f, direct, slot + before,
			(struct frontend_descriptor){.address = table,
						     .len = count * 16,
						     .flags = VRING_DESC_F_INDIRECT});
	}
	for (unsigned i = 0; i < count; i++) {
		struct frontend_descriptor one = d[i];

		if (i + 1 < count) {
			one.flags |= VRING_DESC_F_NEXT;
			one.next = (uint16_t)(first + i + 1);
		}
		frontend_put_descriptor(f, table, first + i, one);
	}
}

void frontend_request(struct frontend *f, unsigned queue, unsigned tag,
		      enum frontend_shape shape, uint32_t opcode, uint64_t nodeid,
		      const void *arg, size_t len, size_t room)
{
	struct under_way *u = &under_way[tag];
	const struct fuse_in_header header = {.len = (uint32_t)(sizeof(header) + len),
					      .opcode = opcode,
					      .unique = ++f->unique,
					      .nodeid = nodeid};
	struct frontend_descriptor all[ARRAY_SIZE(u->room) + 2];
	unsigned count = 0;

	u->unique = header.unique;
	make_room(f, u, tag, shape, room);
	all[count++] = (struct frontend_descriptor){
		.address = frontend_alloc(f, sizeof(header)), .len = sizeof(header)};
	memcpy(frontend_at(f, all[0].address), &header, sizeof(header));
	if (len > 0) {
		all[count] = (struct frontend_descriptor){.address = frontend_alloc(f, len),
							  .len = (uint32_t)len};
		memcpy(frontend_at(f, all[count].address), arg, len);
		count++;
	}
	memcpy(all + count, u->room, u->pieces * sizeof(all[0]));
	put_chain(f, queue, tag, shape, all, count + u->pieces);
	frontend_offer(f, queue, (uint16_t)(tag * f->stride));
}

/* Byte by byte: pieces may lie across the border of the regions. */
static void gather(struct frontend *f, const struct under_way *u, size_t len, uint8_t *out)
{
	for (unsigned i = 0; i < u->pieces && len > 0; i++) {
		size_t n = MIN(len, u->room[i].len);

		for (size_t j = 0; j < n; j++) {
			*out++ = *(uint8_t *)frontend_at(f, u->room[i].address + j);
		}
		len -= n;
	}
	assert_int_equal(len, 0);
}

unsigned frontend_finish(struct frontend *f, unsigned queue, struct frontend_reply *out)
{
	struct fuse_out_header header;
	uint8_t *bytes = xmalloc(sizeof(header) + FS_DATA_MAX);
	uint32_t written;
	uint16_t head = frontend_wait(f, queue, &written);
	unsigned tag = head / f->stride;

	assert_int_equal(head % f->stride, 0);
	assert_true(tag < ARRAY_SIZE(under_way));
	out->error = 1;
	out->len = 0;
	if (written > 0) {
		assert_in_range(written, sizeof(header), sizeof(header) + FS_DATA_MAX);
		gather(f, &under_way[tag], written, bytes);
		memcpy(&header, bytes, sizeof(header));
		assert_int_equal(header.unique, under_way[tag].unique);
		assert_int_equal(header.len, written);
		out->error = header.error;
		out->len = written - sizeof(header);
		memcpy(out->data, bytes + sizeof(header), out->len);
	}
	free(bytes);
	return tag;
}

int frontend_call(struct frontend *f, enum frontend_shape shape, uint32_t opcode,
		  uint64_t nodeid, const void *arg, size_t len, size_t room,
		  struct frontend_reply *out)
{
	frontend_request(f, 1, 0, shape, opcode, nodeid, arg, len,
			 sizeof(struct fuse_out_header) + room);
	assert_int_equal(frontend_finish(f, 1, out), 0);
	return out->error;
}

int frontend_init(struct frontend *f)
{
	const struct fuse_init_in in = {
		.major = 7, .minor = 38, .max_readahead = 131072, .flags = FUSE_INIT_EXT};
	struct frontend_reply *reply = xmalloc(sizeof(*reply));
	int rc = frontend_call(f, SHAPE_INDIRECT, FUSE_INIT, 0, &in, sizeof(in),
			       sizeof(struct fuse_init_out), reply);

	free(reply);
	return rc;
}

uint64_t frontend_walk(struct frontend *f, const char *path)
{
	struct frontend_reply *reply = xmalloc(sizeof(*reply));
	struct fuse_entry_out e = {.nodeid = FUSE_ROOT_ID};
	char name[256];

	while (*path && e.nodeid) {
		size_t len = strcspn(path, "/");

		assert_true(len < sizeof(name));
		memcpy(name, path, len);
		name[len] = '\0';
		int rc = frontend_call(f, SHAPE_INDIRECT, FUSE_LOOKUP, e.nodeid, name, len + 1,
				       sizeof(e), reply);

		e.nodeid = 0;
		if (rc == 0) {
			assert_int_equal(reply->len, sizeof(e));
			memcpy(&e, reply->data, sizeof(e));
		}
		path += len + (path[len] == '/');
	}
	free(reply);
	return e.nodeid;
}

int frontend_getattr(struct frontend *f, uint64_t nodeid)
{
	const struct fuse_getattr_in in = {.getattr_flags = 0};
	struct frontend_reply *reply = xmalloc(sizeof(*reply));
	int rc = frontend_call(f, SHAPE_INDIRECT, FUSE_GETATTR, nodeid, &in, sizeof(in),
			       sizeof(struct fuse_attr_out), reply);

	free(reply);
	return rc;
}

int frontend_read(struct frontend *f, enum frontend_shape shape, uint64_t nodeid,
		  uint64_t offset, uint32_t size, struct frontend_reply *out)
{
	const struct fuse_read_in in = {.offset = offset, .size = size};

	return frontend_call(f, shape, FUSE_READ, nodeid, &in, sizeof(in), size, out);
}
