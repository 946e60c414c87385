#include "fs/ahead.h"

#include "fs/fs_internal.h"

/* What the kernel asks for at once, mostly; and others wait at most for so much. */
#define FILE_MAX (128u << 10)
/* Entries that may be left out on the way: directories, and what a reader has cached. */
#define GAP_MAX 8u
/* So many surprises end it, however long it went well before. */
#define TRUST_MAX 4u

struct fs_ahead {
	struct fs *fs;
	uint8_t *data;
	struct digest digest;
	size_t len;    /* of what is in data; 0: nothing is */
	uint64_t last; /* id of the file that was read last; 0: none */
	bool due;      /* what comes after it has not been looked for */
	unsigned trust;
};

struct fs_ahead *fs_ahead_new(struct fs *fs, void *buffer)
{
	struct fs_ahead *a = xcalloc(1, sizeof(*a));

	a->fs = fs;
	a->data = buffer;
	return a;
}

void *fs_ahead_free(struct fs_ahead *a)
{
	void *data = a ? a->data : NULL;

	free(a);
	return data;
}

bool ahead_take(struct fs_ahead *a, const struct node *file, uint64_t offset, size_t len,
		struct fs_reply *reply)
{
	if (a->len != file->size || !digest_equal(&a->digest, &file->digest)) {
		return false;
	}
	if (len == a->len) {
		uint8_t *data = a->data;

		a->data = reply->data;
		reply->data = data;
		a->len = 0;
	} else {
		memcpy(reply->data, a->data + offset, len);
	}
	return true;
}

/* The reader passed on from one file to the other in the order of a listing. */
static bool is_next(uint64_t last, uint64_t id)
{
	uint32_t from = node_id_leaf_entry(last), to = node_id_leaf_entry(id);

	return node_id_leaf_directory(last) == node_id_leaf_directory(id) && to > from &&
	       to - from <= GAP_MAX;
}

void ahead_note(struct fs_ahead *a, uint64_t id)
{
	if (node_id_kind(id) != NODE_ID_IS_LEAF) {
		return;
	}
	if (is_next(a->last, id)) {
		a->trust = MIN(a->trust + 1, TRUST_MAX);
	} else if (a->trust > 0) {
		a->trust--;
	}
	a->last = id;
	a->due = a->trust > 0;
}

/* Asker. */
static bool find_next(const struct fs_ahead *a, struct node *out)
{
	uint32_t entry = node_id_leaf_entry(a->last);

	for (uint32_t i = 1; i <= GAP_MAX && entry + i <= NODE_ID_ENTRY_MAX; i++) {
		struct object o cleanup(object_done);

		if (node_table_get(a->fs->nodes, a->last + i, &o) > 0 &&
		    o.node.kind == NODE_FILE && o.node.size > 0) {
			*out = o.node;
			return o.node.size <= FILE_MAX;
		}
	}
	return false;
}

bool fs_ahead_prepare(struct fs_ahead *a)
{
	struct error err = {.code = ERROR_NONE};
	struct node file;
	size_t got = 0;

	if (!a || !a->due) {
		return false;
	}
	a->due = false;
	a->len = 0;
	if (!find_next(a, &file)) {
		return false;
	}
	/* A fault is not ours to tell: whoever reads the file will hear of it. */
	if (blob_service_read(a->fs->blobs, &file.digest, 0, a->data, (size_t)file.size,
			      BLOB_READ_NOWAIT, &got, &err) > 0 &&
	    got == file.size) {
		a->digest = file.digest;
		a->len = got;
	}
	return true;
}
