#pragma once

/* The file that says that a folder is a store, and which: docs/store-format.md. */

#include "services/local/record.h"

/* path: of the store, for messages. Asker: 0 when there is no such file. */
int format_file_read(int dirfd, const char *path, uint8_t id[STORE_ID_SIZE], struct error *err);
/* Makes or replaces it, durably. */
int format_file_write(int dirfd, const uint8_t id[STORE_ID_SIZE], struct error *err);
