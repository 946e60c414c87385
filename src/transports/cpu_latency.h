#pragma once

/*
 * Keeps processors from sleeping while requests come fast. In a virtual machine an idle
 * processor is given back to the hypervisor, and to have it again takes longer than most
 * answers: client and server, who wait for each other in turn, would spend most of the time on
 * that.
 *
 * The means is the kernel's CPU latency request (Documentation/power/pm_qos_interface.rst in
 * its sources): as long as a process holds one of 0 microseconds, idle processors, all of them,
 * poll for work. It ends with the process, however that ends.
 *
 * Of one thread.
 */

#include <stdbool.h>
#include <stdint.h>

enum cpu_latency_policy {
	/* Low while requests come fast, on virtual machines of a few processors. */
	CPU_LATENCY_AUTO,
	CPU_LATENCY_LOW, /* on any machine */
	CPU_LATENCY_ANY, /* never asks for anything */
};

/* As many requests decide whether they come fast. */
#define CPU_LATENCY_WINDOW 32u
/* How long to stay awake when none comes. */
#define CPU_LATENCY_LINGER_MS 1

struct cpu_latency {
	int fd; /* /dev/cpu_dma_latency, open for writing; -1: there is nothing to be done */
	bool low;
	unsigned requests; /* of this window */
	uint64_t began_ns; /* the window */
};

/* Where the kernel has no such thing, or only root may, it does without, and logs why. */
void cpu_latency_init(struct cpu_latency *l, enum cpu_latency_policy policy);
void cpu_latency_done(struct cpu_latency *l);

/* A window is full. */
void cpu_latency_decide(struct cpu_latency *l, uint64_t now_ns);
/* Nobody has asked for anything for CPU_LATENCY_LINGER_MS. */
void cpu_latency_rest(struct cpu_latency *l);

/* There was a request. */
void cpu_latency_count(struct cpu_latency *l);
