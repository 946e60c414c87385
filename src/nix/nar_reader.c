#include "nix/nar_reader.h"

#include "base/endian.h"
#include "nix/nar_blocks.h"
#include "nix/nar_format.h"

/* The longest word of the format is its magic. */
#define WORD_MAX 16
#define BUFFER_SIZE ((size_t)256 << 10)

enum state {
	STATE_BEGIN,
	STATE_FILE,      /* in its content */
	STATE_DIRECTORY, /* between entries */
	STATE_END,       /* behind the root */
};

/* A source whose bytes nobody else wants: one buffer. */
struct source_blocks {
	struct nar_blocks base;
	struct nar_source *source;
	uint8_t *buffer;
};

struct nar_reader {
	struct nar_blocks *blocks;
	struct source_blocks own;
	struct bytes rest;  /* of the block */
	uint64_t offset;    /* of rest in the NAR */
	uint64_t string_at; /* where the last string began: what messages speak of */

	enum state state;
	size_t depth;
	uint64_t file_size, content_left;
	struct buffer path;
	uint32_t ends[NAR_DEPTH_MAX + 1]; /* of the paths of the open directories, by depth */
	/* What is cut by the end of a block, and what has to outlive one. */
	uint8_t scratch[NODE_TARGET_MAX + 1];
	uint8_t target[NODE_TARGET_MAX];
};

/* ---- Blocks ---- */

static int next_of_source(struct nar_blocks *b, struct bytes *block, struct error *err)
{
	struct source_blocks *s = container_of(b, struct source_blocks, base);
	size_t got = 0;

	if (!s->buffer) {
		s->buffer = xmalloc(BUFFER_SIZE);
	}
	int rc = s->source->read(s->source, s->buffer, BUFFER_SIZE, &got, err);

	if (rc == 0) {
		*block = bytes_of(s->buffer, got);
	}
	return rc < 0 ? rc : got > 0;
}

int nar_source_fill(struct nar_source *source, uint8_t *buf, size_t len, size_t *got,
		    struct error *err)
{
	size_t done = 0, n = 1;

	while (done < len && n) {
		int rc = source->read(source, buf + done, len - done, &n, err);

		if (rc < 0) {
			return rc;
		}
		done += n;
	}
	*got = done;
	return 0;
}

struct nar_reader *nar_reader_new_of_blocks(struct nar_blocks *blocks)
{
	struct nar_reader *r = xcalloc(1, sizeof(*r));

	r->blocks = blocks;
	buffer_reserve(&r->path, NODE_NAME_MAX);
	return r;
}

struct nar_reader *nar_reader_new(struct nar_source *source)
{
	struct nar_reader *r = nar_reader_new_of_blocks(NULL);

	r->own.base.next = next_of_source;
	r->own.source = source;
	r->blocks = &r->own.base;
	return r;
}

void nar_reader_free(struct nar_reader *r)
{
	if (r) {
		buffer_done(&r->path);
		free(r->own.buffer);
		free(r);
	}
}

struct bytes nar_reader_path(const struct nar_reader *r)
{
	return buffer_bytes(&r->path);
}

uint64_t nar_reader_offset(const struct nar_reader *r)
{
	return r->offset;
}

/* ---- Faults ---- */

/* Puts the place before the message of a fault that was found at a byte. */
static void name_place(const struct nar_reader *r, uint64_t at, struct error *err)
{
	if (r->path.len) {
		error_wrap(err, "byte %ju of the NAR, in \"%s\"", (uintmax_t)at,
			   bytes_printable(buffer_bytes(&r->path)));
	} else {
		error_wrap(err, "byte %ju of the NAR", (uintmax_t)at);
	}
}

#define fault_at(r, at, code, err, ...) \
	((void)error_set(err, code, __VA_ARGS__), name_place(r, at, err), -(int)(code))

/* In the string that was read last. */
#define fault(r, err, ...) fault_at(r, (r)->string_at, ERROR_INVALID, err, __VA_ARGS__)

/* A fault of a name is one of the directory. */
static void leave_name(struct nar_reader *r)
{
	r->path.len = r->ends[r->depth];
}

/* ---- Strings ---- */

/* Asker: more bytes in rest; 0 at the end of the source. */
static int next_block(struct nar_reader *r, struct error *err)
{
	return r->blocks->next(r->blocks, &r->rest, err);
}

static int cut_off(const struct nar_reader *r, struct error *err)
{
	return fault_at(r, r->offset, ERROR_INVALID, err, "it ends too early");
}

static void advance(struct nar_reader *r, size_t n)
{
	r->rest.ptr += n;
	r->rest.len -= n;
	r->offset += n;
}

/* n bytes that may lie in several blocks. */
static int gather(struct nar_reader *r, size_t n, struct error *err)
{
	size_t done = 0;

	while (done < n) {
		int rc = r->rest.len ? 1 : next_block(r, err);

		if (rc <= 0) {
			return rc < 0 ? rc : cut_off(r, err);
		}
		size_t part = MIN(n - done, r->rest.len);

		memcpy(r->scratch + done, r->rest.ptr, part);
		advance(r, part);
		done += part;
	}
	return 0;
}

/* The next n bytes, at most sizeof(scratch); borrowed until the next call. */
static inline int take(struct nar_reader *r, size_t n, const uint8_t **out, struct error *err)
{
	if (r->rest.len >= n) {
		*out = r->rest.ptr;
		advance(r, n);
		return 0;
	}
	int rc = gather(r, n, err);

	if (rc == 0) {
		*out = r->scratch;
	}
	return rc;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i]) {
			return false;
		}
	}
	return true;
}

static int read_number(struct nar_reader *r, uint64_t *out, struct error *err)
{
	const uint8_t *p;

	r->string_at = r->offset;
	int rc = take(r, 8, &p, err);

	if (rc == 0) {
		*out = get_le64(p);
	}
	return rc;
}

/* A string of at most max bytes, for which `what` stands in messages; borrowed like take(). */
static int read_string(struct nar_reader *r, size_t max, const char *what, struct bytes *out,
		       struct error *err)
{
	const uint8_t *p;
	uint64_t len;
	int rc = read_number(r, &len, err);

	if (rc) {
		return rc;
	}
	if (len > max) {
		return fault(r, err, "%ju bytes where %s must be", (uintmax_t)len, what);
	}
	rc = take(r, (size_t)round_up(len, 8), &p, err);
	if (rc) {
		return rc;
	}
	if (!all_zero(p + len, (size_t)NAR_PAD(len))) {
		return fault(r, err, "padding that is not zero");
	}
	*out = bytes_of(p, (size_t)len);
	return 0;
}

static bool is_word(struct bytes b, const char *word)
{
	return bytes_equal(b, bytes_of_string(word));
}

static int wrong_word(const struct nar_reader *r, struct bytes found, const char *what,
		      struct error *err)
{
	return fault(r, err, "\"%s\" where %s must be", bytes_printable(found), what);
}

static int expect(struct nar_reader *r, const char *word, const char *what, struct error *err)
{
	struct bytes found;
	int rc = read_string(r, WORD_MAX, what, &found, err);

	if (rc) {
		return rc;
	}
	return is_word(found, word) ? 0 : wrong_word(r, found, what, err);
}

/* ---- Nodes ---- */

/* What is behind a node: its parenthesis, and in a directory that of its entry. */
static int read_close(struct nar_reader *r, struct error *err)
{
	int rc = expect(r, ")", "\")\"", err);

	if (rc == 0 && r->depth) {
		rc = expect(r, ")", "\")\"", err);
	}
	if (rc == 0) {
		r->state = r->depth ? STATE_DIRECTORY : STATE_END;
	}
	return rc;
}

static int read_size(struct nar_reader *r, struct error *err)
{
	int rc = read_number(r, &r->file_size, err);

	if (rc) {
		return rc;
	}
	if (r->file_size > NAR_SIZE_MAX - r->offset) {
		return fault_at(r, r->string_at, ERROR_LIMIT, err, "a file of %ju bytes",
				(uintmax_t)r->file_size);
	}
	r->content_left = r->file_size;
	r->state = STATE_FILE;
	return 0;
}

static int read_file(struct nar_reader *r, struct nar_item *out, struct error *err)
{
	static const char what[] = "\"executable\" or \"contents\"";
	struct bytes word;
	int rc = read_string(r, WORD_MAX, what, &word, err);

	if (rc) {
		return rc;
	}
	out->event = NAR_FILE;
	out->executable = is_word(word, "executable");
	if (out->executable) {
		rc = expect(r, "", "the empty string behind \"executable\"", err);
		if (rc == 0) {
			rc = expect(r, "contents", "\"contents\"", err);
		}
	} else if (!is_word(word, "contents")) {
		rc = wrong_word(r, word, what, err);
	}
	if (rc == 0) {
		rc = read_size(r, err);
	}
	out->size = r->file_size;
	return rc;
}

static int read_symlink(struct nar_reader *r, struct nar_item *out, struct error *err)
{
	struct bytes target;
	int rc = expect(r, "target", "\"target\"", err);

	if (rc == 0) {
		rc = read_string(r, NODE_TARGET_MAX, "the target of a symlink", &target, err);
	}
	if (rc) {
		return rc;
	}
	if (!node_target_valid(target)) {
		return fault(r, err, "\"%s\" cannot be the target of a symlink",
			     bytes_printable(target));
	}
	memcpy(r->target, target.ptr, target.len);
	out->event = NAR_SYMLINK;
	out->target = bytes_of(r->target, target.len);
	return read_close(r, err);
}

static int begin_directory(struct nar_reader *r, struct nar_item *out, struct error *err)
{
	if (r->depth == NAR_DEPTH_MAX) {
		return fault_at(r, r->string_at, ERROR_LIMIT, err,
				"more than %d directories below each other", NAR_DEPTH_MAX);
	}
	r->depth++;
	r->ends[r->depth] = (uint32_t)r->path.len;
	r->state = STATE_DIRECTORY;
	out->event = NAR_DIRECTORY;
	return 0;
}

static int read_node(struct nar_reader *r, struct nar_item *out, struct error *err)
{
	static const char what[] = "\"regular\", \"symlink\" or \"directory\"";
	struct bytes kind;
	int rc = expect(r, "(", "\"(\"", err);

	if (rc == 0) {
		rc = expect(r, "type", "\"type\"", err);
	}
	if (rc == 0) {
		rc = read_string(r, WORD_MAX, what, &kind, err);
	}
	if (rc) {
		return rc;
	}
	if (is_word(kind, "regular")) {
		return read_file(r, out, err);
	}
	if (is_word(kind, "symlink")) {
		return read_symlink(r, out, err);
	}
	return is_word(kind, "directory") ? begin_directory(r, out, err)
					  : wrong_word(r, kind, what, err);
}

/* ---- Entries ---- */

/* The name of the entry that was read last in the innermost directory; empty for none. */
static struct bytes last_name(const struct nar_reader *r)
{
	size_t start = r->ends[r->depth];

	start += start > 0 && start < r->path.len;
	return bytes_of(r->path.ptr + start, r->path.len - start);
}

/* The path becomes that of the entry. */
static int set_name(struct nar_reader *r, struct bytes name, struct error *err)
{
	struct bytes last = last_name(r);

	if (last.len && bytes_compare(last, name) >= 0) {
		int rc = error_set(err, ERROR_INVALID,
				   "the name \"%s\" does not come after \"%s\"",
				   bytes_printable(name), bytes_printable(last));

		leave_name(r);
		name_place(r, r->string_at, err);
		return rc;
	}
	leave_name(r);
	if (node_name_check(name, err) < 0) {
		name_place(r, r->string_at, err);
		return -(int)ERROR_INVALID;
	}
	if (r->path.len) {
		buffer_append_byte(&r->path, '/');
	}
	buffer_append(&r->path, name.ptr, name.len);
	return 0;
}

static int read_entry(struct nar_reader *r, struct nar_item *out, struct error *err)
{
	struct bytes name;
	int rc = expect(r, "(", "\"(\"", err);

	if (rc == 0) {
		rc = expect(r, "name", "\"name\"", err);
	}
	if (rc == 0) {
		rc = read_string(r, NODE_NAME_MAX, "a name", &name, err);
	}
	if (rc == 0) {
		rc = set_name(r, name, err);
	}
	if (rc == 0) {
		rc = expect(r, "node", "\"node\"", err);
	}
	if (rc == 0) {
		out->name = last_name(r);
		rc = read_node(r, out, err);
	}
	return rc;
}

static int end_directory(struct nar_reader *r, struct nar_item *out, struct error *err)
{
	leave_name(r);
	r->depth--;
	out->event = NAR_DIRECTORY_END;
	if (r->depth) {
		int rc = expect(r, ")", "\")\"", err);

		if (rc) {
			return rc;
		}
	}
	r->state = r->depth ? STATE_DIRECTORY : STATE_END;
	return 0;
}

static int read_in_directory(struct nar_reader *r, struct nar_item *out, struct error *err)
{
	static const char what[] = "\"entry\" or \")\"";
	struct bytes word;
	int rc = read_string(r, WORD_MAX, what, &word, err);

	if (rc) {
		return rc;
	}
	if (is_word(word, "entry")) {
		return read_entry(r, out, err);
	}
	return is_word(word, ")") ? end_directory(r, out, err) : wrong_word(r, word, what, err);
}

/* Asker: nothing may follow. */
static int read_end(struct nar_reader *r, struct error *err)
{
	int rc = r->rest.len ? 1 : next_block(r, err);

	if (rc > 0) {
		return fault_at(r, r->offset, ERROR_INVALID, err, "it goes on behind its end");
	}
	return rc;
}

/* ---- Contents ---- */

static int end_file(struct nar_reader *r, struct error *err)
{
	const uint8_t *p;
	size_t padding = (size_t)NAR_PAD(r->file_size);

	r->string_at = r->offset;
	int rc = take(r, padding, &p, err);

	if (rc) {
		return rc;
	}
	return all_zero(p, padding) ? read_close(r, err)
				    : fault(r, err, "padding that is not zero");
}

int nar_reader_content(struct nar_reader *r, struct bytes *piece, struct error *err)
{
	if (r->state != STATE_FILE) {
		return 0;
	}
	if (r->content_left == 0) {
		return end_file(r, err);
	}
	int rc = r->rest.len ? 1 : next_block(r, err);

	if (rc <= 0) {
		return rc < 0 ? rc : cut_off(r, err);
	}
	*piece = bytes_of(r->rest.ptr, (size_t)MIN(r->rest.len, r->content_left));
	r->content_left -= piece->len;
	advance(r, piece->len);
	return 1;
}

static int pass_over_content(struct nar_reader *r, struct error *err)
{
	struct bytes piece;
	int rc;

	do {
		rc = nar_reader_content(r, &piece, err);
	} while (rc > 0);
	return rc;
}

int nar_reader_next(struct nar_reader *r, struct nar_item *out, struct error *err)
{
	struct nar_item item = {0};
	int rc = pass_over_content(r, err);

	if (rc < 0) {
		return rc;
	}
	switch (r->state) {
	case STATE_BEGIN:
		rc = expect(r, "nix-archive-1", "\"nix-archive-1\", the beginning of a NAR,",
			    err);
		if (rc == 0) {
			rc = read_node(r, &item, err);
		}
		break;
	case STATE_DIRECTORY:
		rc = read_in_directory(r, &item, err);
		break;
	case STATE_FILE:
	case STATE_END:
		return read_end(r, err);
	}
	if (rc < 0) {
		return rc;
	}
	*out = item;
	return 1;
}
