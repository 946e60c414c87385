#pragma once

/*
 * For tests of transports: a blob service whose reads wait until they are let go, as if the
 * blobs came from far away.
 */

#include "services/blob_service.h"

/* Begins letting everything through. A reference for the caller. */
struct blob_service *stalled_blobs_new(struct blob_service *inner);
/* From now on reads wait. */
void stalled_blobs_stall(struct blob_service *s);
/* Waits until so many reads wait. */
void stalled_blobs_await(struct blob_service *s, unsigned count);
/* Lets all go on. */
void stalled_blobs_release(struct blob_service *s);
