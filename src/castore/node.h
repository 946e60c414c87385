#pragma once

/* What a name can stand for: a directory, a file or a symlink (protobuf message Node). */

#include "castore/digest.h"

#define NODE_NAME_MAX 255
#define NODE_TARGET_MAX 4095

enum node_kind { NODE_DIRECTORY = 1, NODE_FILE = 2, NODE_SYMLINK = 3 };

struct node {
	enum node_kind kind;
	bool executable;      /* files */
	struct digest digest; /* directories and files */
	uint64_t size;        /* directories: see directory_size(); files: bytes of the blob */
	struct bytes target;  /* symlinks: 1 to NODE_TARGET_MAX bytes without NUL; borrowed */
};

/* "directory", "file" or "symlink". */
const char *node_kind_name(enum node_kind kind);

/* Equal in everything but the name they stand under. */
bool node_equal(const struct node *a, const struct node *b);

/* 1 to 255 bytes, not "." or "..", no '/', no NUL. */
bool node_name_valid(struct bytes name);
bool node_target_valid(struct bytes target);
/* Checks a name as node_name_valid does and says what is wrong with it. */
int node_name_check(struct bytes name, struct error *err);

/*
 * Message Node, a oneof of DirectoryNode = 1, FileNode = 2, SymlinkNode = 3, canonical: fields
 * in number order, proto3 defaults omitted. The name may be empty (a Node that is not in a
 * list).
 */
void node_encode(struct buffer *out, struct bytes name, const struct node *node);
/*
 * Strict decoding: only what node_encode writes. Name and target borrow from encoding. An empty
 * name is allowed, any other must be valid. ERROR_INVALID otherwise.
 */
int node_decode(struct bytes encoding, struct bytes *name, struct node *node,
		struct error *err);
