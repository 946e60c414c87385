#pragma once

/*
 * Directories: immutable, reference-counted, held as their canonical encoding plus four bytes
 * an entry, so that a directory of a million entries costs little more than its names and
 * digests.
 *
 * Encoding: protobuf message Directory { directories = 1 {name = 1, digest = 2, size = 3},
 * files = 2 {name = 1, digest = 2, size = 3, executable = 4}, symlinks = 3 {name = 1,
 * target = 2} }, fields in number order, proto3 defaults omitted, each list sorted by name
 * bytes. Its BLAKE3 is the directory's digest. Valid: names valid (node.h) and unique across
 * the lists, digests 32 bytes, targets valid, the size sum fits 64 bits.
 *
 * Any thread may read any directory; references are counted atomically.
 */

#include "castore/node.h"

#define DIRECTORY_ENTRIES_MAX ((size_t)1 << 24)
#define DIRECTORY_ENCODING_MAX ((size_t)1 << 30)

struct directory;

struct directory_entry {
	struct bytes name; /* borrowed from the directory, as is node.target */
	struct node node;
};

/*
 * Decodes strictly: the bytes must be exactly the canonical encoding of a valid directory, else
 * ERROR_INVALID saying what is wrong. Copies the encoding.
 */
int directory_decode(struct bytes encoding, struct directory **out, struct error *err);
/*
 * The same without copying: takes over a malloc'd buffer, which becomes the directory's on
 * success and is freed on failure.
 */
int directory_decode_owned(uint8_t *encoding, size_t len, struct directory **out,
			   struct error *err);
/*
 * For messages from peers: accepts any protobuf encoding of a valid directory (fields in any
 * order, explicit defaults, long varints; the last of a repeated scalar counts), and makes it
 * canonical. Refused: unknown fields (their loss would change the digest), lists out of order,
 * all that makes a directory invalid.
 */
int directory_normalize(struct bytes message, struct directory **out, struct error *err);

struct directory *directory_ref(struct directory *d);
void directory_unref(struct directory *d);
DEFINE_CLEANUP(cleanup_directory, struct directory *, directory_unref)

struct bytes directory_encoding(const struct directory *d);
/* Computed at decoding. */
const struct digest *directory_digest(const struct directory *d);

/* Number of entries. */
size_t directory_count(const struct directory *d);
/* Number of entries plus the sizes of the child directories: `size` in the node above it. */
uint64_t directory_size(const struct directory *d);
/* The node for a directory: kind, digest and size. */
struct node directory_node(const struct directory *d);
/*
 * The same with the size as Tvix (2024) and snix (2025) count, each entry twice. They refuse a
 * Directory whose entries for others have sizes that are not counted so.
 */
struct node directory_node_counted_twice(const struct directory *d);

/* Entry number i < count, in order of name bytes over all kinds together. */
void directory_entry(const struct directory *d, size_t i, struct directory_entry *out);
/* The name alone, cheaper. */
struct bytes directory_entry_name(const struct directory *d, size_t i);
/* Index of a name, O(log n); -1 when absent. */
ssize_t directory_find(const struct directory *d, struct bytes name);

/* Bytes of memory held, for accounting. */
size_t directory_memory(const struct directory *d);

/*
 * Builds a directory from entries in any order. Adding copies. Checks each entry as it comes
 * (ERROR_INVALID); finish checks that names are unique and sizes fit.
 */
struct directory_builder;

struct directory_builder *directory_builder_new(void);
void directory_builder_free(struct directory_builder *b);
DEFINE_CLEANUP(cleanup_directory_builder, struct directory_builder *, directory_builder_free)
int directory_builder_add(struct directory_builder *b, struct bytes name,
			  const struct node *node, struct error *err);
/* Makes the directory; the builder is empty again afterwards, also on failure. */
int directory_builder_finish(struct directory_builder *b, struct directory **out,
			     struct error *err);
