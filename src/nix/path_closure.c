#include "nix/path_closure.h"

#include "castore/digest_map.h"

struct member {
	struct path_info info;
	size_t *references; /* numbers of members */
	uint32_t seen;      /* in the walk of this number */
};

/* A member whose references are being added. */
struct frame {
	size_t member;
	size_t next; /* of its references */
};

struct path_closure {
	struct path_info_service *infos;
	struct digest_map numbers; /* store_path_key() -> number of the member */
	struct member *members;    /* in the order they were found */
	size_t count, capacity;
	size_t *order; /* numbers of members, references first; as many as are done */
	size_t done;
	struct frame *stack;
	size_t depth, stack_capacity;
	uint32_t walks;
};

struct path_closure *path_closure_new(struct path_info_service *infos)
{
	struct path_closure *c = xcalloc(1, sizeof(*c));

	c->infos = infos;
	return c;
}

void path_closure_free(struct path_closure *c)
{
	if (!c) {
		return;
	}
	for (size_t i = 0; i < c->count; i++) {
		path_info_done(&c->members[i].info);
		free(c->members[i].references);
	}
	digest_map_done(&c->numbers);
	free(c->members);
	free(c->order);
	free(c->stack);
	free(c);
}

static void make_room(struct path_closure *c)
{
	if (c->count == c->capacity) {
		c->capacity = MAX(c->capacity * 2, (size_t)64);
		c->members = xrealloc(c->members, c->capacity * sizeof(*c->members));
		c->order = xrealloc(c->order, c->capacity * sizeof(*c->order));
	}
}

static void push(struct path_closure *c, size_t member)
{
	if (c->depth == c->stack_capacity) {
		c->stack_capacity = MAX(c->stack_capacity * 2, (size_t)64);
		c->stack = xrealloc(c->stack, c->stack_capacity * sizeof(*c->stack));
	}
	c->stack[c->depth++] = (struct frame){.member = member};
}

static int get_info(struct path_closure *c, const struct store_path *path,
		    struct path_info *out, struct error *err)
{
	int rc = path_info_service_get(c->infos, path->hash, out, err);

	if (rc > 0 && store_path_compare(&out->path, path) != 0) {
		return error_set(err, ERROR_NOT_FOUND, "%s: the store has %s",
				 store_path_text(path), store_path_text(&out->path));
	}
	if (rc == 0) {
		return error_set(err, ERROR_NOT_FOUND, "%s: not in the store",
				 store_path_text(path));
	}
	return MIN(rc, 0);
}

/* The number of a path, which is looked up and put on the stack when it is new. */
static int enter(struct path_closure *c, const struct store_path *path, size_t *number,
		 struct error *err)
{
	struct digest key = store_path_key(path);
	uint64_t *known = digest_map_get(&c->numbers, &key);
	struct path_info info = {0};

	if (known) {
		*number = (size_t)*known;
		return 0;
	}
	if (c->count >= PATH_CLOSURE_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %zu store paths",
				 PATH_CLOSURE_MAX);
	}
	int rc = get_info(c, path, &info, err);

	if (rc < 0) {
		path_info_done(&info);
		return rc;
	}
	make_room(c);
	c->members[c->count] = (struct member){
		.info = info,
		.references = xcalloc(info.reference_count + 1, sizeof(size_t)),
	};
	digest_map_put(&c->numbers, &key, c->count);
	push(c, c->count);
	*number = c->count++;
	return 0;
}

/* One step: the next reference of the member on top, or its end. */
static int step(struct path_closure *c, struct error *err)
{
	struct frame *top = &c->stack[c->depth - 1];
	size_t member = top->member, number;
	const struct path_info *info = &c->members[member].info;

	if (top->next == info->reference_count) {
		c->order[c->done++] = member;
		c->depth--;
		return 0;
	}
	size_t i = top->next++;
	int rc = enter(c, &info->references[i], &number, err);

	if (rc < 0) {
		return error_wrap(err, "%s refers to what cannot be had",
				  store_path_text(&c->members[member].info.path));
	}
	c->members[member].references[i] = number;
	return 0;
}

int path_closure_add(struct path_closure *c, const struct store_path *path, struct error *err)
{
	size_t number;
	int rc = enter(c, path, &number, err);

	while (rc == 0 && c->depth) {
		rc = step(c, err);
	}
	return rc;
}

size_t path_closure_count(const struct path_closure *c)
{
	return c->done;
}

const struct path_info *path_closure_get(const struct path_closure *c, size_t i)
{
	return &c->members[c->order[i]].info;
}

static void see(struct path_closure *c, size_t member)
{
	if (c->members[member].seen != c->walks) {
		c->members[member].seen = c->walks;
		push(c, member);
	}
}

uint64_t path_closure_size(struct path_closure *c, const struct store_path *path)
{
	struct digest key = store_path_key(path);
	uint64_t sum = 0;

	c->walks++;
	see(c, (size_t)*digest_map_get(&c->numbers, &key));
	while (c->depth) {
		const struct member *m = &c->members[c->stack[--c->depth].member];

		if (__builtin_add_overflow(sum, m->info.nar_size, &sum)) {
			sum = UINT64_MAX;
		}
		for (size_t k = 0; k < m->info.reference_count; k++) {
			see(c, m->references[k]);
		}
	}
	return sum;
}
