#pragma once

/*
 * What push and pull copy between two stores: trees with their names, and store paths with all
 * that they refer to. A name or a path info is put when all that it stands for is durable at
 * the destination; so those that are there vouch for their trees.
 */

#include "cli/cli.h"
#include "ingest/transfer.h"
#include "nix/path_info_service.h"

enum shipment_state { SHIPMENT_WANTED, SHIPMENT_PRESENT, SHIPMENT_COPIED };

struct shipment_item {
	char *name; /* of a root; NULL: a store path, or a tree without a name */
	struct root_node node;
	struct path_info info; /* of a store path; else zeroed */
	bool is_path;
	enum shipment_state state;
};

struct shipment {
	struct store from, to;
	struct path_info_service *from_infos, *to_infos; /* NULL: the store has none */
	struct shipment_item *items; /* what a store path refers to, before it */
	size_t count, capacity;
};

struct shipment_options {
	bool replace;    /* names that stand for something else */
	bool check;      /* look at every object, also of what is there by its name */
	bool check_nars; /* that trees have the hashes that their path infos say */
	struct transfer_options transfer;
	/* Told when an item is at the destination, durably. */
	void (*arrived)(void *context, const struct shipment_item *item);
	void *context;
};

/* Addresses as --store takes them. shipment_close() ends it, also after a failure. */
int shipment_open(struct shipment *s, const struct cli *cli, const char *from, const char *to,
		  struct error *err);
void shipment_close(struct shipment *s);

/*
 * Adds what a ROOT argument stands for in the source (cli_resolve()). as: the name that it
 * gets, which then is all that is copied of a store path beside its tree; NULL: the one that it
 * has.
 */
int shipment_add(struct shipment *s, const char *argument, const char *as, struct error *err);
/* All names and all store paths. */
int shipment_add_all(struct shipment *s, struct error *err);

/*
 * Copies. What of it fails or is interrupted leaves no name; what has arrived by then is kept
 * and found by the next one.
 */
int shipment_send(struct shipment *s, const struct shipment_options *options,
		  struct error *err);
