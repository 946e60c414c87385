#pragma once

/* What `cairn ls` and `cairn nar ls` are asked for, and the end of a line, which they share. */

#include "cli/cli.h"

struct ls_options {
	bool json;
	bool detailed;
	bool recursive;
	bool escape;
	char end; /* of a line */
};

/* False when the command ends with *exit_code. The arguments begin at optind. */
bool ls_options_parse(struct ls_options *o, struct cli *cli, const struct cli_command *command,
		      int argc, char **argv, int *exit_code);

/* What stands for the size of anything but a directory. */
uint64_t ls_size(const struct node *node);
/* The name, where a symlink points, and the end of the line. */
void ls_print_name(const struct ls_options *o, struct bytes name, const struct node *node);
