#include "transports/virtiofs.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "transports/virtiofs/guest.h"

/* When nobody can be taken in, because the system is short of something: until then. */
#define RETRY_MS 1000

/* A guest and its thread. */
struct attached {
	struct attached *next;
	struct virtiofs_server *server;
	struct guest *guest;
	unsigned number;
	pthread_t thread;
	atomic_bool ended;
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

static void *guest_main(void *context)
{
	struct attached *a = context;
	struct error err;

	if (guest_run(a->guest, &err) < 0) {
		log_warning("guest %u is dropped: %s", a->number, err.text);
	} else {
		log_info("guest %u has gone", a->number);
	}
	atomic_store(&a->ended, true);
	wake(a->server->ended_fd);
	return NULL;
}

/*
 * Signals are for the program's own threads; but SIGBUS must come here, where the memory of
 * guests is touched.
 */
static int start_thread(struct attached *a)
{
	sigset_t set;
	sigset_t old;

	sigfillset(&set);
	sigdelset(&set, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &set, &old);
	int rc = pthread_create(&a->thread, NULL, guest_main, a);

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

/* Takes over the connection. */
static int attach(struct virtiofs_server *s, int socket, struct error *err)
{
	const struct guest_options options = {
		.fs = &s->options.fs, .threads = s->options.threads, .number = s->accepted + 1};
	struct attached *a = xcalloc(1, sizeof(*a));
	int rc = guest_new(socket, &options, &a->guest, err);

	if (rc == 0) {
		a->server = s;
		a->number = options.number;
		rc = start_thread(a);
		rc = rc ? error_set_errno(err, rc, "cannot start a thread") : 0;
	}
	if (rc != 0) {
		guest_free(a->guest);
		free(a);
		return rc;
	}
	s->accepted++;
	s->count++;
	a->next = s->guests;
	s->guests = a;
	log_info("guest %u has come", a->number);
	return 0;
}

/* Frees the guests that have ended; with all, ends and waits for the rest, too. */
static void detach(struct virtiofs_server *s, bool all)
{
	struct attached **link = &s->guests;

	for (struct attached *a = all ? s->guests : NULL; a; a = a->next) {
		guest_stop(a->guest);
	}
	while (*link) {
		struct attached *a = *link;

		if (!all && !atomic_load(&a->ended)) {
			link = &a->next;
			continue;
		}
		*link = a->next;
		pthread_join(a->thread, NULL);
		guest_free(a->guest);
		free(a);
		s->count--;
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
			detach(s, false);
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
	detach(s, true);
	return rc;
}
