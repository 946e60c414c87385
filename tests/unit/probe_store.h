#pragma once

/*
 * For tests of what stands before a store: a memory store that counts what it is asked for, and
 * that fails when it is told to.
 */

#include "services/store.h"

struct probe;

enum probe_fault {
	PROBE_READS = 1,  /* all that asks */
	PROBE_WRITES = 2, /* all that changes something */
};

/* The store behind is one of the caller's: what it has can be looked at and damaged. */
struct probe *probe_new(struct store *behind);
void probe_free(struct probe *p);
/* Takes a reference to its services. */
void probe_store(struct probe *p, struct store *out);

/* From now on calls of these kinds fail with this code; no kinds: none does. */
void probe_fail(struct probe *p, unsigned faults, enum error_code code);
/* Questions about blobs, directories, names and records since the last call. */
unsigned probe_reads(struct probe *p);
/* Bytes of blobs given since the last call. */
uint64_t probe_bytes(struct probe *p);
