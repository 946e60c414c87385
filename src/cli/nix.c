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
	"  import        put files and trees into the store as store paths\n"
	"  copy          copy store paths from a Nix store on this machine\n"
	"  path-info     list store paths, and what is known of them\n"
	"  verify        check contents and signatures\n"
	"  sign          add signatures\n"
	"  remove        take store paths away\n"
	"  generate-key  make a key that signs\n"
	"\n"
	"A PATH is /nix/store/HASH-NAME or HASH-NAME.\n"
	"\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n";

static const struct cli_command *const commands[] = {
	&nix_import_command, &nix_copy_command,   &nix_path_info_command,    &nix_sign_command,
	&nix_verify_command, &nix_remove_command, &nix_generate_key_command, NULL,
};

const struct cli_command nix_command = {
	.name = "nix",
	.program = "cairn nix",
	.help = nix_help,
	.commands = commands,
	.run = cli_run_group,
};
