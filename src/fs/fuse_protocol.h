#pragma once

/*
 * The FUSE wire protocol: the kernel's header, and what is newer than the one a distribution
 * ships. Numbers are the kernel's ABI.
 */

#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

/* The kernel's header has fields called unused, which is a macro of base/util.h. */
#pragma push_macro("unused")
#undef unused
#include <linux/fuse.h>
#pragma pop_macro("unused")

/* The version spoken here; the kernel takes the smaller minor of the two sides. */
#define FUSE_MINOR_SPOKEN 41
/* Linux 5.4. Older kernels lay out some messages differently. */
#define FUSE_MINOR_MIN 31

#define FUSE_OPCODE_STATX 52

#ifndef FUSE_PASSTHROUGH
#define FUSE_PASSTHROUGH (1ULL << 37)
#endif
#ifndef FUSE_NO_EXPORT_SUPPORT
#define FUSE_NO_EXPORT_SUPPORT (1ULL << 38)
#endif
#ifndef FUSE_HAS_RESEND
#define FUSE_HAS_RESEND (1ULL << 39)
#endif
/* In the unique field of a request that is sent again; the reply repeats it as it came. */
#ifndef FUSE_UNIQUE_RESEND
#define FUSE_UNIQUE_RESEND (1ULL << 63)
#endif

#define FUSE_NOTIFY_CODE_RESEND 7 /* Linux 6.9 */

/* ---- Passthrough, Linux 6.9 ---- */

#ifndef FOPEN_PASSTHROUGH
#define FOPEN_PASSTHROUGH (1u << 7)
struct fuse_backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define FUSE_DEV_IOC_BACKING_OPEN _IOW(229, 1, struct fuse_backing_map)
#define FUSE_DEV_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)
#endif

/* Fields that older headers call padding, but that have the same place. */
static inline void fuse_open_out_set_backing(struct fuse_open_out *out, uint32_t id)
{
	memcpy((uint8_t *)out + offsetof(struct fuse_open_out, open_flags) + sizeof(uint32_t),
	       &id, sizeof(id));
}

static inline void fuse_init_out_set_stack_depth(struct fuse_init_out *out, uint32_t depth)
{
	memcpy((uint8_t *)out + offsetof(struct fuse_init_out, flags2) + sizeof(uint32_t),
	       &depth, sizeof(depth));
}
