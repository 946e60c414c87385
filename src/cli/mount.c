/* cairn mount */

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/held.h"
#include "cli/holder.h"
#include "cli/serve.h"
#include "cli/service_manager.h"
#include "cli/stop_signals.h"
#include "transports/fuse_mount.h"

/* One in so many blobs is large: then files are passed through, unless said otherwise. */
#define LARGE_SHARE 4

/* Servers that may die within a minute, unless said otherwise. */
#define RESTARTS 20u

enum resilience { RESILIENT_IN_BACKGROUND, RESILIENT, NOT_RESILIENT };

struct mount_run {
	struct cli *cli;
	bool foreground;
	enum resilience resilience;
	unsigned restarts;
	struct held *held; /* NULL: this process is on its own */
	struct serve_options serve;
	struct fuse_mount_options mount;
	bool choose_io; /* by what the store holds */
	int ready_fd;   /* where the parent waits for the exit code; -1 in the foreground */
};

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

static void stop_mount(void *mount)
{
	fuse_mount_stop(mount);
}

static void log_line(void *context unused, const char *text)
{
	log_info("%s", text);
}

/* The session lies where the holder can keep it; without that it is served all the same. */
static int keep_session(struct mount_run *run, struct fs *fs, struct error *err)
{
	int r = fs_keep(fs, held_memory(run->held), err);

	if (held_takes_over(run->held)) {
		return r == 0 ? error_set(err, ERROR_INVALID,
					  "there is no session to go on with")
			      : MIN(r, 0);
	}
	if (r == -ERROR_UNSUPPORTED) {
		log_info("the session is not kept: %s", err->text);
		r = 0;
	}
	return r;
}

/* Goes on with a mount, when it is this server's turn. */
static int take_over(struct mount_run *run, struct fs *fs, struct fuse_mount **m,
		     struct error *err)
{
	int device;
	int r = held_wait(run->held, &device, err);

	return r == 0 ? fuse_mount_take_over(fs, &run->mount, device, m, err) : r;
}

static int start_mount(struct mount_run *run, struct fs *fs, struct fuse_mount **m,
		       struct error *err)
{
	int r = run->held ? keep_session(run, fs, err) : 0;

	if (r == 0 && run->held && held_takes_over(run->held)) {
		return take_over(run, fs, m, err);
	}
	if (r == 0) {
		r = fuse_mount_new(fs, &run->mount, m, err);
	}
	if (r == 0 && run->held) {
		held_tell_mounted(run->held, fuse_mount_descriptor(*m));
	}
	return r;
}

static void tell_serving(struct mount_run *run, const struct fs *fs)
{
	unsigned abilities = (fs_is_kept(fs) ? (unsigned)HELD_IS_KEPT : 0) |
			     (fs_can_be_resumed(fs) ? (unsigned)HELD_RESENDS : 0);

	if (run->held) {
		held_tell_serving(run->held, abilities,
				  run->serve.root ? digest_text(&run->serve.root_digest)
						  : NULL);
	} else {
		service_manager_notify("READY=1");
		tell_parent(run, EXIT_CODE_OK);
	}
}

static int serve_until_end(struct mount_run *run, struct fuse_mount *m, struct error *err)
{
	int r = run->held ? held_watch(run->held, m, err) : 0;

	if (r == 0) {
		r = fuse_mount_serve(m, err);
	}
	if (run->held) {
		held_unwatch(run->held);
	} else {
		service_manager_notify("STOPPING=1");
	}
	return r;
}

static int serve_mount(struct mount_run *run, struct fs *fs, struct error *err)
{
	struct fuse_mount *m = NULL;
	sigset_t mask;

	stop_signals_block(&mask);
	int r = start_mount(run, fs, &m, err);

	if (r < 0) {
		pthread_sigmask(SIG_SETMASK, &mask, NULL);
		return r;
	}
	stop_signals_handle(stop_mount, m, &mask);
	log_info("%s %s, large files are %s",
		 run->held && held_takes_over(run->held) ? "goes on with" : "mounted on",
		 bytes_printable(bytes_of_string(run->mount.mountpoint)),
		 fs_passes_through(fs) ? "passed through" : "cached");
	fs_describe_session(fs, log_line, NULL);
	if (!run->foreground) {
		leave_terminal();
	}
	tell_serving(run, fs);
	r = serve_until_end(run, m, err);
	stop_signals_forget();
	fuse_mount_free(m);
	return r;
}

/*
 * Passing a file through makes reading it as fast as where it lies, and every open of any file
 * slower, by what a few hundred kilobytes take to read. So it pays where large files are many.
 */
static int choose_io(struct mount_run *run, const struct store *store, struct error *err)
{
	struct blob_counts counts;
	int r = run->choose_io ? blob_service_count(store->blobs, &counts, err) : 0;

	if (r == 0 && run->choose_io && counts.plain_files > counts.blobs / LARGE_SHARE) {
		run->mount.io = FUSE_MOUNT_PREFER_PASSTHROUGH;
	}
	return r;
}

static int serve_store(struct mount_run *run, struct store *store, struct error *err)
{
	struct fs *fs;
	struct fs_options options;
	struct prefetch *prefetch = serve_prefetch(&run->serve, store);

	serve_fs_options(&run->serve, store, prefetch, &options);
	int r = run->held && held_takes_over(run->held) ? 0 : choose_io(run, store, err);

	if (r == 0) {
		r = fs_new(&options, &fs, err);
	}
	if (r == 0) {
		r = serve_mount(run, fs, err);
		fs_free(fs);
	}
	prefetch_free(prefetch);
	return r;
}

static int serve(struct mount_run *run)
{
	struct store store = {0};
	struct error err;
	char *address cleanup(cleanup_free) = cli_store_address(run->cli);
	int r = serve_open_store(&run->serve, run->cli, &store, &err);

	if (r == 0) {
		run->mount.source = address;
		r = serve_store(run, &store, &err);
	}
	store_close(&store);

	int code = r < 0 ? cli_fail(&err) : EXIT_CODE_OK;

	if (r < 0) {
		held_tell_failed(run->held, code, err.text);
	}
	tell_parent(run, code);
	return code;
}

static int serve_or_hold(struct mount_run *run)
{
	const struct holder_options options = {
		.mountpoint = run->mount.mountpoint,
		.foreground = run->foreground,
		.demanded = run->resilience == RESILIENT,
		.restarts = run->restarts,
		.ready_fd = run->ready_fd,
		.leave_terminal = leave_terminal,
	};
	bool hold = run->resilience == RESILIENT ||
		    (run->resilience == RESILIENT_IN_BACKGROUND && !run->foreground);

	return hold ? holder_run(&options) : serve(run);
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
	return serve_or_hold(run);
}

/* By a holder; what it says comes before what the command does. */
static int serve_held(struct mount_run *run)
{
	char *store cleanup(cleanup_free) = cli_store_absolute(run->cli);

	if (held_has_no_terminal(run->held)) {
		log_to_syslog();
	}
	run->cli->store = store;
	run->mount.mountpoint = held_mountpoint(run->held);
	if (held_tree(run->held)) {
		run->serve.root = held_tree(run->held);
	}
	int code = serve(run);

	held_free(run->held);
	return code;
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
	return run->foreground ? serve_or_hold(run) : serve_in_background(run);
}

/* False after a usage message. */
static bool set_io(struct mount_run *run, const struct cli_command *command)
{
	static const char *const words[] = {"auto", "cached", "passthrough", NULL};
	int choice = cli_parse_choice(command, "--io", optarg, words);

	run->choose_io = choice == 0;
	run->mount.io = choice == 2 ? FUSE_MOUNT_PASSTHROUGH : FUSE_MOUNT_CACHED;
	return choice >= 0;
}

/* False after a usage message. */
static bool set_cpu_latency(struct mount_run *run, const struct cli_command *command)
{
	static const char *const words[] = {[CPU_LATENCY_AUTO] = "auto",
					    [CPU_LATENCY_LOW] = "low",
					    [CPU_LATENCY_ANY] = "any",
					    NULL};
	int choice = cli_parse_choice(command, "--cpu-latency", optarg, words);

	run->mount.cpu_latency = (enum cpu_latency_policy)choice;
	return choice >= 0;
}

enum {
	ALLOW_OTHER = SERVE_OPTION_OWN,
	IO,
	CPU_LATENCY,
	RESILIENT_ON,
	RESILIENT_OFF,
	RESTARTS_OF
};

static int run_mount(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS,
		SERVE_LONG_OPTIONS,
		{"allow-other", no_argument, NULL, ALLOW_OTHER},
		{"io", required_argument, NULL, IO},
		{"cpu-latency", required_argument, NULL, CPU_LATENCY},
		{"foreground", no_argument, NULL, 'f'},
		{"resilient", no_argument, NULL, RESILIENT_ON},
		{"no-resilient", no_argument, NULL, RESILIENT_OFF},
		{"restarts", required_argument, NULL, RESTARTS_OF},
		{0}};
	struct mount_run run = {
		.cli = cli, .ready_fd = -1, .choose_io = true, .restarts = RESTARTS};
	struct error err;
	int c, code;

	while ((c = serve_next_option(&run.serve, cli, command, argc, argv,
				      CLI_SHORT_OPTIONS "f", options, &code)) != -1) {
		switch (c) {
		case CLI_OPTION_STOP:
			return code;
		case ALLOW_OTHER:
			run.mount.allow_other = true;
			break;
		case IO:
			if (!set_io(&run, command)) {
				return EXIT_CODE_USAGE;
			}
			break;
		case CPU_LATENCY:
			if (!set_cpu_latency(&run, command)) {
				return EXIT_CODE_USAGE;
			}
			break;
		case RESILIENT_ON:
			run.resilience = RESILIENT;
			break;
		case RESILIENT_OFF:
			run.resilience = NOT_RESILIENT;
			break;
		case RESTARTS_OF:
			if (!cli_parse_count(command, "--restarts", optarg, HOLDER_RESTARTS_MAX,
					     &run.restarts)) {
				return EXIT_CODE_USAGE;
			}
			break;
		default:
			run.foreground = true;
		}
	}
	if (argc - optind != 1) {
		return cli_usage(command, "one directory is needed");
	}
	run.mount.threads = run.serve.threads;
	int r = held_begin(&run.held, &err);

	if (r < 0) {
		return cli_fail(&err);
	}
	return r > 0 ? serve_held(&run) : mount_at(&run, argv[optind]);
}

static const char mount_help[] =
	"Usage: cairn mount [OPTION]... DIR\n"
	"\n"
	"Shows the trees of the store below DIR, read-only. Returns when the mount is\n"
	"ready; a process in the background serves it until 'cairn umount DIR', or\n"
	"until it gets SIGINT, SIGTERM or SIGHUP, upon which it unmounts.\n"
	"\n" SERVE_HELP "      --io=auto|cached|passthrough\n"
	"                      read files through this program, with the kernel's cache,\n"
	"                      or let the kernel read large files where they lie, which\n"
	"                      needs root and Linux 6.9; auto (the default) passes files\n"
	"                      through where that can be and large files are many\n"
	"      --cpu-latency=auto|low|any\n"
	"                      low: keep idle processors awake while requests come fast,\n"
	"                      which root can; any: let them sleep; auto (the default):\n"
	"                      low on virtual machines where waking up takes long\n"
	"      --allow-other   let other users in\n"
	"      --resilient     let another process serve the mount when the one that does\n"
	"                      dies: programs that use it wait a moment; needs Linux 6.9;\n"
	"                      the default, but in the foreground\n"
	"      --no-resilient  do not: the mount ends with its process\n"
	"      --restarts N    end the mount when that has happened more than N times\n"
	"                      within a minute (default 20)\n"
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
