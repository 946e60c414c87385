#include "cli/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/moment.h"
#include "cli/cli.h"
#include "cli/fd_message.h"
#include "cli/held.h"
#include "cli/holder_socket.h"
#include "cli/service_manager.h"
#include "transports/fuse_mount.h"

#define COMMAND_LINE_MAX ((size_t)2 << 20)
/* Deaths are counted over so long. */
#define MINUTE_MS 60000
/* Before a server is started again that did not come to serving, or whose store is away. */
#define PAUSE_MS 200
#define UNREACHABLE_PAUSE_MS 1000
/* What a server may take to answer what it has, before its successor gets it again. */
#define LEAVE_MS 3000
/* What a new program may take to be ready. */
#define PREPARE_MS 120000

struct server {
	pid_t pid; /* 0: there is none */
	int socket;
	int program; /* borrowed, or the upgrade's */
	bool serving;
	bool leaving;
	int code; /* and text: of a failure that it told */
	char text[FD_MESSAGE_TEXT_MAX];
};

struct holder {
	const struct holder_options *o;
	struct buffer command_line;
	char **argv;
	char *folder; /* where the command was given */
	char *tree;   /* what is shown, once it is known */
	int program;  /* that serves: open */
	int memory;
	int device; /* -1: not mounted yet */
	int signals;
	sigset_t mask; /* that servers begin with */
	struct holder_socket *socket;
	int client; /* that wants an upgrade; -1: nobody */
	struct server current;
	struct server next; /* of the upgrade, until it is its turn */
	unsigned abilities;
	bool ready; /* there has been a server that served */
	bool stopping;
	bool done;
	int code;
	uint64_t *deaths; /* when, the last o->restarts of them */
	uint64_t death_count;
	/* In the future, or 0. */
	uint64_t restart_at, kill_at, give_up_next_at;
};

/* Never 0, which stands for no time at all. */
static uint64_t now_ms(void)
{
	return moment_now() + 1;
}

static const char *where(const struct holder *h)
{
	return bytes_printable(bytes_of_string(h->o->mountpoint));
}

/* ---- The end ---- */

static bool device_is_alive(const struct holder *h)
{
	struct pollfd p = {.fd = h->device, .events = 0};

	return h->device >= 0 && poll(&p, 1, 0) >= 0 && !(p.revents & POLLERR);
}

/* First of all nobody waits for an answer any more. */
static void unmount(struct holder *h)
{
	struct error err;
	bool alive = device_is_alive(h);

	if (h->device >= 0) {
		close(h->device);
		h->device = -1;
	}
	if (alive && fuse_unmount(h->o->mountpoint, true, &err) != 0) {
		log_warning("%s", err.text);
	}
}

static void tell_parent(const struct holder *h, int code)
{
	uint8_t byte = (uint8_t)code;

	if (h->o->ready_fd >= 0) {
		ssize_t n = write(h->o->ready_fd, &byte, 1);

		(void)n;
		close(h->o->ready_fd);
	}
}

static void finish(struct holder *h, int code)
{
	if (!h->ready) {
		tell_parent(h, code);
	}
	h->done = true;
	h->code = code;
}

/* ---- Starting servers ---- */

/* The arguments of this process, as they were given. */
static int read_command_line(struct holder *h, struct error *err)
{
	size_t count = 0;
	int rc = read_small_file(AT_FDCWD, "/proc/self/cmdline", COMMAND_LINE_MAX,
				 &h->command_line, err);

	if (rc <= 0) {
		return rc < 0 ? rc : error_set(err, ERROR_UNSUPPORTED, "there is no /proc");
	}
	buffer_append_byte(&h->command_line, 0);
	h->argv = xcalloc(h->command_line.len + 1, sizeof(*h->argv));
	for (size_t at = 0; at + 1 < h->command_line.len; count++) {
		h->argv[count] = (char *)h->command_line.ptr + at;
		at += strlen(h->argv[count]) + 1;
	}
	return count > 0 ? 0 : error_set(err, ERROR_UNSUPPORTED, "/proc does not tell");
}

/* In the child. Descriptors keep out of each other's way. */
static void pass_descriptors(const struct holder *h, int socket, int *program)
{
	const int fds[] = {socket, h->memory, h->device};

	*program = fcntl(*program, F_DUPFD_CLOEXEC, HELD_FD_DEVICE + 1);
	int high[ARRAY_SIZE(fds)];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		high[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD_CLOEXEC, HELD_FD_DEVICE + 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (high[i] >= 0) {
			dup2(high[i], HELD_FD_SOCKET + (int)i);
		}
	}
}

static void become_server(const struct holder *h, int socket, int program)
	__attribute__((noreturn));

static void become_server(const struct holder *h, int socket, int program)
{
	extern char **environ;

	pass_descriptors(h, socket, &program);
	sigprocmask(SIG_SETMASK, &h->mask, NULL);
	/* Where it is gone, relative paths are not found, and the server says so. */
	int rc = chdir(h->folder);

	(void)rc;
	setenv(HELD_VARIABLE, "1", 1);
	syscall(SYS_execveat, program, "", h->argv, environ, AT_EMPTY_PATH);
	log_error("cannot start the program: %s", strerror(errno));
	_exit(EXIT_CODE_FAILURE);
}

static void greet(const struct holder *h, const struct server *s)
{
	unsigned flags = (h->ready ? (unsigned)HELD_TAKES_OVER : 0) |
			 (h->ready && !h->o->foreground ? (unsigned)HELD_HAS_NO_TERMINAL : 0);

	/* One that is dead already is noticed otherwise. */
	if (fd_message_send(s->socket, HELD_BEGIN, flags, h->o->mountpoint, -1, NULL) == 0) {
		(void)fd_message_send(s->socket, HELD_TREE, 0, h->tree, -1, NULL);
	}
}

static int server_start(const struct holder *h, struct server *s, int program,
			struct error *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		return error_set_errno(err, errno, "cannot make a socket");
	}
	pid_t pid = fork();

	if (pid == 0) {
		become_server(h, pair[1], program);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return error_set_errno(err, errno, "cannot start a process");
	}
	*s = (struct server){.pid = pid, .socket = pair[0], .program = program};
	greet(h, s);
	return 0;
}

static void restart(struct holder *h)
{
	struct error err;

	h->restart_at = 0;
	if (server_start(h, &h->current, h->program, &err) != 0) {
		log_error("%s is without a server: %s", where(h), err.text);
		h->restart_at = now_ms() + UNREACHABLE_PAUSE_MS;
	}
}

/* ---- Upgrades ---- */

static void answer_client(struct holder *h, enum held_message kind, uint32_t value,
			  const char *text)
{
	if (h->client >= 0) {
		/* Whoever asked may have gone. */
		(void)fd_message_send(h->client, kind, value, text, -1, NULL);
		close(h->client);
		h->client = -1;
	}
}

static void server_forget(struct holder *h, struct server *s)
{
	close(s->socket);
	if (s->program != h->program) {
		close(s->program);
	}
	*s = (struct server){.pid = 0};
}

static void begin_upgrade(struct holder *h, int program)
{
	struct error err;

	if (!(h->abilities & HELD_IS_KEPT)) {
		answer_client(h, HELD_REFUSED, 0, "its session is not kept");
	} else if (!h->current.serving || h->next.pid || h->stopping) {
		answer_client(h, HELD_REFUSED, 0, "it is not at rest; try again");
	} else if (server_start(h, &h->next, program, &err) != 0) {
		answer_client(h, HELD_REFUSED, 0, err.text);
	} else {
		h->give_up_next_at = now_ms() + PREPARE_MS;
		return;
	}
	close(program);
}

static void on_client(struct holder *h)
{
	struct fd_message m;

	if (h->client < 0) {
		h->client = holder_socket_accept(h->socket);
		return;
	}
	if (fd_message_receive(h->client, &m, NULL) <= 0) {
		close(h->client);
		h->client = -1;
	} else if (m.kind == HELD_UPGRADE && m.fd >= 0) {
		begin_upgrade(h, m.fd);
	} else {
		if (m.fd >= 0) {
			close(m.fd);
		}
		answer_client(h, HELD_REFUSED, 0, "it is of another version");
	}
}

/* The new program can go on: its turn comes when the server before has ended. */
static void switch_servers(struct holder *h)
{
	h->give_up_next_at = 0;
	h->current.leaving = true;
	(void)fd_message_send(h->current.socket, HELD_LEAVE, 0, NULL, -1, NULL);
	/* What it has taken and not answered is lost, if the kernel does not give it again. */
	if (h->abilities & HELD_RESENDS) {
		h->kill_at = now_ms() + LEAVE_MS;
	}
}

static void promote(struct holder *h)
{
	h->current = h->next;
	h->next = (struct server){.pid = 0};
	(void)fd_message_send(h->current.socket, HELD_GO, 0, NULL, -1, NULL);
}

/* ---- What servers say ---- */

static void warn_of_limits(const struct holder *h)
{
	const char *why = h->abilities & HELD_RESENDS ? NULL
			  : h->abilities & HELD_IS_KEPT
				  ? "the kernel does not give requests to another one (Linux "
				    "6.9 and newer do)"
				  : "its session is not kept";

	if (why) {
		log_message(h->o->demanded ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
			    "%s would not survive the death of its server: %s", where(h), why);
	} else {
		log_info("%s survives the death of its server", where(h));
	}
}

static void first_ready(struct holder *h, const struct fd_message *m)
{
	struct error err;

	h->ready = true;
	h->abilities = m->value;
	if (m->text[0]) {
		h->tree = xstrdup(m->text);
	}
	warn_of_limits(h);
	if (holder_socket_new(h->o->mountpoint, &h->socket, &err) != 0) {
		log_info("%s cannot be upgraded: %s", where(h), err.text);
	}
	if (!h->o->foreground) {
		h->o->leave_terminal();
	}
	service_manager_notify("READY=1");
	tell_parent(h, EXIT_CODE_OK);
}

static void on_serving(struct holder *h, struct server *s, const struct fd_message *m)
{
	s->serving = true;
	if (!h->ready) {
		first_ready(h, m);
		return;
	}
	if (s->program != h->program) {
		close(h->program);
		h->program = s->program;
		log_info("%s has another program now", where(h));
		answer_client(h, HELD_UPGRADED, (uint32_t)s->pid, NULL);
	}
}

static void on_prepared(struct holder *h, struct server *s)
{
	if (s == &h->next) {
		switch_servers(h);
	} else {
		(void)fd_message_send(s->socket, HELD_GO, 0, NULL, -1, NULL);
	}
}

/* Asker: one message was dealt with. */
static int hear(struct holder *h, struct server *s)
{
	struct fd_message m;

	if (fd_message_receive(s->socket, &m, NULL) <= 0) {
		return 0;
	}
	switch (m.kind) {
	case HELD_MOUNTED:
		h->device = m.fd;
		break;
	case HELD_PREPARED:
		on_prepared(h, s);
		break;
	case HELD_SERVING:
		on_serving(h, s, &m);
		break;
	case HELD_FAILED:
		s->code = (int)m.value;
		memcpy(s->text, m.text, sizeof(s->text));
		break;
	default:
		break;
	}
	return 1;
}

/* ---- What becomes of servers ---- */

/* How it ended, for people. */
static const char *how(const struct server *s, int status, char out[100])
{
	if (WIFSIGNALED(status)) {
		snprintf(out, 100, "was killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	} else {
		snprintf(out, 100, "ended with exit code %d", WEXITSTATUS(status));
	}
	return s->text[0] && !WIFSIGNALED(status) ? s->text : out;
}

/* Asker: whether it has died too often. */
static bool count_death(struct holder *h)
{
	uint64_t now = now_ms();
	uint64_t *oldest = &h->deaths[h->death_count % h->o->restarts];
	bool often = h->death_count >= h->o->restarts && now - *oldest < MINUTE_MS;

	*oldest = now;
	h->death_count++;
	return often;
}

static void give_up(struct holder *h, const char *why)
{
	log_error("%s is unmounted: its server %s", where(h), why);
	unmount(h);
	finish(h, EXIT_CODE_FAILURE);
}

static void on_death(struct holder *h, const struct server *s, int status)
{
	char buf[100], text[FD_MESSAGE_TEXT_MAX + 100];
	bool away = s->code == EXIT_CODE_UNAVAILABLE && !WIFSIGNALED(status) && !s->serving;

	if (!(h->abilities & HELD_RESENDS)) {
		give_up(h, how(s, status, buf));
	} else if (!away && count_death(h)) {
		snprintf(text, sizeof(text), "has died %u times within a minute, and now %s",
			 h->o->restarts, how(s, status, buf));
		give_up(h, text);
	} else {
		log_warning("the server of %s %s; it is started again", where(h),
			    how(s, status, buf));
		h->restart_at = now_ms() + (s->serving ? 0
					    : away     ? UNREACHABLE_PAUSE_MS
						       : PAUSE_MS);
	}
}

static void drop_next(struct holder *h, const char *why)
{
	if (h->next.pid) {
		kill(h->next.pid, SIGKILL);
		while (waitpid(h->next.pid, NULL, 0) < 0 && errno == EINTR) {
			continue;
		}
		answer_client(h, HELD_REFUSED, 0, why);
		server_forget(h, &h->next);
	}
	h->give_up_next_at = 0;
}

static void on_current_end(struct holder *h, int status)
{
	struct server s = h->current;
	bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	char buf[100];

	h->kill_at = 0;
	if (!h->ready) {
		unmount(h);
		finish(h, WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_CODE_FAILURE);
	} else if (h->stopping || !device_is_alive(h)) {
		unmount(h);
		finish(h, EXIT_CODE_OK);
	} else if (s.leaving) {
		server_forget(h, &h->current);
		promote(h);
		return;
	} else if (clean) {
		finish(h, EXIT_CODE_OK);
	} else {
		drop_next(h, "the server before has died meanwhile");
		if (s.program != h->program) {
			answer_client(h, HELD_REFUSED, 0, how(&s, status, buf));
		}
		on_death(h, &s, status);
	}
	server_forget(h, &h->current);
}

static void on_next_end(struct holder *h, int status)
{
	char buf[100];

	answer_client(h, HELD_REFUSED, 0, how(&h->next, status, buf));
	server_forget(h, &h->next);
	h->give_up_next_at = 0;
	/* The server before may have been told to leave: then it is started again. */
	h->current.leaving = false;
}

static void reap(struct holder *h)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct server *s = pid == h->current.pid ? &h->current
				   : pid == h->next.pid  ? &h->next
							 : NULL;

		/* What it said last is there. */
		while (s && hear(h, s)) {
			continue;
		}
		if (s == &h->current) {
			on_current_end(h, status);
		} else if (s) {
			on_next_end(h, status);
		}
	}
}

static void stop(struct holder *h)
{
	h->stopping = true;
	drop_next(h, "the mount ends");
	if (h->current.pid) {
		kill(h->current.pid, SIGTERM);
	} else {
		unmount(h);
		finish(h, EXIT_CODE_OK);
	}
}

static void on_signal(struct holder *h)
{
	struct signalfd_siginfo info;

	if (read(h->signals, &info, sizeof(info)) != sizeof(info)) {
		return;
	}
	if (info.ssi_signo == SIGCHLD) {
		reap(h);
	} else {
		stop(h);
	}
}

/* ---- The loop ---- */

static bool is_due(uint64_t *at, uint64_t now)
{
	bool due = *at && *at <= now;

	if (due) {
		*at = 0;
	}
	return due;
}

static void do_what_is_due(struct holder *h)
{
	uint64_t now = now_ms();

	if (is_due(&h->kill_at, now) && h->current.pid) {
		kill(h->current.pid, SIGKILL);
	}
	if (is_due(&h->give_up_next_at, now)) {
		drop_next(h, "the new program does not get ready");
	}
	if (is_due(&h->restart_at, now)) {
		restart(h);
	}
}

/* Milliseconds until something is due; -1: never. */
static int time_left(const struct holder *h)
{
	const uint64_t times[] = {h->restart_at, h->kill_at, h->give_up_next_at};
	uint64_t first = UINT64_MAX, now = now_ms();

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		first = times[i] ? MIN(first, times[i]) : first;
	}
	return first == UINT64_MAX ? -1 : first > now ? (int)MIN(first - now, 60000) : 0;
}

static int server_socket(const struct server *s)
{
	return s->pid ? s->socket : -1;
}

static void wait_and_do(struct holder *h)
{
	enum { SIGNALS, CURRENT, NEXT, CLIENT, COUNT };
	struct pollfd p[COUNT] = {
		[SIGNALS] = {.fd = h->signals, .events = POLLIN},
		[CURRENT] = {.fd = server_socket(&h->current), .events = POLLIN},
		[NEXT] = {.fd = server_socket(&h->next), .events = POLLIN},
		[CLIENT] = {.fd = h->client >= 0 ? (h->next.pid ? -1 : h->client)
						 : holder_socket_fd(h->socket),
			    .events = POLLIN},
	};

	if (poll(p, COUNT, time_left(h)) < 0) {
		return;
	}
	/* Of what ends, the signal tells; until it comes there is nothing to hear. */
	if (p[CURRENT].revents & POLLIN) {
		hear(h, &h->current);
	}
	if (p[NEXT].revents & POLLIN) {
		hear(h, &h->next);
	}
	if (p[CLIENT].revents) {
		on_client(h);
	}
	if (p[SIGNALS].revents) {
		on_signal(h);
	}
}

static int prepare(struct holder *h, struct error *err)
{
	sigset_t set;
	int rc = read_command_line(h, err);

	if (rc != 0) {
		return rc;
	}
	h->folder = getcwd(NULL, 0);
	h->program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	h->memory = memfd_create("cairn-mount", MFD_CLOEXEC);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, &h->mask);
	h->signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (!h->folder || h->program < 0 || h->memory < 0 || h->signals < 0) {
		return error_set_errno(err, errno, "cannot hold a mount");
	}
	return 0;
}

static void release(struct holder *h)
{
	const int fds[] = {h->program, h->memory, h->device, h->signals, h->client};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0) {
			close(fds[i]);
		}
	}
	holder_socket_free(h->socket);
	buffer_done(&h->command_line);
	free(h->argv);
	free(h->folder);
	free(h->tree);
	free(h->deaths);
}

int holder_run(const struct holder_options *o)
{
	struct holder h = {.o = o,
			   .program = -1,
			   .memory = -1,
			   .device = -1,
			   .signals = -1,
			   .client = -1,
			   .deaths = xcalloc(o->restarts, sizeof(uint64_t))};
	struct error err;
	int rc = prepare(&h, &err);

	if (rc == 0) {
		rc = server_start(&h, &h.current, h.program, &err);
	}
	if (rc != 0) {
		finish(&h, cli_fail(&err));
	}
	while (!h.done) {
		wait_and_do(&h);
		do_what_is_due(&h);
	}
	service_manager_notify("STOPPING=1");
	release(&h);
	return h.code;
}
