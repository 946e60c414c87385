#pragma once

/*
 * Checking a store on disk, and bringing back what it lost.
 *
 * A check runs beside readers, writers and a collection of garbage: what moved or went
 * meanwhile is looked up again before it is called a fault.
 */

#include <stdatomic.h>

#include "services/store.h"

enum store_fault_kind {
	STORE_FAULT_FORMAT,  /* the file that says what the store is */
	STORE_FAULT_INDEX,   /* pages, tables, keys and values of the index */
	STORE_FAULT_PACK,    /* a pack as a whole: its header, its length, that it is there */
	STORE_FAULT_OBJECT,  /* a blob or Directory in a pack */
	STORE_FAULT_FILE,    /* a large blob */
	STORE_FAULT_NAME,    /* what a name or a store path stands for cannot be understood */
	STORE_FAULT_LOG,     /* the changes in the packs do not give what the index says */
	STORE_FAULT_MISSING, /* a tree refers to it, and the store has it not */
};

/* "format", "index", … */
const char *store_fault_kind_name(enum store_fault_kind kind);

struct store_fault {
	enum store_fault_kind kind;
	bool has_digest, is_directory;
	struct digest digest; /* of the object, if has_digest */
	char *file;           /* below the store's folder; NULL: no single one */
	bool has_offset;
	uint64_t offset; /* in the file, if has_offset */
	char *text;      /* what is wrong, for people */
	/* Of STORE_FAULT_LOG: the name, as its table has it, and whether that is the roots'. */
	uint8_t *key;
	size_t key_len;
	bool is_root;
	char **names; /* roots and store paths that lack something by this, sorted */
	size_t name_count;
};

/* Faults beyond are counted, not kept. */
#define STORE_FAULTS_MAX ((size_t)100000)

struct store_check_report {
	struct store_fault *faults;
	size_t fault_count; /* kept */
	uint64_t faults_beyond;
	char **affected; /* all roots and store paths that lack something, sorted */
	size_t affected_count;
	uint64_t objects, names; /* looked at */
	uint64_t bytes;          /* of content read and compared with digests */
};

void store_check_report_done(struct store_check_report *r);

/*
 * What a path info says: the node of its path (replaces what *node holds) and the path's name
 * (appended). ERROR_INVALID for a message that is none. For path infos, which are opaque here.
 */
typedef int (*store_path_info_read)(struct bytes key, struct bytes value, struct buffer *name,
				    struct root_node *node, struct error *err);

struct store_check_options {
	bool read_data;
	/* Of the data: that of every subset_count-th object, by digest; 0: of all. */
	uint32_t subset, subset_count;
	store_path_info_read read_path_info; /* NULL: path infos are not looked into */
	const atomic_bool *cancel;           /* may be NULL; true: ERROR_CANCELED */
	/* How far it is; may be NULL. */
	_Atomic uint64_t *objects, *bytes;
};

/*
 * Checks the store that an address stands for, which is one on disk. Zero also when faults were
 * found; negative when it could not be checked at all. out is ended by
 * store_check_report_done(), whatever this returns.
 */
int store_check(const char *address, const struct store_check_options *o,
		struct store_check_report *out, struct error *err);

struct store_repair_options {
	struct store_check_options check;
	struct store *from; /* has what is lost here, perhaps; NULL: nothing is fetched */
	/* Told of each thing that is done, for people; may be NULL. */
	void (*tell)(void *context, const char *text);
	void *context;
};

/*
 * Checks, repairs what can be repaired, and checks again. What is taken out of use goes to
 * quarantine/ in the store's folder, so that nothing is lost that was there:
 * - An index with faults is made again from packs and files (ERROR_UNAVAILABLE while others use
 *   the store; all else can be done beside them).
 * - A damaged object leaves the index. When its content is still to be had from its record or
 *   file, or `from` has it, it is put again. So is what was missing.
 * - Changes of names that the packs lack are written again.
 * Everything that is fetched is checked against its digest. before and after are ended by
 * store_check_report_done(), whatever this returns; after is that of the last check.
 */
int store_repair(const char *address, const struct store_repair_options *o,
		 struct store_check_report *before, struct store_check_report *after,
		 struct error *err);
