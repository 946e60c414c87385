#pragma once

/*
 * Results on standard output: names and nodes as text. Failures to write are seen at the
 * end of the program, or earlier with ferror(stdout).
 */

#include <stdio.h>

#include "castore/node.h"

/*
 * A character of UTF-8 at the front of b, which is not empty: its length, or 0 when these bytes
 * are none.
 */
size_t output_utf8_length(struct bytes b);

/* A control character at the front of b, which begins with a character of UTF-8. */
bool output_is_control(struct bytes b);

/* True when names on standard output are for the eyes of a person. */
bool output_to_terminal(void);

/* A name or path: raw, or with backslash escapes where it would confuse a terminal. */
void output_name(struct bytes name, bool escape);

/* The digest of a node, or "-" at the same width for a symlink. */
void output_digest(const struct node *node);

/* As ls -l shows it: "-r-xr-xr-x". */
const char *output_mode(const struct node *node);
