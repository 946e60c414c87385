#include <stdarg.h>
#include <stdio.h>

#include "fs/fs_internal.h"

static const char *const names[FS_OPCODES] = {
	[0] = "unknown",
	[FUSE_LOOKUP] = "LOOKUP",
	[FUSE_FORGET] = "FORGET",
	[FUSE_GETATTR] = "GETATTR",
	[FUSE_SETATTR] = "SETATTR",
	[FUSE_READLINK] = "READLINK",
	[FUSE_OPEN] = "OPEN",
	[FUSE_READ] = "READ",
	[FUSE_STATFS] = "STATFS",
	[FUSE_RELEASE] = "RELEASE",
	[FUSE_GETXATTR] = "GETXATTR",
	[FUSE_LISTXATTR] = "LISTXATTR",
	[FUSE_INIT] = "INIT",
	[FUSE_OPENDIR] = "OPENDIR",
	[FUSE_READDIR] = "READDIR",
	[FUSE_RELEASEDIR] = "RELEASEDIR",
	[FUSE_INTERRUPT] = "INTERRUPT",
	[FUSE_DESTROY] = "DESTROY",
	[FUSE_BATCH_FORGET] = "BATCH_FORGET",
	[FUSE_READDIRPLUS] = "READDIRPLUS",
};

void request_count(struct fs *fs, uint32_t opcode)
{
	atomic_fetch_add_explicit(&fs->requests[opcode < FS_OPCODES ? opcode : 0], 1,
				  memory_order_relaxed);
}

static void append(char out[FS_REQUESTS_TEXT_SIZE], size_t *len, const char *fmt, ...)
	printf_like(3, 4);

/* All of it or nothing. */
static void append(char out[FS_REQUESTS_TEXT_SIZE], size_t *len, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(out + *len, FS_REQUESTS_TEXT_SIZE - *len, fmt, args);

	va_end(args);
	if (n >= 0 && (size_t)n < FS_REQUESTS_TEXT_SIZE - *len) {
		*len += (size_t)n;
	}
	out[*len] = '\0';
}

const char *fs_describe_requests(const struct fs *fs, char out[FS_REQUESTS_TEXT_SIZE])
{
	uint64_t counts[FS_OPCODES], total = 0;
	const char *separator = ": ";
	size_t len = 0;

	for (size_t i = 0; i < FS_OPCODES; i++) {
		counts[i] = atomic_load_explicit(&fs->requests[i], memory_order_relaxed);
		total += counts[i];
	}
	append(out, &len, "%llu requests", (unsigned long long)total);
	for (size_t i = 0; i < FS_OPCODES; i++) {
		if (!counts[i]) {
			continue;
		}
		if (names[i]) {
			append(out, &len, "%s%s %llu", separator, names[i],
			       (unsigned long long)counts[i]);
		} else {
			/* Ways to write, and what else is refused. */
			append(out, &len, "%s#%zu %llu", separator, i,
			       (unsigned long long)counts[i]);
		}
		separator = ", ";
	}
	return out;
}
