#pragma once

/* Options of commands that listen on a Unix socket: what its name in the file system is like.
 */

#include "base/unix_listener.h"
#include "cli/cli.h"

#define SOCKET_OPTIONS_DEFAULT                                       \
	{                                                            \
		.mode = 0600, .owner = (uid_t)-1, .group = (gid_t)-1 \
	}

/* From optarg, for the option of this name; false after a usage message. */
bool socket_options_mode(const struct cli_command *command, const char *option, mode_t *out);
bool socket_options_user(const struct cli_command *command, const char *option, uid_t *out);
bool socket_options_group(const struct cli_command *command, const char *option, gid_t *out);
