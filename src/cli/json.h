#pragma once

/*
 * JSON on standard output, one object a line: json_begin, members in any number, json_end.
 * Numbers are whole and may need all of 64 bits.
 */

#include "castore/node.h"

struct json {
	bool comma;
};

void json_begin(struct json *j);
void json_end(struct json *j);
void json_text(struct json *j, const char *key, const char *value);
/*
 * Bytes that are UTF-8 most of the time. If these are not, U+FFFD stands for each byte that
 * does not fit, and KEY_base64 has them all.
 */
void json_bytes(struct json *j, const char *key, struct bytes value);
/* A list of texts: any number of json_list_text between the two. */
void json_list_begin(struct json *j, const char *key);
void json_list_text(struct json *j, const char *value);
void json_list_end(struct json *j);
void json_number(struct json *j, const char *key, uint64_t value);
/* With three digits behind the point. */
void json_decimal(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);
/*
 * Where those who read expect one array of all objects: json_array_item before each. *first is
 * true at the beginning.
 */
void json_array_item(bool *first);
void json_array_end(bool first);
/* kind, digest or target, size, executable. */
void json_node(struct json *j, const struct node *node);
