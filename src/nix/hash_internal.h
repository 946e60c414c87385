#pragma once

/* Between hash.c and signature.c, which share libcrypto. */

struct ossl_lib_ctx_st;

/*
 * The library context that everything is fetched from: a private one, so that no openssl.cnf
 * takes away what Nix's formats need. It lives until the process ends.
 */
struct ossl_lib_ctx_st *hash_library_context(void);
