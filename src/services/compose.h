#pragma once

/*
 * Addresses of stores that consist of stores. The addresses inside are percent-encoded; a name
 * of the configuration may stand for one.
 *
 *   cache://?near=ADDRESS&far=ADDRESS     cache/cache.h; whole=SIZE, ranges=SIZE
 *   fallback://?stores=ADDRESS%20ADDRESS  fallback.h; two or more, with spaces between
 *   lru://?store=ADDRESS&size=SIZE        lru.h; size is 64M unless it is given
 *   read-only://?store=ADDRESS            read_only.h
 *   parts://?blobs=ADDRESS&directories=ADDRESS&roots=ADDRESS&path-infos=ADDRESS
 *                                         each kind of thing in a store of its own
 */

#include "services/store_scheme.h"

extern const struct store_scheme compose_cache_scheme, compose_fallback_scheme,
	compose_lru_scheme, compose_parts_scheme, compose_read_only_scheme;
