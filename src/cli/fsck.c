/* cairn fsck */

#include <inttypes.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "nix/path_info.h"
#include "services/store_check.h"

struct fsck_run {
	struct cli *cli;
	const struct cli_command *command;
	struct store_check_options options;
	bool quiet;
	bool repair;
	const char *from; /* with it: the address of the store that has what is lost here */
	struct store_check_report report;
};

/* ---- what path infos say, which is for the rooms of Nix to know ---- */

static int read_path_info(struct bytes key, struct bytes value, struct buffer *name,
			  struct root_node *node, struct error *err)
{
	struct path_info info = {0};
	int r = path_info_decode(value, &info, err);

	if (r == 0) {
		bool right = key.len == STORE_PATH_HASH_SIZE;

		for (size_t i = 0; right && i < STORE_PATH_HASH_SIZE; i++) {
			right = key.ptr[i] == info.path.hash[STORE_PATH_HASH_SIZE - 1 - i];
		}
		r = right ? 0
			  : error_set(err, ERROR_CORRUPT, "it is the path info of %s",
				      store_path_text(&info.path));
	}
	if (r == 0) {
		buffer_append_string(name, store_path_text(&info.path));
		root_node_set(node, &info.node.node);
	}
	path_info_done(&info);
	return r;
}

/* ---- output ---- */

static void print_list(struct json *j, char **list, size_t count)
{
	json_list_begin(j, "affected");
	for (size_t i = 0; i < count; i++) {
		json_list_text(j, list[i]);
	}
	json_list_end(j);
}

static void print_fault_json(const struct store_fault *f)
{
	struct json j;

	json_begin(&j);
	json_text(&j, "kind", store_fault_kind_name(f->kind));
	if (f->has_digest) {
		json_text(&j, "digest", digest_text(&f->digest));
		json_bool(&j, "directory", f->is_directory);
	}
	if (f->file) {
		json_text(&j, "file", f->file);
	}
	if (f->has_offset) {
		json_number(&j, "offset", f->offset);
	}
	json_text(&j, "message", f->text);
	print_list(&j, f->names, f->name_count);
	json_end(&j);
}

static void print_fault(const struct store_fault *f)
{
	printf("%s: %s%s%s\n", store_fault_kind_name(f->kind), f->file ? f->file : "",
	       f->file ? ": " : "", f->text);
	for (size_t i = 0; i < f->name_count; i++) {
		printf("  affects %s\n", f->names[i]);
	}
}

static void print_summary_json(const struct store_check_report *r, bool repaired)
{
	struct json j;

	json_begin(&j);
	json_bool(&j, "clean", r->fault_count == 0);
	json_bool(&j, "repaired", repaired);
	json_number(&j, "faults", r->fault_count + r->faults_beyond);
	json_number(&j, "objects", r->objects);
	json_number(&j, "names", r->names);
	json_number(&j, "bytes", r->bytes);
	print_list(&j, r->affected, r->affected_count);
	json_end(&j);
}

static void print_summary(const struct fsck_run *run)
{
	const struct store_check_report *r = &run->report;

	for (size_t i = 0; i < r->affected_count; i++) {
		printf("damaged: %s\n", r->affected[i]);
	}
	printf("%" PRIu64 " objects and %" PRIu64 " names", r->objects, r->names);
	if (run->options.read_data) {
		printf(", %s read", progress_size(r->bytes));
	}
	if (r->fault_count == 0) {
		printf(": no fault found\n");
		return;
	}
	printf(": %" PRIu64 " faults, %zu names affected\n",
	       (uint64_t)r->fault_count + r->faults_beyond, r->affected_count);
}

static void print_faults(const struct fsck_run *run, const struct store_check_report *r)
{
	for (size_t i = 0; i < r->fault_count; i++) {
		if (run->cli->json) {
			print_fault_json(&r->faults[i]);
		} else {
			print_fault(&r->faults[i]);
		}
	}
}

static void print_end(const struct fsck_run *run, bool repaired)
{
	if (run->cli->json) {
		print_summary_json(&run->report, repaired);
	} else {
		print_summary(run);
	}
}

static void print_done(void *context, const char *text)
{
	const struct fsck_run *run = context;
	struct json j;

	if (!run->cli->json) {
		printf("repair: %s\n", text);
		return;
	}
	json_begin(&j);
	json_text(&j, "repair", text);
	json_end(&j);
}

/* ---- running ---- */

static int check(struct fsck_run *run, const char *address, struct error *err)
{
	return store_check(address, &run->options, &run->report, err);
}

/* The report is that of the last check. *found: faults of the first. */
static int repair(struct fsck_run *run, const char *address, bool *found, struct error *err)
{
	struct store_repair_options o = {
		.check = run->options, .tell = print_done, .context = run};
	struct store_check_report before = {0};
	struct store from = {0};
	int r = run->from ? store_open(&from, run->from, STORE_READ_ONLY, err) : 0;

	if (r == 0) {
		o.from = run->from ? &from : NULL;
		r = store_repair(address, &o, &before, &run->report, err);
	}
	store_close(&from);
	*found = before.fault_count > 0;
	if (r == 0 && !*found) {
		run->report = before;
		return 0;
	}
	if (r == 0) {
		print_faults(run, &before);
		if (!run->cli->json && run->report.fault_count) {
			printf("After the repair:\n");
		}
	}
	store_check_report_done(&before);
	return r;
}

static int run_checks(struct fsck_run *run, const char *address)
{
	_Atomic uint64_t objects = 0, bytes = 0;
	struct progress progress = {
		.verb = "checked", .noun = "objects", .files = &objects, .bytes = &bytes};
	bool found = false;
	struct error err;

	run->options.objects = &objects;
	run->options.bytes = &bytes;
	run->options.cancel = cli_catch_interrupts();
	progress_start(&progress, !run->quiet);
	int r = run->repair ? repair(run, address, &found, &err) : check(run, address, &err);

	progress_stop(&progress);
	run->options.objects = run->options.bytes = NULL;
	if (r < 0) {
		return cli_fail(&err);
	}
	bool repaired = found && run->report.fault_count == 0;

	print_faults(run, &run->report);
	print_end(run, repaired);
	return run->report.fault_count ? EXIT_CODE_CORRUPT
	       : repaired              ? EXIT_CODE_REPAIRED
				       : EXIT_CODE_OK;
}

/* "2/5": the second of five parts. */
static bool parse_subset(struct fsck_run *run, char *text)
{
	char *slash = strchr(text, '/');
	unsigned part, count;

	if (!slash) {
		cli_usage(run->command, "--read-data-subset is N/T, as in 2/5, not '%s'",
			  bytes_printable(bytes_of_string(text)));
		return false;
	}
	*slash = 0;
	if (!cli_parse_count(run->command, "--read-data-subset", slash + 1, 1000000, &count) ||
	    !cli_parse_count(run->command, "--read-data-subset", text, count, &part)) {
		return false;
	}
	run->options.read_data = true;
	run->options.subset = part;
	run->options.subset_count = count;
	return true;
}

static int run_fsck(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	enum { READ_DATA = CLI_OPTION_OWN, SUBSET, REPAIR, FROM };
	static const struct option options[] = {
		CLI_LONG_OPTIONS,
		{"read-data", no_argument, NULL, READ_DATA},
		{"read-data-subset", required_argument, NULL, SUBSET},
		{"repair", no_argument, NULL, REPAIR},
		{"from", required_argument, NULL, FROM},
		{"quiet", no_argument, NULL, 'q'},
		{0}};
	struct fsck_run run = {
		.cli = cli, .command = command, .options = {.read_path_info = read_path_info}};
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "q", options,
				    &code)) != -1) {
		switch (c) {
		case READ_DATA:
			run.options.read_data = true;
			break;
		case SUBSET:
			if (!parse_subset(&run, optarg)) {
				return EXIT_CODE_USAGE;
			}
			break;
		case REPAIR:
			run.repair = true;
			break;
		case FROM:
			run.from = optarg;
			break;
		case 'q':
			run.quiet = true;
			break;
		default:
			return code;
		}
	}
	if (optind < argc) {
		return cli_usage(command, "unexpected argument '%s'", argv[optind]);
	}
	if (run.from && !run.repair) {
		return cli_usage(command, "--from needs --repair");
	}
	char *address cleanup(cleanup_free) = cli_store_address(cli);

	if (!address) {
		return cli_usage(command, "no store: --store, $CAIRN_STORE or $HOME is needed");
	}
	code = run_checks(&run, address);
	store_check_report_done(&run.report);
	return code;
}

static const char fsck_help[] =
	"Usage: cairn fsck [OPTION]...\n"
	"\n"
	"Checks the store: its index, packs and large files, that each is where the\n"
	"index says, that the changes of names in the packs give the names of the index,\n"
	"and that everything is there that roots and store paths need. Others may use\n"
	"the store meanwhile.\n"
	"\n"
	"      --read-data         also read all content and compare it with digests\n"
	"      --read-data-subset N/T\n"
	"                          the same for one part of T; N from 1 to T: all parts\n"
	"                          together are everything\n"
	"      --repair            take what is damaged out of use, to quarantine/ in the\n"
	"                          store, make again what follows from the rest, and say\n"
	"                          what is lost; a damaged index needs the store alone\n"
	"      --from ADDRESS      with --repair: get what is lost from this store\n"
	"  -q, --quiet             no progress\n"
	"      --json              a line for each fault, and one at the end\n"
	"      --store, -v, -h: see 'cairn --help'\n"
	"\n"
	"Exit status: 0 no fault, 4 faults found (with --repair: that remain), 10 faults\n"
	"found and all repaired; anything else: the store could not be checked.\n";

const struct cli_command fsck_command = {
	.name = "fsck",
	.program = "cairn fsck",
	.help = fsck_help,
	.run = run_fsck,
};
