#include "cli/socket_options.h"

#include <grp.h>
#include <pwd.h>

/* A number from 0 up, all of the text; false for anything else. */
static bool parse_number(const char *text, int base, unsigned long max, unsigned long *out)
{
	char *end;

	*out = strtoul(text, &end, base);
	return text[0] >= '0' && text[0] <= '9' && !*end && *out <= max;
}

bool socket_options_mode(const struct cli_command *command, const char *option, mode_t *out)
{
	unsigned long mode;

	if (!parse_number(optarg, 8, 0777, &mode)) {
		cli_usage(command, "%s takes an octal mode up to 777, not '%s'", option,
			  optarg);
		return false;
	}
	*out = (mode_t)mode;
	return true;
}

bool socket_options_user(const struct cli_command *command, const char *option, uid_t *out)
{
	const struct passwd *user = getpwnam(optarg);
	unsigned long id;

	if (!user && !parse_number(optarg, 10, UINT32_MAX - 1, &id)) {
		cli_usage(command, "%s: there is no user '%s'", option, optarg);
		return false;
	}
	*out = user ? user->pw_uid : (uid_t)id;
	return true;
}

bool socket_options_group(const struct cli_command *command, const char *option, gid_t *out)
{
	const struct group *group = getgrnam(optarg);
	unsigned long id;

	if (!group && !parse_number(optarg, 10, UINT32_MAX - 1, &id)) {
		cli_usage(command, "%s: there is no group '%s'", option, optarg);
		return false;
	}
	*out = group ? group->gr_gid : (gid_t)id;
	return true;
}
