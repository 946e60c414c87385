#include "transports/fuse_dev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/moment.h"
#include "fs/ahead.h"
#include "transports/fuse_backing.h"
#include "transports/patience.h"
#include "transports/request_pool.h"

/* The kernel answers a mount at once; a connection that stays silent is broken. */
#define HANDSHAKE_TIMEOUT_MS 10000
/* How often to look whether a process is being killed that waits for an answer. */
#define DYING_INTERVAL_MS 100

struct job {
	struct request_job base;
	size_t len;
	uint8_t request[] __attribute__((aligned(8)));
};

struct fuse_dev {
	int fd;
	struct fs *fs;
	bool passthrough; /* offered: fs holds ids of this connection */
	unsigned threads; /* beside the reader */
	struct request_pool *pool;
	uint8_t *request; /* the reader's */
	struct patience patience;
	struct cpu_latency latency;
	struct fs_reply reply;
	bool watches_dying;        /* there are interrupted requests */
	uint64_t dying_checked_ms; /* when it last looked */

	atomic_bool stop;
	atomic_bool running; /* the reader's thread is known, and may be in read() */
	atomic_bool ended;
	pthread_t reader;
};

int fuse_dev_new(int fd, struct fs *fs, unsigned threads, struct fuse_dev **out,
		 struct error *err)
{
	struct fuse_dev *d = xcalloc(1, sizeof(*d));

	if (threads == 0) {
		threads = request_pool_default_threads() + 1;
	}
	d->fd = fd;
	d->fs = fs;
	d->threads = MIN(threads, FUSE_DEV_THREADS_MAX) - 1;
	patience_init(&d->patience);
	cpu_latency_init(&d->latency, CPU_LATENCY_ANY);
	d->request = malloc(FS_REQUEST_MAX);
	if (!d->request || !request_reply_init_ahead(&d->reply, fs)) {
		fuse_dev_free(d);
		return error_set(err, ERROR_LIMIT, "no memory for the buffers of a mount");
	}
	if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
		int errnum = errno;

		fuse_dev_free(d);
		return error_set_errno(err, errnum, "cannot use /dev/fuse");
	}
	*out = d;
	return 0;
}

void fuse_dev_free(struct fuse_dev *d)
{
	if (!d) {
		return;
	}
	if (d->passthrough) {
		fs_set_backing(d->fs, NULL);
	}
	close(d->fd);
	cpu_latency_done(&d->latency);
	free(d->request);
	request_reply_done(&d->reply);
	free(d);
}

void fuse_dev_set_cpu_latency(struct fuse_dev *d, enum cpu_latency_policy policy)
{
	cpu_latency_done(&d->latency);
	cpu_latency_init(&d->latency, policy);
}

int fuse_dev_descriptor(const struct fuse_dev *d)
{
	return d->fd;
}

static int backing_open(void *context, int fd, uint32_t *id, struct error *err)
{
	const struct fuse_dev *d = context;

	return fuse_backing_open(d->fd, fd, id, err);
}

static void backing_close(void *context, uint32_t id)
{
	const struct fuse_dev *d = context;

	fuse_backing_close(d->fd, id);
}

void fuse_dev_offer_passthrough(struct fuse_dev *d)
{
	const struct fs_backing backing = {
		.context = d, .open = backing_open, .close = backing_close};

	fs_set_backing(d->fs, &backing);
	d->passthrough = true;
}

/* The kernel caches listings; this makes it drop the root's, which may have grown. */
static void notify_root_changed(const struct fuse_dev *d)
{
	struct {
		struct fuse_out_header header;
		struct fuse_notify_inval_inode_out inode;
	} notice = {
		.header = {.len = sizeof(notice), .error = FUSE_NOTIFY_INVAL_INODE},
		.inode = {.ino = FUSE_ROOT_ID}, /* all of it: from 0, without end */
	};

	/* It fails when the kernel has nothing cached. */
	ssize_t n = write(d->fd, &notice, sizeof(notice));
	(void)n;
}

/* As writev(2). */
static ssize_t send_message(const struct fuse_dev *d, const struct fs_reply *reply)
{
	/* header and fixed lie one behind the other */
	_Static_assert(offsetof(struct fs_reply, fixed) ==
			       offsetof(struct fs_reply, header) + sizeof(reply->header),
		       "no gap between header and fixed");
	const uint8_t *head = (const uint8_t *)reply + offsetof(struct fs_reply, header);
	struct iovec iov[2] = {
		{(void *)(uintptr_t)head, sizeof(reply->header) + reply->fixed_len},
		{reply->data, reply->data_len},
	};
	ssize_t n;

	do {
		n = writev(d->fd, iov, reply->data_len > 0 ? 2 : 1);
	} while (n < 0 && errno == EINTR);
	return n;
}

/* False when nobody waits for it any more. */
static bool send_reply(const struct fuse_dev *d, const struct fs_reply *reply)
{
	if (reply->invalidate_root) {
		notify_root_changed(d);
	}
	ssize_t n = send_message(d, reply);

	/* ENODEV: unmounted meanwhile. */
	if (n < 0 && errno != ENOENT && errno != ENODEV && errno != ECONNABORTED) {
		log_error("the kernel refuses a reply (error %d, %u bytes): %s",
			  -reply->header.error, reply->header.len, strerror(errno));
	}
	return n >= 0 || errno != ENOENT;
}

static void answer(const struct fuse_dev *d, struct bytes request, struct fs_reply *reply)
{
	if (fs_handle(d->fs, request, FS_CAN_INVALIDATE, reply) == FS_REPLY &&
	    !send_reply(d, reply)) {
		fs_take_back(d->fs, request, reply);
	}
}

/* ---- The pool ---- */

static enum fs_outcome handle_job(void *context, struct request_job *base, unsigned flags,
				  struct fs_reply *reply)
{
	const struct fuse_dev *d = context;
	const struct job *job = container_of(base, struct job, base);

	return fs_handle(d->fs, bytes_of(job->request, job->len), flags | FS_CAN_INVALIDATE,
			 reply);
}

static void finish_job(void *context, struct request_job *base, enum fs_outcome outcome,
		       struct fs_reply *reply)
{
	const struct fuse_dev *d = context;
	struct job *job = container_of(base, struct job, base);

	if (outcome == FS_REPLY && (base->abandoned || !send_reply(d, reply))) {
		fs_take_back(d->fs, bytes_of(job->request, job->len), reply);
	}
	free(job);
}

static void refuse(const struct fuse_dev *d, uint64_t unique, int errnum)
{
	struct fs_reply reply = {.data = NULL};

	fs_reply_error(unique, errnum, &reply);
	send_reply(d, &reply);
}

static void release_job(void *context, uint64_t unique)
{
	refuse(context, unique, EINTR);
}

static const struct request_pool_ops pool_ops = {
	.handle = handle_job,
	.finish = finish_job,
	.release = release_job,
};

/* False when the pool has enough to do. */
static bool put_job(struct fuse_dev *d, struct bytes request, bool at_peer)
{
	struct job *job = malloc(sizeof(*job) + request.len);
	struct fuse_in_header header;

	if (!job) {
		return false;
	}
	memcpy(&header, request.ptr, sizeof(header));
	job->base.unique = header.unique;
	job->base.pid = header.pid;
	job->len = request.len;
	memcpy(job->request, request.ptr, request.len);
	if (request_pool_put(d->pool, &job->base, at_peer)) {
		return true;
	}
	free(job);
	return false;
}

/* ---- The reader ---- */

static bool others_are_waiting(const struct fuse_dev *d)
{
	struct pollfd p = {.fd = d->fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* True when that was possible without more waiting than the flags allow. */
static bool try_to_answer(struct fuse_dev *d, struct bytes request, unsigned flags)
{
	struct fs_reply *reply = &d->reply;
	enum fs_outcome outcome = fs_handle(d->fs, request, flags | FS_CAN_INVALIDATE, reply);

	if (outcome == FS_REPLY && !send_reply(d, reply)) {
		fs_take_back(d->fs, request, reply);
	}
	return outcome != FS_BLOCKED;
}

/* What the pool does not take for lack of room: the reader may wait for a disk, not for a peer.
 */
static void serve_without_pool(struct fuse_dev *d, struct bytes request)
{
	struct fuse_in_header header;

	if (try_to_answer(d, request, FS_LOCAL) || put_job(d, request, true)) {
		return;
	}
	memcpy(&header, request.ptr, sizeof(header));
	log_warning("too many requests wait for a peer; one more is refused");
	refuse(d, header.unique, EIO);
}

/* If it is one. The file system has nothing to do for it. */
static void serve_interrupt(struct fuse_dev *d, struct bytes request)
{
	struct fuse_in_header header;
	struct fuse_interrupt_in in;

	if (request.len < sizeof(header) + sizeof(in)) {
		return;
	}
	memcpy(&header, request.ptr, sizeof(header));
	if (header.opcode == FUSE_INTERRUPT) {
		memcpy(&in, request.ptr + sizeof(header), sizeof(in));
		request_pool_interrupt(d->pool, in.unique);
		d->watches_dying = true;
	}
}

static void serve_one(struct fuse_dev *d, struct bytes request)
{
	if (d->threads == 0) {
		answer(d, request, &d->reply);
		return;
	}
	serve_interrupt(d, request);
	if (request_is_large_read(request) && others_are_waiting(d) &&
	    put_job(d, request, false)) {
		return;
	}
	if (!try_to_answer(d, request, FS_NOWAIT) && !put_job(d, request, false)) {
		serve_without_pool(d, request);
	}
}

static void release_dying(struct fuse_dev *d)
{
	uint64_t now = moment_now();

	if (now - d->dying_checked_ms >= DYING_INTERVAL_MS) {
		d->dying_checked_ms = now;
		request_pool_release_dying(d->pool);
		d->watches_dying = request_pool_has_interrupted(d->pool);
	}
}

/* A signal ends it, as fuse_dev_stop() wants. */
static void sleep_until_asked(struct fuse_dev *d)
{
	struct pollfd p = {.fd = d->fd, .events = POLLIN};

	if (d->latency.low && poll(&p, 1, CPU_LATENCY_LINGER_MS) != 0) {
		return;
	}
	cpu_latency_rest(&d->latency);
	poll(&p, 1, d->watches_dying ? DYING_INTERVAL_MS : -1);
}

/* Asker: a request is in d->request; 0: unmounted, or stopped. */
static int read_request(struct fuse_dev *d, struct bytes *request, struct error *err)
{
	patience_renew(&d->patience);
	while (!atomic_load(&d->stop)) {
		if (d->watches_dying) {
			release_dying(d);
		}
		ssize_t n = read(d->fd, d->request, FS_REQUEST_MAX);

		if (n >= 0) {
			cpu_latency_count(&d->latency);
			*request = bytes_of(d->request, (size_t)n);
			return 1;
		}
		switch (errno) {
		case EAGAIN:
			if (fs_ahead_prepare(d->reply.ahead)) {
				continue;
			}
			if (!patience_lasts(&d->patience)) {
				sleep_until_asked(d);
			}
			continue;
		case EINTR:
		case ENOENT: /* the request was interrupted before it could be read */
			continue;
		case ENODEV: /* unmounted */
		case ECONNABORTED:
			return 0;
		default:
			return error_set_errno(err, errno,
					       "cannot read requests of the kernel");
		}
	}
	return 0;
}

int fuse_dev_handshake(struct fuse_dev *d, struct error *err)
{
	struct pollfd p = {.fd = d->fd, .events = POLLIN};
	struct bytes request;

	while (!fs_has_session(d->fs)) {
		int n = poll(&p, 1, HANDSHAKE_TIMEOUT_MS);

		if (n < 0 && errno != EINTR) {
			return error_set_errno(err, errno, "cannot wait for the kernel");
		}
		if (n == 0) {
			return error_set(err, ERROR_TIMEOUT,
					 "the kernel does not begin a session");
		}
		if (n < 0) {
			continue;
		}
		int rc = read_request(d, &request, err);

		if (rc <= 0) {
			return rc < 0 ? rc
				      : error_set(err, ERROR_UNAVAILABLE,
						  "the mount went away before it was ready");
		}
		answer(d, request, &d->reply);
		if (d->reply.header.error == -EPROTO) {
			return error_set(err, ERROR_UNSUPPORTED,
					 "the kernel's version of FUSE is too old");
		}
	}
	return 0;
}

int fuse_dev_ask_again(struct fuse_dev *d, struct error *err)
{
	const struct fuse_out_header notice = {.len = sizeof(notice),
					       .error = FUSE_NOTIFY_CODE_RESEND};

	if (!fs_can_be_resumed(d->fs)) {
		return 1; /* such a kernel would not understand it */
	}
	if (write(d->fd, &notice, sizeof(notice)) == sizeof(notice)) {
		return 1;
	}
	if (errno == ENODEV || errno == ENOTCONN || errno == ECONNABORTED || errno == EPERM) {
		return 0;
	}
	return error_set_errno(err, errno, "the kernel does not send requests again");
}

static void on_wake(int signal unused)
{
}

/* Its only use is to interrupt read(), so it must not restart it. Ignored by default. */
static void install_wake_signal(void)
{
	struct sigaction action = {.sa_handler = on_wake};
	sigset_t wake;

	sigemptyset(&action.sa_mask);
	sigaction(SIGURG, &action, NULL);
	sigemptyset(&wake);
	sigaddset(&wake, SIGURG);
	pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
}

int fuse_dev_run(struct fuse_dev *d, struct error *err)
{
	char counts[FS_REQUESTS_TEXT_SIZE];
	struct bytes request = bytes_of(d->request, 0);
	int rc;

	install_wake_signal();
	d->pool = request_pool_new(d->threads, &pool_ops, d);
	d->reader = pthread_self();
	atomic_store(&d->running, true);
	while ((rc = read_request(d, &request, err)) > 0) {
		serve_one(d, request);
	}
	atomic_store(&d->ended, true);
	request_pool_free(d->pool);
	d->pool = NULL;
	log_debug("%s", fs_describe_requests(d->fs, counts));
	return rc;
}

void fuse_dev_stop(struct fuse_dev *d)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	atomic_store(&d->stop, true);
	/* A signal that comes just before read() does not interrupt it: hence again. */
	while (!atomic_load(&d->ended)) {
		if (atomic_load(&d->running)) {
			pthread_kill(d->reader, SIGURG);
		}
		nanosleep(&pause, NULL);
	}
}
