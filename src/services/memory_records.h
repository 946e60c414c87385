#pragma once

/* A table of records in memory, for memory://. */

#include "services/record_table.h"

struct record_table *memory_records_new(void);
