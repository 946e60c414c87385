#pragma once

/*
 * The one convention for failures.
 *
 * Doers return 0 or a negative error_code. Askers (has, open, get, lookup, next) return 1 for
 * found, 0 for absent, a negative error_code for failed: absent is an answer, never an error,
 * and corrupt or unreachable is never absent. Outputs are written on success only. The message
 * is filled once, where the fault is found, given context on the way up (error_wrap), and
 * logged once, at the edge. A NULL struct error is allowed everywhere and drops the message.
 */

#include "base/util.h"

enum error_code {
	ERROR_NONE = 0,
	ERROR_INVALID,     /* malformed input or argument */
	ERROR_CORRUPT,     /* stored or received bytes are not what they claim to be */
	ERROR_IO,          /* the operating system failed; os_errno says how */
	ERROR_NO_SPACE,    /* disk or quota full */
	ERROR_UNAVAILABLE, /* a peer or an object that must be there is not reachable now */
	ERROR_NOT_FOUND,   /* what the user named does not exist (askers return 0 instead) */
	ERROR_EXISTS,      /* what the user wants to create exists */
	ERROR_DENIED,      /* not permitted */
	ERROR_UNSUPPORTED, /* valid, but not offered here */
	ERROR_TIMEOUT,
	ERROR_CANCELED,
	ERROR_LIMIT,       /* a stated limit is exceeded, memory among them */
	ERROR_WOULD_BLOCK, /* asked not to wait, and the answer needs waiting */
	ERROR_CHANGED,     /* the source changed while it was read */
	ERROR_COLLECTED,   /* parts of it were collected meanwhile: all of it again */
	ERROR_CODE_COUNT
};

struct error {
	enum error_code code;
	int os_errno; /* 0 when no system call is to blame */
	char text[1000];
};

/* Sets code and message; returns -code, so that `return error_set(…)` reads well. */
int error_set(struct error *err, enum error_code code, const char *fmt, ...) printf_like(3, 4);

/* For a failed system call: the code follows from errnum, and its text is appended. */
int error_set_errno(struct error *err, int errnum, const char *fmt, ...) printf_like(3, 4);

/*
 * Puts "context: " before the message of the failure that err holds. Returns its -code again;
 * where err is NULL nothing knows the code any more, and it becomes ERROR_IO: who wants to tell
 * codes apart passes an error.
 */
int error_wrap(struct error *err, const char *fmt, ...) printf_like(2, 3);

/* The errno that a caller in the kernel or in C should see for a failure: positive. */
int error_to_errno(const struct error *err);

/* A word for a code ("corrupt"), for --json and logs. */
const char *error_code_name(enum error_code code);
