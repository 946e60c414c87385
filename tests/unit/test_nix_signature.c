/* nix/signature.h: keys and signatures of Nix, of RFC 8032, and broken ones. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "craft.h"
#include "nix/signature.h"

/* nix-store --generate-binary-cache-key; and what nix store sign made with it. */
#define SECRET                                                                                \
	"test-1:8WUOfz8YVXBGWIqPVe5yE4/y7mGxl5KP5ZHkQx8KgACfbTqAm1LBkrtZ7flVsTR539ZYssszHarj" \
	"GwiscBwFXg=="
/* With another public key than that of the seed. */
#define DISAGREEING                                                              \
	"test-1:8WUOfz8YVXBGWIqPVe5yE4/y7mGxl5KP5ZHkQx8KgACfbTqAm1LBkrtZ7flVsTR" \
	"539ZYssszHarjGwiscBwFXw=="
#define PUBLIC "test-1:n206gJtSwZK7We35VbE0ed/WWLLLMx2q4xsIrHAcBV4="
#define FINGERPRINT                                                        \
	"1;/nix/store/qcb41k9r7n0k5844l0xr5jxhwf81yknb-refs;"              \
	"sha256:1jyfbhpzyrjvlf9q1p70v20x12h7cn6jq9rdw80l3hgmsa2s42ga;208;" \
	"/nix/store/86hsqb4np3ppz5gsivmgy3d5cz7k68n2-t.txt,"               \
	"/nix/store/zydyrz2ddv6vqfn3i24yd8dkmn740f6d-b"
#define SIGNATURE                                                              \
	"test-1:xNTlpdJgOFUYjBXk+XmyIes2IqrX6RaPqhDPEkkglmRdzp6PZnaI9cd3gfuj+" \
	"XBVyJ8nvzWUPJDGmgpz54l4Ag=="

static struct signing_key *signing(const char *text)
{
	struct signing_key *k = NULL;
	struct error err = {0};

	if (signing_key_parse(bytes_of_string(text), &k, &err) != 0) {
		fail_msg("%s", err.text);
	}
	return k;
}

static struct verifying_key *verifying(const char *text)
{
	struct verifying_key *k = NULL;
	struct error err = {0};

	if (verifying_key_parse(bytes_of_string(text), &k, &err) != 0) {
		fail_msg("%s", err.text);
	}
	return k;
}

static void assert_buffer(struct buffer *b, const char *want)
{
	assert_true(bytes_equal(buffer_bytes(b), bytes_of_string(want)));
	b->len = 0;
}

/* ---- Known answers ---- */

static void test_keys_of_nix(void **state unused)
{
	struct signing_key *k cleanup(cleanup_signing_key) = signing(SECRET);
	struct verifying_key *v cleanup(cleanup_verifying_key) = verifying(PUBLIC);
	struct path_signature s = {.name = (char[]){"test-1"}};
	struct buffer b cleanup(cleanup_buffer) = {0};

	assert_string_equal(signing_key_name(k), "test-1");
	assert_string_equal(verifying_key_name(v), "test-1");
	signing_key_format(k, &b);
	assert_buffer(&b, SECRET);
	signing_key_public_text(k, &b);
	assert_buffer(&b, PUBLIC);
	assert_int_equal(signing_key_sign(k, bytes_of_string(FINGERPRINT), s.data, NULL), 0);
	signature_format(&s, &b);
	assert_buffer(&b, SIGNATURE);
	assert_true(verifying_key_verify(v, bytes_of_string(FINGERPRINT), s.data));
}

/* RFC 8032, 7.1, test 1: the empty message. */
static void test_rfc(void **state unused)
{
	struct buffer secret cleanup(cleanup_buffer) = {0}, want cleanup(cleanup_buffer) = {0};
	char text[200] = "rfc:";
	uint8_t got[SIGNATURE_SIZE];

	craft_hex(&secret, "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
			   "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
	craft_hex(&want, "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
			 "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
	base64_encode(text + 4, buffer_bytes(&secret));
	struct signing_key *k cleanup(cleanup_signing_key) = signing(text);

	assert_int_equal(signing_key_sign(k, bytes_of(NULL, 0), got, NULL), 0);
	assert_memory_equal(got, want.ptr, SIGNATURE_SIZE);
}

static void test_wrong_signatures(void **state unused)
{
	struct verifying_key *v cleanup(cleanup_verifying_key) = verifying(PUBLIC);
	struct bytes name, message = bytes_of_string(FINGERPRINT);
	uint8_t data[SIGNATURE_SIZE];
	char changed[] = FINGERPRINT;

	assert_int_equal(signature_parse(bytes_of_string(SIGNATURE), &name, data, NULL), 0);
	assert_true(bytes_equal(name, bytes_of_string("test-1")));
	assert_true(verifying_key_verify(v, message, data));
	for (size_t bit = 0; bit < SIGNATURE_SIZE * 8; bit++) {
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(verifying_key_verify(v, message, data));
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	changed[20] ^= 1;
	assert_false(verifying_key_verify(v, bytes_of_string(changed), data));
	assert_false(verifying_key_verify(v, bytes_of(message.ptr, message.len - 1), data));
	assert_false(verifying_key_verify(v, bytes_of(NULL, 0), data));
}

/* ---- Keys that are made, and files ---- */

static void test_generate(void **state unused)
{
	struct signing_key *a cleanup(cleanup_signing_key) = NULL;
	struct signing_key *b cleanup(cleanup_signing_key) = NULL;
	struct buffer text cleanup(cleanup_buffer) = {0}, other cleanup(cleanup_buffer) = {0};
	uint8_t signature[SIGNATURE_SIZE];

	assert_int_equal(signing_key_generate(bytes_of_string("mine"), &a, NULL), 0);
	assert_int_equal(signing_key_generate(bytes_of_string("mine"), &b, NULL), 0);
	signing_key_format(a, &text);
	signing_key_format(b, &other);
	assert_false(bytes_equal(buffer_bytes(&text), buffer_bytes(&other)));
	buffer_append_byte(&text, '\0');
	struct signing_key *again cleanup(cleanup_signing_key) = signing((char *)text.ptr);

	text.len = 0;
	signing_key_public_text(a, &text);
	buffer_append_byte(&text, '\0');
	struct verifying_key *v cleanup(cleanup_verifying_key) = verifying((char *)text.ptr);

	assert_int_equal(signing_key_sign(again, bytes_of_string("m"), signature, NULL), 0);
	assert_true(verifying_key_verify(v, bytes_of_string("m"), signature));
	assert_int_equal(signing_key_sign(b, bytes_of_string("m"), signature, NULL), 0);
	assert_false(verifying_key_verify(v, bytes_of_string("m"), signature));
	assert_int_equal(signing_key_generate(bytes_of_string("a:b"), &a, NULL),
			 -ERROR_INVALID);
}

static void test_load(void **state unused)
{
	char path[] = "/tmp/cairn-key-XXXXXX";
	int fd = mkstemp(path);
	struct signing_key *k cleanup(cleanup_signing_key) = NULL;
	struct error err = {0};

	assert_true(fd >= 0);
	assert_int_equal(write(fd, SECRET "\r\n\n", sizeof(SECRET) + 2),
			 (ssize_t)sizeof(SECRET) + 2);
	assert_int_equal(signing_key_load(path, &k, &err), 0);
	assert_string_equal(signing_key_name(k), "test-1");
	/* Errors name the file. */
	struct signing_key *none = NULL;

	assert_int_equal(ftruncate(fd, 30), 0);
	assert_int_equal(signing_key_load(path, &none, &err), -ERROR_INVALID);
	assert_non_null(strstr(err.text, path));
	assert_non_null(strstr(err.text, "test-1 is no secret key"));
	assert_int_equal(ftruncate(fd, 5000), 0);
	assert_int_equal(signing_key_load(path, &none, &err), -ERROR_LIMIT);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(signing_key_load(path, &none, &err), -ERROR_NOT_FOUND);
	assert_non_null(strstr(err.text, path));
	assert_null(none);
	close(fd);
}

/* ---- What is refused ---- */

static void test_secret_keys_refused(void **state unused)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "not of the form NAME:BASE64"},
		{"test-1", "not of the form NAME:BASE64"},
		{":8WUOfz8Y", "without a name"},
		{"a b:8WUOfz8Y", "without a name"},
		{"test-1:", "test-1 is no secret key: that is 64 bytes"},
		{PUBLIC, "test-1 is no secret key: that is 64 bytes"},
		{" " SECRET, "without a name"},
		{SECRET "A", "is no secret key"},
		{DISAGREEING, "does not agree"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct signing_key *k = NULL;
		struct error err = {0};

		assert_int_equal(signing_key_parse(bytes_of_string(bad[i].text), &k, &err),
				 -ERROR_INVALID);
		assert_non_null(strstr(err.text, bad[i].why));
		/* Whatever is wrong, the secret stays one. */
		assert_null(strstr(err.text, "8WUOfz8Y"));
		assert_null(k);
	}
}

static void test_public_keys_refused(void **state unused)
{
	static const char secret[] = SECRET;
	static const char *const bad[] = {
		"",
		"test-1",
		":n206gJtSwZK7We35VbE0ed/WWLLLMx2q4xsIrHAcBV4=",
		"test-1:n206gJtSwZK7We35VbE0ed/WWLLLMx2q4xsIrHAcBV4",
		"test-1:n206gJtSwZK7We35VbE0ed/WWLLLMx2q4xsIrHAcBV5=",
		secret,
		"test-1: n206gJtSwZK7We35VbE0ed/WWLLLMx2q4xsIrHAcBV4="};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct verifying_key *k = NULL;
		struct error err = {0};

		assert_int_equal(verifying_key_parse(bytes_of_string(bad[i]), &k, &err),
				 -ERROR_INVALID);
		assert_non_null(strstr(err.text, "public key"));
		assert_null(strstr(err.text, "8WUOfz8Y"));
		assert_null(k);
	}
	struct verifying_key *k cleanup(cleanup_verifying_key) = verifying(PUBLIC "\n");

	assert_string_equal(verifying_key_name(k), "test-1");
	assert_int_equal(verifying_key_parse(bytes_of(NULL, 0), &k, NULL), -ERROR_INVALID);
}

static void test_signatures_refused(void **state unused)
{
	static const char *const bad[] = {
		"",     "test-1",       "test-1:",     ":",
		PUBLIC, SIGNATURE "\n", " " SIGNATURE, "test-1:" SIGNATURE};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct bytes name = {0};
		uint8_t data[SIGNATURE_SIZE] = {42};

		assert_int_equal(signature_parse(bytes_of_string(bad[i]), &name, data, NULL),
				 -ERROR_INVALID);
		assert_int_equal(data[0], 42);
		assert_null(name.ptr);
	}
}

/* ---- Path infos ---- */

static struct store_path path_of(const char *basename)
{
	struct store_path p;

	assert_int_equal(store_path_parse_basename(bytes_of_string(basename), &p, NULL), 0);
	return p;
}

static void test_path_info(void **state unused)
{
	struct path_info info cleanup(path_info_done) = {
		.path = path_of("qcb41k9r7n0k5844l0xr5jxhwf81yknb-refs"), .nar_size = 208};
	struct store_path references[] = {path_of("zydyrz2ddv6vqfn3i24yd8dkmn740f6d-b"),
					  path_of("86hsqb4np3ppz5gsivmgy3d5cz7k68n2-t.txt")};
	struct signing_key *k cleanup(cleanup_signing_key) = signing(SECRET);
	struct verifying_key *v cleanup(cleanup_verifying_key) = verifying(PUBLIC);
	struct verifying_key *other cleanup(cleanup_verifying_key) =
		verifying("test-2:n206gJtSwZK7We35VbE0ed/WWLLLMx2q4xsIrHAcBV4=");
	struct verifying_key *keys[] = {other, v};
	struct buffer b cleanup(cleanup_buffer) = {0};
	struct hash nar;

	assert_int_equal(
		hash_parse(
			bytes_of_string(
				"sha256:1jyfbhpzyrjvlf9q1p70v20x12h7cn6jq9rdw80l3hgmsa2s42ga"),
			&nar, NULL),
		0);
	memcpy(info.nar_sha256, nar.bytes, SHA256_SIZE);
	assert_int_equal(path_info_set_references(&info, references, 2, NULL), 0);
	path_info_fingerprint(&info, &b);
	assert_buffer(&b, FINGERPRINT);
	assert_false(path_info_signed_by(&info, keys, 2));
	assert_int_equal(path_info_sign(&info, k, NULL), 0);
	assert_int_equal(path_info_sign(&info, k, NULL), 0);
	assert_int_equal(info.signature_count, 1);
	signature_format(&info.signatures[0], &b);
	assert_buffer(&b, SIGNATURE);
	assert_true(path_info_signed_by(&info, keys, 2));
	/* The right key under another name, no key, and something else that was signed. */
	assert_false(path_info_signed_by(&info, keys, 1));
	assert_false(path_info_signed_by(&info, NULL, 0));
	info.nar_size++;
	assert_false(path_info_signed_by(&info, keys, 2));
	/* Signed anew, the old signature goes. */
	assert_int_equal(path_info_sign(&info, k, NULL), 0);
	assert_int_equal(info.signature_count, 1);
	assert_true(path_info_signed_by(&info, keys, 2));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_of_nix),
		cmocka_unit_test(test_rfc),
		cmocka_unit_test(test_wrong_signatures),
		cmocka_unit_test(test_generate),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_secret_keys_refused),
		cmocka_unit_test(test_public_keys_refused),
		cmocka_unit_test(test_signatures_refused),
		cmocka_unit_test(test_path_info),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
