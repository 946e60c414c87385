#include "cli/output.h"

#include <stdio.h>
#include <unistd.h>

/* How many bytes of 10xxxxxx follow a first byte, and the smallest character they may make. */
static size_t utf8_form(uint8_t first, uint32_t *smallest)
{
	if (first < 0x80) {
		*smallest = 0;
		return 1;
	}
	if ((first & 0xe0) == 0xc0) {
		*smallest = 0x80;
		return 2;
	}
	if ((first & 0xf0) == 0xe0) {
		*smallest = 0x800;
		return 3;
	}
	if ((first & 0xf8) == 0xf0) {
		*smallest = 0x10000;
		return 4;
	}
	return 0;
}

size_t output_utf8_length(struct bytes b)
{
	uint32_t smallest, c;
	size_t len = utf8_form(b.ptr[0], &smallest);

	if (len < 2 || len > b.len) {
		return len == 1;
	}
	c = b.ptr[0] & (0xffU >> (len + 1));
	for (size_t i = 1; i < len; i++) {
		if ((b.ptr[i] & 0xc0) != 0x80) {
			return 0;
		}
		c = c << 6 | (b.ptr[i] & 0x3f);
	}
	bool valid = c >= smallest && c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);

	return valid ? len : 0;
}

bool output_to_terminal(void)
{
	return isatty(STDOUT_FILENO) == 1;
}

/* Control characters, among them those of C1, which begin with the byte c2 in UTF-8. */
bool output_is_control(struct bytes b)
{
	return b.ptr[0] < 0x20 || b.ptr[0] == 0x7f ||
	       (b.len > 1 && b.ptr[0] == 0xc2 && b.ptr[1] < 0xa0);
}

void output_name(struct bytes name, bool escape)
{
	if (!escape) {
		(void)fwrite(name.ptr, 1, name.len, stdout);
		return;
	}
	while (name.len) {
		size_t n = output_utf8_length(name);

		if (n == 0 || output_is_control(name)) {
			printf("\\x%02x", name.ptr[0]);
			n = 1;
		} else {
			fputs(name.ptr[0] == '\\' ? "\\" : "", stdout);
			(void)fwrite(name.ptr, 1, n, stdout);
		}
		name = bytes_of(name.ptr + n, name.len - n);
	}
}

void output_digest(const struct node *node)
{
	printf("%-*s", DIGEST_TEXT_SIZE - 1,
	       node->kind == NODE_SYMLINK ? "-" : digest_text(&node->digest));
}

const char *output_mode(const struct node *node)
{
	switch (node->kind) {
	case NODE_DIRECTORY:
		return "dr-xr-xr-x";
	case NODE_SYMLINK:
		return "lr--r--r--";
	case NODE_FILE:
		return node->executable ? "-r-xr-xr-x" : "-r--r--r--";
	}
	return "?---------";
}
