#include "marks.h"

static bool same_name(const struct mark *a, const struct mark *b)
{
	return a->is_path == b->is_path && strcmp(a->store, b->store) == 0 &&
	       strcmp(a->name, b->name) == 0;
}

/* ---- reading ---- */

static void add_line(struct marks *m, char *line, uint32_t process, uint64_t number)
{
	char *rest = line;
	const char *store = strsep(&rest, " "), *what = strsep(&rest, " ");
	const char *name = strsep(&rest, " "), *digest = strsep(&rest, " ");
	struct mark mark = {.process = process, .begin = number, .end = UINT64_MAX};

	if (!name) {
		give_up("a mark without a name: %s", line);
	}
	if (what[0] == '?') {
		mark.process = 0;
		what++;
	}
	mark.removal = strncmp(what, "no-", 3) == 0;
	what += mark.removal ? 3 : 0;
	mark.is_path = strcmp(what, "path") == 0;
	if (!mark.is_path && strcmp(what, "root") != 0) {
		give_up("a mark that says: %s", what);
	}
	mark.has_digest =
		digest && digest_parse(&mark.digest, bytes_of_string(digest), NULL) == 0;
	mark.store = xstrdup(store);
	mark.name = xstrdup(name);
	m->list = xrealloc(m->list, (m->count + 1) * sizeof(*m->list));
	m->list[m->count++] = mark;
}

static void begin_process(struct marks *m, const struct log_view *e, uint64_t number)
{
	char *text cleanup(cleanup_free) =
		xasprintf("%.*s", (int)e->data.len, (const char *)e->data.ptr);
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n"))) {
		if (line[0]) {
			add_line(m, line, e->entry->process, number);
		}
	}
}

static bool ends_with(struct bytes line, const char *name)
{
	size_t len = strlen(name);

	return line.len >= len && memcmp(line.ptr + line.len - len, name, len) == 0;
}

static void take_line(struct marks *m, struct bytes line, uint32_t process, uint64_t number)
{
	for (size_t i = 0; i < m->count; i++) {
		struct mark *k = &m->list[i];
		const uint8_t *space = memchr(line.ptr, ' ', line.len);

		if (k->process != process || k->end != UINT64_MAX ||
		    !ends_with(line, k->name)) {
			continue;
		}
		k->end = number;
		if (space && !k->is_path && !k->removal && !k->has_digest) {
			struct bytes first = bytes_of(line.ptr, (size_t)(space - line.ptr));

			k->has_digest = digest_parse(&k->digest, first, NULL) == 0;
		}
	}
}

/* Programs flush whole lines. */
static void take_output(struct marks *m, const struct log_view *e, uint64_t number)
{
	struct bytes rest = e->data;

	while (rest.len) {
		const uint8_t *end = memchr(rest.ptr, '\n', rest.len);
		size_t len = end ? (size_t)(end - rest.ptr) : rest.len;

		take_line(m, bytes_of(rest.ptr, len), e->entry->process, number);
		len += end ? 1 : 0;
		rest = bytes_of(rest.ptr + len, rest.len - len);
	}
}

void marks_add(struct marks *m, const struct log_view *e, uint64_t number)
{
	if (e->entry->op == LOG_BEGIN) {
		begin_process(m, e, number);
	} else if (e->entry->op == LOG_SAY) {
		take_output(m, e, number);
	} else if (e->entry->op == LOG_END) {
		for (size_t i = 0; i < m->count; i++) {
			if (m->list[i].process == e->entry->process &&
			    m->list[i].end == UINT64_MAX) {
				m->list[i].end = number;
			}
		}
	}
}

void marks_done(struct marks *m)
{
	for (size_t i = 0; i < m->count; i++) {
		free(m->list[i].store);
		free(m->list[i].name);
	}
	free(m->list);
}

/* ---- asking ---- */

static bool fits(const struct mark *k, const struct digest *digest)
{
	if (k->removal || !digest) {
		return k->removal == !digest;
	}
	return !k->has_digest || digest_equal(&k->digest, digest);
}

bool marks_allow(const struct marks *m, uint64_t now, const struct mark *name,
		 const struct digest *digest)
{
	bool allowed = !digest;

	for (size_t i = 0; i < m->count && m->list[i].begin < now; i++) {
		const struct mark *k = &m->list[i];

		if (same_name(k, name)) {
			allowed = (k->end >= now && allowed) || fits(k, digest);
		}
	}
	return allowed;
}

const struct mark *marks_find(const struct marks *m, const char *store, bool is_path,
			      struct bytes name)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct mark *k = &m->list[i];

		if (k->is_path == is_path && strcmp(k->store, store) == 0 &&
		    bytes_equal(bytes_of_string(k->name), name)) {
			return k;
		}
	}
	return NULL;
}

size_t marks_count_done(const struct marks *m, uint64_t now)
{
	size_t count = 0;

	for (size_t i = 0; i < m->count; i++) {
		count += m->list[i].end < now;
	}
	return count;
}
