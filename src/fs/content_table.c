#include "fs/content_table.h"

#include "base/log.h"
#include "fs/node_id.h"

static uint64_t content_hash(const void *item, const void *context unused)
{
	const struct content *c = item;

	return digest_hash(&c->digest);
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

/* Nothing is taken out of the table: it may be kept, for somebody else. */
void content_table_done(struct content_table *t)
{
	uint32_t slot = slot_table_scan(&t->slots, 0);

	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->slots, slot + 1)) {
		directory_unref(content_table_get(t, slot)->directory);
	}
	slot_table_done(&t->slots);
}

/* ---- Taking over ---- */

static bool content_fits(void *item)
{
	struct content *c = item;

	c->directory = NULL;
	c->users = 0;
	return c->lookups <= LOOKUPS_MAX;
}

static bool is_unreachable(int rc)
{
	return rc == -ERROR_UNAVAILABLE || rc == -ERROR_TIMEOUT || rc == -ERROR_CANCELED;
}

/* 0: it is there, or was dropped. */
static int content_fetch(struct content_table *t, uint32_t slot,
			 struct directory_service *directories, struct error *err)
{
	struct content *c = content_table_get(t, slot);
	struct error fault = {.code = ERROR_NONE};
	int rc = content_table_find(t, &c->digest) == slot
			 ? directory_service_get(directories, &c->digest, &c->directory, &fault)
			 : 0;

	if (is_unreachable(rc)) {
		if (err) {
			*err = fault;
		}
		return error_wrap(err, "directory %s, which is in use",
				  digest_text(&c->digest));
	}
	if (rc > 0) {
		t->held += directory_memory(c->directory);
		return 0;
	}
	log_warning("directory %s, which is in use, is lost: %s", digest_text(&c->digest),
		    rc < 0 ? fault.text : "it is absent");
	slot_table_remove(&t->slots, slot);
	return 0;
}

int content_table_adopt(struct content_table *t, struct directory_service *directories,
			struct error *err)
{
	int rc = slot_table_adopt(&t->slots, content_fits)
			 ? 0
			 : error_set(err, ERROR_LIMIT, "no memory for the directories in use");
	uint32_t slot = rc == 0 ? slot_table_scan(&t->slots, 0) : SLOT_NONE;

	for (; rc == 0 && slot != SLOT_NONE; slot = slot_table_scan(&t->slots, slot + 1)) {
		rc = content_fetch(t, slot, directories, err);
	}
	return rc;
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

		if (digest_equal(&c->digest, digest)) {
			return slot;
		}
	}
	return SLOT_NONE;
}

uint32_t content_table_intern(struct content_table *t, struct directory *d)
{
	uint32_t slot = content_table_find(t, directory_digest(d));

	if (slot == SLOT_NONE) {
		const struct content c = {.digest = *directory_digest(d), .directory = d};

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
