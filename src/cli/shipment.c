#include "cli/shipment.h"

#include <inttypes.h>

#include "nix/nar_writer.h"
#include "nix/path_closure.h"

/* So much is copied, or so many trees, before names are given and what is copied is kept. */
#define GROUP_BYTES ((uint64_t)1 << 30)
#define GROUP_ITEMS 256u

static int open_store(const struct cli *cli, const char *address, unsigned flags,
		      struct store *out, struct path_info_service **infos, struct error *err)
{
	struct cli with_address = *cli;

	with_address.store = address;
	int rc = cli_open_store(&with_address, flags, out, err);

	if (rc == 0 && out->path_infos) {
		*infos = path_info_store_new(out);
	}
	return rc;
}

int shipment_open(struct shipment *s, const struct cli *cli, const char *from, const char *to,
		  struct error *err)
{
	*s = (struct shipment){.count = 0};
	int rc = open_store(cli, from, STORE_READ_ONLY, &s->from, &s->from_infos, err);

	return rc < 0 ? rc : open_store(cli, to, STORE_CREATE, &s->to, &s->to_infos, err);
}

void shipment_close(struct shipment *s)
{
	for (size_t i = 0; i < s->count; i++) {
		free(s->items[i].name);
		root_node_done(&s->items[i].node);
		path_info_done(&s->items[i].info);
	}
	free(s->items);
	path_info_service_unref(s->from_infos);
	path_info_service_unref(s->to_infos);
	store_close(&s->from);
	store_close(&s->to);
	*s = (struct shipment){.count = 0};
}

/* ---- What is to be copied ---- */

static struct shipment_item *append(struct shipment *s, const struct node *node)
{
	if (s->count == s->capacity) {
		s->capacity = MAX(s->capacity * 2, (size_t)16);
		s->items = xrealloc(s->items, s->capacity * sizeof(*s->items));
	}
	struct shipment_item *item = &s->items[s->count++];

	*item = (struct shipment_item){.state = SHIPMENT_WANTED};
	root_node_set(&item->node, node);
	store_hold(node);
	return item;
}

static bool append_named(void *context, struct bytes name, const struct node *node)
{
	append(context, node)->name = xasprintf("%.*s", (int)name.len, (const char *)name.ptr);
	return true;
}

static void append_closure(struct shipment *s, const struct path_closure *c)
{
	for (size_t i = 0; i < path_closure_count(c); i++) {
		const struct path_info *info = path_closure_get(c, i);
		struct shipment_item *item = append(s, &info->node.node);

		item->is_path = true;
		path_info_copy(&item->info, info);
	}
}

/* The name of a root, a digest or a part of a tree are none, whatever they look like. */
static bool find_path(const struct shipment *s, const char *argument, struct store_path *path)
{
	struct bytes text = bytes_of_string(argument);
	struct root_node root cleanup(root_node_done) = {0};
	struct error ignored;
	int rc = argument[0] == '/' ? store_path_parse(text, path, &ignored)
				    : store_path_parse_basename(text, path, &ignored);

	if (rc < 0 || !s->from_infos) {
		return false;
	}
	return argument[0] == '/' ||
	       root_nodes_lookup(s->from.roots, text, &root, &ignored) <= 0;
}

/* Asker: whether the argument is a name as it stands. */
static int find_name(struct shipment *s, const char *argument, struct root_node *out,
		     struct error *err)
{
	struct bytes name = bytes_of_string(argument);
	struct digest digest;

	if (!node_name_valid(name) || digest_parse(&digest, name, NULL) == 0) {
		return 0;
	}
	return root_nodes_lookup(s->from.roots, name, out, err);
}

static int add_path(struct shipment *s, const struct store_path *path, struct error *err)
{
	struct path_closure *c cleanup(cleanup_path_closure) = path_closure_new(s->from_infos);
	int rc = path_closure_add(c, path, err);

	if (rc == 0) {
		append_closure(s, c);
	}
	return rc;
}

int shipment_add(struct shipment *s, const char *argument, const char *as, struct error *err)
{
	struct root_node node cleanup(root_node_done) = {0};
	struct store_path path;
	int rc = as ? node_name_check(bytes_of_string(as), err) : 0;

	if (rc == 0 && !as && find_path(s, argument, &path)) {
		return add_path(s, &path, err);
	}
	if (rc == 0 && !as) {
		rc = find_name(s, argument, &node, err);
		as = rc > 0 ? argument : NULL;
	}
	if (rc == 0) {
		rc = cli_resolve(&s->from, argument, false, &node, err);
	}
	if (rc >= 0) {
		append(s, &node.node)->name = as ? xstrdup(as) : NULL;
	}
	return MIN(rc, 0);
}

struct adding {
	struct store_path *paths;
	size_t count, capacity;
};

static bool add_info(void *context, const struct path_info *info)
{
	struct adding *a = context;

	if (a->count == a->capacity) {
		a->capacity = MAX(a->capacity * 2, (size_t)64);
		a->paths = xrealloc(a->paths, a->capacity * sizeof(*a->paths));
	}
	a->paths[a->count++] = info->path;
	return a->count < PATH_CLOSURE_MAX;
}

static int add_all_paths(struct shipment *s, struct error *err)
{
	struct path_closure *c cleanup(cleanup_path_closure) = path_closure_new(s->from_infos);
	struct adding a = {.count = 0};
	int rc = path_info_service_list(s->from_infos, NULL, add_info, &a, err);

	for (size_t i = 0; rc == 0 && i < a.count; i++) {
		rc = path_closure_add(c, &a.paths[i], err);
	}
	free(a.paths);
	if (rc == 0) {
		append_closure(s, c);
	}
	return rc;
}

int shipment_add_all(struct shipment *s, struct error *err)
{
	int rc = root_nodes_list(s->from.roots, (struct bytes){0}, append_named, s, err);

	/* Some peers have store paths and no names. */
	if (rc == -ERROR_UNSUPPORTED && s->from_infos) {
		rc = 0;
	}
	return rc < 0 || !s->from_infos ? rc : add_all_paths(s, err);
}

/* ---- What the destination has ---- */

/* Askers. */
static int find_present_name(struct shipment *s, const struct shipment_item *item, bool replace,
			     struct error *err)
{
	struct root_node there cleanup(root_node_done) = {0};
	int rc = root_nodes_lookup(s->to.roots, bytes_of_string(item->name), &there, err);

	if (rc <= 0 || node_equal(&there.node, &item->node.node)) {
		return rc;
	}
	return replace ? 0
		       : error_set(err, ERROR_EXISTS,
				   "the destination has another tree named '%s': --replace is "
				   "needed",
				   bytes_printable(bytes_of_string(item->name)));
}

static int find_present_path(struct shipment *s, const struct shipment_item *item,
			     struct error *err)
{
	struct path_info there cleanup(path_info_done) = {0};
	int rc = path_info_service_get(s->to_infos, item->info.path.hash, &there, err);

	if (rc > 0 && (store_path_compare(&there.path, &item->info.path) != 0 ||
		       !node_equal(&there.node.node, &item->node.node))) {
		return error_set(err, ERROR_CORRUPT,
				 "%s: the destination has this path with another tree; 'cairn "
				 "nix verify' tells which store is damaged",
				 store_path_text(&item->info.path));
	}
	return rc;
}

static int find_present(struct shipment *s, const struct shipment_options *o, struct error *err)
{
	for (size_t i = 0; i < s->count; i++) {
		struct shipment_item *item = &s->items[i];
		int rc = 0;

		if (item->is_path && !s->to_infos) {
			return error_set(err, ERROR_UNSUPPORTED,
					 "the destination keeps no path infos");
		}
		if (item->is_path) {
			rc = find_present_path(s, item, err);
		} else if (item->name) {
			rc = find_present_name(s, item, o->replace, err);
		}
		if (rc < 0) {
			return rc;
		}
		item->state = rc > 0 && !o->check ? SHIPMENT_PRESENT : SHIPMENT_WANTED;
	}
	return 0;
}

/* ---- Copying ---- */

static int wrap_item(int rc, const struct shipment_item *item, struct error *err)
{
	if (rc < 0 && item->is_path) {
		error_wrap(err, "%s", store_path_text(&item->info.path));
	} else if (rc < 0 && item->name) {
		error_wrap(err, "%s", bytes_printable(bytes_of_string(item->name)));
	}
	return rc;
}

/* Of the tree as the destination has it. */
static int check_nar(struct shipment *s, const struct shipment_options *o,
		     const struct path_info *info, struct error *err)
{
	const struct nar_options options = {.cancel = o->transfer.cancel};
	uint8_t sha256[SHA256_SIZE];
	uint64_t size;
	int rc = nar_hash(&s->to, &info->node.node, NULL, &options, &size, sha256, err);

	if (rc == 0 &&
	    (size != info->nar_size || memcmp(sha256, info->nar_sha256, SHA256_SIZE) != 0)) {
		rc = error_set(err, ERROR_CORRUPT,
			       "its NAR is not the one that its path info says");
	}
	return rc;
}

static int put_infos(struct shipment *s, const struct shipment_options *o, size_t first,
		     size_t end, struct error *err)
{
	struct path_info *infos cleanup(cleanup_free) =
		xcalloc(end - first + 1, sizeof(*infos));
	size_t count = 0;

	for (size_t i = first; i < end; i++) {
		const struct shipment_item *item = &s->items[i];

		if (!item->is_path || item->state != SHIPMENT_WANTED) {
			continue;
		}
		int rc = o->check_nars ? check_nar(s, o, &item->info, err) : 0;

		if (rc < 0) {
			return wrap_item(rc, item, err);
		}
		infos[count++] = item->info;
	}
	return count ? path_info_service_put_many(s->to_infos, infos, count, err) : 0;
}

/* All that the items stand for is there. */
static int put_names(struct shipment *s, const struct shipment_options *o, size_t first,
		     size_t end, struct error *err)
{
	int rc = put_infos(s, o, first, end, err);

	for (size_t i = first; rc == 0 && i < end; i++) {
		struct shipment_item *item = &s->items[i];

		if (item->state == SHIPMENT_WANTED && item->name) {
			rc = root_nodes_put(s->to.roots, bytes_of_string(item->name),
					    &item->node.node, o->replace, err);
			wrap_item(rc, item, err);
		}
	}
	for (size_t i = first; rc == 0 && i < end; i++) {
		if (s->items[i].state == SHIPMENT_WANTED) {
			s->items[i].state = SHIPMENT_COPIED;
		}
		o->arrived(o->context, &s->items[i]);
	}
	return rc;
}

/* From this item on, as many as belong together; *end is the one after the last. */
static int send_group(struct shipment *s, const struct shipment_options *o, struct transfer *t,
		      size_t first, size_t *end, struct error *err)
{
	const struct transfer_stats *stats = o->transfer.stats;
	uint64_t began = atomic_load(&stats->bytes);
	size_t i = first;
	int rc = 0;

	while (rc == 0 && i < s->count && i - first < GROUP_ITEMS &&
	       atomic_load(&stats->bytes) - began < GROUP_BYTES) {
		const struct shipment_item *item = &s->items[i++];

		if (item->state == SHIPMENT_WANTED) {
			rc = wrap_item(transfer_add(t, &item->node.node, err), item, err);
		}
	}
	if (rc == 0) {
		rc = transfer_settle(t, err);
	}
	*end = i;
	return rc < 0 ? rc : put_names(s, o, first, i, err);
}

int shipment_send(struct shipment *s, const struct shipment_options *options, struct error *err)
{
	struct transfer *t cleanup(cleanup_transfer) =
		transfer_new(&s->from, &s->to, &options->transfer);
	int rc = find_present(s, options, err);
	unsigned tries = 0;

	for (size_t at = 0, end; rc == 0 && at < s->count; at = end) {
		rc = send_group(s, options, t, at, &end, err);
		if (cli_once_more(rc, &tries, err)) {
			/* One that does not think that it knows what is there. */
			transfer_free(t);
			t = transfer_new(&s->from, &s->to, &options->transfer);
			end = at;
			rc = blob_service_recover(s->to.blobs, err);
		}
	}
	if (rc < 0) {
		struct error ignored;

		/* Whatever has arrived need not be sent again. */
		transfer_free(t);
		t = NULL;
		(void)store_sync(&s->to, &ignored);
	}
	return rc;
}
