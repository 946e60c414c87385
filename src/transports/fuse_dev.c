#include "transports/fuse_dev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "transports/fuse_backing.h"

#define DEFAULT_WORKERS_MAX 15
/* A read of more than this makes others wait noticeably. */
#define LARGE_READ 65536u
/* Requests that wait for the pool; beyond that the reader does the work itself. */
#define QUEUE_MAX 1024u
/* The kernel answers a mount at once; a connection that stays silent is broken. */
#define HANDSHAKE_TIMEOUT_MS 10000
/* About what a wake-up costs on a virtual machine. */
#define LINGER_NS 50000u

struct job {
	struct job *next;
	size_t len;
	uint8_t request[] __attribute__((aligned(8)));
};

struct fuse_dev {
	int fd;
	struct fs *fs;
	bool passthrough; /* offered: fs holds ids of this connection */
	unsigned worker_count;
	pthread_t workers[FUSE_DEV_THREADS_MAX];
	uint8_t *request; /* the reader's */
	uint64_t linger_ns;
	struct fs_reply reply;

	pthread_mutex_t lock; /* guards the queue and `closing` */
	pthread_cond_t wake;
	struct job *first;
	struct job **last;
	unsigned queued;
	bool closing; /* workers end when the queue is empty */

	atomic_bool stop;
	atomic_bool running; /* the reader's thread is known, and may be in read() */
	atomic_bool ended;
	pthread_t reader;
};

unsigned fuse_dev_default_threads(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned workers = cpus > 2 ? (unsigned)MIN(cpus, (long)DEFAULT_WORKERS_MAX) : 2;

	return workers + 1;
}

/* Pages that are never touched cost nothing, so every thread may have room for any reply. */
static void *map_buffer(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static bool reply_init(struct fs_reply *reply)
{
	reply->data = map_buffer(FS_DATA_MAX);
	reply->data_capacity = FS_DATA_MAX;
	return reply->data != NULL;
}

static void reply_done(struct fs_reply *reply)
{
	if (reply->data) {
		munmap(reply->data, FS_DATA_MAX);
	}
}

/*
 * To wake a sleeping thread on another processor takes longer than most requests do, and the
 * next request mostly comes at once: so the reader looks again for a moment before it sleeps,
 * while whoever else wants the processor gets it. With only one processor allowed there is no
 * other one that a request could come from meanwhile.
 */
static uint64_t choose_linger_ns(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1 ? LINGER_NS
										   : 0;
}

int fuse_dev_new(int fd, struct fs *fs, unsigned threads, struct fuse_dev **out,
		 struct error *err)
{
	struct fuse_dev *d = xcalloc(1, sizeof(*d));

	if (threads == 0) {
		threads = fuse_dev_default_threads();
	}
	d->fd = fd;
	d->fs = fs;
	d->worker_count = MIN(threads, FUSE_DEV_THREADS_MAX) - 1;
	d->linger_ns = choose_linger_ns();
	d->last = &d->first;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->wake, NULL);
	d->request = map_buffer(FS_REQUEST_MAX);
	if (!d->request || !reply_init(&d->reply)) {
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
	if (d->request) {
		munmap(d->request, FS_REQUEST_MAX);
	}
	reply_done(&d->reply);
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
	free(d);
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

static void send_reply(const struct fuse_dev *d, const struct fs_reply *reply)
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

	if (reply->invalidate_root) {
		notify_root_changed(d);
	}
	do {
		n = writev(d->fd, iov, reply->data_len > 0 ? 2 : 1);
	} while (n < 0 && errno == EINTR);
	/* ENOENT: nobody waits for this any more. ENODEV: unmounted meanwhile. */
	if (n < 0 && errno != ENOENT && errno != ENODEV && errno != ECONNABORTED) {
		log_error("the kernel refuses a reply (error %d, %u bytes): %s",
			  -reply->header.error, reply->header.len, strerror(errno));
	}
}

/* ---- The pool ---- */

/* False when the pool has enough to do. */
static bool queue_put(struct fuse_dev *d, struct bytes request)
{
	struct job *job = malloc(sizeof(*job) + request.len);

	if (!job) {
		return false;
	}
	job->next = NULL;
	job->len = request.len;
	memcpy(job->request, request.ptr, request.len);
	pthread_mutex_lock(&d->lock);
	bool room = d->queued < QUEUE_MAX;

	if (room) {
		*d->last = job;
		d->last = &job->next;
		d->queued++;
		pthread_cond_signal(&d->wake);
	}
	pthread_mutex_unlock(&d->lock);
	if (!room) {
		free(job);
	}
	return room;
}

/* Waits for a job; NULL at the end. */
static struct job *queue_take(struct fuse_dev *d)
{
	pthread_mutex_lock(&d->lock);
	while (!d->first && !d->closing) {
		pthread_cond_wait(&d->wake, &d->lock);
	}
	struct job *job = d->first;

	if (job) {
		d->first = job->next;
		d->queued--;
		if (!d->first) {
			d->last = &d->first;
		}
	}
	pthread_mutex_unlock(&d->lock);
	return job;
}

static void answer(const struct fuse_dev *d, struct bytes request, struct fs_reply *reply)
{
	if (fs_handle(d->fs, request, FS_CAN_INVALIDATE, reply) == FS_REPLY) {
		send_reply(d, reply);
	}
}

static void *worker_main(void *context)
{
	struct fuse_dev *d = context;
	struct fs_reply reply;
	struct job *job;

	/* Without its own buffer a worker is of no use; the reader does not depend on it. */
	if (!reply_init(&reply)) {
		return NULL;
	}
	while ((job = queue_take(d))) {
		answer(d, bytes_of(job->request, job->len), &reply);
		free(job);
	}
	reply_done(&reply);
	return NULL;
}

/* Starts as many workers as the system allows. Signals are for the program's own threads. */
static void workers_start(struct fuse_dev *d)
{
	unsigned wanted = d->worker_count;
	sigset_t all;
	sigset_t old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (d->worker_count = 0; d->worker_count < wanted; d->worker_count++) {
		if (pthread_create(&d->workers[d->worker_count], NULL, worker_main, d) != 0) {
			log_warning("only %u of %u threads could be started", d->worker_count,
				    wanted);
			break;
		}
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void workers_finish(struct fuse_dev *d)
{
	pthread_mutex_lock(&d->lock);
	d->closing = true;
	pthread_cond_broadcast(&d->wake);
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; i < d->worker_count; i++) {
		pthread_join(d->workers[i], NULL);
	}
	/* What workers that could not start have left. */
	struct job *job;

	while ((job = queue_take(d))) {
		answer(d, bytes_of(job->request, job->len), &d->reply);
		free(job);
	}
}

/* ---- The reader ---- */

static bool is_large_read(struct bytes request)
{
	struct fuse_in_header header;
	struct fuse_read_in in;

	if (request.len < sizeof(header) + sizeof(in)) {
		return false;
	}
	memcpy(&header, request.ptr, sizeof(header));
	memcpy(&in, request.ptr + sizeof(header), sizeof(in));
	return header.opcode == FUSE_READ && in.size > LARGE_READ;
}

static bool others_are_waiting(const struct fuse_dev *d)
{
	struct pollfd p = {.fd = d->fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

static void serve_one(struct fuse_dev *d, struct bytes request)
{
	if (d->worker_count == 0) {
		answer(d, request, &d->reply);
		return;
	}
	if (is_large_read(request) && others_are_waiting(d) && queue_put(d, request)) {
		return;
	}
	enum fs_outcome outcome =
		fs_handle(d->fs, request, FS_NOWAIT | FS_CAN_INVALIDATE, &d->reply);

	if (outcome == FS_REPLY) {
		send_reply(d, &d->reply);
	} else if (outcome == FS_BLOCKED && !queue_put(d, request)) {
		answer(d, request, &d->reply);
	}
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Nothing has come since idle_since (0: that was just now, and is noted). */
static void wait_for_request(struct fuse_dev *d, uint64_t *idle_since)
{
	struct pollfd p = {.fd = d->fd, .events = POLLIN};
	uint64_t now = now_ns();

	*idle_since = *idle_since ? *idle_since : now;
	if (now - *idle_since < d->linger_ns) {
		sched_yield();
	} else {
		/* A signal ends it, as fuse_dev_stop() wants. */
		poll(&p, 1, -1);
	}
}

/* Asker: a request is in d->request; 0: unmounted, or stopped. */
static int read_request(struct fuse_dev *d, struct bytes *request, struct error *err)
{
	uint64_t idle_since = 0;

	while (!atomic_load(&d->stop)) {
		ssize_t n = read(d->fd, d->request, FS_REQUEST_MAX);

		if (n >= 0) {
			*request = bytes_of(d->request, (size_t)n);
			return 1;
		}
		switch (errno) {
		case EAGAIN:
			wait_for_request(d, &idle_since);
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
	struct bytes request;
	int rc;

	install_wake_signal();
	workers_start(d);
	d->reader = pthread_self();
	atomic_store(&d->running, true);
	while ((rc = read_request(d, &request, err)) > 0) {
		serve_one(d, request);
	}
	atomic_store(&d->ended, true);
	workers_finish(d);
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
