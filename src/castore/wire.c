#include "castore/wire.h"

bool wire_long_varint(struct wire *w, uint64_t *out, bool minimal)
{
	const uint8_t *p = w->ptr;
	uint64_t v = 0;

	for (unsigned i = 0; i < WIRE_VARINT_MAX && p < w->end; i++, p++) {
		uint64_t low = *p & 0x7f;

		if (i == WIRE_VARINT_MAX - 1 && low > 1) {
			return false;
		}
		v |= low << (7 * i);
		if (!(*p & 0x80)) {
			if (minimal && i > 0 && low == 0) {
				return false;
			}
			w->ptr = p + 1;
			*out = v;
			return true;
		}
	}
	return false;
}

size_t wire_varint_size(uint64_t v)
{
	size_t n = 1;

	while (v >= 0x80) {
		v >>= 7;
		n++;
	}
	return n;
}

uint8_t *wire_put_varint(uint8_t *at, uint64_t v)
{
	while (v >= 0x80) {
		*at++ = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	*at++ = (uint8_t)v;
	return at;
}

static size_t bytes_field_size(size_t len)
{
	return len ? 1 + wire_varint_size(len) + len : 0;
}

static uint8_t *put_bytes_field(uint8_t *at, unsigned field, struct bytes b)
{
	if (b.len == 0) {
		return at;
	}
	*at++ = WIRE_TAG(field, WIRE_BYTES);
	at = wire_put_varint(at, b.len);
	memcpy(at, b.ptr, b.len);
	return at + b.len;
}

size_t wire_entry_size(struct bytes name, const struct node *node)
{
	size_t size = bytes_field_size(name.len);

	if (node->kind == NODE_SYMLINK) {
		return size + bytes_field_size(node->target.len);
	}
	size += bytes_field_size(DIGEST_SIZE);
	size += node->size ? 1 + wire_varint_size(node->size) : 0;
	return size + (node->kind == NODE_FILE && node->executable ? 2 : 0);
}

uint8_t *wire_put_entry(uint8_t *at, struct bytes name, const struct node *node)
{
	at = put_bytes_field(at, 1, name);
	if (node->kind == NODE_SYMLINK) {
		return put_bytes_field(at, 2, node->target);
	}
	at = put_bytes_field(at, 2, digest_bytes(&node->digest));
	if (node->size) {
		*at++ = WIRE_TAG(3, WIRE_VARINT);
		at = wire_put_varint(at, node->size);
	}
	if (node->kind == NODE_FILE && node->executable) {
		*at++ = WIRE_TAG(4, WIRE_VARINT);
		*at++ = 1;
	}
	return at;
}

/* The second field: digest or target. */
static const char *set_payload(struct node *node, struct bytes payload)
{
	if (node->kind == NODE_SYMLINK) {
		node->target = payload;
		return node_target_valid(payload) ? NULL : "a symlink target that is not valid";
	}
	if (payload.len != DIGEST_SIZE) {
		return "a digest that is not 32 bytes";
	}
	memcpy(node->digest.bytes, payload.ptr, DIGEST_SIZE);
	return NULL;
}

const char *wire_entry(struct bytes message, enum node_kind kind, struct bytes *name,
		       struct node *node)
{
	static const char *const not_canonical = "an entry that is not in canonical form";
	struct wire w = wire_of(message);
	struct bytes payload;
	uint64_t flag;

	*name = bytes_of(NULL, 0);
	*node = (struct node){.kind = kind};
	if (wire_tag(&w, WIRE_TAG(1, WIRE_BYTES)) &&
	    (!wire_bytes(&w, name, true) || name->len == 0)) {
		return not_canonical;
	}
	if (!wire_tag(&w, WIRE_TAG(2, WIRE_BYTES)) || !wire_bytes(&w, &payload, true)) {
		return kind == NODE_SYMLINK ? "a symlink without a target"
					    : "an entry without a digest";
	}
	const char *fault = set_payload(node, payload);

	if (fault) {
		return fault;
	}
	if (kind != NODE_SYMLINK && wire_tag(&w, WIRE_TAG(3, WIRE_VARINT)) &&
	    (!wire_varint(&w, &node->size, true) || node->size == 0)) {
		return not_canonical;
	}
	if (kind == NODE_FILE && wire_tag(&w, WIRE_TAG(4, WIRE_VARINT))) {
		if (!wire_varint(&w, &flag, true) || flag != 1) {
			return not_canonical;
		}
		node->executable = true;
	}
	return wire_at_end(&w) ? NULL : not_canonical;
}

/* Field 3 or 4. False when this kind of entry has no such field. */
static bool set_number(struct node *node, uint64_t field, uint64_t value)
{
	if (field == 3 && node->kind != NODE_SYMLINK) {
		node->size = value;
		return true;
	}
	if (field == 4 && node->kind == NODE_FILE) {
		node->executable = value != 0;
		return true;
	}
	return false;
}

const char *wire_entry_lenient(struct bytes message, enum node_kind kind, struct bytes *name,
			       struct node *node)
{
	struct wire w = wire_of(message);
	struct bytes payload = {0}, value;
	uint64_t tag, number;

	*name = bytes_of(NULL, 0);
	*node = (struct node){.kind = kind};
	while (!wire_at_end(&w)) {
		if (!wire_varint(&w, &tag, false)) {
			return "an entry that is cut off";
		}
		if (tag == WIRE_TAG(1, WIRE_BYTES) || tag == WIRE_TAG(2, WIRE_BYTES)) {
			if (!wire_bytes(&w, &value, false)) {
				return "an entry that is cut off";
			}
			*(tag >> 3 == 1 ? name : &payload) = value;
		} else if ((tag & 7) != WIRE_VARINT || !wire_varint(&w, &number, false) ||
			   !set_number(node, tag >> 3, number)) {
			return "a field that an entry does not have";
		}
	}
	return set_payload(node, payload);
}
