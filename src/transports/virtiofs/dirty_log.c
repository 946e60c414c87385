#include "transports/virtiofs/dirty_log.h"

#include <stdatomic.h>

#include "transports/virtiofs/guest_memory.h"

#define PAGE_SHIFT 12

/* The bits lie in a file that somebody may cut off, too: a map of one region, at address 0. */
struct dirty_log {
	_Atomic unsigned refs;
	struct guest_memory *memory;
	_Atomic uint8_t *bits;
	uint64_t size; /* bytes */
};

int dirty_log_new(int fd, uint64_t size, uint64_t offset, struct dirty_log **out,
		  struct error *err)
{
	const struct guest_region region = {.size = size, .offset = offset};
	struct guest_memory *none cleanup(cleanup_guest_memory) = guest_memory_new();
	struct guest_memory *memory;
	int rc = guest_memory_add(none, &region, fd, &memory, err);

	if (rc != 0) {
		return error_wrap(err, "the log of written pages");
	}
	struct dirty_log *l = xcalloc(1, sizeof(*l));
	size_t len = (size_t)size;

	atomic_init(&l->refs, 1);
	l->memory = memory;
	l->bits = guest_memory_at(memory, 0, &len);
	l->size = size;
	*out = l;
	return 0;
}

struct dirty_log *dirty_log_ref(struct dirty_log *l)
{
	atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

void dirty_log_unref(struct dirty_log *l)
{
	if (l && atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1) {
		guest_memory_unref(l->memory);
		free(l);
	}
}

void dirty_log_mark(struct dirty_log *l, uint64_t address, size_t len)
{
	if (!l || len == 0) {
		return;
	}
	uint64_t last = (address + len - 1) >> PAGE_SHIFT;

	/*
	 * The hypervisor takes bits away meanwhile, and copies the pages then. One that takes a
	 * bit of an earlier write must also find what was written just now.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	for (uint64_t page = address >> PAGE_SHIFT; page <= last && page / 8 < l->size;
	     page++) {
		_Atomic uint8_t *byte = &l->bits[page / 8];
		uint8_t bit = (uint8_t)(1u << page % 8);

		if (!(atomic_load_explicit(byte, memory_order_relaxed) & bit)) {
			atomic_fetch_or(byte, bit);
		}
	}
}

bool dirty_log_broken(const struct dirty_log *l)
{
	return guest_memory_broken(l->memory);
}
