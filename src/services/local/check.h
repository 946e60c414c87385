#pragma once

/*
 * The check of a local store (services/store_check.h), in phases: the index's pages, the packs,
 * the objects that the index knows, the names against their log, and last what all trees need,
 * which tells whom the faults affect.
 */

#include "services/local/local_internal.h"
#include "services/store_check.h"

/* A pack that the index knows. */
struct checked_pack {
	uint64_t number;
	uint64_t end;     /* committed */
	uint64_t scanned; /* up to here its changes of names are known */
};

struct check {
	struct local_store *store;
	const struct store_check_options *options;
	struct store_check_report *report;
	struct checked_pack *packs; /* by number */
	size_t pack_count;

	pthread_mutex_t lock; /* guards the report and the maps */
	/* Objects with a fault: digest -> number of the fault, or CHECK_FAULT_BEYOND. */
	struct digest_map bad_blobs, bad_directories;
};

#define CHECK_FAULT_BEYOND UINT64_MAX

/* A fault; strings are copied. Any thread. */
void check_add(struct check *c, const struct store_fault *f);
/* The same of one object in `table`, whose error says what it is. */
void check_add_object(struct check *c, enum store_fault_kind kind, enum index_table table,
		      const struct digest *digest, const struct location *l,
		      const struct error *why);
/* One of the index as a whole. */
void check_add_index(struct check *c, const char *fmt, ...) printf_like(2, 3);

int check_canceled(const struct check *c, struct error *err);
void check_count(struct check *c, uint64_t objects, uint64_t bytes);

/*
 * The format file: ERROR_CORRUPT when the packs say that this is a store, and the file does not
 * say which.
 */
int check_format(const char *path, struct error *err);
/*
 * Asker: the id that most packs of a folder say is the store's; how many do, and how many of
 * them say `other`.
 */
int check_pack_ids(int dirfd, const char *path, uint8_t id[STORE_ID_SIZE],
		   const uint8_t other[STORE_ID_SIZE], size_t *most, size_t *others,
		   struct error *err);

/* Fills packs anew, keeping what is known of those that were there. */
int check_load_packs(struct check *c, struct error *err);
/* NULL: the index knows no such pack. */
struct checked_pack *check_find_pack(const struct check *c, uint64_t number);
/* Headers and lengths of all packs. */
int check_packs(struct check *c, struct error *err);

/* Every entry of the tables of objects, and what it leads to. */
int check_objects(struct check *c, struct error *err);
/* That large-sizes lists the large blobs, and what else the index holds. */
int check_small_tables(struct check *c, struct error *err);

/* A root or a path info. */
struct checked_name {
	enum index_table table;
	struct bytes key;
	char *name;            /* for people */
	struct root_node node; /* if understood */
	bool understood;
};

struct checked_names {
	struct checked_name *items;
	size_t count, capacity;
};

void checked_names_done(struct checked_names *n);
/* Reads all names, and compares them with the changes in the packs. */
int check_names(struct check *c, struct checked_names *out, struct error *err);
/* Walks what the names stand for; each object with a fault gets those that need it. */
int check_closures(struct check *c, const struct checked_names *names, struct error *err);
