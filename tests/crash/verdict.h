#pragma once

/* Is a folder with stores as it must be after a crash? */

#include "base/error.h"
#include "marks.h"

/*
 * Opens each store that the marks name, below `folder`, as the program would, and looks at
 * everything: names and path infos are those that the marks allow when the entries before `now`
 * have happened, their trees are whole, every byte of every object gives its digest, fsck finds
 * nothing, new things can be put, and the index that is made from packs and files alone says
 * the same of all this. The folder is changed. A failure says what is wrong.
 */
int verdict_on(const char *folder, const struct marks *marks, uint64_t now, struct error *err);
