/*
 * A guest that has anything in its memory.
 *
 * Input: a byte for the features and the size of the queue, a byte for where its rings are, and
 * the memory: two regions of a page each, next to each other for the guest. Chains are taken
 * out and used until there are none, or the guest has broken the rules; what is written to
 * their room may well hit the rings.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "transports/virtiofs/virtqueue.h"

#include "fuzz.h"

#define REGION 4096u
#define MEMORY (2 * REGION)
#define BASE 0x10000u
#define CHAINS_MAX 40u

/* The same for all inputs: the second page is the first one of the file. */
static struct guest_memory *the_memory(uint8_t **bytes)
{
	static struct guest_memory *memory;
	static uint8_t *mapping;

	if (!memory) {
		int fd = memfd_create("guest", MFD_CLOEXEC);
		struct guest_memory *m = guest_memory_new();

		check(fd >= 0 && ftruncate(fd, MEMORY) == 0);
		for (unsigned i = 0; i < 2; i++) {
			const struct guest_region r = {.address = BASE + i * REGION,
						       .size = REGION,
						       .user_address = BASE + i * REGION,
						       .offset = (1 - i) * REGION};

			check(guest_memory_add(m, &r, fd, &memory, NULL) == 0);
			guest_memory_unref(m);
			m = memory;
		}
		mapping = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		check(mapping != MAP_FAILED);
		close(fd);
	}
	*bytes = mapping;
	return memory;
}

static void fill(uint8_t *memory, const uint8_t *data, size_t size)
{
	size_t first = size < REGION ? size : REGION;
	size_t second = size - first < REGION ? size - first : REGION;

	memset(memory, 0, MEMORY);
	memcpy(memory + REGION, data, first);
	memcpy(memory, data + first, second);
}

/* Every piece is memory of the guest, and its own. */
static void check_chain(const struct guest_memory *m, const struct chain *c)
{
	size_t readable = 0;
	size_t writable = 0;

	check(c->readable + c->writable <= CHAIN_SPANS_MAX);
	for (unsigned i = 0; i < c->readable + c->writable; i++) {
		const struct guest_span *s = &c->spans[i];
		size_t len = s->len;

		check(s->len > 0 && s->address >= BASE && s->address - BASE < MEMORY);
		check(guest_memory_at(m, s->address, &len) == s->ptr && len == s->len);
		*(i < c->readable ? &readable : &writable) += s->len;
	}
	check(readable == c->readable_len && writable == c->writable_len);
}

/* Reads what is readable, writes what is writable; returns how much. */
static size_t use_chain(const struct chain *c)
{
	uint8_t sum = 0;
	size_t written = 0;

	for (unsigned i = 0; i < c->readable; i++) {
		for (size_t j = 0; j < c->spans[i].len; j++) {
			sum = (uint8_t)(sum * 31 + c->spans[i].ptr[j]);
		}
	}
	for (unsigned i = c->readable; i < c->readable + c->writable; i++) {
		memset(c->spans[i].ptr, sum, c->spans[i].len);
		written += c->spans[i].len;
	}
	return written;
}

static void run(struct virtqueue *q, struct guest_memory *m)
{
	static struct chain chain;
	struct error err = {.code = ERROR_NONE};

	for (unsigned i = 0; i < CHAINS_MAX; i++) {
		int rc = virtqueue_pop(q, &chain, &err);

		if (rc <= 0) {
			check(rc == 0 || told(&err));
			return;
		}
		check_chain(m, &chain);
		virtqueue_quiet(q);
		const struct room room = {.spans = chain.spans + chain.readable,
					  .count = chain.writable};

		virtqueue_push(q, chain.head, &room, (uint32_t)use_chain(&chain));
		virtqueue_listen(q);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2) {
		return 0;
	}
	const uint64_t rings = BASE + (uint64_t)(data[1] & 0xf) * 512;
	const struct virtqueue_setup setup = {
		.size = 1u << (data[0] & 7),
		.base = (uint16_t)((data[1] >> 4) * 0x1111),
		.descriptors = rings,
		.available = rings + 1024,
		.used = rings + 2048,
		.indirect = data[0] & 0x10,
		.event_idx = data[0] & 0x20,
	};
	struct guest_memory *m;
	struct virtqueue q;
	uint8_t *bytes;

	m = the_memory(&bytes);
	fill(bytes, data + 2, size - 2);
	virtqueue_init(&q);
	if (virtqueue_start(&q, &setup, m, NULL) == 0) {
		run(&q, m);
		virtqueue_stop(&q);
	}
	virtqueue_done(&q);
	return 0;
}
