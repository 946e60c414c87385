/* The check of the format file: packs say as well which store they belong to. */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "services/local/check.h"
#include "services/local/format_file.h"
#include "services/local/pack_scan.h"

#define PACK_ID_AT 32

struct id_count {
	uint8_t id[STORE_ID_SIZE];
	size_t count;
};

struct id_list {
	struct local_store *store;
	struct id_count *ids;
	size_t count;
};

static int visit_pack(void *context, const char *name, uint32_t number,
		      struct error *err unused)
{
	struct id_list *l = context;
	uint8_t header[PACK_HEADER_SIZE];
	int fd cleanup(cleanup_close) = openat(l->store->dirfd, name, O_RDONLY | O_CLOEXEC);
	size_t i = 0;

	/* With whatever id it has. */
	if (fd < 0 || pread_full(fd, header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
	    !pack_header_valid(header, number, header + PACK_ID_AT)) {
		return 0;
	}
	while (i < l->count && memcmp(l->ids[i].id, header + PACK_ID_AT, STORE_ID_SIZE) != 0) {
		i++;
	}
	if (i == l->count) {
		l->ids = xrealloc(l->ids, (l->count + 1) * sizeof(*l->ids));
		l->ids[l->count] = (struct id_count){0};
		memcpy(l->ids[l->count++].id, header + PACK_ID_AT, STORE_ID_SIZE);
	}
	l->ids[i].count++;
	return 0;
}

int check_pack_ids(int dirfd, const char *path, uint8_t id[STORE_ID_SIZE],
		   const uint8_t other[STORE_ID_SIZE], size_t *most, size_t *others,
		   struct error *err)
{
	char *copy cleanup(cleanup_free) = xstrdup(path);
	struct local_store folder = {.dirfd = dirfd, .path = copy};
	struct id_list l = {.store = &folder};
	int rc = local_packs_visit(&folder, visit_pack, &l, err);

	*most = *others = 0;
	for (size_t i = 0; rc == 0 && i < l.count; i++) {
		if (l.ids[i].count > *most) {
			*most = l.ids[i].count;
			memcpy(id, l.ids[i].id, STORE_ID_SIZE);
		}
		if (memcmp(l.ids[i].id, other, STORE_ID_SIZE) == 0) {
			*others = l.ids[i].count;
		}
	}
	free(l.ids);
	return rc ? rc : *most > 0;
}

static int damaged(const char *why, struct error *err)
{
	return error_set(err, ERROR_CORRUPT,
			 "the file is damaged (%s); the packs say which store this is, and "
			 "`cairn fsck --repair` makes it again",
			 why);
}

int check_format(const char *path, struct error *err)
{
	uint8_t id[STORE_ID_SIZE], said[STORE_ID_SIZE] = {0};
	size_t most, own;
	struct error why = {0};
	int dirfd cleanup(cleanup_close) = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dirfd < 0) {
		return errno == ENOENT
			       ? error_set(err, ERROR_NOT_FOUND, "there is no store at %s",
					   path)
			       : error_set_errno(err, errno, "cannot open store %s", path);
	}
	int rc = format_file_read(dirfd, path, said, &why);

	if (check_pack_ids(dirfd, path, id, said, &most, &own, NULL) <= 0) {
		/* Nothing to compare with. */
		*err = why;
		return rc < 0    ? rc
		       : rc == 0 ? error_set(err, ERROR_NOT_FOUND, "there is no store at %s",
					     path)
				 : 0;
	}
	if (rc < 0 && why.code == ERROR_IO) {
		*err = why;
		return rc;
	}
	if (rc <= 0) {
		return damaged(rc == 0 ? "there is none" : why.text, err);
	}
	/* Of one pack against the file nobody knows which is right. */
	return own == 0 && most > 1 ? damaged("it names another store", err) : 0;
}
