#pragma once

/*
 * The memory of a guest, as its hypervisor shares it: regions, each at an address of the guest,
 * at an address of the hypervisor (user address), and at an offset of a file.
 *
 * A map of regions never changes; another one takes its place. Whoever works in guest memory
 * holds a reference to the map, and so the regions stay mapped. Any thread. What is in the
 * memory may change at any time: it is copied before it is looked at.
 */

#include "base/bytes.h"
#include "base/error.h"

#define GUEST_REGIONS_MAX 509u

struct guest_region {
	uint64_t address; /* of the guest */
	uint64_t size;
	uint64_t user_address;
	uint64_t offset; /* in the file */
};

struct guest_memory;

/* Without any region. */
struct guest_memory *guest_memory_new(void);
struct guest_memory *guest_memory_ref(struct guest_memory *m);
void guest_memory_unref(struct guest_memory *m);
DEFINE_CLEANUP(cleanup_guest_memory, struct guest_memory *, guest_memory_unref)

/*
 * A map of the regions of m and one more, whose file is fd (borrowed). The file must hold the
 * region; that somebody cuts it off later does no harm.
 */
int guest_memory_add(const struct guest_memory *m, const struct guest_region *region, int fd,
		     struct guest_memory **out, struct error *err);
/* Without the region with these addresses and this size. ERROR_NOT_FOUND. */
int guest_memory_remove(const struct guest_memory *m, const struct guest_region *region,
			struct guest_memory **out, struct error *err);

size_t guest_memory_count(const struct guest_memory *m);

/*
 * Where the byte at a guest address is. *len: wanted, then how much of it is there in one piece
 * (at least 1). NULL when nothing is there, or nothing is wanted.
 */
void *guest_memory_at(const struct guest_memory *m, uint64_t address, size_t *len);
/* All of len bytes at a user address in one piece, or NULL. *address: of the guest. */
void *guest_memory_at_user(const struct guest_memory *m, uint64_t user_address, size_t len,
			   uint64_t *address);
/* Copies out of guest memory. False when part of it is not there. */
bool guest_memory_read(const struct guest_memory *m, uint64_t address, void *out, size_t len);

/* True when the file of a region was cut off and somebody has touched what is gone. */
bool guest_memory_broken(const struct guest_memory *m);
