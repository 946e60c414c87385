/* cairn mount */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "cli/cli.h"
#include "fs/fs.h"
#include "transports/fuse_mount.h"

struct mount_run {
	struct cli *cli;
	bool foreground;
	struct fs_options fs;
	struct fuse_mount_options mount;
	int ready_fd; /* where the parent waits for the exit code; -1 in the foreground */
};

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};

/* For the signal handler. */
static struct fuse_mount *_Atomic mounted;

static void handle_stop(int signal_number)
{
	struct fuse_mount *m = atomic_load(&mounted);

	(void)signal_number;
	if (m) {
		fuse_mount_stop(m);
	}
}

/* Blocked until the handler has something to stop: no signal may leave a mount behind. */
static void block_stop_signals(sigset_t *before)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(stop_signals); i++) {
		sigaddset(&set, stop_signals[i]);
	}
	pthread_sigmask(SIG_BLOCK, &set, before);
}

static void handle_stop_signals(struct fuse_mount *m, const sigset_t *mask)
{
	/* No SA_RESTART: a read of requests that began before the signal has to end. */
	struct sigaction action = {.sa_handler = handle_stop};

	atomic_store(&mounted, m);
	for (size_t i = 0; i < ARRAY_SIZE(stop_signals); i++) {
		(void)sigaction(stop_signals[i], &action, NULL);
	}
	pthread_sigmask(SIG_SETMASK, mask, NULL);
}

/* Tells a service manager, if there is one. Its absence or deafness is no fault of ours. */
static void notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len > sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@')) {
		return;
	}
	memcpy(to.sun_path, path, len);
	if (path[0] == '@') {
		to.sun_path[0] = '\0';
	}
	int fd cleanup(cleanup_close) = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		ssize_t n = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (void *)&to,
				   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
		(void)n;
	}
}

/* Lets the parent end with this exit code. */
static void tell_parent(struct mount_run *run, int code)
{
	uint8_t byte = (uint8_t)code;

	if (run->ready_fd >= 0) {
		ssize_t n = write(run->ready_fd, &byte, 1);

		(void)n;
		close(run->ready_fd);
		run->ready_fd = -1;
	}
}

/* Lets go of the terminal and of the directory that the command was given in. */
static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
	if (chdir("/") != 0) {
		log_warning("cannot leave the working directory");
	}
	log_to_syslog();
}

static int serve_fs(struct mount_run *run, struct fs *fs, struct error *err)
{
	struct fuse_mount *m = NULL;
	sigset_t mask;

	block_stop_signals(&mask);
	int r = fuse_mount_new(fs, &run->mount, &m, err);

	if (r < 0) {
		pthread_sigmask(SIG_SETMASK, &mask, NULL);
		return r;
	}
	handle_stop_signals(m, &mask);
	log_info("mounted on %s", bytes_printable(bytes_of_string(run->mount.mountpoint)));
	if (!run->foreground) {
		leave_terminal();
	}
	notify("READY=1");
	tell_parent(run, EXIT_CODE_OK);
	r = fuse_mount_serve(m, err);
	notify("STOPPING=1");
	atomic_store(&mounted, NULL);
	fuse_mount_free(m);
	return r;
}

static int serve_store(struct mount_run *run, struct store *store, struct error *err)
{
	struct fs *fs;

	run->fs.blobs = store->blobs;
	run->fs.directories = store->directories;
	run->fs.roots = store->roots;
	int r = fs_new(&run->fs, &fs, err);

	if (r == 0) {
		r = serve_fs(run, fs, err);
		fs_free(fs);
	}
	return r;
}

static int serve(struct mount_run *run)
{
	struct store store = {0};
	struct error err;
	char *address cleanup(cleanup_free) = cli_store_address(run->cli);
	int r = cli_open_store(run->cli, STORE_READ_ONLY, &store, &err);

	if (r == 0) {
		run->mount.source = address;
		r = serve_store(run, &store, &err);
	}
	store_close(&store);

	int code = r < 0 ? cli_fail(&err) : EXIT_CODE_OK;

	tell_parent(run, code);
	return code;
}

/* The parent stays until the mount is ready: what comes after the command finds it. */
static int wait_ready(int fd, pid_t child)
{
	uint8_t code;
	ssize_t n = read_full(fd, &code, 1);

	close(fd);
	if (n == 1) {
		return code;
	}
	waitpid(child, NULL, 0);
	log_error("the process of the mount ended before it was ready");
	return EXIT_CODE_FAILURE;
}

static int serve_in_background(struct mount_run *run)
{
	int fds[2];
	struct error err;

	if (pipe2(fds, O_CLOEXEC) != 0) {
		error_set_errno(&err, errno, "cannot create a pipe");
		return cli_fail(&err);
	}
	pid_t child = fork();

	if (child < 0) {
		error_set_errno(&err, errno, "cannot start a process");
		close(fds[0]);
		close(fds[1]);
		return cli_fail(&err);
	}
	if (child > 0) {
		close(fds[1]);
		return wait_ready(fds[0], child);
	}
	close(fds[0]);
	setsid();
	run->ready_fd = fds[1];
	return serve(run);
}

static int mount_at(struct mount_run *run, const char *path)
{
	/* Absolute, because a mount in the background leaves the working directory. */
	char *mountpoint cleanup(cleanup_free) = realpath(path, NULL);
	char *store cleanup(cleanup_free) = cli_store_absolute(run->cli);
	struct error err;

	if (!mountpoint) {
		error_set_errno(&err, errno, "%s", bytes_printable(bytes_of_string(path)));
		if (err.os_errno == ENOTCONN) {
			error_wrap(&err,
				   "a mount whose process has died (cairn umount ends it)");
		}
		return cli_fail(&err);
	}
	run->cli->store = store;
	run->mount.mountpoint = mountpoint;
	return run->foreground ? serve(run) : serve_in_background(run);
}

enum { LIST_ROOT = CLI_OPTION_OWN, ALLOW_OTHER, XATTR, THREADS, INODES };

/* False after a usage message. */
static bool set_option(struct mount_run *run, const struct cli_command *command, int c)
{
	switch (c) {
	case LIST_ROOT:
		run->fs.list_root = true;
		return true;
	case ALLOW_OTHER:
		run->mount.allow_other = true;
		return true;
	case XATTR:
		run->fs.show_xattr = true;
		return true;
	case THREADS:
		return cli_parse_count(command, "--threads", optarg, 64, &run->mount.threads);
	case INODES:
		run->fs.inodes_by_path = strcmp(optarg, "path") == 0;
		if (!run->fs.inodes_by_path && strcmp(optarg, "content") != 0) {
			cli_usage(command, "--inodes takes content or path, not '%s'", optarg);
			return false;
		}
		return true;
	default:
		run->foreground = true;
		return true;
	}
}

static int run_mount(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS,
						{"list-root", no_argument, NULL, LIST_ROOT},
						{"allow-other", no_argument, NULL, ALLOW_OTHER},
						{"xattr", no_argument, NULL, XATTR},
						{"threads", required_argument, NULL, THREADS},
						{"inodes", required_argument, NULL, INODES},
						{"foreground", no_argument, NULL, 'f'},
						{0}};
	struct mount_run run = {.cli = cli, .ready_fd = -1};
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "f", options,
				    &code)) != -1) {
		if (c == CLI_OPTION_STOP) {
			return code;
		}
		if (!set_option(&run, command, c)) {
			return EXIT_CODE_USAGE;
		}
	}
	if (argc - optind != 1) {
		return cli_usage(command, "one directory is needed");
	}
	return mount_at(&run, argv[optind]);
}

static const char mount_help[] =
	"Usage: cairn mount [OPTION]... DIR\n"
	"\n"
	"Shows the trees of the store below DIR, read-only. Returns when the mount is\n"
	"ready; a process in the background serves it until 'cairn umount DIR', or\n"
	"until it gets SIGINT, SIGTERM or SIGHUP, upon which it unmounts.\n"
	"\n"
	"      --list-root     let DIR be listed; otherwise trees are found by name only\n"
	"      --xattr         digests as extended attributes\n"
	"      --inodes=content|path\n"
	"                      directories with equal content have one inode number\n"
	"                      (the default), or each its own\n"
	"      --allow-other   let other users in\n"
	"      --threads N     threads for what needs waiting, 1 to 64\n"
	"  -f, --foreground    stay in the foreground, messages to standard error\n"
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n"
	"\n"
	"With $NOTIFY_SOCKET set, readiness is told to the service manager.\n";

const struct cli_command mount_command = {
	.name = "mount",
	.program = "cairn mount",
	.help = mount_help,
	.run = run_mount,
};
