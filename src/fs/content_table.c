#include "fs/content_table.h"

#include "fs/node_id.h"

static uint64_t content_hash(const void *item, const void *context unused)
{
	const struct content *c = item;

	return digest_hash(directory_digest(c->directory));
}

void content_table_init(struct content_table *t)
{
	*t = (struct content_table){.held = 0};
	slot_table_init(&t->slots, sizeof(struct content), NODE_ID_CONTENTS_MAX, content_hash,
			NULL);
}

void content_table_clear(struct content_table *t)
{
	uint32_t slot = slot_table_scan(&t->slots, 0);

	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->slots, slot + 1)) {
		struct content *c = content_table_get(t, slot);

		c->lookups = 0;
		c->users = 0;
		content_table_settle(t, slot);
	}
}

void content_table_done(struct content_table *t)
{
	content_table_clear(t);
	slot_table_done(&t->slots);
}

struct content *content_table_get(const struct content_table *t, uint32_t slot)
{
	return slot_table_get(&t->slots, slot);
}

uint32_t content_table_find(const struct content_table *t, const struct digest *digest)
{
	uint32_t slot = slot_table_first(&t->slots, digest_hash(digest));

	for (; slot != SLOT_NONE; slot = slot_table_next(&t->slots, slot)) {
		const struct content *c = content_table_get(t, slot);

		if (digest_equal(directory_digest(c->directory), digest)) {
			return slot;
		}
	}
	return SLOT_NONE;
}

uint32_t content_table_intern(struct content_table *t, struct directory *d)
{
	uint32_t slot = content_table_find(t, directory_digest(d));

	if (slot == SLOT_NONE) {
		const struct content c = {.directory = d};

		slot = slot_table_add(&t->slots, &c);
		if (slot != SLOT_NONE) {
			directory_ref(d);
			t->held += directory_memory(d);
		}
	}
	return slot;
}

void content_table_settle(struct content_table *t, uint32_t slot)
{
	const struct content *c = content_table_get(t, slot);

	if (c->lookups > 0 || c->users > 0) {
		return;
	}
	struct directory *d = c->directory;

	t->held -= directory_memory(d);
	t->freed += directory_memory(d) + sizeof(*c);
	slot_table_remove(&t->slots, slot);
	directory_unref(d);
}
