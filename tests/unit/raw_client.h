#pragma once

/*
 * A gRPC client without manners, for tests of the server: it sends what it is told, in whatever
 * order. Failures of its own end the test.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/error.h"
#include "rpc/rpc_status.h"

struct raw_client;

/* target: "unix:/path" or "127.0.0.1:1234". */
struct raw_client *raw_client_new(const char *target);
void raw_client_free(struct raw_client *c);

struct raw_call;

/* authorization: sent as metadata; NULL: none. */
struct raw_call *raw_call_start(struct raw_client *c, const char *method,
				const char *authorization);
/* False when the call has ended. */
bool raw_call_send(struct raw_call *call, struct bytes message);
void raw_call_send_end(struct raw_call *call);
/* The next message, replacing what was there; false after the last one. */
bool raw_call_receive(struct raw_call *call, struct buffer *message);
void raw_call_cancel(struct raw_call *call);
/* The status; its text goes to text, which may be NULL. Ends the call. */
enum rpc_status raw_call_finish(struct raw_call *call, struct buffer *text);

/* A call with one request; the one answer is appended to answer, which may be NULL. */
enum rpc_status raw_ask(struct raw_client *c, const char *method, struct bytes request,
			struct buffer *answer);
