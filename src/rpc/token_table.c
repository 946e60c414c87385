#include "rpc/token_table.h"

#include <errno.h>
#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/io.h"
#include "castore/digest.h"
#include "rpc/rpc_server.h"

#define FILE_SIZE_MAX ((size_t)1 << 20)

struct token {
	struct digest digest;
	unsigned rights;
};

struct rpc_token_table {
	struct token *tokens;
	size_t count;
};

void token_table_free(struct rpc_token_table *t)
{
	if (t) {
		free(t->tokens);
		free(t);
	}
}
DEFINE_CLEANUP(cleanup_token_table, struct rpc_token_table *, token_table_free)

static bool is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The next word of a line; empty at its end. */
static struct bytes next_word(struct bytes *line)
{
	struct bytes word;

	while (line->len && is_space(*line->ptr)) {
		*line = bytes_of(line->ptr + 1, line->len - 1);
	}
	word = bytes_of(line->ptr, 0);
	while (line->len && !is_space(*line->ptr)) {
		word.len++;
		*line = bytes_of(line->ptr + 1, line->len - 1);
	}
	return word;
}

static int parse_rights(struct bytes word, unsigned *rights, struct error *err)
{
	*rights = RPC_MAY_READ | RPC_MAY_LIST;
	if (word.len == 0 || bytes_equal(word, bytes_of_string("write"))) {
		*rights |= RPC_MAY_WRITE;
		return 0;
	}
	return bytes_equal(word, bytes_of_string("read"))
		       ? 0
		       : error_set(err, ERROR_INVALID, "'%s' is neither read nor write",
				   bytes_printable(word));
}

static bool token_valid(struct bytes token)
{
	bool valid = token.len >= TOKEN_LENGTH_MIN && token.len <= TOKEN_LENGTH_MAX;

	for (size_t i = 0; valid && i < token.len; i++) {
		valid = token.ptr[i] > ' ' && token.ptr[i] <= '~';
	}
	return valid;
}

/* No message has the token in it. */
static int add_line(struct rpc_token_table *t, struct bytes line, struct error *err)
{
	struct bytes word = next_word(&line), rights = next_word(&line);
	struct token token;

	if (word.len == 0 || word.ptr[0] == '#') {
		return 0;
	}
	if (!token_valid(word)) {
		return error_set(err, ERROR_INVALID,
				 "a token has %d to %d printable characters", TOKEN_LENGTH_MIN,
				 TOKEN_LENGTH_MAX);
	}
	int rc = parse_rights(rights, &token.rights, err);

	if (rc == 0 && next_word(&line).len) {
		rc = error_set(err, ERROR_INVALID, "a line has a token and its rights");
	}
	if (rc == 0) {
		digest_of(&token.digest, word);
		t->tokens = xrealloc(t->tokens, (t->count + 1) * sizeof(*t->tokens));
		t->tokens[t->count++] = token;
	}
	return rc;
}

static int parse(struct rpc_token_table *t, const char *path, struct bytes content,
		 struct error *err)
{
	for (size_t number = 1; content.len; number++) {
		const uint8_t *end = memchr(content.ptr, '\n', content.len);
		size_t len = end ? (size_t)(end - content.ptr) : content.len;
		int rc = add_line(t, bytes_of(content.ptr, len), err);

		if (rc < 0) {
			return error_wrap(err, "%s:%zu", path, number);
		}
		len += end != NULL;
		content = bytes_of(content.ptr + len, content.len - len);
	}
	return t->count ? 0 : error_set(err, ERROR_INVALID, "%s has no token", path);
}

int token_table_read(const char *path, struct rpc_token_table **out, struct error *err)
{
	struct rpc_token_table *t cleanup(cleanup_token_table) = xcalloc(1, sizeof(*t));
	struct buffer content cleanup(buffer_done) = {0};
	struct stat st;

	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IROTH)) {
		return error_set(err, ERROR_DENIED,
				 "%s: everybody can read these tokens (chmod o= helps)", path);
	}
	int rc = read_small_file(AT_FDCWD, path, FILE_SIZE_MAX, &content, err);

	if (rc <= 0) {
		return rc < 0 ? rc : error_set(err, ERROR_NOT_FOUND, "%s: no such file", path);
	}
	rc = parse(t, path, buffer_bytes(&content), err);
	explicit_bzero(content.ptr, content.len);
	if (rc == 0) {
		*out = t;
		t = NULL;
	}
	return rc;
}

static bool equal_in_constant_time(const struct digest *a, const struct digest *b)
{
	unsigned differences = 0;

	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		differences |= a->bytes[i] ^ b->bytes[i];
	}
	return differences == 0;
}

unsigned token_table_rights(const struct rpc_token_table *t, struct bytes authorization)
{
	static const char scheme[] = "Bearer ";
	size_t n = sizeof(scheme) - 1;
	unsigned rights = 0;
	struct digest digest;

	if (authorization.len < n || authorization.len > n + TOKEN_LENGTH_MAX ||
	    strncasecmp((const char *)authorization.ptr, scheme, n) != 0) {
		return 0;
	}
	digest_of(&digest, bytes_of(authorization.ptr + n, authorization.len - n));
	/* All of them, so that time does not tell which. */
	for (size_t i = 0; i < t->count; i++) {
		bool equal = equal_in_constant_time(&digest, &t->tokens[i].digest);

		rights |= equal ? t->tokens[i].rights : 0;
	}
	return rights;
}
