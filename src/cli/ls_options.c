#include "cli/ls_options.h"

#include "cli/output.h"

bool ls_options_parse(struct ls_options *o, struct cli *cli, const struct cli_command *command,
		      int argc, char **argv, int *exit_code)
{
	static const struct option options[] = {CLI_LONG_OPTIONS,
						{"long", no_argument, NULL, 'l'},
						{"recursive", no_argument, NULL, 'R'},
						{"null", no_argument, NULL, '0'},
						{0}};
	int c;

	*o = (struct ls_options){.escape = output_to_terminal(), .end = '\n'};
	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "lR0", options,
				    exit_code)) != -1) {
		switch (c) {
		case 'l':
			o->detailed = true;
			break;
		case 'R':
			o->recursive = true;
			break;
		case '0':
			o->end = '\0';
			o->escape = false;
			break;
		default:
			return false;
		}
	}
	o->json = cli->json;
	return true;
}

uint64_t ls_size(const struct node *node)
{
	return node->kind == NODE_SYMLINK ? (uint64_t)node->target.len : node->size;
}

void ls_print_name(const struct ls_options *o, struct bytes name, const struct node *node)
{
	output_name(name, o->escape);
	if (o->detailed && node->kind == NODE_SYMLINK) {
		fputs(" -> ", stdout);
		output_name(node->target, o->escape);
	}
	putchar(o->end);
}
