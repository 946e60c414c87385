#pragma once

/* What the commands have in common that show a store as a file system. */

#include "cli/cli.h"
#include "cli/prefetch.h"
#include "fs/fs.h"

struct serve_options {
	const char *root; /* a ROOT argument: this tree instead of the names; NULL: the names */
	bool nix;         /* store paths instead of names */
	bool list_root;
	bool xattr;
	bool inodes_by_path;
	unsigned threads; /* 0: default */
	enum prefetch_mode prefetch;
	struct digest root_digest; /* of root, once the store is open */
};

enum {
	SERVE_OPTION_ROOT = CLI_OPTION_OWN,
	SERVE_OPTION_NIX,
	SERVE_OPTION_LIST_ROOT,
	SERVE_OPTION_XATTR,
	SERVE_OPTION_INODES,
	SERVE_OPTION_PREFETCH,
	SERVE_OPTION_THREADS,
	SERVE_OPTION_OWN
};

#define SERVE_THREADS_MAX 64

#define SERVE_LONG_OPTIONS                                                    \
	{"root", required_argument, NULL, SERVE_OPTION_ROOT},                 \
		{"nix", no_argument, NULL, SERVE_OPTION_NIX},                 \
		{"list-root", no_argument, NULL, SERVE_OPTION_LIST_ROOT},     \
		{"xattr", no_argument, NULL, SERVE_OPTION_XATTR},             \
		{"inodes", required_argument, NULL, SERVE_OPTION_INODES},     \
		{"prefetch", required_argument, NULL, SERVE_OPTION_PREFETCH}, \
	{                                                                     \
		"threads", required_argument, NULL, SERVE_OPTION_THREADS      \
	}

#define SERVE_HELP                                                                          \
	"      --root ROOT     show this tree instead of the named ones: a directory's\n"   \
	"                      digest, a name or a store path, and a path inside\n"         \
	"      --nix           show the store paths of Nix instead of the named trees\n"    \
	"      --list-root     let the root be listed; otherwise trees are found by name\n" \
	"                      only\n"                                                      \
	"      --xattr         digests as extended attributes\n"                            \
	"      --inodes=content|path\n"                                                     \
	"                      directories with equal content have one inode number\n"      \
	"                      (the default), or each its own\n"                            \
	"      --prefetch=directories|all|none\n"                                           \
	"                      from a store that is far away, fetch all directories of a\n" \
	"                      tree (the default), or its files too, when it is used\n"     \
	"                      first\n"                                                     \
	"      --threads N     threads for what needs waiting, 1 to 64\n"

/* Like cli_next_option(), but the options above are dealt with too. */
int serve_next_option(struct serve_options *o, struct cli *cli,
		      const struct cli_command *command, int argc, char **argv,
		      const char *short_options, const struct option *long_options,
		      int *exit_code);

/* The store with what it shows, for reading. */
int serve_open_store(struct serve_options *o, const struct cli *cli, struct store *out,
		     struct error *err);
/* For that store; prefetch_free() ends it. May be NULL. */
struct prefetch *serve_prefetch(const struct serve_options *o, struct store *store);
/* What to show, and how. The services stay the store's. */
void serve_fs_options(const struct serve_options *o, const struct store *store,
		      struct prefetch *prefetch, struct fs_options *out);
