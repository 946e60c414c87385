#pragma once

/* Small helpers of the language: sizes, scope exit, allocation that cannot fail. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Run fn(&variable) when the variable leaves its scope. */
#define cleanup(fn) __attribute__((cleanup(fn)))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define unused __attribute__((unused))

/* Defines NAME(TYPE *p), TYPE being a pointer, a cleanup function that calls FREE(*p). */
#define DEFINE_CLEANUP(name, type, free_fn)          \
	static inline void name(__typeof__(type) *p) \
	{                                            \
		free_fn(*p);                         \
	}

static inline void cleanup_free(void *p)
{
	void **slot = p;

	free(*slot);
}

static inline uint64_t round_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/*
 * For what our own code sizes: these never return NULL, they end the process when the machine
 * has no memory for a few hundred bytes. What is sized by outside input is limited first and
 * allocated with malloc, whose failure is an error like any other.
 */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) printf_like(1, 2);
