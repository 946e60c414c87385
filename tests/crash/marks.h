#pragma once

/*
 * What must be in the stores after a crash, as a log tells it. A process that is recorded says
 * first what it is going to do (RECORD_MARK), one line for each name:
 *
 *   STORE root NAME [DIGEST]   puts this root
 *   STORE no-root NAME         takes it away
 *   STORE path BASENAME        puts a path info
 *   STORE no-path BASENAME     takes it away
 *
 * With a '?' before the second word it is never sure: for what is done without syncing.
 *
 * STORE is a folder below the one that is recorded. It is done when the process prints a line
 * that ends with the name (and, of a root, has the digest), else when the process ends. Until
 * then it may or may not have happened.
 */

#include "castore/digest.h"
#include "model.h"

struct mark {
	char *store, *name;
	bool is_path, removal;
	bool has_digest;
	struct digest digest;
	uint32_t process;
	uint64_t begin, end; /* numbers of entries; UINT64_MAX: never done */
};

struct marks {
	struct mark *list;
	size_t count;
};

/* From the whole log; number is that of the entry. */
void marks_add(struct marks *m, const struct log_view *e, uint64_t number);
void marks_done(struct marks *m);

/*
 * Is this what a store may have under a name, when the entries before `now` have happened?
 * digest: NULL when it has nothing there.
 */
bool marks_allow(const struct marks *m, uint64_t now, const struct mark *name,
		 const struct digest *digest);
/* The first mark about this name in a store; NULL: nobody ever put it. */
const struct mark *marks_find(const struct marks *m, const char *store, bool is_path,
			      struct bytes name);
/* How many of them are done: what else is demanded of a state. */
size_t marks_count_done(const struct marks *m, uint64_t now);
