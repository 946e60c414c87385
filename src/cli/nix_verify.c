/* cairn nix verify */

#include <inttypes.h>

#include "base/log.h"
#include "cli/json.h"
#include "cli/nix_paths.h"
#include "cli/progress.h"
#include "nix/nar_writer.h"
#include "nix/nixbase32.h"

#define KEYS_MAX 64

struct verify_run {
	struct cli *cli;
	struct nix_paths paths;
	bool all, recursive, no_contents, no_trust;
	unsigned signatures_needed; /* 0: one, or a content address */
	struct verifying_key *keys[KEYS_MAX];
	size_t key_count;
	struct nar_stats stats;
	struct nar_options options;
	uint64_t checked, corrupt, untrusted, unreadable;
};

/* What was found out about one path. */
struct verdict {
	const char *contents; /* "ok", "corrupt", "unreadable" or "unchecked" */
	const char *trust;    /* "ok", "untrusted" or "unchecked" */
	unsigned signatures;  /* good ones by the given keys */
	struct error why;     /* code ERROR_NONE: nothing to say */
};

static unsigned count_signatures(const struct verify_run *run, const struct path_info *info)
{
	unsigned n = 0;

	for (size_t i = 0; i < run->key_count; i++) {
		n += path_info_signed_by(info, &run->keys[i], 1);
	}
	return n;
}

/* As in Nix: what is addressed by its content needs no signature, unless a number is asked for.
 */
static void judge_trust(const struct verify_run *run, const struct path_info *info,
			struct verdict *v)
{
	unsigned needed = MAX(run->signatures_needed, 1U);

	v->signatures = count_signatures(run, info);
	if (v->signatures >= needed ||
	    (!run->signatures_needed && path_info_content_addressed(info))) {
		v->trust = "ok";
		return;
	}
	v->trust = "untrusted";
	if (v->why.code == ERROR_NONE) {
		error_set(&v->why, ERROR_DENIED,
			  "%s: untrusted: %u good signatures by the given keys, not %u",
			  store_path_text(&info->path), v->signatures, needed);
	}
}

static void judge_size(const struct path_info *info, uint64_t size, struct verdict *v)
{
	v->contents = "corrupt";
	error_set(&v->why, ERROR_CORRUPT,
		  "%s: the NAR has %" PRIu64 " bytes, the path info says %" PRIu64,
		  store_path_text(&info->path), size, info->nar_size);
}

static void judge_hash(const struct path_info *info, const uint8_t sha256[SHA256_SIZE],
		       struct verdict *v)
{
	char found[64], wanted[64];

	v->contents = "corrupt";
	nixbase32_encode(found, bytes_of(sha256, SHA256_SIZE));
	nixbase32_encode(wanted, bytes_of(info->nar_sha256, SHA256_SIZE));
	error_set(&v->why, ERROR_CORRUPT,
		  "%s: the NAR has the hash sha256:%s, the path info says sha256:%s",
		  store_path_text(&info->path), found, wanted);
}

/* A failure that says nothing of the path (interrupted) is returned. */
static int judge_contents(struct verify_run *run, const struct path_info *info,
			  struct verdict *v, struct error *err)
{
	uint8_t sha256[SHA256_SIZE];
	uint64_t size;
	int r = nar_hash(&run->paths.store, &info->node.node, NULL, &run->options, &size,
			 sha256, &v->why);

	if (r == -ERROR_CANCELED) {
		*err = v->why;
		return r;
	}
	if (r < 0) {
		v->contents = r == -ERROR_CORRUPT ? "corrupt" : "unreadable";
		error_wrap(&v->why, "%s", store_path_text(&info->path));
	} else if (size != info->nar_size) {
		judge_size(info, size, v);
	} else if (memcmp(sha256, info->nar_sha256, SHA256_SIZE) != 0) {
		judge_hash(info, sha256, v);
	} else {
		v->contents = "ok";
	}
	return 0;
}

static void print_verdict(const struct verify_run *run, const struct store_path *path,
			  const struct verdict *v)
{
	if (v->why.code != ERROR_NONE) {
		log_error("%s", v->why.text);
	} else {
		log_info("%s: good", store_path_text(path));
	}
	if (run->cli->json) {
		struct json j;

		json_begin(&j);
		json_text(&j, "path", store_path_text(path));
		json_text(&j, "contents", v->contents);
		json_text(&j, "trust", v->trust);
		json_number(&j, "goodSignatures", v->signatures);
		if (v->why.code != ERROR_NONE) {
			json_text(&j, "error", v->why.text);
		}
		json_end(&j);
	}
}

static int verify_one(struct verify_run *run, const struct store_path *path, struct error *err)
{
	struct path_info info cleanup(path_info_done) = {0};
	struct verdict v = {.contents = "unchecked", .trust = "unchecked"};
	int r = nix_paths_get(&run->paths, path, &info, &v.why);

	if (r == -ERROR_NOT_FOUND) {
		*err = v.why;
		return r;
	}
	if (r < 0) {
		v.contents = r == -ERROR_CORRUPT ? "corrupt" : "unreadable";
		r = 0;
	} else {
		r = run->no_contents ? 0 : judge_contents(run, &info, &v, err);
		if (r == 0 && !run->no_trust) {
			judge_trust(run, &info, &v);
		}
	}
	if (r == 0) {
		run->checked++;
		run->corrupt += strcmp(v.contents, "corrupt") == 0;
		run->unreadable += strcmp(v.contents, "unreadable") == 0;
		run->untrusted += strcmp(v.trust, "untrusted") == 0;
		print_verdict(run, path, &v);
	}
	return r;
}

static int verify_all(struct verify_run *run, struct error *err)
{
	struct progress progress = {
		.verb = "verified", .files = &run->stats.files, .bytes = &run->stats.bytes};
	int r = 0;

	run->options =
		(struct nar_options){.cancel = cli_catch_interrupts(), .stats = &run->stats};
	progress_start(&progress, !run->cli->json && !run->no_contents);
	for (size_t i = 0; r == 0 && i < run->paths.count; i++) {
		r = verify_one(run, &run->paths.paths[i], err);
	}
	progress_stop(&progress);
	if (r == 0 && !run->cli->json) {
		printf("%" PRIu64 " paths checked, %" PRIu64 " corrupt, %" PRIu64
		       " unreadable, %" PRIu64 " untrusted\n",
		       run->checked, run->corrupt, run->unreadable, run->untrusted);
	}
	return r;
}

static int verify_paths(struct verify_run *run, char **arguments, size_t count,
			struct error *err)
{
	int r = nix_paths_open(&run->paths, run->cli, STORE_READ_ONLY, run->all, arguments,
			       count, err);

	if (r == 0 && run->recursive) {
		r = nix_paths_recurse(&run->paths, err);
	}
	if (r == 0) {
		r = verify_all(run, err);
	}
	nix_paths_close(&run->paths);
	return r;
}

/* The worst that was found. */
static int code_of(const struct verify_run *run)
{
	if (run->corrupt) {
		return EXIT_CODE_CORRUPT;
	}
	if (run->unreadable) {
		return EXIT_CODE_UNAVAILABLE;
	}
	return run->untrusted ? EXIT_CODE_DENIED : EXIT_CODE_OK;
}

/* Keys with white space between them, as in nix.conf. */
static int add_keys(struct verify_run *run, const char *text, struct error *err)
{
	static const char space[] = " \t\n";

	for (text += strspn(text, space); *text; text += strspn(text, space)) {
		size_t n = strcspn(text, space);

		if (run->key_count == KEYS_MAX) {
			return error_set(err, ERROR_LIMIT, "more than %d keys", KEYS_MAX);
		}
		int r = verifying_key_parse(bytes_of(text, n), &run->keys[run->key_count], err);

		if (r < 0) {
			return error_wrap(err, "--trusted-public-keys");
		}
		run->key_count++;
		text += n;
	}
	return 0;
}

enum { ALL = CLI_OPTION_OWN, NO_CONTENTS, NO_TRUST, TRUSTED_KEYS };

/* An exit code; EXIT_CODE_OK goes on. */
static int set_option(struct verify_run *run, const struct cli_command *command, int c)
{
	struct error err;

	switch (c) {
	case ALL:
		run->all = true;
		break;
	case 'r':
		run->recursive = true;
		break;
	case NO_CONTENTS:
		run->no_contents = true;
		break;
	case NO_TRUST:
		run->no_trust = true;
		break;
	case TRUSTED_KEYS:
		return add_keys(run, optarg, &err) < 0 ? cli_fail(&err) : EXIT_CODE_OK;
	default:
		return cli_parse_count(command, "--sigs-needed", optarg, KEYS_MAX,
				       &run->signatures_needed)
			       ? EXIT_CODE_OK
			       : EXIT_CODE_USAGE;
	}
	return EXIT_CODE_OK;
}

/* An exit code. */
static int parse_and_verify(struct verify_run *run, const struct cli_command *command, int argc,
			    char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS,
		{"all", no_argument, NULL, ALL},
		{"recursive", no_argument, NULL, 'r'},
		{"no-contents", no_argument, NULL, NO_CONTENTS},
		{"no-trust", no_argument, NULL, NO_TRUST},
		{"trusted-public-keys", required_argument, NULL, TRUSTED_KEYS},
		{"sigs-needed", required_argument, NULL, 'n'},
		{0}};
	struct error err;
	int c, code;

	while ((c = cli_next_option(run->cli, command, argc, argv,
				    CLI_SHORT_OPTIONS "rn:", options, &code)) != -1) {
		code = c == CLI_OPTION_STOP ? code : set_option(run, command, c);
		if (c == CLI_OPTION_STOP || code != EXIT_CODE_OK) {
			return code;
		}
	}
	size_t count = (size_t)(argc - optind);

	if (!nix_paths_check(command, run->all, count)) {
		return EXIT_CODE_USAGE;
	}
	return verify_paths(run, argv + optind, count, &err) < 0 ? cli_fail(&err)
								 : code_of(run);
}

static int run_verify(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	struct verify_run run = {.cli = cli};
	int code = parse_and_verify(&run, command, argc, argv);

	for (size_t i = 0; i < run.key_count; i++) {
		verifying_key_free(run.keys[i]);
	}
	return code;
}

static const char verify_help[] =
	"Usage: cairn nix verify [OPTION]... PATH...\n"
	"  or:  cairn nix verify [OPTION]... --all\n"
	"\n"
	"Checks that the NARs of store paths have the hashes and sizes that are known of\n"
	"them, and that the paths are trusted: addressed by their content, or signed by\n"
	"a trusted key. Says which ones are not.\n"
	"\n"
	"      --all            all paths that the store has\n"
	"  -r, --recursive      also what they refer to, and what that refers to\n"
	"      --no-contents    do not read contents\n"
	"      --no-trust       do not ask for signatures\n"
	"      --trusted-public-keys KEYS\n"
	"                       keys that are trusted, NAME:BASE64, white space between\n"
	"                       them; may be given more than once\n"
	"  -n, --sigs-needed N  good signatures by that many keys are needed, also where\n"
	"                       a content address would do\n"
	"      --json           what was found, an object for each path\n"
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n"
	"\n"
	"Exit status: 4 when a path is corrupt, else 5 when one cannot be read, else 7\n"
	"when one is not trusted; 3 when the store does not have a path that is named.\n";

const struct cli_command nix_verify_command = {
	.name = "verify",
	.program = "cairn nix verify",
	.help = verify_help,
	.run = run_verify,
};
