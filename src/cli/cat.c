/* cairn cat */

#include <errno.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/cli.h"

#define PIECE ((size_t)1 << 20)

/* A reader that has seen enough is no fault worth a message, but the output is incomplete. */
static int write_output(const void *data, size_t len, struct error *err)
{
	if (write_full(STDOUT_FILENO, data, len) != 0) {
		return error_set_errno(err, errno, "cannot write to standard output");
	}
	return 0;
}

static int copy_blob(struct blob_reader *in, struct error *err)
{
	uint8_t *buffer cleanup(cleanup_free) = xmalloc(PIECE);
	uint64_t at = 0;
	size_t got;

	for (;;) {
		int r = blob_reader_pread(in, buffer, PIECE, at, &got, err);

		if (r < 0 || got == 0) {
			return r;
		}
		r = write_output(buffer, got, err);
		if (r < 0) {
			return r;
		}
		at += got;
	}
}

static int cat_one(struct store *store, const char *argument, struct error *err)
{
	struct root_node node cleanup(root_node_done) = {0};
	struct blob_reader *in cleanup(cleanup_blob_reader) = NULL;
	int r = cli_resolve(store, argument, true, &node, err);

	if (r < 0) {
		return r;
	}
	if (node.node.kind != NODE_FILE) {
		return error_set(err, ERROR_UNSUPPORTED, "%s: this is a %s, not a file",
				 bytes_printable(bytes_of_string(argument)),
				 node_kind_name(node.node.kind));
	}
	r = blob_service_open(store->blobs, &node.node.digest, &in, err);
	if (r == 0) {
		r = error_set(err, ERROR_UNAVAILABLE, "the blob %s is not in the store",
			      digest_text(&node.node.digest));
	}
	if (r > 0 && blob_reader_size(in) != node.node.size) {
		r = error_set(err, ERROR_CORRUPT,
			      "the blob %s does not have the size that its directory says",
			      digest_text(&node.node.digest));
	}
	if (r > 0) {
		r = copy_blob(in, err);
	}
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
