/* cairn nar import */

#include <inttypes.h>

#include "cli/cli.h"
#include "cli/nar_file.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "nix/nar_ingest.h"

struct nar_import {
	struct cli *cli;
	const char *name; /* --name */
	bool replace;
	bool quiet;
	bool check; /* the NAR must have this hash */
	struct hash hash;
};

static int compare_hash(const struct hash *wanted, const struct hash *found, struct error *err)
{
	struct buffer texts cleanup(buffer_done) = {0};

	if (hash_equal(wanted, found)) {
		return 0;
	}
	hash_format(found, &texts);
	buffer_append_string(&texts, ", not ");
	hash_format(wanted, &texts);
	return error_set(err, ERROR_CORRUPT, "the hash of this NAR is %.*s", (int)texts.len,
			 (const char *)texts.ptr);
}

/* SHA-256 is found on the way in any case. */
static int ingest_checked(const struct nar_import *run, struct store *store,
			  struct nar_source *source, const struct nar_options *options,
			  struct nar_read *out, struct error *err)
{
	struct hash_stream *stream cleanup(cleanup_hash_stream) = NULL;
	struct nar_hashed_source hashed;
	struct hash found;

	if (run->check && run->hash.algorithm != HASH_SHA256) {
		stream = hash_stream_new(run->hash.algorithm);
		nar_hashed_source_init(&hashed, source, stream);
		source = &hashed.base;
	}
	int r = nar_ingest(store, source, options, out, err);

	if (r < 0 || !run->check) {
		return r;
	}
	if (stream) {
		hash_stream_finish(stream, &found);
	} else {
		found = hash_of_sha256(out->sha256);
	}
	return compare_hash(&run->hash, &found, err);
}

/* All of the NAR, or nothing. */
static int ingest_staged(const struct nar_import *run, struct store *store,
			 struct nar_source *source, const struct nar_options *options,
			 struct nar_read *out, struct error *err)
{
	struct store staged = {0};
	int r = store_stage(store, &staged, err);

	if (r == 0) {
		r = ingest_checked(run, &staged, source, options, out, err);
	}
	if (r == 0) {
		return store_stage_commit(&staged, err);
	}
	store_close(&staged);
	return r;
}

static void print_result(const struct nar_import *run, const struct nar_read *read,
			 const struct nar_stats *stats)
{
	const struct node *node = &read->node.node;
	struct json j;

	if (run->cli->json) {
		json_begin(&j);
		if (run->name) {
			json_bytes(&j, "name", bytes_of_string(run->name));
		}
		json_node(&j, node);
		json_nar(&j, read->sha256, read->size);
		json_number(&j, "files", stats->files);
		json_number(&j, "directories", stats->directories);
		json_number(&j, "symlinks", stats->symlinks);
		json_end(&j);
		return;
	}
	output_digest(node);
	if (run->name) {
		fputs("  ", stdout);
		output_name(bytes_of_string(run->name), output_to_terminal());
	}
	putchar('\n');
}

static int import_file(const struct nar_import *run, struct store *store, struct nar_file *file,
		       const atomic_bool *cancel, struct error *err)
{
	struct nar_read read = {0};
	struct nar_stats stats = {0};
	struct nar_options options = {.cancel = cancel, .stats = &stats};
	struct progress progress = {
		.verb = "imported", .files = &stats.files, .bytes = &stats.bytes};

	progress_start(&progress, !run->quiet);
	int r = ingest_staged(run, store, &file->source.base, &options, &read, err);

	progress_stop(&progress);
	r = nar_file_result(file, r, err);
	if (r == 0 && run->name) {
		r = root_nodes_put(store->roots, bytes_of_string(run->name), &read.node.node,
				   run->replace, err);
		if (r == -ERROR_EXISTS) {
			error_wrap(err, "--replace is needed");
		}
	}
	if (r == 0) {
		print_result(run, &read, &stats);
	}
	root_node_done(&read.node);
	return r;
}

static int import_nar(const struct nar_import *run, const char *path, struct error *err)
{
	const atomic_bool *cancel = cli_catch_interrupts();
	struct store store = {0};
	struct nar_file file = {.fd = -1};
	int r = run->name ? node_name_check(bytes_of_string(run->name), err) : 0;

	if (r == 0) {
		r = nar_file_open(&file, path, cancel, err);
	}
	if (r == 0) {
		r = cli_open_store(run->cli, STORE_CREATE, &store, err);
	}
	if (r == 0) {
		r = import_file(run, &store, &file, cancel, err);
	}
	store_close(&store);
	nar_file_close(&file);
	return r;
}

enum { HASH = CLI_OPTION_OWN, REPLACE };

static int run_import(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS,
						{"name", required_argument, NULL, 'n'},
						{"hash", required_argument, NULL, HASH},
						{"replace", no_argument, NULL, REPLACE},
						{"force", no_argument, NULL, REPLACE},
						{"quiet", no_argument, NULL, 'q'},
						{0}};
	struct nar_import run = {.cli = cli};
	struct error err;
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "n:q", options,
				    &code)) != -1) {
		switch (c) {
		case 'n':
			run.name = optarg;
			break;
		case HASH:
			if (hash_parse(bytes_of_string(optarg), &run.hash, &err) < 0) {
				return cli_usage(command, "--hash: %s", err.text);
			}
			run.check = true;
			break;
		case REPLACE:
			run.replace = true;
			break;
		case 'q':
			run.quiet = true;
			break;
		default:
			return code;
		}
	}
	if (argc - optind > 1) {
		return cli_usage(command, "more than one file");
	}
	return import_nar(&run, argv[optind], &err) < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static const char import_help[] =
	"Usage: cairn nar import [OPTION]... [FILE]\n"
	"\n"
	"Puts what a NAR holds into the store and prints its digest: the one that the\n"
	"tree itself has when it is imported. Reads standard input when there is no\n"
	"FILE, or when it is '-'. Of a NAR that is broken or has another hash than\n"
	"wanted, nothing is kept (exit status 4).\n"
	"\n"
	"  -n, --name NAME  give it this name in the store\n"
	"      --hash HASH  the hash that the NAR must have: ALGO:DIGEST or ALGO-BASE64,\n"
	"                   ALGO being sha256, sha512, sha1 or md5\n"
	"      --replace, --force\n"
	"                   if the name stands for something else, replace that\n"
	"  -q, --quiet      no progress\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n";

const struct cli_command nar_import_command = {
	.name = "import",
	.program = "cairn nar import",
	.help = import_help,
	.run = run_import,
};
