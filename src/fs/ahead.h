#pragma once

/*
 * The file that will probably be read next, read while nobody asks for anything: whoever goes
 * through the files of a directory in the order of its listing then finds the next one checked
 * and at hand. It wins the time that the daemon needs for a file, where that runs beside the
 * client; nothing is sent that was not asked for.
 *
 * Of one thread of a transport, which lends it with its replies (struct fs_reply).
 */

#include "fs/fs.h"

struct fs_ahead;

/*
 * buffer: FS_DATA_MAX bytes, the caller's. It and the data of a reply change places when the
 * file is asked for.
 */
struct fs_ahead *fs_ahead_new(struct fs *fs, void *buffer);
/* Returns the buffer that it has by now. NULL is allowed, and returned. */
void *fs_ahead_free(struct fs_ahead *a);

/*
 * Nobody asks: makes the next file ready, if there is one and it is in memory. True when that
 * took time, so that there may be a request by now.
 */
bool fs_ahead_prepare(struct fs_ahead *a);
