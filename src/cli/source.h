#pragma once

/* What commands share that import from the file system. */

#include "cli/cli.h"
#include "ingest/ingest.h"

/*
 * The last component of a path; of one that ends in "." or ".." the name that is really there.
 * malloc'd, NULL with errno set.
 */
char *source_name(const char *path);
/* The store's own directory must not be imported into itself. */
void source_exclude_store(const struct cli *cli, struct ingest_options *options);
