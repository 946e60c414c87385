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
	[FUSE_FLUSH] = "FLUSH",
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

/* "NAME COUNT", all of it or nothing. */
static void append(char out[FS_REQUESTS_TEXT_SIZE], size_t *len, const char *separator,
		   const char *name, uint64_t count)
{
	size_t room = FS_REQUESTS_TEXT_SIZE - *len;
	int n = snprintf(out + *len, room, "%s%s %llu", separator, name,
			 (unsigned long long)count);

	if (n >= 0 && (size_t)n < room) {
		*len += (size_t)n;
	}
	out[*len] = '\0';
}

const char *fs_describe_requests(const struct fs *fs, char out[FS_REQUESTS_TEXT_SIZE])
{
	uint64_t counts[FS_OPCODES], total = 0;
	const char *separator = ": ";
	char number[16];

	for (size_t i = 0; i < FS_OPCODES; i++) {
		counts[i] = atomic_load_explicit(&fs->requests[i], memory_order_relaxed);
		total += counts[i];
	}
	size_t len = (size_t)snprintf(out, FS_REQUESTS_TEXT_SIZE, "%llu requests",
				      (unsigned long long)total);

	for (size_t i = 0; i < FS_OPCODES; i++) {
		if (counts[i]) {
			/* Without a name: ways to write, and what else is refused. */
			snprintf(number, sizeof(number), "#%zu", i);
			append(out, &len, separator, names[i] ? names[i] : number, counts[i]);
			separator = ", ";
		}
	}
	return out;
}
