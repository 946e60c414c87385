#include "transports/cpu_latency.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/moment.h"

#define DEVICE "/dev/cpu_dma_latency"
#define IDLE_DRIVER "/sys/devices/system/cpu/cpuidle/current_driver"
/* The kernel's driver for guests; only there does every idle state end in the hypervisor. */
#define GUEST_DRIVER "haltpoll\n"

/* On average: with more time between requests, waking up is the smaller part. */
#define FAST_NS 200000u
/* More of them would poll for the sake of two. */
#define PROCESSORS_MAX 16

/* What the kernel takes, in microseconds; a negative value is no demand. */
#define LATENCY_LOW INT32_C(0)
#define LATENCY_ANY INT32_C(-1)

static bool sleeping_is_dear(void)
{
	char driver[sizeof(GUEST_DRIVER)] = "";
	int fd cleanup(cleanup_close) = open(IDLE_DRIVER, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read_full(fd, driver, sizeof(driver) - 1) > 0 &&
	       strcmp(driver, GUEST_DRIVER) == 0 &&
	       sysconf(_SC_NPROCESSORS_ONLN) <= PROCESSORS_MAX;
}

void cpu_latency_init(struct cpu_latency *l, enum cpu_latency_policy policy)
{
	*l = (struct cpu_latency){.fd = -1};
	if (policy == CPU_LATENCY_ANY || (policy == CPU_LATENCY_AUTO && !sleeping_is_dear())) {
		return;
	}
	l->fd = open(DEVICE, O_WRONLY | O_CLOEXEC);
	if (l->fd >= 0) {
		log_info("processors are kept awake while requests come fast");
	} else {
		log_info("processors are not kept awake: " DEVICE ": %s", strerror(errno));
	}
}

void cpu_latency_done(struct cpu_latency *l)
{
	if (l->fd >= 0) {
		close(l->fd);
	}
	l->fd = -1;
}

static void demand(struct cpu_latency *l, bool low)
{
	const int32_t value = low ? LATENCY_LOW : LATENCY_ANY;

	/* Each change wakes every processor: only when there is one. */
	if (l->low != low && write(l->fd, &value, sizeof(value)) == sizeof(value)) {
		l->low = low;
	}
}

void cpu_latency_decide(struct cpu_latency *l, uint64_t now_ns)
{
	demand(l, now_ns - l->began_ns < (uint64_t)CPU_LATENCY_WINDOW * FAST_NS);
	l->requests = 0;
	l->began_ns = now_ns;
}

void cpu_latency_rest(struct cpu_latency *l)
{
	demand(l, false);
}

void cpu_latency_count(struct cpu_latency *l)
{
	if (l->fd >= 0 && ++l->requests == CPU_LATENCY_WINDOW) {
		cpu_latency_decide(l, moment_now_ns());
	}
}
