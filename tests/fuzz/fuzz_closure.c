/*
 * Directories that come one after another and claim to be a closure, in either order: taken are
 * those that a simple judge takes, who remembers all.
 *
 * Input: a byte of flags (CLOSURE_*); a byte for how many Directories there are, and two for
 * each with a bit for each earlier one that it refers to; then the numbers of those that come.
 */

#include "services/memory.h"

#include "fuzz.h"

#define DIRECTORIES_MAX 16u

enum { CLOSURE_DOWN = 1, CLOSURE_EXPECTED = 2 };

struct family {
	struct directory *list[DIRECTORIES_MAX];
	unsigned children[DIRECTORIES_MAX]; /* a bit for each */
	unsigned count;
};

/* No two are equal: each has a symlink of its own. */
static void make_one(struct family *f, unsigned children)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	char name[2] = "a", target[] = {(char)('A' + f->count), 0};
	const struct node link = {.kind = NODE_SYMLINK, .target = bytes_of_string(target)};

	check(directory_builder_add(b, bytes_of_string("0"), &link, NULL) == 0);
	f->children[f->count] = children & ((1u << f->count) - 1);
	for (unsigned i = 0; i < f->count; i++, name[0]++) {
		struct node node = directory_node(f->list[i]);

		if (children & 1u << i) {
			check(directory_builder_add(b, bytes_of_string(name), &node, NULL) ==
			      0);
		}
	}
	check(directory_builder_finish(b, &f->list[f->count], NULL) == 0);
	f->count++;
}

/* What has come, as bits. */
struct judge {
	const struct family *family;
	unsigned come, referred;
	unsigned last;  /* the last one */
	unsigned first; /* the first one */
	bool wrong;
};

/* Leaves first: children come before those that refer to them. */
static void judge_up(struct judge *j, unsigned i)
{
	j->wrong |= (j->family->children[i] & ~j->come) != 0;
	j->come |= 1u << i;
	j->referred |= j->family->children[i];
	j->last = i;
}

/* Root first: all others were referred to before. */
static void judge_down(struct judge *j, unsigned i)
{
	if (j->come == 0) {
		j->first = i;
	} else {
		j->wrong |= !(j->referred & 1u << i) && i != j->first;
	}
	j->come |= 1u << i;
	j->referred |= j->family->children[i];
}

/* The root that they are the closure of, or -1. */
static int judge_all(const struct judge *j, bool down, int expected)
{
	unsigned root = down ? j->first : j->last;

	if (j->wrong || j->come == 0 || (expected >= 0 && root != (unsigned)expected)) {
		return -1;
	}
	/* Down: all that is referred to has come. Up: all but the root are referred to. */
	bool whole =
		down ? (j->referred & ~j->come) == 0 : (j->come & ~j->referred) == 1u << root;

	return whole ? (int)root : -1;
}

/* The root, or -1. */
static int validate(const struct family *f, struct input in, bool down, int expected)
{
	struct closure_validator *v cleanup(cleanup_closure_validator) = closure_validator_new(
		down ? CLOSURE_ROOT_TO_LEAVES : CLOSURE_LEAVES_TO_ROOT,
		expected < 0 ? NULL : directory_digest(f->list[expected]));
	struct error err = {0};
	struct digest root;
	int rc = 0;

	while (rc == 0 && in.left) {
		rc = result(closure_validator_add(v, f->list[input_number(&in, 1) % f->count],
						  &err),
			    &err);
	}
	if (rc < 0 || result(closure_validator_finish(v, &root, &err), &err) < 0) {
		return -1;
	}
	for (unsigned i = 0; i < f->count; i++) {
		if (digest_equal(directory_digest(f->list[i]), &root)) {
			return (int)i;
		}
	}
	check(false);
	return -1;
}

/* A batch keeps all or nothing. */
static void put_batch(const struct family *f, struct input in, int root)
{
	struct store s = {0};
	struct directory_batch *b;
	struct error err = {0};
	struct digest found;
	int rc = 0;

	memory_store_open(&s);
	check(directory_service_put_batch(s.directories, &b, &err) == 0);
	while (rc == 0 && in.left) {
		rc = result(
			directory_batch_add(b, f->list[input_number(&in, 1) % f->count], &err),
			&err);
	}
	if (rc == 0) {
		rc = result(directory_batch_commit(b, &found, &err), &err);
	} else {
		directory_batch_free(b);
	}
	check((rc == 0) == (root >= 0));
	check(rc < 0 || digest_equal(&found, directory_digest(f->list[root])));
	for (unsigned i = 0; i < f->count; i++) {
		int has = directory_service_has(s.directories, directory_digest(f->list[i]),
						&err);

		check(rc == 0 ? has >= 0 : has == 0);
	}
	check(rc < 0 || directory_service_has(s.directories, &found, &err) == 1);
	store_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	unsigned flags = (unsigned)input_number(&in, 1);
	unsigned count = 1 + (unsigned)input_number(&in, 1) % DIRECTORIES_MAX;
	struct family f = {.count = 0};
	struct judge j = {.family = &f};
	bool down = flags & CLOSURE_DOWN;

	while (f.count < count) {
		make_one(&f, (unsigned)input_number(&in, 2));
	}
	int expected = flags & CLOSURE_EXPECTED ? (int)((flags >> 4) % count) : -1;

	for (size_t i = 0; i < in.left; i++) {
		(down ? judge_down : judge_up)(&j, in.at[i] % count);
	}
	/* A root that is not the one that is wanted cannot be judged by what follows. */
	int root = judge_all(&j, down, expected);

	check(validate(&f, in, down, expected) == root);
	if (!down && expected < 0) {
		put_batch(&f, in, root);
	}
	for (unsigned i = 0; i < count; i++) {
		directory_unref(f.list[i]);
	}
	return 0;
}
