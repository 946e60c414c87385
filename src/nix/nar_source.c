#include "nix/nar_source.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/io.h"

/* Between two looks at whether the reading is to be given up. */
#define WAIT_MS 100

static bool is_canceled(const struct nar_fd_source *f)
{
	return f->cancel && atomic_load_explicit(f->cancel, memory_order_relaxed);
}

/*
 * A signal that sets the flag may have read() go on waiting for a peer that says nothing; and
 * one that comes just before the waiting would be missed without a limit.
 */
static void wait_for_bytes(const struct nar_fd_source *f)
{
	struct pollfd p = {.fd = f->fd, .events = POLLIN};

	while (f->cancel && !is_canceled(f) && poll(&p, 1, WAIT_MS) == 0) {
	}
}

static int read_fd(struct nar_source *s, void *buf, size_t len, size_t *got, struct error *err)
{
	const struct nar_fd_source *f = container_of(s, struct nar_fd_source, base);
	ssize_t n;

	do {
		wait_for_bytes(f);
		if (is_canceled(f)) {
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
	widen_pipe(fd);
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
