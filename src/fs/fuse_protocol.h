#pragma once

/*
 * The FUSE wire protocol: the kernel's header, and what is newer than the one a distribution
 * ships. Numbers are the kernel's ABI.
 */

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
