/*
 * PathInfo on the wire, through protobuf-c, whose types end here. protobuf-c takes more than
 * one encoding of a message, and a string only up to a NUL in it; so a message counts when
 * packing what was understood gives the same bytes again, and nothing is passed over unseen.
 */

#include <pathinfo.pb-c.h>
#include <stdio.h>

#include "base/arena.h"
#include "nix/path_info.h"

/* What protobuf-c may need for a message that is within the limits, and some more. */
#define DECODE_MEMORY_MAX ((size_t)64 << 20)

/* ca.type: how and with what it hashes. */
static const struct ca_type {
	enum ca_method method;
	enum hash_algorithm algorithm;
} ca_types[] = {
	[TVIX__STORE__V1__NARINFO__CA__HASH__NAR_SHA256] = {CA_NAR, HASH_SHA256},
	[TVIX__STORE__V1__NARINFO__CA__HASH__NAR_SHA1] = {CA_NAR, HASH_SHA1},
	[TVIX__STORE__V1__NARINFO__CA__HASH__NAR_SHA512] = {CA_NAR, HASH_SHA512},
	[TVIX__STORE__V1__NARINFO__CA__HASH__NAR_MD5] = {CA_NAR, HASH_MD5},
	[TVIX__STORE__V1__NARINFO__CA__HASH__TEXT_SHA256] = {CA_TEXT, HASH_SHA256},
	[TVIX__STORE__V1__NARINFO__CA__HASH__FLAT_SHA1] = {CA_FLAT, HASH_SHA1},
	[TVIX__STORE__V1__NARINFO__CA__HASH__FLAT_MD5] = {CA_FLAT, HASH_MD5},
	[TVIX__STORE__V1__NARINFO__CA__HASH__FLAT_SHA256] = {CA_FLAT, HASH_SHA256},
	[TVIX__STORE__V1__NARINFO__CA__HASH__FLAT_SHA512] = {CA_FLAT, HASH_SHA512},
};

static struct bytes bytes_of_data(const ProtobufCBinaryData *d)
{
	return bytes_of(d->data, d->len);
}

/* ---- Encoding ---- */

/* protobuf-c's messages have no const, though packing changes nothing. */
static ProtobufCBinaryData data_of(const void *ptr, size_t len)
{
	return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)ptr};
}

struct node_message {
	Tvix__Castore__V1__Node node;
	Tvix__Castore__V1__DirectoryNode directory;
	Tvix__Castore__V1__FileNode file;
	Tvix__Castore__V1__SymlinkNode symlink;
};

static void fill_node(struct node_message *m, ProtobufCBinaryData name, const struct node *node)
{
	ProtobufCBinaryData digest = data_of(node->digest.bytes, DIGEST_SIZE);

	tvix__castore__v1__node__init(&m->node);
	switch (node->kind) {
	case NODE_DIRECTORY:
		tvix__castore__v1__directory_node__init(&m->directory);
		m->directory.name = name;
		m->directory.digest = digest;
		m->directory.size = node->size;
		m->node.node_case = TVIX__CASTORE__V1__NODE__NODE_DIRECTORY;
		m->node.directory = &m->directory;
		break;
	case NODE_FILE:
		tvix__castore__v1__file_node__init(&m->file);
		m->file.name = name;
		m->file.digest = digest;
		m->file.size = node->size;
		m->file.executable = node->executable;
		m->node.node_case = TVIX__CASTORE__V1__NODE__NODE_FILE;
		m->node.file = &m->file;
		break;
	case NODE_SYMLINK:
		tvix__castore__v1__symlink_node__init(&m->symlink);
		m->symlink.name = name;
		m->symlink.target = data_of(node->target.ptr, node->target.len);
		m->node.node_case = TVIX__CASTORE__V1__NODE__NODE_SYMLINK;
		m->node.symlink = &m->symlink;
		break;
	}
}

static void fill_ca(Tvix__Store__V1__NARInfo__CA *m, const struct content_address *ca)
{
	tvix__store__v1__narinfo__ca__init(m);
	for (size_t i = 0; i < ARRAY_SIZE(ca_types); i++) {
		if (ca_types[i].method == ca->method &&
		    ca_types[i].algorithm == ca->hash.algorithm) {
			m->type = (Tvix__Store__V1__NARInfo__CA__Hash)i;
		}
	}
	m->digest = data_of(ca->hash.bytes, hash_size(ca->hash.algorithm));
}

/* Messages as protobuf-c wants them: arrays of pointers. */
struct lists {
	ProtobufCBinaryData *references;
	char (*basenames)[STORE_PATH_BASENAME_MAX + 1];
	char **names;
	Tvix__Store__V1__NARInfo__Signature *signatures, **signature_list;
};

static void lists_done(struct lists *l)
{
	free(l->references);
	free(l->basenames);
	free(l->names);
	free(l->signatures);
	free(l->signature_list);
}

static void fill_references(struct lists *l, const struct path_info *info)
{
	size_t count = info->reference_count;

	l->references = xcalloc(count, sizeof(*l->references));
	l->basenames = xcalloc(count, sizeof(*l->basenames));
	l->names = xcalloc(count, sizeof(*l->names));
	for (size_t i = 0; i < count; i++) {
		l->references[i] = data_of(info->references[i].hash, STORE_PATH_HASH_SIZE);
		store_path_basename(&info->references[i], l->basenames[i]);
		l->names[i] = l->basenames[i];
	}
}

static void fill_signatures(struct lists *l, const struct path_info *info)
{
	size_t count = info->signature_count;

	l->signatures = xcalloc(count, sizeof(*l->signatures));
	l->signature_list = xcalloc(count, sizeof(*l->signature_list));
	for (size_t i = 0; i < count; i++) {
		tvix__store__v1__narinfo__signature__init(&l->signatures[i]);
		l->signatures[i].name = info->signatures[i].name;
		l->signatures[i].data = data_of(info->signatures[i].data, SIGNATURE_SIZE);
		l->signature_list[i] = &l->signatures[i];
	}
}

void path_info_encode(struct buffer *out, const struct path_info *info)
{
	Tvix__Store__V1__PathInfo m;
	Tvix__Store__V1__NARInfo n;
	Tvix__Store__V1__StorePath deriver;
	Tvix__Store__V1__NARInfo__CA ca;
	char basename[STORE_PATH_BASENAME_MAX + 1], deriver_name[STORE_PATH_NAME_MAX + 1];
	size_t basename_len = store_path_basename(&info->path, basename);
	struct lists lists cleanup(lists_done) = {0};
	struct node_message node;

	tvix__store__v1__path_info__init(&m);
	tvix__store__v1__narinfo__init(&n);
	fill_node(&node, data_of(basename, basename_len), &info->node.node);
	fill_references(&lists, info);
	fill_signatures(&lists, info);
	m.node = &node.node;
	m.n_references = n.n_reference_names = info->reference_count;
	m.references = lists.references;
	m.narinfo = &n;
	n.nar_size = info->nar_size;
	n.nar_sha256 = data_of(info->nar_sha256, SHA256_SIZE);
	n.n_signatures = info->signature_count;
	n.signatures = lists.signature_list;
	n.reference_names = lists.names;
	if (info->has_deriver) {
		memcpy(deriver_name, info->deriver.name, sizeof(deriver_name));
		tvix__store__v1__store_path__init(&deriver);
		deriver.name = deriver_name;
		deriver.digest = data_of(info->deriver.hash, STORE_PATH_HASH_SIZE);
		n.deriver = &deriver;
	}
	if (info->has_ca) {
		fill_ca(&ca, &info->ca);
		n.ca = &ca;
	}
	size_t size = tvix__store__v1__path_info__get_packed_size(&m);

	tvix__store__v1__path_info__pack(&m, buffer_reserve(out, size));
	out->len += size;
}

/* ---- Decoding: the message ---- */

struct bounded {
	ProtobufCAllocator allocator;
	struct arena arena;
	bool full;
};

static void *bounded_alloc(void *data, size_t size)
{
	struct bounded *b = data;
	void *p = arena_alloc(&b->arena, size);

	b->full = b->full || !p;
	return p;
}

/* All is given back at once. */
static void bounded_free(unused void *data, unused void *p)
{
}

static void bounded_done(struct bounded *b)
{
	arena_done(&b->arena);
}

/* A buffer of protobuf-c that holds nothing: it compares what is appended. */
struct comparison {
	ProtobufCBuffer base;
	struct bytes rest;
	bool differs;
};

static void compare_appended(ProtobufCBuffer *base, size_t len, const uint8_t *data)
{
	struct comparison *c = container_of(base, struct comparison, base);

	/* Nothing comes as NULL. */
	if (len == 0 || c->differs) {
		return;
	}
	if (len > c->rest.len || memcmp(c->rest.ptr, data, len) != 0) {
		c->differs = true;
		return;
	}
	c->rest = bytes_of(c->rest.ptr + len, c->rest.len - len);
}

static bool packs_to(const Tvix__Store__V1__PathInfo *m, struct bytes message)
{
	struct comparison c = {.base.append = compare_appended, .rest = message};

	tvix__store__v1__path_info__pack_to_buffer(m, &c.base);
	return !c.differs && c.rest.len == 0;
}

/* Fields that nobody knows are kept and packed again; those of a Node are refused by
 * node_decode. */
static bool has_unknown_fields(const Tvix__Store__V1__PathInfo *m)
{
	const Tvix__Store__V1__NARInfo *n = m->narinfo;

	if (m->base.n_unknown_fields || n->base.n_unknown_fields ||
	    (n->deriver && n->deriver->base.n_unknown_fields) ||
	    (n->ca && n->ca->base.n_unknown_fields)) {
		return true;
	}
	for (size_t i = 0; i < n->n_signatures; i++) {
		if (n->signatures[i]->base.n_unknown_fields) {
			return true;
		}
	}
	return false;
}

static int check_canonical(const Tvix__Store__V1__PathInfo *m, struct bytes message,
			   struct error *err)
{
	if (has_unknown_fields(m)) {
		return error_set(err, ERROR_INVALID,
				 "a PathInfo with a field that is not known");
	}
	return packs_to(m, message) ? 0
				    : error_set(err, ERROR_INVALID,
						"a PathInfo that is not in canonical form");
}

static int unpack(struct bounded *b, struct bytes message, Tvix__Store__V1__PathInfo **out,
		  struct error *err)
{
	if (message.len > PATH_INFO_MESSAGE_MAX) {
		return error_set(err, ERROR_LIMIT, "a PathInfo of %zu bytes, more than %zu",
				 message.len, PATH_INFO_MESSAGE_MAX);
	}
	Tvix__Store__V1__PathInfo *m =
		tvix__store__v1__path_info__unpack(&b->allocator, message.len, message.ptr);

	if (!m && b->full) {
		return error_set(err, ERROR_LIMIT,
				 "a PathInfo of %zu bytes that needs more than %zu to decode",
				 message.len, DECODE_MEMORY_MAX);
	}
	if (!m) {
		return error_set(err, ERROR_INVALID, "a PathInfo that is no such message");
	}
	if (!m->node) {
		return error_set(err, ERROR_INVALID, "a PathInfo without a node");
	}
	if (!m->narinfo) {
		return error_set(err, ERROR_INVALID, "a PathInfo without narinfo");
	}
	*out = m;
	return 0;
}

/* ---- Decoding: what it says ---- */

static int check_size(struct bytes value, size_t size, const char *what, struct error *err)
{
	return value.len == size ? 0
				 : error_set(err, ERROR_INVALID, "%s of %zu bytes, not %zu",
					     what, value.len, size);
}

/* Packed again, so that the one decoder of Nodes judges it. */
static int take_node(const Tvix__Castore__V1__Node *m, struct path_info *out, struct error *err)
{
	struct buffer packed cleanup(buffer_done) = {0};
	size_t size = tvix__castore__v1__node__get_packed_size(m);
	struct bytes name;
	struct node node;

	packed.len = tvix__castore__v1__node__pack(m, buffer_reserve(&packed, size));
	int rc = node_decode(buffer_bytes(&packed), &name, &node, err);

	if (rc == 0) {
		rc = store_path_parse_basename(name, &out->path, err);
	}
	if (rc != 0) {
		return error_wrap(err, "the node of a PathInfo");
	}
	root_node_set(&out->node, &node);
	return 0;
}

static int take_nar(const Tvix__Store__V1__NARInfo *n, struct path_info *out, struct error *err)
{
	if (n->nar_size == 0) {
		return error_set(err, ERROR_INVALID, "a NAR of 0 bytes");
	}
	int rc = check_size(bytes_of_data(&n->nar_sha256), SHA256_SIZE, "a nar_sha256", err);

	if (rc == 0) {
		out->nar_size = n->nar_size;
		memcpy(out->nar_sha256, n->nar_sha256.data, SHA256_SIZE);
	}
	return rc;
}

static int take_reference(const ProtobufCBinaryData *hash, const char *name,
			  struct store_path *out, struct error *err)
{
	int rc = check_size(bytes_of_data(hash), STORE_PATH_HASH_SIZE, "a reference", err);

	if (rc == 0) {
		rc = store_path_parse_basename(bytes_of_string(name), out, err);
	}
	if (rc != 0) {
		return error_wrap(err, "the references of a PathInfo");
	}
	if (memcmp(out->hash, hash->data, STORE_PATH_HASH_SIZE) != 0) {
		return error_set(err, ERROR_INVALID,
				 "reference_names has \"%s\" where references has another hash",
				 name);
	}
	return 0;
}

static int take_references(const Tvix__Store__V1__PathInfo *m, struct path_info *out,
			   struct error *err)
{
	size_t count = m->n_references;
	int rc = 0;

	if (count != m->narinfo->n_reference_names) {
		return error_set(err, ERROR_INVALID, "%zu references, but %zu reference_names",
				 count, m->narinfo->n_reference_names);
	}
	if (count > PATH_INFO_REFERENCES_MAX) {
		return error_set(err, ERROR_LIMIT, "%zu references, more than %zu", count,
				 PATH_INFO_REFERENCES_MAX);
	}
	struct store_path *paths cleanup(cleanup_free) = xcalloc(count, sizeof(*paths));

	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = take_reference(&m->references[i], m->narinfo->reference_names[i],
				    &paths[i], err);
	}
	return rc == 0 ? path_info_set_references(out, paths, count, err) : rc;
}

static int take_signatures(const Tvix__Store__V1__NARInfo *n, struct path_info *out,
			   struct error *err)
{
	for (size_t i = 0; i < n->n_signatures; i++) {
		const Tvix__Store__V1__NARInfo__Signature *s = n->signatures[i];
		int rc =
			check_size(bytes_of_data(&s->data), SIGNATURE_SIZE, "a signature", err);

		if (rc == 0) {
			rc = path_info_keep_signature(out, bytes_of_string(s->name),
						      s->data.data, err);
		}
		if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

static int take_deriver(const Tvix__Store__V1__StorePath *m, struct path_info *out,
			struct error *err)
{
	char name[STORE_PATH_NAME_MAX + 1];
	struct store_path path;

	if (!m) {
		return 0;
	}
	int rc = check_size(bytes_of_data(&m->digest), STORE_PATH_HASH_SIZE, "a digest", err);

	if (rc == 0 && snprintf(name, sizeof(name), "%s.drv", m->name) >= (int)sizeof(name)) {
		rc = error_set(err, ERROR_INVALID, "its name is too long");
	}
	if (rc == 0) {
		rc = store_path_set(&path, m->digest.data, bytes_of_string(name), err);
	}
	if (rc == 0) {
		rc = path_info_set_deriver(out, &path, err);
	}
	return rc == 0 ? 0 : error_wrap(err, "the deriver of a PathInfo");
}

static int take_ca(const Tvix__Store__V1__NARInfo__CA *m, struct path_info *out,
		   struct error *err)
{
	if (!m) {
		return 0;
	}
	if ((size_t)m->type >= ARRAY_SIZE(ca_types)) {
		return error_set(err, ERROR_INVALID, "a content address of an unknown type %d",
				 (int)m->type);
	}
	const struct ca_type *type = &ca_types[m->type];
	int rc = check_size(bytes_of_data(&m->digest), hash_size(type->algorithm),
			    "the digest of a content address", err);

	if (rc == 0) {
		out->has_ca = true;
		out->ca.method = type->method;
		out->ca.hash.algorithm = type->algorithm;
		memcpy(out->ca.hash.bytes, m->digest.data, m->digest.len);
	}
	return rc;
}

static int take_message(const Tvix__Store__V1__PathInfo *m, struct path_info *out,
			struct error *err)
{
	int rc = take_node(m->node, out, err);

	if (rc == 0) {
		rc = take_nar(m->narinfo, out, err);
	}
	if (rc == 0) {
		rc = take_references(m, out, err);
	}
	if (rc == 0) {
		rc = take_signatures(m->narinfo, out, err);
	}
	if (rc == 0) {
		rc = take_deriver(m->narinfo->deriver, out, err);
	}
	return rc == 0 ? take_ca(m->narinfo->ca, out, err) : rc;
}

static int decode(struct bytes message, bool strict, struct path_info *out, struct error *err)
{
	struct bounded memory cleanup(bounded_done) = {
		.allocator = {.alloc = bounded_alloc, .free = bounded_free},
		.arena = {.limit = DECODE_MEMORY_MAX},
	};
	struct path_info info = {0};
	Tvix__Store__V1__PathInfo *m = NULL;

	memory.allocator.allocator_data = &memory;
	int rc = unpack(&memory, message, &m, err);

	if (rc == 0 && strict) {
		rc = check_canonical(m, message, err);
	}
	if (rc == 0) {
		rc = take_message(m, &info, err);
	}
	if (rc != 0) {
		path_info_done(&info);
		return rc;
	}
	path_info_done(out);
	*out = info;
	return 0;
}

int path_info_decode(struct bytes message, struct path_info *out, struct error *err)
{
	return decode(message, true, out, err);
}

int path_info_normalize(struct bytes message, struct path_info *out, struct error *err)
{
	return decode(message, false, out, err);
}
