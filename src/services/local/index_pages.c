#include "services/local/index_pages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/endian.h"
#include "base/io.h"

#define META_MAGIC 0xbeefc0deu
#define META_VERSION 1u
#define META_AT 16 /* behind the header of its page */
#define META_SIZE 136
#define TREE_SIZE 48
#define PAGE_HEADER_SIZE 16u
#define NODE_HEADER_SIZE 8u
#define NO_PAGE UINT64_MAX
/* Keys of the list of free pages are numbers. */
#define FREE_TREE_FLAGS 8
#define DEPTH_MAX 32
#define KEY_MAX 511
#define FAULTS_MAX 100

enum page_flags { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4, PAGE_META = 8 };
enum node_flags { NODE_OVERFLOW = 1, NODE_TREE = 2 };

/* The head of a tree (MDB_db). */
struct tree {
	uint16_t flags, depth;
	uint64_t branches, leaves, overflows, entries, root;
};

struct meta {
	uint64_t last_page, txn;
	struct tree free, main;
};

struct pages {
	int fd;
	const struct index_pages_watch *watch;
	struct index_pages_counts counts;
	uint32_t page_size;
	uint64_t last;
	uint8_t *used; /* a bit for each page */
	unsigned faults;
};

struct page_entry {
	uint16_t flags;
	struct bytes key;
	struct bytes data;  /* of a leaf */
	uint64_t child;     /* of a branch */
	uint64_t data_size; /* of a leaf, wherever the data are */
};

struct level {
	uint8_t *page;
	uint64_t number;
	unsigned count, next;
};

/* A walk over one tree, in the order of keys. */
struct walk {
	struct pages *pages;
	const char *name;
	const struct tree *tree;
	bool integer_keys;
	/* Called for each entry; overflow: where its data are, if its flags say so. */
	void (*entry)(struct walk *w, const struct page_entry *n, uint64_t overflow);
	struct level levels[DEPTH_MAX];
	unsigned depth; /* levels in use */
	uint64_t branches, leaves, overflows, entries;
	uint8_t last[KEY_MAX], low[KEY_MAX]; /* the key before; none of the next is lower */
	size_t last_len, low_len;
	bool has_last, has_low, stop;
	/* Of the main tree: those in it. */
	struct buffer *trees;
};

static void fault(struct pages *p, uint64_t page, const char *fmt, ...) printf_like(3, 4);

static void fault(struct pages *p, uint64_t page, const char *fmt, ...)
{
	char text[200];
	va_list args;

	if (p->faults++ >= FAULTS_MAX) {
		return;
	}
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	p->watch->fault(p->watch->context, page, text);
}

static struct tree tree_decode(const uint8_t *in)
{
	return (struct tree){
		.flags = get_le16(in + 4),
		.depth = get_le16(in + 6),
		.branches = get_le64(in + 8),
		.leaves = get_le64(in + 16),
		.overflows = get_le64(in + 24),
		.entries = get_le64(in + 32),
		.root = get_le64(in + 40),
	};
}

/* ---- the two pages that say where the trees are ---- */

static bool read_meta(struct pages *p, unsigned number, struct meta *out)
{
	uint8_t in[META_AT + META_SIZE];
	uint64_t at = number * (uint64_t)p->page_size;

	if (pread_full(p->fd, in, sizeof(in), (off_t)at) != (ssize_t)sizeof(in)) {
		fault(p, number, "the file is too short");
		return false;
	}
	const uint8_t *m = in + META_AT;

	*out = (struct meta){.free = tree_decode(m + 24),
			     .main = tree_decode(m + 24 + TREE_SIZE),
			     .last_page = get_le64(m + 24 + 2 * TREE_SIZE),
			     .txn = get_le64(m + 32 + 2 * TREE_SIZE)};
	if (get_le16(in + 10) != PAGE_META || get_le64(in) != number ||
	    get_le32(m) != META_MAGIC || get_le32(m + 4) != META_VERSION ||
	    get_le64(m + 8) != 0 || get_le32(m + 24) != p->page_size) {
		fault(p, number, "no head of an index");
		return false;
	}
	if (out->txn > 1 && out->txn % 2 != number) {
		fault(p, number, "transaction %" PRIu64 " has the wrong head", out->txn);
		return false;
	}
	return true;
}

/* The state to check. Both heads have to be right: the next writer takes the newer one. */
static bool choose_meta(struct pages *p, uint64_t txn, struct meta *out)
{
	struct meta metas[2];
	bool first = read_meta(p, 0, &metas[0]), second = read_meta(p, 1, &metas[1]);

	if (!first || !second) {
		return false;
	}
	const struct meta *newer = &metas[metas[1].txn > metas[0].txn];
	const struct meta *older = &metas[newer == metas];

	if (newer->txn > 1 && newer->txn - older->txn != 1) {
		fault(p, newer->txn % 2, "transaction %" PRIu64 " does not follow %" PRIu64,
		      newer->txn, older->txn);
		return false;
	}
	if (older->last_page > newer->last_page) {
		fault(p, newer->txn % 2,
		      "transaction %" PRIu64 " has fewer pages than the last", newer->txn);
		return false;
	}
	if (newer->main.flags != 0 || newer->free.flags != FREE_TREE_FLAGS) {
		fault(p, newer->txn % 2, "has trees of no known kind");
		return false;
	}
	*out = *newer;
	if (txn && txn == older->txn) {
		*out = *older;
	}
	return true;
}

/* ---- pages ---- */

/* False when there is no such page, or when it is used already. */
static bool use_pages(struct pages *p, uint64_t from, uint64_t number, uint64_t count,
		      const char *what)
{
	if (number < 2 || number > p->last || count > p->last - number + 1) {
		fault(p, from, "leads to page %" PRIu64 ", outside of the file (%s)", number,
		      what);
		return false;
	}
	for (uint64_t i = number; i < number + count; i++) {
		if (p->used[i / 8] & (1u << (i % 8))) {
			fault(p, from, "leads to page %" PRIu64 ", which is used twice (%s)", i,
			      what);
			return false;
		}
		p->used[i / 8] |= (uint8_t)(1u << (i % 8));
	}
	p->counts.pages += count;
	return true;
}

static bool read_page(struct pages *p, uint64_t number, uint8_t *out)
{
	if (pread_full(p->fd, out, p->page_size, (off_t)(number * p->page_size)) !=
	    (ssize_t)p->page_size) {
		fault(p, number, "cannot be read");
		return false;
	}
	if (get_le64(out) != number) {
		fault(p, number, "says that it is page %" PRIu64, get_le64(out));
		return false;
	}
	return true;
}

static size_t node_length(const struct pages *p, const uint8_t *page, unsigned at, bool leaf)
{
	const uint8_t *n = page + at;
	size_t key = get_le16(n + 6), data = 0;

	if (leaf) {
		uint32_t size = get_le16(n) | (uint32_t)get_le16(n + 2) << 16;

		data = get_le16(n + 4) & NODE_OVERFLOW ? 8 : MIN(size, p->page_size);
	}
	return NODE_HEADER_SIZE + key + data;
}

/* Looks at all nodes of a page, so that they can be decoded without care. */
static bool check_nodes(struct pages *p, const struct level *l, bool leaf)
{
	unsigned lower = get_le16(l->page + 12), upper = get_le16(l->page + 14);
	size_t total = 0;

	for (unsigned i = 0; i < (lower - PAGE_HEADER_SIZE) / 2; i++) {
		unsigned at = get_le16(l->page + PAGE_HEADER_SIZE + (size_t)2 * i);

		if (at < upper || at % 2 || at + NODE_HEADER_SIZE > p->page_size ||
		    at + node_length(p, l->page, at, leaf) > p->page_size ||
		    get_le16(l->page + at + 6) > KEY_MAX) {
			fault(p, l->number, "entry %u is outside of the page", i);
			return false;
		}
		total += round_up(node_length(p, l->page, at, leaf), 2);
	}
	/* Entries lie side by side: with this and their places, they do not overlap. */
	if (total != p->page_size - upper) {
		fault(p, l->number, "its entries overlap or leave gaps");
		return false;
	}
	return true;
}

static bool check_page(struct pages *p, struct level *l, bool leaf)
{
	uint16_t flags = get_le16(l->page + 10);
	unsigned lower = get_le16(l->page + 12), upper = get_le16(l->page + 14);

	if (flags != (leaf ? PAGE_LEAF : PAGE_BRANCH)) {
		fault(p, l->number, "is no %s page (flags %#x)", leaf ? "leaf" : "branch",
		      flags);
		return false;
	}
	if (lower < PAGE_HEADER_SIZE + (leaf ? 2u : 4u) || lower % 2 || lower > upper ||
	    upper > p->page_size) {
		fault(p, l->number, "has impossible bounds");
		return false;
	}
	l->count = (lower - PAGE_HEADER_SIZE) / 2;
	l->next = 0;
	return check_nodes(p, l, leaf);
}

static struct page_entry node_at(const struct level *l, unsigned i, bool leaf)
{
	const uint8_t *n = l->page + get_le16(l->page + PAGE_HEADER_SIZE + (size_t)2 * i);
	size_t key_len = get_le16(n + 6);
	uint32_t low = get_le16(n) | (uint32_t)get_le16(n + 2) << 16;
	struct page_entry out = {.key = bytes_of(n + NODE_HEADER_SIZE, key_len)};

	if (leaf) {
		out.flags = get_le16(n + 4);
		out.data_size = low;
		out.data = bytes_of(n + NODE_HEADER_SIZE + key_len,
				    out.flags & NODE_OVERFLOW ? 8 : low);
	} else {
		out.child = low | (uint64_t)get_le16(n + 4) << 32;
	}
	return out;
}

/* ---- one tree ---- */

static int compare_keys(const struct walk *w, struct bytes a, struct bytes b)
{
	if (w->integer_keys && a.len == 8 && b.len == 8) {
		uint64_t x = get_le64(a.ptr), y = get_le64(b.ptr);

		return (x > y) - (x < y);
	}
	return bytes_compare(a, b);
}

static void keep_key(uint8_t *to, size_t *len, struct bytes key)
{
	memcpy(to, key.ptr, key.len);
	*len = key.len;
}

static bool enter(struct walk *w, uint64_t from, uint64_t number)
{
	struct pages *p = w->pages;
	bool leaf = w->depth + 1u == w->tree->depth;
	struct level *l = &w->levels[w->depth];

	if (!use_pages(p, from, number, 1, w->name)) {
		return false;
	}
	l->page = l->page ? l->page : xmalloc(p->page_size);
	l->number = number;
	if (!read_page(p, number, l->page) || !check_page(p, l, leaf)) {
		return false;
	}
	w->depth++;
	*(leaf ? &w->leaves : &w->branches) += 1;
	return true;
}

/* The pages behind each other that hold one value. */
static bool check_overflow(struct walk *w, uint64_t from, uint64_t number, uint64_t size)
{
	struct pages *p = w->pages;
	uint64_t count = (PAGE_HEADER_SIZE - 1 + size) / p->page_size + 1;
	uint8_t head[PAGE_HEADER_SIZE];

	if (!use_pages(p, from, number, count, w->name)) {
		return false;
	}
	if (pread_full(p->fd, head, sizeof(head), (off_t)(number * p->page_size)) !=
		    (ssize_t)sizeof(head) ||
	    get_le64(head) != number || get_le16(head + 10) != PAGE_OVERFLOW ||
	    get_le32(head + 12) != count) {
		fault(p, number, "does not begin the value that leads to it (%s)", w->name);
		return false;
	}
	w->overflows += count;
	return true;
}

static void visit_leaf(struct walk *w, const struct level *l)
{
	struct pages *p = w->pages;

	for (unsigned i = 0; i < l->count && !w->stop; i++) {
		struct page_entry n = node_at(l, i, true);
		bool elsewhere = n.flags & NODE_OVERFLOW;
		uint64_t overflow = elsewhere ? get_le64(n.data.ptr) : 0;

		if ((w->has_last &&
		     compare_keys(w, n.key, bytes_of(w->last, w->last_len)) <= 0) ||
		    (w->has_low && compare_keys(w, n.key, bytes_of(w->low, w->low_len)) < 0) ||
		    n.key.len == 0 || (w->integer_keys && n.key.len != 8)) {
			fault(p, l->number, "has keys out of order (%s)", w->name);
			return;
		}
		if (n.flags &
		    (unsigned)~(w->trees ? NODE_OVERFLOW | NODE_TREE : NODE_OVERFLOW)) {
			fault(p, l->number, "has an entry of no known kind (%s)", w->name);
			return;
		}
		keep_key(w->last, &w->last_len, n.key);
		w->has_last = true;
		w->has_low = false;
		w->entries++;
		if (elsewhere && !check_overflow(w, l->number, overflow, n.data_size)) {
			continue;
		}
		if (w->entry) {
			w->entry(w, &n, overflow);
		}
	}
}

static void next_child(struct walk *w, struct level *l)
{
	unsigned i = l->next++;
	struct page_entry n = node_at(l, i, false);

	if (i > 0) {
		if (w->has_last &&
		    compare_keys(w, n.key, bytes_of(w->last, w->last_len)) <= 0) {
			fault(w->pages, l->number, "has keys out of order (%s)", w->name);
		}
		keep_key(w->low, &w->low_len, n.key);
		w->has_low = true;
	}
	enter(w, l->number, n.child);
}

static void check_counts(struct walk *w)
{
	const struct tree *t = w->tree;

	if (w->branches != t->branches || w->leaves != t->leaves ||
	    w->overflows != t->overflows || w->entries != t->entries) {
		fault(w->pages, t->root,
		      "begins a tree of %" PRIu64 " entries, where its head says %" PRIu64
		      " (%s)",
		      w->entries, t->entries, w->name);
	}
}

static void walk_tree(struct walk *w)
{
	const struct tree *t = w->tree;
	unsigned before = w->pages->faults;

	if (t->root == NO_PAGE || t->depth == 0) {
		if (t->root != NO_PAGE || t->depth || t->entries) {
			fault(w->pages, 0, "the head of %s contradicts itself", w->name);
		}
		return;
	}
	if (t->depth > DEPTH_MAX) {
		fault(w->pages, t->root, "begins a tree of depth %u (%s)", t->depth, w->name);
		return;
	}
	enter(w, 0, t->root);
	/* A damaged tree could keep this busy: each page is visited once at most. */
	while (w->depth && w->pages->faults < FAULTS_MAX) {
		struct level *l = &w->levels[w->depth - 1];

		if (w->depth == t->depth) {
			visit_leaf(w, l);
			w->depth--;
		} else if (l->next < l->count) {
			next_child(w, l);
		} else {
			w->depth--;
		}
	}
	if (w->pages->faults == before) {
		check_counts(w);
	}
	w->pages->counts.entries += w->entries;
}

static void walk_done(struct walk *w)
{
	for (size_t i = 0; i < DEPTH_MAX; i++) {
		free(w->levels[i].page);
	}
}

/* ---- the trees of an index ---- */

/* An entry of the list of free pages: their count, then their numbers, going down. */
static void check_free(struct walk *w, const struct page_entry *n, uint64_t overflow)
{
	struct pages *p = w->pages;
	uint64_t page = w->levels[w->depth - 1].number;

	if (n->data_size < 8 || n->data_size % 8 || n->data_size > (p->last + 2) * 8) {
		fault(p, page, "has an impossible list of free pages");
		return;
	}
	size_t count = (size_t)n->data_size / 8 - 1;
	uint8_t *list cleanup(cleanup_free) = xmalloc((size_t)n->data_size);

	if (!(n->flags & NODE_OVERFLOW)) {
		memcpy(list, n->data.ptr, n->data.len);
	} else if (pread_full(p->fd, list, (size_t)n->data_size,
			      (off_t)(overflow * p->page_size + PAGE_HEADER_SIZE)) !=
		   (ssize_t)n->data_size) {
		fault(p, overflow, "cannot be read");
		return;
	}
	if (get_le64(list) != count) {
		fault(p, page, "has a list of free pages with a wrong count");
		return;
	}
	for (size_t i = 1; i <= count; i++) {
		uint64_t free_page = get_le64(list + 8 * i);

		if (i > 1 && free_page >= get_le64(list + 8 * (i - 1))) {
			fault(p, page, "has a list of free pages out of order");
			return;
		}
		if (!use_pages(p, page, free_page, 1, "free")) {
			return;
		}
	}
	p->counts.pages -= count;
}

struct table {
	char name[KEY_MAX + 1];
	struct tree tree;
};

static void keep_table(struct walk *w, const struct page_entry *n, uint64_t overflow unused)
{
	struct table t = {0};

	if (n->flags != NODE_TREE || n->data_size != TREE_SIZE) {
		fault(w->pages, w->levels[w->depth - 1].number,
		      "has an entry that is no table");
		return;
	}
	memcpy(t.name, n->key.ptr, n->key.len);
	t.tree = tree_decode(n->data.ptr);
	if (t.tree.flags) {
		fault(w->pages, w->levels[w->depth - 1].number, "has a table of no known kind");
		return;
	}
	buffer_append(w->trees, &t, sizeof(t));
}

static void walk_all(struct pages *p, const struct meta *meta)
{
	struct buffer trees cleanup(buffer_done) = {0};
	struct walk main = {.pages = p,
			    .name = "tables",
			    .tree = &meta->main,
			    .entry = keep_table,
			    .trees = &trees};
	struct walk free_list = {.pages = p,
				 .name = "free pages",
				 .tree = &meta->free,
				 .integer_keys = true,
				 .entry = check_free};

	walk_tree(&main);
	walk_done(&main);
	p->counts.entries = 0;
	for (size_t at = 0; at < trees.len; at += sizeof(struct table)) {
		const struct table *t = (const struct table *)(const void *)(trees.ptr + at);
		struct walk w = {.pages = p,
				 .name = bytes_printable(bytes_of_string(t->name)),
				 .tree = &t->tree};

		walk_tree(&w);
		walk_done(&w);
	}
	uint64_t entries = p->counts.entries;

	/* Last: what is both used and free is the fault of the list. */
	walk_tree(&free_list);
	walk_done(&free_list);
	p->counts.entries = entries;
}

int index_pages_check(int fd, uint64_t txn, const struct index_pages_watch *watch,
		      struct index_pages_counts *out, struct error *err)
{
	struct pages p = {.fd = fd, .watch = watch};
	uint8_t head[META_AT + META_SIZE];
	struct meta meta;
	struct stat st;

	*out = (struct index_pages_counts){0};
	if (fstat(fd, &st) != 0) {
		return error_set_errno(err, errno, "cannot read the index");
	}
	if (pread_full(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head)) {
		fault(&p, 0, "the file is too short");
		return 0;
	}
	p.page_size = get_le32(head + META_AT + 24);
	if (p.page_size < 512 || p.page_size > 65536 || (p.page_size & (p.page_size - 1))) {
		fault(&p, 0, "no head of an index");
		return 0;
	}
	if (!choose_meta(&p, txn, &meta)) {
		return 0;
	}
	/* The last pages may never have been written, when they were given back at once. */
	p.last = meta.last_page;
	if (p.last > (uint64_t)st.st_size / p.page_size + (1u << 20) || p.last < 1) {
		fault(&p, 0, "the file has not the %" PRIu64 " pages that its head says",
		      p.last);
		return 0;
	}
	p.used = xcalloc(1, (size_t)(p.last / 8 + 1));
	walk_all(&p, &meta);
	free(p.used);
	*out = p.counts;
	return 0;
}
