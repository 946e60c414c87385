#include "transports/virtiofs/memory_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct memory_guard {
	struct memory_guard *next;
	struct memory_guard **link; /* what points here */
	char *start;
	size_t len;
	atomic_bool broken;
};

/*
 * Guards the list. A signal handler may take it: who holds it touches no guarded memory, so the
 * thread that faults is never the one that it waits for.
 */
static atomic_flag list_lock = ATOMIC_FLAG_INIT;
static struct memory_guard *list;

static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction previous;

static void list_acquire(void)
{
	while (atomic_flag_test_and_set_explicit(&list_lock, memory_order_acquire)) {
		continue;
	}
}

static void list_release(void)
{
	atomic_flag_clear_explicit(&list_lock, memory_order_release);
}

static bool cover(struct memory_guard *g)
{
	/* Another thread that had the same fault finds it dealt with. */
	if (atomic_load(&g->broken)) {
		return true;
	}
	/* Not by mmap(): the thread sanitizer would take it for a write, and so for a race. */
	long rc = syscall(SYS_mmap, g->start, g->len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0L);

	if (rc == -1) {
		return false;
	}
	atomic_store(&g->broken, true);
	return true;
}

static bool cover_address(const char *address)
{
	bool covered = false;

	list_acquire();
	for (struct memory_guard *g = list; g; g = g->next) {
		if (address >= g->start && address < g->start + g->len) {
			covered = cover(g);
			break;
		}
	}
	list_release();
	return covered;
}

static void on_fault(int number unused, siginfo_t *info, void *context unused)
{
	int saved = errno;

	if (!cover_address(info->si_addr)) {
		/* Not for us: it comes again at once, to whoever was there before. */
		sigaction(SIGBUS, &previous, NULL);
	}
	errno = saved;
}

/* Once, and once more whenever somebody else has put a handler in place. */
static int install(struct error *err)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	struct sigaction current;

	sigemptyset(&action.sa_mask);
	pthread_mutex_lock(&install_lock);
	int rc = sigaction(SIGBUS, NULL, &current);

	if (rc == 0 && current.sa_sigaction != on_fault) {
		previous = current;
		rc = sigaction(SIGBUS, &action, NULL);
	}
	pthread_mutex_unlock(&install_lock);
	return rc == 0 ? 0 : error_set_errno(err, errno, "cannot handle SIGBUS");
}

int memory_guard_new(void *start, size_t len, struct memory_guard **out, struct error *err)
{
	int rc = install(err);

	if (rc != 0) {
		return rc;
	}
	struct memory_guard *g = xcalloc(1, sizeof(*g));

	g->start = start;
	g->len = len;
	list_acquire();
	g->next = list;
	g->link = &list;
	if (list) {
		list->link = &g->next;
	}
	list = g;
	list_release();
	*out = g;
	return 0;
}

void memory_guard_free(struct memory_guard *g)
{
	if (!g) {
		return;
	}
	list_acquire();
	*g->link = g->next;
	if (g->next) {
		g->next->link = g->link;
	}
	list_release();
	free(g);
}

bool memory_guard_broken(const struct memory_guard *g)
{
	return atomic_load(&g->broken);
}
