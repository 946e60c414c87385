#include "fs/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x70656b6e72696163ULL /* "cairnkep" */
#define AREA ((uint64_t)1 << 40)
#define FILE_SIZE ((KEEP_TABLES + 2) * AREA)
#define HEADER_PAGE 4096u

_Static_assert(sizeof(struct keep_header) <= HEADER_PAGE, "the header fits its page");

uint64_t keep_table_offset(enum keep_table table)
{
	return ((uint64_t)table + 1) * AREA;
}

uint64_t keep_log_offset(void)
{
	return (KEEP_TABLES + 1) * AREA;
}

void *keep_map(int fd, uint64_t offset, size_t size)
{
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) != 0) {
		return NULL;
	}
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);

	return memory != MAP_FAILED ? memory : NULL;
}

void keep_discard(int fd, uint64_t offset, void *memory, size_t size)
{
	munmap(memory, size);
	/* Where it fails, the memory stays ours until the end. */
	int rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			   (off_t)size);
	(void)rc;
}

bool keep_has_data(int fd, uint64_t offset, size_t size)
{
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA);

	return data >= 0 && (uint64_t)data < offset + size;
}

/* A file beyond the limit would not only fail, but end the process. */
static int check_limit(struct error *err)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < FILE_SIZE) {
		return error_set(err, ERROR_UNSUPPORTED, "the sizes of files are limited");
	}
	return 0;
}

static int make(struct keep *k, uint32_t sizes, struct error *err)
{
	int rc = check_limit(err);

	if (rc != 0) {
		return rc;
	}
	if (ftruncate(k->fd, (off_t)FILE_SIZE) != 0) {
		return error_set_errno(err, errno, "cannot make memory to keep a session in");
	}
	k->header = keep_map(k->fd, 0, HEADER_PAGE);
	if (!k->header) {
		return error_set(err, ERROR_LIMIT, "no memory to keep a session in");
	}
	k->header->version = KEEP_VERSION;
	k->header->sizes = sizes;
	keep_order();
	k->header->magic = MAGIC;
	return 0;
}

static int take(struct keep *k, uint32_t sizes, struct error *err)
{
	k->header = keep_map(k->fd, 0, HEADER_PAGE);
	if (!k->header) {
		return error_set(err, ERROR_LIMIT, "no memory to keep a session in");
	}
	const struct keep_header *h = k->header;

	if (h->magic != MAGIC) {
		return error_set(err, ERROR_INVALID, "it holds no session");
	}
	if (h->version != KEEP_VERSION || h->sizes != sizes) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "the session is kept in version %u.%u, this program has "
				 "version %u.%u",
				 h->version, h->sizes, KEEP_VERSION, sizes);
	}
	return 0;
}

int keep_open(struct keep *k, int fd, uint32_t sizes, struct error *err)
{
	struct stat st;
	int rc;

	*k = (struct keep){.fd = fd};
	if (fstat(fd, &st) != 0) {
		return error_set_errno(err, errno, "cannot use the memory of a session");
	}
	if (st.st_size == 0) {
		rc = make(k, sizes, err);
	} else if ((uint64_t)st.st_size != FILE_SIZE) {
		rc = error_set(err, ERROR_INVALID, "the memory of a session has another size");
	} else {
		rc = take(k, sizes, err);
	}
	if (rc != 0) {
		keep_close(k);
	}
	return rc;
}

void keep_clear(struct keep *k)
{
	struct keep_header *h = k->header;
	int rc = fallocate(k->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)AREA,
			   (off_t)(FILE_SIZE - AREA));

	(void)rc; /* it does not fail for such a file */
	h->log_length = 0;
	memset(h->marks, 0, sizeof(h->marks));
}

void keep_close(struct keep *k)
{
	if (k->header) {
		munmap(k->header, HEADER_PAGE);
		k->header = NULL;
	}
}
