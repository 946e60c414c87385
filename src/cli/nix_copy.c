/* cairn nix copy */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "base/io.h"
#include "base/pipeline.h"
#include "cli/nix_json.h"
#include "cli/progress.h"
#include "cli/source.h"
#include "nix/nar_writer.h"
#include "nix/path_graph.h"
#include "nix/path_info_service.h"

/* NARs above this are read by all CPUs together, instead of one while others take other paths.
 */
#define LARGE_NAR ((uint64_t)64 << 20)

enum state { WANTED, PRESENT, READ };

struct copy_run {
	struct cli *cli;
	const char *from_store, *key;
	struct ingest_options options;
	struct ingest_stats stats;
	bool quiet;
	struct store store;
	struct path_info_service *infos;
	struct path_graph graph;
	enum state *states; /* of the graph's paths */
	size_t slots[PIPELINE_SLOTS_MAX];
};

/* ---- The graph ---- */

static int read_graph(struct copy_run *run, const char *file, struct error *err)
{
	struct buffer text cleanup(buffer_done) = {0};
	bool standard_input = strcmp(file, "-") == 0;
	int r = read_small_file(AT_FDCWD, standard_input ? "/dev/stdin" : file,
				JSON_DOCUMENT_MAX, &text, err);

	if (r == 0) {
		r = error_set_errno(err, ENOENT, "%s", bytes_printable(bytes_of_string(file)));
	}
	if (r < 0) {
		return r;
	}
	r = path_graph_add(&run->graph, buffer_bytes(&text), run->key, err);
	if (r < 0) {
		/* What is in the file is no wrong argument. */
		err->code = r == -ERROR_INVALID ? ERROR_CORRUPT : err->code;
		return error_wrap(err, "%s",
				  standard_input ? "standard input"
						 : bytes_printable(bytes_of_string(file)));
	}
	return 0;
}

/* Asker: whether the store has the path; the info that it has takes the place of the graph's.
 */
static int find_present(const struct copy_run *run, struct path_info *info, struct error *err)
{
	struct path_info there cleanup(path_info_done) = {0};
	int r = path_info_service_get(run->infos, info->path.hash, &there, err);

	if (r <= 0) {
		return r;
	}
	if (store_path_compare(&there.path, &info->path) != 0 ||
	    there.nar_size != info->nar_size ||
	    memcmp(there.nar_sha256, info->nar_sha256, SHA256_SIZE) != 0) {
		return error_set(err, ERROR_CORRUPT,
				 "%s: the store has this path with another NAR; 'cairn nix "
				 "verify' tells whether that is damaged",
				 store_path_text(&info->path));
	}
	path_info_copy(info, &there);
	return 1;
}

static int find_all_present(struct copy_run *run, struct error *err)
{
	int r = 0;

	run->states = xcalloc(run->graph.count + 1, sizeof(*run->states));
	for (size_t i = 0; r >= 0 && i < run->graph.count; i++) {
		r = find_present(run, &run->graph.infos[i], err);
		run->states[i] = r > 0 ? PRESENT : WANTED;
	}
	return MIN(r, 0);
}

/* What is copied refers to nothing that the store would not have then. */
static int check_references(const struct copy_run *run, const struct path_info *info,
			    struct error *err)
{
	struct path_info there cleanup(path_info_done) = {0};

	for (size_t i = 0; i < info->reference_count; i++) {
		const struct store_path *p = &info->references[i];

		if (path_graph_find(&run->graph, p) < run->graph.count) {
			continue;
		}
		int r = path_info_service_get(run->infos, p->hash, &there, err);

		if (r < 0) {
			return r;
		}
		if (r == 0 || store_path_compare(&there.path, p) != 0) {
			return error_set(err, ERROR_NOT_FOUND,
					 "%s refers to %s, which is neither in the graph nor "
					 "in the store",
					 store_path_text(&info->path), store_path_text(p));
		}
	}
	return 0;
}

static int prepare(struct copy_run *run, char **files, size_t count, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		r = read_graph(run, files[i], err);
	}
	if (r == 0) {
		r = cli_open_store(run->cli, STORE_CREATE, &run->store, err);
	}
	if (r == 0) {
		run->infos = path_info_store_new(&run->store);
		path_graph_sort(&run->graph);
		r = find_all_present(run, err);
	}
	for (size_t i = 0; r == 0 && i < run->graph.count; i++) {
		if (run->states[i] == WANTED) {
			r = check_references(run, &run->graph.infos[i], err);
		}
	}
	return r;
}

/* ---- Trees ---- */

static int check_nar(struct copy_run *run, const struct path_info *info, struct error *err)
{
	const struct nar_options options = {.cancel = run->options.cancel};
	uint8_t sha256[SHA256_SIZE];
	uint64_t size;
	int r = nar_hash(&run->store, &info->node.node, NULL, &options, &size, sha256, err);

	if (r < 0) {
		return r;
	}
	if (size != info->nar_size) {
		return error_set(err, ERROR_CORRUPT,
				 "its NAR has %" PRIu64 " bytes, not %" PRIu64
				 " as the graph says",
				 size, info->nar_size);
	}
	return memcmp(sha256, info->nar_sha256, SHA256_SIZE) == 0
		       ? 0
		       : error_set(err, ERROR_CORRUPT,
				   "its NAR does not have the hash that the graph says");
}

/* One path, by any thread. */
static int run_copy_path(void *context, size_t slot, struct error *err)
{
	struct copy_run *run = context;
	size_t number = run->slots[slot];
	struct path_info *info = &run->graph.infos[number];
	struct ingest_options options = run->options;
	char *path cleanup(cleanup_free) =
		xasprintf("%s%s", run->from_store, store_path_text(&info->path));

	options.threads = info->nar_size > LARGE_NAR ? 0 : 1;
	unsigned tries = 0;
	int r;

	do {
		r = ingest_path(&run->store, path, &options, &info->node, &run->stats, err);
		if (r == 0) {
			r = store_hold_put(&run->store, &info->node.node, err);
		}
	} while (cli_once_more(r, &tries, err));
	if (r < 0) {
		return r;
	}
	r = check_nar(run, info, err);
	if (r < 0) {
		return error_wrap(err, "%s", bytes_printable(bytes_of_string(path)));
	}
	run->states[number] = READ;
	return 0;
}

static int copy_trees(struct copy_run *run, struct error *err)
{
	const struct pipeline_plan plan = {
		.stages = {{.run = run_copy_path}},
		.stage_count = 1,
		.slot_count = PIPELINE_SLOTS_MAX,
		.context = run,
		.cancel = run->options.cancel,
	};
	struct pipeline *pipeline cleanup(cleanup_pipeline) = pipeline_new(&plan);
	size_t slot;

	for (size_t i = 0; i < run->graph.count; i++) {
		if (run->states[i] == PRESENT) {
			continue;
		}
		int r = pipeline_claim(pipeline, &slot, err);

		if (r < 0) {
			return r;
		}
		run->slots[slot] = i;
		pipeline_publish(pipeline);
	}
	return pipeline_finish(pipeline, err);
}

/* ---- Infos ---- */

/* A path whose tree was read goes into the store when all that it refers to is there or goes.
 */
static bool is_complete(const struct copy_run *run, size_t number, const bool *complete)
{
	const struct path_info *info = &run->graph.infos[number];
	bool all = run->states[number] == READ;

	for (size_t i = 0; all && i < info->reference_count; i++) {
		size_t k = path_graph_find(&run->graph, &info->references[i]);

		all = k == run->graph.count || k == number || run->states[k] == PRESENT ||
		      complete[k];
	}
	return all;
}

/* Of what failed on the way, what is whole is kept. Paths that were not put become wanted. */
static int put_infos(struct copy_run *run, bool failed, struct error *err)
{
	size_t all = run->graph.count, count = 0;
	bool *complete cleanup(cleanup_free) = xcalloc(all + 1, sizeof(*complete));
	struct path_info *fresh cleanup(cleanup_free) = xcalloc(all + 1, sizeof(*fresh));

	for (size_t i = 0; i < all; i++) {
		complete[i] = failed ? is_complete(run, i, complete) : run->states[i] == READ;
		if (complete[i]) {
			fresh[count++] = run->graph.infos[i];
		} else if (run->states[i] == READ) {
			run->states[i] = WANTED;
		}
	}
	return count ? path_info_service_put_many(run->infos, fresh, count, err) : 0;
}

static void print_results(const struct copy_run *run)
{
	size_t counts[READ + 1] = {0};

	for (size_t i = 0; i < run->graph.count; i++) {
		enum state state = run->states[i];
		struct json j;

		counts[state]++;
		if (run->cli->json && state != WANTED) {
			json_begin(&j);
			nix_json_path_info(&j, &run->graph.infos[i]);
			json_bool(&j, "copied", state == READ);
			json_end(&j);
		}
	}
	if (!run->cli->json) {
		printf("%zu paths copied, %zu were there already\n", counts[READ],
		       counts[PRESENT]);
	}
}

static int copy_prepared(struct copy_run *run, struct error *err)
{
	struct progress progress = {
		.verb = "copied", .files = &run->stats.files, .bytes = &run->stats.bytes};
	struct error put_err;

	source_exclude_store(run->cli, &run->options);
	run->options.cancel = cli_catch_interrupts();
	progress_start(&progress, !run->quiet);
	int r, put;
	unsigned tries = 0;

	do {
		r = copy_trees(run, err);
		put = put_infos(run, r < 0, &put_err);
	} while (cli_once_more(put, &tries, &put_err) &&
		 (put = blob_service_recover(run->store.blobs, &put_err)) == 0);

	progress_stop(&progress);
	if (put == 0) {
		print_results(run);
	} else if (r == 0) {
		*err = put_err;
		r = put;
	}
	return r;
}

static int copy(struct copy_run *run, char **files, size_t count)
{
	struct error err;
	int r = prepare(run, files, count, &err);

	if (r == 0) {
		r = copy_prepared(run, &err);
	}
	path_graph_done(&run->graph);
	path_info_service_unref(run->infos);
	store_close(&run->store);
	free(run->states);
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

enum { FROM_STORE = CLI_OPTION_OWN, KEY, NO_CACHE };

static int run_copy(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS,
		{"from-store", required_argument, NULL, FROM_STORE},
		{"key", required_argument, NULL, KEY},
		{"no-cache", no_argument, NULL, NO_CACHE},
		{"quiet", no_argument, NULL, 'q'},
		{0}};
	struct copy_run run = {.cli = cli, .from_store = "", .options = {.use_seen = true}};
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "q", options,
				    &code)) != -1) {
		switch (c) {
		case FROM_STORE:
			run.from_store = optarg;
			break;
		case KEY:
			run.key = optarg;
			break;
		case NO_CACHE:
			run.options.use_seen = false;
			break;
		case 'q':
			run.quiet = true;
			break;
		default:
			return code;
		}
	}
	if (optind == argc) {
		return cli_usage(command, "a graph is missing");
	}
	return copy(&run, argv + optind, (size_t)(argc - optind));
}

static const char copy_help[] =
	"Usage: cairn nix copy [OPTION]... GRAPH...\n"
	"\n"
	"Copies store paths from a Nix store on this machine. GRAPH is a file (or -) that\n"
	"says which, and what Nix knows of them: the output of 'nix path-info --json\n"
	"--recursive', or what a derivation gets by exportReferencesGraph (the JSON form\n"
	"of structured attributes). A tree that does not have the hash that the graph\n"
	"says is refused, and so is a graph with references that it does not have, unless\n"
	"the store has them. What the store has is not read again.\n"
	"\n"
	"      --from-store DIR  the root of the Nix store: paths are in DIR/nix/store\n"
	"                        (default: /)\n"
	"      --key NAME        the member of the JSON object that has the paths\n"
	"                        (default: \"closure\" when there is one)\n"
	"      --no-cache        read all files, also those that seem unchanged since an\n"
	"                        earlier import\n"
	"  -q, --quiet           no progress\n"
	"      --json            what was copied and what was there, an object for each\n"
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n";

const struct cli_command nix_copy_command = {
	.name = "copy",
	.program = "cairn nix copy",
	.help = copy_help,
	.run = run_copy,
};
