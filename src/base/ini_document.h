#pragma once

/*
 * INI files: "[section]" lines, "key = value" lines, comments on lines of their own that begin
 * with ';' or '#'. The adapter of inih.
 */

#include "base/bytes.h"
#include "base/error.h"

#define INI_DOCUMENT_MAX ((size_t)1 << 20)
#define INI_LINE_MAX ((size_t)65536)
#define INI_NAME_MAX 48 /* bytes of a section's name, and of a key */

/* Borrowed for the call. */
struct ini_entry {
	const char *section; /* "" before the first one */
	const char *key;     /* NULL: the section begins here */
	const char *value;
	unsigned line; /* from 1 */
};

/* Doer; a failing visit ends it. */
typedef int (*ini_document_visit)(void *context, const struct ini_entry *e, struct error *err);

/*
 * Visits all entries in their order. ERROR_INVALID and ERROR_LIMIT begin with the number of the
 * line. One thread at a time.
 */
int ini_document_parse(struct bytes text, ini_document_visit visit, void *context,
		       struct error *err);
