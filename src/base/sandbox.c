#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/syscall_filter.h"

/* All that version 1 of Landlock knows; what it does not know stays allowed. */
#define LANDLOCK_RIGHTS ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)

/* ---- Paths ---- */

static int allow_below(int ruleset, const char *folder, uint64_t rights, struct error *err)
{
	int fd cleanup(cleanup_close) = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};

	if (fd < 0 || syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule,
			      0) != 0) {
		return error_set_errno(err, errno, "cannot confine this process to %s", folder);
	}
	return 0;
}

static int add_rules(int ruleset, const struct sandbox_options *o, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < o->readable_count; i++) {
		rc = allow_below(ruleset, o->readable[i],
				 LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
				 err);
	}
	if (rc == 0 && o->removable) {
		rc = allow_below(ruleset, o->removable, LANDLOCK_ACCESS_FS_REMOVE_FILE, err);
	}
	return rc;
}

/* Asker: 0 when the kernel has no Landlock; else the ruleset. */
static int prepare_paths(const struct sandbox_options *o, int *ruleset, struct error *err)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = LANDLOCK_RIGHTS};

	*ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (*ruleset < 0) {
		return errno == ENOSYS || errno == EOPNOTSUPP
			       ? 0
			       : error_set_errno(err, errno, "cannot confine this process");
	}
	int rc = add_rules(*ruleset, o, err);

	return rc < 0 ? rc : 1;
}

/* ---- Capabilities ---- */

/*
 * Root without capabilities is a user like others. If the store is another's, reading it takes
 * one; confined to that folder, it is of no other use.
 */
static uint32_t needed_capability(const struct sandbox_options *o)
{
	bool foreign = false;

	for (size_t i = 0; i < o->readable_count; i++) {
		struct stat st;

		foreign |= stat(o->readable[i], &st) == 0 && st.st_uid != geteuid();
	}
	return foreign ? CAP_TO_MASK(CAP_DAC_READ_SEARCH) : 0;
}

static int drop_capabilities(uint32_t kept, struct error *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	/* The bounding set first, as long as that is permitted. Without, there is no need. */
	for (int cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++) {
	}
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capget, &header, data) != 0) {
		return error_set_errno(err, errno, "cannot drop privileges");
	}
	kept &= data[0].permitted;
	data[0] = (struct __user_cap_data_struct){.effective = kept, .permitted = kept};
	data[1] = (struct __user_cap_data_struct){0};
	if (syscall(SYS_capset, &header, data) != 0) {
		return error_set_errno(err, errno, "cannot drop privileges");
	}
	return 0;
}

int sandbox_enter(const struct sandbox_options *o, bool *paths_confined, struct error *err)
{
	int ruleset cleanup(cleanup_close) = -1;
	int found = prepare_paths(o, &ruleset, err);
	int rc = found < 0 ? found : drop_capabilities(needed_capability(o), err);

	if (rc < 0) {
		return rc;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		return error_set_errno(err, errno, "cannot give up new privileges");
	}
	if (found > 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) {
		return error_set_errno(err, errno, "cannot confine this process");
	}
	rc = syscall_filter_install(found > 0 && o->removable, err);
	if (rc == 0) {
		*paths_confined = found > 0;
	}
	return rc;
}
