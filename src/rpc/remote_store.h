#pragma once

/*
 * Addresses of stores that a peer keeps, over gRPC:
 *   grpc+unix:///path          a unix socket
 *   grpc+http://host[:port]    TCP, in the clear
 *   grpc+https://host[:port]   TLS
 *
 * Parameters (times as 500ms, 10s, 2m; sizes as 64M, 2G):
 *   timeout          for an answer, and for the next 16 KiB of a longer one (30s)
 *   connect-timeout  for a connection (5s)
 *   connections      how many are used together (2)
 *   calls            at the same time (64)
 *   in-flight        bytes that are put and not acknowledged (64M)
 *   max-blob         of blobs that come whole, since the peer proves no ranges (16G)
 *   token-file       a bearer token, in the first line of a file
 *   ca               certificates to trust, as PEM, instead of the system's (grpc+https)
 *   cert, key        what we show, as PEM (grpc+https)
 */

/* Adds the schemes; see services/store_scheme.h for when. */
void remote_store_add_schemes(void);
