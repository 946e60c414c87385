#pragma once

/*
 * The files below the recorded folder, as a log makes them: of each file and folder what is on
 * the disk for sure, and the changes since, which a crash may keep or lose. What is assumed of
 * file systems is in docs/durability.md.
 */

#include "base/bytes.h"
#include "base/util.h"
#include "log.h"

enum change_kind {
	CHANGE_WRITE,
	CHANGE_SIZE,   /* of a file: truncated or extended */
	CHANGE_ADD,    /* a name in this folder, of a new file or instead of an older one */
	CHANGE_REMOVE, /* a name of this folder */
	CHANGE_MOVE,   /* a name becomes another one in this folder */
	CHANGE_SWAP,   /* two names of this folder */
};

struct change {
	enum change_kind kind;
	uint64_t number; /* of the entry of the log */
	bool durable;    /* whatever happens to those before it */
	uint64_t offset; /* or the size */
	struct bytes data;
	struct bytes name, new_name;
	struct node_file *file;  /* that is added */
	struct node_file *other; /* of a removal: the folder that the name moved to, or NULL */
};

struct folder_entry {
	struct bytes name;
	struct node_file *file;
};

/* A file or a folder. */
struct node_file {
	uint64_t inode;
	size_t id;
	bool is_folder;
	uint64_t version; /* number of the entry that made it durable last */
	/* What is durable: */
	uint8_t *content;
	size_t size;
	struct folder_entry *entries;
	size_t entry_count;
	/* What is not, in order: */
	struct change *changes;
	size_t change_count, change_capacity;
};

struct model {
	struct node_file **files; /* all there ever were */
	size_t count, capacity;
	struct node_file *top;
	uint64_t number; /* of the next entry */
};

/* One entry of a log, borrowed from it. */
struct log_view {
	const struct log_entry *entry;
	struct bytes name, name2, data;
};

/* False at the end. Ends the process when the log is broken. */
bool log_next(struct bytes *rest, struct log_view *out);

/* Takes in one entry. Ends the process when it cannot be replayed. */
void model_add(struct model *m, const struct log_view *e);
void model_done(struct model *m);

/* Does a change to a content or to entries, which grow as needed. */
void content_change(uint8_t **content, size_t *size, const struct change *c);
void entries_change(struct folder_entry **entries, size_t *count, const struct change *c);

_Noreturn void give_up(const char *format, ...) printf_like(1, 2);
