#pragma once

/* A certificate for "localhost" that signed itself, and its key, as PEM, for a day. */

#include "base/bytes.h"

void certificate_make(struct buffer *certificate, struct buffer *key);
