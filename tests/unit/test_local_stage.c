/* Staging above a local store beyond its contract: what is on disk, kills, full disks. */

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/endian.h"
#include "services/local/index.h"
#include "services/local/record.h"
#include "test_local_driver.h"

/* Several batches, and several writes of the index. */
#define MANY 20000u
#define SMALL_SIZE ((size_t)40)

static void begin(struct store *s, struct store *staged)
{
	struct error err = {0};

	if (store_stage(s, staged, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static void commit(struct store *staged)
{
	struct error err = {0};

	if (store_stage_commit(staged, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static void sync_store(struct store *s)
{
	struct error err = {0};

	if (store_sync(s, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static void put_numbers(struct store *s, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		put_blob(s, SMALL_SIZE, i);
	}
}

static unsigned count_numbers(struct store *s, unsigned count)
{
	struct error err = {0};
	unsigned found = 0;

	for (unsigned i = 0; i < count; i++) {
		struct digest d = digest_of_blob(SMALL_SIZE, i);
		int rc = blob_service_has(s->blobs, &d, &err);

		if (rc < 0) {
			fail_msg("%s", err.text);
		}
		if (rc > 0) {
			check_blob(s, SMALL_SIZE, i);
			found++;
		}
	}
	return found;
}

/* ---- what is on disk ---- */

static struct usage {
	uint64_t packs; /* bytes */
	unsigned pack_files;
	unsigned large_files;
	unsigned temporary; /* files and folders */
} usage;

static int count_one(const char *path, const struct stat *st, int type, struct FTW *ftw unused)
{
	const char *below = path + strlen(store_path);

	if (strncmp(below, "/packs/", 7) == 0) {
		usage.packs += (uint64_t)st->st_size;
		usage.pack_files++;
	}
	usage.large_files += strncmp(below, "/files/", 7) == 0 && type == FTW_F;
	usage.temporary += strncmp(below, "/tmp/", 5) == 0;
	return 0;
}

static struct usage look(void)
{
	usage = (struct usage){0};
	assert_int_equal(nftw(store_path, count_one, 16, FTW_PHYS), 0);
	return usage;
}

static void expect_usage(const struct usage *wanted)
{
	struct usage now = look();

	assert_int_equal(now.packs, wanted->packs);
	assert_int_equal(now.pack_files, wanted->pack_files);
	assert_int_equal(now.large_files, wanted->large_files);
	assert_int_equal(now.temporary, wanted->temporary);
}

static void test_given_up_leaves_nothing(void **state unused)
{
	const struct usage empty = {.packs = PACK_HEADER_SIZE, .pack_files = 1};
	struct store s, staged;

	open_store(&s, STORE_CREATE);
	/* The pack is new: nothing was ever committed to it. */
	begin(&s, &staged);
	put_numbers(&staged, 100);
	put_blob(&staged, LARGE, 1);
	store_close(&staged);
	expect_usage(&empty);
	/* Many batches, some of them read. */
	begin(&s, &staged);
	put_numbers(&staged, MANY);
	put_blob(&staged, LARGE, 1);
	check_blob(&staged, LARGE, 1);
	put_blob(&staged, LARGE, 2);
	assert_true(look().temporary > 0);
	assert_true(look().packs > MANY * SMALL_SIZE);
	store_close(&staged);
	expect_usage(&empty);
	/* What was committed before stays. */
	put_numbers(&s, 10);
	sync_store(&s);
	store_close(&s);
	struct usage before = look();

	open_store(&s, 0);
	begin(&s, &staged);
	put_numbers(&staged, MANY);
	put_blob(&staged, LARGE, 1);
	store_close(&staged);
	store_close(&s);
	expect_usage(&before);
	open_store(&s, STORE_READ_ONLY);
	assert_int_equal(count_numbers(&s, MANY), 10);
	store_close(&s);
}

/* A stage writes what a store without one would have written, and what is there not at all. */
static void test_written_once(void **state unused)
{
	struct store s, staged;

	open_store(&s, STORE_CREATE);
	put_numbers(&s, MANY);
	put_blob(&s, LARGE, 1);
	store_close(&s);
	open_store(&s, 0);
	put_numbers(&s, MANY);
	put_blob(&s, LARGE, 1);
	sync_store(&s);
	store_close(&s);
	struct usage direct = look();

	assert_int_equal(teardown(NULL), 0);
	assert_int_equal(setup(NULL), 0);
	open_store(&s, STORE_CREATE);
	for (unsigned turn = 0; turn < 2; turn++) {
		begin(&s, &staged);
		for (unsigned i = 0; i < MANY; i++) {
			put_blob(&staged, SMALL_SIZE, i);
			put_blob(&staged, SMALL_SIZE, i / 3);
		}
		put_blob(&staged, LARGE, 1);
		check_blob(&staged, LARGE, 1);
		put_blob(&staged, LARGE, 1);
		commit(&staged);
	}
	store_close(&s);
	expect_usage(&direct);
	open_store(&s, STORE_READ_ONLY);
	assert_int_equal(count_numbers(&s, MANY), MANY);
	check_blob(&s, LARGE, 1);
	store_close(&s);
}

/* What only lies in the store's open batch is not written again, and is committed with us. */
static void test_held_back_below(void **state unused)
{
	struct store s, staged, other;

	open_store(&s, STORE_CREATE);
	put_numbers(&s, 100);
	put_blob(&s, LARGE, 1);
	begin(&s, &staged);
	put_numbers(&staged, 100);
	put_blob(&staged, LARGE, 1);
	commit(&staged);
	/* Nobody syncs the store itself. */
	store_close(&s);
	assert_int_equal(look().large_files, 1);
	assert_int_equal(look().packs, PACK_HEADER_SIZE + 100 * record_total(SMALL_SIZE) +
					       record_total(32 * (3 + LARGE / 16384)));
	open_store(&other, 0);
	assert_int_equal(count_numbers(&other, 100), 100);
	check_blob(&other, LARGE, 1);
	store_close(&other);
}

/* ---- full packs ---- */

/* Makes pack 1 look as if nearly PACK_SIZE_TARGET bytes had been committed to it. */
static void fill_pack(void)
{
	uint64_t length = PACK_SIZE_TARGET - 4096;
	struct error err = {0};
	struct index *ix;
	struct index_write *w;
	uint8_t key[8], value[8];
	char path[512];

	snprintf(path, sizeof(path), "%s/packs/00000001.pack", store_path);
	assert_int_equal(truncate(path, (off_t)length), 0);
	snprintf(path, sizeof(path), "%s/index", store_path);
	put_be64(key, 1);
	put_le64(value, length);
	assert_int_equal(index_open(&ix, path, 0, &err), 0);
	assert_int_equal(index_write_begin(ix, &w, &err), 0);
	assert_int_equal(index_write_put(w, INDEX_PACKS, bytes_of(key, 8), bytes_of(value, 8),
					 true, &err),
			 0);
	assert_int_equal(index_write_commit(w, &err), 0);
	index_close(ix);
}

/* Nobody else may take a full pack before the stage has ended: they would cut it off. */
static void test_full_pack_stays_claimed(void **state unused)
{
	for (unsigned turn = 0; turn < 2; turn++) {
		struct store s, staged, other;

		open_store(&s, STORE_CREATE);
		put_blob(&s, 10, 1);
		sync_store(&s);
		store_close(&s);
		fill_pack();
		open_store(&s, 0);
		begin(&s, &staged);
		put_numbers(&staged, MANY);
		begin(&s, &other);
		put_blob(&other, 1000, 2);
		commit(&other);
		put_blob(&s, 1000, 3);
		sync_store(&s);
		assert_int_equal(count_numbers(&staged, MANY), MANY);
		if (turn) {
			commit(&staged);
		} else {
			store_close(&staged);
		}
		assert_int_equal(count_numbers(&s, MANY), turn ? MANY : 0);
		check_blob(&s, 1000, 2);
		check_blob(&s, 1000, 3);
		store_close(&s);
		if (turn == 0) {
			char path[512];
			struct stat st;

			snprintf(path, sizeof(path), "%s/packs/00000001.pack", store_path);
			assert_int_equal(stat(path, &st), 0);
			assert_int_equal(st.st_size, PACK_SIZE_TARGET - 4096);
			assert_int_equal(teardown(NULL), 0);
			assert_int_equal(setup(NULL), 0);
		}
	}
}

/* ---- killed ---- */

struct child {
	pid_t pid;
	int from;
};

/* Before this process opens the store. The child runs work(), says so, and waits to be killed.
 */
static struct child start_child(void (*work)(int to_parent))
{
	struct child c;
	int ready[2];

	assert_int_equal(pipe(ready), 0);
	c.pid = fork();
	if (c.pid == 0) {
		close(ready[0]);
		work(ready[1]);
		pause();
		_exit(1);
	}
	close(ready[1]);
	c.from = ready[0];
	return c;
}

static void wait_for_child(struct child *c)
{
	char byte;

	assert_int_equal(read(c->from, &byte, 1), 1);
}

static void kill_child(struct child *c)
{
	int status;

	kill(c->pid, SIGKILL);
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	assert_true(WIFSIGNALED(status));
	close(c->from);
}

static void say(int to_parent)
{
	if (write(to_parent, "", 1) != 1) {
		_exit(2);
	}
}

static void put_everything(struct store *staged)
{
	put_numbers(staged, MANY);
	put_blob(staged, LARGE, 1);
	check_blob(staged, LARGE, 1);
	put_blob(staged, LARGE, 2);
}

static void stage_and_wait(int to_parent)
{
	struct store s, staged;

	open_store(&s, 0);
	begin(&s, &staged);
	put_everything(&staged);
	say(to_parent);
	pause();
}

static void test_killed_before_commit(void **state unused)
{
	struct store s;

	open_store(&s, STORE_CREATE);
	put_blob(&s, 3000, 1);
	sync_store(&s);
	store_close(&s);
	struct usage before = look();
	struct child child = start_child(stage_and_wait);

	wait_for_child(&child);
	assert_true(look().packs > before.packs + MANY * SMALL_SIZE);
	kill_child(&child);
	open_store(&s, 0);
	assert_int_equal(count_numbers(&s, MANY), 0);
	struct digest large = digest_of_blob(LARGE, 1);

	assert_int_equal(blob_service_has(s.blobs, &large, NULL), 0);
	check_blob(&s, 3000, 1);
	/* The next writer clears away what the dead one left. */
	put_blob(&s, LARGE, 7);
	sync_store(&s);
	store_close(&s);
	before.large_files++;
	before.packs += record_total(32 * (3 + LARGE / 16384));
	expect_usage(&before);
}

static void stage_and_commit(int to_parent)
{
	struct store s, staged;

	open_store(&s, 0);
	begin(&s, &staged);
	put_everything(&staged);
	say(to_parent);
	commit(&staged);
}

/* Entries come in the order of their digests. */
static struct digest first_number(void)
{
	struct digest first = digest_of_blob(SMALL_SIZE, 0);

	for (unsigned i = 1; i < MANY; i++) {
		struct digest d = digest_of_blob(SMALL_SIZE, i);

		if (digest_compare(&d, &first) < 0) {
			first = d;
		}
	}
	return first;
}

/*
 * Killed as soon as the first objects are seen, which is between two writes of the index or
 * after the last: what is there is whole, and the rest can come again.
 */
static void test_killed_during_commit(void **state unused)
{
	struct digest first = first_number();
	struct store s, staged;

	open_store(&s, STORE_CREATE);
	store_close(&s);
	struct child child = start_child(stage_and_commit);

	open_store(&s, 0);
	wait_for_child(&child);
	while (blob_service_has(s.blobs, &first, NULL) == 0) {
		sched_yield();
	}
	kill_child(&child);
	store_close(&s);
	open_store(&s, 0);
	assert_in_range(count_numbers(&s, MANY), 1, MANY);
	begin(&s, &staged);
	put_everything(&staged);
	commit(&staged);
	assert_int_equal(count_numbers(&s, MANY), MANY);
	check_blob(&s, LARGE, 1);
	check_blob(&s, LARGE, 2);
	store_close(&s);

	struct store_rebuilt result;
	struct error err = {0};

	assert_int_equal(local_store_rebuild(store_path, &result, &err), 0);
	open_store(&s, STORE_READ_ONLY);
	assert_int_equal(count_numbers(&s, MANY), MANY);
	check_blob(&s, LARGE, 1);
	store_close(&s);
}

/* ---- full disks ---- */

static void limit_files(uint64_t bytes, struct rlimit *old)
{
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, old), 0);
	limit = (struct rlimit){.rlim_cur = bytes, .rlim_max = old->rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_full_while_staging(void **state unused)
{
	struct error err = {0};
	struct store s, staged;
	struct rlimit old;
	uint8_t data[200000];
	int rc = 0;

	open_store(&s, STORE_CREATE);
	put_blob(&s, 1000, 1);
	sync_store(&s);
	begin(&s, &staged);
	limit_files(8 << 20, &old);
	for (unsigned i = 0; rc == 0 && i < 200; i++) {
		fill(data, sizeof(data), 100 + i);
		rc = blob_service_put(staged.blobs, bytes_of(data, sizeof(data)), NULL, &err);
	}
	rc = rc ? rc : store_sync(&staged, &err);
	assert_true(rc < 0);
	assert_int_equal(err.os_errno, EFBIG);
	/* It cannot be committed any more. The store below has nothing to do with it. */
	assert_true(store_stage_commit(&staged, &err) < 0);
	assert_null(staged.stage);
	put_blob(&s, 1000, 2);
	sync_store(&s);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	check_blob(&s, 1000, 1);
	check_blob(&s, 1000, 2);
	store_close(&s);
	assert_true(look().packs < 8192);
	assert_int_equal(look().temporary, 0);
}

/* No room for the index: objects of the writes that got through may stay, whole. */
static void test_full_during_commit(void **state unused)
{
	struct error err = {0};
	struct store s, staged;
	struct rlimit old;

	open_store(&s, STORE_CREATE);
	put_blob(&s, 1000, 1);
	sync_store(&s);
	begin(&s, &staged);
	put_everything(&staged);
	/* Everything of the stage is written. */
	check_blob(&staged, LARGE, 2);
	limit_files(256 << 10, &old);
	assert_true(store_stage_commit(&staged, &err) < 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_in_range(count_numbers(&s, MANY), 0, MANY - 1);
	put_blob(&s, 1000, 2);
	sync_store(&s);
	begin(&s, &staged);
	put_everything(&staged);
	commit(&staged);
	assert_int_equal(count_numbers(&s, MANY), MANY);
	check_blob(&s, LARGE, 1);
	check_blob(&s, LARGE, 2);
	check_blob(&s, 1000, 1);
	check_blob(&s, 1000, 2);
	store_close(&s);
	assert_int_equal(look().temporary, 0);
}

static void test_read_only(void **state unused)
{
	struct error err = {0};
	struct store s, staged = {0};

	open_store(&s, STORE_CREATE);
	store_close(&s);
	open_store(&s, STORE_READ_ONLY);
	assert_int_equal(store_stage(&s, &staged, &err), -ERROR_DENIED);
	assert_null(staged.blobs);
	store_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_given_up_leaves_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_written_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_held_back_below, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_pack_stays_claimed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_before_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_during_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_while_staging, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_during_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
	};

	return cmocka_run_group_tests_name("staging above a local store", tests, NULL, NULL);
}
