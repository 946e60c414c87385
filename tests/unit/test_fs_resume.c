/*
 * The file system: sessions in memory that outlives the process. A server that dies is played
 * by one that is never asked again; to the byte, by a process that is looked at after each of
 * its instructions.
 */

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/log.h"
#include "fs/fs_internal.h"
#include "fs/node_table_internal.h"
#include "test_fs_driver.h"

#define COPY_PIECE ((size_t)64 << 10)

struct fixture {
	struct driver *d;
	int fd;
};

static int new_memory(void)
{
	int fd = memfd_create("session", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* A new file system over the same store; as fs_keep(). */
static int begin_anew(struct driver *d, int fd)
{
	fs_free(d->fs);
	assert_int_equal(fs_new(&d->options, &d->fs, NULL), 0);
	return fs_keep(d->fs, fd, NULL);
}

static int setup(void **state)
{
	static struct fixture f;

	log_set_level(LOG_LEVEL_ERROR);
	f.d = driver_new();
	f.fd = new_memory();
	assert_int_equal(begin_anew(f.d, f.fd), 0);
	assert_int_equal(driver_init(f.d, FUSE_INIT_EXT | FUSE_HAS_RESEND), 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	const struct fixture *f = *state;

	driver_free(f->d);
	close(f->fd);
	return 0;
}

static void take_over(const struct fixture *f)
{
	assert_int_equal(begin_anew(f->d, f->fd), 1);
	assert_false(fs_has_session(f->d->fs));
	assert_int_equal(fs_resume(f->d->fs, NULL), 0);
	assert_true(fs_has_session(f->d->fs));
	assert_true(fs_can_be_resumed(f->d->fs));
}

static void test_ids_stay(void **state)
{
	const struct fixture *f = *state;
	struct known known;

	know_paths(f->d, &known);
	for (unsigned round = 0; round < 3; round++) {
		take_over(f);
		check_known(f->d, &known);
	}
}

static void test_lookups_are_counted_on(void **state)
{
	const struct fixture *f = *state;
	struct driver *d = f->d;
	uint64_t gone = walk(d, "tree/sub2").nodeid;
	uint64_t tree = walk(d, "tree").nodeid;
	uint64_t a = walk(d, "tree/a").nodeid;
	struct fs_stats stats;
	struct fuse_attr attr;

	forget(d, gone, 1);
	take_over(f);
	assert_int_equal(getattr(d, gone, &attr), -ESTALE);
	/* Its slot has another use now. */
	assert_int_not_equal(walk(d, "tree/sub").nodeid, gone);
	assert_int_equal(getattr(d, gone, &attr), -ESTALE);
	forget(d, walk(d, "tree/sub").nodeid, 2);
	take_over(f);
	forget(d, a, 1);
	forget(d, tree, 4);
	assert_int_equal(getattr(d, tree, &attr), 0);
	take_over(f);
	forget(d, tree, 1);
	assert_int_equal(getattr(d, tree, &attr), -ESTALE);
	fs_get_stats(d->fs, &stats);
	assert_int_equal(stats.directories, 0);
	assert_int_equal(stats.contents, 0);
}

/* More than one chunk of nodes; all are forgotten, which gives chunks back, and so on. */
static void test_many_nodes(void **state)
{
	enum { DIRS = 3 * 4096 };
	const struct fixture *f = *state;
	struct driver *d = f->d;
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	const struct node empty = put_directory(d, b);
	uint64_t *ids cleanup(cleanup_free) = xcalloc(DIRS, sizeof(*ids));
	struct fuse_entry_out e;
	struct fs_stats stats;
	char name[16];

	for (unsigned i = 0; i < DIRS; i++) {
		snprintf(name, sizeof(name), "%06u", i);
		add_entry(b, name, empty);
	}
	put_root(d, "wide", put_directory(d, b));
	uint64_t wide = walk(d, "wide").nodeid;

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < DIRS; i++) {
			snprintf(name, sizeof(name), "%06u", i);
			assert_int_equal(lookup(d, wide, name, &e), 0);
			for (unsigned j = 0; round > 0 && j == i % 50; j++) {
				assert_int_not_equal(e.nodeid, ids[i]);
			}
			ids[i] = e.nodeid;
		}
		take_over(f);
		for (unsigned i = 0; i < DIRS; i += 997) {
			snprintf(name, sizeof(name), "%06u", i);
			assert_int_equal(lookup(d, wide, name, &e), 0);
			assert_int_equal(e.nodeid, ids[i]);
			forget(d, ids[i], 1);
		}
		for (unsigned i = 0; i < DIRS; i++) {
			forget(d, ids[i], 1);
		}
		take_over(f);
	}
	fs_get_stats(d->fs, &stats);
	assert_int_equal(stats.directories, 1);
	assert_int_equal(stats.contents, 1);
}

/* A name that stands for something else now; ids of what it was stay with that. */
static void test_root_changes(void **state)
{
	const struct fixture *f = *state;
	struct driver *d = f->d;
	uint64_t tree = walk(d, "tree").nodeid;
	uint64_t sub = walk(d, "tree/sub").nodeid;
	uint64_t file = walk(d, "file").nodeid;

	put_root(d, "file", put_blob(d, "another", 7, false));
	assert_int_equal(root_nodes_remove(d->store.roots, bytes_of_string("tree"), NULL), 1);
	take_over(f);
	assert_int_equal(read_at(d, FUSE_READ, file, 0, 10), 0);
	assert_memory_equal(d->reply.data, "hello", 5);
	assert_int_not_equal(walk(d, "file").nodeid, file);
	struct fuse_entry_out e;

	assert_int_equal(lookup(d, tree, "sub", &e), 0);
	assert_int_equal(e.nodeid, sub);
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "tree", &e), -ENOENT);
}

/* Names beyond a window of the log. */
static void test_many_names(void **state)
{
	enum { NAMES = 3000 };
	const struct fixture *f = *state;
	struct driver *d = f->d;
	uint64_t *ids cleanup(cleanup_free) = xcalloc(NAMES, sizeof(*ids));
	char target[4000], name[64];

	memset(target, 'x', sizeof(target));
	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "name-%u", i);
		target[i % 64 == 0 ? 3999 : i % 100 + 1] = '\0';
		put_root(d, name, symlink_node(target));
		target[i % 64 == 0 ? 3999 : i % 100 + 1] = 'x';
		ids[i] = walk(d, name).nodeid;
	}
	take_over(f);
	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "name-%u", i);
		assert_int_equal(request(d, FUSE_READLINK, ids[i], NULL, 0), 0);
		assert_int_equal(d->reply.data_len, i % 64 == 0 ? 3999 : i % 100 + 1);
		assert_int_equal(walk(d, name).nodeid, ids[i]);
	}
}

/* One that the store has lost is lost; the rest goes on. */
static void test_lost_directory(void **state)
{
	const struct fixture *f = *state;
	struct driver *d = f->d;
	uint64_t tree = walk(d, "tree").nodeid;
	uint64_t a = walk(d, "tree/a").nodeid;
	uint64_t in = walk(d, "tree/sub/in").nodeid;
	uint64_t many = walk(d, "many/n0").nodeid;
	struct fuse_attr attr;

	assert_true(memory_directory_remove(d->store.directories, &d->tree));
	take_over(f);
	assert_int_equal(getattr(d, tree, &attr), 0);
	assert_int_equal(getattr(d, a, &attr), -ESTALE);
	assert_int_equal(getattr(d, in, &attr), -ESTALE);
	assert_int_equal(getattr(d, many, &attr), 0);
	assert_int_equal(read_at(d, FUSE_READDIR, tree, 0, 4096), -EIO);
}

static void test_other_versions(void **state)
{
	const struct fixture *f = *state;
	struct driver *d = f->d;
	struct error err;

	const size_t fields[] = {offsetof(struct keep_header, version),
				 offsetof(struct keep_header, sizes)};

	walk(d, "tree/sub");
	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		const uint32_t other = 77;

		assert_int_equal(pwrite_full(f->fd, &other, sizeof(other), (off_t)fields[i]),
				 0);
		fs_free(d->fs);
		assert_int_equal(fs_new(&d->options, &d->fs, NULL), 0);
		assert_int_equal(fs_keep(d->fs, f->fd, &err), -ERROR_UNSUPPORTED);
		assert_non_null(strstr(err.text, "version"));
	}
	assert_int_equal(ftruncate(f->fd, 4096), 0);
	assert_int_equal(fs_keep(d->fs, f->fd, &err), -ERROR_INVALID);
}

static void test_nothing_to_resume(void **state)
{
	const struct fixture *f = *state;
	struct driver *d = f->d;
	uint64_t tree = walk(d, "tree").nodeid;
	struct fuse_attr attr;

	assert_int_equal(fs_resume(d->fs, NULL), -ERROR_INVALID);
	assert_int_equal(getattr(d, tree, &attr), 0);
	/* The session has ended. */
	assert_int_equal(request(d, FUSE_DESTROY, 0, NULL, 0), 0);
	assert_int_equal(begin_anew(d, f->fd), 0);
	assert_int_equal(driver_init(d, FUSE_INIT_EXT), 0);
	assert_int_equal(getattr(d, tree, &attr), -ESTALE);
	assert_int_not_equal(walk(d, "tree/sub").nodeid, 0);
	assert_int_equal(begin_anew(d, f->fd), 1);
	assert_int_equal(fs_resume(d->fs, NULL), 0);
	assert_false(fs_can_be_resumed(d->fs));
}

/* The log of names cut off anywhere: an error, or what was before it. */
static void test_cut_names(void **state)
{
	const struct fixture *f = *state;
	struct driver *d = f->d;
	uint64_t ids[KNOWN_PATHS];
	unsigned resumed = 0;

	for (size_t i = 0; i < KNOWN_PATHS; i++) {
		ids[i] = walk(d, known_paths[i]).nodeid;
	}
	uint64_t length = d->fs->keep.header->log_length;

	for (uint64_t cut = length + 8; cut-- > 0;) {
		struct fuse_attr attr;

		d->fs->keep.header->log_length = cut;
		assert_int_equal(begin_anew(d, f->fd), 1);
		if (fs_resume(d->fs, NULL) == 0) {
			resumed++;
			assert_int_equal(getattr(d, ids[0], &attr), cut > 0 ? 0 : -ESTALE);
			assert_int_equal(getattr(d, ids[11], &attr),
					 cut >= length ? 0 : -ESTALE);
		}
		assert_int_equal(begin_anew(d, f->fd), 1);
	}
	/* Between any two of the names tree, file, link, many and lost, and at both ends. */
	assert_true(resumed >= 6);
}

/* ---- Files that are passed through ---- */

struct ids {
	uint32_t next;
	uint32_t closed;
};

static int open_id(void *context, int fd unused, uint32_t *id, struct error *err unused)
{
	struct ids *ids = context;

	*id = ++ids->next;
	return 0;
}

static void close_id(void *context, uint32_t id)
{
	struct ids *ids = context;

	ids->closed = id;
}

static void release(struct driver *d, uint64_t handle, uint64_t unique)
{
	const struct fuse_release_in in = {.fh = handle};

	d->unique = unique - 1;
	assert_int_equal(request(d, FUSE_RELEASE, FUSE_ROOT_ID, &in, sizeof(in)), 0);
}

static void take_over_passing(const struct fixture *f, const struct fs_backing *ops)
{
	assert_int_equal(begin_anew(f->d, f->fd), 1);
	assert_true(fs_passes_through(f->d->fs));
	assert_int_equal(fs_resume(f->d->fs, NULL), -ERROR_INVALID);
	fs_set_backing(f->d->fs, ops);
	assert_int_equal(fs_resume(f->d->fs, NULL), 0);
}

/* Ids and what is open with them go on; a RELEASE counts once, however often it comes. */
static void test_backings(void **state)
{
	const struct fixture *f = *state;
	struct driver *d = f->d;
	struct ids ids = {.next = 0};
	const struct fs_backing ops = {.context = &ids, .open = open_id, .close = close_id};
	struct backing first, second, through, again;

	fs_set_backing(d->fs, &ops);
	assert_int_equal(driver_init(d, FUSE_INIT_EXT | FUSE_PASSTHROUGH), 0);
	assert_true(fs_passes_through(d->fs));
	assert_int_equal(backing_table_add(d->fs->backings, &d->hello, 0, &first, NULL), 0);
	assert_int_equal(backing_table_find(d->fs->backings, &d->hello, &second), 1);
	assert_int_equal(backing_table_add(d->fs->backings, &d->tree, -1, &through, NULL), 0);
	take_over_passing(f, &ops);
	assert_int_equal(ids.closed, 0);
	assert_int_equal(backing_table_count(d->fs->backings), 1);
	release(d, first.handle, 100);
	take_over_passing(f, &ops);
	release(d, first.handle, 100 | FUSE_UNIQUE_RESEND);
	assert_int_equal(backing_table_find(d->fs->backings, &d->hello, &again), 1);
	assert_true(again.passed && again.id == first.id && again.handle == first.handle);
	assert_int_equal(backing_table_find(d->fs->backings, &d->tree, &again), 1);
	assert_false(again.passed);
	/* One that had not been dealt with. */
	release(d, first.handle, 102 | FUSE_UNIQUE_RESEND);
	release(d, first.handle, 104);
	take_over_passing(f, &ops);
	assert_int_equal(backing_table_count(d->fs->backings), 1);
	/* It is open no more, so it may go for newer ones. */
	for (unsigned i = 0; i < BACKING_IDLE_MAX && ids.closed == 0; i++) {
		struct digest digest;

		digest_of(&digest, bytes_of(&i, sizeof(i)));
		assert_int_equal(backing_table_add(d->fs->backings, &digest, 0, &again, NULL),
				 0);
		backing_table_release(d->fs->backings, again.handle);
	}
	assert_int_equal(ids.closed, first.id);
	fs_set_backing(d->fs, NULL);
}

/* ---- A process that ends at any instruction ---- */

/* What the kernel has been told by a process, and has not taken back. */
struct told {
	uint32_t count;
	uint32_t path[64];
	uint64_t id[64];
};

static void look_up(struct driver *d, struct told *told, uint64_t parent, uint32_t path)
{
	const char *name = strrchr(known_paths[path], '/');
	struct fuse_entry_out e;

	if (lookup(d, parent, name ? name + 1 : known_paths[path], &e) != 0) {
		_exit(1);
	}
	told->path[told->count] = path;
	told->id[told->count] = e.nodeid;
	keep_order();
	told->count++;
}

/* Ids that were told last go first. */
static void forget_last(struct driver *d, struct told *told)
{
	uint64_t id = told->id[--told->count];

	keep_order();
	forget(d, id, 1);
}

/* What the traced process does. */
static void live(struct driver *d, struct told *told)
{
	look_up(d, told, FUSE_ROOT_ID, 0);
	look_up(d, told, told->id[0], 1);
	look_up(d, told, told->id[0], 4);
	look_up(d, told, told->id[2], 5);
	forget_last(d, told);
	forget_last(d, told);
	look_up(d, told, told->id[0], 12);
	while (told->count > 0) {
		forget_last(d, told);
	}
}

static void copy_memory(int from, int to)
{
	static uint8_t piece[COPY_PIECE];
	off_t at = 0;

	assert_int_equal(ftruncate(to, 0), 0);
	assert_int_equal(ftruncate(to, lseek(from, 0, SEEK_END)), 0);
	while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(from, at, SEEK_HOLE);

		while (at < end) {
			size_t len = MIN(sizeof(piece), (size_t)(end - at));

			assert_int_equal(pread_full(from, piece, len, at), len);
			assert_int_equal(pwrite_full(to, piece, len, at), 0);
			at += (off_t)len;
		}
	}
}

/* Every id that the kernel has stands for what it stood for. */
static void check_crash(const struct fixture *f, const struct told *told,
			const struct fuse_attr *right)
{
	struct driver *d = f->d;
	struct fuse_attr attr;
	struct fs_stats stats;

	assert_int_equal(begin_anew(d, f->fd), 1);
	assert_int_equal(fs_resume(d->fs, NULL), 0);
	for (uint32_t i = 0; i < told->count; i++) {
		assert_int_equal(getattr(d, told->id[i], &attr), 0);
		assert_memory_equal(&attr, &right[told->path[i]], sizeof(attr));
		assert_int_equal(walk(d, known_paths[told->path[i]]).nodeid, told->id[i]);
	}
	fs_get_stats(d->fs, &stats);
	assert_true(stats.directories <= KNOWN_PATHS);
	/* It is not to use the memory any more. */
	fs_free(d->fs);
	d->fs = NULL;
}

/* What of the memory a small session uses. */
struct view {
	int fd;
	const uint8_t *at[5];
	uint8_t last[5][4096];
};

static void view_open(struct view *v, int fd)
{
	uint64_t offsets[] = {0, keep_table_offset(KEEP_NODES),
			      keep_table_offset(KEEP_CONTENTS),
			      keep_table_offset(KEEP_BACKINGS), keep_log_offset()};

	*v = (struct view){.fd = fd};
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		v->at[i] = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, (off_t)offsets[i]);
		assert_true(v->at[i] != MAP_FAILED);
	}
}

static bool view_changed(struct view *v)
{
	bool changed = false;

	for (size_t i = 0; i < ARRAY_SIZE(v->at); i++) {
		if (memcmp(v->last[i], v->at[i], 4096) != 0) {
			memcpy(v->last[i], v->at[i], 4096);
			changed = true;
		}
	}
	return changed;
}

static void view_close(struct view *v)
{
	for (size_t i = 0; i < ARRAY_SIZE(v->at); i++) {
		munmap((void *)(uintptr_t)v->at[i], 4096);
	}
}

/* A child in which this happens, stopped before it; 0: it may not be traced. */
static pid_t start_traced(struct driver *d, struct told *told)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
			_exit(1);
		}
		raise(SIGSTOP);
		live(d, told);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSTOPPED(status) ? child : 0;
}

static bool step(pid_t child)
{
	int status;

	assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSTOPPED(status)) {
		assert_int_equal(WSTOPSIG(status), SIGTRAP);
		return true;
	}
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return false;
}

static void test_any_instruction(void **state)
{
	struct fixture *f = *state;
	struct fuse_attr right[KNOWN_PATHS];
	struct told *told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct view view;
	unsigned points = 0;
	unsigned long steps = 0;

	assert_true(told != MAP_FAILED);
	for (size_t i = 0; i < KNOWN_PATHS; i++) {
		assert_int_equal(getattr(f->d, walk(f->d, known_paths[i]).nodeid, &right[i]),
				 0);
	}
	/* The child has the memory that the fixture began with; here there are copies. */
	assert_int_equal(request(f->d, FUSE_DESTROY, 0, NULL, 0), 0);
	assert_int_equal(driver_init(f->d, FUSE_INIT_EXT | FUSE_HAS_RESEND), 0);
	pid_t child = start_traced(f->d, told);

	if (child == 0) {
		munmap(told, sizeof(*told));
		skip(); /* where processes may not be traced */
	}
	int original = f->fd;

	f->fd = new_memory();
	view_open(&view, original);
	for (; step(child); steps++) {
		if (view_changed(&view)) {
			copy_memory(original, f->fd);
			check_crash(f, told, right);
			points++;
		}
	}
	print_message("%u crash points in %lu instructions\n", points, steps);
	assert_true(points > 30);
	assert_int_equal(told->count, 0);
	view_close(&view);
	munmap(told, sizeof(*told));
	close(original);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ids_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lookups_are_counted_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_root_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_versions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_to_resume, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_backings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_any_instruction, setup, teardown),
	};

	return cmocka_run_group_tests_name("fs_resume", tests, NULL, NULL);
}
