/* cairn umount */

#include "cli/cli.h"
#include "transports/fuse_mount.h"

static int run_umount(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS, {"lazy", no_argument, NULL, 'l'}, {0}};
	bool lazy = false;
	struct error err;
	int c, code, r = 0;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "l", options,
				    &code)) != -1) {
		if (c != 'l') {
			return code;
		}
		lazy = true;
	}
	if (optind == argc) {
		return cli_usage(command, "a directory is missing");
	}
	for (int i = optind; r == 0 && i < argc; i++) {
		r = fuse_unmount(argv[i], lazy, &err);
	}
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static const char umount_help[] =
	"Usage: cairn umount [-l] DIR...\n"
	"\n"
	"Ends mounts.\n"
	"\n"
	"  -l, --lazy     also one that is in use: it disappears from the directory\n"
	"                 at once, and ends when nothing uses it any more\n"
	"  -v, -h: see 'cairn --help'\n";

const struct cli_command umount_command = {
	.name = "umount",
	.program = "cairn umount",
	.help = umount_help,
	.run = run_umount,
};
