/* Compressed records of the local store: the codec by itself, and what a store makes of it. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "services/local/batch.h"
#include "services/local/codec.h"
#include "test_local_driver.h"

#define GUARD 64
#define TEXT_SIZE ((size_t)200 << 10)

/* Like source code: what was there before comes again, a little different. */
static void fill_text(uint8_t *data, size_t len, unsigned seed)
{
	char line[80];

	for (size_t at = 0, i = 0; at < len; i++) {
		int n = snprintf(line, sizeof(line), "\tif (value_%zu < %zu) { return %u; }\n",
				 i % 13, i * 7919 % 1000, seed);
		size_t part = MIN((size_t)n, len - at);

		memcpy(data + at, line, part);
		at += part;
	}
}

/* ---- the codec ---- */

static void check_decompress(struct codec *c, struct bytes frame, size_t size, int expected)
{
	uint8_t *out = xmalloc(size + GUARD);
	struct error err = {0};

	memset(out + size, 0xa5, GUARD);
	assert_int_equal(codec_decompress(c, frame, out, size, &err), expected);
	for (size_t i = 0; i < GUARD; i++) {
		assert_int_equal(out[size + i], 0xa5);
	}
	free(out);
}

static void test_codec(void **state unused)
{
	struct codec_pool pool;
	uint8_t *text = xmalloc(TEXT_SIZE), *again = xmalloc(TEXT_SIZE);
	struct error err = {0};
	struct bytes frame;

	codec_pool_init(&pool);
	struct codec *c = codec_take(&pool), *other = codec_take(&pool);

	fill_text(text, TEXT_SIZE, 1);
	for (size_t size = CODEC_CONTENT_MIN; size <= TEXT_SIZE; size = size * 3 + 1) {
		assert_int_equal(codec_compress(c, bytes_of(text, size), &frame), 1);
		assert_true(frame.len <= size - size / 8);
		assert_int_equal(codec_decompress(other, frame, again, size, &err), 0);
		assert_memory_equal(again, text, size);
	}
	/* The frame may lie where the codec that decompresses it keeps frames. */
	assert_int_equal(codec_compress(c, bytes_of(text, TEXT_SIZE), &frame), 1);
	assert_int_equal(codec_decompress(c, frame, again, TEXT_SIZE, &err), 0);
	assert_memory_equal(again, text, TEXT_SIZE);

	assert_int_equal(codec_compress(c, bytes_of(text, CODEC_CONTENT_MIN - 1), &frame), 0);
	fill(text, TEXT_SIZE, 1);
	assert_int_equal(codec_compress(c, bytes_of(text, TEXT_SIZE), &frame), 0);
	codec_give(&pool, c);
	codec_give(&pool, other);
	codec_give(&pool, NULL);
	codec_pool_done(&pool);
	free(text);
	free(again);
}

static void test_damaged_frames(void **state unused)
{
	struct codec_pool pool;
	uint8_t text[5000], frame[sizeof(text)];
	struct bytes made;

	codec_pool_init(&pool);
	struct codec *c = codec_take(&pool);

	fill_text(text, sizeof(text), 2);
	assert_int_equal(codec_compress(c, bytes_of(text, sizeof(text)), &made), 1);
	memcpy(frame, made.ptr, made.len);
	size_t len = made.len;

	check_decompress(c, bytes_of(frame, len), sizeof(text), 0);
	check_decompress(c, bytes_of(frame, len), sizeof(text) - 1, -ERROR_CORRUPT);
	check_decompress(c, bytes_of(frame, len), sizeof(text) + 1, -ERROR_CORRUPT);
	check_decompress(c, bytes_of(frame, len), 0, -ERROR_CORRUPT);
	for (size_t shorter = 0; shorter < len; shorter++) {
		check_decompress(c, bytes_of(frame, shorter), sizeof(text), -ERROR_CORRUPT);
	}
	frame[0] ^= 1;
	check_decompress(c, bytes_of(frame, len), sizeof(text), -ERROR_CORRUPT);
	codec_give(&pool, c);
	codec_pool_done(&pool);
}

/* Little that becomes much: never more than was asked for. */
static void test_bomb(void **state unused)
{
	struct codec_pool pool;
	uint8_t *zeros = xcalloc(1, CODEC_CONTENT_MAX + 1);
	struct error err = {0};
	struct bytes frame;

	codec_pool_init(&pool);
	struct codec *c = codec_take(&pool);

	assert_int_equal(codec_compress(c, bytes_of(zeros, CODEC_CONTENT_MAX + 1), &frame), 0);
	assert_int_equal(codec_compress(c, bytes_of(zeros, CODEC_CONTENT_MAX), &frame), 1);
	assert_true(frame.len < 4096);
	check_decompress(c, frame, 5000, -ERROR_CORRUPT);
	assert_int_equal(codec_decompress(c, frame, zeros, CODEC_CONTENT_MAX + 1, &err),
			 -ERROR_CORRUPT);
	codec_give(&pool, c);
	codec_pool_done(&pool);
	free(zeros);
}

/* ---- in a store ---- */

static off_t pack_size(void)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/packs/00000001.pack", store_path);
	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static struct digest put_text(struct store *s, size_t len, unsigned seed)
{
	uint8_t *text = xmalloc(len);
	struct error err = {0};
	struct digest d;

	fill_text(text, len, seed);
	if (blob_service_put(s->blobs, bytes_of(text, len), &d, &err) != 0) {
		fail_msg("%s", err.text);
	}
	free(text);
	return d;
}

static void check_text(struct store *s, const struct digest *d, size_t len, unsigned seed)
{
	uint8_t *expected = xmalloc(len), *got = xcalloc(1, len + 1);
	struct blob_reader *reader;
	struct error err = {0};
	uint64_t size;
	size_t n = 0;

	fill_text(expected, len, seed);
	assert_int_equal(blob_service_size(s->blobs, d, &size, &err), 1);
	assert_int_equal(size, len);
	if (blob_service_read(s->blobs, d, 0, got, len + 1, 0, &n, &err) != 1) {
		fail_msg("%s", err.text);
	}
	assert_int_equal(n, len);
	assert_memory_equal(got, expected, len);
	/* In pieces, the last of which is short. */
	for (size_t at = 0; at < len; at += n) {
		assert_int_equal(
			blob_service_read(s->blobs, d, at, got, len / 3 + 1, 0, &n, &err), 1);
		assert_int_equal(n, MIN(len / 3 + 1, len - at));
		assert_memory_equal(got, expected + at, n);
	}
	assert_int_equal(blob_service_open(s->blobs, d, &reader, &err), 1);
	assert_int_equal(blob_reader_pread(reader, got, 100, len / 2, &n, &err), 0);
	assert_memory_equal(got, expected + len / 2, 100);
	blob_reader_free(reader);
	free(expected);
	free(got);
}

static void sync_store(struct store *s)
{
	struct error err = {0};

	if (store_sync(s, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

/* What compresses takes less room; old and new records lie side by side, and can be rebuilt. */
static void test_mixed_store(void **state unused)
{
	struct store_rebuilt result;
	struct error err = {0};
	struct store s;

	open_store(&s, STORE_CREATE | STORE_UNCOMPRESSED);
	struct digest raw = put_text(&s, TEXT_SIZE, 1);

	sync_store(&s);
	off_t first = pack_size();

	assert_true(first > (off_t)TEXT_SIZE);
	store_close(&s);

	open_store(&s, 0);
	struct digest packed = put_text(&s, TEXT_SIZE, 2), tiny = put_text(&s, 4000, 3);
	struct digest random = put_blob(&s, 5000, 4);

	sync_store(&s);
	assert_true(pack_size() - first < (off_t)TEXT_SIZE / 2 + 10000);
	check_text(&s, &raw, TEXT_SIZE, 1);
	check_text(&s, &packed, TEXT_SIZE, 2);
	check_text(&s, &tiny, 4000, 3);
	check_blob(&s, 5000, 4);
	store_close(&s);

	if (local_store_rebuild(store_path, &result, &err) != 0) {
		fail_msg("%s", err.text);
	}
	assert_int_equal(result.blobs, 4);
	assert_int_equal(result.damaged_bytes, 0);
	open_store(&s, 0);
	check_text(&s, &raw, TEXT_SIZE, 1);
	check_text(&s, &packed, TEXT_SIZE, 2);
	check_text(&s, &tiny, 4000, 3);
	assert_int_equal(blob_service_has(s.blobs, &random, &err), 1);
	store_close(&s);
}

static void test_staged(void **state unused)
{
	struct store s, staged;
	struct error err = {0};

	open_store(&s, STORE_CREATE);
	assert_int_equal(store_stage(&s, &staged, &err), 0);
	struct digest d = put_text(&staged, TEXT_SIZE, 1);

	assert_int_equal(blob_service_sync(staged.blobs, &err), 0);
	check_text(&staged, &d, TEXT_SIZE, 1);
	assert_int_equal(store_stage_commit(&staged, &err), 0);
	check_text(&s, &d, TEXT_SIZE, 1);
	assert_true(pack_size() < (off_t)TEXT_SIZE / 2);
	store_close(&s);
}

/* A store that another program, or a disk, has written to. */
struct forgery {
	struct record record;
	struct bytes payload;
};

/* Puts a record behind the header of the only pack of a new store, and nothing else. */
static void forge_pack(const struct forgery *f)
{
	uint8_t header[RECORD_HEADER_SIZE];
	char path[512];

	snprintf(path, sizeof(path), "%s/packs/00000001.pack", store_path);
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	record_encode(header, &f->record);
	assert_int_equal(ftruncate(fd, (off_t)PACK_HEADER_SIZE), 0);
	assert_int_equal(pwrite_full(fd, header, sizeof(header), (off_t)PACK_HEADER_SIZE), 0);
	assert_int_equal(pwrite_full(fd, f->payload.ptr, f->payload.len,
				     (off_t)(PACK_HEADER_SIZE + sizeof(header))),
			 0);
	assert_int_equal(
		ftruncate(fd, (off_t)(PACK_HEADER_SIZE + record_total(f->payload.len))), 0);
	close(fd);
}

/* Lets the index say the same as the forged record. */
static void forge_index(const struct forgery *f)
{
	struct location l = {.kind = LOCATION_PACK,
			     .encoding = f->record.encoding,
			     .pack = 1,
			     .offset = PACK_HEADER_SIZE,
			     .stored = f->record.stored,
			     .size = f->record.size};
	struct index_write *w;
	struct error err = {0};
	struct index *ix;
	char path[512];

	snprintf(path, sizeof(path), "%s/index", store_path);
	assert_int_equal(index_open(&ix, path, 0, &err), 0);
	assert_int_equal(index_write_begin(ix, &w, &err), 0);
	assert_int_equal(index_write_object(w, INDEX_BLOBS, &f->record.digest, &l, &err), 0);
	assert_int_equal(index_write_commit(w, &err), 0);
	index_close(ix);
}

static void check_forgery(const struct forgery *f, enum error_code code)
{
	struct store_rebuilt result = {0};
	struct error err = {0};
	uint8_t buf[64];
	struct store s;
	size_t n;

	assert_int_equal(teardown(NULL), 0);
	assert_int_equal(setup(NULL), 0);
	open_store(&s, STORE_CREATE);
	put_blob(&s, 10, 1);
	sync_store(&s);
	store_close(&s);
	forge_pack(f);
	forge_index(f);

	open_store(&s, 0);
	int rc =
		blob_service_read(s.blobs, &f->record.digest, 0, buf, sizeof(buf), 0, &n, &err);

	if (rc != -(int)code || err.code != code || !err.text[0]) {
		fail_msg("encoding %u, %u for %ju: gave %d, %s", f->record.encoding,
			 f->record.stored, (uintmax_t)f->record.size, rc, err.text);
	}
	store_close(&s);
	rc = local_store_rebuild(store_path, &result, &err);
	if (code == ERROR_UNSUPPORTED) {
		assert_int_equal(rc, -ERROR_UNSUPPORTED);
		return;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(result.blobs, 0);
	assert_true(result.damaged_bytes > 0);
}

static void test_forged_records(void **state unused)
{
	struct codec_pool pool;
	uint8_t text[5000];
	struct forgery f = {.record = {.kind = RECORD_BLOB, .encoding = ENCODING_ZSTD}};

	codec_pool_init(&pool);
	struct codec *c = codec_take(&pool);

	fill_text(text, sizeof(text), 1);
	digest_of(&f.record.digest, bytes_of(text, sizeof(text)));
	assert_int_equal(codec_compress(c, bytes_of(text, sizeof(text)), &f.payload), 1);
	f.record.stored = (uint32_t)f.payload.len;
	/* Sizes that are not those of the content, possible ones and impossible ones. */
	static const uint64_t sizes[] = {
		0, 1, 4999, 5001, CODEC_CONTENT_MAX, CODEC_CONTENT_MAX + 1, UINT64_MAX};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		f.record.size = sizes[i];
		check_forgery(&f, ERROR_CORRUPT);
	}
	/* Cut off. */
	f.record.size = sizeof(text);
	f.record.stored--;
	f.payload.len--;
	check_forgery(&f, ERROR_CORRUPT);
	f.record.stored++;
	f.payload.len++;
	/* A good frame of something else. */
	f.record.digest.bytes[0] ^= 1;
	check_forgery(&f, ERROR_CORRUPT);
	f.record.digest.bytes[0] ^= 1;
	/* Said to be raw. */
	f.record.encoding = ENCODING_RAW;
	check_forgery(&f, ERROR_CORRUPT);
	/* From a later program; its sizes are its own. */
	f.record.encoding = 2;
	check_forgery(&f, ERROR_UNSUPPORTED);
	f.record.size = UINT64_MAX;
	check_forgery(&f, ERROR_UNSUPPORTED);
	codec_give(&pool, c);
	codec_pool_done(&pool);
}

/* Every bit of a compressed record matters, or changes nothing. */
static void test_flipped_bits(void **state unused)
{
	uint8_t expected[5000], got[sizeof(expected)], byte;
	struct error err = {0};
	struct store s;
	char path[512];
	size_t n = 0;

	open_store(&s, STORE_CREATE);
	struct digest d = put_text(&s, sizeof(expected), 1);

	fill_text(expected, sizeof(expected), 1);
	sync_store(&s);
	off_t end = pack_size();
	unsigned refused = 0;

	snprintf(path, sizeof(path), "%s/packs/00000001.pack", store_path);
	int fd = open(path, O_RDWR);

	assert_true(fd >= 0);
	for (off_t at = (off_t)PACK_HEADER_SIZE; at < end; at++) {
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		int rc = blob_service_read(s.blobs, &d, 0, got, sizeof(got), 0, &n, &err);

		if (rc == 1) {
			assert_memory_equal(got, expected, sizeof(got));
		} else {
			assert_int_equal(rc, -ERROR_CORRUPT);
			refused++;
		}
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	/* All but padding, and the bits of a frame that have no meaning. */
	assert_true(refused >= (unsigned)(end - (off_t)PACK_HEADER_SIZE) - 16);
	close(fd);
	store_close(&s);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codec),
		cmocka_unit_test(test_damaged_frames),
		cmocka_unit_test(test_bomb),
		cmocka_unit_test_setup_teardown(test_mixed_store, setup, teardown),
		cmocka_unit_test_setup_teardown(test_staged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forged_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flipped_bits, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
