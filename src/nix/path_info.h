#pragma once

/*
 * PathInfo: what a store knows of a store path. Message PathInfo of tvix.store.v1 (and of
 * snix.store.v1): {node = 1, references = 2 (20 bytes each), narinfo = 3 {nar_size = 1,
 * nar_sha256 = 2, signatures = 3 {name = 1, data = 2}, reference_names = 4, deriver = 5 {name =
 * 1, digest = 2}, ca = 6 {type = 1, digest = 2}}}. The node's name is the path's basename;
 * references and reference_names agree one by one; the deriver's name is without ".drv".
 */

#include "castore/node.h"
#include "nix/store_path.h"
#include "services/root_nodes.h"

#define PATH_INFO_REFERENCES_MAX ((size_t)1 << 16)
#define PATH_INFO_SIGNATURES_MAX ((size_t)1 << 8)
#define PATH_INFO_MESSAGE_MAX ((size_t)32 << 20)

#define SIGNATURE_SIZE 64
#define SIGNATURE_NAME_MAX 255

struct path_signature {
	char *name; /* of the key: 1 to 255 printable characters, no ':' and no space */
	uint8_t data[SIGNATURE_SIZE];
};

/* A value; zeroed is empty. It owns what it points to. */
struct path_info {
	struct root_node node;
	uint64_t nar_size;             /* never 0 */
	struct store_path *references; /* in the order of store_path_compare, unique */
	size_t reference_count;
	struct path_signature *signatures; /* no two are equal, though they may share a name */
	size_t signature_count;
	struct content_address ca; /* if has_ca */
	struct store_path path;
	uint8_t nar_sha256[SHA256_SIZE];
	struct store_path deriver; /* the name without ".drv", and short enough for it */
	bool has_deriver;
	bool has_ca;
};

void path_info_done(struct path_info *info);
/* out is zeroed or holds an earlier one. */
void path_info_copy(struct path_info *out, const struct path_info *info);

/* Copies references in any order. ERROR_INVALID when one is there twice, ERROR_LIMIT. */
int path_info_set_references(struct path_info *info, const struct store_path *references,
			     size_t count, struct error *err);
/* `path` is that of the derivation, so its name ends in ".drv": ERROR_INVALID otherwise. */
int path_info_set_deriver(struct path_info *info, const struct store_path *path,
			  struct error *err);
/* The path of the derivation, with ".drv". Only when has_deriver. */
void path_info_deriver_path(const struct path_info *info, struct store_path *out);

/*
 * Askers: 0 when nothing changed, since the same signature is there. keep adds one more, add
 * also drops what else is there of the same name. ERROR_INVALID for the name of a key that
 * cannot be, ERROR_LIMIT.
 */
int path_info_keep_signature(struct path_info *info, struct bytes key_name,
			     const uint8_t data[SIGNATURE_SIZE], struct error *err);
int path_info_add_signature(struct path_info *info, struct bytes key_name,
			    const uint8_t data[SIGNATURE_SIZE], struct error *err);
/* ERROR_INVALID unless it can be the name of a key. */
int signature_check_name(struct bytes key_name, struct error *err);

/* What is signed: 1;<path>;sha256:<nixbase32>;<NAR size>;<paths of references, comma-joined>.
 */
void path_info_fingerprint(const struct path_info *info, struct buffer *out);
/* True when it has a content address and its path is what follows from that: it needs no
 * signature. */
bool path_info_content_addressed(const struct path_info *info);

/* Appends the message. */
void path_info_encode(struct buffer *out, const struct path_info *info);
/*
 * Strict: only what path_info_encode writes, but for the order of references, and every rule
 * above. ERROR_INVALID otherwise, saying which; ERROR_LIMIT. out is zeroed or holds an earlier
 * one.
 */
int path_info_decode(struct bytes message, struct path_info *out, struct error *err);
/*
 * For messages from peers: any encoding of the message, and fields that are not known are left
 * out. The same rules for what it says.
 */
int path_info_normalize(struct bytes message, struct path_info *out, struct error *err);
