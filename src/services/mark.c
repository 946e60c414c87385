#include "services/mark.h"

int mark_init(struct mark *m, size_t expected, struct error *err)
{
	*m = (struct mark){.cancel = NULL};
	return mark_set_init(&m->set, expected, err);
}

void mark_done(struct mark *m)
{
	mark_set_done(&m->set);
	buffer_done(&m->waiting);
}

bool mark_has(const struct mark *m, enum node_kind kind, const struct digest *digest)
{
	return mark_set_has(&m->set, kind, digest);
}

static int mark_one(struct mark *m, const struct node *node, struct error *err)
{
	int rc = node->kind == NODE_SYMLINK
			 ? 0
			 : mark_set_add(&m->set, node->kind, &node->digest, err);

	if (rc <= 0) {
		return rc;
	}
	if (m->counter) {
		atomic_fetch_add_explicit(m->counter, 1, memory_order_relaxed);
	}
	if (node->kind == NODE_DIRECTORY) {
		buffer_append(&m->waiting, node->digest.bytes, DIGEST_SIZE);
		return 0;
	}
	return m->met ? m->met(m->context, NODE_FILE, &node->digest, err) : 0;
}

static int mark_entries(struct mark *m, const struct directory *d, struct error *err)
{
	struct directory_entry e;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < directory_count(d); i++) {
		directory_entry(d, i, &e);
		rc = mark_one(m, &e.node, err);
	}
	return rc;
}

/* The Directory that waits last, so that few wait. */
static int mark_waiting(struct mark *m, struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct digest digest;

	if (m->cancel && atomic_load_explicit(m->cancel, memory_order_relaxed)) {
		return error_set(err, ERROR_CANCELED, "interrupted");
	}
	m->waiting.len -= DIGEST_SIZE;
	memcpy(digest.bytes, m->waiting.ptr + m->waiting.len, DIGEST_SIZE);
	int rc = directory_service_get(m->directories, &digest, &d, err);

	if (rc == 0) {
		m->absent++;
		if (m->missing) {
			buffer_append(m->missing, digest.bytes, DIGEST_SIZE);
		}
		return m->met ? m->met(m->context, NODE_DIRECTORY, &digest, err) : 0;
	}
	return rc < 0 ? rc : mark_entries(m, d, err);
}

static int mark_all_waiting(struct mark *m, struct error *err)
{
	int rc = 0;

	while (rc == 0 && m->waiting.len) {
		rc = mark_waiting(m, err);
	}
	return rc;
}

int mark_node(struct mark *m, const struct node *node, struct error *err)
{
	int rc = mark_one(m, node, err);

	return rc ? rc : mark_all_waiting(m, err);
}

int mark_found(struct mark *m, const uint8_t *digests, size_t count, struct error *err)
{
	buffer_append(&m->waiting, digests, count * DIGEST_SIZE);
	return mark_all_waiting(m, err);
}
