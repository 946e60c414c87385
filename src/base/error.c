#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, enum error_code code, const char *fmt, ...)
{
	if (err) {
		va_list args;

		va_start(args, fmt);
		vsnprintf(err->text, sizeof(err->text), fmt, args);
		va_end(args);
		err->code = code;
		err->os_errno = 0;
	}
	return -(int)code;
}

static enum error_code code_of_errno(int errnum)
{
	switch (errnum) {
	case ENOSPC:
	case EDQUOT:
		return ERROR_NO_SPACE;
	case EACCES:
	case EPERM:
	case EROFS:
		return ERROR_DENIED;
	case ENOENT:
	case ENOTDIR:
		return ERROR_NOT_FOUND;
	case EEXIST:
		return ERROR_EXISTS;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ENAMETOOLONG:
		return ERROR_LIMIT;
	case ETIMEDOUT:
		return ERROR_TIMEOUT;
	case EAGAIN:
		return ERROR_WOULD_BLOCK;
	case ECANCELED:
	case EINTR:
		return ERROR_CANCELED;
	case EINVAL:
		return ERROR_INVALID;
	case ENOSYS:
	case EOPNOTSUPP:
		return ERROR_UNSUPPORTED;
	default:
		return ERROR_IO;
	}
}

int error_set_errno(struct error *err, int errnum, const char *fmt, ...)
{
	enum error_code code = code_of_errno(errnum);

	if (err) {
		va_list args;

		va_start(args, fmt);
		int n = vsnprintf(err->text, sizeof(err->text), fmt, args);
		va_end(args);
		if (n >= 0 && (size_t)n < sizeof(err->text)) {
			char reason[128];
			const char *text = strerror_r(errnum, reason, sizeof(reason));

			snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s", text);
		}
		err->code = code;
		err->os_errno = errnum;
	}
	return -(int)code;
}

int error_wrap(struct error *err, const char *fmt, ...)
{
	if (!err) {
		return -(int)ERROR_IO;
	}
	char old[sizeof(err->text)];
	va_list args;

	memcpy(old, err->text, sizeof(old));
	va_start(args, fmt);
	int n = vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	if (n >= 0 && (size_t)n + 3 < sizeof(err->text)) {
		size_t room = sizeof(err->text) - (size_t)n - 3;
		size_t len = strnlen(old, room);

		memcpy(err->text + n, ": ", 2);
		memcpy(err->text + n + 2, old, len);
		err->text[(size_t)n + 2 + len] = '\0';
	}
	return -(int)err->code;
}

int error_to_errno(const struct error *err)
{
	switch (err->code) {
	case ERROR_NONE:
		return 0;
	case ERROR_INVALID:
		return EINVAL;
	case ERROR_CORRUPT:
	case ERROR_IO:
	case ERROR_UNAVAILABLE:
	case ERROR_CHANGED:
	case ERROR_COLLECTED:
	case ERROR_CODE_COUNT:
		return EIO;
	case ERROR_NO_SPACE:
		return ENOSPC;
	case ERROR_NOT_FOUND:
		return ENOENT;
	case ERROR_EXISTS:
		return EEXIST;
	case ERROR_DENIED:
		return EPERM;
	case ERROR_UNSUPPORTED:
		return EOPNOTSUPP;
	case ERROR_TIMEOUT:
		return ETIMEDOUT;
	case ERROR_CANCELED:
		return EINTR;
	case ERROR_LIMIT:
		return ENOMEM;
	case ERROR_WOULD_BLOCK:
		return EAGAIN;
	}
	return EIO;
}

const char *error_code_name(enum error_code code)
{
	static const char *const names[ERROR_CODE_COUNT] = {
		[ERROR_NONE] = "none",           [ERROR_INVALID] = "invalid",
		[ERROR_CORRUPT] = "corrupt",     [ERROR_IO] = "io",
		[ERROR_NO_SPACE] = "no-space",   [ERROR_UNAVAILABLE] = "unavailable",
		[ERROR_NOT_FOUND] = "not-found", [ERROR_EXISTS] = "exists",
		[ERROR_DENIED] = "denied",       [ERROR_UNSUPPORTED] = "unsupported",
		[ERROR_TIMEOUT] = "timeout",     [ERROR_CANCELED] = "canceled",
		[ERROR_LIMIT] = "limit",         [ERROR_WOULD_BLOCK] = "would-block",
		[ERROR_CHANGED] = "changed",     [ERROR_COLLECTED] = "collected",
	};

	return (unsigned)code < ERROR_CODE_COUNT && names[code] ? names[code] : "unknown";
}
