#pragma once

/*
 * Directory objects in use, each once, however many places of the tree show it.
 *
 * A content is kept by the directory nodes that look into it (users) and by the kernel's
 * lookups of the files and symlinks in it, which have no memory of their own. Not locked: part
 * of the node table, whose lock guards it.
 */

#include "castore/directory.h"
#include "fs/slot_table.h"
#include "services/directory_service.h"

struct content {
	struct digest digest;
	struct directory *directory; /* a reference */
	uint64_t lookups;            /* of its files and symlinks, all together */
	uint32_t users;
};

/* Nobody has looked something up more often, and counting on from there does not overflow. */
#define LOOKUPS_MAX ((uint64_t)1 << 62)

struct content_table {
	struct slot_table slots;
	size_t held;  /* bytes of the Directory objects */
	size_t freed; /* bytes given back since the owner set it to 0 */
};

void content_table_init(struct content_table *t);
void content_table_done(struct content_table *t);
/*
 * Takes over the contents of a kept table (slots), without users; their directories come from
 * the service. What it has not, or what is damaged there, is dropped, with a line in the log;
 * when it is unreachable, nothing is taken over.
 */
int content_table_adopt(struct content_table *t, struct directory_service *directories,
			struct error *err);
/* Drops every content. */
void content_table_clear(struct content_table *t);

/* SLOT_NONE when no content has this digest. */
uint32_t content_table_find(const struct content_table *t, const struct digest *digest);
/* Finds or adds (taking a reference). SLOT_NONE at the limit. */
uint32_t content_table_intern(struct content_table *t, struct directory *d);
/* NULL for a slot not in use. */
struct content *content_table_get(const struct content_table *t, uint32_t slot);
/* Frees the content if nothing keeps it. */
void content_table_settle(struct content_table *t, uint32_t slot);
