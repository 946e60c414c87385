#pragma once

/*
 * For clang-tidy alone, which sees one file at a time: the functions that make an error return
 * something negative. Without this it follows paths on which they return 0.
 */

/* Before base/util.h, as in the files that use it: its parameters are macros there. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/x509v3.h>

#include "base/error.h"

#define error_set(...) ((void)error_set(__VA_ARGS__), -1)
#define error_set_errno(...) ((void)error_set_errno(__VA_ARGS__), -1)
#define error_wrap(...) ((void)error_wrap(__VA_ARGS__), -1)
