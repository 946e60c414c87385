#pragma once

/*
 * Reads a NAR as a stream of what is in it, strictly: what the writer would write, and nothing
 * else, is taken. Anything else is ERROR_INVALID (ERROR_LIMIT above NAR_DEPTH_MAX and
 * NAR_SIZE_MAX), with the byte and the path where the NAR is wrong. Memory is a buffer of the
 * source's bytes and the path that is being read, whatever lengths the NAR claims.
 *
 * Belongs to one thread. After an error it is of no more use.
 */

#include "nix/nar.h"

struct nar_reader;

enum nar_event {
	NAR_FILE,
	NAR_SYMLINK,
	NAR_DIRECTORY,     /* what is in it follows */
	NAR_DIRECTORY_END, /* of the directory opened last */
};

/* Borrowed until the next nar_reader_next(). */
struct nar_item {
	enum nar_event event;
	struct bytes
		name; /* in the directory; empty for the root and at the end of a directory */
	bool executable;     /* files */
	uint64_t size;       /* files: bytes of content */
	struct bytes target; /* symlinks */
};

/* The source must outlive the reader. */
struct nar_reader *nar_reader_new(struct nar_source *source);
void nar_reader_free(struct nar_reader *r);
DEFINE_CLEANUP(cleanup_nar_reader, struct nar_reader *, nar_reader_free)

/*
 * Asker: the next item; content that was not asked for is passed over. 0 when the NAR is
 * complete and the source at its end.
 */
int nar_reader_next(struct nar_reader *r, struct nar_item *out, struct error *err);
/*
 * Asker: more content of the file that next gave, in pieces as they come, borrowed until the
 * next call of any function here; 0 when all of it was given.
 */
int nar_reader_content(struct nar_reader *r, struct bytes *piece, struct error *err);

/* Path of the current item below the root, names joined by '/'; borrowed, empty for the root.
 */
struct bytes nar_reader_path(const struct nar_reader *r);
/* Bytes of the NAR that were taken. */
uint64_t nar_reader_offset(const struct nar_reader *r);
