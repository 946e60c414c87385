#pragma once

/*
 * Messages for the operator, at the edges of the program only. One line each, to stderr by
 * default ("cairn: warning: …"); a daemon in the background sends them to syslog. Any thread.
 */

#include "base/util.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Messages above the level are dropped. Default: LOG_LEVEL_WARNING. */
void log_set_level(enum log_level level);
/* From now on to syslog, for a process that has left its terminal. */
void log_to_syslog(void);

void log_message(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_error(...) log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)
