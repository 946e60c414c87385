#include "cli/json.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "cli/output.h"

void json_begin(struct json *j)
{
	j->comma = false;
	putchar('{');
}

void json_end(struct json *j)
{
	j->comma = false;
	fputs("}\n", stdout);
}

void json_array_item(bool *first)
{
	putchar(*first ? '[' : ',');
	*first = false;
}

void json_array_end(bool first)
{
	fputs(first ? "[]\n" : "]\n", stdout);
}

static void put_key(struct json *j, const char *key, const char *suffix)
{
	printf("%s\"%s%s\":", j->comma ? "," : "", key, suffix);
	j->comma = true;
}

/* Returns false when something was replaced. */
static bool put_string(struct bytes b)
{
	bool whole = true;

	putchar('"');
	while (b.len) {
		size_t n = output_utf8_length(b);

		if (n == 0) {
			fputs("\xef\xbf\xbd", stdout);
			whole = false;
			n = 1;
		} else if (output_is_control(b) && n == 1) {
			printf("\\u%04x", b.ptr[0]);
		} else {
			fputs(b.ptr[0] == '"' || b.ptr[0] == '\\' ? "\\" : "", stdout);
			(void)fwrite(b.ptr, 1, n, stdout);
		}
		b = bytes_of(b.ptr + n, b.len - n);
	}
	putchar('"');
	return whole;
}

void json_text(struct json *j, const char *key, const char *value)
{
	put_key(j, key, "");
	put_string(bytes_of_string(value));
}

void json_bytes(struct json *j, const char *key, struct bytes value)
{
	put_key(j, key, "");
	if (!put_string(value)) {
		char *text cleanup(cleanup_free) = xmalloc(base64_size(value.len) + 1);

		base64_encode(text, value);
		put_key(j, key, "_base64");
		printf("\"%s\"", text);
	}
}

void json_list_begin(struct json *j, const char *key)
{
	put_key(j, key, "");
	putchar('[');
	j->comma = false;
}

void json_list_text(struct json *j, const char *value)
{
	fputs(j->comma ? "," : "", stdout);
	put_string(bytes_of_string(value));
	j->comma = true;
}

void json_list_end(struct json *j)
{
	putchar(']');
	j->comma = true;
}

void json_number(struct json *j, const char *key, uint64_t value)
{
	put_key(j, key, "");
	printf("%" PRIu64, value);
}

void json_decimal(struct json *j, const char *key, double value)
{
	put_key(j, key, "");
	printf("%.3f", value);
}

void json_bool(struct json *j, const char *key, bool value)
{
	put_key(j, key, "");
	fputs(value ? "true" : "false", stdout);
}

void json_node(struct json *j, const struct node *node)
{
	json_text(j, "kind", node_kind_name(node->kind));
	if (node->kind == NODE_SYMLINK) {
		json_bytes(j, "target", node->target);
		return;
	}
	json_text(j, "digest", digest_text(&node->digest));
	json_number(j, "size", node->size);
	if (node->kind == NODE_FILE) {
		json_bool(j, "executable", node->executable);
	}
}
