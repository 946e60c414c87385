#include "services/local/committer_internal.h"

#include <errno.h>

#include "base/io.h"
#include "services/local/batch.h"
#include "services/local/local_internal.h"
#include "services/local/pack_claim.h"

int committer_claim_locked(struct committer *c, struct error *err)
{
	struct claimed_pack pack;

	if (c->pack_fd >= 0) {
		return 0;
	}
	/* I/O under the lock, but once per pack, and no put can go on without it. */
	int rc = pack_claim(c->store, &pack, err);

	if (rc) {
		return rc;
	}
	c->pack_fd = pack.fd;
	c->pack_number = pack.number;
	c->pack_end = pack.end;
	c->buffer.offset = pack.end;
	c->buffer.len = 0;
	if (!c->buffer.data) {
		c->buffer.data = xmalloc(PACK_BUFFER_SIZE);
		while (c->spare_count < PACK_BUFFERS - 1) {
			c->spare[c->spare_count++] = xmalloc(PACK_BUFFER_SIZE);
		}
	}
	return 0;
}

/* A write of the batch, made without the lock, has ended; failed: with this errno, or 0. */
static int end_write_locked(struct committer *c, struct batch *b, int failed, struct error *err)
{
	struct error why;

	b->writes--;
	pthread_cond_broadcast(&c->changed);
	if (failed) {
		error_set_errno(&why, failed, "cannot write to a pack of %s", c->store->path);
		committer_fail_locked(c, &why);
		return committer_failure_locked(c, err);
	}
	return 0;
}

int committer_write_buffer_locked(struct committer *c, struct batch *b, struct error *err)
{
	struct pack_buffer full = c->buffer;
	int fd = c->pack_fd, failed = 0;

	if (full.len == 0) {
		return 1;
	}
	if (c->spare_count == 0) {
		pthread_cond_wait(&c->changed, &c->lock);
		return 0;
	}
	c->buffer =
		(struct pack_buffer){.data = c->spare[--c->spare_count], .offset = c->pack_end};
	b->writes++;
	pthread_mutex_unlock(&c->lock);
	if (pwrite_full(fd, full.data, full.len, (off_t)full.offset) != 0) {
		failed = errno;
	} else {
		local_start_writing(c->store, fd, full.offset, full.len);
	}
	pthread_mutex_lock(&c->lock);
	c->spare[c->spare_count++] = full.data;
	int rc = end_write_locked(c, b, failed, err);

	return rc ? rc : 1;
}

/* What begins the payload, which may be empty: one header, or whole records. */
static int write_record(int fd, uint64_t offset, struct bytes head, struct bytes payload)
{
	static const uint8_t zeros[RECORD_ALIGN];
	uint64_t used = head.len + payload.len;
	size_t padding = (size_t)(round_up(used, RECORD_ALIGN) - used);

	if (pwrite_full(fd, head.ptr, head.len, (off_t)offset) != 0 ||
	    pwrite_full(fd, payload.ptr, payload.len, (off_t)(offset + head.len)) != 0) {
		return -1;
	}
	return pwrite_full(fd, zeros, padding, (off_t)(offset + used));
}

uint64_t committer_reserve_locked(struct committer *c, uint64_t total)
{
	uint64_t offset = c->pack_end;

	c->pack_end += total;
	c->buffer.offset = c->pack_end;
	return offset;
}

int committer_write_locked(struct committer *c, struct batch *b, struct bytes head,
			   struct bytes payload, uint64_t offset, struct error *err)
{
	int fd = c->pack_fd;

	b->writes++;
	pthread_mutex_unlock(&c->lock);
	int failed = write_record(fd, offset, head, payload) == 0 ? 0 : errno;

	pthread_mutex_lock(&c->lock);
	return end_write_locked(c, b, failed, err);
}

void committer_buffer_locked(struct committer *c, const uint8_t *header, struct bytes payload)
{
	struct pack_buffer *buffer = &c->buffer;
	size_t total = (size_t)record_total(payload.len);
	uint8_t *at = buffer->data + buffer->len;

	memcpy(at, header, RECORD_HEADER_SIZE);
	if (payload.len) {
		memcpy(at + RECORD_HEADER_SIZE, payload.ptr, payload.len);
	}
	memset(at + RECORD_HEADER_SIZE + payload.len, 0,
	       total - RECORD_HEADER_SIZE - payload.len);
	buffer->len += total;
	c->pack_end += total;
}

void committer_release_pack_locked(struct committer *c)
{
	if (c->pack_fd >= 0) {
		pack_release(c->store, c->pack_fd, c->pack_number);
		c->pack_fd = -1;
	}
	free(c->buffer.data);
	c->buffer = (struct pack_buffer){0};
	while (c->spare_count) {
		free(c->spare[--c->spare_count]);
	}
}
