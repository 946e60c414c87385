/* nix/path_info.h: messages made by hand, and what each rule refuses. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "craft.h"
#include "nix/path_info.h"

#define HELLO "w9yy7v61ipb5rx6i35zq1mvc2iqfmps1-hello-2.10"
#define GLIBC "9df65igwjmf2wbw0gbrrgair6piqjgmi-glibc-2.31"

static struct store_path path_of(const char *basename)
{
	struct store_path p;

	assert_int_equal(store_path_parse_basename(bytes_of_string(basename), &p, NULL), 0);
	return p;
}

/* ---- A message by its parts; each test spoils one ---- */

struct parts {
	struct node node;
	const char *name;
	size_t references;
	size_t names;
	const char *reference[4]; /* the names; the hashes are theirs */
	size_t hash_size;
	uint64_t nar_size;
	size_t sha256_size;
	size_t signatures;
	const char *signature_name;
	size_t signature_size;
	const char *deriver; /* HASH-NAME, or NULL */
	size_t deriver_hash_size;
	int ca_type; /* -1: none */
	size_t ca_size;
};

static const struct parts good = {
	.name = HELLO,
	.references = 2,
	.names = 2,
	.reference = {GLIBC, HELLO},
	.hash_size = STORE_PATH_HASH_SIZE,
	.nar_size = 205968,
	.sha256_size = SHA256_SIZE,
	.signatures = 1,
	.signature_name = "cache.nixos.org-1",
	.signature_size = SIGNATURE_SIZE,
	.deriver = "5rwxzi7pal3qhpsyfc16gzkh939q1np6-hello-2.10",
	.deriver_hash_size = STORE_PATH_HASH_SIZE,
	.ca_type = -1,
};

static const uint8_t sevens[128] = {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7};

static void craft_signatures(struct buffer *narinfo, const struct parts *p)
{
	for (size_t i = 0; i < p->signatures; i++) {
		struct buffer s cleanup(cleanup_buffer) = {0};
		uint8_t data[128] = {(uint8_t)i, (uint8_t)(i >> 8)};

		craft_string(&s, 1, p->signature_name);
		craft_bytes(&s, 2, bytes_of(data, p->signature_size));
		craft_wrap(narinfo, 3, &s);
	}
}

static void craft_deriver_and_ca(struct buffer *narinfo, const struct parts *p)
{
	struct buffer m cleanup(cleanup_buffer) = {0};

	if (p->deriver) {
		uint8_t hash[128] = {0};
		struct store_path path = path_of("00000000000000000000000000000000-x");

		(void)store_path_parse_basename(bytes_of_string(p->deriver), &path, NULL);
		memcpy(hash, path.hash, sizeof(path.hash));
		if (p->deriver[33]) {
			craft_string(&m, 1, p->deriver + 33);
		}
		craft_bytes(&m, 2, bytes_of(hash, p->deriver_hash_size));
		craft_wrap(narinfo, 5, &m);
	}
	if (p->ca_type >= 0) {
		if (p->ca_type) {
			craft_number(&m, 1, (uint64_t)p->ca_type);
		}
		craft_bytes(&m, 2, bytes_of(sevens, p->ca_size));
		craft_wrap(narinfo, 6, &m);
	}
}

static void craft_narinfo(struct buffer *b, const struct parts *p)
{
	struct buffer narinfo cleanup(cleanup_buffer) = {0};

	if (p->nar_size) {
		craft_number(&narinfo, 1, p->nar_size);
	}
	craft_bytes(&narinfo, 2, bytes_of(sevens, p->sha256_size));
	craft_signatures(&narinfo, p);
	for (size_t i = 0; i < p->names; i++) {
		craft_string(&narinfo, 4, p->reference[i]);
	}
	craft_deriver_and_ca(&narinfo, p);
	craft_wrap(b, 3, &narinfo);
}

static void craft_node(struct buffer *b, const struct parts *p)
{
	struct node node = p->node.kind ? p->node : craft_directory_node(0x11, 42);
	struct buffer m cleanup(cleanup_buffer) = {0};

	node_encode(&m, bytes_of_string(p->name), &node);
	craft_wrap(b, 1, &m);
}

static void craft_message(struct buffer *b, const struct parts *p)
{
	craft_node(b, p);
	for (size_t i = 0; i < p->references; i++) {
		uint8_t hash[128] = {0};
		struct store_path path = path_of(HELLO);

		(void)store_path_parse_basename(bytes_of_string(p->reference[i]), &path, NULL);
		memcpy(hash, path.hash, sizeof(path.hash));
		craft_bytes(b, 2, bytes_of(hash, p->hash_size));
	}
	craft_narinfo(b, p);
}

/* ---- What is good ---- */

static void decode(struct bytes message, struct path_info *out)
{
	struct error err = {0};

	if (path_info_decode(message, out, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static void assert_encodes(const struct path_info *info, struct bytes message)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	/* Appended, whatever is there already. */
	buffer_append_string(&b, "before");
	path_info_encode(&b, info);
	assert_true(bytes_equal(bytes_of(b.ptr + 6, b.len - 6), message));
}

static void test_all_fields(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};
	struct path_info info cleanup(path_info_done) = {0};
	struct node node = craft_directory_node(0x11, 42);
	struct store_path deriver;

	craft_message(&b, &good);
	decode(buffer_bytes(&b), &info);
	assert_string_equal(store_path_text(&info.path), STORE_DIR "/" HELLO);
	assert_true(node_equal(&info.node.node, &node));
	assert_int_equal(info.nar_size, 205968);
	assert_memory_equal(info.nar_sha256, sevens, SHA256_SIZE);
	assert_int_equal(info.reference_count, 2);
	assert_string_equal(store_path_text(&info.references[0]), STORE_DIR "/" GLIBC);
	assert_string_equal(store_path_text(&info.references[1]), STORE_DIR "/" HELLO);
	assert_int_equal(info.signature_count, 1);
	assert_string_equal(info.signatures[0].name, "cache.nixos.org-1");
	assert_true(info.has_deriver);
	assert_string_equal(info.deriver.name, "hello-2.10");
	path_info_deriver_path(&info, &deriver);
	assert_string_equal(store_path_text(&deriver),
			    STORE_DIR "/5rwxzi7pal3qhpsyfc16gzkh939q1np6-hello-2.10.drv");
	assert_false(info.has_ca);
	assert_encodes(&info, buffer_bytes(&b));
}

static void assert_round_trip(const struct parts *p)
{
	struct buffer b cleanup(cleanup_buffer) = {0};
	struct path_info info cleanup(path_info_done) = {0}, copy cleanup(path_info_done) = {0};

	craft_message(&b, p);
	decode(buffer_bytes(&b), &info);
	assert_encodes(&info, buffer_bytes(&b));
	/* Twice: what is there already is replaced. */
	path_info_copy(&copy, &info);
	path_info_copy(&copy, &info);
	decode(buffer_bytes(&b), &info);
	path_info_done(&info);
	assert_encodes(&copy, buffer_bytes(&b));
}

static void test_round_trip(void **state unused)
{
	struct parts p = good;

	p.node = craft_file_node(3, 9, true);
	assert_round_trip(&p);
	p.node = craft_file_node(3, 0, false);
	assert_round_trip(&p);
	p.node = craft_symlink_node("/nix/store/somewhere");
	assert_round_trip(&p);
	p.node = craft_directory_node(3, 0);
	assert_round_trip(&p);
	p.nar_size = UINT64_MAX;
	p.deriver = NULL;
	assert_round_trip(&p);
	p.signatures = 0;
	p.references = p.names = 0;
	assert_round_trip(&p);
	p.signatures = PATH_INFO_SIGNATURES_MAX;
	assert_round_trip(&p);
}

static const struct {
	enum ca_method method;
	enum hash_algorithm algorithm;
	size_t size;
} ca_types[] = {
	{CA_NAR, HASH_SHA256, 32}, {CA_NAR, HASH_SHA1, 20},    {CA_NAR, HASH_SHA512, 64},
	{CA_NAR, HASH_MD5, 16},    {CA_TEXT, HASH_SHA256, 32}, {CA_FLAT, HASH_SHA1, 20},
	{CA_FLAT, HASH_MD5, 16},   {CA_FLAT, HASH_SHA256, 32}, {CA_FLAT, HASH_SHA512, 64},
};

static void test_content_address_types(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(ca_types); i++) {
		struct buffer b cleanup(cleanup_buffer) = {0};
		struct path_info info cleanup(path_info_done) = {0};
		struct parts p = good;

		p.ca_type = (int)i;
		p.ca_size = ca_types[i].size;
		craft_message(&b, &p);
		decode(buffer_bytes(&b), &info);
		assert_true(info.has_ca);
		assert_int_equal(info.ca.method, ca_types[i].method);
		assert_int_equal(info.ca.hash.algorithm, ca_types[i].algorithm);
		assert_memory_equal(info.ca.hash.bytes, sevens, ca_types[i].size);
		assert_encodes(&info, buffer_bytes(&b));
	}
}

static void test_references_are_sorted(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0}, sorted cleanup(cleanup_buffer) = {0};
	struct path_info info cleanup(path_info_done) = {0};
	struct parts p = good;

	craft_message(&sorted, &p);
	p.reference[0] = HELLO;
	p.reference[1] = GLIBC;
	craft_message(&b, &p);
	decode(buffer_bytes(&b), &info);
	assert_encodes(&info, buffer_bytes(&sorted));
}

/* ---- What is refused ---- */

static void assert_message_refused(struct bytes message, enum error_code code, const char *why)
{
	struct path_info info = {.nar_size = 99};
	struct error err = {0};

	assert_int_equal(path_info_decode(message, &info, &err), -(int)code);
	assert_int_equal(err.code, code);
	if (!strstr(err.text, why)) {
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	}
	assert_int_equal(info.nar_size, 99);
}

static void assert_refused(struct parts p, const char *why)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	craft_message(&b, &p);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, why);
}

/* The good message, but for what the statements change in p. */
#define REFUSED(why, ...)                             \
	assert_refused(({                             \
			       struct parts p = good; \
			       __VA_ARGS__;           \
			       p;                     \
		       }),                            \
		       why)

static void test_rules(void **state unused)
{
	REFUSED("the node of a PathInfo: \"hello\" is no store path", p.name = "hello");
	REFUSED("the node of a PathInfo: \"\" is no store path", p.name = "");
	REFUSED("the name of a store path is empty",
		p.name = "w9yy7v61ipb5rx6i35zq1mvc2iqfmps1-");
	REFUSED("the name", p.name = "w9yy7v61ipb5rx6i35zq1mvc2iqfmps1-a/b");
	REFUSED("target", p.node.kind = NODE_SYMLINK; p.node.target = bytes_of("\0", 1));
	REFUSED("a NAR of 0 bytes", p.nar_size = 0);
	REFUSED("a nar_sha256 of 31 bytes, not 32", p.sha256_size = 31);
	REFUSED("a nar_sha256 of 33 bytes, not 32", p.sha256_size = 33);
	REFUSED("a reference of 19 bytes, not 20", p.hash_size = 19);
	REFUSED("a reference of 21 bytes, not 20", p.hash_size = 21);
	REFUSED("2 references, but 1 reference_names", p.names = 1);
	REFUSED("1 references, but 2 reference_names", p.references = 1);
	REFUSED("\"glibc\" is no store path", p.reference[1] = "glibc");
	REFUSED("is no store path", p.reference[0] = "/nix/store/" GLIBC);
	REFUSED("there twice", p.reference[0] = HELLO);
}

static void test_more_rules(void **state unused)
{
	REFUSED("a signature of 63 bytes, not 64", p.signature_size = 63);
	REFUSED("a signature of 65 bytes, not 64", p.signature_size = 65);
	REFUSED("is no name of a key", p.signature_name = "a:b");
	REFUSED("is no name of a key", p.signature_name = "a b");
	REFUSED("is no name of a key", p.signature_name = "a\n");
	REFUSED("is no name of a key", p.signature_name = "k\xc3\xa4");
	REFUSED("the deriver of a PathInfo: a digest of 19", p.deriver_hash_size = 19);
	REFUSED("the deriver of a PathInfo: a digest of 1", p.deriver_hash_size = 1);
	REFUSED("the deriver", p.deriver = "5rwxzi7pal3qhpsyfc16gzkh939q1np6-a/b");
	/* ".drv" is a name, but nothing is left of it; and "..drv" is a dot without it. */
	REFUSED("is empty", p.deriver = "5rwxzi7pal3qhpsyfc16gzkh939q1np6-");
	REFUSED("\".\" and \"..\"", p.deriver = "5rwxzi7pal3qhpsyfc16gzkh939q1np6-.");
	REFUSED("of an unknown type 9", p.ca_type = 9; p.ca_size = 32);
	REFUSED("of an unknown type 2147483647", p.ca_type = INT32_MAX; p.ca_size = 32);
	for (int type = 0; type < (int)ARRAY_SIZE(ca_types); type++) {
		size_t size = ca_types[type].size;

		REFUSED("the digest of a content address", p.ca_type = type;
			p.ca_size = size - 1);
		REFUSED("the digest of a content address", p.ca_type = type;
			p.ca_size = size + 1);
	}
}

static void test_long_deriver(void **state unused)
{
	char name[33 + STORE_PATH_NAME_MAX + 1] = "5rwxzi7pal3qhpsyfc16gzkh939q1np6-";
	struct parts p = good;

	/* With ".drv" it is as long as names may be, and then longer. */
	memset(name + 33, 'd', STORE_PATH_NAME_MAX - 4);
	p.deriver = name;
	assert_round_trip(&p);
	memset(name + 33, 'd', STORE_PATH_NAME_MAX - 3);
	assert_refused(p, "the deriver of a PathInfo: its name is too long");
}

static void test_limits(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};
	struct parts p = good;

	p.signatures = PATH_INFO_SIGNATURES_MAX + 1;
	craft_message(&b, &p);
	assert_message_refused(buffer_bytes(&b), ERROR_LIMIT, "more than 256 signatures");
	assert_message_refused(bytes_of(b.ptr, PATH_INFO_MESSAGE_MAX + 1), ERROR_LIMIT,
			       "a PathInfo of 33554433 bytes, more than 33554432");

	/* References that are empty: two bytes each of the message, and far more to decode. */
	b.len = 0;
	craft_node(&b, &good);
	for (size_t i = 0; i < PATH_INFO_MESSAGE_MAX / 2 - 1000; i++) {
		craft_bytes(&b, 2, bytes_of(NULL, 0));
	}
	craft_narinfo(&b, &good);
	assert_message_refused(buffer_bytes(&b), ERROR_LIMIT, "to decode");
}

static void craft_many_references(struct buffer *b, size_t count)
{
	struct buffer narinfo cleanup(cleanup_buffer) = {0};

	craft_node(b, &good);
	craft_number(&narinfo, 1, 120);
	craft_bytes(&narinfo, 2, bytes_of(sevens, SHA256_SIZE));
	for (size_t i = 0; i < count; i++) {
		struct store_path p = path_of(HELLO);
		char basename[STORE_PATH_BASENAME_MAX + 1];

		/* In order: the last byte counts most. */
		p.hash[19] = (uint8_t)(i >> 16);
		p.hash[18] = (uint8_t)(i >> 8);
		p.hash[17] = (uint8_t)i;
		memset(p.name, 'n', STORE_PATH_NAME_MAX);
		p.name_len = STORE_PATH_NAME_MAX;
		store_path_basename(&p, basename);
		craft_bytes(b, 2, bytes_of(p.hash, sizeof(p.hash)));
		craft_string(&narinfo, 4, basename);
	}
	craft_wrap(b, 3, &narinfo);
}

static void test_most_references(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};
	struct path_info info cleanup(path_info_done) = {0};

	craft_many_references(&b, PATH_INFO_REFERENCES_MAX);
	assert_true(b.len <= PATH_INFO_MESSAGE_MAX);
	decode(buffer_bytes(&b), &info);
	assert_int_equal(info.reference_count, PATH_INFO_REFERENCES_MAX);
	assert_encodes(&info, buffer_bytes(&b));
	b.len = 0;
	craft_many_references(&b, PATH_INFO_REFERENCES_MAX + 1);
	assert_message_refused(buffer_bytes(&b), ERROR_LIMIT, "65537 references");
}

static void test_not_canonical(void **state unused)
{
	static const char *const why = "not in canonical form";
	struct buffer b cleanup(cleanup_buffer) = {0}, m cleanup(cleanup_buffer) = {0};
	struct parts p = good;

	/* narinfo first. */
	craft_narinfo(&b, &p);
	craft_node(&b, &p);
	p.references = p.names = 0;
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, why);
	/* A node twice. */
	b.len = 0;
	craft_node(&b, &p);
	craft_message(&b, &p);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, why);
	/* A number that is written longer than it is. */
	b.len = 0;
	craft_node(&b, &p);
	craft_varint(&m, 1 << 3);
	craft_long_varint(&m, 120, 3);
	craft_bytes(&m, 2, bytes_of(sevens, SHA256_SIZE));
	craft_wrap(&b, 3, &m);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, why);
	/* A NUL in a string. */
	b.len = 0;
	p.references = 1;
	craft_node(&b, &p);
	craft_bytes(&b, 2, bytes_of(path_of(GLIBC).hash, STORE_PATH_HASH_SIZE));
	craft_number(&m, 1, 120);
	craft_bytes(&m, 2, bytes_of(sevens, SHA256_SIZE));
	craft_bytes(&m, 4, bytes_of(GLIBC "\0/evil", sizeof(GLIBC "\0/evil") - 1));
	craft_wrap(&b, 3, &m);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, why);
}

static void test_unknown_fields(void **state unused)
{
	static const char *const why = "a field that is not known";
	struct buffer b cleanup(cleanup_buffer) = {0}, m cleanup(cleanup_buffer) = {0},
			s cleanup(cleanup_buffer) = {0};
	static const unsigned fields[] = {3, 5, 6};

	craft_message(&b, &good);
	craft_number(&b, 4, 1);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, why);
	b.len = 0;
	craft_node(&b, &good);
	craft_number(&m, 7, 1);
	craft_wrap(&b, 3, &m);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, why);
	/* In a signature, the deriver, the content address. */
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		b.len = 0;
		craft_node(&b, &good);
		craft_number(&s, 15, 1);
		craft_wrap(&m, fields[i], &s);
		craft_wrap(&b, 3, &m);
		assert_message_refused(buffer_bytes(&b), ERROR_INVALID, why);
	}
	/* In the node. */
	b.len = 0;
	craft_string(&s, 1, HELLO);
	craft_digest(&s, 1);
	craft_number(&s, 9, 1);
	craft_wrap(&m, 1, &s);
	craft_wrap(&b, 1, &m);
	craft_narinfo(&b, &good);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, "not in canonical form");
}

static void test_broken_messages(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	assert_message_refused(bytes_of(NULL, 0), ERROR_INVALID, "without a node");
	craft_message(&b, &good);
	/* Cut off anywhere. */
	for (size_t len = 0; len < b.len; len++) {
		assert_message_refused(bytes_of(b.ptr, len), ERROR_INVALID, "a PathInfo");
	}
	buffer_append_byte(&b, 0);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, "no such message");
	b.len = 0;
	craft_node(&b, &good);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, "without narinfo");
	b.len = 0;
	craft_narinfo(&b, &good);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, "without a node");
	/* A node that is none. */
	b.len = 0;
	craft_bytes(&b, 1, bytes_of(NULL, 0));
	craft_narinfo(&b, &good);
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID,
			       "no directory, file or symlink");
	b.len = 0;
	craft_hex(&b, "0affffffffffffffffff01");
	assert_message_refused(buffer_bytes(&b), ERROR_INVALID, "no such message");
}

/* ---- Values ---- */

static void test_fingerprint(void **state unused)
{
	struct path_info info cleanup(path_info_done) = {.path = path_of(HELLO),
							 .nar_size = 205968};
	const struct store_path references[] = {path_of(HELLO), path_of(GLIBC)};
	struct buffer b cleanup(cleanup_buffer) = {0};
	struct hash nar;

	assert_int_equal(
		hash_parse(
			bytes_of_string(
				"sha256:1mi14cqk363wv368ffiiy01knardmnlyphi6h9xv6dkjz44hk30i"),
			&nar, NULL),
		0);
	memcpy(info.nar_sha256, nar.bytes, SHA256_SIZE);
	path_info_fingerprint(&info, &b);
	assert_true(bytes_equal(
		buffer_bytes(&b),
		bytes_of_string("1;/nix/store/" HELLO
				";sha256:1mi14cqk363wv368ffiiy01knardmnlyphi6h9xv6dkjz44hk30i;"
				"205968;")));
	assert_int_equal(path_info_set_references(&info, references, 2, NULL), 0);
	b.len = 0;
	path_info_fingerprint(&info, &b);
	assert_true(bytes_equal(
		buffer_bytes(&b),
		bytes_of_string("1;/nix/store/" HELLO
				";sha256:1mi14cqk363wv368ffiiy01knardmnlyphi6h9xv6dkjz44hk30i;"
				"205968;/nix/store/" GLIBC ",/nix/store/" HELLO)));
}

static void test_signatures(void **state unused)
{
	struct path_info info cleanup(path_info_done) = {0};
	struct bytes a = bytes_of_string("a"), b = bytes_of_string("b");
	uint8_t one[SIGNATURE_SIZE] = {1}, two[SIGNATURE_SIZE] = {2},
		three[SIGNATURE_SIZE] = {3};

	assert_int_equal(path_info_add_signature(&info, a, one, NULL), 1);
	assert_int_equal(path_info_add_signature(&info, a, one, NULL), 0);
	assert_int_equal(path_info_keep_signature(&info, a, one, NULL), 0);
	assert_int_equal(path_info_keep_signature(&info, b, one, NULL), 1);
	assert_int_equal(path_info_keep_signature(&info, a, two, NULL), 1);
	assert_int_equal(info.signature_count, 3);
	/* One of them stays, the other one goes. */
	assert_int_equal(path_info_add_signature(&info, a, two, NULL), 1);
	assert_int_equal(info.signature_count, 2);
	assert_string_equal(info.signatures[0].name, "b");
	assert_memory_equal(info.signatures[1].data, two, SIGNATURE_SIZE);
	assert_int_equal(path_info_keep_signature(&info, a, one, NULL), 1);
	assert_int_equal(path_info_add_signature(&info, a, three, NULL), 1);
	assert_int_equal(info.signature_count, 2);
	assert_memory_equal(info.signatures[1].data, three, SIGNATURE_SIZE);
	assert_int_equal(path_info_add_signature(&info, bytes_of_string(""), one, NULL),
			 -ERROR_INVALID);
	assert_int_equal(info.signature_count, 2);
}

static void test_key_names(void **state unused)
{
	char longest[SIGNATURE_NAME_MAX + 1];

	memset(longest, 'k', sizeof(longest));
	assert_int_equal(signature_check_name(bytes_of(longest, SIGNATURE_NAME_MAX), NULL), 0);
	assert_int_equal(signature_check_name(bytes_of(longest, sizeof(longest)), NULL),
			 -ERROR_INVALID);
	assert_int_equal(signature_check_name(bytes_of(NULL, 0), NULL), -ERROR_INVALID);
	for (unsigned c = 0; c < 256; c++) {
		uint8_t name[] = {'k', (uint8_t)c};

		assert_int_equal(signature_check_name(bytes_of(name, 2), NULL) == 0,
				 c > ' ' && c < 127 && c != ':');
	}
}

static void test_deriver(void **state unused)
{
	struct path_info info cleanup(path_info_done) = {0};
	struct store_path drv = path_of("5rwxzi7pal3qhpsyfc16gzkh939q1np6-a.drv"), back;
	static const char *const bad[] = {"5rwxzi7pal3qhpsyfc16gzkh939q1np6-a",
					  "5rwxzi7pal3qhpsyfc16gzkh939q1np6-drv",
					  "5rwxzi7pal3qhpsyfc16gzkh939q1np6-.drv",
					  "5rwxzi7pal3qhpsyfc16gzkh939q1np6-..drv",
					  "5rwxzi7pal3qhpsyfc16gzkh939q1np6-a.DRV"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct store_path path = path_of(bad[i]);
		struct error err = {0};

		assert_int_equal(path_info_set_deriver(&info, &path, &err), -ERROR_INVALID);
		assert_non_null(strstr(err.text, "the deriver /nix/store/"));
		assert_false(info.has_deriver);
	}
	assert_int_equal(path_info_set_deriver(&info, &drv, NULL), 0);
	assert_string_equal(info.deriver.name, "a");
	path_info_deriver_path(&info, &back);
	assert_int_equal(store_path_compare(&back, &drv), 0);
	assert_int_equal(back.name_len, 5);
	/* The output of a derivation may be one itself. */
	drv = path_of("5rwxzi7pal3qhpsyfc16gzkh939q1np6-a.drv.drv");
	assert_int_equal(path_info_set_deriver(&info, &drv, NULL), 0);
	assert_string_equal(info.deriver.name, "a.drv");
}

/* Paths that nix store make-content-addressed and builtins.toFile made. */
static void test_content_addressed(void **state unused)
{
	struct path_info info cleanup(path_info_done) = {
		.path = path_of("alrq5yblrmn2gkqpy8gbnjw1vm9h656c-selfref"), .has_ca = true};
	struct store_path references[2] = {path_of("alrq5yblrmn2gkqpy8gbnjw1vm9h656c-selfref"),
					   path_of("86hsqb4np3ppz5gsivmgy3d5cz7k68n2-t.txt")};
	const char *ca = "fixed:r:sha256:1c00y6p9vgpz88lgdk5a2ampmgkkmy248bcj1maah276c7rkm590";

	assert_int_equal(content_address_parse(bytes_of_string(ca), &info.ca, NULL), 0);
	assert_false(path_info_content_addressed(&info));
	assert_int_equal(path_info_set_references(&info, references, 2, NULL), 0);
	assert_true(path_info_content_addressed(&info));
	info.path.hash[0] ^= 1;
	assert_false(path_info_content_addressed(&info));
	info.path.hash[0] ^= 1;
	info.path.name[0] = 'x';
	assert_false(path_info_content_addressed(&info));
	info.path.name[0] = 's';
	info.ca.method = CA_FLAT;
	assert_false(path_info_content_addressed(&info));
	info.ca.method = CA_NAR;
	info.has_ca = false;
	assert_false(path_info_content_addressed(&info));
	info.path = path_of("9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt");
	info.has_ca = true;
	ca = "text:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic";
	assert_int_equal(content_address_parse(bytes_of_string(ca), &info.ca, NULL), 0);
	assert_int_equal(path_info_set_references(&info, NULL, 0, NULL), 0);
	assert_true(path_info_content_addressed(&info));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_fields),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_content_address_types),
		cmocka_unit_test(test_references_are_sorted),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_more_rules),
		cmocka_unit_test(test_long_deriver),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_most_references),
		cmocka_unit_test(test_not_canonical),
		cmocka_unit_test(test_unknown_fields),
		cmocka_unit_test(test_broken_messages),
		cmocka_unit_test(test_fingerprint),
		cmocka_unit_test(test_signatures),
		cmocka_unit_test(test_key_names),
		cmocka_unit_test(test_deriver),
		cmocka_unit_test(test_content_addressed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
