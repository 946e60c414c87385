#pragma once

/*
 * What the recorder writes and the replay reads: everything that programs do to the files below
 * one folder, in the order in which it happened, over all of their processes and threads.
 *
 * A log is one entry after another: struct log_entry, then the first name, the second name and
 * the data, without anything between them. Files and folders are named by their inode numbers;
 * a number means another file from the entry on that says that one was made.
 */

#include <stdint.h>

enum log_op {
	LOG_ROOT = 1, /* inode: the folder itself; by each process, when it begins */
	LOG_CREATE,   /* folder, name: a new file, inode */
	LOG_MKDIR,    /* folder, name: a new folder, inode */
	LOG_LINK,     /* folder, name: one more name of inode */
	LOG_RENAME,   /* folder, name -> folder2, name2 */
	LOG_UNLINK,   /* folder, name; of a file or a folder */
	LOG_WRITE,    /* inode, offset, data */
	LOG_TRUNCATE, /* inode, offset: the new size */
	LOG_SYNC,     /* inode: fsync or fdatasync, of a file or a folder; name: its path */
	LOG_SYNC_ALL, /* syncfs; likewise */
	LOG_BEGIN,    /* data: what this process is going to do, see marks.h */
	LOG_SAY,      /* data: a write to standard output */
	LOG_END,      /* the process is done */
	LOG_UNKNOWN,  /* name: something that cannot be replayed */
};

enum log_flags {
	LOG_DURABLE = 1,  /* of a write: through a descriptor that syncs each (O_DSYNC) */
	LOG_EXCHANGE = 2, /* of a rename in one folder: both names stay */
};

#define LOG_MAGIC 0x676f4c52u

struct log_entry {
	uint32_t magic;
	uint16_t op;    /* enum log_op */
	uint16_t flags; /* enum log_flags */
	uint32_t process;
	uint32_t name_len, name2_len;
	uint32_t zero;
	uint64_t inode, folder, folder2;
	uint64_t offset;
	uint64_t data_len;
};

/* Of programs that are recorded: */
#define RECORD_LOG "CAIRN_RECORD_LOG"       /* the file that the log is appended to */
#define RECORD_FOLDER "CAIRN_RECORD_FOLDER" /* everything below it is recorded */
#define RECORD_MARK "CAIRN_RECORD_MARK"     /* the data of LOG_BEGIN */
