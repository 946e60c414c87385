#pragma once

/*
 * Payloads of records, compressed: each is one frame of zstd. The only file that knows zstd is
 * codec.c.
 *
 * A codec holds what compressing and decompressing need in memory, which costs more to make
 * than to use. A pool keeps those that are not in use. A codec that was taken belongs to one
 * thread.
 */

#include <pthread.h>

#include "base/bytes.h"
#include "base/error.h"

/*
 * Smaller contents stay as they are. Measured: a microsecond spent on them saves less than half
 * of the bytes that it saves elsewhere, and they are a twentieth of what could be saved.
 */
#define CODEC_CONTENT_MIN ((size_t)4096)
/* Nothing larger is compressed, and nothing is decompressed to more than this. */
#define CODEC_CONTENT_MAX ((size_t)16 << 20)
/* Compressed or not at all: what saves less than an eighth is not worth decompressing. */
#define CODEC_SAVED_MIN(size) ((size) / 8)

struct codec;

struct codec_pool {
	pthread_mutex_t lock; /* guards the rest */
	struct codec *idle;
	unsigned idle_count;
};

void codec_pool_init(struct codec_pool *p);
/* All codecs must have been given back. */
void codec_pool_done(struct codec_pool *p);
struct codec *codec_take(struct codec_pool *p);
/* NULL is allowed. */
void codec_give(struct codec_pool *p, struct codec *c);

/*
 * Asker: 0 when it does not pay, and the content is best kept as it is. The frame is borrowed
 * until the codec is used again.
 */
int codec_compress(struct codec *c, struct bytes content, struct bytes *frame);
/* Room for a frame of this length; borrowed until the codec is used again. NULL: no memory. */
uint8_t *codec_frame_room(struct codec *c, size_t len);
/*
 * Decompresses a frame, which may be that of codec_frame_room(), to exactly size bytes, at most
 * CODEC_CONTENT_MAX: ERROR_CORRUPT when they would be fewer or more. Nothing is written behind
 * them; what is written there before a failure is of no meaning.
 */
int codec_decompress(struct codec *c, struct bytes frame, void *out, size_t size,
		     struct error *err);
