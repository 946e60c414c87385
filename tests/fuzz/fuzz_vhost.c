/*
 * A front end that says anything, with any descriptors, and a guest behind it.
 *
 * Input: a byte, whose lowest bit says that everything is set up properly first; then records
 * of a length byte and that many bytes: request, flags and descriptors (see FDS_*), payload.
 * Two requests are for the target: RAW_BYTES sends its payload as it is, and WRITE_MEMORY puts
 * it into the guest's memory, at the sixteen times the first two bytes. All is written before
 * the first message is looked at, and then the front end goes.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "services/memory.h"
#include "transports/virtiofs/guest.h"
#include "transports/virtiofs/vhost_protocol.h"

#include "fuzz.h"

#define RAW_BYTES 0xff
#define WRITE_MEMORY 0xfe
/* What fits the buffers of a socket, in both directions. */
#define MESSAGES_MAX 100u
#define MEMORY 0x20000u
#define BASE 0x100000u
#define USER 0x7f0000000000ull

/* Bits 4 to 7 of the flags byte: how many descriptors, and of which kind. */
#define FDS_COUNT(flags) (((flags) >> 4) & 3u)
#define FDS_EVENT 0x40u /* eventfds rather than memory */
#define FDS_MANY 0x80u  /* eight more */

struct fuzz {
	int socket;
	int memory_fd;
	int event_fd;
	uint8_t *memory;
	unsigned messages;
};

/* An empty root is enough: requests have their own target. */
static const struct fs_options *the_options(void)
{
	static struct store store;
	static struct fs_options options;

	if (!options.blobs) {
		memory_store_open(&store);
		options = (struct fs_options){.blobs = store.blobs,
					      .directories = store.directories,
					      .roots = store.roots,
					      .list_root = true};
	}
	return &options;
}

static void open_fuzz(struct fuzz *z, int socket)
{
	static int memory_fd = -1;
	static int event_fd;
	static uint8_t *memory;

	if (memory_fd < 0) {
		memory_fd = memfd_create("guest", MFD_CLOEXEC);
		event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		check(memory_fd >= 0 && event_fd >= 0 && ftruncate(memory_fd, MEMORY) == 0);
		memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
		check(memory != MAP_FAILED);
	}
	memset(memory, 0, MEMORY);
	*z = (struct fuzz){.socket = socket,
			   .memory_fd = memory_fd,
			   .event_fd = event_fd,
			   .memory = memory};
}

static void send_message(struct fuzz *z, uint32_t request, uint8_t flags, const void *payload,
			 size_t size)
{
	const struct vhost_header header = {
		.request = request, .flags = flags & 0xf, .size = (uint32_t)size};
	uint8_t bytes[sizeof(header) + 256];
	struct iovec iov = {bytes, sizeof(header) + size};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int) * 16)];
	} control = {.bytes = {0}};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	size_t fds = FDS_COUNT(flags) + (flags & FDS_MANY ? 8 : 0);
	const int fd = flags & FDS_EVENT ? z->event_fd : z->memory_fd;

	check(size <= 256);
	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), payload, size);
	if (request == RAW_BYTES) {
		iov = (struct iovec){bytes + sizeof(header), size};
	}
	if (fds > 0 && iov.iov_len > 0) {
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(fds * sizeof(int));
		for (size_t i = 0; i < fds; i++) {
			memcpy(CMSG_DATA(&control.head) + i * sizeof(fd), &fd, sizeof(fd));
		}
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fds * sizeof(int));
	}
	check(sendmsg(z->socket, &msg, MSG_NOSIGNAL) == (ssize_t)iov.iov_len);
	z->messages++;
}

static void send_number(struct fuzz *z, uint32_t request, uint8_t flags, uint64_t number)
{
	send_message(z, request, VHOST_VERSION | flags, &number, sizeof(number));
}

static void set_up(struct fuzz *z)
{
	const struct vhost_single_region region = {
		.region = {.address = BASE, .size = MEMORY, .user_address = USER}};
	const struct vhost_vring_state num = {1, 16};
	const struct vhost_vring_state on = {1, 1};
	const struct vhost_vring_addr addr = {.index = 1,
					      .descriptors = USER,
					      .available = USER + 0x100,
					      .used = USER + 0x200};

	send_number(z, VHOST_SET_PROTOCOL_FEATURES, 0,
		    VHOST_PROTOCOL_REPLY_ACK | VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS);
	send_number(z, VHOST_SET_FEATURES, 0,
		    VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES |
			    VIRTIO_F_RING_INDIRECT_DESC | VIRTIO_F_RING_EVENT_IDX);
	send_message(z, VHOST_ADD_MEM_REG, VHOST_VERSION | 0x10, &region, sizeof(region));
	send_message(z, VHOST_SET_VRING_NUM, VHOST_VERSION, &num, sizeof(num));
	send_message(z, VHOST_SET_VRING_ADDR, VHOST_VERSION, &addr, sizeof(addr));
	send_number(z, VHOST_SET_VRING_CALL, 0x50, 1);
	send_number(z, VHOST_SET_VRING_KICK, 0x50, 1);
	send_message(z, VHOST_SET_VRING_ENABLE, VHOST_VERSION, &on, sizeof(on));
}

static void write_memory(struct fuzz *z, const uint8_t *bytes, size_t len)
{
	if (len > 2) {
		size_t at = ((size_t)bytes[0] | (size_t)bytes[1] << 8) * 16 % MEMORY;
		size_t n = len - 2 < MEMORY - at ? len - 2 : MEMORY - at;

		memcpy(z->memory + at, bytes + 2, n);
	}
}

static void take_record(struct fuzz *z, const uint8_t *record, size_t len)
{
	if (record[0] == WRITE_MEMORY) {
		write_memory(z, record + 2, len - 2);
	} else {
		send_message(z, record[0], record[1], record + 2, len - 2);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct guest_options options = {.fs = the_options(), .threads = 1, .number = 1};
	struct guest *g;
	struct fuzz z;
	int pair[2];

	if (size == 0) {
		return 0;
	}
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	open_fuzz(&z, pair[0]);
	if (data[0] & 1) {
		set_up(&z);
	}
	for (size_t at = 1; at < size && z.messages < MESSAGES_MAX;) {
		size_t len = data[at++];

		if (len < 2 || len > size - at) {
			break;
		}
		take_record(&z, data + at, len);
		at += len;
	}
	shutdown(pair[0], SHUT_WR);
	check(guest_new(pair[1], &options, &g, NULL) == 0);
	struct error err;
	int rc = guest_run(g, &err);

	check(rc == 0 || (rc < 0 && told(&err)));
	guest_free(g);
	close(pair[0]);
	return 0;
}
