#include "cli/serve.h"

#include "nix/path_info_service.h"
#include "services/directory_roots.h"

/* False after a usage message. */
static bool set_inodes(struct serve_options *o, const struct cli_command *command)
{
	static const char *const words[] = {"content", "path", NULL};
	int choice = cli_parse_choice(command, "--inodes", optarg, words);

	o->inodes_by_path = choice == 1;
	return choice >= 0;
}

/* False after a usage message. */
static bool set_prefetch(struct serve_options *o, const struct cli_command *command)
{
	static const char *const words[] = {[PREFETCH_DIRECTORIES] = "directories",
					    [PREFETCH_ALL] = "all",
					    [PREFETCH_NONE] = "none",
					    NULL};
	int choice = cli_parse_choice(command, "--prefetch", optarg, words);

	o->prefetch = (enum prefetch_mode)choice;
	return choice >= 0;
}

int serve_next_option(struct serve_options *o, struct cli *cli,
		      const struct cli_command *command, int argc, char **argv,
		      const char *short_options, const struct option *long_options,
		      int *exit_code)
{
	for (;;) {
		int c = cli_next_option(cli, command, argc, argv, short_options, long_options,
					exit_code);
		bool valid = true;

		switch (c) {
		case SERVE_OPTION_ROOT:
			o->root = optarg;
			break;
		case SERVE_OPTION_PREFETCH:
			valid = set_prefetch(o, command);
			break;
		case SERVE_OPTION_NIX:
			o->nix = true;
			break;
		case SERVE_OPTION_LIST_ROOT:
			o->list_root = true;
			break;
		case SERVE_OPTION_XATTR:
			o->xattr = true;
			break;
		case SERVE_OPTION_INODES:
			valid = set_inodes(o, command);
			break;
		case SERVE_OPTION_THREADS:
			valid = cli_parse_count(command, "--threads", optarg, SERVE_THREADS_MAX,
						&o->threads);
			break;
		default:
			return c;
		}
		if (!valid) {
			*exit_code = EXIT_CODE_USAGE;
			return CLI_OPTION_STOP;
		}
	}
}

/* The roots of the store are replaced by the entries of a tree. */
static int use_root(struct serve_options *o, struct store *store, struct error *err)
{
	struct root_node node cleanup(root_node_done) = {0};
	struct directory *d cleanup(cleanup_directory) = NULL;
	int r = cli_resolve(store, o->root, false, &node, err);

	if (r < 0) {
		return r;
	}
	if (node.node.kind != NODE_DIRECTORY) {
		return error_set(err, ERROR_INVALID,
				 "%s is a %s: only a directory can be shown",
				 bytes_printable(bytes_of_string(o->root)),
				 node_kind_name(node.node.kind));
	}
	o->root_digest = node.node.digest;
	r = directory_service_get(store->directories, &o->root_digest, &d, err);
	if (r == 0) {
		r = error_set(err, ERROR_NOT_FOUND, "directory %s is absent",
			      digest_text(&o->root_digest));
	}
	if (r > 0) {
		root_nodes_unref(store->roots);
		store->roots = directory_roots_new(d);
	}
	return MIN(r, 0);
}

int serve_open_store(struct serve_options *o, const struct cli *cli, struct store *out,
		     struct error *err)
{
	int r = cli_open_store(cli, STORE_READ_ONLY, out, err);

	if (r == 0 && o->root && o->nix) {
		r = error_set(err, ERROR_INVALID, "either --root or --nix");
	}
	if (r == 0) {
		/* In a sandbox it would be too late. */
		store_hold_nothing_yet();
	}
	if (r == 0 && o->root) {
		return use_root(o, out, err);
	}
	if (r == 0 && o->nix) {
		struct path_info_service *infos cleanup(cleanup_path_info_service) =
			path_info_store_new(out);

		root_nodes_unref(out->roots);
		out->roots = path_info_roots_new(infos);
	}
	if (r == 0) {
		out->roots = store_hold_roots(out->roots);
	}
	return r;
}

struct prefetch *serve_prefetch(const struct serve_options *o, struct store *store)
{
	return prefetch_new(store, o->prefetch, o->root ? &o->root_digest : NULL);
}

void serve_fs_options(const struct serve_options *o, const struct store *store,
		      struct prefetch *prefetch, struct fs_options *out)
{
	*out = (struct fs_options){
		.blobs = store->blobs,
		.directories = store->directories,
		.roots = store->roots,
		/* Of a tree that is known there is nothing to hide. */
		.list_root = o->list_root || o->root,
		.show_xattr = o->xattr,
		.inodes_by_path = o->inodes_by_path,
		.touched = prefetch ? prefetch_touch : NULL,
		.touched_context = prefetch,
	};
}
