/* What Nix writes in one word: store paths, hashes, content addresses, keys and signatures. */

#include <stdint.h>
#include <stdlib.h>

#include "nix/signature.h"

#include "fuzz.h"

static void check_error(int rc, const struct error *err)
{
	check(rc == -(int)ERROR_INVALID && err->code == ERROR_INVALID && told(err));
}

static void try_store_path(struct bytes text)
{
	char back[STORE_PATH_MAX + 1];
	struct store_path p = {0};
	struct error err = {0};
	int rc = store_path_parse(text, &p, &err);

	if (rc == 0) {
		size_t len = store_path_absolute(&p, back);

		check(bytes_equal(bytes_of(back, len), text));
	} else {
		check_error(rc, &err);
	}
	rc = store_path_parse_basename(text, &p, &err);
	if (rc == 0) {
		size_t len = store_path_basename(&p, back);

		check(bytes_equal(bytes_of(back, len), text));
	} else {
		check_error(rc, &err);
	}
}

static void try_hash(struct bytes text)
{
	struct hash h = {0}, again = {0};
	struct buffer b = {0};
	struct error err = {0};
	int rc = hash_parse(text, &h, &err);

	if (rc != 0) {
		check_error(rc, &err);
		return;
	}
	hash_format(&h, &b);
	check(hash_parse(buffer_bytes(&b), &again, &err) == 0 && hash_equal(&h, &again));
	buffer_done(&b);
}

static void try_content_address(struct bytes text)
{
	struct content_address ca = {0}, again = {0};
	struct buffer b = {0};
	struct store_path made;
	struct error err = {0};
	int rc = content_address_parse(text, &ca, &err);

	if (rc != 0) {
		check_error(rc, &err);
		return;
	}
	content_address_format(&ca, &b);
	check(content_address_parse(buffer_bytes(&b), &again, &err) == 0);
	check(ca.method == again.method && hash_equal(&ca.hash, &again.hash));
	check(store_path_make(&ca, bytes_of_string("name"), NULL, 0, false, &made, &err) == 0);
	buffer_done(&b);
}

static void try_keys(struct bytes text)
{
	struct path_info info = {0};
	uint8_t data[SIGNATURE_SIZE];
	struct verifying_key *public = NULL;
	struct signing_key *secret = NULL;
	struct bytes name = {0};
	struct buffer b = {0};
	struct error err = {0};
	int rc = signature_parse(text, &name, data, &err);

	if (rc == 0) {
		check(path_info_keep_signature(&info, name, data, &err) == 1);
		signature_format(&info.signatures[0], &b);
		check(bytes_equal(buffer_bytes(&b), text));
	} else {
		check_error(rc, &err);
	}
	rc = verifying_key_parse(text, &public, &err);
	check((rc == 0) == (public != NULL));
	rc = signing_key_parse(text, &secret, &err);
	check((rc == 0) == (secret != NULL));
	verifying_key_free(public);
	signing_key_free(secret);
	path_info_done(&info);
	buffer_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes text = bytes_of(data, size);

	try_store_path(text);
	try_hash(text);
	try_content_address(text);
	try_keys(text);
	return 0;
}
