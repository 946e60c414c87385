#pragma once

/*
 * Lets a connection's only reader write what can wait for a request that it would have to
 * answer itself.
 *
 * A FUSE_NOTIFY_STORE takes the lock of a page, and a page is locked while a READ of it is
 * under way. Mostly there is none: the client waits for another reply. But if another client
 * asks for the very same page at that moment, the reader would wait for itself. So a thread
 * looks every millisecond, as long as there is something to look after, whether the reader is
 * still where it was, and takes requests in its place until it is not.
 *
 * What remains: a process that is killed in just that moment leaves a thread that cannot end,
 * and with it the connection, until another server takes the connection over or somebody aborts
 * it (/sys/fs/fuse/connections/N/abort).
 */

#include <stdbool.h>

struct push_guard;

/*
 * stand_in does what the reader does, for one request at most, and returns after a millisecond
 * or so when none comes.
 */
struct push_guard *push_guard_new(void (*stand_in)(void *context), void *context);
/* Not between enter and leave. NULL is allowed. */
void push_guard_free(struct push_guard *g);

/* By the reader, around each write. False: there is no thread to be had; do not write. */
bool push_guard_enter(struct push_guard *g);
void push_guard_leave(struct push_guard *g);
