#include "services/local/pack_scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define WINDOW_SIZE ((size_t)64 << 10)

void pack_scan_init(struct pack_scan *p, int fd, uint64_t from, uint64_t end)
{
	struct stat st;

	*p = (struct pack_scan){
		.fd = fd, .next = from, .end = end, .window = xmalloc(WINDOW_SIZE)};
	/* A damaged length may be of terabytes. */
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size < end) {
		p->end = MAX((uint64_t)st.st_size, from);
		p->skipped = end - p->end;
	}
}

void pack_scan_done(struct pack_scan *p)
{
	free(p->window);
}

/* A header at an offset, which lies before the end; NULL: it cannot be read. */
static const uint8_t *header_at(struct pack_scan *p, uint64_t offset)
{
	if (offset < p->window_at ||
	    offset + RECORD_HEADER_SIZE > p->window_at + p->window_len) {
		size_t want = (size_t)MIN(WINDOW_SIZE, p->end - offset);
		ssize_t n = pread_full(p->fd, p->window, want, (off_t)offset);

		p->window_at = offset;
		p->window_len = n > 0 ? (size_t)n : 0;
	}
	return p->window_len < offset - p->window_at + RECORD_HEADER_SIZE
		       ? NULL
		       : p->window + (offset - p->window_at);
}

int pack_scan_next(struct pack_scan *p, struct record *rec, uint64_t *offset)
{
	while (p->next < p->end && p->end - p->next >= RECORD_HEADER_SIZE) {
		const uint8_t *header = header_at(p, p->next);

		if (header && record_decode(header, rec) && rec->stored <= RECORD_PAYLOAD_MAX &&
		    record_total(rec->stored) <= p->end - p->next) {
			*offset = p->next;
			p->next += record_total(rec->stored);
			return 1;
		}
		p->next += RECORD_ALIGN;
		p->skipped += RECORD_ALIGN;
	}
	if (p->next < p->end) {
		p->skipped += (p->end - p->next) / RECORD_ALIGN * RECORD_ALIGN;
		p->next = p->end;
	}
	return 0;
}

void pack_scan_reject(struct pack_scan *p, uint64_t offset)
{
	p->next = offset + RECORD_ALIGN;
	p->skipped += RECORD_ALIGN;
}

bool pack_scan_payload(const struct pack_scan *p, const struct record *rec, uint64_t offset,
		       struct buffer *payload)
{
	payload->len = 0;
	buffer_reserve(payload, rec->stored);
	if (pread_full(p->fd, payload->ptr, rec->stored,
		       (off_t)(offset + RECORD_HEADER_SIZE)) != (ssize_t)rec->stored) {
		return false;
	}
	payload->len = rec->stored;
	return true;
}

int local_packs_visit(struct local_store *s, pack_visit visit, void *context, struct error *err)
{
	int fd = openat(s->dirfd, "packs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int rc = 0;

	if (!dir) {
		rc = error_set_errno(err, errno, "cannot list %s/packs", s->path);
		cleanup_close(&fd);
		return rc;
	}
	while (rc == 0 && (entry = readdir(dir))) {
		char name[LOCAL_NAME_SIZE], *end;
		unsigned long number = strtoul(entry->d_name, &end, 16);

		/* Only what has the very name that its number gives. */
		local_pack_name(name, number);
		if (number && number <= UINT32_MAX &&
		    strcmp(name + strlen("packs/"), entry->d_name) == 0) {
			rc = visit(context, name, (uint32_t)number, err);
		}
	}
	closedir(dir);
	return rc;
}
