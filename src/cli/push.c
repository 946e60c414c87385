/* cairn push and cairn pull */

#include <inttypes.h>
#include <stdlib.h>

#include "cli/json.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/shipment.h"

struct push_run {
	struct cli *cli;
	const struct cli_command *command;
	const char *peer; /* the other store */
	const char *as;
	bool pull;
	bool all;
	bool quiet;
	struct shipment_options options;
	struct transfer_stats stats;
	struct shipment shipment;
};

/* "pushed", "pulled" */
static const char *verb(const struct push_run *run)
{
	return run->pull ? "pulled" : "pushed";
}

static struct bytes name_of(const struct shipment_item *item)
{
	return item->name ? bytes_of_string(item->name) : bytes_of(NULL, 0);
}

static void print_item(void *context, const struct shipment_item *item)
{
	const struct push_run *run = context;
	struct json j;

	if (!run->cli->json) {
		return;
	}
	json_begin(&j);
	if (item->is_path) {
		json_text(&j, "path", store_path_text(&item->info.path));
	} else if (item->name) {
		json_bytes(&j, "name", name_of(item));
	}
	json_node(&j, &item->node.node);
	json_bool(&j, "copied", item->state == SHIPMENT_COPIED);
	json_end(&j);
	(void)fflush(stdout);
}

static void print_summary(const struct push_run *run)
{
	const struct transfer_stats *stats = &run->stats;
	size_t counts[SHIPMENT_COPIED + 1] = {0};

	if (run->cli->json) {
		return;
	}
	for (size_t i = 0; i < run->shipment.count; i++) {
		counts[run->shipment.items[i].state]++;
	}
	printf("%zu %s, %zu were there already: %" PRIu64 " objects copied, %s; %" PRIu64
	       " objects were there\n",
	       counts[SHIPMENT_COPIED], verb(run), counts[SHIPMENT_PRESENT],
	       (uint64_t)stats->objects, progress_size(stats->bytes), (uint64_t)stats->present);
}

static int send_shipment(struct push_run *run, struct error *err)
{
	struct progress progress = {.verb = verb(run),
				    .noun = "objects",
				    .files = &run->stats.objects,
				    .bytes = &run->stats.bytes};

	progress_start(&progress, !run->quiet);
	int r = shipment_send(&run->shipment, &run->options, err);

	progress_stop(&progress);
	return r;
}

static int push_between(struct push_run *run, const char *here, char **roots, size_t count,
			struct error *err)
{
	struct shipment *s = &run->shipment;
	const char *from = run->pull ? run->peer : here, *to = run->pull ? here : run->peer;
	int r = shipment_open(s, run->cli, from, to, err);

	if (r == 0 && run->all) {
		r = shipment_add_all(s, err);
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = shipment_add(s, roots[i], run->as, err);
	}
	if (r == 0) {
		run->options.transfer.cancel = cli_catch_interrupts();
		r = send_shipment(run, err);
	}
	if (r == 0) {
		print_summary(run);
	}
	return r;
}

static int push(struct push_run *run, char **roots, size_t count)
{
	char *here cleanup(cleanup_free) = cli_store_address(run->cli);
	struct error err;

	run->options.transfer.stats = &run->stats;
	run->options.arrived = print_item;
	run->options.context = run;
	int r = push_between(run, here, roots, count, &err);

	shipment_close(&run->shipment);
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static int check_arguments(struct push_run *run, size_t count)
{
	const char *remote = getenv("CAIRN_REMOTE");

	if (!run->peer && remote && remote[0]) {
		run->peer = remote;
	}
	if (!run->peer) {
		return cli_usage(run->command,
				 "%s is needed: neither it nor $CAIRN_REMOTE is set",
				 run->pull ? "--from" : "--to");
	}
	if (run->all && (count || run->as)) {
		return cli_usage(run->command, "--all goes without roots and without --as");
	}
	if (!run->all && !count) {
		return cli_usage(run->command, "a root is missing");
	}
	if (run->as && count > 1) {
		return cli_usage(run->command, "--as goes with one root");
	}
	return EXIT_CODE_OK;
}

enum { TO = CLI_OPTION_OWN, FROM, AS, ALL, REPLACE, CHECK, JOBS };

#define COMMON_OPTIONS                                                                        \
	{"as", required_argument, NULL, AS}, {"all", no_argument, NULL, ALL},                 \
		{"replace", no_argument, NULL, REPLACE}, {"check", no_argument, NULL, CHECK}, \
		{"jobs", required_argument, NULL, JOBS},                                      \
	{                                                                                     \
		"quiet", no_argument, NULL, 'q'                                               \
	}

static int run_with_options(struct push_run *run, const struct option *options, int argc,
			    char **argv)
{
	int c, code;

	while ((c = cli_next_option(run->cli, run->command, argc, argv, CLI_SHORT_OPTIONS "q",
				    options, &code)) != -1) {
		switch (c) {
		case TO:
		case FROM:
			run->peer = optarg;
			break;
		case AS:
			run->as = optarg;
			break;
		case ALL:
			run->all = true;
			break;
		case REPLACE:
			run->options.replace = true;
			break;
		case CHECK:
			run->options.check = true;
			break;
		case JOBS:
			if (!cli_parse_count(run->command, "--jobs", optarg, TRANSFER_JOBS_MAX,
					     &run->options.transfer.jobs)) {
				return EXIT_CODE_USAGE;
			}
			break;
		case 'q':
			run->quiet = true;
			break;
		default:
			return code;
		}
	}
	code = check_arguments(run, (size_t)(argc - optind));
	return code ? code : push(run, argv + optind, (size_t)(argc - optind));
}

static int run_push(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS, COMMON_OPTIONS, {"to", required_argument, NULL, TO}, {0}};
	struct push_run run = {.cli = cli, .command = command};

	return run_with_options(&run, options, argc, argv);
}

static int run_pull(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS, COMMON_OPTIONS, {"from", required_argument, NULL, FROM}, {0}};
	struct push_run run = {
		.cli = cli, .command = command, .pull = true, .options.check_nars = true};

	return run_with_options(&run, options, argc, argv);
}

#define ROOT_HELP                                                                           \
	"ROOT is a name, with which the tree comes under the same name; a store path,\n"    \
	"which comes with all that it refers to and what is known of these; or, as for\n"   \
	"'cairn export', NAME/PATH or DIGEST[/PATH], which get no name.\n"                  \
	"\n"                                                                                \
	"Only what is missing is copied, and a name is given when all that it stands for\n" \
	"is there. After an interruption the same command goes on where it ended.\n"        \
	"\n"

#define COMMON_HELP                                                                          \
	"      --as NAME       the name that the tree gets, for one ROOT\n"                  \
	"      --all           all names and all store paths\n"                              \
	"      --replace       if a name stands for something else there, replace that\n"    \
	"      --check         look at every object, also of trees that are there by name\n" \
	"      --jobs N        copy N things at a time, 1 to 16 (default: 8)\n"              \
	"  -q, --quiet         no progress\n"                                                \
	"      --json          an object for each name and path\n"

static const char push_help[] =
	"Usage: cairn push [OPTION]... --to ADDRESS ROOT...\n"
	"\n"
	"Copies trees from the store to another one.\n" ROOT_HELP
	"      --to ADDRESS    the other store (default: $CAIRN_REMOTE)\n" COMMON_HELP
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n";

static const char pull_help[] =
	"Usage: cairn pull [OPTION]... --from ADDRESS ROOT...\n"
	"\n"
	"Copies trees from another store to the store, which is made when there is "
	"none.\n" ROOT_HELP
	"      --from ADDRESS  the other store (default: $CAIRN_REMOTE)\n" COMMON_HELP
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n";

const struct cli_command push_command = {
	.name = "push",
	.program = "cairn push",
	.help = push_help,
	.run = run_push,
};

const struct cli_command pull_command = {
	.name = "pull",
	.program = "cairn pull",
	.help = pull_help,
	.run = run_pull,
};
