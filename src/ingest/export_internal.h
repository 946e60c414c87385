#pragma once

/* What the files of the export share. */

#include "ingest/export.h"
#include "ingest/work.h"

/* Files up to this size are read whole; larger ones are streamed, each as work of its own. */
#define EXPORT_WHOLE_MAX ((size_t)4 << 20)

struct exporting {
	struct store *store;
	struct export_options options;
	struct export_stats *stats;
	const char *dest;
};

/* Of one thread. */
struct export_worker {
	struct exporting *exporting;
	struct work *work; /* NULL outside of work_run */
	uint8_t *buffer;   /* EXPORT_WHOLE_MAX + 1 bytes */
};

/* True when the export is to be given up; work_stop() is the error then. */
bool export_stopping(const struct export_worker *w);

/* Makes a file or symlink that must not exist. The message has no path. */
int export_leaf(struct export_worker *w, int dirfd, const char *name, const struct node *node,
		struct error *err);
