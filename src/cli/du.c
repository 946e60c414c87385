/* cairn du */

#include <inttypes.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/store_names.h"
#include "services/usage.h"

struct du {
	struct cli *cli;
	struct store store;
	struct usage *usage;
	unsigned depth;
	bool human;
	bool escape;
	char end; /* of a line */
	bool stored;
	bool several;
	uint64_t missing;
};

/* Of what is counted as shared or not: the room, where the store knows it. */
static uint64_t cost(const struct du *du, const struct usage_amount *a)
{
	return du->stored ? a->stored : a->content;
}

static void print_size(const struct du *du, uint64_t size)
{
	if (du->human) {
		printf("%11s ", progress_size(size));
	} else {
		printf("%14" PRIu64 " ", size);
	}
}

static void print_text(const struct du *du, struct bytes path, const struct usage_figures *f)
{
	uint64_t all = cost(du, &f->all), only = cost(du, &f->only);

	print_size(du, f->size);
	print_size(du, f->all.content);
	if (du->stored) {
		print_size(du, f->all.stored);
	}
	print_size(du, all - MIN(only, all));
	print_size(du, only);
	printf("%9" PRIu64 "  ", f->all.objects);
	output_name(path, du->escape);
	putchar(du->end);
}

static void print_heading(const struct du *du)
{
	int width = du->human ? 11 : 14;

	if (du->cli->json || du->end != '\n') {
		return;
	}
	printf("%*s %*s ", width, "SIZE", width, "DISTINCT");
	if (du->stored) {
		printf("%*s ", width, "STORED");
	}
	printf("%*s %*s   OBJECTS  NAME\n", width, "SHARED", width, "ONLY");
}

/* Without a path, the total. */
static void print_json(const struct du *du, struct bytes path, const struct usage_figures *f)
{
	uint64_t all = cost(du, &f->all), only = cost(du, &f->only);
	struct json j;

	json_begin(&j);
	if (path.len) {
		json_bytes(&j, "path", path);
	} else {
		json_bool(&j, "total", true);
	}
	json_number(&j, "size", f->size);
	json_number(&j, "distinct", f->all.content);
	if (du->stored) {
		json_number(&j, "stored", f->all.stored);
	}
	json_number(&j, "shared", all - MIN(only, all));
	json_number(&j, "only", only);
	json_number(&j, "objects", f->all.objects);
	json_number(&j, "only_objects", f->only.objects);
	json_number(&j, "missing", f->all.missing);
	json_end(&j);
}

static bool print_line(void *context, struct bytes path, const struct usage_figures *f)
{
	struct du *du = context;

	if (path.len == 0) {
		du->missing = f->all.missing;
		if (!du->several) {
			return true;
		}
	}
	if (du->cli->json) {
		print_json(du, path, f);
	} else {
		print_text(du, path.len ? path : bytes_of_string("total"), f);
	}
	return !ferror(stdout);
}

static int ask(struct du *du, const char *argument, struct error *err)
{
	struct buffer name cleanup(buffer_done) = {0}, path cleanup(buffer_done) = {0};
	struct root_node node cleanup(root_node_done) = {0};
	int r = cli_resolve_parts(&du->store, argument, &name, &path, &node, err);

	if (r == 0) {
		usage_ask(du->usage, buffer_bytes(&name), buffer_bytes(&path), &node.node);
	}
	return r;
}

static int walk(struct du *du, const struct store_names *names, char **arguments, size_t count,
		struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		r = ask(du, arguments[i], err);
	}
	for (size_t i = 0; count == 0 && i < names->count; i++) {
		usage_ask(du->usage, buffer_bytes(&names->items[i].name), (struct bytes){0},
			  &names->items[i].node.node);
	}
	if (r == 0) {
		r = usage_walk(du->usage, du->depth, err);
	}
	for (size_t i = 0; r == 0 && i < names->count; i++) {
		r = usage_walk_name(du->usage, buffer_bytes(&names->items[i].name),
				    &names->items[i].node.node, err);
	}
	return r;
}

static int show(struct du *du, char **arguments, size_t count, struct error *err)
{
	struct store_names names cleanup(store_names_done) = {0};
	int r = cli_open_store(du->cli, STORE_READ_ONLY, &du->store, err);

	if (r == 0) {
		r = store_names_add_roots(&names, &du->store, err);
	}
	if (r == 0) {
		r = store_names_add_paths(&names, &du->store, err);
	}
	if (r == 0) {
		du->usage = usage_new(&du->store);
		du->stored = usage_knows_stored(du->usage);
		du->several = count > 1 || (count == 0 && names.count > 1);
		r = walk(du, &names, arguments, count, err);
	}
	if (r == 0) {
		print_heading(du);
		r = usage_each(du->usage, print_line, du, err);
	}
	usage_free(du->usage);
	store_close(&du->store);
	if (r == 0 && du->missing) {
		r = error_set(err, ERROR_UNAVAILABLE,
			      "%" PRIu64 " objects of these trees are not in the store",
			      du->missing);
	}
	return r;
}

enum { HUMAN = CLI_OPTION_OWN };

static int run_du(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS,
						{"bytes", no_argument, NULL, 'b'},
						{"human", no_argument, NULL, HUMAN},
						{"max-depth", required_argument, NULL, 'd'},
						{"null", no_argument, NULL, '0'},
						{0}};
	struct du du = {.cli = cli, .end = '\n'};
	struct error err;
	int c, code;

	du.human = du.escape = output_to_terminal();
	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "bd:0", options,
				    &code)) != -1) {
		switch (c) {
		case 'b':
			du.human = false;
			break;
		case HUMAN:
			du.human = true;
			break;
		case 'd':
			if (strcmp(optarg, "0") != 0 &&
			    !cli_parse_count(command, "--max-depth", optarg, UINT16_MAX,
					     &du.depth)) {
				return EXIT_CODE_USAGE;
			}
			break;
		case '0':
			du.end = '\0';
			du.escape = false;
			break;
		default:
			return code;
		}
	}
	return show(&du, argv + optind, (size_t)(argc - optind), &err) < 0 ? cli_fail(&err)
									   : EXIT_CODE_OK;
}

static const char du_help[] =
	"Usage: cairn du [OPTION]... [ROOT[/PATH]]...\n"
	"\n"
	"Shows what trees cost; without an argument, each tree that has a name. The\n"
	"columns:\n"
	"  SIZE      of all files, as an export writes them\n"
	"  DISTINCT  the same content counted once, and with the directories\n"
	"  STORED    the room that this takes in the store\n"
	"  SHARED    of that, what other names of the store refer to as well\n"
	"  ONLY      of that, what nothing else refers to: what goes if this goes\n"
	"  OBJECTS   different files and directories\n"
	"\n"
	"  -b, --bytes        sizes in bytes (default unless on a terminal)\n"
	"      --human        sizes with units (default on a terminal)\n"
	"  -d, --max-depth N  also the directories down to N below each argument\n"
	"  -0, --null         end lines with a NUL byte, without the heading\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n"
	"\n"
	"Exits with 5 when a tree is not complete in the store.\n";

const struct cli_command du_command = {
	.name = "du",
	.program = "cairn du",
	.help = du_help,
	.run = run_du,
};
