/* cairn virtiofs */

#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/serve.h"
#include "cli/service_manager.h"
#include "cli/socket_options.h"
#include "cli/stop_signals.h"
#include "transports/virtiofs.h"

/* Room for any descriptor number; the system allows fewer. */
#define FD_MAX (1u << 20)

struct virtiofs_run {
	struct cli *cli;
	struct serve_options serve;
	struct unix_listener_options socket;
	const char *path; /* NULL: the socket was opened by somebody else */
	int fd;           /* that one, or -1 */
	struct unix_listener *listener;
	bool once;
	bool no_sandbox;
};

static void stop_server(void *server)
{
	virtiofs_server_stop(server);
}

/* For whoever waits in a script. */
static void tell_listening(const struct virtiofs_run *run)
{
	struct json j;

	if (run->cli->json) {
		json_begin(&j);
		if (run->path) {
			json_bytes(&j, "socket", bytes_of_string(run->path));
		} else {
			json_number(&j, "fd", (uint64_t)run->fd);
		}
		json_end(&j);
	} else if (run->path) {
		printf("listening on %s\n", run->path);
	} else {
		printf("listening on descriptor %d\n", run->fd);
	}
	/* A failure is seen at the end of the program. */
	(void)fflush(stdout);
}

/* Reading folders is all that the sandbox leaves; who needs more has to say so. */
static int check_needs(const struct store_needs *needs, struct error *err)
{
	if (!needs->peers && !needs->writes) {
		return 0;
	}
	return error_set(err, ERROR_UNSUPPORTED,
			 "this store %s, which no sandbox allows: --sandbox=none is needed",
			 needs->peers ? "speaks to peers" : "is written to");
}

static int confine(const struct virtiofs_run *run, const struct store_needs *needs,
		   struct error *err)
{
	struct sandbox_options options = {
		.readable = needs->folders,
		.readable_count = needs->folder_count,
		.removable = run->listener ? unix_listener_folder(run->listener) : NULL,
	};
	bool confined;
	int r = sandbox_enter(&options, &confined, err);

	if (r < 0) {
		return error_wrap(err, "no sandbox (--sandbox=none goes without)");
	}
	if (!confined) {
		log_warning("this kernel has no Landlock: the sandbox does not confine paths");
	}
	return 0;
}

static int enter_sandbox(const struct virtiofs_run *run, struct error *err)
{
	char *address cleanup(cleanup_free) = cli_store_address(run->cli);
	struct store_needs needs cleanup(store_needs_done) = {0};
	int r = store_needs(address, &needs, err);

	if (r == 0) {
		r = check_needs(&needs, err);
	}
	return r < 0 ? r : confine(run, &needs, err);
}

static int serve_guests(struct virtiofs_run *run, struct virtiofs_server *server,
			const sigset_t *mask, struct error *err)
{
	int r = run->no_sandbox ? 0 : enter_sandbox(run, err);

	stop_signals_handle(stop_server, server, mask);
	if (r == 0) {
		tell_listening(run);
		service_manager_notify("READY=1");
		r = virtiofs_server_run(server, err);
		service_manager_notify("STOPPING=1");
	}
	stop_signals_forget();
	return r;
}

static int serve_store(struct virtiofs_run *run, struct store *store, struct error *err)
{
	struct virtiofs_options options = {.threads = run->serve.threads, .once = run->once};
	struct prefetch *prefetch = serve_prefetch(&run->serve, store);
	struct virtiofs_server *server = NULL;
	sigset_t mask;
	int r = 0;

	serve_fs_options(&run->serve, store, prefetch, &options.fs);
	stop_signals_block(&mask);
	if (run->path) {
		r = unix_listener_new(run->path, &run->socket, &run->listener, err);
	}
	if (r == 0) {
		r = virtiofs_server_new(run->path ? unix_listener_fd(run->listener) : run->fd,
					&options, &server, err);
	}
	if (r == 0) {
		r = serve_guests(run, server, &mask, err);
	}
	virtiofs_server_free(server);
	prefetch_free(prefetch);
	unix_listener_free(run->listener);
	return r;
}

static int serve(struct virtiofs_run *run)
{
	struct store store = {0};
	struct error err;
	int r = run->path ? 0 : unix_listener_check(run->fd, &err);

	if (r == 0) {
		r = serve_open_store(&run->serve, run->cli, &store, &err);
	}
	if (r == 0) {
		r = serve_store(run, &store, &err);
	}
	store_close(&store);
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

enum { ONCE = SERVE_OPTION_OWN, FD, SOCKET_MODE, SOCKET_OWNER, SOCKET_GROUP, SANDBOX };

static bool set_fd(struct virtiofs_run *run, const struct cli_command *command)
{
	unsigned fd;

	if (!cli_parse_count(command, "--fd", optarg, FD_MAX, &fd)) {
		return false;
	}
	run->fd = (int)fd;
	return true;
}

static bool set_sandbox(struct virtiofs_run *run, const struct cli_command *command)
{
	static const char *const words[] = {"full", "none", NULL};
	int choice = cli_parse_choice(command, "--sandbox", optarg, words);

	run->no_sandbox = choice == 1;
	return choice >= 0;
}

/* False after a usage message. */
static bool set_option(struct virtiofs_run *run, const struct cli_command *command, int c)
{
	switch (c) {
	case FD:
		return set_fd(run, command);
	case SOCKET_MODE:
		return socket_options_mode(command, "--socket-mode", &run->socket.mode);
	case SOCKET_OWNER:
		return socket_options_user(command, "--socket-owner", &run->socket.owner);
	case SOCKET_GROUP:
		return socket_options_group(command, "--socket-group", &run->socket.group);
	case SANDBOX:
		return set_sandbox(run, command);
	default:
		run->once = true;
		return true;
	}
}

/* Where guests come from: the argument, --fd or the service manager, exactly one of them. */
static int choose_socket(struct virtiofs_run *run, const struct cli_command *command, int argc,
			 char **argv)
{
	struct error err;
	int given = argc - optind;

	if (given == 0 && run->fd < 0) {
		size_t count;
		int r = service_manager_sockets(&run->fd, 1, &count, &err);

		if (r < 0) {
			return cli_fail(&err);
		}
	}
	if (given + (run->fd >= 0) != 1) {
		return cli_usage(command, "one socket is needed: a path, or --fd");
	}
	run->path = given ? argv[optind] : NULL;
	return EXIT_CODE_OK;
}

static int run_virtiofs(struct cli *cli, const struct cli_command *command, int argc,
			char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS,
		SERVE_LONG_OPTIONS,
		{"once", no_argument, NULL, ONCE},
		{"fd", required_argument, NULL, FD},
		{"socket-mode", required_argument, NULL, SOCKET_MODE},
		{"socket-owner", required_argument, NULL, SOCKET_OWNER},
		{"socket-group", required_argument, NULL, SOCKET_GROUP},
		{"sandbox", required_argument, NULL, SANDBOX},
		{0}};
	struct virtiofs_run run = {
		.cli = cli,
		.fd = -1,
		.socket = SOCKET_OPTIONS_DEFAULT,
	};
	int c, code;

	while ((c = serve_next_option(&run.serve, cli, command, argc, argv, CLI_SHORT_OPTIONS,
				      options, &code)) != -1) {
		if (c == CLI_OPTION_STOP) {
			return code;
		}
		if (!set_option(&run, command, c)) {
			return EXIT_CODE_USAGE;
		}
	}
	code = choose_socket(&run, command, argc, argv);
	if (code != EXIT_CODE_OK) {
		return code;
	}
	close_inherited(run.fd);
	service_manager_connect();
	return serve(&run);
}

static const char virtiofs_help[] =
	"Usage: cairn virtiofs [OPTION]... SOCKET\n"
	"       cairn virtiofs [OPTION]... --fd N\n"
	"\n"
	"Shows the trees of the store to virtual machines, read-only: a vhost-user\n"
	"device that QEMU, cloud-hypervisor and others connect to as their virtiofs.\n"
	"Serves any number of guests until it gets SIGINT, SIGTERM or SIGHUP. Guests\n"
	"mount it by the tag that their hypervisor is told.\n"
	"\n"
	"      --fd N          listen on this open socket instead; so does a socket that\n"
	"                      the service manager has opened, when SOCKET is left out\n"
	"      --once          end when the first guest has gone\n"
	"      --socket-mode MODE\n"
	"                      permissions of SOCKET, octal (default 600)\n"
	"      --socket-owner USER, --socket-group GROUP\n"
	"                      who owns SOCKET: a name or a number\n"
	"      --sandbox=full|none\n"
	"                      give up all rights but reading the store (the default),\n"
	"                      or keep them\n" SERVE_HELP
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n"
	"\n"
	"When guests can connect, a line on standard output says so, and with\n"
	"$NOTIFY_SOCKET set the service manager is told.\n";

const struct cli_command virtiofs_command = {
	.name = "virtiofs",
	.program = "cairn virtiofs",
	.help = virtiofs_help,
	.run = run_virtiofs,
};
