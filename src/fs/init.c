#include "fs/fs_internal.h"

#define READ_PAGES (FS_DATA_MAX / 4096)

/*
 * What we ask of the kernel, as far as it offers it. Left out on purpose: WRITEBACK_CACHE,
 * HANDLE_KILLPRIV, POSIX_ACL and locks (nothing is written), AUTO_INVAL_DATA (nothing changes
 * but, for some, the root), SPLICE_* (no gain, and a whole reply does not fit a pipe),
 * READDIRPLUS_AUTO (guesses wrong for walks, which are the common case).
 */
static const uint64_t wanted_flags =
	FUSE_ASYNC_READ |          /* readahead in parallel */
	FUSE_ASYNC_DIO |           /* direct reads in parallel */
	FUSE_PARALLEL_DIROPS |     /* lookups in one directory in parallel */
	FUSE_DO_READDIRPLUS |      /* attributes with every listing: no LOOKUP per entry */
	FUSE_NO_OPEN_SUPPORT |     /* ENOSYS to OPEN ends OPEN and RELEASE for good */
	FUSE_NO_OPENDIR_SUPPORT |  /* the same for directories */
	FUSE_EXPLICIT_INVAL_DATA | /* pages stay until we say otherwise, that is, for ever */
	FUSE_MAX_PAGES |           /* reads of 1 MiB rather than 128 KiB */
	FUSE_CACHE_SYMLINKS |      /* targets stay in the page cache */
	FUSE_INIT_EXT |            /* the second word of flags counts */
	FUSE_HAS_RESEND;           /* requests that a dead server had read come again */

/*
 * Passthrough needs an OPEN to name the file in, so it excludes doing without: the kernel would
 * never open anything again.
 */
static uint64_t choose_flags(const struct fs *fs, uint64_t offered)
{
	if (fs->backings && (offered & FUSE_PASSTHROUGH)) {
		return (offered & wanted_flags & ~(uint64_t)FUSE_NO_OPEN_SUPPORT) |
		       FUSE_PASSTHROUGH;
	}
	return offered & wanted_flags;
}

/*
 * Without OPENDIR it cannot be refused, and the kernel caches every listing. The root's must
 * not stay cached when the root may grow: a transport that can tells the kernel to drop it. For
 * the others the kernel is asked to look at a directory's time before it uses a cached listing,
 * and the root's time is another one with every second.
 */
static bool may_do_without_opendir(const struct request *r, uint64_t offered)
{
	return (offered & FUSE_NO_OPENDIR_SUPPORT) && r->fs->list_root &&
	       (!r->fs->roots_may_grow || (r->flags & FS_CAN_INVALIDATE) ||
		(offered & FUSE_AUTO_INVAL_DATA));
}

static bool root_is_dated(const struct request *r, uint64_t offered)
{
	return may_do_without_opendir(r, offered) && r->fs->roots_may_grow &&
	       !(r->flags & FS_CAN_INVALIDATE);
}

static void session_begin(struct request *r, uint64_t offered, uint64_t flags)
{
	struct fs *fs = r->fs;

	fs_reset(fs);
	atomic_store(&fs->passthrough, (flags & FUSE_PASSTHROUGH) != 0);
	atomic_store(&fs->no_open, (flags & FUSE_NO_OPEN_SUPPORT) != 0);
	atomic_store(&fs->no_opendir, may_do_without_opendir(r, offered));
	atomic_store(&fs->root_is_dated, root_is_dated(r, offered));
	atomic_store(&fs->session, true);
}

static void session_answer(struct request *r, const struct fuse_init_in *in)
{
	uint64_t offered = in->flags;

	if (in->flags & FUSE_INIT_EXT) {
		offered |= (uint64_t)in->flags2 << 32;
	}
	uint64_t flags = choose_flags(r->fs, offered) |
			 (root_is_dated(r, offered) ? FUSE_AUTO_INVAL_DATA : 0);
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = MIN(in->minor, (uint32_t)FUSE_MINOR_SPOKEN),
		.max_readahead = in->max_readahead,
		.flags = (uint32_t)flags,
		.flags2 = (uint32_t)(flags >> 32),
		/*
		 * Readahead of many files at once, where blobs come from far away; and when a
		 * peer is silent, what waits for it must not use up the places of the rest.
		 */
		.max_background = 1024,
		.congestion_threshold = 768,
		/* The least there is: writes are refused, and requests stay small. */
		.max_write = 4096,
		.max_pages = READ_PAGES,
		.time_gran = 1,
	};

	if (flags & FUSE_PASSTHROUGH) {
		/* Plain files only; and an overlay may still be mounted above this file system.
		 */
		fuse_init_out_set_stack_depth(&out, 1);
	}
	session_begin(r, offered, flags);
	negotiation_note(r->fs, in->minor, offered, flags);
	session_keep(r->fs);
	request_reply(r, &out, sizeof(out));
}

int handle_init(struct request *r)
{
	struct fuse_init_in in = {.major = 0};

	/* Older kernels send less of the structure. */
	memcpy(&in, r->arg.ptr, MIN(r->arg.len, sizeof(in)));
	if (in.major > FUSE_KERNEL_VERSION) {
		/* The kernel sends another INIT with the version that we name. */
		const struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
						  .minor = FUSE_MINOR_SPOKEN};

		fs_reset(r->fs);
		request_reply(r, &out, sizeof(out));
		return 0;
	}
	if (in.major < FUSE_KERNEL_VERSION || in.minor < FUSE_MINOR_MIN) {
		fs_complain(r->fs, &digest_empty,
			    "the kernel speaks FUSE %u.%u, at least %u.%u is needed", in.major,
			    in.minor, FUSE_KERNEL_VERSION, FUSE_MINOR_MIN);
		return EPROTO;
	}
	session_answer(r, &in);
	return 0;
}

void fs_adopt(struct fs *fs)
{
	if (atomic_load(&fs->session)) {
		return;
	}
	/* What was agreed on there is not known; these answers are right in any case. */
	atomic_store(&fs->passthrough, false);
	atomic_store(&fs->no_open, false);
	atomic_store(&fs->no_opendir, false);
	atomic_store(&fs->root_is_dated, true);
	atomic_store(&fs->session, true);
}

int handle_destroy(struct request *r)
{
	fs_reset(r->fs);
	return 0;
}
