#pragma once

/*
 * The vhost-user protocol, version 1, as QEMU's docs/interop/vhost-user.rst has it: what a file
 * system needs of it. Numbers are in the byte order of the machine.
 */

#include <stdint.h>

enum vhost_request {
	VHOST_GET_FEATURES = 1,
	VHOST_SET_FEATURES = 2,
	VHOST_SET_OWNER = 3,
	VHOST_RESET_OWNER = 4,
	VHOST_SET_MEM_TABLE = 5,
	VHOST_SET_LOG_BASE = 6,
	VHOST_SET_LOG_FD = 7,
	VHOST_SET_VRING_NUM = 8,
	VHOST_SET_VRING_ADDR = 9,
	VHOST_SET_VRING_BASE = 10,
	VHOST_GET_VRING_BASE = 11,
	VHOST_SET_VRING_KICK = 12,
	VHOST_SET_VRING_CALL = 13,
	VHOST_SET_VRING_ERR = 14,
	VHOST_GET_PROTOCOL_FEATURES = 15,
	VHOST_SET_PROTOCOL_FEATURES = 16,
	VHOST_GET_QUEUE_NUM = 17,
	VHOST_SET_VRING_ENABLE = 18,
	VHOST_SET_BACKEND_REQ_FD = 21,
	VHOST_RESET_DEVICE = 34,
	VHOST_GET_MAX_MEM_SLOTS = 36,
	VHOST_ADD_MEM_REG = 37,
	VHOST_REM_MEM_REG = 38,
	VHOST_SET_DEVICE_STATE_FD = 42,
	VHOST_CHECK_DEVICE_STATE = 43,
	VHOST_REQUEST_COUNT
};

/* Flags of a header. */
#define VHOST_VERSION 1u
#define VHOST_VERSION_MASK 3u
#define VHOST_REPLY 4u
#define VHOST_NEED_REPLY 8u

/* Features: of virtio, and two of vhost-user. */
#define VHOST_F_LOG_ALL (1ULL << 26)
#define VIRTIO_F_RING_INDIRECT_DESC (1ULL << 28)
#define VIRTIO_F_RING_EVENT_IDX (1ULL << 29)
#define VHOST_F_PROTOCOL_FEATURES (1ULL << 30)
#define VIRTIO_F_VERSION_1 (1ULL << 32)

/* Protocol features. */
#define VHOST_PROTOCOL_MQ (1ULL << 0)
#define VHOST_PROTOCOL_LOG_SHMFD (1ULL << 1)
#define VHOST_PROTOCOL_REPLY_ACK (1ULL << 3)
#define VHOST_PROTOCOL_BACKEND_REQ (1ULL << 5)
#define VHOST_PROTOCOL_RESET_DEVICE (1ULL << 13)
#define VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS (1ULL << 15)
#define VHOST_PROTOCOL_DEVICE_STATE (1ULL << 19)

/* Regions in one table, and so descriptors with one message. */
#define VHOST_TABLE_REGIONS_MAX 8u
#define VHOST_FDS_MAX VHOST_TABLE_REGIONS_MAX

struct vhost_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload */
};

struct vhost_vring_state {
	uint32_t index;
	uint32_t num;
};

struct vhost_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t descriptors; /* user addresses */
	uint64_t used;
	uint64_t available;
	uint64_t log; /* guest address of the used ring */
};

/* The number in messages that bring a ring its descriptor. */
#define VHOST_VRING_INDEX_MASK 0xffu
#define VHOST_VRING_NO_FD 0x100u

struct vhost_region {
	uint64_t address;
	uint64_t size;
	uint64_t user_address;
	uint64_t offset;
};

struct vhost_region_table {
	uint32_t count;
	uint32_t padding;
	struct vhost_region regions[VHOST_TABLE_REGIONS_MAX];
};

struct vhost_single_region {
	uint64_t padding;
	struct vhost_region region;
};

struct vhost_log {
	uint64_t size;
	uint64_t offset;
};

struct vhost_transfer {
	uint32_t direction;
	uint32_t phase;
};

#define VHOST_TRANSFER_SAVE 0u
#define VHOST_TRANSFER_LOAD 1u
#define VHOST_TRANSFER_PHASE_STOPPED 0u

/* The answer: no descriptor comes with it, and what is below says whether that is an error. */
#define VHOST_TRANSFER_NO_FD 0x100u

union vhost_payload {
	uint64_t number;
	struct vhost_log log;
	struct vhost_transfer transfer;
	struct vhost_vring_state state;
	struct vhost_vring_addr addr;
	struct vhost_region_table table;
	struct vhost_single_region region;
};
