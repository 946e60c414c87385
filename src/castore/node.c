#include "castore/node.h"

#include "castore/wire.h"

const char *node_kind_name(enum node_kind kind)
{
	switch (kind) {
	case NODE_DIRECTORY:
		return "directory";
	case NODE_FILE:
		return "file";
	case NODE_SYMLINK:
		return "symlink";
	}
	return "unknown";
}

bool node_equal(const struct node *a, const struct node *b)
{
	if (a->kind != b->kind) {
		return false;
	}
	if (a->kind == NODE_SYMLINK) {
		return bytes_equal(a->target, b->target);
	}
	return digest_equal(&a->digest, &b->digest) && a->size == b->size &&
	       (a->kind != NODE_FILE || a->executable == b->executable);
}

static const char *name_fault(struct bytes name)
{
	if (name.len == 0) {
		return "is empty";
	}
	if (name.len > NODE_NAME_MAX) {
		return "is longer than 255 bytes";
	}
	if (name.ptr[0] == '.' && (name.len == 1 || (name.len == 2 && name.ptr[1] == '.'))) {
		return "is not a name";
	}
	if (memchr(name.ptr, '/', name.len)) {
		return "has a slash";
	}
	return memchr(name.ptr, '\0', name.len) ? "has a NUL byte" : NULL;
}

bool node_name_valid(struct bytes name)
{
	return !name_fault(name);
}

int node_name_check(struct bytes name, struct error *err)
{
	const char *fault = name_fault(name);

	return fault ? error_set(err, ERROR_INVALID, "the name \"%s\" %s",
				 bytes_printable(name), fault)
		     : 0;
}

bool node_target_valid(struct bytes target)
{
	return target.len >= 1 && target.len <= NODE_TARGET_MAX &&
	       !memchr(target.ptr, '\0', target.len);
}

void node_encode(struct buffer *out, struct bytes name, const struct node *node)
{
	size_t len = wire_entry_size(name, node);
	uint8_t *at = buffer_reserve(out, 1 + WIRE_VARINT_MAX + len);

	*at++ = WIRE_TAG((unsigned)node->kind, WIRE_BYTES);
	at = wire_put_varint(at, len);
	at = wire_put_entry(at, name, node);
	out->len = (size_t)(at - out->ptr);
}

int node_decode(struct bytes encoding, struct bytes *name, struct node *node, struct error *err)
{
	struct wire w = wire_of(encoding);
	struct bytes message, its_name;
	struct node its_node;

	for (enum node_kind kind = NODE_DIRECTORY; kind <= NODE_SYMLINK; kind++) {
		if (!wire_tag(&w, WIRE_TAG((unsigned)kind, WIRE_BYTES))) {
			continue;
		}
		if (!wire_bytes(&w, &message, true) || !wire_at_end(&w)) {
			return error_set(err, ERROR_INVALID,
					 "a Node that is not in canonical form");
		}
		const char *fault = wire_entry(message, kind, &its_name, &its_node);

		if (fault) {
			return error_set(err, ERROR_INVALID, "a Node with %s", fault);
		}
		int rc = its_name.len ? node_name_check(its_name, err) : 0;

		if (rc == 0) {
			*name = its_name;
			*node = its_node;
		}
		return rc;
	}
	return error_set(err, ERROR_INVALID, "a Node that is no directory, file or symlink");
}
