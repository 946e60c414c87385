#pragma once

/* Functions that invite overruns or hide errors; included by the build in front of every file.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf gets strtok atoi atol atoll
