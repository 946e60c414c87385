/* cairn upgrade */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/fd_message.h"
#include "cli/held.h"
#include "cli/holder_socket.h"
#include "cli/json.h"
#include "transports/mount_table.h"

/* A holder gives up earlier. */
#define PATIENCE_SECONDS 180

struct upgrade {
	const struct cli *cli;
	int program; /* this one */
};

static int exchange(int socket, int program, struct fd_message *answer, struct error *err)
{
	const struct timeval patience = {.tv_sec = PATIENCE_SECONDS};

	if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0) {
		return error_set_errno(err, errno, "cannot wait for an answer");
	}
	int rc = fd_message_send(socket, HELD_UPGRADE, 0, NULL, program, err);

	if (rc == 0) {
		rc = fd_message_receive(socket, answer, err);
	}
	if (rc > 0 && answer->fd >= 0) {
		close(answer->fd);
	}
	if (rc == 0) {
		return error_set(err, ERROR_UNAVAILABLE, "its holder has ended");
	}
	if (rc == -ERROR_WOULD_BLOCK) {
		return error_set(err, ERROR_TIMEOUT, "its holder does not answer");
	}
	return MIN(rc, 0);
}

static int upgrade_mount(const struct upgrade *u, const char *mountpoint, uint32_t *pid,
			 struct error *err)
{
	struct fd_message answer = {.fd = -1};
	int socket cleanup(cleanup_close) = -1;
	int rc = holder_socket_connect(mountpoint, &socket, err);

	if (rc == 0) {
		rc = error_set(
			err, ERROR_UNSUPPORTED,
			"it has no holder that could be asked (see --resilient of 'cairn "
			"mount')");
	}
	if (rc > 0) {
		rc = exchange(socket, u->program, &answer, err);
	}
	if (rc == 0 && answer.kind != HELD_UPGRADED) {
		rc = error_set(err, ERROR_UNSUPPORTED, "%s; it goes on as before", answer.text);
	}
	if (rc == 0) {
		*pid = answer.value;
	}
	return rc;
}

/* An exit code. */
static int upgrade_one(const struct upgrade *u, const char *mountpoint)
{
	uint32_t pid = 0;
	struct error err;

	if (upgrade_mount(u, mountpoint, &pid, &err) != 0) {
		error_wrap(&err, "cannot upgrade %s",
			   bytes_printable(bytes_of_string(mountpoint)));
		return cli_fail(&err);
	}
	if (u->cli->json) {
		struct json j;

		json_begin(&j);
		json_bytes(&j, "mountpoint", bytes_of_string(mountpoint));
		json_number(&j, "pid", pid);
		json_end(&j);
	} else {
		printf("%s\n", mountpoint);
	}
	return EXIT_CODE_OK;
}

static int upgrade_named(const struct upgrade *u, const char *path)
{
	/* Of a mount whose server is busy only the way to it is looked at. */
	char *mountpoint cleanup(cleanup_free) = realpath(path, NULL);
	struct error err;

	if (!mountpoint) {
		error_set_errno(&err, errno, "cannot upgrade %s",
				bytes_printable(bytes_of_string(path)));
		return cli_fail(&err);
	}
	return upgrade_one(u, mountpoint);
}

struct list {
	char **paths;
	size_t count;
};

/* Mounts of this user; root's are all. */
static void collect(void *context, const struct mount_table_entry *entry)
{
	struct list *l = context;

	if (strcmp(entry->type, "fuse.cairn") == 0 &&
	    (geteuid() == 0 || geteuid() == entry->owner)) {
		l->paths = xrealloc(l->paths, (l->count + 1) * sizeof(*l->paths));
		l->paths[l->count++] = xstrdup(entry->path);
	}
}

static int upgrade_all(const struct upgrade *u)
{
	struct list list = {.count = 0};
	struct error err;
	int code = mount_table_read(collect, &list, &err) != 0 ? cli_fail(&err) : EXIT_CODE_OK;

	for (size_t i = 0; i < list.count; i++) {
		int one = upgrade_one(u, list.paths[i]);

		code = code ? code : one;
		free(list.paths[i]);
	}
	free(list.paths);
	return code;
}

static int run_upgrade(struct cli *cli, const struct cli_command *command, int argc,
		       char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS, {"all", no_argument, NULL, 'a'}, {0}};
	int program cleanup(cleanup_close) = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	const struct upgrade u = {.cli = cli, .program = program};
	bool all = false;
	struct error err;
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "a", options,
				    &code)) != -1) {
		if (c != 'a') {
			return code;
		}
		all = true;
	}
	if (all ? optind < argc : optind == argc) {
		return cli_usage(command, "either directories or --all");
	}
	if (program < 0) {
		error_set_errno(&err, errno, "cannot open this program");
		return cli_fail(&err);
	}
	if (all) {
		return upgrade_all(&u);
	}
	code = EXIT_CODE_OK;
	for (int i = optind; i < argc; i++) {
		int one = upgrade_named(&u, argv[i]);

		code = code ? code : one;
	}
	return code;
}

static const char upgrade_help[] =
	"Usage: cairn upgrade [OPTION]... DIR...\n"
	"       cairn upgrade [OPTION]... --all\n"
	"\n"
	"Lets this program serve the mounts on DIR, which go on: files stay open, and\n"
	"what is being read is. Only for mounts that 'cairn mount' keeps alive (see its\n"
	"--resilient), by who made them or by root. A program that cannot go on with a\n"
	"mount is refused, and the one before stays. Prints what was upgraded.\n"
	"\n"
	"  -a, --all      all mounts of this user; of everybody, for root\n"
	"      --json, -v, -h: see 'cairn --help'\n";

const struct cli_command upgrade_command = {
	.name = "upgrade",
	.program = "cairn upgrade",
	.help = upgrade_help,
	.run = run_upgrade,
};
