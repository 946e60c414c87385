/* cairn nar cat */

#include <errno.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/cli.h"
#include "cli/nar_file.h"
#include "nix/nar_reader.h"

static int copy_content(struct nar_reader *reader, struct error *err)
{
	struct bytes piece;
	int r;

	while ((r = nar_reader_content(reader, &piece, err)) > 0) {
		if (write_full(STDOUT_FILENO, piece.ptr, piece.len) != 0) {
			return error_set_errno(err, errno, "cannot write to standard output");
		}
	}
	return r;
}

/* To the end, also when the file was seen: only then it is known to be one of a NAR. */
static int cat(struct nar_reader *reader, struct bytes wanted, struct error *err)
{
	bool found = false;
	struct nar_item item;
	int r;

	while ((r = nar_reader_next(reader, &item, err)) > 0) {
		if (item.event == NAR_DIRECTORY_END ||
		    !bytes_equal(nar_reader_path(reader), wanted)) {
			continue;
		}
		if (item.event != NAR_FILE) {
			return error_set(err, ERROR_UNSUPPORTED, "%s: this is a %s, not a file",
					 wanted.len ? bytes_printable(wanted) : "the NAR",
					 item.event == NAR_SYMLINK ? "symlink" : "directory");
		}
		found = true;
		r = copy_content(reader, err);
		if (r < 0) {
			return r;
		}
	}
	if (r == 0 && !found) {
		r = error_set(err, ERROR_NOT_FOUND, "%s: not in the NAR",
			      bytes_printable(wanted));
	}
	return r;
}

static int cat_file(const char *path, const char *wanted, struct error *err)
{
	struct buffer clean cleanup(buffer_done) = {0};
	struct nar_file file;
	int r = nar_file_open(&file, path, cli_catch_interrupts(), err);

	if (r == 0) {
		struct nar_reader *reader cleanup(cleanup_nar_reader) =
			nar_reader_new(&file.source.base);

		cli_clean_path(&clean, wanted ? wanted : "");
		r = nar_file_result(&file, cat(reader, buffer_bytes(&clean), err), err);
	}
	nar_file_close(&file);
	return r;
}

static int run_cat(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS, {0}};
	struct error err;
	int code;

	if (cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS, options, &code) !=
	    -1) {
		return code;
	}
	if (argc - optind != 1 && argc - optind != 2) {
		return cli_usage(command, "a file is needed, and at most one path");
	}
	int r = cat_file(argv[optind], argv[optind + 1], &err);

	/* A reader that has seen enough is no fault worth a message. */
	if (r < 0 && err.os_errno == EPIPE) {
		return EXIT_CODE_FAILURE;
	}
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static const char cat_help[] =
	"Usage: cairn nar cat FILE [PATH]\n"
	"\n"
	"Writes the file PATH of a NAR to standard output; without a PATH, that of a NAR\n"
	"which is of a single file. No store is needed; FILE '-' is standard input.\n"
	"Symlinks are not followed. Nothing vouches for the content: the NAR is checked\n"
	"for being one, to its end, but not against a hash.\n"
	"\n"
	"  -v, -h: see 'cairn --help'\n";

const struct cli_command nar_cat_command = {
	.name = "cat",
	.program = "cairn nar cat",
	.help = cat_help,
	.run = run_cat,
};
