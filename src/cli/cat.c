/* cairn cat */

#include <errno.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/cli.h"
#include "cli/contents.h"

/* A reader that has seen enough is no fault worth a message, but the output is incomplete. */
static int write_output(void *context unused, struct bytes piece, struct error *err)
{
	if (write_full(STDOUT_FILENO, piece.ptr, piece.len) != 0) {
		return error_set_errno(err, errno, "cannot write to standard output");
	}
	return 0;
}

static int cat_one(struct store *store, const char *argument, struct error *err)
{
	struct root_node node cleanup(root_node_done) = {0};
	int r = cli_resolve(store, argument, true, &node, err);

	if (r < 0) {
		return r;
	}
	if (node.node.kind != NODE_FILE) {
		return error_set(err, ERROR_UNSUPPORTED, "%s: this is a %s, not a file",
				 bytes_printable(bytes_of_string(argument)),
				 node_kind_name(node.node.kind));
	}
	r = contents_read(store, &node.node, write_output, NULL, err);
	return r < 0 ? error_wrap(err, "%s", bytes_printable(bytes_of_string(argument))) : 0;
}

static int run_cat(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS, {0}};
	struct store store = {0};
	struct error err;
	int code;

	if (cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS, options, &code) !=
	    -1) {
		return code;
	}
	if (optind == argc) {
		return cli_usage(command, "a file is missing");
	}
	int r = cli_open_store(cli, STORE_READ_ONLY, &store, &err);

	widen_pipe(STDOUT_FILENO);
	for (int i = optind; r == 0 && i < argc; i++) {
		r = cat_one(&store, argv[i], &err);
	}
	store_close(&store);
	if (r < 0 && err.os_errno == EPIPE) {
		return EXIT_CODE_FAILURE;
	}
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static const char cat_help[] =
	"Usage: cairn cat ROOT/PATH...\n"
	"\n"
	"Writes files to standard output, one after the other. Every byte is checked\n"
	"before it is written. A bare digest stands for the file with this content.\n"
	"Symlinks are not followed.\n"
	"\n"
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n";

const struct cli_command cat_command = {
	.name = "cat",
	.program = "cairn cat",
	.help = cat_help,
	.run = run_cat,
};
