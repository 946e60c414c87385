/* cairn daemon */

#include "base/log.h"
#include "cli/cli.h"
#include "cli/daemon_listen.h"
#include "cli/json.h"
#include "cli/service_manager.h"
#include "cli/stop_signals.h"
#include "rpc/store_methods.h"
#include "rpc/token_table.h"

#define CLIENTS_MAX 100000
#define SECONDS_MAX 86400
#define TIMEOUT_SECONDS 60
#define DRAIN_SECONDS 10

struct daemon_run {
	struct cli *cli;
	struct daemon_listen listen;
	const char *token_file;
	struct rpc_token_table *tokens;
	unsigned threads, clients, timeout, drain;
	uint64_t memory;
	bool read_only;
	bool list;
};

static void stop_server(void *server)
{
	rpc_server_stop(server);
}

/* For whoever waits in a script. */
static void tell_listening(const struct daemon_run *run)
{
	for (size_t i = 0; i < run->listen.name_count; i++) {
		const char *name = run->listen.names[i];
		struct json j;

		if (run->cli->json) {
			json_begin(&j);
			json_bytes(&j, "listen", bytes_of_string(name));
			json_end(&j);
		} else {
			printf("listening on %s\n", name);
		}
	}
	/* A failure is seen at the end of the program. */
	(void)fflush(stdout);
}

static int serve_until_stopped(struct daemon_run *run, struct rpc_server *server,
			       const sigset_t *mask, struct error *err)
{
	int r = rpc_server_start(server, err);

	stop_signals_handle(stop_server, server, mask);
	if (r == 0) {
		tell_listening(run);
		service_manager_notify("READY=1");
		r = rpc_server_run(server, err);
		service_manager_notify("STOPPING=1");
	}
	stop_signals_forget();
	return r;
}

static int serve_store(struct daemon_run *run, struct store *store, struct error *err)
{
	struct store_methods methods;
	struct rpc_server *server = NULL;
	const struct rpc_server_options options = {
		.services = store_methods_services,
		.context = &methods,
		.threads = run->threads,
		.connections = run->clients,
		.timeout = (uint64_t)run->timeout * 1000,
		.drain = (uint64_t)run->drain * 1000,
		.memory_max = run->memory,
		.tokens = run->tokens,
	};
	sigset_t mask;

	store_methods_init(&methods, store);
	/* All threads block them, but this one, once there is something to stop. */
	stop_signals_block(&mask);
	int r = rpc_server_new(&options, &server, err);

	if (r == 0) {
		r = daemon_listen_open(&run->listen, server, err);
	}
	if (r == 0) {
		r = serve_until_stopped(run, server, &mask, err);
	}
	rpc_server_free(server);
	daemon_listen_close(&run->listen);
	store_methods_done(&methods);
	return r;
}

static int serve(struct daemon_run *run, struct error *err)
{
	struct store store = {0};
	int r = run->token_file ? token_table_read(run->token_file, &run->tokens, err) : 0;

	if (r == 0) {
		run->listen.rights = RPC_MAY_READ | (run->read_only ? 0 : RPC_MAY_WRITE) |
				     (run->list ? RPC_MAY_LIST : 0);
		r = cli_open_store(run->cli,
				   run->read_only ? STORE_READ_ONLY
						  : STORE_CREATE | STORE_LONG_LIVED,
				   &store, err);
	}
	if (r == 0) {
		r = serve_store(run, &store, err);
	}
	store_close(&store);
	token_table_free(run->tokens);
	return r;
}

enum {
	LISTEN = CLI_OPTION_OWN,
	SOCKET_MODE,
	SOCKET_OWNER,
	SOCKET_GROUP,
	ALLOW_UID,
	ALLOW_GID,
	TLS_CERT,
	TLS_KEY,
	CLIENT_CA,
	TOKEN_FILE,
	INSECURE,
	READ_ONLY,
	LIST,
	THREADS,
	MAX_CLIENTS,
	MAX_MEMORY,
	TIMEOUT,
	DRAIN,
};

static bool too_many(const struct cli_command *command, const char *option, size_t count,
		     size_t max)
{
	if (count < max) {
		return false;
	}
	cli_usage(command, "%s can be given %zu times", option, max);
	return true;
}

static bool add_listener(struct daemon_listen *l, const struct cli_command *command)
{
	if (too_many(command, "--listen", l->address_count, DAEMON_LISTENERS_MAX)) {
		return false;
	}
	l->addresses[l->address_count++] = optarg;
	return true;
}

static bool add_user(struct daemon_listen *l, const struct cli_command *command)
{
	return !too_many(command, "--allow-uid", l->user_count, DAEMON_PEERS_MAX) &&
	       socket_options_user(command, "--allow-uid", &l->users[l->user_count++]);
}

static bool add_group(struct daemon_listen *l, const struct cli_command *command)
{
	return !too_many(command, "--allow-gid", l->group_count, DAEMON_PEERS_MAX) &&
	       socket_options_group(command, "--allow-gid", &l->groups[l->group_count++]);
}

/* Who may come in. False after a usage message. */
static bool set_access(struct daemon_run *run, const struct cli_command *command, int c)
{
	struct daemon_listen *l = &run->listen;

	switch (c) {
	case SOCKET_MODE:
		return socket_options_mode(command, "--socket-mode", &l->socket.mode);
	case SOCKET_OWNER:
		return socket_options_user(command, "--socket-owner", &l->socket.owner);
	case SOCKET_GROUP:
		return socket_options_group(command, "--socket-group", &l->socket.group);
	case ALLOW_UID:
		return add_user(l, command);
	case ALLOW_GID:
		return add_group(l, command);
	case TLS_CERT:
		l->certificate = optarg;
		return true;
	case TLS_KEY:
		l->key = optarg;
		return true;
	case CLIENT_CA:
		l->client_ca = optarg;
		return true;
	case TOKEN_FILE:
		run->token_file = optarg;
		l->has_tokens = true;
		return true;
	default:
		l->insecure = true;
		return true;
	}
}

static bool set_option(struct daemon_run *run, const struct cli_command *command, int c)
{
	switch (c) {
	case LISTEN:
		return add_listener(&run->listen, command);
	case READ_ONLY:
		run->read_only = true;
		return true;
	case LIST:
		run->list = true;
		return true;
	case THREADS:
		return cli_parse_count(command, "--threads", optarg, RPC_SERVER_THREADS_MAX,
				       &run->threads);
	case MAX_CLIENTS:
		return cli_parse_count(command, "--max-clients", optarg, CLIENTS_MAX,
				       &run->clients);
	case MAX_MEMORY:
		return cli_parse_size(command, "--max-memory", optarg, RPC_SERVER_MEMORY_MIN,
				      &run->memory);
	case TIMEOUT:
		return cli_parse_count(command, "--timeout", optarg, SECONDS_MAX,
				       &run->timeout);
	case DRAIN:
		return cli_parse_count(command, "--drain", optarg, SECONDS_MAX, &run->drain);
	default:
		return set_access(run, command, c);
	}
}

/* What is given must make sense together. */
static int check_options(struct daemon_run *run, const struct cli_command *command)
{
	struct daemon_listen *l = &run->listen;
	struct error err;

	if (!l->certificate != !l->key || (l->client_ca && !l->certificate)) {
		return cli_usage(command, "TLS takes both --tls-cert and --tls-key");
	}
	if (service_manager_sockets(l->passed, DAEMON_LISTENERS_MAX, &l->passed_count, &err) <
	    0) {
		return cli_fail(&err);
	}
	if (l->address_count + l->passed_count == 0) {
		return cli_usage(command, "where to listen? --listen is missing");
	}
	return EXIT_CODE_OK;
}

static int run_daemon(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS,
		{"listen", required_argument, NULL, LISTEN},
		{"socket-mode", required_argument, NULL, SOCKET_MODE},
		{"socket-owner", required_argument, NULL, SOCKET_OWNER},
		{"socket-group", required_argument, NULL, SOCKET_GROUP},
		{"allow-uid", required_argument, NULL, ALLOW_UID},
		{"allow-gid", required_argument, NULL, ALLOW_GID},
		{"tls-cert", required_argument, NULL, TLS_CERT},
		{"tls-key", required_argument, NULL, TLS_KEY},
		{"client-ca", required_argument, NULL, CLIENT_CA},
		{"token-file", required_argument, NULL, TOKEN_FILE},
		{"insecure", no_argument, NULL, INSECURE},
		{"read-only", no_argument, NULL, READ_ONLY},
		{"list", no_argument, NULL, LIST},
		{"threads", required_argument, NULL, THREADS},
		{"max-clients", required_argument, NULL, MAX_CLIENTS},
		{"max-memory", required_argument, NULL, MAX_MEMORY},
		{"timeout", required_argument, NULL, TIMEOUT},
		{"drain", required_argument, NULL, DRAIN},
		{0}};
	struct daemon_run run = {
		.cli = cli,
		.listen = {.socket = SOCKET_OPTIONS_DEFAULT},
		.timeout = TIMEOUT_SECONDS,
		.drain = DRAIN_SECONDS,
	};
	struct error err;
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS, options,
				    &code)) != -1) {
		if (c == CLI_OPTION_STOP) {
			return code;
		}
		if (!set_option(&run, command, c)) {
			return EXIT_CODE_USAGE;
		}
	}
	if (optind < argc) {
		return cli_usage(command, "unexpected argument '%s'", argv[optind]);
	}
	code = check_options(&run, command);
	if (code != EXIT_CODE_OK) {
		return code;
	}
	return serve(&run, &err) < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static const char daemon_help[] =
	"Usage: cairn daemon --listen ADDRESS [OPTION]...\n"
	"\n"
	"Offers the store to others over gRPC, in the protocols of Tvix and snix and\n"
	"in one of its own, until it gets SIGINT, SIGTERM or SIGHUP. With --store,\n"
	"other commands use it as their store: grpc+unix://PATH,\n"
	"grpc+http://HOST:PORT, or grpc+https://HOST:PORT.\n"
	"\n"
	"      --listen ADDRESS  unix:PATH or tcp:IP:PORT (port 0: any that is free);\n"
	"                        may be given several times. Sockets that the service\n"
	"                        manager has opened are used too\n"
	"      --read-only       take no writes\n"
	"      --list            let names and store paths be listed\n"
	"\n"
	"Who may come in:\n"
	"      --socket-mode MODE\n"
	"                        permissions of Unix sockets, octal (default 600)\n"
	"      --socket-owner USER, --socket-group GROUP\n"
	"                        who owns Unix sockets: a name or a number\n"
	"      --allow-uid USER, --allow-gid GROUP\n"
	"                        on Unix sockets, only these; may be given several\n"
	"                        times\n"
	"      --tls-cert FILE, --tls-key FILE\n"
	"                        TLS on TCP, with this certificate and key (PEM)\n"
	"      --client-ca FILE  and only for clients with a certificate of this\n"
	"                        authority\n"
	"      --token-file FILE only calls with one of these tokens: a line each,\n"
	"                        TOKEN, or TOKEN read for one that may not write\n"
	"      --insecure        without TLS, or without knowing who it is, also on\n"
	"                        addresses that others can reach\n"
	"\n"
	"Limits:\n"
	"      --threads N       calls at the same time (default 64); more wait\n"
	"      --max-clients N   connections at the same time (default 1024)\n"
	"      --max-memory SIZE for messages of all clients together (default 2G); one\n"
	"                        message may have an eighth of it, up to 256M\n"
	"      --timeout SECONDS without progress that end a call (default 60)\n"
	"      --drain SECONDS   that calls have to end when the daemon is stopped\n"
	"                        (default 10)\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n"
	"\n"
	"When clients can connect, a line for each address on standard output says\n"
	"so, and with $NOTIFY_SOCKET set the service manager is told.\n";

const struct cli_command daemon_command = {
	.name = "daemon",
	.program = "cairn daemon",
	.help = daemon_help,
	.run = run_daemon,
};
