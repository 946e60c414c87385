#pragma once

/* A folder for local stores, fresh for each test, and what is put into them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "services/local/local_store.h"

/* Above the limit from which blobs are plain files. */
#define LARGE ((size_t)3 << 20)

extern char folder[];
extern char store_path[256]; /* in it */

int setup(void **state);
int teardown(void **state);

void open_store(struct store *s, unsigned flags);
/* Content that differs between seeds. */
void fill(uint8_t *data, size_t len, unsigned seed);
struct digest put_blob(struct store *s, size_t len, unsigned seed);
void check_blob(struct store *s, size_t len, unsigned seed);
/* What put_blob() gives, without putting it. */
struct digest digest_of_blob(size_t len, unsigned seed);
/* A Directory with one entry, "file"; the caller's. */
struct directory *make_directory(const struct digest *file, uint64_t size);
