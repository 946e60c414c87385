/* cairn ls */

#include <inttypes.h>

#include "castore/directory.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/ls_options.h"
#include "cli/output.h"
#include "cli/store_names.h"

/* Trees of other programs may be deeper than what can be imported here. */
#define DEPTH_MAX 65536

struct ls {
	struct store store;
	struct ls_options options;
	struct buffer path; /* of the entry, below what was asked for */
};

/* A directory that is being listed, and what of the path leads to it. */
struct level {
	struct directory *directory;
	size_t next;
	size_t path_len;
};

struct levels {
	struct level *items;
	size_t count;
	size_t capacity;
};

static void print_json(const struct ls *ls, const struct node *node)
{
	struct json j;

	json_begin(&j);
	json_bytes(&j, "name", buffer_bytes(&ls->path));
	json_node(&j, node);
	json_end(&j);
}

static void print_text(const struct ls *ls, const struct node *node)
{
	if (ls->options.detailed) {
		printf("%s %12" PRIu64 " ", output_mode(node), ls_size(node));
		output_digest(node);
		putchar(' ');
	}
	ls_print_name(&ls->options, buffer_bytes(&ls->path), node);
}

/* Stops early when nobody reads any more: main() says so. */
static int print_entry(const struct ls *ls, const struct node *node, struct error *err)
{
	if (ls->options.json) {
		print_json(ls, node);
	} else {
		print_text(ls, node);
	}
	return ferror(stdout) ? error_set(err, ERROR_IO, "cannot write to standard output") : 0;
}

static int push_level(struct ls *ls, struct levels *l, const struct digest *digest,
		      struct error *err)
{
	struct directory *d;
	int r = l->count == DEPTH_MAX
			? error_set(err, ERROR_LIMIT,
				    "more than %d directories below each other", DEPTH_MAX)
			: directory_service_get(ls->store.directories, digest, &d, err);

	if (r == 0) {
		r = error_set(err, ERROR_UNAVAILABLE, "the directory %s is not in the store",
			      digest_text(digest));
	}
	if (r < 0) {
		return error_wrap(err, "%s", bytes_printable(buffer_bytes(&ls->path)));
	}
	if (l->count == l->capacity) {
		l->capacity = MAX(16, l->capacity * 2);
		l->items = xrealloc(l->items, l->capacity * sizeof(l->items[0]));
	}
	l->items[l->count++] = (struct level){.directory = d, .path_len = ls->path.len};
	return 0;
}

static void set_path(struct ls *ls, size_t len, struct bytes name)
{
	ls->path.len = len;
	if (len) {
		buffer_append_byte(&ls->path, '/');
	}
	buffer_append(&ls->path, name.ptr, name.len);
}

/* Prints the next entry of the innermost level, or ends the level. */
static int step(struct ls *ls, struct levels *l, struct error *err)
{
	struct level *level = &l->items[l->count - 1];
	struct directory_entry e;

	if (level->next == directory_count(level->directory)) {
		directory_unref(level->directory);
		l->count--;
		return 0;
	}
	directory_entry(level->directory, level->next++, &e);
	set_path(ls, level->path_len, e.name);
	int r = print_entry(ls, &e.node, err);

	if (r == 0 && ls->options.recursive && e.node.kind == NODE_DIRECTORY) {
		r = push_level(ls, l, &e.node.digest, err);
	}
	return r;
}

/* The entries of a directory, their paths continuing ls->path. */
static int list_directory(struct ls *ls, const struct digest *digest, struct error *err)
{
	struct levels l = {0};
	int r = push_level(ls, &l, digest, err);

	while (r == 0 && l.count) {
		r = step(ls, &l, err);
	}
	while (l.count) {
		directory_unref(l.items[--l.count].directory);
	}
	free(l.items);
	return r;
}

static int list_roots(struct ls *ls, struct error *err)
{
	struct store_names names cleanup(store_names_done) = {0};
	int r = store_names_add_roots(&names, &ls->store, err);

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		const struct node *node = &names.items[i].node.node;

		set_path(ls, 0, buffer_bytes(&names.items[i].name));
		r = print_entry(ls, node, err);
		if (r == 0 && ls->options.recursive && node->kind == NODE_DIRECTORY) {
			r = list_directory(ls, &node->digest, err);
		}
	}
	return r;
}

static int list_argument(struct ls *ls, const char *argument, struct error *err)
{
	struct root_node node cleanup(root_node_done) = {0};
	int r = cli_resolve(&ls->store, argument, false, &node, err);

	ls->path.len = 0;
	if (r == 0 && node.node.kind == NODE_DIRECTORY) {
		r = list_directory(ls, &node.node.digest, err);
	} else if (r == 0) {
		set_path(ls, 0, bytes_of_string(argument));
		r = print_entry(ls, &node.node, err);
	}
	return r;
}

static int list_all(struct cli *cli, struct ls *ls, char **arguments, size_t count)
{
	struct error err;
	int r = cli_open_store(cli, STORE_READ_ONLY, &ls->store, &err);

	if (r == 0 && count == 0) {
		r = list_roots(ls, &err);
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = list_argument(ls, arguments[i], &err);
	}
	store_close(&ls->store);
	buffer_done(&ls->path);
	/* Of a failing output main() tells. */
	return r < 0 && !ferror(stdout) ? cli_fail(&err) : EXIT_CODE_OK;
}

static int run_ls(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	struct ls ls = {0};
	int code;

	if (!ls_options_parse(&ls.options, cli, command, argc, argv, &code)) {
		return code;
	}
	return list_all(cli, &ls, argv + optind, (size_t)(argc - optind));
}

static const char ls_help[] =
	"Usage: cairn ls [OPTION]... [ROOT[/PATH]]...\n"
	"\n"
	"Lists what directories hold; without an argument, the names of trees.\n"
	"\n"
	"  -l, --long       also mode, size and digest, and where symlinks point; the\n"
	"                   size of a directory is the number of entries below it\n"
	"  -R, --recursive  also what is below, as paths\n"
	"  -0, --null       end lines with a NUL byte, for names with line feeds\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n"
	"\n"
	"On a terminal, control characters in names are shown as \\xNN.\n";

const struct cli_command ls_command = {
	.name = "ls",
	.program = "cairn ls",
	.help = ls_help,
	.run = run_ls,
};
