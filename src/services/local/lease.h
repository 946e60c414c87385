#pragma once

/*
 * Leases: what the living processes of a store use, so that no collection of garbage takes it.
 *
 * Each process that uses a store has a file in leases/ while it needs one, and holds its flock;
 * files of the dead are removed by whoever comes next. To it the process appends which trees
 * it reads, and from where on it writes to a pack: what it put there may get a name yet.
 *
 * Who appends shares the flock of the folder for that moment, and a sweep has it to itself
 * while it deletes: it sees all that was appended before, and what is appended later has not
 * been looked for yet. docs/store-format.md has the bytes.
 */

#include <pthread.h>

#include "castore/node.h"
#include "services/mark_set.h"

#define LEASE_FOLDER "leases"
#define LEASE_NAME_SIZE 20

/* The side of one process. Any thread. */
struct lease {
	pthread_mutex_t lock; /* guards the rest; held for an append, which waits for sweeps */
	int folder_fd;        /* for its flock; -1: not begun */
	int fd;               /* of the file */
	char name[LEASE_NAME_SIZE];
	bool long_lived;      /* does not end soon: what it wrote long ago is not protected */
	bool impossible;      /* this store cannot be written to */
	struct mark_set held; /* trees that are in the file */
	uint64_t pack, noted; /* the last note of writes: to which pack (0: none), in seconds */
};

void lease_init(struct lease *l, bool long_lived);
/* Ends it, and all that was held. */
void lease_done(struct lease *l);
/*
 * Makes the file, if that can be. For a process that may not do so later, as the others do it
 * by themselves.
 */
void lease_begin(struct lease *l, int store_dirfd);
/*
 * From now on until lease_done(), what there is of this tree stays. True when it was not held
 * before. Nothing holds it where the store cannot be written to: then this does nothing.
 */
bool lease_hold(struct lease *l, int store_dirfd, const struct node *node);
/* This process is about to write to the pack, from this offset on. */
void lease_note_writes(struct lease *l, int store_dirfd, uint64_t pack, uint64_t offset);

/* ---- The side of the sweep. One thread. ---- */

/* A pack, and from where on objects in it are protected. */
struct lease_note {
	size_t file; /* whose */
	uint64_t pack;
	uint64_t offset;
};

struct lease_file {
	char name[LEASE_NAME_SIZE];
	uint64_t read;  /* so far */
	uint64_t began; /* in seconds */
	bool writes;
	bool long_lived;
};

struct lease_reader {
	int folder_fd; /* -1: the store has no leases yet */
	struct lease_file *files;
	size_t file_count;
	struct lease_note *notes;
	size_t note_count;
	uint64_t oldest; /* since when the oldest living process that writes does; 0: none */
};

int lease_reader_init(struct lease_reader *r, int store_dirfd, struct error *err);
void lease_reader_done(struct lease_reader *r);
/* Nobody appends until lease_reader_unlock(). Locks nest inside a write of the index. */
int lease_reader_lock(struct lease_reader *r, struct error *err);
void lease_reader_unlock(struct lease_reader *r);
/*
 * Reads what was appended since the last time, removes files of the dead, and calls visit for
 * each tree that is held. now: seconds; what long-lived processes wrote more than an hour
 * before is not protected.
 */
typedef int (*lease_visit)(void *context, const struct node *node, struct error *err);
int lease_reader_read(struct lease_reader *r, uint64_t now, lease_visit visit, void *context,
		      struct error *err);
/* The clock of leases and of the times of files, in seconds. */
uint64_t lease_clock(void);
