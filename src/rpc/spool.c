#include "rpc/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "rpc/answer.h"
#include "services/verified_reader.h"

/* Blobs kept when nobody uses them: so many, and so many bytes of memory and disk. */
#define KEPT_COUNT_MAX 32
#define KEPT_BYTES_MAX ((uint64_t)1 << 30)

struct spooled {
	struct digest digest;
	unsigned users; /* guarded by the spool's lock, as is the rest */
	bool fetching;
	struct blob_reader *reader; /* NULL: absent, or fetching */
	int rc;                     /* of the fetch; what those who waited get */
	struct error why;
	struct spooled *next; /* the one used before it */
};

struct spool {
	struct peer *peer;
	uint64_t blob_max;
	pthread_mutex_t lock; /* guards the list */
	pthread_cond_t fetched;
	struct spooled *newest;
};

struct spool *spool_new(struct peer *peer, uint64_t blob_max)
{
	struct spool *s = xcalloc(1, sizeof(*s));

	s->peer = peer;
	s->blob_max = blob_max;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->fetched, NULL);
	return s;
}

static void free_spooled(struct spooled *b)
{
	blob_reader_free(b->reader);
	free(b);
}

void spool_free(struct spool *s)
{
	if (!s) {
		return;
	}
	while (s->newest) {
		struct spooled *b = s->newest;

		s->newest = b->next;
		free_spooled(b);
	}
	pthread_cond_destroy(&s->fetched);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- Fetching: nothing is believed before the whole was hashed ---- */

struct fetch {
	struct spool *spool;
	const struct digest *digest;
	uint64_t expected; /* what the peer's chunks add up to; 0: not known */
	uint64_t size;
	struct buffer start; /* all of it, up to VERIFIED_READER_WHOLE_MAX */
	int fd;              /* of what is larger; -1 */
};

static int open_file(struct fetch *f, struct error *err)
{
	const char *dir = getenv("TMPDIR");

	dir = dir && dir[0] ? dir : "/tmp";
	f->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (f->fd < 0) {
		return error_set_errno(err, errno, "cannot make a temporary file in %s", dir);
	}
	return write_full(f->fd, f->start.ptr, f->start.len) < 0
		       ? error_set_errno(err, errno, "cannot write to a temporary file")
		       : 0;
}

static int check_room(const struct fetch *f, size_t more, struct error *err)
{
	uint64_t limit = f->expected ? f->expected : f->spool->blob_max;

	if (more <= limit - f->size) {
		return 0;
	}
	if (f->expected) {
		return error_set(err, ERROR_CORRUPT,
				 "%s: blob %s: more than the %ju bytes of its chunks",
				 peer_address(f->spool->peer), digest_text(f->digest),
				 (uintmax_t)f->expected);
	}
	return error_set(err, ERROR_LIMIT, "%s: blob %s: more than %ju bytes (see max-blob)",
			 peer_address(f->spool->peer), digest_text(f->digest),
			 (uintmax_t)limit);
}

static int take_chunk(void *context, struct bytes message, struct error *err)
{
	struct fetch *f = context;
	struct blob_chunk chunk;
	int rc = answer_decode(&blob_chunk_type, message, &chunk, err);
	struct bytes data = chunk.data;

	if (rc == 0) {
		rc = check_room(f, data.len, err);
	}
	if (rc < 0) {
		return rc;
	}
	f->size += data.len;
	if (f->fd < 0 && f->size <= VERIFIED_READER_WHOLE_MAX) {
		buffer_append(&f->start, data.ptr, data.len);
		return 0;
	}
	if (f->fd < 0) {
		rc = open_file(f, err);
	}
	if (rc == 0 && write_full(f->fd, data.ptr, data.len) < 0) {
		rc = error_set_errno(err, errno, "cannot write to a temporary file");
	}
	return rc;
}

struct file_reader {
	struct blob_reader base;
	int fd;
};

static int file_pread(struct blob_reader *r, void *buf, size_t len, uint64_t offset,
		      size_t *got, struct error *err)
{
	ssize_t n = pread_full(container_of(r, struct file_reader, base)->fd, buf, len,
			       (off_t)offset);

	if (n < 0) {
		return error_set_errno(err, errno, "cannot read a temporary file");
	}
	*got = (size_t)n;
	return 0;
}

static int file_no_fd(const struct blob_reader *r unused)
{
	return -1;
}

static void file_free(struct blob_reader *r)
{
	struct file_reader *f = container_of(r, struct file_reader, base);

	close(f->fd);
	free(f);
}

static const struct blob_reader_ops file_reader_ops = {
	.pread = file_pread,
	.fd = file_no_fd,
	.free = file_free,
};

static int reader_of_file(struct fetch *f, struct blob_reader **out, struct error *err)
{
	struct file_reader *r = xcalloc(1, sizeof(*r));

	r->base.ops = &file_reader_ops;
	r->base.size = f->size;
	r->fd = f->fd;
	f->fd = -1;
	return verified_reader_open(&r->base, f->digest, out, err);
}

static int reader_of_memory(struct fetch *f, struct blob_reader **out, struct error *err)
{
	struct digest found;

	digest_of(&found, buffer_bytes(&f->start));
	if (!digest_equal(&found, f->digest)) {
		return error_set(err, ERROR_CORRUPT,
				 "%s: blob %s: the content has the digest %s",
				 peer_address(f->spool->peer), digest_text(f->digest),
				 digest_text(&found));
	}
	*out = verified_reader_of_memory(f->start.ptr, f->start.len);
	f->start = (struct buffer){0};
	return 0;
}

/* How long it is, if the peer tells; an endless answer ends there. Asker. */
static int ask_size(struct fetch *f, struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct buffer reply cleanup(buffer_done) = {0};
	struct chunk_list chunks = {0};
	struct stat_blob_request m = {.digest = digest_bytes(f->digest), .send_chunks = true};

	message_encode(&stat_blob_request_type, &m, &request);
	int rc = peer_lookup(f->spool->peer, PEER_METHOD(PEER_BLOBS, "Stat"),
			     buffer_bytes(&request), &reply, err);

	if (rc > 0) {
		rc = answer_chunks(buffer_bytes(&reply), &chunks, err);
		rc = rc < 0 ? rc : 1;
	}
	for (size_t i = 0; i < chunks.count; i++) {
		f->expected += chunks.chunks[i].size;
	}
	chunk_list_done(&chunks);
	return rc;
}

static int fetch_once(struct fetch *f, struct blob_reader **out, struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct digest_message m = {.digest = digest_bytes(f->digest)};
	int rc = ask_size(f, err);

	message_encode(&digest_message_type, &m, &request);
	if (rc > 0) {
		rc = peer_stream(f->spool->peer, PEER_METHOD(PEER_BLOBS, "Read"),
				 buffer_bytes(&request), take_chunk, f, err);
	}
	if (rc > 0) {
		rc = f->fd < 0 ? reader_of_memory(f, out, err) : reader_of_file(f, out, err);
		rc = rc < 0 ? rc : 1;
	}
	buffer_done(&f->start);
	if (f->fd >= 0) {
		close(f->fd);
	}
	return rc;
}

static int fetch_blob(struct spool *s, const struct digest *digest, struct blob_reader **out,
		      struct error *err)
{
	struct peer_retry retry = {.peer = s->peer};
	int rc;

	do {
		struct fetch f = {.spool = s, .digest = digest, .fd = -1};

		rc = fetch_once(&f, out, err);
	} while (rc < 0 && peer_retry(&retry, rc));
	return rc;
}

/* ---- Keeping ---- */

static struct spooled *find(const struct spool *s, const struct digest *digest)
{
	struct spooled *b = s->newest;

	while (b && !digest_equal(&b->digest, digest)) {
		b = b->next;
	}
	return b;
}

static void unlink_spooled(struct spool *s, const struct spooled *b)
{
	struct spooled **at = &s->newest;

	while (*at != b) {
		at = &(*at)->next;
	}
	*at = b->next;
}

static void make_newest(struct spool *s, struct spooled *b)
{
	b->next = s->newest;
	s->newest = b;
}

/* From the oldest on, those that nobody uses and that are too many. */
static void drop_surplus(struct spool *s)
{
	uint64_t bytes = 0;
	size_t count = 0;

	for (struct spooled **at = &s->newest; *at;) {
		struct spooled *b = *at;

		bytes += b->reader ? b->reader->size : 0;
		count++;
		if (b->users == 0 &&
		    (!b->reader || count > KEPT_COUNT_MAX || bytes > KEPT_BYTES_MAX)) {
			*at = b->next;
			free_spooled(b);
		} else {
			at = &b->next;
		}
	}
}

static struct spooled *add_fetching(struct spool *s, const struct digest *digest)
{
	struct spooled *b = xcalloc(1, sizeof(*b));

	b->digest = *digest;
	b->fetching = true;
	b->users = 1;
	make_newest(s, b);
	return b;
}

/* The lock is held, but not meanwhile. */
static void fetch_for_all(struct spool *s, struct spooled *b)
{
	struct blob_reader *reader = NULL;
	struct error why = {0};

	pthread_mutex_unlock(&s->lock);
	int rc = fetch_blob(s, &b->digest, &reader, &why);

	pthread_mutex_lock(&s->lock);
	b->fetching = false;
	b->reader = reader;
	b->rc = rc;
	b->why = why;
	pthread_cond_broadcast(&s->fetched);
}

int spool_open(struct spool *s, const struct digest *digest, struct spooled **out,
	       struct error *err)
{
	pthread_mutex_lock(&s->lock);
	struct spooled *b = find(s, digest);

	if (!b) {
		b = add_fetching(s, digest);
		fetch_for_all(s, b);
	} else {
		unlink_spooled(s, b);
		make_newest(s, b);
		b->users++;
		while (b->fetching) {
			pthread_cond_wait(&s->fetched, &s->lock);
		}
	}
	int rc = b->rc;

	if (rc > 0) {
		*out = b;
	} else {
		if (rc < 0 && err) {
			*err = b->why;
		}
		b->users--;
	}
	drop_surplus(s);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

struct spooled *spool_find(struct spool *s, const struct digest *digest)
{
	pthread_mutex_lock(&s->lock);
	struct spooled *b = find(s, digest);

	b = b && b->reader ? b : NULL;
	if (b) {
		b->users++;
	}
	pthread_mutex_unlock(&s->lock);
	return b;
}

struct blob_reader *spooled_reader(const struct spooled *b)
{
	return b->reader;
}

void spool_close(struct spool *s, struct spooled *b)
{
	pthread_mutex_lock(&s->lock);
	b->users--;
	drop_surplus(s);
	pthread_mutex_unlock(&s->lock);
}

int spool_size(struct spool *s, const struct digest *digest, uint64_t *size, struct error *err)
{
	struct spooled *b;
	int rc = spool_open(s, digest, &b, err);

	if (rc > 0) {
		*size = blob_reader_size(b->reader);
		spool_close(s, b);
	}
	return rc;
}

int spool_read(struct spool *s, const struct digest *digest, uint64_t offset, void *buf,
	       size_t len, size_t *got, struct error *err)
{
	struct spooled *b;
	int rc = spool_open(s, digest, &b, err);

	if (rc > 0) {
		rc = blob_reader_pread(b->reader, buf, len, offset, got, err);
		rc = rc < 0 ? rc : 1;
		spool_close(s, b);
	}
	return rc;
}

/* ---- Readers ---- */

struct spool_reader {
	struct blob_reader base;
	struct spool *spool;
	struct spooled *blob;
};

static int reader_pread(struct blob_reader *base, void *buf, size_t len, uint64_t offset,
			size_t *got, struct error *err)
{
	struct spool_reader *r = container_of(base, struct spool_reader, base);

	return blob_reader_pread(r->blob->reader, buf, len, offset, got, err);
}

static void reader_free(struct blob_reader *base)
{
	struct spool_reader *r = container_of(base, struct spool_reader, base);

	spool_close(r->spool, r->blob);
	free(r);
}

static const struct blob_reader_ops spool_reader_ops = {
	.pread = reader_pread,
	.fd = file_no_fd,
	.free = reader_free,
};

int spool_open_reader(struct spool *s, const struct digest *digest, struct blob_reader **out,
		      struct error *err)
{
	struct spooled *b;
	int rc = spool_open(s, digest, &b, err);

	if (rc <= 0) {
		return rc;
	}
	struct spool_reader *r = xcalloc(1, sizeof(*r));

	r->base.ops = &spool_reader_ops;
	r->base.size = blob_reader_size(b->reader);
	r->spool = s;
	r->blob = b;
	*out = &r->base;
	return 1;
}
