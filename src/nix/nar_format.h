#pragma once

/* The strings around the contents of a NAR, as the writer and views lay them out. */

#include "nix/nar.h"

#define NAR_PAD(len) (-(uint64_t)(len)&7)

/* The most that an entry and its node have before a file's content or a directory's entries. */
#define NAR_OPENING_MAX ((size_t)4736)
/* The most that comes behind a node: padding, its ")" and that of its entry. */
#define NAR_CLOSING_MAX ((size_t)40)

/* These write at a place and return the one behind it. */

/* "nix-archive-1", what a NAR begins with. */
uint8_t *nar_put_magic(uint8_t *at);
/* entry ( name <name> node */
uint8_t *nar_put_entry(uint8_t *at, struct bytes name);
/*
 * A node up to a file's content or a directory's first entry; of a symlink, everything but the
 * last parenthesis. Targets are valid.
 */
uint8_t *nar_put_node(uint8_t *at, const struct node *node);
/* Zeros behind so many bytes of content. */
uint8_t *nar_put_padding(uint8_t *at, uint64_t len);
/* ")" so many times. */
uint8_t *nar_put_close(uint8_t *at, unsigned count);

/* What they write. */
#define NAR_MAGIC_SIZE ((size_t)24)
#define NAR_CLOSE_SIZE ((size_t)16)
size_t nar_entry_size(struct bytes name);
size_t nar_node_size(const struct node *node);
