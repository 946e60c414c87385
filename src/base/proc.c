#include "base/proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/io.h"

size_t proc_resident_file_bytes(void)
{
	char text[128];
	unsigned long shared = 0;
	int fd cleanup(cleanup_close) = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[MAX(n, 0)] = '\0';
	/* size, resident, shared: in pages. */
	return sscanf(text, "%*u %*u %lu", &shared) == 1
		       ? shared * (size_t)sysconf(_SC_PAGESIZE)
		       : 0;
}

void *proc_mapping_of(int fd)
{
	unsigned long start, inode;
	unsigned device_major, device_minor;
	void *found = NULL;
	char line[512];
	struct stat st;
	FILE *maps = fopen("/proc/self/maps", "re");

	if (!maps) {
		return NULL;
	}
	if (fstat(fd, &st) == 0) {
		while (!found && fgets(line, sizeof(line), maps)) {
			if (sscanf(line, "%lx-%*x %*s %*x %x:%x %lu", &start, &device_major,
				   &device_minor, &inode) == 4 &&
			    inode == st.st_ino &&
			    makedev(device_major, device_minor) == st.st_dev) {
				found = (void *)start;
			}
		}
	}
	fclose(maps);
	return found;
}
