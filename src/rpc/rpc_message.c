#include "rpc/rpc_message.h"

#include <stdatomic.h>

#include "rpc/grpc_library.h"

void rpc_message_done(struct rpc_message *m)
{
	if (m->buffer) {
		grpc_library.grpc_byte_buffer_destroy(m->buffer);
		m->buffer = NULL;
	}
}

/* Takes over the slices. */
static void set_slices(struct rpc_message *m, grpc_slice *slices, size_t count)
{
	rpc_message_done(m);
	m->buffer = grpc_library.grpc_raw_byte_buffer_create(slices, count);
	/* It took references of its own. */
	for (size_t i = 0; i < count; i++) {
		grpc_library.grpc_slice_unref(slices[i]);
	}
}

static grpc_slice copied_slice(struct bytes content)
{
	return grpc_library.grpc_slice_from_copied_buffer((const char *)content.ptr,
							  content.len);
}

void rpc_message_set(struct rpc_message *m, struct bytes content)
{
	grpc_slice slice = copied_slice(content);

	set_slices(m, &slice, 1);
}

/* What the library borrows, and gives back in a thread of its choice. */
struct borrowed {
	void (*release)(void *context);
	void *context;
	_Atomic bool lent;
};

static void give_back(void *p)
{
	struct borrowed *b = p;

	/* The library's locks order the two; this is for tools that do not see them. */
	if (atomic_load_explicit(&b->lent, memory_order_acquire)) {
		b->release(b->context);
	}
	free(b);
}

void rpc_message_set_parts(struct rpc_message *m, struct bytes head, struct bytes body,
			   void (*release)(void *context), void *context)
{
	/* Nobody writes through it; the library has no const here. */
	void *start = (void *)(uintptr_t)body.ptr;
	struct borrowed *b = xmalloc(sizeof(*b));

	b->release = release;
	b->context = context;
	atomic_store_explicit(&b->lent, true, memory_order_release);
	grpc_slice slices[] = {
		copied_slice(head),
		grpc_library.grpc_slice_new_with_user_data(start, body.len, give_back, b),
	};

	set_slices(m, slices, ARRAY_SIZE(slices));
}

size_t rpc_message_size(const struct rpc_message *m)
{
	return grpc_library.grpc_byte_buffer_length(m->buffer);
}

size_t rpc_message_piece_count(const struct rpc_message *m)
{
	return m->buffer->data.raw.slice_buffer.count;
}

struct bytes rpc_message_piece(const struct rpc_message *m, size_t i)
{
	return grpc_library_slice_bytes(&m->buffer->data.raw.slice_buffer.slices[i]);
}

struct bytes rpc_message_bytes(const struct rpc_message *m, struct buffer *storage)
{
	size_t count = rpc_message_piece_count(m);

	if (count == 1) {
		return rpc_message_piece(m, 0);
	}
	storage->len = 0;
	buffer_reserve(storage, rpc_message_size(m));
	for (size_t i = 0; i < count; i++) {
		struct bytes piece = rpc_message_piece(m, i);

		buffer_append(storage, piece.ptr, piece.len);
	}
	return buffer_bytes(storage);
}
