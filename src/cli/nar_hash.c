/* cairn nar hash */

#include <inttypes.h>

#include "cli/cli.h"
#include "cli/nar_file.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "nix/nar_writer.h"

enum form { FORM_NIX32, FORM_BASE16, FORM_SRI };

struct hash_run {
	struct cli *cli;
	struct store store;
	enum form form;
	bool quiet;
	const atomic_bool *cancel;
};

static void print_hash(const struct hash *hash, enum form form)
{
	struct buffer text cleanup(buffer_done) = {0};
	char hex[HASH_HEX_MAX];

	switch (form) {
	case FORM_NIX32:
		hash_format(hash, &text);
		break;
	case FORM_BASE16:
		hash_format_hex(hash, hex);
		buffer_append_string(&text, hex);
		break;
	case FORM_SRI:
		hash_format_sri(hash, &text);
		break;
	}
	(void)fwrite(text.ptr, 1, text.len, stdout);
}

static void print_result(const struct hash_run *run, const char *root, const struct node *node,
			 const uint8_t sha256[SHA256_SIZE], uint64_t size)
{
	struct hash hash = hash_of_sha256(sha256);
	struct json j;

	if (run->cli->json) {
		json_begin(&j);
		json_bytes(&j, "root", bytes_of_string(root));
		json_node(&j, node);
		json_nar(&j, sha256, size);
		json_end(&j);
		return;
	}
	print_hash(&hash, run->form);
	printf(" %12" PRIu64 "  ", size);
	output_name(bytes_of_string(root), output_to_terminal());
	putchar('\n');
}

static int hash_root(struct hash_run *run, const char *root, struct error *err)
{
	struct root_node node cleanup(root_node_done) = {0};
	struct nar_stats stats = {0};
	struct nar_options options = {.cancel = run->cancel, .stats = &stats};
	struct progress progress = {
		.verb = "hashed", .files = &stats.files, .bytes = &stats.bytes};
	uint8_t sha256[SHA256_SIZE];
	uint64_t size;
	int r = cli_resolve(&run->store, root, false, &node, err);

	if (r < 0) {
		return r;
	}
	progress_start(&progress, !run->quiet);
	r = nar_hash(&run->store, &node.node, NULL, &options, &size, sha256, err);
	progress_stop(&progress);
	if (r < 0) {
		return error_wrap(err, "%s", bytes_printable(bytes_of_string(root)));
	}
	print_result(run, root, &node.node, sha256, size);
	return ferror(stdout) ? error_set(err, ERROR_IO, "cannot write to standard output") : 0;
}

static int hash_all(struct hash_run *run, char **roots, size_t count)
{
	struct error err;
	int r = cli_open_store(run->cli, STORE_READ_ONLY, &run->store, &err);

	run->cancel = cli_catch_interrupts();
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = hash_root(run, roots[i], &err);
	}
	store_close(&run->store);
	/* Of a failing output main() tells. */
	return r < 0 && !ferror(stdout) ? cli_fail(&err) : EXIT_CODE_OK;
}

/* False after a usage message. */
static bool set_form(struct hash_run *run, const struct cli_command *command)
{
	static const char *const words[] = {
		[FORM_NIX32] = "nix32", [FORM_BASE16] = "base16", [FORM_SRI] = "sri", NULL};
	int choice = cli_parse_choice(command, "--format", optarg, words);

	run->form = (enum form)choice;
	return choice >= 0;
}

enum { FORMAT = CLI_OPTION_OWN };

static int run_hash(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS,
						{"format", required_argument, NULL, FORMAT},
						{"quiet", no_argument, NULL, 'q'},
						{0}};
	struct hash_run run = {.cli = cli};
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "q", options,
				    &code)) != -1) {
		switch (c) {
		case FORMAT:
			if (!set_form(&run, command)) {
				return EXIT_CODE_USAGE;
			}
			break;
		case 'q':
			run.quiet = true;
			break;
		default:
			return code;
		}
	}
	if (optind == argc) {
		return cli_usage(command, "a root is missing");
	}
	return hash_all(&run, argv + optind, (size_t)(argc - optind));
}

static const char hash_help[] =
	"Usage: cairn nar hash [OPTION]... ROOT[/PATH]...\n"
	"\n"
	"Prints SHA-256 and size of the NAR of each tree, file or symlink: what Nix knows\n"
	"it by.\n"
	"\n"
	"      --format FORM  nix32 (sha256:NIXBASE32, the default), base16\n"
	"                     (sha256:HEX) or sri (sha256-BASE64)\n"
	"  -q, --quiet        no progress\n"
	"      --json         narHash is in the form sri\n"
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n";

const struct cli_command nar_hash_command = {
	.name = "hash",
	.program = "cairn nar hash",
	.help = hash_help,
	.run = run_hash,
};
