#include "transports/mount_table.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* White space and backslashes are three octal digits behind a backslash. */
static void unescape(char *text)
{
	char *out = text;

	for (const char *p = text; *p; p++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] && p[3]) {
			*out++ = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 3;
		} else {
			*out++ = *p;
		}
	}
	*out = '\0';
}

/* The number behind "user_id=" among the options. */
static uid_t owner_of(const char *options)
{
	const char *at = strstr(options, ",user_id=");

	return at ? (uid_t)strtoul(at + strlen(",user_id="), NULL, 10) : (uid_t)-1;
}

/*
 * A line of mountinfo: id, parent, device, root, path, options, fields up to a "-", type,
 * source, options of the file system. False when it is none. path points into it.
 */
static bool parse(char *line, struct mount_table_entry *out)
{
	char *fields[5], *rest = line;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		fields[i] = strsep(&rest, " ");
	}
	char *tail = rest ? strstr(rest, " - ") : NULL;

	if (!tail) {
		return false;
	}
	tail += strlen(" - ");
	const char *type = strsep(&tail, " ");

	strsep(&tail, " "); /* the source */
	unescape(fields[4]);
	out->path = fields[4];
	out->owner = tail ? owner_of(tail) : (uid_t)-1;
	snprintf(out->type, sizeof(out->type), "%s", type);
	snprintf(out->device, sizeof(out->device), "%s", fields[2]);
	return true;
}

int mount_table_read(void (*visit)(void *context, const struct mount_table_entry *entry),
		     void *context, struct error *err)
{
	FILE *table = fopen("/proc/self/mountinfo", "re");
	struct mount_table_entry entry;
	char *line = NULL;
	size_t size = 0;

	if (!table) {
		return error_set_errno(err, errno, "cannot read /proc/self/mountinfo");
	}
	while (getline(&line, &size, table) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (parse(line, &entry)) {
			visit(context, &entry);
		}
	}
	free(line);
	fclose(table);
	return 0;
}

struct search {
	const char *path;
	struct mount_table_entry *out;
	int found;
};

static void compare(void *context, const struct mount_table_entry *entry)
{
	struct search *s = context;

	if (strcmp(entry->path, s->path) == 0) {
		*s->out = *entry;
		s->out->path = NULL;
		s->found = 1;
	}
}

int mount_table_find(const char *path, struct mount_table_entry *out, struct error *err)
{
	struct search s = {.path = path, .out = out};
	int rc = mount_table_read(compare, &s, err);

	return rc < 0 ? rc : s.found;
}
