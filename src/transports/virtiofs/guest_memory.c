#include "transports/virtiofs/guest_memory.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "transports/virtiofs/memory_guard.h"

/* A region and its mapping, shared by the maps that it is in. */
struct mapped_region {
	_Atomic unsigned refs;
	struct guest_region region;
	uint8_t *ptr;  /* of the region's first byte */
	void *mapping; /* begins at a page of the file */
	size_t map_size;
	struct memory_guard *guard;
};

struct guest_memory {
	_Atomic unsigned refs;
	size_t count;
	struct mapped_region *regions[]; /* by guest address */
};

static void region_unref(struct mapped_region *r)
{
	if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) {
		memory_guard_free(r->guard);
		munmap(r->mapping, r->map_size);
		free(r);
	}
}

static struct guest_memory *memory_alloc(size_t count)
{
	struct guest_memory *m =
		xcalloc(1, sizeof(*m) + count * sizeof(struct mapped_region *));

	atomic_init(&m->refs, 1);
	m->count = count;
	return m;
}

struct guest_memory *guest_memory_new(void)
{
	return memory_alloc(0);
}

struct guest_memory *guest_memory_ref(struct guest_memory *m)
{
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

void guest_memory_unref(struct guest_memory *m)
{
	if (m && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1) {
		for (size_t i = 0; i < m->count; i++) {
			region_unref(m->regions[i]);
		}
		free(m);
	}
}

size_t guest_memory_count(const struct guest_memory *m)
{
	return m->count;
}

static int check_region(const struct guest_region *r, struct error *err)
{
	uint64_t end;

	if (r->size == 0 || r->size > SIZE_MAX / 2 ||
	    __builtin_add_overflow(r->address, r->size, &end) ||
	    __builtin_add_overflow(r->user_address, r->size, &end) ||
	    __builtin_add_overflow(r->offset, r->size, &end) || end > INT64_MAX) {
		return error_set(err, ERROR_INVALID,
				 "a memory region of %#jx bytes at %#jx (user address %#jx, "
				 "offset %#jx) cannot be",
				 (uintmax_t)r->size, (uintmax_t)r->address,
				 (uintmax_t)r->user_address, (uintmax_t)r->offset);
	}
	return 0;
}

/*
 * The unit in which the file can be mapped. A file of a FUSE file system is refused: whoever
 * touched it would wait for the answer of a process that may be in league with the guest.
 */
static int check_file(const struct guest_region *r, int fd, size_t *unit, struct error *err)
{
	struct stat st;
	struct statfs fs;

	if (fstat(fd, &st) != 0 || fstatfs(fd, &fs) != 0) {
		return error_set_errno(err, errno, "cannot look at the file of a region");
	}
	if (!S_ISREG(st.st_mode) || fs.f_type == FUSE_SUPER_MAGIC) {
		return error_set(err, ERROR_INVALID,
				 "the memory of a guest must be a regular file, not of FUSE");
	}
	if ((uint64_t)st.st_size < r->offset + r->size) {
		return error_set(err, ERROR_INVALID,
				 "a file of %ju bytes does not hold a region of %#jx bytes at "
				 "offset %#jx",
				 (uintmax_t)st.st_size, (uintmax_t)r->size,
				 (uintmax_t)r->offset);
	}
	*unit = (size_t)sysconf(_SC_PAGESIZE);
	if (fs.f_type == HUGETLBFS_MAGIC) {
		*unit = MAX(*unit, (size_t)fs.f_bsize);
	}
	return 0;
}

static int region_map(struct mapped_region *r, int fd, struct error *err)
{
	size_t unit = 0;
	int rc = check_region(&r->region, err);

	if (rc == 0) {
		rc = check_file(&r->region, fd, &unit, err);
	}
	if (rc != 0) {
		return rc;
	}
	uint64_t start = r->region.offset / unit * unit;

	r->map_size = (size_t)round_up(r->region.offset + r->region.size - start, unit);
	r->mapping = mmap(NULL, r->map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			  fd, (off_t)start);
	if (r->mapping == MAP_FAILED) {
		return error_set_errno(err, errno, "cannot map %#jx bytes of a guest's memory",
				       (uintmax_t)r->region.size);
	}
	/* A core dump of ours is no place for what a guest has in memory. */
	(void)madvise(r->mapping, r->map_size, MADV_DONTDUMP);
	r->ptr = (uint8_t *)r->mapping + (r->region.offset - start);
	rc = memory_guard_new(r->mapping, r->map_size, &r->guard, err);
	if (rc != 0) {
		munmap(r->mapping, r->map_size);
	}
	return rc;
}

/* How many regions begin at or below this address. */
static size_t regions_below(const struct guest_memory *m, uint64_t address)
{
	size_t low = 0;
	size_t high = m->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (m->regions[middle]->region.address <= address) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

/* Index for a new region; negative: it overlaps another one. */
static ssize_t find_place(const struct guest_memory *m, const struct guest_region *r)
{
	size_t at = regions_below(m, r->address);

	if (at > 0) {
		const struct guest_region *before = &m->regions[at - 1]->region;

		if (r->address - before->address < before->size) {
			return -1;
		}
	}
	if (at < m->count && m->regions[at]->region.address - r->address < r->size) {
		return -1;
	}
	return (ssize_t)at;
}

int guest_memory_add(const struct guest_memory *m, const struct guest_region *region, int fd,
		     struct guest_memory **out, struct error *err)
{
	ssize_t at = find_place(m, region);

	if (at < 0) {
		return error_set(err, ERROR_INVALID,
				 "a memory region at %#jx overlaps another one",
				 (uintmax_t)region->address);
	}
	if (m->count >= GUEST_REGIONS_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %u memory regions",
				 GUEST_REGIONS_MAX);
	}
	struct mapped_region *r = xcalloc(1, sizeof(*r));

	atomic_init(&r->refs, 1);
	r->region = *region;
	int rc = region_map(r, fd, err);

	if (rc != 0) {
		free(r);
		return rc;
	}
	struct guest_memory *grown = memory_alloc(m->count + 1);

	for (size_t i = 0; i < m->count; i++) {
		atomic_fetch_add_explicit(&m->regions[i]->refs, 1, memory_order_relaxed);
		grown->regions[i < (size_t)at ? i : i + 1] = m->regions[i];
	}
	grown->regions[at] = r;
	*out = grown;
	return 0;
}

int guest_memory_remove(const struct guest_memory *m, const struct guest_region *region,
			struct guest_memory **out, struct error *err)
{
	size_t at = regions_below(m, region->address);
	const struct guest_region *found = at > 0 ? &m->regions[at - 1]->region : NULL;

	if (!found || found->address != region->address || found->size != region->size ||
	    found->user_address != region->user_address) {
		return error_set(err, ERROR_NOT_FOUND,
				 "there is no memory region of %#jx bytes at %#jx (user "
				 "address %#jx)",
				 (uintmax_t)region->size, (uintmax_t)region->address,
				 (uintmax_t)region->user_address);
	}
	struct guest_memory *rest = memory_alloc(m->count - 1);
	size_t n = 0;

	for (size_t i = 0; i < m->count; i++) {
		if (i != at - 1) {
			atomic_fetch_add_explicit(&m->regions[i]->refs, 1,
						  memory_order_relaxed);
			rest->regions[n++] = m->regions[i];
		}
	}
	*out = rest;
	return 0;
}

void *guest_memory_at(const struct guest_memory *m, uint64_t address, size_t *len)
{
	size_t at = regions_below(m, address);

	if (at == 0 || *len == 0) {
		return NULL;
	}
	const struct mapped_region *r = m->regions[at - 1];
	uint64_t offset = address - r->region.address;

	if (offset >= r->region.size) {
		return NULL;
	}
	*len = (size_t)MIN((uint64_t)*len, r->region.size - offset);
	return r->ptr + offset;
}

void *guest_memory_at_user(const struct guest_memory *m, uint64_t user_address, size_t len,
			   uint64_t *address)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct mapped_region *r = m->regions[i];
		uint64_t offset = user_address - r->region.user_address;

		if (user_address >= r->region.user_address && offset < r->region.size &&
		    len <= r->region.size - offset) {
			*address = r->region.address + offset;
			return r->ptr + offset;
		}
	}
	return NULL;
}

bool guest_memory_read(const struct guest_memory *m, uint64_t address, void *out, size_t len)
{
	uint8_t *to = out;

	while (len > 0) {
		size_t n = len;
		const void *from = guest_memory_at(m, address, &n);

		if (!from) {
			return false;
		}
		memcpy(to, from, n);
		to += n;
		address += n;
		len -= n;
	}
	/* What was read stays as it was read: nothing may read it once more from there. */
	atomic_signal_fence(memory_order_seq_cst);
	return true;
}

bool guest_memory_broken(const struct guest_memory *m)
{
	for (size_t i = 0; i < m->count; i++) {
		if (memory_guard_broken(m->regions[i]->guard)) {
			return true;
		}
	}
	return false;
}
