#pragma once

/*
 * JSON from outside, read whole. Strict: RFC 8259, no key twice in an object, nothing behind
 * the value, whole numbers of at most 63 bits.
 */

#include "base/bytes.h"
#include "base/error.h"

/* Takes about ten times that in memory, at worst. */
#define JSON_DOCUMENT_MAX ((size_t)128 << 20)

struct json_document;
struct json_value; /* borrowed from its document, as is all that it gives */

/* ERROR_INVALID with line and column, ERROR_LIMIT above JSON_DOCUMENT_MAX. */
int json_document_parse(struct bytes text, struct json_document **out, struct error *err);
void json_document_free(struct json_document *d);
DEFINE_CLEANUP(cleanup_json_document, struct json_document *, json_document_free)
const struct json_value *json_document_root(const struct json_document *d);

bool json_value_is_list(const struct json_value *v);
bool json_value_is_object(const struct json_value *v);
/* A whole number. False when it is something else, or negative. */
bool json_value_number(const struct json_value *v, uint64_t *out);
/* UTF-8 without NUL. False when it is something else. */
bool json_value_text(const struct json_value *v, struct bytes *out);
/* False but for the value false itself. */
bool json_value_is_false(const struct json_value *v);
/* Of a list; 0 for anything else. */
size_t json_value_count(const struct json_value *v);
const struct json_value *json_value_at(const struct json_value *v, size_t i);
/* NULL when it is no object, or has no such member, or it is null: all mean the same. */
const struct json_value *json_value_member(const struct json_value *v, const char *key);
/* Each member of an object, in any order; a failing visit ends it. */
typedef int (*json_value_visit)(void *context, const char *key, const struct json_value *value,
				struct error *err);
int json_value_each(const struct json_value *v, json_value_visit visit, void *context,
		    struct error *err);
