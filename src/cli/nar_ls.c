/* cairn nar ls */

#include <inttypes.h>

#include "cli/cli.h"
#include "cli/ls_options.h"
#include "cli/nar_file.h"
#include "cli/output.h"
#include "nix/nar_reader.h"

struct nar_ls {
	struct nar_file file;
	struct nar_reader *reader;
	struct buffer wanted; /* path of what is to be listed, empty: all */
	struct ls_options options;
	bool found;
};

static struct node node_of(const struct nar_item *item)
{
	static const enum node_kind kinds[] = {[NAR_FILE] = NODE_FILE,
					       [NAR_SYMLINK] = NODE_SYMLINK,
					       [NAR_DIRECTORY] = NODE_DIRECTORY};

	return (struct node){.kind = kinds[item->event],
			     .executable = item->executable,
			     .size = item->size,
			     .target = item->target};
}

/* offset is where the content begins in the NAR. */
static void print_json(const struct nar_ls *ls, struct bytes name, const struct node *node)
{
	struct json j;

	json_begin(&j);
	json_bytes(&j, "name", name);
	json_text(&j, "kind", node_kind_name(node->kind));
	if (node->kind == NODE_SYMLINK) {
		json_bytes(&j, "target", node->target);
	} else if (node->kind == NODE_FILE) {
		json_number(&j, "size", node->size);
		json_bool(&j, "executable", node->executable);
		json_number(&j, "offset", nar_reader_offset(ls->reader));
	}
	json_end(&j);
}

static void print_details(const struct node *node)
{
	if (node->kind == NODE_DIRECTORY) {
		printf("%s %12s ", output_mode(node), "-");
	} else {
		printf("%s %12" PRIu64 " ", output_mode(node), ls_size(node));
	}
}

static void print_text(const struct nar_ls *ls, struct bytes name, const struct node *node)
{
	if (ls->options.detailed) {
		print_details(node);
	}
	ls_print_name(&ls->options, name, node);
}

/*
 * True when the item is to be listed, by the name that is set: below a directory its path from
 * there, of anything else the path that was asked for.
 */
static bool is_listed(struct nar_ls *ls, const struct nar_item *item, struct bytes *name)
{
	struct bytes path = nar_reader_path(ls->reader), wanted = buffer_bytes(&ls->wanted);

	if (bytes_equal(path, wanted)) {
		ls->found = true;
		*name = path.len ? path : bytes_of_string(".");
		return item->event != NAR_DIRECTORY;
	}
	size_t skip = wanted.len ? wanted.len + 1 : 0;

	if (path.len <= skip || (skip && (memcmp(path.ptr, wanted.ptr, wanted.len) != 0 ||
					  path.ptr[wanted.len] != '/'))) {
		return false;
	}
	*name = bytes_of(path.ptr + skip, path.len - skip);
	return ls->options.recursive || !memchr(name->ptr, '/', name->len);
}

/* To the end, also when all was seen: only then it is known to be a NAR. */
static int list(struct nar_ls *ls, struct error *err)
{
	struct nar_item item;
	struct bytes name;
	int r;

	while ((r = nar_reader_next(ls->reader, &item, err)) > 0) {
		if (item.event == NAR_DIRECTORY_END || !is_listed(ls, &item, &name)) {
			continue;
		}
		struct node node = node_of(&item);

		(ls->options.json ? print_json : print_text)(ls, name, &node);
		/* Stops early when nobody reads any more: main() says so. */
		if (ferror(stdout)) {
			return error_set(err, ERROR_IO, "cannot write to standard output");
		}
	}
	if (r == 0 && !ls->found) {
		r = error_set(err, ERROR_NOT_FOUND, "%s: not in the NAR",
			      bytes_printable(buffer_bytes(&ls->wanted)));
	}
	return r;
}

static int list_file(struct nar_ls *ls, const char *path, const char *wanted)
{
	struct error err;
	int r = nar_file_open(&ls->file, path, cli_catch_interrupts(), &err);

	if (r == 0) {
		cli_clean_path(&ls->wanted, wanted ? wanted : "");
		ls->reader = nar_reader_new(&ls->file.source.base);
		r = nar_file_result(&ls->file, list(ls, &err), &err);
		nar_reader_free(ls->reader);
		buffer_done(&ls->wanted);
	}
	nar_file_close(&ls->file);
	return r < 0 && !ferror(stdout) ? cli_fail(&err) : EXIT_CODE_OK;
}

static int run_ls(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	struct nar_ls ls = {0};
	int code;

	if (!ls_options_parse(&ls.options, cli, command, argc, argv, &code)) {
		return code;
	}
	if (argc - optind != 1 && argc - optind != 2) {
		return cli_usage(command, "a file is needed, and at most one path");
	}
	return list_file(&ls, argv[optind], argv[optind + 1]);
}

static const char ls_help[] =
	"Usage: cairn nar ls [OPTION]... FILE [PATH]\n"
	"\n"
	"Lists what a NAR holds, or what is in the directory PATH of it. No store is\n"
	"needed; '-' is standard input.\n"
	"\n"
	"  -l, --long       also mode and size, and where symlinks point\n"
	"  -R, --recursive  also what is below, as paths\n"
	"  -0, --null       end lines with a NUL byte, for names with line feeds\n"
	"      --json       with the offset of each file's content in the NAR\n"
	"  -v, -h: see 'cairn --help'\n"
	"\n"
	"On a terminal, control characters in names are shown as \\xNN.\n";

const struct cli_command nar_ls_command = {
	.name = "ls",
	.program = "cairn nar ls",
	.help = ls_help,
	.run = run_ls,
};
