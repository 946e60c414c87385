#include "services/local/format_file.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/text.h"

#define STORE_FORMAT_VERSION 1
#define FORMAT_SIZE_MAX 256

int format_file_write(int dirfd, const uint8_t id[STORE_ID_SIZE], struct error *err)
{
	char hex[2 * STORE_ID_SIZE + 1], text[FORMAT_SIZE_MAX];

	hex_encode(hex, bytes_of(id, STORE_ID_SIZE));
	snprintf(text, sizeof(text), "cairn store %d\nid %s\n", STORE_FORMAT_VERSION, hex);
	return write_file_durably(dirfd, "format", bytes_of_string(text), err);
}

static int parse_format(const char *path, struct bytes text, uint8_t id[STORE_ID_SIZE],
			struct error *err)
{
	static const char head[] = "cairn store ";
	size_t head_len = sizeof(head) - 1;
	char digits[16] = "", *end;

	if (text.len <= head_len || memcmp(text.ptr, head, head_len) != 0) {
		return error_set(err, ERROR_INVALID, "%s is not a cairn store", path);
	}
	memcpy(digits, text.ptr + head_len, MIN(text.len - head_len, sizeof(digits) - 1));
	unsigned long version = strtoul(digits, &end, 10);

	if (version != STORE_FORMAT_VERSION) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "%s has store format %lu; this program knows format %d", path,
				 version, STORE_FORMAT_VERSION);
	}
	size_t id_at = head_len + (size_t)(end - digits) + strlen("\nid ");

	if (text.len != id_at + 2 * STORE_ID_SIZE + 1 ||
	    !hex_decode(id, STORE_ID_SIZE, bytes_of(text.ptr + id_at, 2 * STORE_ID_SIZE))) {
		return error_set(err, ERROR_CORRUPT, "%s/format is damaged", path);
	}
	return 0;
}

int format_file_read(int dirfd, const char *path, uint8_t id[STORE_ID_SIZE], struct error *err)
{
	struct buffer text cleanup(buffer_done) = {0};
	int rc = read_small_file(dirfd, "format", FORMAT_SIZE_MAX, &text, err);

	if (rc > 0) {
		rc = parse_format(path, buffer_bytes(&text), id, err);
		return rc ? rc : 1;
	}
	return rc;
}
