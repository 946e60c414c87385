#include "transports/virtiofs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/thread.h"
#include "transports/virtiofs/guest.h"

/* When nobody can be taken in, because the system is short of something: until then. */
#define RETRY_MS 1000
/*
 * What guests may take to end, when the server stops. A slow peer of the store, or a front end
 * that has given us descriptors that block, can hold a thread for longer.
 */
#define STOP_SECONDS 3

enum attached_state {
	ATTACHED_RUNNING,
	ATTACHED_ENDED,
	ATTACHED_ABANDONED, /* nobody waits for the thread: it cleans up itself */
};

/* A guest and its thread, which frees the guest: that may take a while. */
struct attached {
	struct attached *next;
	unsigned number;
	pthread_t thread;
	_Atomic enum attached_state state;
	int ended_fd;         /* tells the server */
	pthread_mutex_t lock; /* guards guest */
	struct guest *guest;  /* NULL: it is being freed */
};

struct virtiofs_server {
	int listener;
	struct virtiofs_options options;
	int stop_fd;  /* eventfds */
	int ended_fd; /* a guest has gone */
	struct attached *guests;
	unsigned count;
	unsigned accepted; /* guests that ever were */
};

static void wake(int fd)
{
	const uint64_t one = 1;
	int saved = errno;
	ssize_t n = write(fd, &one, sizeof(one));

	(void)n; /* full: woken often enough */
	errno = saved;
}

int virtiofs_server_new(int listener, const struct virtiofs_options *o,
			struct virtiofs_server **out, struct error *err)
{
	struct virtiofs_server *s = xcalloc(1, sizeof(*s));

	s->listener = listener;
	s->options = *o;
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->stop_fd < 0 || s->ended_fd < 0) {
		int errnum = errno;

		virtiofs_server_free(s);
		return error_set_errno(err, errnum, "cannot make an eventfd");
	}
	*out = s;
	return 0;
}

void virtiofs_server_free(struct virtiofs_server *s)
{
	if (s) {
		cleanup_close(&s->stop_fd);
		cleanup_close(&s->ended_fd);
		free(s);
	}
}

void virtiofs_server_stop(struct virtiofs_server *s)
{
	wake(s->stop_fd);
}

/* ---- Guests ---- */

static void attached_free(struct attached *a)
{
	guest_free(a->guest);
	cleanup_close(&a->ended_fd);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static void stop_guest(struct attached *a)
{
	pthread_mutex_lock(&a->lock);
	if (a->guest) {
		guest_stop(a->guest);
	}
	pthread_mutex_unlock(&a->lock);
}

static void free_guest(struct attached *a)
{
	pthread_mutex_lock(&a->lock);
	struct guest *g = a->guest;

	a->guest = NULL;
	pthread_mutex_unlock(&a->lock);
	guest_free(g);
}

static void *guest_main(void *context)
{
	struct attached *a = context;
	struct error err;

	if (guest_run(a->guest, &err) < 0) {
		log_warning("guest %u is dropped: %s", a->number, err.text);
	} else {
		log_info("guest %u has gone", a->number);
	}
	free_guest(a);
	if (atomic_exchange(&a->state, ATTACHED_ENDED) == ATTACHED_ABANDONED) {
		attached_free(a);
	} else {
		/* Still ours: whoever frees it waits for this thread. */
		wake(a->ended_fd);
	}
	return NULL;
}

/* Takes over the connection. */
static int attach(struct virtiofs_server *s, int socket, struct error *err)
{
	const struct guest_options options = {
		.fs = &s->options.fs, .threads = s->options.threads, .number = s->accepted + 1};
	struct attached *a = xcalloc(1, sizeof(*a));

	a->number = options.number;
	pthread_mutex_init(&a->lock, NULL);
	int rc = guest_new(socket, &options, &a->guest, err);

	a->ended_fd = fcntl(s->ended_fd, F_DUPFD_CLOEXEC, 0);
	if (rc == 0 && a->ended_fd < 0) {
		rc = error_set_errno(err, errno, "cannot attach a guest");
	}
	if (rc == 0) {
		rc = thread_start(&a->thread, 0, guest_main, a);
		rc = rc ? error_set_errno(err, rc, "cannot start a thread") : 0;
	}
	if (rc != 0) {
		attached_free(a);
		return rc;
	}
	s->accepted++;
	s->count++;
	a->next = s->guests;
	s->guests = a;
	log_info("guest %u has come", a->number);
	return 0;
}

/* Frees what guests that have ended have left. */
static void detach_ended(struct virtiofs_server *s)
{
	struct attached **link = &s->guests;

	while (*link) {
		struct attached *a = *link;

		if (atomic_load(&a->state) != ATTACHED_ENDED) {
			link = &a->next;
			continue;
		}
		*link = a->next;
		s->count--;
		pthread_join(a->thread, NULL);
		attached_free(a);
	}
}

/* It ends sooner or later, perhaps only with the process. */
static void abandon(struct attached *a)
{
	pthread_t thread = a->thread;
	unsigned number = a->number;

	if (atomic_exchange(&a->state, ATTACHED_ABANDONED) == ATTACHED_ENDED) {
		pthread_join(thread, NULL);
		attached_free(a);
		return;
	}
	log_warning("guest %u does not come to its end, and is left behind", number);
	pthread_detach(thread);
}

static void detach_all(struct virtiofs_server *s)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += STOP_SECONDS;
	for (struct attached *a = s->guests; a; a = a->next) {
		stop_guest(a);
	}
	while (s->guests) {
		struct attached *a = s->guests;

		s->guests = a->next;
		if (pthread_timedjoin_np(a->thread, NULL, &deadline) == 0) {
			attached_free(a);
		} else {
			abandon(a);
		}
	}
}

/* ---- Serving ---- */

/* False when there was nobody, or nobody can be taken in now. */
static bool accept_guest(struct virtiofs_server *s, struct error *err)
{
	int socket = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

	if (socket < 0) {
		error_set_errno(err, errno, "cannot accept a guest");
		return errno == EINTR || errno == EAGAIN || errno == ECONNABORTED;
	}
	if (s->count >= VIRTIOFS_GUESTS_MAX) {
		close(socket);
		error_set(err, ERROR_LIMIT, "%u guests are there already", s->count);
		return false;
	}
	return attach(s, socket, err) == 0;
}

int virtiofs_server_run(struct virtiofs_server *s, struct error *err)
{
	struct error why = {.code = ERROR_NONE};
	bool accepting = true;
	int rc = 0;

	while (!(s->options.once && s->accepted > 0 && s->count == 0)) {
		struct pollfd fds[] = {
			{.fd = s->stop_fd, .events = POLLIN},
			{.fd = s->ended_fd, .events = POLLIN},
			{.fd = accepting ? s->listener : -1, .events = POLLIN},
		};
		int n = poll(fds, ARRAY_SIZE(fds), accepting ? -1 : RETRY_MS);
		uint64_t ended;

		if (n < 0 && errno != EINTR) {
			rc = error_set_errno(err, errno, "cannot wait for guests");
			break;
		}
		if (n > 0 && fds[0].revents) {
			break;
		}
		if (n > 0 && fds[1].revents) {
			ssize_t got = read(s->ended_fd, &ended, sizeof(ended));

			(void)got;
			detach_ended(s);
		}
		if (n > 0 && fds[2].revents) {
			accepting = accept_guest(s, &why);
			if (!accepting) {
				log_warning("%s", why.text);
			}
		} else {
			accepting = true;
		}
	}
	detach_all(s);
	return rc;
}
