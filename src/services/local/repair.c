#include "services/local/repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "services/local/format_file.h"
#include "services/local/logged_table.h"

#define QUARANTINE "quarantine"

void repair_tell(const struct repair *r, const char *fmt, ...)
{
	char text[1200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (r->options->tell) {
		r->options->tell(r->options->context, text);
	}
}

int repair_make_quarantine(struct repair *r, struct error *err)
{
	time_t now = time(NULL);
	struct tm tm;
	char stamp[32];

	if (r->quarantine[0]) {
		return 0;
	}
	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	if (mkdirat(r->dirfd, QUARANTINE, 0755) != 0 && errno != EEXIST) {
		return error_set_errno(err, errno, "cannot create %s/" QUARANTINE, r->path);
	}
	for (unsigned i = 0;; i++) {
		snprintf(r->quarantine, sizeof(r->quarantine), QUARANTINE "/%s-%u", stamp, i);
		if (mkdirat(r->dirfd, r->quarantine, 0755) == 0) {
			return 0;
		}
		if (errno != EEXIST) {
			int errnum = errno;

			r->quarantine[0] = 0;
			return error_set_errno(err, errnum, "cannot create %s/" QUARANTINE,
					       r->path);
		}
	}
}

int repair_keep(struct repair *r, const char *name, struct bytes content, struct error *err)
{
	int rc = repair_make_quarantine(r, err);
	int fd cleanup(cleanup_close) =
		rc ? -1 : openat(r->dirfd, r->quarantine, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (rc) {
		return rc;
	}
	return fd < 0 ? error_set_errno(err, errno, "cannot open %s/%s", r->path, r->quarantine)
		      : write_file_durably(fd, name, content, err);
}

static size_t count_of(const struct store_check_report *report, enum store_fault_kind kind)
{
	size_t count = 0;

	for (size_t i = 0; i < report->fault_count; i++) {
		count += report->faults[i].kind == kind;
	}
	return count;
}

/* ---- the format file ---- */

/* The descriptor of a lock that keeps all others out. */
static int lock_alone(struct repair *r, struct error *err)
{
	int fd = openat(r->dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0) {
		return error_set_errno(err, errno, "cannot write to store %s", r->path);
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		close(fd);
		return error_set(err, ERROR_UNAVAILABLE,
				 "store %s is in use by another process", r->path);
	}
	return fd;
}

static int repair_format(struct repair *r, struct error *err)
{
	struct buffer old cleanup(buffer_done) = {0};
	uint8_t id[STORE_ID_SIZE], none[STORE_ID_SIZE] = {0};
	size_t most, others;
	int lock cleanup(cleanup_close) = lock_alone(r, err);

	if (lock < 0) {
		return lock;
	}
	int rc = check_pack_ids(r->dirfd, r->path, id, none, &most, &others, err);

	if (rc > 0) {
		rc = read_small_file(r->dirfd, "format", 1 << 20, &old, err);
	}
	if (rc > 0) {
		rc = repair_keep(r, "format", buffer_bytes(&old), err);
	}
	if (rc == 0) {
		rc = format_file_write(r->dirfd, id, err);
	}
	if (rc == 0) {
		repair_tell(r, "made the file format again");
	}
	return rc;
}

/* ---- packs and index ---- */

/* Headers say nothing that is not known: with a right one, the records can be read. */
static int repair_header(struct repair *r, struct local_store *s, const char *name,
			 struct error *err)
{
	uint64_t number = strtoull(name + strlen("packs/"), NULL, 16);
	uint8_t old[PACK_HEADER_SIZE], header[PACK_HEADER_SIZE];
	char kept[32];
	int fd cleanup(cleanup_close) = openat(s->dirfd, name, O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		return 0;
	}
	if (fd < 0) {
		return error_set_errno(err, errno, "cannot open %s/%s", r->path, name);
	}
	ssize_t len = pread_full(fd, old, sizeof(old), 0);

	if (len < 0) {
		return error_set_errno(err, errno, "cannot read %s/%s", r->path, name);
	}
	if (len == (ssize_t)sizeof(old) && pack_header_valid(old, number, s->id)) {
		return 0;
	}
	snprintf(kept, sizeof(kept), "%08llx.header", (unsigned long long)number);
	int rc = repair_keep(r, kept, bytes_of(old, (size_t)len), err);

	if (rc) {
		return rc;
	}
	pack_header_encode(header, number, s->id);
	if (pwrite_full(fd, header, sizeof(header), 0) != 0 || fdatasync(fd) != 0) {
		return error_set_errno(err, errno, "cannot write to %s/%s", r->path, name);
	}
	repair_tell(r, "made the header of %s again", name);
	return 0;
}

/* All that is needed is in packs and files. */
static int repair_index(struct repair *r, const struct store_check_report *faults,
			struct error *err)
{
	char aside[LOCAL_NAME_SIZE];
	struct store_rebuilt rebuilt;
	struct local_store *s;
	int rc = local_store_open_alone(&s, r->path, err);

	if (rc) {
		return error_wrap(err, "the index has to be made again");
	}
	for (size_t i = 0; rc == 0 && i < faults->fault_count; i++) {
		if (faults->faults[i].kind == STORE_FAULT_PACK) {
			rc = repair_header(r, s, faults->faults[i].file, err);
		}
	}
	if (rc == 0) {
		rc = repair_make_quarantine(r, err);
	}
	if (rc == 0) {
		snprintf(aside, sizeof(aside), "%s/index", r->quarantine);
		rc = local_index_rebuild(s, aside, &rebuilt, err);
	}
	local_store_free(s);
	if (rc == 0) {
		repair_tell(r,
			    "made the index again: %llu blobs, %llu directories, %llu roots, "
			    "%llu path infos",
			    (unsigned long long)rebuilt.blobs,
			    (unsigned long long)rebuilt.directories,
			    (unsigned long long)rebuilt.roots,
			    (unsigned long long)rebuilt.path_infos);
	}
	return rc;
}

/* ---- changes of names that are in no pack ---- */

/* removals: also that there is none of a name; else only what the index has. */
static int log_again(struct repair *r, struct local_store *s, const struct logged_table *table,
		     const struct store_check_report *faults, bool removals, struct error *err)
{
	struct logged_write w;
	size_t count = 0;
	int rc = logged_write_begin(&w, table, s, false, err);

	if (rc) {
		return rc;
	}
	for (size_t i = 0; rc == 0 && i < faults->fault_count; i++) {
		const struct store_fault *f = &faults->faults[i];

		if (f->kind == STORE_FAULT_LOG && f->is_root == (table == &logged_roots)) {
			rc = logged_write_again(&w, bytes_of(f->key, f->key_len), removals,
						err);
			count += rc > 0;
			rc = MIN(rc, 0);
		}
	}
	rc = logged_write_end(&w, rc, err);
	if (rc == 0 && count) {
		repair_tell(r, "wrote %zu changes of names again", count);
	}
	return rc;
}

static int repair_log(struct repair *r, const struct store_check_report *faults, bool removals,
		      struct error *err)
{
	struct local_store *s;
	int rc = local_store_get(&s, r->path, 0, err);

	if (rc) {
		return rc;
	}
	rc = log_again(r, s, &logged_roots, faults, removals, err);
	if (rc == 0) {
		rc = log_again(r, s, &logged_path_infos, faults, removals, err);
	}
	local_store_unref(s);
	return rc;
}

/* ---- all of it ---- */

static int repair_contents(struct repair *r, const struct store_check_report *faults,
			   struct error *err)
{
	struct local_store *s;
	int rc = local_store_get(&s, r->path, 0, err);

	if (rc == 0) {
		rc = repair_objects(r, s, faults, err);
		local_store_unref(s);
	}
	return rc;
}

static bool index_is_wrong(const struct store_check_report *faults)
{
	return count_of(faults, STORE_FAULT_INDEX) || count_of(faults, STORE_FAULT_PACK);
}

struct reports {
	const struct store_check_report *known; /* what is wrong, as far as it was seen */
	struct store_check_report *now;
};

static int check_again(struct repair *r, struct reports *p, struct error *err)
{
	store_check_report_done(p->now);
	p->known = p->now;
	return local_store_check(r->path, &r->options->check, p->now, err);
}

static int repair_all(struct repair *r, struct reports *p, struct error *err)
{
	int rc = 0;

	if (count_of(p->known, STORE_FAULT_FORMAT)) {
		rc = repair_format(r, err);
		rc = rc ? rc : check_again(r, p, err);
	}
	/*
	 * Names that the index has and the packs lack go into the packs before these are what
	 * the index is made of. Where only the two differ, the index is right: whatever it
	 * holds checks.
	 */
	if (rc == 0 && count_of(p->known, STORE_FAULT_LOG)) {
		rc = repair_log(r, p->known, !index_is_wrong(p->known), err);
	}
	if (rc == 0 && index_is_wrong(p->known)) {
		rc = repair_index(r, p->known, err);
		rc = rc ? rc : check_again(r, p, err);
	}
	if (rc == 0 && p->known->fault_count) {
		rc = repair_contents(r, p->known, err);
		rc = rc ? rc : check_again(r, p, err);
	}
	return rc;
}

int local_store_repair(const char *path, const struct store_repair_options *o,
		       struct store_check_report *before, struct store_check_report *after,
		       struct error *err)
{
	struct repair r = {.path = path, .options = o};
	struct reports reports = {.known = before, .now = after};
	int rc = local_store_check(path, &o->check, before, err);

	*after = (struct store_check_report){0};
	if (rc || before->fault_count == 0) {
		return rc;
	}
	r.dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r.dirfd < 0) {
		return error_set_errno(err, errno, "cannot open store %s", path);
	}
	rc = repair_all(&r, &reports, err);
	if (r.quarantine[0]) {
		repair_tell(&r, "what was taken out of use is in %s/%s", path, r.quarantine);
	}
	close(r.dirfd);
	return rc;
}
