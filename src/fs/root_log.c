#include "fs/root_log.h"

#include <string.h>
#include <sys/mman.h>

#define WINDOW ((uint64_t)64 << 10)
#define LENGTH_MAX ((uint64_t)1 << 40)
/* More than any name with its node. */
#define RECORD_MAX (16u << 10)

_Static_assert(RECORD_MAX > NODE_NAME_MAX + NODE_TARGET_MAX + 256, "every record fits");

void root_log_init(struct root_log *l, const struct keep *k)
{
	*l = (struct root_log){.keep = k};
}

static void leave_window(struct root_log *l)
{
	if (l->window) {
		munmap(l->window, WINDOW);
		l->window = NULL;
	}
}

void root_log_done(struct root_log *l)
{
	leave_window(l);
}

/* What is at a place; NULL without memory. */
static uint8_t *place(struct root_log *l, uint64_t at)
{
	uint64_t start = at - at % WINDOW;

	if (!l->window || l->window_at != start) {
		leave_window(l);
		if (at < LENGTH_MAX) {
			l->window = keep_map(l->keep->fd, keep_log_offset() + start, WINDOW);
			l->window_at = start;
		}
	}
	return l->window ? l->window + at % WINDOW : NULL;
}

static int no_memory(struct error *err)
{
	return error_set(err, ERROR_LIMIT, "no memory for names of the root");
}

static uint64_t room(uint64_t at)
{
	return WINDOW - at % WINDOW;
}

static uint64_t record_size(size_t len)
{
	return sizeof(uint32_t) + round_up(len, sizeof(uint32_t));
}

/* Where a record of this size goes; NULL without memory. */
static uint8_t *make_room(struct root_log *l, uint64_t size, uint64_t *at)
{
	static const uint32_t nothing;

	*at = l->keep->header->log_length;
	if (room(*at) < size) {
		uint8_t *rest = place(l, *at);

		if (!rest) {
			return NULL;
		}
		memcpy(rest, &nothing, sizeof(nothing));
		*at += room(*at);
	}
	return place(l, *at);
}

int root_log_append(struct root_log *l, struct bytes name, const struct node *node,
		    struct error *err)
{
	struct buffer encoded cleanup(buffer_done) = {.ptr = NULL};
	uint64_t at;

	if (!l->keep) {
		return 0;
	}
	node_encode(&encoded, name, node);
	uint32_t len = (uint32_t)encoded.len;

	if (encoded.len > RECORD_MAX) {
		return error_set(err, ERROR_LIMIT, "a name of the root is too long");
	}
	uint8_t *record = make_room(l, record_size(len), &at);

	if (!record) {
		return no_memory(err);
	}
	memcpy(record, &len, sizeof(len));
	memcpy(record + sizeof(len), encoded.ptr, len);
	keep_order();
	l->keep->header->log_length = at + record_size(len);
	return 0;
}

static int damaged(struct error *err)
{
	return error_set(err, ERROR_INVALID, "the names of a kept session are damaged");
}

/* Asker: the record at a place, and the place behind it; 0: there is none, but the next window.
 */
static int record_at(struct root_log *l, uint64_t at, struct bytes *record, struct error *err)
{
	uint32_t len;

	if (!l->window || l->window_at != at - at % WINDOW) {
		uint64_t offset = keep_log_offset() + at - at % WINDOW;

		/* Nothing is made where nothing is. */
		if (at >= LENGTH_MAX || !keep_has_data(l->keep->fd, offset, WINDOW)) {
			return damaged(err);
		}
	}
	const uint8_t *start = place(l, at);

	if (!start) {
		return no_memory(err);
	}
	memcpy(&len, start, sizeof(len));
	if (len == 0) {
		return 0;
	}
	if (len > RECORD_MAX || record_size(len) > room(at)) {
		return damaged(err);
	}
	*record = bytes_of(start + sizeof(len), len);
	return 1;
}

int root_log_read(struct root_log *l,
		  int (*visit)(void *context, struct bytes name, const struct node *node,
			       struct error *err),
		  void *context, struct error *err)
{
	uint64_t end = l->keep->header->log_length;
	uint64_t at = 0;

	while (at < end) {
		struct bytes record = {.len = 0}, name = {.len = 0};
		struct node node;
		int rc = at % sizeof(uint32_t) ? damaged(err) : record_at(l, at, &record, err);

		if (rc == 0) {
			at += room(at);
			continue;
		}
		if (rc > 0) {
			rc = node_decode(record, &name, &node, err);
		}
		if (rc == 0) {
			rc = name.len > 0 ? visit(context, name, &node, err) : damaged(err);
		}
		if (rc != 0) {
			return rc;
		}
		at += record_size(record.len);
	}
	return at == end ? 0 : damaged(err);
}
