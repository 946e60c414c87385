/*
 * For guests, whose busybox has nothing of the kind: prints an extended attribute of a file, or
 * the names of all. Static, because a guest has no libraries.
 *
 * usage: guest_xattr PATH [NAME]
 */

#include <stdio.h>
#include <sys/xattr.h>

int main(int argc, char **argv)
{
	char text[4096];
	ssize_t n = -1;

	if (argc == 3) {
		n = lgetxattr(argv[1], argv[2], text, sizeof(text));
	} else if (argc == 2) {
		n = llistxattr(argv[1], text, sizeof(text));
	}
	if (n < 0) {
		perror("guest_xattr");
		return 1;
	}
	for (ssize_t i = 0; i < n; i++) {
		putchar(text[i] ? text[i] : '\n');
	}
	putchar('\n');
	return 0;
}
