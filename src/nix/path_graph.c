#include "nix/path_graph.h"

#include "nix/signature.h"

void path_graph_done(struct path_graph *g)
{
	for (size_t i = 0; i < g->count; i++) {
		path_info_done(&g->infos[i]);
	}
	free(g->infos);
	digest_map_done(&g->numbers);
	*g = (struct path_graph){0};
}

size_t path_graph_find(const struct path_graph *g, const struct store_path *path)
{
	struct digest key = store_path_key(path);
	const uint64_t *number = digest_map_get(&g->numbers, &key);

	/* The map knows hashes only. */
	return number && store_path_compare(&g->infos[*number].path, path) == 0
		       ? (size_t)*number
		       : g->count;
}

/* ---- Members of a path ---- */

static int parse_path(struct bytes text, struct store_path *out, struct error *err)
{
	return text.len && text.ptr[0] == '/' ? store_path_parse(text, out, err)
					      : store_path_parse_basename(text, out, err);
}

static int wrong(const char *key, const char *what, struct error *err)
{
	return error_set(err, ERROR_INVALID, "\"%s\" is missing or no %s", key, what);
}

static int read_nar(const struct json_value *v, struct path_info *info, struct error *err)
{
	const struct json_value *hash_value = json_value_member(v, "narHash");
	const struct json_value *size_value = json_value_member(v, "narSize");
	struct bytes text;
	struct hash hash;

	if (!hash_value || !json_value_text(hash_value, &text)) {
		return wrong("narHash", "text", err);
	}
	if (hash_parse(text, &hash, err) < 0) {
		return error_wrap(err, "narHash");
	}
	if (hash.algorithm != HASH_SHA256) {
		return error_set(err, ERROR_INVALID, "narHash is no sha256");
	}
	memcpy(info->nar_sha256, hash.bytes, SHA256_SIZE);
	if (!size_value || !json_value_number(size_value, &info->nar_size) ||
	    info->nar_size == 0) {
		return wrong("narSize", "positive number", err);
	}
	return 0;
}

static int read_reference(const struct json_value *v, struct store_path *out, struct error *err)
{
	struct bytes text;

	if (!json_value_text(v, &text)) {
		return error_set(err, ERROR_INVALID, "a reference is no text");
	}
	return parse_path(text, out, err) < 0 ? error_wrap(err, "references") : 0;
}

static int read_references(const struct json_value *v, struct path_info *info,
			   struct error *err)
{
	const struct json_value *list = json_value_member(v, "references");

	if (!list || !json_value_is_list(list)) {
		return wrong("references", "list", err);
	}
	size_t count = json_value_count(list);

	if (count > PATH_INFO_REFERENCES_MAX) {
		return error_set(err, ERROR_LIMIT, "%zu references, more than %zu", count,
				 PATH_INFO_REFERENCES_MAX);
	}
	struct store_path *all cleanup(cleanup_free) = xcalloc(count + 1, sizeof(*all));
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		r = read_reference(json_value_at(list, i), &all[i], err);
	}
	return r == 0 ? path_info_set_references(info, all, count, err) : r;
}

static int read_signatures(const struct json_value *v, struct path_info *info,
			   struct error *err)
{
	const struct json_value *list = json_value_member(v, "signatures");
	uint8_t data[SIGNATURE_SIZE];
	struct bytes text, name;
	int r = 0;

	if (list && !json_value_is_list(list)) {
		return wrong("signatures", "list", err);
	}
	for (size_t i = 0; list && r >= 0 && i < json_value_count(list); i++) {
		if (!json_value_text(json_value_at(list, i), &text)) {
			return error_set(err, ERROR_INVALID, "a signature is no text");
		}
		r = signature_parse(text, &name, data, err);
		if (r == 0) {
			r = path_info_keep_signature(info, name, data, err);
		}
	}
	return MIN(r, 0);
}

static int read_ca(const struct json_value *v, struct path_info *info, struct error *err)
{
	const struct json_value *value = json_value_member(v, "ca");
	struct bytes text;

	if (!value) {
		return 0;
	}
	if (!json_value_text(value, &text)) {
		return wrong("ca", "text", err);
	}
	/* What is no content address at all has been an empty text, too. */
	if (text.len == 0) {
		return 0;
	}
	int r = content_address_parse(text, &info->ca, err);

	if (r < 0) {
		return error_wrap(err, "ca");
	}
	info->has_ca = true;
	return path_info_content_addressed(info)
		       ? 0
		       : error_set(err, ERROR_INVALID,
				   "the path does not follow from its content address");
}

static int read_deriver(const struct json_value *v, struct path_info *info, struct error *err)
{
	const struct json_value *value = json_value_member(v, "deriver");
	struct store_path path;
	struct bytes text;

	if (!value) {
		return 0;
	}
	if (!json_value_text(value, &text)) {
		return wrong("deriver", "text", err);
	}
	/* Nix's word for none, where it does not leave it out. */
	if (text.len == 0 || bytes_equal(text, bytes_of_string("unknown-deriver"))) {
		return 0;
	}
	int r = parse_path(text, &path, err);

	if (r == 0) {
		r = path_info_set_deriver(info, &path, err);
	}
	return r < 0 ? error_wrap(err, "deriver") : 0;
}

static int read_members(const struct json_value *v, struct path_info *info, struct error *err)
{
	static int (*const members[])(const struct json_value *v, struct path_info *info,
				      struct error *err) = {
		read_nar, read_references, read_signatures, read_ca, read_deriver,
	};
	const struct json_value *valid = json_value_member(v, "valid");
	int r = 0;

	if (!json_value_is_object(v) || (valid && json_value_is_false(valid))) {
		return error_set(err, ERROR_INVALID, "it is not valid where this comes from");
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(members); i++) {
		r = members[i](v, info, err);
	}
	return r;
}

/* ---- Paths ---- */

static bool same_info(const struct path_info *a, const struct path_info *b)
{
	bool same = store_path_compare(&a->path, &b->path) == 0 && a->nar_size == b->nar_size &&
		    memcmp(a->nar_sha256, b->nar_sha256, SHA256_SIZE) == 0 &&
		    a->reference_count == b->reference_count;

	for (size_t i = 0; same && i < a->reference_count; i++) {
		same = store_path_compare(&a->references[i], &b->references[i]) == 0;
	}
	return same;
}

/* The same path once more: it may know more, and nothing else. */
static int merge(struct path_info *known, const struct path_info *info, struct error *err)
{
	int r = 0;

	if (!same_info(known, info)) {
		return error_set(err, ERROR_INVALID, "it is there twice, and not the same");
	}
	for (size_t i = 0; r >= 0 && i < info->signature_count; i++) {
		const struct path_signature *s = &info->signatures[i];

		r = path_info_keep_signature(known, bytes_of_string(s->name), s->data, err);
	}
	if (!known->has_ca && info->has_ca) {
		known->has_ca = true;
		known->ca = info->ca;
	}
	if (!known->has_deriver && info->has_deriver) {
		known->has_deriver = true;
		known->deriver = info->deriver;
	}
	return MIN(r, 0);
}

/* Takes info over when it returns 0. */
static int append(struct path_graph *g, struct path_info *info, struct error *err)
{
	struct digest key = store_path_key(&info->path);

	if (g->count == PATH_GRAPH_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %zu store paths", PATH_GRAPH_MAX);
	}
	if (g->count == g->capacity) {
		g->capacity = MAX(g->capacity * 2, (size_t)64);
		g->infos = xrealloc(g->infos, g->capacity * sizeof(*g->infos));
	}
	digest_map_put(&g->numbers, &key, g->count);
	g->infos[g->count++] = *info;
	*info = (struct path_info){0};
	return 0;
}

static int add_path(struct path_graph *g, struct bytes path, const struct json_value *v,
		    struct error *err)
{
	struct path_info info cleanup(path_info_done) = {0};
	int r = parse_path(path, &info.path, err);

	if (r < 0) {
		return r;
	}
	struct digest key = store_path_key(&info.path);
	const uint64_t *known = digest_map_get(&g->numbers, &key);

	r = read_members(v, &info, err);
	if (r == 0) {
		r = known ? merge(&g->infos[*known], &info, err) : append(g, &info, err);
	}
	return r < 0 ? error_wrap(err, "%s", bytes_printable(path)) : 0;
}

static int add_member(void *graph, const char *path, const struct json_value *v,
		      struct error *err)
{
	return add_path(graph, bytes_of_string(path), v, err);
}

static int add_list(struct path_graph *g, const struct json_value *list, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_value_count(list); i++) {
		const struct json_value *v = json_value_at(list, i);
		const struct json_value *path = json_value_member(v, "path");
		struct bytes text;

		if (!path || !json_value_text(path, &text)) {
			return error_set(err, ERROR_INVALID, "item %zu has no \"path\"", i);
		}
		r = add_path(g, text, v, err);
	}
	return r;
}

int path_graph_add(struct path_graph *g, struct bytes text, const char *key, struct error *err)
{
	struct json_document *d cleanup(cleanup_json_document) = NULL;
	int r = json_document_parse(text, &d, err);

	if (r < 0) {
		return r;
	}
	const struct json_value *root = json_document_root(d);
	const struct json_value *graph = json_value_member(root, key ? key : "closure");

	if (key && !graph) {
		return error_set(err, ERROR_INVALID, "it has no member \"%s\"",
				 bytes_printable(bytes_of_string(key)));
	}
	graph = graph ? graph : root;
	if (json_value_is_list(graph)) {
		return add_list(g, graph, err);
	}
	if (json_value_is_object(graph)) {
		return json_value_each(graph, add_member, g, err);
	}
	return error_set(err, ERROR_INVALID, "a graph is a list or an object");
}

/* ---- Order ---- */

/* Of a walk that needs no recursion: a path, and how many of its references were looked at. */
struct frame {
	size_t number, next;
};

/* The numbers of all that `start` leads to and that were not seen yet, references first. */
static size_t walk(const struct path_graph *g, size_t start, bool *seen, struct frame *stack,
		   size_t *order)
{
	size_t depth = 0, done = 0;

	seen[start] = true;
	stack[depth++] = (struct frame){.number = start};
	while (depth) {
		struct frame *top = &stack[depth - 1];
		const struct path_info *info = &g->infos[top->number];

		if (top->next == info->reference_count) {
			order[done++] = top->number;
			depth--;
			continue;
		}
		size_t number = path_graph_find(g, &info->references[top->next++]);

		if (number < g->count && !seen[number]) {
			seen[number] = true;
			stack[depth++] = (struct frame){.number = number};
		}
	}
	return done;
}

void path_graph_sort(struct path_graph *g)
{
	bool *seen cleanup(cleanup_free) = xcalloc(g->count + 1, sizeof(*seen));
	struct frame *stack cleanup(cleanup_free) = xcalloc(g->count + 1, sizeof(*stack));
	size_t *order cleanup(cleanup_free) = xcalloc(g->count + 1, sizeof(*order));
	struct path_info *sorted = xcalloc(g->count + 1, sizeof(*sorted));
	size_t done = 0;

	for (size_t i = 0; i < g->count; i++) {
		if (!seen[i]) {
			done += walk(g, i, seen, stack, order + done);
		}
	}
	for (size_t i = 0; i < g->count; i++) {
		struct digest key = store_path_key(&g->infos[order[i]].path);

		sorted[i] = g->infos[order[i]];
		*digest_map_get(&g->numbers, &key) = i;
	}
	free(g->infos);
	g->infos = sorted;
	g->capacity = g->count + 1;
}
