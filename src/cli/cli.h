#pragma once

/* What the subcommands share: options, exit codes, messages, root arguments. */

#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>

#include "services/store.h"

/* Exit codes; `cairn --help` lists them. */
enum exit_code {
	EXIT_CODE_OK = 0,
	EXIT_CODE_FAILURE = 1,
	EXIT_CODE_USAGE = 2,
	EXIT_CODE_NOT_FOUND = 3,
	EXIT_CODE_CORRUPT = 4,
	EXIT_CODE_UNAVAILABLE = 5,
	EXIT_CODE_EXISTS = 6,
	EXIT_CODE_DENIED = 7,
	EXIT_CODE_NO_SPACE = 8,
	EXIT_CODE_CHANGED = 9,
	EXIT_CODE_REPAIRED = 10,
	EXIT_CODE_INTERRUPTED = 130,
};

/* Options that every command takes, before or after its name. */
struct cli {
	const char *store;   /* as given with --store, or NULL */
	const char *config;  /* with --config, or NULL */
	unsigned durability; /* with --durability: flags for opening stores */
	bool json;
	bool help;
};

struct cli_command {
	const char *name;
	const char *program; /* "cairn NAME" */
	const char *help;
	/* Its own commands, with a NULL behind them; NULL when it has none. */
	const struct cli_command *const *commands;
	/* argv[0] is program. Returns an exit code. */
	int (*run)(struct cli *cli, const struct cli_command *command, int argc, char **argv);
};

extern const struct cli_command import_command, roots_command, ls_command, cat_command,
	du_command, export_command, mount_command, umount_command, upgrade_command,
	virtiofs_command, daemon_command, push_command, pull_command, nar_command, nix_command,
	config_command, stats_command, fsck_command, gc_command, reindex_command,
	version_command;

/* Of `cairn nix`. */
extern const struct cli_command nix_copy_command, nix_generate_key_command, nix_import_command,
	nix_path_info_command, nix_remove_command, nix_sign_command, nix_verify_command;

/* Of `cairn nar`. */
extern const struct cli_command nar_dump_command, nar_hash_command, nar_import_command,
	nar_restore_command, nar_ls_command, nar_cat_command;

enum {
	CLI_OPTION_STORE = 1000,
	CLI_OPTION_CONFIG,
	CLI_OPTION_DURABILITY,
	CLI_OPTION_JSON,
	CLI_OPTION_STOP,
	CLI_OPTION_OWN
};

#define CLI_SHORT_OPTIONS "hv"
#define CLI_LONG_OPTIONS                                                        \
	{"store", required_argument, NULL, CLI_OPTION_STORE},                   \
		{"config", required_argument, NULL, CLI_OPTION_CONFIG},         \
		{"durability", required_argument, NULL, CLI_OPTION_DURABILITY}, \
		{"json", no_argument, NULL, CLI_OPTION_JSON},                   \
		{"help", no_argument, NULL, 'h'},                               \
	{                                                                       \
		"verbose", no_argument, NULL, 'v'                               \
	}

/*
 * The next option that is the command's own; -1 after the last. The common ones are dealt with
 * here. CLI_OPTION_STOP: the command ends with *exit_code (--help, a wrong option).
 */
int cli_next_option(struct cli *cli, const struct cli_command *command, int argc, char **argv,
		    const char *short_options, const struct option *long_options,
		    int *exit_code);

/* Runs the command of parent that argv[0] names. */
int cli_run_command(struct cli *cli, const struct cli_command *parent, int argc, char **argv);
/* What a command with commands of its own runs: options, and then the one that is named. */
int cli_run_group(struct cli *cli, const struct cli_command *command, int argc, char **argv);

/* A usage error: the message, a pointer to --help; returns the exit code. */
int cli_usage(const struct cli_command *command, const char *fmt, ...) printf_like(2, 3);
/* Says what went wrong; returns the exit code for it. */
int cli_fail(const struct error *err);
/* A count from an option's argument, 1 to max; false and a usage message otherwise. */
bool cli_parse_count(const struct cli_command *command, const char *option, const char *text,
		     unsigned max, unsigned *out);
/* The same for bytes, as 64M, min or more. */
bool cli_parse_size(const struct cli_command *command, const char *option, const char *text,
		    uint64_t min, uint64_t *out);

/* Which of the words (NULL ends them) an argument is; -1 after a usage message. */
int cli_parse_choice(const struct cli_command *command, const char *option, const char *text,
		     const char *const *words);

/*
 * The address that holds: --store, $CAIRN_STORE, what the configuration says or the directory
 * of the user. malloc'd; NULL when there is none.
 */
char *cli_store_address(const struct cli *cli);
/* The same, a relative path made absolute. */
char *cli_store_absolute(const struct cli *cli);
int cli_open_store(const struct cli *cli, unsigned flags, struct store *out, struct error *err);

/*
 * ROOT arguments: NAME[/PATH], DIGEST[/PATH], the digest in either text form, or a store path
 * that has a path info, HASH-NAME[/PATH], also with /nix/store/ before it. A digest stands for
 * a directory; where prefer_blob is set, or where there is no such directory, for a file
 * with this content. Doer: what is absent is ERROR_NOT_FOUND, saying what.
 */
int cli_resolve(struct store *store, const char *argument, bool prefer_blob,
		struct root_node *out, struct error *err);

/*
 * The same, and tells what of the argument is the name, a store path with /nix/store/ before
 * it, and what the path below it, clean. Of a digest, name stays empty and path is all of it.
 */
int cli_resolve_parts(struct store *store, const char *argument, struct buffer *name,
		      struct buffer *path, struct root_node *out, struct error *err);

/* Appends a path as people write it, without leading, trailing and doubled slashes. */
void cli_clean_path(struct buffer *out, const char *path);

/*
 * What gave names to trees failed so: shall it be done once more? Yes, a few times, when parts
 * of them were collected as garbage meanwhile. tries begins with 0.
 */
bool cli_once_more(int rc, unsigned *tries, const struct error *err);

/* From now on SIGINT, SIGTERM and SIGHUP set the flag; a second one ends the process. */
const atomic_bool *cli_catch_interrupts(void);
