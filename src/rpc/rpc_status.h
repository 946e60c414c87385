#pragma once

/*
 * Statuses of gRPC and our error codes, in one place. There are fewer statuses than codes; so a
 * server of ours sends the name of the code along (RPC_STATUS_KEY in the trailing metadata),
 * and a client that finds it there takes it.
 */

#include "base/bytes.h"
#include "base/error.h"

/* The numbers are gRPC's. */
enum rpc_status {
	RPC_STATUS_OK = 0,
	RPC_STATUS_CANCELLED = 1,
	RPC_STATUS_UNKNOWN = 2,
	RPC_STATUS_INVALID_ARGUMENT = 3,
	RPC_STATUS_DEADLINE_EXCEEDED = 4,
	RPC_STATUS_NOT_FOUND = 5,
	RPC_STATUS_ALREADY_EXISTS = 6,
	RPC_STATUS_PERMISSION_DENIED = 7,
	RPC_STATUS_RESOURCE_EXHAUSTED = 8,
	RPC_STATUS_FAILED_PRECONDITION = 9,
	RPC_STATUS_ABORTED = 10,
	RPC_STATUS_OUT_OF_RANGE = 11,
	RPC_STATUS_UNIMPLEMENTED = 12,
	RPC_STATUS_INTERNAL = 13,
	RPC_STATUS_UNAVAILABLE = 14,
	RPC_STATUS_DATA_LOSS = 15,
	RPC_STATUS_UNAUTHENTICATED = 16,
};

#define RPC_STATUS_KEY "cairn-error"

enum rpc_status rpc_status_of(enum error_code code);
/* "NOT_FOUND"; "UNKNOWN" for numbers that are none. */
const char *rpc_status_name(int status);
/*
 * What a status from a peer means. name: what came under RPC_STATUS_KEY, or empty; it counts
 * only where the status fits it.
 */
enum error_code rpc_status_code(int status, struct bytes name);
