/* Import of one file: read while nobody writes to it, or not read at all. */

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "ingest/ingest_internal.h"

#define NS_PER_S INT64_C(1000000000)

struct file {
	struct ingest_worker *worker;
	int fd;
	struct stat st; /* before reading */
	struct blob_watch watch;
	uint64_t counted; /* bytes of it that the stats have already */
};

static int64_t ns_of(struct timespec t)
{
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static int set_changed(struct error *err)
{
	return error_set(err, ERROR_CHANGED,
			 "changed while it was being read; import it again when nothing "
			 "writes to it");
}

static struct seen_key key_of(const struct stat *st)
{
	return (struct seen_key){.device = st->st_dev, .inode = st->st_ino};
}

static void fill_node(struct node *out, const struct stat *st, const struct digest *digest)
{
	*out = (struct node){
		.kind = NODE_FILE,
		.executable = (st->st_mode & S_IXUSR) != 0,
		.digest = *digest,
		.size = (uint64_t)st->st_size,
	};
}

static bool unchanged_since(const struct seen_value *seen, const struct stat *st)
{
	return seen->size == (uint64_t)st->st_size && seen->mtime_ns == ns_of(st->st_mtim) &&
	       seen->ctime_ns == ns_of(st->st_ctim);
}

static void count_known(struct ingest_stats *stats, const struct node *node)
{
	atomic_fetch_add_explicit(&stats->bytes, node->size, memory_order_relaxed);
	atomic_fetch_add_explicit(&stats->files, 1, memory_order_relaxed);
}

void ingest_find_seen(struct ingest_worker *w, int dirfd, struct ingest_known *known,
		      size_t count)
{
	const struct ingest *in = w->ingest;
	struct seen_key keys[INGEST_KNOWN_MAX];
	struct seen_value seen[INGEST_KNOWN_MAX];
	struct stat st[INGEST_KNOWN_MAX];
	bool found[INGEST_KNOWN_MAX];
	size_t place[INGEST_KNOWN_MAX], asked = 0;

	if (!in->store->seen || !in->options.use_seen) {
		return;
	}
	/* Of what cannot be stat'ed, or is no file any more, whoever reads it will tell. */
	for (size_t i = 0; i < count; i++) {
		if (fstatat(dirfd, known[i].name, &st[asked], AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st[asked].st_mode)) {
			keys[asked] = key_of(&st[asked]);
			place[asked++] = i;
		}
	}
	/* What the cache cannot tell is read: a failure of it is no failure of the import. */
	if (asked == 0 ||
	    seen_cache_lookup(in->store->seen, keys, asked, seen, found, NULL) < 0) {
		return;
	}
	for (size_t i = 0; i < asked; i++) {
		struct ingest_known *k = &known[place[i]];

		k->seen = found[i] && unchanged_since(&seen[i], &st[i]);
		if (k->seen) {
			fill_node(&k->node, &st[i], &seen[i].digest);
			count_known(in->stats, &k->node);
		}
	}
}

/*
 * On network file systems times come from another clock or from a cache, on FAT they are too
 * coarse: a change could go unseen.
 */
static bool times_trusted(int fd)
{
	static const uint32_t untrusted[] = {
		0x6969 /* NFS */,        0x517b /* SMB */,      0xff534d42 /* CIFS */,
		0xfe534d42 /* SMB2 */,   0x65735546 /* FUSE */, 0x01021997 /* 9p */,
		0x00c36400 /* Ceph */,   0x5346414f /* AFS */,  0x6b414653 /* kAFS */,
		0x73757245 /* Coda */,   0x01161970 /* GFS2 */, 0x7461636f /* OCFS2 */,
		0x0bd00bd0 /* Lustre */, 0x47504653 /* GPFS */, 0x4d44 /* FAT */,
		0x2011bab0 /* exFAT */,  0x564c /* NCP */,      0x786f4256 /* vboxsf */,
		PROC_SUPER_MAGIC,        SYSFS_MAGIC,
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0) {
		return false;
	}
	for (size_t i = 0; i < ARRAY_SIZE(untrusted); i++) {
		if ((uint32_t)fs.f_type == untrusted[i]) {
			return false;
		}
	}
	return true;
}

static bool device_trusted(struct ingest_worker *w, const struct file *f)
{
	if (!w->device_known || w->device != f->st.st_dev) {
		w->device_known = true;
		w->device = f->st.st_dev;
		w->device_trusted = times_trusted(f->fd);
	}
	return w->device_trusted;
}

static bool same_seen(const struct seen_value *a, const struct seen_value *b)
{
	return a->size == b->size && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
	       digest_equal(&a->digest, &b->digest);
}

/*
 * Only times that were well past when the reading began: a change in the same instant, or in
 * the same tick of a file system's clock, would leave them as they are.
 */
static void remember(const struct file *f, struct timespec began, const struct digest *digest)
{
	const struct ingest *in = f->worker->ingest;
	struct seen_cache *seen = in->store->seen;
	struct seen_key key = key_of(&f->st);
	struct seen_value value = {
		.size = (uint64_t)f->st.st_size,
		.mtime_ns = ns_of(f->st.st_mtim),
		.ctime_ns = ns_of(f->st.st_ctim),
		.digest = *digest,
	};
	struct seen_value old;
	bool found;
	int64_t settled = ns_of(began) - NS_PER_S;

	if (!seen || value.mtime_ns >= settled || value.ctime_ns >= settled ||
	    !device_trusted(f->worker, f)) {
		return;
	}
	/* Reading everything again need not write everything again. */
	if (!in->options.use_seen &&
	    seen_cache_lookup(seen, &key, 1, &old, &found, NULL) == 0 && found &&
	    same_seen(&old, &value)) {
		return;
	}
	seen_cache_remember(seen, &key, &value, NULL);
}

static int check_unchanged(const struct file *f, struct error *err)
{
	struct stat now;

	if (fstat(f->fd, &now) != 0) {
		return error_set_errno(err, errno, "cannot stat");
	}
	if (now.st_size != f->st.st_size || ns_of(now.st_mtim) != ns_of(f->st.st_mtim) ||
	    ns_of(now.st_ctim) != ns_of(f->st.st_ctim)) {
		return set_changed(err);
	}
	return 0;
}

/*
 * Reads size bytes, and asks for one more. A regular file gives fewer bytes than asked for only
 * at its end, so that the usual file takes one read.
 */
static int read_whole(const struct file *f, struct error *err)
{
	size_t size = (size_t)f->st.st_size, done = 0;
	uint8_t *buffer = f->worker->buffer;

	do {
		ssize_t n = read(f->fd, buffer + done, size + 1 - done);

		if (n < 0 && errno != EINTR) {
			return error_set_errno(err, errno, "cannot read");
		}
		if (n == 0) {
			break;
		}
		done += n > 0 ? (size_t)n : 0;
	} while (done < size);
	if (done == size) {
		return 0;
	}
	if (size == 0) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "has content, but its file system gives its size as 0");
	}
	return set_changed(err);
}

static int import_whole(const struct file *f, struct digest *digest, struct error *err)
{
	struct bytes content = bytes_of(f->worker->buffer, (size_t)f->st.st_size);
	int r = read_whole(f, err);

	if (r == 0) {
		r = check_unchanged(f, err);
	}
	if (r < 0) {
		return r;
	}
	digest_of(digest, content);
	/* The empty blob is in every store. */
	return content.len ? blob_service_put_hashed(f->worker->ingest->store->blobs, content,
						     digest, err)
			   : 0;
}

/* Lets the display move on in the middle of a large file, and ends it when all is given up. */
static bool advance(struct blob_watch *watch, uint64_t bytes)
{
	struct file *f = container_of(watch, struct file, watch);

	f->counted += bytes;
	atomic_fetch_add_explicit(&f->worker->ingest->stats->bytes, bytes,
				  memory_order_relaxed);
	return !ingest_stopping(f->worker);
}

static int import_large(struct file *f, struct digest *digest, struct error *err)
{
	f->watch.advance = advance;
	posix_fadvise(f->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	int r = blob_service_put_file(f->worker->ingest->store->blobs, f->fd,
				      (uint64_t)f->st.st_size, &f->watch, digest, err);

	if (r == -ERROR_CHANGED) {
		return set_changed(err);
	}
	return r < 0 ? r : check_unchanged(f, err);
}

/* Asker: 0 for a large file that is to be read later. */
static int read_file(struct file *f, bool alone, struct node *out, struct error *err)
{
	struct ingest_stats *stats = f->worker->ingest->stats;
	struct timespec began;
	struct digest digest;

	if (fstat(f->fd, &f->st) != 0) {
		return error_set_errno(err, errno, "cannot stat");
	}
	if (!S_ISREG(f->st.st_mode)) {
		return set_changed(err);
	}
	bool whole = f->st.st_size <= (off_t)INGEST_WHOLE_MAX;

	if (!whole && !alone) {
		return 0;
	}
	clock_gettime(CLOCK_REALTIME, &began);
	int r = whole ? import_whole(f, &digest, err) : import_large(f, &digest, err);

	if (r < 0) {
		return r;
	}
	remember(f, began, &digest);
	fill_node(out, &f->st, &digest);
	atomic_fetch_add_explicit(&stats->bytes_read, out->size, memory_order_relaxed);
	atomic_fetch_add_explicit(&stats->bytes, out->size - f->counted, memory_order_relaxed);
	return 1;
}

int ingest_read_file(struct ingest_worker *w, int dirfd, const char *name, bool alone,
		     struct node *out, struct error *err)
{
	struct file f = {.worker = w, .fd = ingest_open(w, dirfd, name, O_RDONLY)};

	if (f.fd < 0) {
		return ingest_entry_errno(err, errno, "cannot open");
	}
	int r = read_file(&f, alone, out, err);

	close(f.fd);
	if (r > 0) {
		atomic_fetch_add_explicit(&w->ingest->stats->files, 1, memory_order_relaxed);
	}
	return r;
}
