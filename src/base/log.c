#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

static _Atomic enum log_level current_level = LOG_LEVEL_WARNING;
static atomic_bool use_syslog;

void log_set_level(enum log_level level)
{
	atomic_store(&current_level, level);
}

void log_to_syslog(void)
{
	openlog("cairn", LOG_PID, LOG_DAEMON);
	atomic_store(&use_syslog, true);
}

void log_message(enum log_level level, const char *fmt, ...)
{
	static const char *const prefixes[] = {"error: ", "warning: ", "", "debug: "};
	static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
	char line[1400];
	va_list args;

	if (level > atomic_load(&current_level)) {
		return;
	}
	int head = snprintf(line, sizeof(line), "cairn: %s", prefixes[level]);

	va_start(args, fmt);
	vsnprintf(line + head, sizeof(line) - (size_t)head - 1, fmt, args);
	va_end(args);
	if (atomic_load(&use_syslog)) {
		syslog(priorities[level], "%s", line + strlen("cairn: "));
		return;
	}
	size_t len = strlen(line);

	line[len++] = '\n';
	/* One write a line, so that lines of several threads do not mix. */
	ssize_t n = write(STDERR_FILENO, line, len);
	(void)n;
}
