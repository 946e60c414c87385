#pragma once

/* Folders that targets work in, in memory where the system has a place for that. */

/* A new one, below $TMPDIR or /dev/shm or /tmp; malloc'd. */
char *fuzz_folder_new(void);
/* Removes what is there under a path, however much it is; nothing being there is fine too. */
void fuzz_folder_remove(const char *path);
