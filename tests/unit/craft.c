#include "craft.h"

#include "base/text.h"
#include "castore/wire.h"

void craft_varint(struct buffer *b, uint64_t v)
{
	uint8_t *at = buffer_reserve(b, WIRE_VARINT_MAX);

	b->len += (size_t)(wire_put_varint(at, v) - at);
}

void craft_long_varint(struct buffer *b, uint64_t v, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		buffer_append_byte(b, (uint8_t)((v & 0x7f) | (i + 1 < len ? 0x80 : 0)));
		v >>= 7;
	}
}

void craft_bytes(struct buffer *b, unsigned field, struct bytes value)
{
	craft_varint(b, field << 3 | WIRE_BYTES);
	craft_varint(b, value.len);
	buffer_append(b, value.ptr, value.len);
}

void craft_string(struct buffer *b, unsigned field, const char *value)
{
	craft_bytes(b, field, bytes_of_string(value));
}

void craft_number(struct buffer *b, unsigned field, uint64_t value)
{
	craft_varint(b, field << 3 | WIRE_VARINT);
	craft_varint(b, value);
}

static struct digest filled_digest(uint8_t fill)
{
	struct digest d;

	memset(d.bytes, fill, sizeof(d.bytes));
	return d;
}

void craft_digest(struct buffer *b, uint8_t fill)
{
	struct digest d = filled_digest(fill);

	craft_bytes(b, 2, digest_bytes(&d));
}

void craft_hex(struct buffer *b, const char *hex)
{
	size_t len = strlen(hex) / 2;

	if (len == 0) {
		return;
	}
	if (!hex_decode(buffer_reserve(b, len), len, bytes_of_string(hex))) {
		abort();
	}
	b->len += len;
}

void craft_wrap(struct buffer *b, unsigned field, struct buffer *message)
{
	craft_bytes(b, field, buffer_bytes(message));
	message->len = 0;
}

static void put_entry(struct buffer *b, unsigned field, const char *name, const char *target)
{
	struct buffer entry cleanup(cleanup_buffer) = {0};

	craft_string(&entry, 1, name);
	if (target) {
		craft_string(&entry, 2, target);
	} else {
		craft_digest(&entry, 0x11);
	}
	craft_wrap(b, field, &entry);
}

void craft_directory(struct buffer *b, const char *name)
{
	put_entry(b, NODE_DIRECTORY, name, NULL);
}

void craft_file(struct buffer *b, const char *name)
{
	put_entry(b, NODE_FILE, name, NULL);
}

void craft_symlink(struct buffer *b, const char *name, const char *target)
{
	put_entry(b, NODE_SYMLINK, name, target);
}

struct node craft_file_node(uint8_t fill, uint64_t size, bool executable)
{
	return (struct node){.kind = NODE_FILE,
			     .digest = filled_digest(fill),
			     .size = size,
			     .executable = executable};
}

struct node craft_directory_node(uint8_t fill, uint64_t size)
{
	return (struct node){
		.kind = NODE_DIRECTORY, .digest = filled_digest(fill), .size = size};
}

struct node craft_symlink_node(const char *target)
{
	return (struct node){.kind = NODE_SYMLINK, .target = bytes_of_string(target)};
}

uint64_t dice_roll(struct dice *d)
{
	uint64_t z = d->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t dice_below(struct dice *d, uint64_t limit)
{
	return dice_roll(d) % limit;
}

void dice_fill(struct dice *d, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t v = dice_roll(d);

		memcpy(out + i, &v, MIN(sizeof(v), len - i));
	}
}
