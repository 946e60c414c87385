#pragma once

/*
 * A NAR onto the disk, without a store. Modes, owners and times are those of an export
 * (directories 0755, files 0644 or 0755, less the umask; long runs of zeros become holes), and
 * nothing outside of the destination is touched, whatever the NAR holds.
 */

#include "nix/nar.h"

/*
 * dest must not exist (ERROR_EXISTS), or be an empty directory when the NAR holds a directory.
 * The NAR is read strictly, as nar_reader.h does, and up to the end of the source. After
 * another failure the destination is incomplete, and the message says so. options may be NULL.
 */
int nar_restore(struct nar_source *source, const char *dest, const struct nar_options *options,
		struct error *err);
