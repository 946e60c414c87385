/*
 * Text that stands for bytes, numbers and rights. The first byte chooses: hex, base 64 and
 * nixbase32 of so many bytes as the second says, sizes, and the file of a daemon's tokens.
 */

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "nix/nixbase32.h"
#include "rpc/rpc_server.h"
#include "rpc/token_table.h"

#include "fuzz.h"

#define BYTES_MAX 255u

/* What decodes is what encoding gives: there is one text for some bytes. */
static void try_coding(struct bytes text, size_t len,
		       bool (*decode)(uint8_t *out, size_t len, struct bytes text),
		       void (*encode)(char *out, struct bytes b), bool ignores_case)
{
	uint8_t *out = xmalloc(len), *again = xmalloc(len);
	char back[2 * BYTES_MAX + 8];

	if (decode(out, len, text)) {
		encode(back, bytes_of(out, len));
		check(strlen(back) == text.len);
		check(ignores_case || bytes_equal(bytes_of_string(back), text));
	} else if (text.len) {
		/* Whatever was in it, the bytes of the text have a text that decodes. */
		size_t n = MIN(len, text.len);

		memset(out, 0, len);
		memcpy(out, text.ptr, n);
		encode(back, bytes_of(out, len));
		check(decode(again, len, bytes_of_string(back)));
		check(memcmp(out, again, len) == 0);
	}
	free(out);
	free(again);
}

/* Digits and at most one letter, and nothing that overflows. */
static void try_size(struct bytes text)
{
	char *copy = xcalloc(1, text.len + 1);
	uint64_t size = 1, digits = 0;

	if (text.len) {
		memcpy(copy, text.ptr, text.len);
	}
	if (text_to_size(copy, &size)) {
		size_t n = strspn(copy, "0123456789");

		check(n > 0 && strlen(copy) <= n + 1);
		for (size_t i = 0; i < n; i++) {
			check(!__builtin_mul_overflow(digits, 10, &digits));
			check(!__builtin_add_overflow(digits, copy[i] - '0', &digits));
		}
		check(copy[n] ? size >= digits && (digits == 0) == (size == 0)
			      : size == digits);
	}
	free(copy);
}

static const char *write_file(struct bytes content)
{
	static int fd = -1;
	static char path[32];

	if (fd < 0) {
		fd = memfd_create("tokens", MFD_CLOEXEC);
		check(fd >= 0 && fchmod(fd, 0600) == 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	check(ftruncate(fd, 0) == 0 && pwrite_full(fd, content.ptr, content.len, 0) == 0);
	return path;
}

/* The words of a line that is none of comment: who has the first one may read. */
static void check_line(const struct rpc_token_table *t, struct bytes line)
{
	struct buffer header cleanup(buffer_done) = {0};
	size_t at = 0, len = 0;

	while (at < line.len && strchr(" \t\r", line.ptr[at]) && line.ptr[at]) {
		at++;
	}
	while (at + len < line.len &&
	       (!line.ptr[at + len] || !strchr(" \t\r", line.ptr[at + len]))) {
		len++;
	}
	if (len == 0 || line.ptr[at] == '#') {
		return;
	}
	buffer_append_string(&header, "bearer ");
	buffer_append(&header, line.ptr + at, len);
	check(token_table_rights(t, buffer_bytes(&header)) & RPC_MAY_READ);
	/* Nothing but the token. */
	buffer_append_byte(&header, ' ');
	check(token_table_rights(t, buffer_bytes(&header)) == 0);
}

static void try_tokens(struct bytes content)
{
	struct rpc_token_table *t = NULL;
	struct error err = {0};

	if (result(token_table_read(write_file(content), &t, &err), &err) < 0) {
		return;
	}
	check(token_table_rights(t, bytes_of_string("Bearer ")) == 0);
	while (content.len) {
		const uint8_t *end = memchr(content.ptr, '\n', content.len);
		size_t len = end ? (size_t)(end - content.ptr) : content.len;

		check_line(t, bytes_of(content.ptr, len));
		len += end != NULL;
		content = bytes_of(content.ptr + len, content.len - len);
	}
	token_table_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	uint64_t kind = input_number(&in, 1) % 5;
	size_t len = kind < 3 ? (size_t)input_number(&in, 1) : 0;
	struct bytes text = bytes_of(in.at, in.left);

	switch (kind) {
	case 0:
		try_coding(text, len, hex_decode, hex_encode, true);
		break;
	case 1:
		try_coding(text, len, base64_decode, base64_encode, false);
		break;
	case 2:
		try_coding(text, len, nixbase32_decode, nixbase32_encode, false);
		break;
	case 3:
		try_size(text);
		break;
	default:
		try_tokens(text);
		break;
	}
	return 0;
}
