/* nix/narinfo.h: what cache.nixos.org published, with its signatures, and what is refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>

#include "base/io.h"
#include "craft.h"
#include "nix/narinfo.h"
#include "nix/signature.h"

#define CACHE_KEY "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="

static void parse(struct bytes text, struct narinfo *out)
{
	struct error err = {0};

	if (narinfo_parse(text, out, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static void assert_formats(const struct narinfo *n, struct bytes want)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	buffer_append_string(&b, "before");
	narinfo_format(n, &b);
	assert_true(bytes_equal(bytes_of(b.ptr + 6, b.len - 6), want));
}

/* ---- The real thing ---- */

struct published {
	const char *file;
	size_t references;
	const char *deriver; /* its name, or NULL */
	const char *ca;      /* or NULL */
	bool as_nix;         /* every line as Nix writes it */
};

static const struct published all_published[] = {
	{"hello-2.10", 2, NULL, NULL, true},
	{"hello-2.12.1", 2, "hello-2.12.1", NULL, true},
	{"glibc-2.27", 1, "glibc-2.27", NULL, true},
	{"curl-7.82.0-bin", 4, "curl-7.82.0", NULL, true},
	{"ripgrep-15.2.0", 3, NULL, NULL, true},
	{"gnutls-3.8.6.tar.xz.drv", 5, NULL,
	 "text:sha256:18cyz621xqngdfc8kmxrj3v5rrxyzdls5ahqb6qaq5ggm7q9gjdq", true},
	{"hello-2.12.1.tar.gz", 0, "hello-2.12.1.tar.gz",
	 "fixed:sha256:086vqwk2wl8zfs47sq2xpjc9k066ilmb8z6dn0q6ymwjzlm196cd", true},
	{"source", 0, NULL,
	 "fixed:r:sha256:0555pg9zcr3aazyxqb6g6q8vq3lc5zz3rnqx8ga1i3bs2q04yb4q", false},
};

static void load(const char *file, struct buffer *out)
{
	char path[4096];

	snprintf(path, sizeof(path), TEST_DATA "/narinfo/%s.narinfo", file);
	assert_int_equal(read_small_file(AT_FDCWD, path, NARINFO_SIZE_MAX, out, NULL), 1);
}

static void check_published(const struct published *p)
{
	struct buffer text cleanup(cleanup_buffer) = {0}, ca cleanup(cleanup_buffer) = {0};
	struct narinfo n cleanup(narinfo_done) = {0};
	struct verifying_key *key cleanup(cleanup_verifying_key) = NULL;

	assert_int_equal(verifying_key_parse(bytes_of_string(CACHE_KEY), &key, NULL), 0);
	load(p->file, &text);
	parse(buffer_bytes(&text), &n);
	assert_string_equal(n.info.path.name, p->file);
	assert_int_equal(n.info.reference_count, p->references);
	assert_int_equal(n.info.has_deriver, p->deriver != NULL);
	if (p->deriver) {
		assert_string_equal(n.info.deriver.name, p->deriver);
	}
	assert_int_equal(n.info.has_ca, p->ca != NULL);
	assert_int_equal(path_info_content_addressed(&n.info), p->ca != NULL);
	if (p->ca) {
		content_address_format(&n.info.ca, &ca);
		assert_true(bytes_equal(buffer_bytes(&ca), bytes_of_string(p->ca)));
	}
	assert_true(n.has_file_hash && n.has_file_size);
	assert_int_equal(strncmp(n.url, "nar/", 4), 0);
	assert_null(n.system);
	assert_int_equal(n.info.signature_count, 1);
	assert_true(path_info_signed_by(&n.info, &key, 1));
	if (p->as_nix) {
		assert_formats(&n, buffer_bytes(&text));
	}
	/* What is signed cannot be changed. */
	n.info.nar_sha256[31] ^= 1;
	assert_false(path_info_signed_by(&n.info, &key, 1));
}

static void test_published(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(all_published); i++) {
		check_published(&all_published[i]);
	}
}

/* ---- Lines ---- */

#define HEAD                                                                  \
	"StorePath: /nix/store/w9yy7v61ipb5rx6i35zq1mvc2iqfmps1-hello-2.10\n" \
	"URL: nar/a.nar\n"
#define HASH_LINE "NarHash: sha256:1mi14cqk363wv368ffiiy01knardmnlyphi6h9xv6dkjz44hk30i\n"
#define TAIL HASH_LINE "NarSize: 205968\n"
#define GLIBC "9df65igwjmf2wbw0gbrrgair6piqjgmi-glibc-2.31"
#define SIGNATURE                                                         \
	"k:xNTlpdJgOFUYjBXk+XmyIes2IqrX6RaPqhDPEkkglmRdzp6PZnaI9cd3gfuj+" \
	"XBVyJ8nvzWUPJDGmgpz54l4"                                         \
	"Ag=="

static void test_defaults(void **state unused)
{
	struct narinfo n cleanup(narinfo_done) = {0};

	parse(bytes_of_string(HEAD TAIL), &n);
	assert_string_equal(n.compression, "bzip2");
	assert_string_equal(n.url, "nar/a.nar");
	assert_int_equal(n.info.nar_size, 205968);
	assert_false(n.has_file_hash || n.has_file_size || n.info.has_ca || n.info.has_deriver);
	assert_int_equal(n.info.reference_count + n.info.signature_count, 0);
	assert_formats(&n, bytes_of_string(HEAD "Compression: bzip2\n" TAIL "References: \n"));
	/* Parsed over what is there. */
	parse(bytes_of_string(HEAD TAIL "System: x86_64-linux\nCompression: \n"), &n);
	assert_string_equal(n.compression, "bzip2");
	assert_string_equal(n.system, "x86_64-linux");
	assert_formats(&n, bytes_of_string(HEAD "Compression: bzip2\n" TAIL
						"References: \nSystem: x86_64-linux\n"));
}

static void test_all_lines(void **state unused)
{
	static const char text[] =
		HEAD "Compression: zstd\n"
		     "FileHash: sha1:9m1skbnr5i43n3yypvda5s65vhfwdx5a\n"
		     "FileSize: 18446744073709551615\n" TAIL "References: " GLIBC "\n"
		     "Deriver: 5rwxzi7pal3qhpsyfc16gzkh939q1np6-hello-2.10.drv\n"
		     "System: i686-linux\n"
		     "Sig: " SIGNATURE "\n"
		     "Sig: 2" SIGNATURE "\n"
		     "CA: fixed:r:md5:4jqlbi14cxf6wpcajbphm40hax\n";
	struct narinfo n cleanup(narinfo_done) = {0};

	parse(bytes_of_string(text), &n);
	assert_true(n.has_file_size);
	assert_true(n.file_size == UINT64_MAX);
	assert_int_equal(n.file_hash.algorithm, HASH_SHA1);
	assert_int_equal(n.info.signature_count, 2);
	assert_string_equal(n.info.signatures[1].name, "2k");
	assert_formats(&n, bytes_of_string(text));
}

/* What Nix takes as well, though it does not write it. */
static void test_tolerated(void **state unused)
{
	struct narinfo n cleanup(narinfo_done) = {0};

	parse(bytes_of_string("Sig: " SIGNATURE "\nSig: " SIGNATURE "\nFuture: things: more\n"
			      "Empty: \nFuture: again\nDeriver: unknown-deriver\n" TAIL
			      "References:  w9yy7v61ipb5rx6i35zq1mvc2iqfmps1-hello-2.10  " GLIBC
			      " \n" HEAD),
	      &n);
	assert_int_equal(n.info.signature_count, 1);
	assert_false(n.info.has_deriver);
	assert_int_equal(n.info.reference_count, 2);
	assert_string_equal(n.info.references[0].name, "glibc-2.31");
	parse(bytes_of_string(HEAD TAIL "References:\n"), &n);
	assert_int_equal(n.info.reference_count, 0);
	parse(bytes_of_string(HEAD
			      "NarHash: sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=\n"
			      "NarSize: 1\n"),
	      &n);
	assert_int_equal(n.info.nar_sha256[0], 0x2c);
}

/* ---- What is refused ---- */

static const struct {
	const char *text, *why;
} bad[] = {
	{"", "without StorePath"},
	{"\n", "line 1 of a narinfo is not of the form"},
	{"StorePath", "line 1 of a narinfo is cut off"},
	{"StorePath\n", "line 1 of a narinfo is not of the form"},
	{HEAD "NarSize:1\n", "line 3 of a narinfo is not of the form"},
	{HEAD TAIL "\n", "line 5 of a narinfo is not of the form"},
	{HEAD TAIL "Future: x", "line 5 of a narinfo is cut off"},
	{HEAD HASH_LINE "NarSize: 20596", "line 4 of a narinfo is cut off"},
	{HEAD HASH_LINE, "without NarSize"},
	{HEAD "NarSize: 1\n", "without NarHash"},
	{"URL: nar/a.nar\n" TAIL, "without StorePath"},
	{"StorePath: /nix/store/" GLIBC "\n" TAIL, "without URL"},
	{HEAD HEAD TAIL, "a narinfo with StorePath twice"},
	{HEAD TAIL HASH_LINE, "a narinfo with NarHash twice"},
	{HEAD TAIL "References: \nReferences: " GLIBC "\n", "a narinfo with References twice"},
	{HEAD TAIL "Deriver: unknown-deriver\nDeriver: unknown-deriver\n", "Deriver twice"},
	{"StorePath: " GLIBC "\nURL: a\n" TAIL, "StorePath of a narinfo: \"" GLIBC "\""},
	{"StorePath: /nix/store/" GLIBC "\r\nURL: a\n" TAIL, "StorePath of a narinfo"},
	{"StorePath: \nURL: a\n" TAIL, "StorePath of a narinfo"},
	{"URL: \n", "URL of a narinfo: it is empty"},
	{"URL:\n", "URL of a narinfo: it is empty"},
	{"URL: a\tb\n", "URL of a narinfo: \"a\\x09b\" has a control character"},
	{"Compression: \x7f\n", "Compression of a narinfo"},
	{"System: \n", "System of a narinfo: it is empty"},
	{"FileHash: \n", "FileHash of a narinfo"},
	{"FileHash: sha256:0\n", "FileHash of a narinfo"},
	{"FileSize: \n", "FileSize of a narinfo: \"\" is no number"},
	{"FileSize: -1\n", "is no number of 64 bits"},
	{"FileSize: +1\n", "is no number of 64 bits"},
	{"FileSize: 0x1\n", "is no number of 64 bits"},
	{"FileSize: 1 \n", "is no number of 64 bits"},
	{"FileSize:  1\n", "is no number of 64 bits"},
	{"FileSize: 18446744073709551616\n", "is no number of 64 bits"},
	{"FileSize: 99999999999999999999999999999\n", "is no number of 64 bits"},
	{"NarSize: 0\n", "NarSize of a narinfo: no NAR has 0 bytes"},
	{"NarSize: x\n", "NarSize of a narinfo"},
	{"NarHash: md5:4jqlbi14cxf6wpcajbphm40hax\n", "is no sha256"},
	{"NarHash: 1mi14cqk363wv368ffiiy01knardmnlyphi6h9xv6dkjz44hk30i\n",
	 "NarHash of a narinfo"},
	{"References: glibc\n", "References of a narinfo: \"glibc\" is no store path"},
	{"References: " GLIBC " " GLIBC "\n", "there twice"},
	{"References: /nix/store/" GLIBC "\n", "References of a narinfo"},
	{"References: " GLIBC "\t\n", "References of a narinfo"},
	{"Deriver: " GLIBC "\n", "does not end in \".drv\""},
	{"Deriver: \n", "Deriver of a narinfo"},
	{"Deriver: 5rwxzi7pal3qhpsyfc16gzkh939q1np6-.drv\n", "is empty"},
	{"Sig: \n", "Sig of a narinfo"},
	{"Sig: " SIGNATURE " \n", "Sig of a narinfo: k is no signature"},
	{"Sig: xNTlpdJgOFUYjBXk\n", "Sig of a narinfo"},
	{"CA: \n", "CA of a narinfo"},
	{"CA: text:md5:4jqlbi14cxf6wpcajbphm40hax\n", "CA of a narinfo"},
};

static void assert_refused(struct bytes text, enum error_code code, const char *why)
{
	struct narinfo n = {.file_size = 42};
	struct error err = {0};

	assert_int_equal(narinfo_parse(text, &n, &err), -(int)code);
	assert_int_equal(err.code, code);
	if (!strstr(err.text, why)) {
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	}
	assert_int_equal(n.file_size, 42);
	assert_null(n.url);
}

static void test_refused(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_refused(bytes_of_string(bad[i].text), ERROR_INVALID, bad[i].why);
	}
	assert_refused(bytes_of(NULL, 0), ERROR_INVALID, "without StorePath");
	assert_refused(bytes_of("URL: a\0b\n", 9), ERROR_INVALID, "control character");
}

static void test_cut_off(void **state unused)
{
	static const char text[] = HEAD TAIL "References: " GLIBC "\nSig: " SIGNATURE "\n";

	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		struct narinfo n = {0};
		int rc = narinfo_parse(bytes_of(text, len), &n, NULL);

		/* Only between lines that need not be there. */
		assert_int_equal(rc == 0,
				 len >= sizeof(HEAD TAIL) - 1 && text[len - 1] == '\n');
		narinfo_done(&n);
	}
}

static void test_limits(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	memset(buffer_reserve(&b, NARINFO_SIZE_MAX + 1), '\n', NARINFO_SIZE_MAX + 1);
	b.len = NARINFO_SIZE_MAX + 1;
	assert_refused(buffer_bytes(&b), ERROR_LIMIT, "a narinfo of 4194305 bytes");
	b.len = 0;
	buffer_append_string(&b, "References:");
	for (size_t i = 0; i <= PATH_INFO_REFERENCES_MAX; i++) {
		buffer_append_string(&b, " a");
	}
	buffer_append_byte(&b, '\n');
	assert_refused(buffer_bytes(&b), ERROR_LIMIT,
		       "References of a narinfo: 65537 references");
	b.len = 0;
	for (size_t i = 0; i <= PATH_INFO_SIGNATURES_MAX; i++) {
		char name[32];

		snprintf(name, sizeof(name), "Sig: %zu", i);
		buffer_append_string(&b, name);
		buffer_append_string(&b, SIGNATURE "\n");
	}
	assert_refused(buffer_bytes(&b), ERROR_LIMIT, "more than 256 signatures");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_published), cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_all_lines), cmocka_unit_test(test_tolerated),
		cmocka_unit_test(test_refused),   cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
