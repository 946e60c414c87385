/* cairn: the command line. Finds the subcommand; each has a file of its own. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "cli/cli.h"
#include "rpc/remote_store.h"

static const char main_help[] =
	"Usage: cairn COMMAND [OPTION]... [ARGUMENT]...\n"
	"\n"
	"Keeps files and directory trees in a content-addressed store, and shows them\n"
	"as a file system.\n"
	"\n"
	"Commands:\n"
	"  import    put files and directory trees into the store\n"
	"  roots     list, add and remove the names of trees\n"
	"  ls        list what a tree holds\n"
	"  cat       write files of a tree to standard output\n"
	"  du        show what trees cost, and what they share\n"
	"  export    write a tree back to disk\n"
	"  mount     show the store as a file system\n"
	"  umount    end a mount\n"
	"  upgrade   let this program go on with mounts of another version\n"
	"  virtiofs  show the store to virtual machines\n"
	"  daemon    offer the store to others over gRPC\n"
	"  push      copy trees to another store\n"
	"  pull      copy trees from another store\n"
	"  nar       write, read and look into archives of Nix; see 'cairn nar --help'\n"
	"  nix       keep store paths of Nix; 'cairn nix --help' lists how\n"
	"  config    check and show the configuration\n"
	"  fsck      check the store\n"
	"  gc        free what nothing in a store refers to\n"
	"  reindex   make the index of a store again\n"
	"  stats     show what a store consists of\n"
	"  version   print the version\n"
	"\n"
	"Options, before or after the command:\n"
	"      --store ADDRESS  the store (default: $CAIRN_STORE, else what the\n"
	"                       configuration says, else the directory cairn in\n"
	"                       $XDG_DATA_HOME or in ~/.local/share); a path, an\n"
	"                       address like file:///path or a name; see cairn(1)\n"
	"      --config FILE    the configuration, which names stores (default:\n"
	"                       $CAIRN_CONFIG, else cairn/config in $XDG_CONFIG_HOME\n"
	"                       or in ~/.config, else /etc/cairn/config)\n"
	"      --durability LEVEL\n"
	"                       full, batch or none: what is synced; see cairn(1)\n"
	"      --json           results as JSON, one object a line\n"
	"  -v, --verbose        more messages; twice: even more\n"
	"  -h, --help           this text; after a command: help on it\n"
	"\n"
	"A ROOT argument is NAME[/PATH] or DIGEST[/PATH]: the name of a tree (see\n"
	"'cairn roots') or the digest of a directory, and a path inside. A digest is\n"
	"'b3:' and base64, or 64 hexadecimal digits. NAME may be a store path of Nix,\n"
	"also with /nix/store/ before it.\n"
	"\n"
	"JSON: a name that is not UTF-8 has U+FFFD in place of the bytes that are not,\n"
	"and its true bytes stand next to it under the same key with \"_base64\".\n"
	"\n"
	"Exit status:\n"
	"  0  success                        5  the store or a part of it unreachable\n"
	"  1  other failure                  6  exists already\n"
	"  2  wrong usage, invalid argument  7  permission denied\n"
	"  3  not found                      8  no space left\n"
	"  4  corrupt data                   9  source changed while it was read\n"
	"  10  damage found and repaired     130  interrupted\n";

static int run_version(struct cli *cli, const struct cli_command *command, int argc,
		       char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS, {0}};
	int code;

	if (cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS, options, &code) !=
	    -1) {
		return code;
	}
	if (optind < argc) {
		return cli_usage(command, "unexpected argument '%s'", argv[optind]);
	}
	if (cli->json) {
		printf("{\"version\":\"%s\"}\n", CAIRN_VERSION);
	} else {
		printf("cairn %s\n", CAIRN_VERSION);
	}
	return EXIT_CODE_OK;
}

static const char version_help[] = "Usage: cairn version\n"
				   "\n"
				   "Prints the version.\n"
				   "\n"
				   "      --json     as JSON\n"
				   "  -h, --help     this text\n";

const struct cli_command version_command = {
	.name = "version",
	.program = "cairn version",
	.help = version_help,
	.run = run_version,
};

static const struct cli_command *const commands[] = {
	&import_command,  &roots_command, &ls_command,     &cat_command,     &du_command,
	&export_command,  &mount_command, &umount_command, &upgrade_command, &virtiofs_command,
	&daemon_command,  &push_command,  &pull_command,   &nar_command,     &nix_command,
	&config_command,  &stats_command, &fsck_command,   &gc_command,      &reindex_command,
	&version_command, NULL,
};

/* For messages about the options before the command. */
static const struct cli_command main_command = {
	.name = "",
	.program = "cairn",
	.help = main_help,
	.commands = commands,
};

/*
 * Without these, the store's files would get the numbers of standard streams, and messages
 * would go into them. Reading stands for "closed" where writing is meant: it fails.
 */
static void occupy_standard_streams(void)
{
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
			int got = open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);

			(void)got;
		}
	}
}

/* Results that did not get out are a failure, also when only the last flush shows it. */
static int finish_output(int code)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout)) {
		return code;
	}
	if (code == EXIT_CODE_OK) {
		struct error err;

		error_set_errno(&err, errno ? errno : EIO, "cannot write to standard output");
		/* A reader that has seen enough, as head does, wants no message. */
		code = errno == EPIPE ? EXIT_CODE_FAILURE : cli_fail(&err);
	}
	return code;
}

static int run_main(int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS, {"version", no_argument, NULL, CLI_OPTION_OWN}, {0}};
	static char program[] = "cairn";
	struct cli cli = {0};
	int c, code = EXIT_CODE_OK;

	if (argc > 0) {
		argv[0] = program;
	}
	while ((c = cli_next_option(&cli, &main_command, argc, argv, "+" CLI_SHORT_OPTIONS,
				    options, &code)) != -1) {
		if (c == CLI_OPTION_OWN) {
			printf("cairn %s\n", CAIRN_VERSION);
		}
		return code;
	}
	bool help = optind < argc && strcmp(argv[optind], "help") == 0;

	optind += help;
	cli.help = help;
	if (optind >= argc) {
		fputs(main_help, help ? stdout : stderr);
		return help ? EXIT_CODE_OK : EXIT_CODE_USAGE;
	}
	return cli_run_command(&cli, &main_command, argc - optind, argv + optind);
}

int main(int argc, char **argv)
{
	occupy_standard_streams();
	/* Deep trees, many packs: as many as the system allows. */
	raise_open_file_limit();
	remote_store_add_schemes();
	/* A closed pipe is an error like any other, of stdout and of sockets. */
	signal(SIGPIPE, SIG_IGN);
	return finish_output(run_main(argc, argv));
}
