#include "base/json_document.h"

#include <jansson.h>

/* A document is its root, and a value is one of its values: the names hide a foreign type. */
static const json_t *value_of(const struct json_value *v)
{
	return (const json_t *)(const void *)v;
}

static const struct json_value *wrap(const json_t *v)
{
	return (const struct json_value *)(const void *)v;
}

int json_document_parse(struct bytes text, struct json_document **out, struct error *err)
{
	json_error_t fault;

	if (text.len > JSON_DOCUMENT_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %zu bytes of JSON",
				 JSON_DOCUMENT_MAX);
	}
	json_t *root = json_loadb(text.len ? (const char *)text.ptr : "", text.len,
				  JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);

	if (!root) {
		return error_set(err, ERROR_INVALID, "this is no JSON: line %d, column %d: %s",
				 fault.line, fault.column,
				 bytes_printable(bytes_of_string(fault.text)));
	}
	*out = (struct json_document *)(void *)root;
	return 0;
}

void json_document_free(struct json_document *d)
{
	json_decref((json_t *)(void *)d);
}

const struct json_value *json_document_root(const struct json_document *d)
{
	return (const struct json_value *)(const void *)d;
}

bool json_value_is_list(const struct json_value *v)
{
	return json_is_array(value_of(v));
}

bool json_value_is_object(const struct json_value *v)
{
	return json_is_object(value_of(v));
}

bool json_value_number(const struct json_value *v, uint64_t *out)
{
	if (!json_is_integer(value_of(v)) || json_integer_value(value_of(v)) < 0) {
		return false;
	}
	*out = (uint64_t)json_integer_value(value_of(v));
	return true;
}

bool json_value_text(const struct json_value *v, struct bytes *out)
{
	if (!json_is_string(value_of(v))) {
		return false;
	}
	*out = bytes_of(json_string_value(value_of(v)), json_string_length(value_of(v)));
	return true;
}

bool json_value_is_false(const struct json_value *v)
{
	return json_is_false(value_of(v));
}

size_t json_value_count(const struct json_value *v)
{
	return json_array_size(value_of(v));
}

const struct json_value *json_value_at(const struct json_value *v, size_t i)
{
	return wrap(json_array_get(value_of(v), i));
}

const struct json_value *json_value_member(const struct json_value *v, const char *key)
{
	const json_t *found = json_object_get(value_of(v), key);

	return json_is_null(found) ? NULL : wrap(found);
}

/* The library's iteration asks for a value that may be changed; nothing is changed here. */
static json_t *iterable(const struct json_value *v)
{
	union {
		const void *given;
		json_t *wanted;
	} u = {.given = v};

	return u.wanted;
}

int json_value_each(const struct json_value *v, json_value_visit visit, void *context,
		    struct error *err)
{
	json_t *object = iterable(v);
	int r = 0;

	for (void *at = json_object_iter(object); r >= 0 && at;
	     at = json_object_iter_next(object, at)) {
		r = visit(context, json_object_iter_key(at), wrap(json_object_iter_value(at)),
			  err);
	}
	return r;
}
