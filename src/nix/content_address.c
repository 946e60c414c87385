#include "nix/content_address.h"

static bool take_prefix(struct bytes *text, const char *prefix)
{
	size_t len = strlen(prefix);

	if (text->len < len || memcmp(text->ptr, prefix, len) != 0) {
		return false;
	}
	*text = bytes_of(text->ptr + len, text->len - len);
	return true;
}

int content_address_parse(struct bytes text, struct content_address *out, struct error *err)
{
	struct content_address ca = {0};
	struct bytes rest = text;

	if (take_prefix(&rest, "text:")) {
		ca.method = CA_TEXT;
	} else if (take_prefix(&rest, "fixed:")) {
		ca.method = take_prefix(&rest, "r:") ? CA_NAR : CA_FLAT;
	} else {
		return error_set(err, ERROR_INVALID,
				 "\"%s\" is no content address: it begins with neither "
				 "\"text:\" nor \"fixed:\"",
				 bytes_printable(text));
	}
	/* A hash of the form sha256-… stands alone only. */
	bool colon = rest.len && memchr(rest.ptr, ':', rest.len);
	int rc = colon ? hash_parse(rest, &ca.hash, err)
		       : error_set(err, ERROR_INVALID, "it has no ALGORITHM:DIGEST");

	if (rc == 0 && ca.method == CA_TEXT && ca.hash.algorithm != HASH_SHA256) {
		rc = error_set(err, ERROR_INVALID, "text is addressed by its sha256 only");
	}
	if (rc != 0) {
		return error_wrap(err, "\"%s\" is no content address", bytes_printable(text));
	}
	*out = ca;
	return 0;
}

void content_address_format(const struct content_address *ca, struct buffer *out)
{
	static const char *const prefixes[] = {
		[CA_TEXT] = "text:", [CA_FLAT] = "fixed:", [CA_NAR] = "fixed:r:"};

	buffer_append_string(out, prefixes[ca->method]);
	hash_format(&ca->hash, out);
}
