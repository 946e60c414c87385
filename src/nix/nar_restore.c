#include "nix/nar_restore.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "nix/nar_reader.h"

/* Small pieces of content are gathered up to this: whole blocks of the disk. */
#define PIECE ((size_t)256 << 10)

struct restoring {
	struct nar_reader *reader;
	const char *dest;
	const struct nar_options *options;
	struct nar_stats *stats;
	bool began; /* something of the destination is there */
	size_t depth;
	int dirs[NAR_DEPTH_MAX]; /* of the open directories */
	uint8_t *piece;          /* PIECE bytes */
};

struct output {
	int fd;
	uint64_t size, at;
};

static int check_canceled(const struct restoring *re, struct error *err)
{
	const atomic_bool *cancel = re->options->cancel;

	return cancel && atomic_load_explicit(cancel, memory_order_relaxed)
		       ? error_set(err, ERROR_CANCELED, "interrupted")
		       : 0;
}

/* Where the current item is to be: a directory, and a name in it. */
static int place_of(const struct restoring *re, const struct nar_item *item,
		    char buffer[NODE_NAME_MAX + 1], const char **name)
{
	*name = buffer;
	if (re->depth == 0) {
		*name = re->dest;
		return AT_FDCWD;
	}
	memcpy(buffer, item->name.ptr, item->name.len);
	buffer[item->name.len] = '\0';
	return re->dirs[re->depth - 1];
}

/* ---- Files ---- */

/* Gathers content until the piece is full or the file at its end. */
static int fill_piece(struct restoring *re, struct bytes *rest, size_t *len, struct error *err)
{
	*len = 0;
	while (*len < PIECE) {
		if (rest->len == 0) {
			int r = nar_reader_content(re->reader, rest, err);

			if (r <= 0) {
				return r;
			}
		}
		size_t n = MIN(rest->len, PIECE - *len);

		memcpy(re->piece + *len, rest->ptr, n);
		*rest = bytes_of(rest->ptr + n, rest->len - n);
		*len += n;
	}
	return 0;
}

static int copy_content(struct restoring *re, struct output *out, struct error *err)
{
	struct bytes rest = {0};
	size_t len = 0;

	do {
		int r = check_canceled(re, err);

		if (r == 0) {
			r = fill_piece(re, &rest, &len, err);
		}
		if (r < 0) {
			return r;
		}
		if (pwrite_sparse(out->fd, re->piece, len, (off_t)out->at) != 0) {
			return error_set_errno(err, errno, "cannot write");
		}
		out->at += len;
	} while (len == PIECE);
	/* A hole at the end needs the size told. */
	if (out->size >= HOLE_SIZE_MIN && ftruncate(out->fd, (off_t)out->size) != 0) {
		return error_set_errno(err, errno, "cannot set the size");
	}
	return 0;
}

static int make_file(struct restoring *re, int dirfd, const char *name,
		     const struct nar_item *item, struct error *err)
{
	struct output out = {
		.fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			     item->executable ? 0755 : 0644),
		.size = item->size,
	};

	if (out.fd < 0) {
		return error_set_errno(err, errno, "cannot create");
	}
	int r = copy_content(re, &out, err);

	/* Some file systems tell of a full disk or quota only now. */
	if (close(out.fd) != 0 && r == 0) {
		r = error_set_errno(err, errno, "cannot write");
	}
	if (r < 0) {
		/* Better no file than one that looks complete. */
		unlinkat(dirfd, name, 0);
		return r;
	}
	atomic_fetch_add_explicit(&re->stats->files, 1, memory_order_relaxed);
	return 0;
}

/* ---- Items ---- */

static int make_symlink(struct restoring *re, int dirfd, const char *name,
			const struct nar_item *item, struct error *err)
{
	char target[NODE_TARGET_MAX + 1];

	memcpy(target, item->target.ptr, item->target.len);
	target[item->target.len] = '\0';
	if (symlinkat(target, dirfd, name) != 0) {
		return error_set_errno(err, errno, "cannot create the symlink");
	}
	atomic_fetch_add_explicit(&re->stats->symlinks, 1, memory_order_relaxed);
	return 0;
}

static int make_directory_in(int dirfd, const char *name, struct error *err)
{
	if (mkdirat(dirfd, name, 0755) != 0) {
		return error_set_errno(err, errno, "cannot create the directory");
	}
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 ? fd : error_set_errno(err, errno, "cannot open the new directory");
}

static int begin_directory(struct restoring *re, int dirfd, const char *name, struct error *err)
{
	int fd = re->depth ? make_directory_in(dirfd, name, err)
			   : make_empty_directory(re->dest, err);

	if (fd < 0) {
		return fd;
	}
	re->dirs[re->depth++] = fd;
	re->began = true;
	atomic_fetch_add_explicit(&re->stats->directories, 1, memory_order_relaxed);
	return 0;
}

static int make_item(struct restoring *re, const struct nar_item *item, struct error *err)
{
	char buffer[NODE_NAME_MAX + 1];
	const char *name;
	int dirfd = place_of(re, item, buffer, &name);

	switch (item->event) {
	case NAR_FILE:
		return make_file(re, dirfd, name, item, err);
	case NAR_SYMLINK:
		return make_symlink(re, dirfd, name, item, err);
	case NAR_DIRECTORY:
		return begin_directory(re, dirfd, name, err);
	case NAR_DIRECTORY_END:
		break;
	}
	return 0;
}

static int restore_item(struct restoring *re, const struct nar_item *item, struct error *err)
{
	if (item->event != NAR_DIRECTORY_END) {
		return make_item(re, item, err);
	}
	close(re->dirs[--re->depth]);
	return 0;
}

/* What the disk refuses does not say where; what the NAR is refused for does. */
static int name_place(const struct restoring *re, struct error *err)
{
	struct bytes path = nar_reader_path(re->reader);

	const char *dest = bytes_printable(bytes_of_string(re->dest));

	return path.len ? error_wrap(err, "%s/%s", dest, bytes_printable(path))
			: error_wrap(err, "%s", dest);
}

static int restore_all(struct restoring *re, struct error *err)
{
	struct nar_item item;
	int r;

	while ((r = nar_reader_next(re->reader, &item, err)) > 0) {
		atomic_store_explicit(&re->stats->bytes, nar_reader_offset(re->reader),
				      memory_order_relaxed);
		r = check_canceled(re, err);
		if (r == 0) {
			r = restore_item(re, &item, err);
		}
		if (r < 0) {
			return r == -ERROR_INVALID && !err->os_errno ? r : name_place(re, err);
		}
		re->began = true;
	}
	return r;
}

int nar_restore(struct nar_source *source, const char *dest, const struct nar_options *options,
		struct error *err)
{
	static const struct nar_options no_options;
	struct nar_stats own_stats = {0};
	struct error own_error;
	struct restoring re = {
		.reader = nar_reader_new(source),
		.dest = dest,
		.options = options ? options : &no_options,
		.piece = xmalloc(PIECE),
	};

	/* error_wrap() needs a message to wrap. */
	err = err ? err : &own_error;
	re.stats = re.options->stats ? re.options->stats : &own_stats;
	raise_open_file_limit();
	int r = restore_all(&re, err);

	if (r < 0 && re.began) {
		error_wrap(err, "%s is incomplete", bytes_printable(bytes_of_string(dest)));
	}
	while (re.depth) {
		close(re.dirs[--re.depth]);
	}
	nar_reader_free(re.reader);
	free(re.piece);
	return r;
}
