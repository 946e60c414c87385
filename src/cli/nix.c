/* cairn nix: the store as the storage of a Nix store. Each of its commands has a file of its
 * own. */

#include "cli/cli.h"

static const char nix_help[] =
	"Usage: cairn nix COMMAND [OPTION]... [ARGUMENT]...\n"
	"\n"
	"Keeps store paths of Nix in the store: each has a path info, which says what\n"
	"Nix knows of the path, and a tree like any other.\n"
	"\n"
	"Commands:\n"
	"\n"
	"A PATH is /nix/store/HASH-NAME or HASH-NAME.\n"
	"\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n";

static const struct cli_command *const commands[] = {
	NULL,
};

const struct cli_command nix_command = {
	.name = "nix",
	.program = "cairn nix",
	.help = nix_help,
	.commands = commands,
	.run = cli_run_group,
};
