#include "cli/nar_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int nar_file_open(struct nar_file *f, const char *path, const atomic_bool *cancel,
		  struct error *err)
{
	bool given = path && strcmp(path, "-") != 0;

	*f = (struct nar_file){.name = "standard input", .fd = STDIN_FILENO};
	if (given) {
		f->name = path;
		f->fd = open(path, O_RDONLY | O_CLOEXEC);
		if (f->fd < 0) {
			return error_set_errno(err, errno, "%s",
					       bytes_printable(bytes_of_string(path)));
		}
	} else if (isatty(STDIN_FILENO)) {
		return error_set(err, ERROR_INVALID,
				 "a NAR is expected, and standard input is a terminal");
	}
	nar_fd_source_init(&f->source, f->fd, cancel);
	return 0;
}

void nar_file_close(struct nar_file *f)
{
	if (f->fd > STDIN_FILENO) {
		close(f->fd);
	}
	f->fd = -1;
}

int nar_file_result(const struct nar_file *f, int r, struct error *err)
{
	/* A system call that finds an argument invalid is another matter. */
	if ((r != -ERROR_INVALID && r != -ERROR_LIMIT) || err->os_errno) {
		return r;
	}
	if (r == -ERROR_INVALID) {
		err->code = ERROR_CORRUPT;
	}
	return error_wrap(err, "%s", bytes_printable(bytes_of_string(f->name)));
}

void json_nar(struct json *j, const uint8_t sha256[SHA256_SIZE], uint64_t size)
{
	struct hash hash = hash_of_sha256(sha256);
	struct buffer text cleanup(buffer_done) = {0};

	hash_format_sri(&hash, &text);
	buffer_append_byte(&text, '\0');
	json_text(j, "narHash", (const char *)text.ptr);
	json_number(j, "narSize", size);
}
