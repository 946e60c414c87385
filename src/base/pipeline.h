#pragma once

/*
 * A ring of slots that pass through stages, with several threads at work: one slot is hashed
 * while another is read and a third is written. The calling thread fills the slots, one after
 * the other, and works on stages itself while it has to wait, so that little work needs no
 * other thread and much work keeps every CPU busy. Memory is that of the slots, which belong to
 * the caller.
 *
 * The first failure ends everything: stages that run come to their end, no other begins.
 */

#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"

#define PIPELINE_STAGES_MAX 8
#define PIPELINE_SLOTS_MAX 16
#define PIPELINE_THREADS_MAX 16

struct pipeline_stage {
	/* Called by any thread; what a stage leaves in a slot, the stages after it see. */
	int (*run)(void *context, size_t slot, struct error *err);
	/* One slot at a time, in the order of publishing; else several slots at once. */
	bool ordered;
	/* The stages, as bits by number, that must be done with a slot first. */
	unsigned after;
};

/* Constant, and there until pipeline_free(). */
struct pipeline_plan {
	struct pipeline_stage stages[PIPELINE_STAGES_MAX]; /* the last ones come first */
	unsigned stage_count;
	unsigned slot_count;
	unsigned threads; /* the calling one included; 0: one for each CPU */
	void *context;
	const atomic_bool *cancel; /* may be NULL; when it becomes true: ERROR_CANCELED */
};

struct pipeline;

/* Threads other than the calling one are started when a second slot is published. */
struct pipeline *pipeline_new(const struct pipeline_plan *plan);
/* A slot that all stages are done with; works on stages until there is one. */
int pipeline_claim(struct pipeline *p, size_t *slot, struct error *err);
/* Gives the claimed slot to the stages. */
void pipeline_publish(struct pipeline *p);
/* All published slots are through all stages when this returns 0. */
int pipeline_finish(struct pipeline *p, struct error *err);
/* At any time: waits for the threads, which give up what they have not begun. */
void pipeline_free(struct pipeline *p);
DEFINE_CLEANUP(cleanup_pipeline, struct pipeline *, pipeline_free)
