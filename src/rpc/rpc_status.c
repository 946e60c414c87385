#include "rpc/rpc_status.h"

enum rpc_status rpc_status_of(enum error_code code)
{
	switch (code) {
	case ERROR_NONE:
		return RPC_STATUS_OK;
	case ERROR_INVALID:
		return RPC_STATUS_INVALID_ARGUMENT;
	case ERROR_CORRUPT:
		return RPC_STATUS_DATA_LOSS;
	case ERROR_NO_SPACE:
	case ERROR_LIMIT:
		return RPC_STATUS_RESOURCE_EXHAUSTED;
	case ERROR_UNAVAILABLE:
		return RPC_STATUS_UNAVAILABLE;
	case ERROR_NOT_FOUND:
		return RPC_STATUS_NOT_FOUND;
	case ERROR_EXISTS:
		return RPC_STATUS_ALREADY_EXISTS;
	case ERROR_DENIED:
		return RPC_STATUS_PERMISSION_DENIED;
	case ERROR_UNSUPPORTED:
		return RPC_STATUS_UNIMPLEMENTED;
	case ERROR_TIMEOUT:
		return RPC_STATUS_DEADLINE_EXCEEDED;
	case ERROR_CANCELED:
		return RPC_STATUS_CANCELLED;
	case ERROR_CHANGED:
	case ERROR_COLLECTED:
		return RPC_STATUS_ABORTED;
	case ERROR_IO:
	case ERROR_WOULD_BLOCK:
	case ERROR_CODE_COUNT:
		return RPC_STATUS_INTERNAL;
	}
	return RPC_STATUS_INTERNAL;
}

static const struct meaning {
	const char *name;
	enum error_code code;
} meanings[] = {
	[RPC_STATUS_OK] = {"OK", ERROR_NONE},
	[RPC_STATUS_CANCELLED] = {"CANCELLED", ERROR_CANCELED},
	[RPC_STATUS_UNKNOWN] = {"UNKNOWN", ERROR_IO},
	[RPC_STATUS_INVALID_ARGUMENT] = {"INVALID_ARGUMENT", ERROR_INVALID},
	[RPC_STATUS_DEADLINE_EXCEEDED] = {"DEADLINE_EXCEEDED", ERROR_TIMEOUT},
	[RPC_STATUS_NOT_FOUND] = {"NOT_FOUND", ERROR_NOT_FOUND},
	[RPC_STATUS_ALREADY_EXISTS] = {"ALREADY_EXISTS", ERROR_EXISTS},
	[RPC_STATUS_PERMISSION_DENIED] = {"PERMISSION_DENIED", ERROR_DENIED},
	[RPC_STATUS_RESOURCE_EXHAUSTED] = {"RESOURCE_EXHAUSTED", ERROR_LIMIT},
	[RPC_STATUS_FAILED_PRECONDITION] = {"FAILED_PRECONDITION", ERROR_INVALID},
	[RPC_STATUS_ABORTED] = {"ABORTED", ERROR_CHANGED},
	[RPC_STATUS_OUT_OF_RANGE] = {"OUT_OF_RANGE", ERROR_INVALID},
	[RPC_STATUS_UNIMPLEMENTED] = {"UNIMPLEMENTED", ERROR_UNSUPPORTED},
	[RPC_STATUS_INTERNAL] = {"INTERNAL", ERROR_IO},
	[RPC_STATUS_UNAVAILABLE] = {"UNAVAILABLE", ERROR_UNAVAILABLE},
	[RPC_STATUS_DATA_LOSS] = {"DATA_LOSS", ERROR_CORRUPT},
	[RPC_STATUS_UNAUTHENTICATED] = {"UNAUTHENTICATED", ERROR_DENIED},
};

/* Numbers that gRPC does not have are UNKNOWN, as it says. */
static const struct meaning *meaning_of(int status)
{
	bool known = status >= 0 && (size_t)status < ARRAY_SIZE(meanings);

	return &meanings[known ? status : RPC_STATUS_UNKNOWN];
}

const char *rpc_status_name(int status)
{
	return meaning_of(status)->name;
}

enum error_code rpc_status_code(int status, struct bytes name)
{
	for (enum error_code code = ERROR_INVALID; code < ERROR_CODE_COUNT; code++) {
		if ((int)rpc_status_of(code) == status &&
		    bytes_equal(name, bytes_of_string(error_code_name(code)))) {
			return code;
		}
	}
	return meaning_of(status)->code;
}
