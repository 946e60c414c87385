/* cairn nar: archives in Nix's format. Each of its commands has a file of its own. */

#include "cli/cli.h"

static const char nar_help[] =
	"Usage: cairn nar COMMAND [OPTION]... [ARGUMENT]...\n"
	"\n"
	"NARs: archives in the format of Nix, which a store writes and reads, and which\n"
	"can be looked into without a store.\n"
	"\n"
	"Commands:\n"
	"  dump     write the NAR of a tree to standard output\n"
	"  hash     print hash and size of the NAR of trees\n"
	"  import   put what a NAR holds into the store\n"
	"  restore  write what a NAR holds to disk, without a store\n"
	"  ls       list what a NAR holds, without a store\n"
	"  cat      write a file of a NAR to standard output, without a store\n"
	"\n"
	"FILE is a NAR, not compressed; '-' is standard input.\n"
	"\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n";

static const struct cli_command *const commands[] = {
	&nar_dump_command,
	&nar_hash_command,
	&nar_import_command,
	&nar_restore_command,
	&nar_ls_command,
	&nar_cat_command,
	NULL,
};

const struct cli_command nar_command = {
	.name = "nar",
	.program = "cairn nar",
	.help = nar_help,
	.commands = commands,
	.run = cli_run_group,
};
