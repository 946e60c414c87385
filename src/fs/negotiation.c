#include <stdio.h>

#include "fs/fs_internal.h"

/* What a session may have, and what is without it. */
struct feature {
	uint64_t flag;
	const char *name;
	const char
		*since; /* the first Linux with it, if that is later than the oldest we take */
	const char *with;
	const char *without;
};

static const struct feature features[] = {
	{FUSE_INIT_EXT, "INIT_EXT", "5.17", "newer features can be agreed on",
	 "none of the newer features"},
	{FUSE_DO_READDIRPLUS, "DO_READDIRPLUS", NULL, "listings bring attributes along",
	 "a walk costs a LOOKUP for each entry"},
	{FUSE_NO_OPENDIR_SUPPORT, "NO_OPENDIR_SUPPORT", NULL,
	 "directories are opened without a request, and listings stay cached",
	 "each opening of a directory costs two requests"},
	{FUSE_NO_OPEN_SUPPORT, "NO_OPEN_SUPPORT", NULL, "files are opened without a request",
	 "each opening of a file costs two requests"},
	{FUSE_PASSTHROUGH, "PASSTHROUGH", "6.9", "the kernel reads large files by itself",
	 "large files are read through this program"},
	{FUSE_EXPLICIT_INVAL_DATA, "EXPLICIT_INVAL_DATA", NULL, "contents stay cached",
	 "contents stay cached as long as times and sizes stay, which is for ever"},
	{FUSE_MAX_PAGES, "MAX_PAGES", NULL, "up to 1 MiB is asked for at once",
	 "at most 128 KiB is asked for at once"},
	{FUSE_ASYNC_READ, "ASYNC_READ", NULL, "several parts of a file are asked for at once",
	 "a file is asked for part after part"},
	{FUSE_ASYNC_DIO, "ASYNC_DIO", NULL, "the same for direct reads",
	 "direct reads are asked for part after part"},
	{FUSE_PARALLEL_DIROPS, "PARALLEL_DIROPS", NULL,
	 "names are looked up in one directory by several processes at once",
	 "names are looked up in one directory one after another"},
	{FUSE_CACHE_SYMLINKS, "CACHE_SYMLINKS", NULL, "targets of symlinks stay cached",
	 "each use of a symlink costs a request"},
	{FUSE_HAS_RESEND, "HAS_RESEND", "6.9",
	 "another server can take over the requests of one that died",
	 "requests that a dying server had taken are lost"},
	{FUSE_AUTO_INVAL_DATA, "AUTO_INVAL_DATA", NULL,
	 "the kernel notices when the root has more names", NULL},
};

void negotiation_note(struct fs *fs, uint32_t minor, uint64_t offered, uint64_t agreed)
{
	atomic_store(&fs->kernel_minor, minor);
	atomic_store(&fs->offered, offered);
	atomic_store(&fs->agreed, agreed);
}

/* Why something that is offered is not used; NULL: it has no use here. */
static const char *why_unused(const struct fs *fs, uint64_t flag)
{
	switch (flag) {
	case FUSE_NO_OPEN_SUPPORT:
		return "what is passed through has to be opened";
	case FUSE_PASSTHROUGH:
		return fs->backings ? NULL : "--io or a lack of privileges rules it out";
	case FUSE_NO_OPENDIR_SUPPORT:
		return fs->list_root ? "the listing of the root must not stay cached"
				     : "the root must not be listed";
	default:
		return NULL;
	}
}

static bool is_used(const struct fs *fs, uint64_t flag)
{
	if (flag == FUSE_NO_OPENDIR_SUPPORT) {
		/* Agreed on in any case, but an OPENDIR that is answered ends it. */
		return atomic_load(&fs->no_opendir);
	}
	return (atomic_load(&fs->agreed) & flag) != 0;
}

/* False when there is nothing to say. */
static bool describe(const struct fs *fs, const struct feature *f, char *out, size_t size)
{
	const char *why = why_unused(fs, f->flag);

	if (is_used(fs, f->flag)) {
		snprintf(out, size, "%s: %s", f->name, f->with);
		return true;
	}
	if (!f->without) {
		return false;
	}
	if (!(atomic_load(&fs->offered) & f->flag)) {
		snprintf(out, size, "no %s, which %s%s: %s", f->name,
			 f->since ? "comes with Linux " : "this kernel does not offer",
			 f->since ? f->since : "", f->without);
	} else if (why) {
		snprintf(out, size, "no %s, because %s: %s", f->name, why, f->without);
	} else {
		return false;
	}
	return true;
}

void fs_describe_session(const struct fs *fs, void (*line)(void *context, const char *text),
			 void *context)
{
	uint32_t minor = atomic_load(&fs->kernel_minor);
	char text[256];

	snprintf(text, sizeof(text), "the kernel speaks FUSE %u.%u; %u.%u is used",
		 FUSE_KERNEL_VERSION, minor, FUSE_KERNEL_VERSION,
		 MIN(minor, (uint32_t)FUSE_MINOR_SPOKEN));
	line(context, text);
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		if (describe(fs, &features[i], text, sizeof(text))) {
			line(context, text);
		}
	}
}
