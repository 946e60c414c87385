/* cairn config */

#include "cli/cli.h"
#include "cli/json.h"
#include "services/store_config.h"

static void print_store(const struct cli *cli, const struct store_definition *d,
			bool is_default)
{
	struct json j;

	if (!cli->json) {
		printf("%s\t%s%s\n", d->name, d->address, is_default ? "\t(default)" : "");
		return;
	}
	json_begin(&j);
	json_text(&j, "name", d->name);
	json_bytes(&j, "address", bytes_of_string(d->address));
	json_number(&j, "line", d->line);
	json_bool(&j, "default", is_default);
	json_end(&j);
}

/* Also the stores that this one consists of, as far as that can be told without opening any. */
static int show_store(const struct cli *cli, const struct store_definition *d,
		      struct error *err)
{
	const char *chosen = store_config_default(store_config_used());
	struct store_needs needs cleanup(store_needs_done) = {0};
	int rc = store_needs(d->name, &needs, err);

	if (rc == 0) {
		print_store(cli, d, chosen && strcmp(chosen, d->name) == 0);
	}
	return rc;
}

static int show_all(const struct cli *cli)
{
	const struct store_config *c = store_config_used();
	int code = EXIT_CODE_OK;
	struct error err;

	for (size_t i = 0; i < store_config_count(c); i++) {
		if (show_store(cli, store_config_at(c, i), &err) < 0) {
			code = cli_fail(&err);
		}
	}
	return code;
}

static int show_named(const struct cli *cli, const char *name)
{
	const struct store_definition *d = store_config_find(store_config_used(), name);
	struct error err;
	int rc;

	if (d) {
		rc = show_store(cli, d, &err);
	} else {
		rc = error_set(&err, ERROR_NOT_FOUND, "%s has no [store %s]",
			       store_config_file(store_config_used()),
			       bytes_printable(bytes_of_string(name)));
	}
	return rc < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static int run_config(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS, {0}};
	int code = EXIT_CODE_OK;

	if (cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS, options, &code) !=
	    -1) {
		return code;
	}
	if (!store_config_used()) {
		struct error err;

		error_set(&err, ERROR_NOT_FOUND,
			  "there is no configuration: no --config, no $CAIRN_CONFIG, no file "
			  "in the usual places");
		return cli_fail(&err);
	}
	if (optind >= argc) {
		return show_all(cli);
	}
	for (int i = optind; i < argc; i++) {
		int one = show_named(cli, argv[i]);

		code = code == EXIT_CODE_OK ? one : code;
	}
	return code;
}

static const char config_help[] =
	"Usage: cairn config [NAME]...\n"
	"\n"
	"Checks the configuration, and shows the stores that it names, or those given,\n"
	"each with the address that its name stands for. No store is opened: whether a\n"
	"peer answers is not known.\n"
	"\n"
	"The configuration is the file given with --config, else $CAIRN_CONFIG, else\n"
	"cairn/config in $XDG_CONFIG_HOME or ~/.config, else /etc/cairn/config.\n"
	"\n"
	"      --json     the stores as JSON\n"
	"      --config, --store, -v, -h: see 'cairn --help'\n";

const struct cli_command config_command = {
	.name = "config",
	.program = "cairn config",
	.help = config_help,
	.run = run_config,
};
