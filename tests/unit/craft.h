#pragma once

/*
 * Protobuf messages made by hand, right or wrong as a test needs them, and what else tests of
 * the castore share. Everything is appended; nothing is checked.
 */

#include "castore/directory.h"

void craft_varint(struct buffer *b, uint64_t v);
/* The same number in exactly `len` bytes, more than it needs. */
void craft_long_varint(struct buffer *b, uint64_t v, size_t len);
/* Fields of wire types 2 and 0. */
void craft_bytes(struct buffer *b, unsigned field, struct bytes value);
void craft_string(struct buffer *b, unsigned field, const char *value);
void craft_number(struct buffer *b, unsigned field, uint64_t value);
/* A digest of 32 equal bytes as field 2. */
void craft_digest(struct buffer *b, uint8_t fill);
/* Bytes written as hex digits. */
void craft_hex(struct buffer *b, const char *hex);

/* Whole entries of a Directory: name and a digest (or target), size and executable left out. */
void craft_directory(struct buffer *b, const char *name);
void craft_file(struct buffer *b, const char *name);
void craft_symlink(struct buffer *b, const char *name, const char *target);
/* Puts message as a field into b, and empties message. */
void craft_wrap(struct buffer *b, unsigned field, struct buffer *message);

/* Nodes whose digest is made of 32 equal bytes. */
struct node craft_file_node(uint8_t fill, uint64_t size, bool executable);
struct node craft_directory_node(uint8_t fill, uint64_t size);
struct node craft_symlink_node(const char *target);

/* A sequence of numbers that looks random and is the same in every run (splitmix64). */
struct dice {
	uint64_t state;
};

uint64_t dice_roll(struct dice *d);
/* Below limit, which is not 0. */
uint64_t dice_below(struct dice *d, uint64_t limit);
void dice_fill(struct dice *d, uint8_t *out, size_t len);

static inline void cleanup_buffer(struct buffer *b)
{
	buffer_done(b);
}
