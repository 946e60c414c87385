#pragma once

/*
 * What the tests of NARs share: a store in memory, trees in it, NARs written word by word,
 * sinks and sources in memory.
 */

#include "craft.h"
#include "nix/nar.h"
#include "services/store.h"

extern struct store nar_store;

/* Around each test: an empty store. */
int nar_setup(void **state);
int nar_teardown(void **state);

/* ---- NARs by hand ---- */

void nar_string(struct buffer *b, struct bytes s);
/* One string for each word, up to NULL. */
void nar_words(struct buffer *b, ...) __attribute__((sentinel));
/* The NAR of a node in the store, written in the plainest way. */
void nar_expected(struct buffer *b, const struct node *node);

/* ---- Trees ---- */

struct node nar_put_blob(struct bytes content, bool executable);
/* Bytes that look random, of this size. */
struct node nar_put_random_blob(struct dice *dice, size_t size);
/* Finishes the directory and puts it. */
struct node nar_put_directory(struct directory_builder *b);
void nar_add(struct directory_builder *b, const char *name, struct node node);
/* Directories below each other: a file at the bottom of so many. */
struct node nar_put_deep(unsigned depth);
/* Of every kind, with odd names, sizes around what is special, equal parts; not deep. */
struct node nar_put_random_tree(struct dice *dice, unsigned depth);

/* ---- Sinks and sources ---- */

struct buffer_sink {
	struct nar_sink base;
	struct buffer data;
	uint64_t room; /* 0: without end; else ERROR_NO_SPACE when there is more */
};

struct buffer_sink buffer_sink_of(uint64_t room);

struct bytes_source {
	struct nar_source base;
	struct bytes rest;
	size_t piece; /* given at most at a time; 0: all that is asked for */
	bool fails;   /* at the end, with ERROR_IO */
};

struct bytes_source bytes_source_of(struct bytes data, size_t piece);
