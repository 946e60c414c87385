#include "cli/contents.h"

#define PIECE ((size_t)1 << 20)

static int read_blob(struct blob_reader *in, contents_take take, void *context,
		     struct error *err)
{
	uint8_t *buffer cleanup(cleanup_free) = xmalloc(PIECE);
	uint64_t at = 0;
	size_t got;

	for (;;) {
		int r = blob_reader_pread(in, buffer, PIECE, at, &got, err);

		if (r < 0 || got == 0) {
			return r;
		}
		r = take(context, bytes_of(buffer, got), err);
		if (r < 0) {
			return r;
		}
		at += got;
	}
}

int contents_read(struct store *store, const struct node *file, contents_take take,
		  void *context, struct error *err)
{
	struct blob_reader *in cleanup(cleanup_blob_reader) = NULL;
	int r = blob_service_open(store->blobs, &file->digest, &in, err);

	if (r < 0) {
		return r;
	}
	if (r == 0) {
		return error_set(err, ERROR_UNAVAILABLE, "the blob %s is not in the store",
				 digest_text(&file->digest));
	}
	if (blob_reader_size(in) != file->size) {
		return error_set(err, ERROR_CORRUPT,
				 "the blob %s does not have the size that its directory says",
				 digest_text(&file->digest));
	}
	return read_blob(in, take, context, err);
}
