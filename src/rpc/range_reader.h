#pragma once

/* A reader of a blob that a cairn has: it reads ahead, since each range is a round trip. */

#include "rpc/range.h"
#include "services/blob_service.h"

/* Asker. The source outlives it. */
int range_reader_open(struct range_source *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err);
