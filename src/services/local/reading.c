/* Finding and reading objects of a local store. */

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "services/local/local_internal.h"

#define NEIGHBOURHOOD (256 << 10)

int local_check_writable(const struct local_store *s, bool read_only, struct error *err)
{
	if (read_only) {
		return error_set(err, ERROR_DENIED, "store %s is open for reading only",
				 s->path);
	}
	return 0;
}

int local_pread(int fd, void *buf, size_t len, uint64_t offset, unsigned flags,
		const char *what, struct error *err)
{
	size_t done = 0;

	while (done < len) {
		struct iovec iov = {.iov_base = (char *)buf + done, .iov_len = len - done};
		ssize_t n = preadv2(fd, &iov, 1, (off_t)(offset + done),
				    flags & LOCAL_READ_NOWAIT ? RWF_NOWAIT : 0);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0 && (flags & LOCAL_READ_NOWAIT) &&
		    (errno == EAGAIN || errno == EOPNOTSUPP)) {
			return error_set(err, ERROR_WOULD_BLOCK, "%s is not in memory", what);
		}
		if (n < 0) {
			return error_set_errno(err, errno, "cannot read %s", what);
		}
		if (n == 0) {
			return error_set(err, ERROR_CORRUPT, "%s is shorter than it should be",
					 what);
		}
		done += (size_t)n;
	}
	return 0;
}

/*
 * Such files are read mostly from one object to the next, but by several threads, which
 * overtake each other. Where the kernel reads ahead 8 MiB it makes nothing of that; 128 KiB, as
 * is common, are passed over so quickly that it sees no order, and twice as much helps.
 */
#define READ_AHEAD_FEW_KIB 1024u

int local_open_to_read(const struct local_store *s, const char *name, int flags)
{
	int fd = openat_quietly(s->dirfd, name, flags);

	if (fd >= 0 && s->disk_reads_ahead > 0 && s->disk_reads_ahead < READ_AHEAD_FEW_KIB) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	}
	return fd;
}

int local_pack_open(struct local_store *s, uint64_t number, struct cached_file **out,
		    struct error *err)
{
	char name[LOCAL_NAME_SIZE];
	uint8_t header[PACK_HEADER_SIZE];
	struct digest key = {0};

	put_le64(key.bytes, number);
	*out = file_cache_get(&s->packs, &key);
	if (*out) {
		return 0;
	}
	local_pack_name(name, number);
	int fd = local_open_to_read(s, name, 0);

	if (fd < 0) {
		/* The index says that it is there, so this is never "absent". */
		int errnum = errno;

		error_set_errno(err, errnum, "cannot open %s/%s", s->path, name);
		if (errnum == ENOENT && err) {
			err->code = ERROR_CORRUPT;
			return -(int)ERROR_CORRUPT;
		}
		return err ? -(int)err->code : -(int)ERROR_IO;
	}
	if (pread_full(fd, header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
	    !pack_header_valid(header, number, s->id)) {
		close(fd);
		return error_set(err, ERROR_CORRUPT, "%s/%s is no pack of this store", s->path,
				 name);
	}
	*out = file_cache_add(&s->packs, &key, fd, 0, NULL);
	return 0;
}

static int check_header(const uint8_t *header, const struct location *l, enum record_kind kind,
			const struct digest *digest, const char *what, struct error *err)
{
	struct record r;

	if (!record_decode(header, &r) || r.kind != kind || r.encoding != l->encoding ||
	    r.stored != l->stored || r.size != l->size || !digest_equal(&r.digest, digest)) {
		return error_set(err, ERROR_CORRUPT,
				 "%s has no record of %s at offset %llu, where the index says",
				 what, digest_text(digest), (unsigned long long)l->offset);
	}
	return 0;
}

/* Header and payload in one system call. */
static int read_record_at(int fd, const struct location *l, uint8_t *header, void *buf,
			  unsigned flags, const char *what, struct error *err)
{
	struct iovec iov[2] = {{.iov_base = header, .iov_len = RECORD_HEADER_SIZE},
			       {.iov_base = buf, .iov_len = l->stored}};
	ssize_t n = preadv2(fd, iov, 2, (off_t)l->offset,
			    flags & LOCAL_READ_NOWAIT ? RWF_NOWAIT : 0);

	if (n == (ssize_t)(RECORD_HEADER_SIZE + l->stored)) {
		return 0;
	}
	/* Short, interrupted or failed: the careful way, which also says why. */
	int rc = local_pread(fd, header, RECORD_HEADER_SIZE, l->offset, flags, what, err);

	return rc ? rc
		  : local_pread(fd, buf, l->stored, l->offset + RECORD_HEADER_SIZE, flags, what,
				err);
}

/*
 * Directories lie side by side in packs, and who walks a tree needs most of them: where one has
 * to come from the disk, its neighbours come with it.
 */
static int read_directory_at(int fd, const struct location *l, uint8_t *header, void *buf,
			     const char *what, struct error *err)
{
	if (read_record_at(fd, l, header, buf, LOCAL_READ_NOWAIT, what, NULL) == 0) {
		return 0;
	}
	posix_fadvise(fd, (off_t)(l->offset - l->offset % NEIGHBOURHOOD), NEIGHBOURHOOD,
		      POSIX_FADV_WILLNEED);
	return read_record_at(fd, l, header, buf, 0, what, err);
}

static int read_whole_at(int fd, const struct location *l, enum record_kind kind,
			 uint8_t *header, void *buf, unsigned flags, const char *what,
			 struct error *err)
{
	return kind == RECORD_DIRECTORY && !(flags & LOCAL_READ_NOWAIT)
		       ? read_directory_at(fd, l, header, buf, what, err)
		       : read_record_at(fd, l, header, buf, flags, what, err);
}

/* Reads a record's payload as it is stored (into NULL: only its header), and checks the header.
 */
static int read_stored(struct local_store *s, const struct location *l, enum record_kind kind,
		       const struct digest *digest, void *buf, unsigned flags,
		       struct error *err)
{
	uint8_t header[RECORD_HEADER_SIZE];
	char what[32];
	struct cached_file *pack;
	int rc = local_pack_open(s, l->pack, &pack, err);

	if (rc) {
		return rc;
	}
	snprintf(what, sizeof(what), "pack %08x", l->pack);
	rc = buf ? read_whole_at(pack->fd, l, kind, header, buf, flags, what, err)
		 : local_pread(pack->fd, header, sizeof(header), l->offset, flags, what, err);
	file_cache_release(&s->packs, pack);
	return rc ? rc : check_header(header, l, kind, digest, what, err);
}

int local_record_read(struct local_store *s, const struct location *l, enum record_kind kind,
		      const struct digest *digest, void *buf, unsigned flags, struct error *err)
{
	if (l->encoding == ENCODING_RAW) {
		return read_stored(s, l, kind, digest, buf, flags, err);
	}
	struct codec *codec = codec_take(&s->codecs);
	uint8_t *frame = codec_frame_room(codec, l->stored);
	int rc = frame ? read_stored(s, l, kind, digest, frame, flags, err)
		       : error_set(err, ERROR_LIMIT, "no memory to read %s",
				   digest_text(digest));

	if (rc == 0) {
		rc = codec_decompress(codec, bytes_of(frame, l->stored), buf, (size_t)l->size,
				      err);
		if (rc) {
			error_wrap(err, "%s in pack %08x at offset %llu", digest_text(digest),
				   l->pack, (unsigned long long)l->offset);
		}
	}
	codec_give(&s->codecs, codec);
	return rc;
}

int local_record_check(struct local_store *s, const struct location *l, enum record_kind kind,
		       const struct digest *digest, struct error *err)
{
	return read_stored(s, l, kind, digest, NULL, 0, err);
}

/* What a location says is believed when memory is set aside, and nothing is known of these. */
static int check_encoding(const struct location *l, const struct digest *digest,
			  struct error *err)
{
	if (l->encoding != ENCODING_RAW && l->encoding != ENCODING_ZSTD) {
		return error_set(
			err, ERROR_UNSUPPORTED,
			"pack %08x stores %s with encoding %u, unknown to this program",
			l->pack, digest_text(digest), l->encoding);
	}
	return 1;
}

/* Asker. */
static int find_kept(struct local_view *v, enum index_table table, const struct digest *digest,
		     struct location *out, struct error *err)
{
	struct index *ix = atomic_load(&v->index);
	uint8_t value[LOCATION_SIZE];
	int rc = ix ? index_get(ix, table, digest_bytes(digest), value, sizeof(value), err) : 0;

	if (rc > 0) {
		rc = location_decode(value, out, err);
		return rc ? rc : 1;
	}
	return rc;
}

/* Asker: in this view alone. */
static int locate_here(struct local_view *v, enum index_table table,
		       const struct digest *digest, struct location *out, struct error *err)
{
	uint64_t size;
	int rc = find_kept(v, table, digest, out, err);

	if (rc == 0 && committer_pending(v->committer, table, digest, &size)) {
		int synced = committer_sync(v->committer, err);

		if (synced < 0) {
			return synced;
		}
	}
	/* Kept now, or between the two questions. */
	return rc ? rc : find_kept(v, table, digest, out, err);
}

/* Asker: in this view alone. */
static int size_here(struct local_view *v, enum index_table table, const struct digest *digest,
		     uint64_t *size, struct error *err)
{
	struct location l;
	int rc = find_kept(v, table, digest, &l, err);

	if (rc > 0) {
		*size = l.size;
		return 1;
	}
	if (rc == 0 && committer_pending(v->committer, table, digest, size)) {
		return 1;
	}
	/* It may have been kept between the two questions. */
	if (rc == 0) {
		rc = find_kept(v, table, digest, &l, err);
		*size = rc > 0 ? l.size : *size;
	}
	return rc;
}

int local_locate(struct local_view *v, enum index_table table, const struct digest *digest,
		 struct location *out, struct error *err)
{
	int rc = 0;

	for (; rc == 0 && v; v = v->below) {
		rc = locate_here(v, table, digest, out, err);
	}
	return rc > 0 ? check_encoding(out, digest, err) : rc;
}

static bool same_place(const struct location *a, const struct location *b)
{
	return a->kind == b->kind && a->pack == b->pack && a->offset == b->offset;
}

int local_relocate(struct local_view *v, enum index_table table, const struct digest *digest,
		   struct location *l, int failure, struct error *err)
{
	struct digest key = {0};
	struct location now;
	int rc = failure == -ERROR_CORRUPT ? local_locate(v, table, digest, &now, NULL) : -1;

	if (rc < 0) {
		return failure;
	}
	put_le64(key.bytes, l->pack);
	if (rc > 0 && same_place(l, &now)) {
		/* Of a pack that is gone we may have an open file, and a new one its number. */
		return file_cache_forget_removed(&v->store->packs, &key) ? 1 : failure;
	}
	file_cache_forget(&v->store->packs, &key);
	if (rc > 0) {
		*l = now;
	} else if (err) {
		*err = (struct error){.code = ERROR_NONE};
	}
	return rc;
}

int local_object_size(struct local_view *v, enum index_table table, const struct digest *digest,
		      uint64_t *size, struct error *err)
{
	int rc = 0;

	for (; rc == 0 && v; v = v->below) {
		rc = size_here(v, table, digest, size, err);
	}
	return rc;
}

int local_object_stored(struct local_view *v, enum index_table table,
			const struct digest *digest, uint64_t *stored, struct error *err)
{
	struct location l;
	int rc = local_locate(v, table, digest, &l, err);

	if (rc > 0) {
		*stored = location_stored(&l);
	}
	return rc;
}
