/* cairn roots */

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/output.h"

struct listing {
	bool json;
	bool escape;
};

static bool print_root(void *context, struct bytes name, const struct node *node)
{
	const struct listing *l = context;

	if (l->json) {
		struct json j;

		json_begin(&j);
		json_bytes(&j, "name", name);
		json_node(&j, node);
		json_end(&j);
	} else {
		output_digest(node);
		fputs("  ", stdout);
		output_name(name, l->escape);
		putchar('\n');
	}
	return !ferror(stdout);
}

static int list_roots(struct cli *cli, struct error *err)
{
	struct listing l = {.json = cli->json, .escape = output_to_terminal()};
	struct store store = {0};
	int r = cli_open_store(cli, STORE_READ_ONLY, &store, err);

	if (r == 0) {
		r = root_nodes_list(store.roots, (struct bytes){0}, print_root, &l, err);
	}
	store_close(&store);
	return r;
}

struct addition {
	const char *name;
	const char *target;
	bool file;
	bool executable;
	bool replace;
};

static int find_node(struct store *store, const struct addition *a, struct root_node *out,
		     struct error *err)
{
	int r = cli_resolve(store, a->target, a->file, out, err);

	if (r < 0 || !a->file) {
		return r;
	}
	if (out->node.kind != NODE_FILE) {
		return error_set(err, ERROR_UNSUPPORTED, "%s: this is a %s, not a file",
				 bytes_printable(bytes_of_string(a->target)),
				 node_kind_name(out->node.kind));
	}
	out->node.executable = out->node.executable || a->executable;
	return 0;
}

/*
 * A bare digest stands for a directory unless --file says otherwise: a file that was meant as a
 * directory would be found out late.
 */
static int check_kind(const struct addition *a, const struct node *node, struct error *err)
{
	if (node->kind == NODE_FILE && !a->file &&
	    digest_parse(&(struct digest){0}, bytes_of_string(a->target), NULL) == 0) {
		return error_set(err, ERROR_INVALID,
				 "%s: the store has a file with this digest, no directory; "
				 "--file names it",
				 a->target);
	}
	return 0;
}

static int add_root(struct cli *cli, const struct addition *a, struct error *err)
{
	struct root_node node cleanup(root_node_done) = {0};
	struct store store = {0};
	int r = node_name_check(bytes_of_string(a->name), err);

	if (r == 0) {
		r = cli_open_store(cli, 0, &store, err);
	}
	if (r == 0) {
		r = find_node(&store, a, &node, err);
	}
	if (r == 0) {
		r = check_kind(a, &node.node, err);
	}
	if (r == 0) {
		r = root_nodes_put(store.roots, bytes_of_string(a->name), &node.node,
				   a->replace, err);
		if (r == -ERROR_EXISTS) {
			error_wrap(err, "--replace is needed");
		}
	}
	store_close(&store);
	return r;
}

static int remove_roots(struct cli *cli, char **names, size_t count, struct error *err)
{
	struct store store = {0};
	int r = cli_open_store(cli, 0, &store, err);

	for (size_t i = 0; r >= 0 && i < count; i++) {
		r = root_nodes_remove(store.roots, bytes_of_string(names[i]), err);
		if (r == 0) {
			r = error_set(err, ERROR_NOT_FOUND, "there is no root named '%s'",
				      bytes_printable(bytes_of_string(names[i])));
		}
	}
	store_close(&store);
	return r;
}

static int dispatch(struct cli *cli, const struct cli_command *command, struct addition *a,
		    char **args, size_t count)
{
	const char *verb = count ? args[0] : "list";
	struct error err;
	int r;

	if (strcmp(verb, "list") == 0) {
		if (count > 1) {
			return cli_usage(command, "'roots list' takes no argument");
		}
		r = list_roots(cli, &err);
	} else if (strcmp(verb, "add") == 0) {
		if (count != 3) {
			return cli_usage(command, "'roots add' takes a name and a root");
		}
		a->name = args[1];
		a->target = args[2];
		r = add_root(cli, a, &err);
	} else if (strcmp(verb, "remove") == 0) {
		if (count < 2) {
			return cli_usage(command, "'roots remove' takes names");
		}
		r = remove_roots(cli, args + 1, count - 1, &err);
	} else {
		return cli_usage(command, "'%s' is neither list, add nor remove", verb);
	}
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

enum { FILE_ROOT = CLI_OPTION_OWN, EXECUTABLE, REPLACE };

static int run_roots(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS,
						{"file", no_argument, NULL, FILE_ROOT},
						{"executable", no_argument, NULL, EXECUTABLE},
						{"replace", no_argument, NULL, REPLACE},
						{"force", no_argument, NULL, REPLACE},
						{0}};
	struct addition a = {0};
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS, options,
				    &code)) != -1) {
		switch (c) {
		case FILE_ROOT:
			a.file = true;
			break;
		case EXECUTABLE:
			a.file = true;
			a.executable = true;
			break;
		case REPLACE:
			a.replace = true;
			break;
		default:
			return code;
		}
	}
	return dispatch(cli, command, &a, argv + optind, (size_t)(argc - optind));
}

static const char roots_help[] =
	"Usage: cairn roots [list]\n"
	"  or:  cairn roots add [OPTION]... NAME ROOT\n"
	"  or:  cairn roots remove NAME...\n"
	"\n"
	"Lists the names of trees in the store, with their digests; gives a name to\n"
	"something that is in the store; takes names away. What a name stood for stays\n"
	"in the store until 'cairn gc'.\n"
	"\n"
	"      --file        ROOT is a file: of a bare digest, take the file with this\n"
	"                    content\n"
	"      --executable  the same, and it may be executed\n"
	"      --replace, --force\n"
	"                    if the name stands for something else, replace that\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n";

const struct cli_command roots_command = {
	.name = "roots",
	.program = "cairn roots",
	.help = roots_help,
	.run = run_roots,
};
