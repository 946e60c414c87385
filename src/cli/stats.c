/* cairn stats */

#include <inttypes.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/store_names.h"
#include "services/usage.h"

struct stats {
	struct cli *cli;
	bool bytes;  /* sizes without units */
	bool stored; /* the store knows the room that objects take */
	bool local;  /* and what else it consists of */
	uint64_t roots, path_infos;
	struct usage_figures trees; /* all that have names, together */
	struct store_figures store;
};

static double ratio(uint64_t a, uint64_t b)
{
	return b ? (double)a / (double)b : 1;
}

static uint64_t difference(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t stored_objects(const struct store_figures *f)
{
	return f->small_blobs.objects + f->large_blobs.objects + f->directories.objects;
}

static uint64_t stored_bytes(const struct store_figures *f)
{
	return f->small_blobs.stored + f->large_blobs.stored + f->directories.stored;
}

/* Objects that no name refers to, perhaps not yet. */
static struct store_part unnamed(const struct stats *s)
{
	return (struct store_part){
		.objects = difference(stored_objects(&s->store),
				      s->trees.all.objects - s->trees.all.missing),
		.stored = difference(stored_bytes(&s->store), s->trees.all.stored)};
}

static uint64_t pack_dead(const struct store_figures *f)
{
	return difference(f->packs.bytes, f->pack_live);
}

/* ---- As text ---- */

static const char *size_text(const struct stats *s, uint64_t bytes)
{
	static char texts[4][32];
	static unsigned turn;

	if (!s->bytes) {
		return progress_size(bytes);
	}
	char *text = texts[turn++ % ARRAY_SIZE(texts)];

	snprintf(text, sizeof(texts[0]), "%" PRIu64, bytes);
	return text;
}

static void print_part(const struct stats *s, const char *name, const struct store_part *p)
{
	printf("%-14s %" PRIu64 ", %s, stored in %s\n", name, p->objects,
	       size_text(s, p->content), size_text(s, p->stored));
}

static void print_folder(const struct stats *s, const char *name, const struct store_folder *f)
{
	printf("%-14s %" PRIu64 " files, %s\n", name, f->files, size_text(s, f->bytes));
}

static void print_store(const struct stats *s)
{
	const struct store_figures *f = &s->store;
	struct store_part nobody = unnamed(s);

	print_part(s, "small files", &f->small_blobs);
	print_part(s, "large files", &f->large_blobs);
	print_part(s, "directories", &f->directories);
	printf("%-14s %" PRIu64 " objects, stored in %s\n", "not named", nobody.objects,
	       size_text(s, nobody.stored));
	printf("%-14s %" PRIu64 ", %s: %s live, %s dead\n", "packs", f->packs.files,
	       size_text(s, f->packs.bytes), size_text(s, f->pack_live),
	       size_text(s, pack_dead(f)));
	print_folder(s, "files", &f->files);
	printf("%-14s %s, of which %s are free\n", "index", size_text(s, f->index_bytes),
	       size_text(s, f->index_free));
	printf("%-14s %" PRIu64 " files\n", "seen", f->seen);
	print_folder(s, "tmp", &f->tmp);
	print_folder(s, "quarantine", &f->quarantine);
	printf("%-14s %" PRIu64 "\n", "leases", f->leases.files);
}

static void print_text(const struct stats *s)
{
	const struct usage_figures *t = &s->trees;

	printf("%-14s %" PRIu64 " trees, %" PRIu64 " store paths\n", "names", s->roots,
	       s->path_infos);
	printf("%-14s %s\n", "size", size_text(s, t->size));
	printf("%-14s %s, files %.2f times less by deduplication\n", "distinct",
	       size_text(s, t->all.content), ratio(t->size, t->all.files));
	if (s->stored) {
		printf("%-14s %s, %.2f times less by compression\n", "stored",
		       size_text(s, t->all.stored), ratio(t->all.content, t->all.stored));
	}
	printf("%-14s %" PRIu64 "\n", "objects", t->all.objects);
	if (t->all.missing) {
		printf("%-14s %" PRIu64 "\n", "missing", t->all.missing);
	}
	if (s->local) {
		print_store(s);
	}
}

/* ---- As JSON ---- */

static void json_pair(struct json *j, const char *prefix, const char *key, uint64_t value)
{
	char *name cleanup(cleanup_free) = xasprintf("%s_%s", prefix, key);

	json_number(j, name, value);
}

static void json_part(struct json *j, const char *prefix, const struct store_part *p)
{
	json_pair(j, prefix, "objects", p->objects);
	json_pair(j, prefix, "size", p->content);
	json_pair(j, prefix, "stored", p->stored);
}

static void json_folder(struct json *j, const char *prefix, const struct store_folder *f)
{
	json_pair(j, prefix, "files", f->files);
	json_pair(j, prefix, "bytes", f->bytes);
}

static void json_store(struct json *j, const struct stats *s)
{
	const struct store_figures *f = &s->store;
	struct store_part nobody = unnamed(s);

	json_part(j, "small_files", &f->small_blobs);
	json_part(j, "large_files", &f->large_blobs);
	json_part(j, "directories", &f->directories);
	json_number(j, "unnamed_objects", nobody.objects);
	json_number(j, "unnamed_stored", nobody.stored);
	json_folder(j, "pack", &f->packs);
	json_number(j, "pack_live", f->pack_live);
	json_number(j, "pack_dead", pack_dead(f));
	json_folder(j, "plain", &f->files);
	json_number(j, "index_bytes", f->index_bytes);
	json_number(j, "index_free", f->index_free);
	json_number(j, "seen", f->seen);
	json_folder(j, "tmp", &f->tmp);
	json_folder(j, "quarantine", &f->quarantine);
	json_number(j, "leases", f->leases.files);
}

static void print_json(const struct stats *s)
{
	const struct usage_figures *t = &s->trees;
	struct json j;

	json_begin(&j);
	json_number(&j, "roots", s->roots);
	json_number(&j, "path_infos", s->path_infos);
	json_number(&j, "size", t->size);
	json_number(&j, "distinct", t->all.content);
	json_decimal(&j, "deduplication", ratio(t->size, t->all.files));
	if (s->stored) {
		json_number(&j, "stored", t->all.stored);
		json_decimal(&j, "compression", ratio(t->all.content, t->all.stored));
		json_number(&j, "missing", t->all.missing);
	}
	json_number(&j, "objects", t->all.objects);
	if (s->local) {
		json_store(&j, s);
	}
	json_end(&j);
}

/* ---- Finding out ---- */

static bool take_total(void *context, struct bytes path unused, const struct usage_figures *f)
{
	struct stats *s = context;

	s->trees = *f;
	return true;
}

static int count_trees(struct stats *s, struct store *store, struct error *err)
{
	struct store_names names cleanup(store_names_done) = {0};
	struct usage *u cleanup(cleanup_usage) = usage_new(store);
	int r = store_names_add_roots(&names, store, err);

	s->stored = usage_knows_stored(u);
	s->roots = names.count;
	if (r == 0) {
		r = store_names_add_paths(&names, store, err);
		s->path_infos = names.count - s->roots;
	}
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		r = usage_add(u, &names.items[i].node.node, err);
	}
	return r ? r : usage_each(u, take_total, s, err);
}

static int count_all(struct stats *s, struct error *err)
{
	char *address cleanup(cleanup_free) = NULL;
	struct store store = {0};
	int r = cli_open_store(s->cli, STORE_READ_ONLY, &store, err);

	if (r == 0) {
		r = count_trees(s, &store, err);
	}
	if (r == 0) {
		address = cli_store_address(s->cli);
		r = store_take_stock(address, &s->store, err);
		s->local = r == 0;
		r = r == -ERROR_UNSUPPORTED ? 0 : r;
	}
	store_close(&store);
	return r;
}

static int run_stats(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS, {"bytes", no_argument, NULL, 'b'}, {0}};
	struct stats s = {.cli = cli};
	struct error err;
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "b", options,
				    &code)) != -1) {
		if (c != 'b') {
			return code;
		}
		s.bytes = true;
	}
	if (optind < argc) {
		return cli_usage(command, "unexpected argument '%s'", argv[optind]);
	}
	if (count_all(&s, &err) < 0) {
		return cli_fail(&err);
	}
	(cli->json ? print_json : print_text)(&s);
	return EXIT_CODE_OK;
}

static const char stats_help[] =
	"Usage: cairn stats [OPTION]...\n"
	"\n"
	"Shows what a store consists of: how long all its trees are together, what is\n"
	"left of that when everything is there once, the room that this takes, and what\n"
	"else is in the folder of the store.\n"
	"\n"
	"  -b, --bytes  sizes in bytes\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n";

const struct cli_command stats_command = {
	.name = "stats",
	.program = "cairn stats",
	.help = stats_help,
	.run = run_stats,
};
