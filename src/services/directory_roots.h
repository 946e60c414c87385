#pragma once

/* RootNodes: the entries of one Directory as names. Read-only, and nothing is added later. */

#include "castore/directory.h"
#include "services/root_nodes.h"

/* Takes a reference. */
struct root_nodes *directory_roots_new(struct directory *d);
