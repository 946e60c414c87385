#pragma once

/* How nodes look to stat: all of it follows from content. */

#include "castore/node.h"
#include "fs/fuse_protocol.h"

/*
 * st_ino of content: equal for equal nodes, different otherwise (64 bits of digest). Never 0 or
 * 1, which is the root's.
 */
uint64_t attributes_ino(const struct node *node);
/* st_ino of a directory by its path: the parent's and the name. */
uint64_t attributes_ino_of_place(uint64_t parent_ino, struct bytes name);

/* File type and permissions. */
uint32_t attributes_mode(const struct node *node);

void attributes_fill(struct fuse_attr *out, const struct node *node, uint64_t ino);
