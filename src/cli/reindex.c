/* cairn reindex */

#include <inttypes.h>

#include "cli/cli.h"
#include "cli/json.h"

static void print_result(const struct cli *cli, const struct store_rebuilt *result)
{
	if (cli->json) {
		struct json j;

		json_begin(&j);
		json_number(&j, "blobs", result->blobs);
		json_number(&j, "directories", result->directories);
		json_number(&j, "roots", result->roots);
		json_number(&j, "path_infos", result->path_infos);
		json_number(&j, "damaged_bytes", result->damaged_bytes);
		json_end(&j);
		return;
	}
	printf("%" PRIu64 " blobs, %" PRIu64 " directories, %" PRIu64 " roots, %" PRIu64
	       " path infos\n",
	       result->blobs, result->directories, result->roots, result->path_infos);
	if (result->damaged_bytes) {
		printf("%" PRIu64 " bytes of packs are no whole object and were passed over\n",
		       result->damaged_bytes);
	}
}

static int run_reindex(struct cli *cli, const struct cli_command *command, int argc,
		       char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS, {0}};
	struct store_rebuilt result;
	struct error err;
	int code;

	if (cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS, options, &code) !=
	    -1) {
		return code;
	}
	if (optind < argc) {
		return cli_usage(command, "unexpected argument '%s'", argv[optind]);
	}
	char *address cleanup(cleanup_free) = cli_store_address(cli);

	if (!address) {
		return cli_usage(command, "no store: --store, $CAIRN_STORE or $HOME is needed");
	}
	if (store_rebuild(address, &result, &err) < 0) {
		return cli_fail(&err);
	}
	print_result(cli, &result);
	return EXIT_CODE_OK;
}

static const char reindex_help[] =
	"Usage: cairn reindex [--json]\n"
	"\n"
	"Makes the index of a store again from its packs and files, when it is lost or\n"
	"damaged. Every object is read and checked; what does not check is left out.\n"
	"Nothing else may use the store meanwhile, and the old index stays in place\n"
	"until the new one is complete.\n"
	"\n"
	"      --json     the counts as JSON\n"
	"      --store, -v, -h: see 'cairn --help'\n";

const struct cli_command reindex_command = {
	.name = "reindex",
	.program = "cairn reindex",
	.help = reindex_help,
	.run = run_reindex,
};
