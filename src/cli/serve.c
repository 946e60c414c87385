#include "cli/serve.h"

#include "nix/path_info_service.h"

/* False after a usage message. */
static bool set_inodes(struct serve_options *o, const struct cli_command *command)
{
	o->inodes_by_path = strcmp(optarg, "path") == 0;
	if (!o->inodes_by_path && strcmp(optarg, "content") != 0) {
		cli_usage(command, "--inodes takes content or path, not '%s'", optarg);
		return false;
	}
	return true;
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

int serve_open_store(const struct serve_options *o, const struct cli *cli, struct store *out,
		     struct error *err)
{
	int r = cli_open_store(cli, STORE_READ_ONLY, out, err);

	if (r == 0 && o->nix) {
		struct path_info_service *infos cleanup(cleanup_path_info_service) =
			path_info_store_new(out);

		root_nodes_unref(out->roots);
		out->roots = path_info_roots_new(infos);
	}
	return r;
}

void serve_fs_options(const struct serve_options *o, const struct store *store,
		      struct fs_options *out)
{
	*out = (struct fs_options){
		.blobs = store->blobs,
		.directories = store->directories,
		.roots = store->roots,
		.list_root = o->list_root,
		.show_xattr = o->xattr,
		.inodes_by_path = o->inodes_by_path,
	};
}
