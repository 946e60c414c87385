#include "fs/attributes.h"

#include <sys/stat.h>

#include "base/endian.h"

/* Kinds of content, so that a file and a directory of one digest differ. */
#define INO_ROOT 1

enum ino_salt { SALT_DIRECTORY = 1, SALT_FILE, SALT_EXECUTABLE, SALT_SYMLINK, SALT_PLACE };

static uint64_t ino_of_digest(const struct digest *d, enum ino_salt salt)
{
	uint64_t ino = (uint64_t)salt * 0x9e3779b97f4a7c15ULL;

	for (size_t i = 0; i < DIGEST_SIZE; i += 8) {
		ino ^= get_le64(d->bytes + i);
	}
	return ino > INO_ROOT ? ino : ino + 1 + INO_ROOT;
}

uint64_t attributes_ino(const struct node *node)
{
	struct digest of_target;

	switch (node->kind) {
	case NODE_DIRECTORY:
		return ino_of_digest(&node->digest, SALT_DIRECTORY);
	case NODE_FILE:
		return ino_of_digest(&node->digest,
				     node->executable ? SALT_EXECUTABLE : SALT_FILE);
	case NODE_SYMLINK:
		digest_of(&of_target, node->target);
		return ino_of_digest(&of_target, SALT_SYMLINK);
	}
	return 0;
}

uint64_t attributes_ino_of_place(uint64_t parent_ino, struct bytes name)
{
	uint8_t place[sizeof(uint64_t) + NODE_NAME_MAX];
	size_t len = name.len < NODE_NAME_MAX ? name.len : NODE_NAME_MAX;
	struct digest d;

	put_le64(place, parent_ino);
	memcpy(place + sizeof(uint64_t), name.ptr, len);
	digest_of(&d, bytes_of(place, sizeof(uint64_t) + len));
	return ino_of_digest(&d, SALT_PLACE);
}

uint32_t attributes_mode(const struct node *node)
{
	switch (node->kind) {
	case NODE_DIRECTORY:
		return S_IFDIR | 0555;
	case NODE_FILE:
		return S_IFREG | (node->executable ? 0555 : 0444);
	case NODE_SYMLINK:
		return S_IFLNK | 0444;
	}
	return 0;
}

/*
 * The C library lists a directory in pieces of this size, and the kernel asks for as much: a
 * large directory takes an eighth of the requests. With a small one the room would cost more
 * than it saves. (size: of all below, but what has many below is rare too.)
 */
#define BLOCK_SIZE 4096
#define LISTING_SIZE ((uint32_t)256 << 10)
#define LARGE_DIRECTORY 1000

static uint32_t preferred_size(const struct node *node)
{
	bool large = node->kind == NODE_DIRECTORY && node->size >= LARGE_DIRECTORY;

	return large ? LISTING_SIZE : BLOCK_SIZE;
}

void attributes_fill(struct fuse_attr *out, const struct node *node, uint64_t ino)
{
	uint64_t size = node->kind == NODE_SYMLINK ? node->target.len : node->size;

	/* The kernel refuses an inode whose size does not fit its signed offsets. */
	size = size < INT64_MAX ? size : INT64_MAX;
	*out = (struct fuse_attr){
		.ino = ino,
		.size = size,
		.mode = attributes_mode(node),
		/* 1 for directories too, as file systems do that do not count: 2 would say
		 * that there are no subdirectories. */
		.nlink = 1,
		.blksize = preferred_size(node),
	};
	if (node->kind == NODE_FILE) {
		out->blocks = size / 512 + (size % 512 != 0);
	}
}
