/* cairn nix import */

#include <errno.h>

#include "cli/contents.h"
#include "cli/nix_json.h"
#include "cli/nix_paths.h"
#include "cli/progress.h"
#include "cli/source.h"
#include "nix/nar_writer.h"
#include "nix/reference_scan.h"

struct import_run {
	struct cli *cli;
	const struct cli_command *command;
	/* The store, and with --scan, all paths that it has; those imported here join them. */
	struct nix_paths known;
	struct ingest_options options;
	struct ingest_stats stats;
	enum ca_method method;
	enum hash_algorithm algorithm;
	const char *name; /* --name */
	struct store_path *references;
	size_t reference_count; /* --reference */
	bool scan, quiet;
	struct path_info *infos; /* what was imported */
	bool *present;           /* the store had it before */
	size_t count;
};

/* ---- Hashes ---- */

struct hash_sink {
	struct nar_sink base;
	struct hash_stream *stream;
};

static int hash_nar(struct nar_sink *s, struct bytes data, struct error *err unused)
{
	hash_stream_update(container_of(s, struct hash_sink, base)->stream, data);
	return 0;
}

static int hash_contents(void *stream, struct bytes data, struct error *err unused)
{
	hash_stream_update(stream, data);
	return 0;
}

/* One pass over the NAR for its hash, and for what else is wanted of it: never two things. */
static int hash_tree(struct import_run *run, struct path_info *info, struct hash_stream *stream,
		     struct reference_scan *scan, struct error *err)
{
	struct store *store = &run->known.store;
	const struct nar_options options = {.cancel = run->options.cancel};
	const struct node *node = &info->node.node;
	struct hash_sink sink = {.base.write = hash_nar, .stream = stream};
	bool nar_too = run->method == CA_NAR && run->algorithm != HASH_SHA256;
	struct nar_sink *also = scan ? reference_scan_sink(scan) : nar_too ? &sink.base : NULL;
	int r = nar_hash(store, node, also, &options, &info->nar_size, info->nar_sha256, err);

	if (r == 0 && run->method != CA_NAR) {
		r = contents_read(store, node, hash_contents, stream, err);
	}
	if (r == 0) {
		info->has_ca = true;
		info->ca.method = run->method;
		hash_stream_finish(stream, &info->ca.hash);
		if (run->method == CA_NAR && !nar_too) {
			info->ca.hash = hash_of_sha256(info->nar_sha256);
		}
	}
	return r;
}

/* ---- References ---- */

static bool among(const struct store_path *list, size_t count, const struct store_path *path)
{
	for (size_t i = 0; i < count; i++) {
		if (store_path_compare(&list[i], path) == 0) {
			return true;
		}
	}
	return false;
}

/* Those that were given, and those that were found. */
static int set_references(const struct import_run *run, const struct reference_scan *scan,
			  struct path_info *info, struct error *err)
{
	const struct nix_paths *known = &run->known;
	struct store_path *all cleanup(cleanup_free) =
		xcalloc(run->reference_count + known->count + 1, sizeof(*all));
	size_t count = run->reference_count;

	for (size_t i = 0; i < count; i++) {
		all[i] = run->references[i];
	}
	for (size_t i = 0; scan && i < known->count; i++) {
		if (reference_scan_found(scan, i) &&
		    !among(all, run->reference_count, &known->paths[i])) {
			all[count++] = known->paths[i];
		}
	}
	return path_info_set_references(info, all, count, err);
}

static int find_references(struct import_run *run, char **arguments, struct error *err)
{
	struct path_info info cleanup(path_info_done) = {0};
	size_t count = run->reference_count;
	int r = 0;

	run->reference_count = 0;
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct store_path path;

		r = nix_path_parse(arguments[i], &path, err);
		if (r == 0) {
			r = nix_paths_get(&run->known, &path, &info, err);
		}
		if (r == 0 && !among(run->references, run->reference_count, &path)) {
			run->references[run->reference_count++] = path;
		}
	}
	return r < 0 ? error_wrap(err, "--reference") : 0;
}

/* ---- One path ---- */

static int read_source(struct import_run *run, const char *path, struct root_node *out,
		       struct error *err)
{
	struct store *store = &run->known.store;
	unsigned tries = 0;
	int r;

	do {
		r = ingest_path(store, path, &run->options, out, &run->stats, err);
		if (r == 0) {
			r = store_hold_put(store, &out->node, err);
		}
	} while (cli_once_more(r, &tries, err) &&
		 (r = blob_service_recover(store->blobs, err)) == 0);
	if (r < 0 || run->method == CA_NAR) {
		return r;
	}
	if (out->node.kind != NODE_FILE) {
		return error_set(err, ERROR_UNSUPPORTED, "%s: this is a %s; %s takes a file",
				 bytes_printable(bytes_of_string(path)),
				 node_kind_name(out->node.kind),
				 run->method == CA_TEXT ? "--text" : "--flat");
	}
	/* Text is contents alone; of a flat file, Nix keeps whether it is executable. */
	out->node.executable &= run->method != CA_TEXT;
	return 0;
}

/* All that is known of a tree whose node is there. */
static int describe(struct import_run *run, const char *name, struct path_info *info,
		    struct error *err)
{
	struct hash_stream *stream cleanup(cleanup_hash_stream) =
		hash_stream_new(run->algorithm);
	struct reference_scan *scan cleanup(cleanup_reference_scan) =
		run->scan ? reference_scan_new(run->known.paths, run->known.count) : NULL;
	int r = hash_tree(run, info, stream, scan, err);

	if (r == 0) {
		r = set_references(run, scan, info, err);
	}
	if (r == 0) {
		r = store_path_make(&info->ca, bytes_of_string(name), info->references,
				    info->reference_count, false, &info->path, err);
	}
	return r;
}

/* Asker: whether the store has such a path already, or the same import made it. */
static int find_present(const struct import_run *run, const struct path_info *info,
			struct path_info *out, struct error *err)
{
	for (size_t i = 0; i < run->count; i++) {
		if (store_path_compare(&run->infos[i].path, &info->path) == 0) {
			path_info_copy(out, &run->infos[i]);
			return 1;
		}
	}
	int r = path_info_service_get(run->known.infos, info->path.hash, out, err);

	if (r > 0 && memcmp(out->nar_sha256, info->nar_sha256, SHA256_SIZE) != 0) {
		return error_set(err, ERROR_CORRUPT,
				 "the store has %s with another NAR; 'cairn nix verify' tells "
				 "whether that is damaged",
				 store_path_text(&info->path));
	}
	return r;
}

static int import_path(struct import_run *run, const char *path, const char *name,
		       struct error *err)
{
	struct path_info *info = &run->infos[run->count];
	struct path_info present cleanup(path_info_done) = {0};
	int r = read_source(run, path, &info->node, err);

	if (r < 0) {
		return r;
	}
	r = describe(run, name, info, err);
	if (r == 0) {
		r = find_present(run, info, &present, err);
	}
	if (r < 0) {
		return error_wrap(err, "%s", bytes_printable(bytes_of_string(path)));
	}
	if (r > 0) {
		path_info_copy(info, &present);
	} else if (run->scan) {
		nix_paths_add(&run->known, &info->path);
	}
	run->present[run->count++] = r > 0;
	return 0;
}

/* ---- All of them ---- */

/* The infos that the store lacks, at the cost of one. */
static int put_infos(struct import_run *run, struct error *err)
{
	struct path_info *fresh cleanup(cleanup_free) = xcalloc(run->count + 1, sizeof(*fresh));
	size_t count = 0;

	for (size_t i = 0; i < run->count; i++) {
		if (!run->present[i]) {
			fresh[count++] = run->infos[i];
		}
	}
	return count ? path_info_service_put_many(run->known.infos, fresh, count, err) : 0;
}

static void print_results(const struct import_run *run)
{
	for (size_t i = 0; i < run->count; i++) {
		struct json j;

		if (!run->cli->json) {
			puts(store_path_text(&run->infos[i].path));
			continue;
		}
		json_begin(&j);
		nix_json_path_info(&j, &run->infos[i]);
		json_end(&j);
	}
}

static int open_store(struct import_run *run, char **references, struct error *err)
{
	int r = nix_paths_open(&run->known, run->cli, STORE_CREATE, run->scan, NULL, 0, err);

	if (r == 0) {
		source_exclude_store(run->cli, &run->options);
		run->options.cancel = cli_catch_interrupts();
		r = find_references(run, references, err);
	}
	return r;
}

/* What was imported before a failure is kept, and told. */
static int import_named(struct import_run *run, char **paths, char **names, size_t count,
			char **references)
{
	struct progress progress = {
		.verb = "imported", .files = &run->stats.files, .bytes = &run->stats.bytes};
	struct error err, put_err;
	int r = open_store(run, references, &err);

	run->infos = xcalloc(count, sizeof(*run->infos));
	run->present = xcalloc(count, sizeof(*run->present));
	progress_start(&progress, !run->quiet);
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = import_path(run, paths[i], names[i], &err);
	}
	int put = put_infos(run, &put_err);

	progress_stop(&progress);
	if (put == 0) {
		print_results(run);
	}
	for (size_t i = 0; i < count; i++) {
		path_info_done(&run->infos[i]);
	}
	free(run->infos);
	free(run->present);
	nix_paths_close(&run->known);
	if (put < 0) {
		return cli_fail(&put_err);
	}
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static int find_name(const struct import_run *run, const char *path, char **out,
		     struct error *err)
{
	*out = run->name ? xstrdup(run->name) : source_name(path);
	if (!*out) {
		return error_set_errno(err, errno, "%s",
				       bytes_printable(bytes_of_string(path)));
	}
	int r = store_path_check_name(bytes_of_string(*out), err);

	return r < 0 ? error_wrap(err, "%s: give another --name",
				  bytes_printable(bytes_of_string(path)))
		     : 0;
}

static int import_all(struct import_run *run, char **paths, size_t count, char **references)
{
	char **names = xcalloc(count, sizeof(names[0]));
	struct error err;
	int r = 0, code;

	for (size_t i = 0; r == 0 && i < count; i++) {
		r = find_name(run, paths[i], &names[i], &err);
	}
	code = r < 0 ? cli_fail(&err) : import_named(run, paths, names, count, references);
	for (size_t i = 0; i < count; i++) {
		free(names[i]);
	}
	free(names);
	return code;
}

/* ---- Options ---- */

enum { FLAT = CLI_OPTION_OWN, TEXT, HASH_ALGO, REFERENCE, SCAN };

struct arguments {
	bool flat, text;
	char **references; /* borrowed texts */
};

static bool set_algorithm(struct import_run *run, const char *text)
{
	if (!hash_algorithm_parse(bytes_of_string(text), &run->algorithm)) {
		cli_usage(run->command, "--hash-algo is md5, sha1, sha256 or sha512, not '%s'",
			  text);
		return false;
	}
	return true;
}

/* An exit code; EXIT_CODE_OK goes on. */
static int set_option(struct import_run *run, struct arguments *a, int c)
{
	switch (c) {
	case 'n':
		run->name = optarg;
		break;
	case FLAT:
		a->flat = true;
		break;
	case TEXT:
		a->text = true;
		break;
	case HASH_ALGO:
		return set_algorithm(run, optarg) ? EXIT_CODE_OK : EXIT_CODE_USAGE;
	case REFERENCE:
		a->references[run->reference_count++] = optarg;
		break;
	case SCAN:
		run->scan = true;
		break;
	default:
		run->quiet = true;
		break;
	}
	return EXIT_CODE_OK;
}

/* Options that do not go together: an exit code. */
static int check_options(struct import_run *run, const struct arguments *a, size_t paths)
{
	const struct cli_command *command = run->command;
	bool referring = run->scan || run->reference_count;

	run->method = a->text ? CA_TEXT : a->flat ? CA_FLAT : CA_NAR;
	if (paths == 0) {
		return cli_usage(command, "a path is missing");
	}
	if (run->name && paths > 1) {
		return cli_usage(command, "--name goes with one path");
	}
	if (a->flat && a->text) {
		return cli_usage(command, "--flat and --text exclude each other");
	}
	if (a->text && run->algorithm != HASH_SHA256) {
		return cli_usage(command, "--text goes with sha256 only");
	}
	if (referring && (a->flat || run->algorithm != HASH_SHA256)) {
		return cli_usage(command, "what has references is addressed by the sha256 of "
					  "its NAR, or as text");
	}
	return EXIT_CODE_OK;
}

static int parse_and_import(struct import_run *run, struct arguments *a, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS,
		{"name", required_argument, NULL, 'n'},
		{"flat", no_argument, NULL, FLAT},
		{"text", no_argument, NULL, TEXT},
		{"hash-algo", required_argument, NULL, HASH_ALGO},
		{"reference", required_argument, NULL, REFERENCE},
		{"scan", no_argument, NULL, SCAN},
		{"quiet", no_argument, NULL, 'q'},
		{0}};
	int c, code;

	while ((c = cli_next_option(run->cli, run->command, argc, argv, CLI_SHORT_OPTIONS "n:q",
				    options, &code)) != -1) {
		code = c == CLI_OPTION_STOP ? code : set_option(run, a, c);
		if (c == CLI_OPTION_STOP || code != EXIT_CODE_OK) {
			return code;
		}
	}
	size_t count = (size_t)(argc - optind);

	code = check_options(run, a, count);
	return code == EXIT_CODE_OK ? import_all(run, argv + optind, count, a->references)
				    : code;
}

static int run_import(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	struct import_run run = {.cli = cli,
				 .command = command,
				 .options = {.use_seen = true},
				 .algorithm = HASH_SHA256};
	/* No more than there are arguments. */
	struct arguments a = {.references = xcalloc((size_t)argc, sizeof(*a.references))};

	run.references = xcalloc((size_t)argc, sizeof(*run.references));
	int code = parse_and_import(&run, &a, argc, argv);

	free(a.references);
	free(run.references);
	return code;
}

static const char import_help[] =
	"Usage: cairn nix import [OPTION]... PATH...\n"
	"\n"
	"Puts files, symlinks and trees into the store as store paths, named by what they\n"
	"hold as 'nix-store --add' does, and prints the store paths.\n"
	"\n"
	"  -n, --name NAME         the name, for one PATH; else the last part of PATH\n"
	"      --flat              address a file by its contents alone, as\n"
	"                          'nix-store --add-fixed' does\n"
	"      --text              address a file as text, as 'builtins.toFile' does\n"
	"      --hash-algo ALGO    md5, sha1, sha256 (default) or sha512\n"
	"      --reference PATH    a store path that it refers to, which the store must\n"
	"                          have; may be given more than once\n"
	"      --scan              find out which store paths of the store it refers to,\n"
	"                          also those imported before it by the same command\n"
	"  -q, --quiet             no progress\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n"
	"\n"
	"Only what is addressed by the sha256 of its NAR, or as text, has references.\n";

const struct cli_command nix_import_command = {
	.name = "import",
	.program = "cairn nix import",
	.help = import_help,
	.run = run_import,
};
