/* nix/reference_scan.h, against looking at every place. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "craft.h"
#include "nix/nixbase32.h"
#include "nix/reference_scan.h"

#define TEXT STORE_PATH_HASH_TEXT

static struct store_path path_of(const char *hash)
{
	struct store_path p = {.name = "a", .name_len = 1};

	assert_true(nixbase32_decode(p.hash, sizeof(p.hash), bytes_of(hash, TEXT)));
	return p;
}

static void text_of(char text[TEXT + 1], const struct store_path *p)
{
	nixbase32_encode(text, bytes_of(p->hash, sizeof(p->hash)));
}

/* In pieces of at most `most` bytes; 0 for one piece. */
static void feed(struct reference_scan *s, struct bytes data, struct dice *d, size_t most)
{
	while (most && data.len) {
		size_t n = (size_t)dice_below(d, most) + 1;

		n = MIN(n, data.len);
		reference_scan_update(s, bytes_of(data.ptr, n));
		data = bytes_of(data.ptr + n, data.len - n);
	}
	reference_scan_update(s, data);
}

static void assert_found(struct bytes data, const struct store_path *paths, size_t count,
			 struct dice *d, size_t most)
{
	struct reference_scan *s cleanup(cleanup_reference_scan) =
		reference_scan_new(paths, count);

	feed(s, data, d, most);
	for (size_t i = 0; i < count; i++) {
		char text[TEXT + 1];

		text_of(text, &paths[i]);
		bool there = data.len && memmem(data.ptr, data.len, text, TEXT);

		assert_int_equal(reference_scan_found(s, i), there);
	}
	assert_false(reference_scan_found(s, count));
}

/* One text at every place of what is otherwise zeros or digits, cut in all ways. */
static void test_every_place(void **state unused)
{
	static const uint8_t fills[] = {0, '0', 'z', '/', 0xff};
	struct store_path paths[] = {path_of("w9yy7v61ipb5rx6i35zq1mvc2iqfmps1"),
				     path_of("9df65igwjmf2wbw0gbrrgair6piqjgmi")};
	struct dice d = {1};

	for (size_t i = 0; i < ARRAY_SIZE(fills); i++) {
		for (size_t at = 0; at <= 70; at++) {
			uint8_t data[70 + TEXT];
			char text[TEXT + 1];

			memset(data, fills[i], sizeof(data));
			text_of(text, &paths[0]);
			memcpy(data + at, text, TEXT);
			for (size_t most = 0; most < 40; most += 3) {
				assert_found(bytes_of(data, sizeof(data)), paths, 2, &d, most);
			}
			/* Nothing behind it, nothing before it, and not all of it. */
			assert_found(bytes_of(data, at + TEXT), paths, 2, &d, 0);
			assert_found(bytes_of(data + at, sizeof(data) - at), paths, 2, &d, 0);
			assert_found(bytes_of(data, at + TEXT - 1), paths, 2, &d, 0);
		}
	}
}

static void test_every_cut(void **state unused)
{
	struct store_path path = path_of("w9yy7v61ipb5rx6i35zq1mvc2iqfmps1");
	static const char data[] = "/nix/store/w9yy7v61ipb5rx6i35zq1mvc2iqfmps1-hello";
	size_t len = sizeof(data) - 1;

	for (size_t a = 0; a <= len; a++) {
		for (size_t b = a; b <= len; b++) {
			struct reference_scan *s cleanup(cleanup_reference_scan) =
				reference_scan_new(&path, 1);

			reference_scan_update(s, bytes_of(data, a));
			reference_scan_update(s, bytes_of(&data[a], b - a));
			reference_scan_update(s, bytes_of(&data[b], len - b));
			assert_true(reference_scan_found(s, 0));
		}
	}
}

/* Texts that look much alike, in data that is made of such. */
static void test_alike(void **state unused)
{
	struct store_path paths[64];
	struct dice d = {2};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		char text[TEXT + 1];

		memset(text, '0', TEXT);
		text[i % TEXT] = '1';
		text[dice_below(&d, TEXT)] = '1';
		paths[i] = path_of(text);
	}
	for (size_t round = 0; round < 500; round++) {
		uint8_t data[500];

		/* Few ones, so that about half of the paths are there. */
		for (size_t i = 0; i < sizeof(data); i++) {
			data[i] = dice_below(&d, 20) ? '0' : '1';
		}
		assert_found(bytes_of(data, sizeof(data)), paths, ARRAY_SIZE(paths), &d,
			     round % 50);
	}
}

static void test_random(void **state unused)
{
	static const char digits[] = "0123456789abcdfghijklmnpqrsvwxyz";
	struct dice d = {3};
	struct store_path paths[300];
	static uint8_t data[20000];

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		paths[i] = (struct store_path){.name = "a", .name_len = 1};
		dice_fill(&d, paths[i].hash, sizeof(paths[i].hash));
	}
	/* Twice the same hash. */
	paths[299] = paths[0];
	for (size_t round = 0; round < 100; round++) {
		dice_fill(&d, data, sizeof(data));
		for (size_t i = 0; round % 2 && i < sizeof(data); i++) {
			data[i] = (uint8_t)digits[data[i] % 32];
		}
		/* Whole texts, and what is nearly one. */
		for (size_t i = 0; i < 100; i++) {
			size_t at = dice_below(&d, sizeof(data) - TEXT);
			char text[TEXT + 1];

			text_of(text, &paths[dice_below(&d, ARRAY_SIZE(paths))]);
			text[TEXT - 1] ^= (char)(dice_below(&d, 4) == 0);
			memcpy(data + at, text, TEXT);
		}
		assert_found(bytes_of(data, sizeof(data)), paths, ARRAY_SIZE(paths), &d,
			     round * 37 % 400);
	}
}

static void test_nothing(void **state unused)
{
	struct store_path path = path_of("w9yy7v61ipb5rx6i35zq1mvc2iqfmps1");
	struct reference_scan *s = reference_scan_new(NULL, 0);
	struct nar_sink *sink = reference_scan_sink(s);

	assert_int_equal(sink->write(sink, bytes_of_string("/nix/store/"), NULL), 0);
	assert_false(reference_scan_found(s, 0));
	reference_scan_free(s);
	s = reference_scan_new(&path, 1);
	sink = reference_scan_sink(s);
	reference_scan_update(s, bytes_of(NULL, 0));
	assert_int_equal(sink->write(sink, bytes_of_string("w9yy7v61ipb5rx6i"), NULL), 0);
	reference_scan_update(s, bytes_of(NULL, 0));
	assert_false(reference_scan_found(s, 0));
	assert_int_equal(sink->write(sink, bytes_of_string("35zq1mvc2iqfmps1"), NULL), 0);
	assert_true(reference_scan_found(s, 0));
	/* Found stays found. */
	reference_scan_update(s, bytes_of_string("something else"));
	assert_true(reference_scan_found(s, 0));
	reference_scan_free(s);
	reference_scan_free(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_place), cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_alike),       cmocka_unit_test(test_random),
		cmocka_unit_test(test_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
