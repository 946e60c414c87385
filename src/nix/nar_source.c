#include "nix/nar_source.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PIPE_SIZE (1 << 20)

static int read_fd(struct nar_source *s, void *buf, size_t len, size_t *got, struct error *err)
{
	const struct nar_fd_source *f = container_of(s, struct nar_fd_source, base);
	ssize_t n;

	do {
		if (f->cancel && atomic_load_explicit(f->cancel, memory_order_relaxed)) {
			return error_set(err, ERROR_CANCELED, "interrupted");
		}
		n = read(f->fd, buf, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return error_set_errno(err, errno, "cannot read the NAR");
	}
	*got = (size_t)n;
	return 0;
}

void nar_fd_source_init(struct nar_fd_source *s, int fd, const atomic_bool *cancel)
{
	*s = (struct nar_fd_source){.base.read = read_fd, .fd = fd, .cancel = cancel};
	/* Fewer changes between writer and reader; what is no pipe refuses. */
	(void)fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE);
}

static int read_hashed(struct nar_source *s, void *buf, size_t len, size_t *got,
		       struct error *err)
{
	const struct nar_hashed_source *h = container_of(s, struct nar_hashed_source, base);
	int r = h->inner->read(h->inner, buf, len, got, err);

	if (r == 0) {
		hash_stream_update(h->stream, bytes_of(buf, *got));
	}
	return r;
}

void nar_hashed_source_init(struct nar_hashed_source *s, struct nar_source *inner,
			    struct hash_stream *stream)
{
	*s = (struct nar_hashed_source){
		.base.read = read_hashed, .inner = inner, .stream = stream};
}
