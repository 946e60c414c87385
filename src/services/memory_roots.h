#pragma once

/* Names in memory, for memory:// and for fixed sets of names. */

#include "services/root_nodes.h"

struct root_nodes *memory_roots_new(void);
