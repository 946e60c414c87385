/*
 * Replays a log of the recorder (log.h): makes what a crash at some point of it may leave on a
 * disk, and looks whether the stores there are as they must be.
 *
 * usage: crash_replay LOG FOLDER [--states N] [--seed S] [--jobs J] [--stop-after BAD]
 *                     [--swallow PATTERN] [--from POINT]
 *        crash_replay LOG FOLDER --one POINT KIND SEED
 *
 * States are spread over all points (the beginnings of the log) and kinds of crashes (see
 * crash_state.h). They are made below FOLDER, which lies best in memory, one process for each.
 * The second form makes one of them, as a bad one is reported, and leaves it there. Exit
 * status: 0 all are good, 1 some are bad, 2 it did not get that far.
 */

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "castore/digest_map.h"
#include "crash_state.h"
#include "verdict.h"

#define SECONDS_MAX 300 /* for one state: a check that hangs is a failure */

struct choice {
	uint64_t point; /* so many entries have happened */
	enum crash_kind kind;
	uint64_t seed;
};

struct job {
	pid_t pid;
	struct choice choice;
};

struct replay {
	struct bytes log;
	const char *folder, *swallow;
	uint64_t states, seed, stop_after, from;
	unsigned jobs;
	struct marks marks;
	uint64_t entries;
	struct choice *choices;
	struct digest_map seen; /* fingerprints */
	struct job *running;
	uint64_t checked, bad;
};

static uint64_t number_of(const char *text)
{
	char *end;
	uint64_t n = text ? strtoull(text, &end, 10) : 0;

	if (!text || !text[0] || *end) {
		give_up("a number is missing");
	}
	return n;
}

/* ---- one state ---- */

static char *state_folder(const struct replay *r, unsigned slot)
{
	return xasprintf("%s/%u", r->folder, slot);
}

static void remove_state(const struct replay *r, unsigned slot)
{
	char *path cleanup(cleanup_free) = state_folder(r, slot);
	pid_t pid = fork();

	if (pid == 0) {
		execlp("rm", "rm", "-rf", "--", path, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

/* In a process of its own. */
static int check_state(const struct replay *r, const struct crash *crash,
		       const struct choice *choice, unsigned slot)
{
	char *path cleanup(cleanup_free) = state_folder(r, slot);
	struct error err;
	int fd = mkdir(path, 0755) == 0 ? open(path, O_RDONLY | O_DIRECTORY) : -1;

	if (fd < 0) {
		give_up("cannot create %s: %s", path, strerror(errno));
	}
	crash_make(crash, fd);
	close(fd);
	if (verdict_on(path, &r->marks, choice->point, &err) == 0) {
		return 0;
	}
	fprintf(stderr, "bad: --one %llu %s %llu: %s\n", (unsigned long long)choice->point,
		crash_names[choice->kind], (unsigned long long)choice->seed, err.text);
	return 1;
}

static void wait_for(struct replay *r, unsigned slot)
{
	struct job *job = &r->running[slot];
	int status;

	if (job->pid == 0) {
		return;
	}
	waitpid(job->pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
		exit(2);
	}
	if (status != 0) {
		r->bad++;
	}
	if (WIFSIGNALED(status)) {
		fprintf(stderr, "bad: --one %llu %s %llu: signal %d\n",
			(unsigned long long)job->choice.point, crash_names[job->choice.kind],
			(unsigned long long)job->choice.seed, WTERMSIG(status));
	}
	job->pid = 0;
}

/* The first slot that becomes free. */
static unsigned free_slot(struct replay *r)
{
	siginfo_t info;

	for (unsigned i = 0; i < r->jobs; i++) {
		if (r->running[i].pid == 0) {
			return i;
		}
	}
	waitid(P_ALL, 0, &info, WEXITED | WNOWAIT);
	for (unsigned i = 0; i < r->jobs; i++) {
		if (r->running[i].pid == info.si_pid) {
			wait_for(r, i);
			return i;
		}
	}
	give_up("a process is lost");
}

/* False when the same was looked at before, with as much that must be there. */
static bool is_new_state(struct replay *r, const struct crash *crash, uint64_t point)
{
	struct buffer text cleanup(buffer_done) = {0};
	size_t done = marks_count_done(&r->marks, point);
	struct digest digest;

	crash_fingerprint(crash, &text);
	buffer_append(&text, &done, sizeof(done));
	digest_of(&digest, buffer_bytes(&text));
	return digest_map_put(&r->seen, &digest, 0);
}

static void start_state(struct replay *r, const struct model *m, const struct choice *choice)
{
	struct crash crash;

	crash_init(&crash, m, choice->kind, choice->seed);
	if (!is_new_state(r, &crash, choice->point)) {
		return;
	}
	unsigned slot = free_slot(r);

	(void)fflush(NULL);
	r->checked++;
	r->running[slot] = (struct job){.pid = fork(), .choice = *choice};
	if (r->running[slot].pid == 0) {
		alarm(SECONDS_MAX);
		remove_state(r, slot);
		_exit(check_state(r, &crash, choice, slot));
	}
	if (r->running[slot].pid < 0) {
		give_up("cannot fork: %s", strerror(errno));
	}
}

/* ---- all of them ---- */

static void read_log(struct replay *r, const char *path)
{
	struct log_view e;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0) {
		give_up("cannot read %s", path);
	}
	r->log = bytes_of(mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0),
			  (size_t)st.st_size);
	close(fd);
	for (struct bytes rest = r->log; log_next(&rest, &e);) {
		marks_add(&r->marks, &e, r->entries++);
	}
	if (r->marks.count == 0) {
		give_up("the log demands nothing");
	}
}

static int compare_choices(const void *a, const void *b)
{
	const struct choice *x = a, *y = b;

	return (x->point > y->point) - (x->point < y->point);
}

/* Each point with each kind, again with other seeds when there is time, else some of them. */
static void choose_states(struct replay *r)
{
	uint64_t all = (r->entries + 1 - MIN(r->from, r->entries)) * CRASH_KIND_COUNT;

	r->choices = xcalloc((size_t)r->states, sizeof(*r->choices));
	srand48((long)r->seed);
	for (uint64_t i = 0; i < r->states; i++) {
		uint64_t at = r->states < all ? (uint64_t)(drand48() * (double)all) : i % all;

		r->choices[i] =
			(struct choice){.point = r->from + at / CRASH_KIND_COUNT,
					.kind = (enum crash_kind)(at % CRASH_KIND_COUNT),
					.seed = (uint64_t)lrand48()};
	}
	qsort(r->choices, (size_t)r->states, sizeof(*r->choices), compare_choices);
}

static const char *sync_name(const struct log_view *e, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.*s", (int)e->name.len, e->name.ptr);
	return e->entry->op == LOG_SYNC_ALL ? "syncfs" : path[0] ? path : ".";
}

/* Takes in an entry, or what is left of it without the sync. */
static void add_entry(const struct replay *r, struct model *m, const struct log_view *e)
{
	struct log_entry weak = *e->entry;
	struct log_view view = {
		.entry = &weak, .name = e->name, .name2 = e->name2, .data = e->data};
	bool is_sync = weak.op == LOG_SYNC || weak.op == LOG_SYNC_ALL;
	char path[PATH_MAX];

	if (r->swallow && is_sync &&
	    fnmatch(r->swallow, sync_name(e, path), FNM_PATHNAME) == 0) {
		weak.op = LOG_SAY;
	}
	if (r->swallow && fnmatch(r->swallow, "O_DSYNC", 0) == 0) {
		weak.flags &= (uint16_t)~LOG_DURABLE;
	}
	model_add(m, &view);
}

static void check_states(struct replay *r)
{
	struct bytes rest = r->log;
	struct model m = {0};
	struct log_view e;
	uint64_t i = 0;

	r->running = xcalloc(r->jobs, sizeof(*r->running));
	do {
		for (; i < r->states && r->choices[i].point == m.number; i++) {
			if (r->bad < r->stop_after) {
				start_state(r, &m, &r->choices[i]);
			}
		}
		if (!log_next(&rest, &e)) {
			break;
		}
		add_entry(r, &m, &e);
	} while (true);
	for (unsigned slot = 0; slot < r->jobs; slot++) {
		wait_for(r, slot);
		remove_state(r, slot);
	}
	model_done(&m);
	free(r->running);
}

static int check_one_state(struct replay *r, char **args)
{
	struct choice choice = {.point = number_of(args[0]),
				.kind = CRASH_KIND_COUNT,
				.seed = number_of(args[2])};
	struct bytes rest = r->log;
	struct model m = {0};
	struct crash crash;
	struct log_view e;

	for (int k = 0; k < CRASH_KIND_COUNT; k++) {
		if (strcmp(crash_names[k], args[1]) == 0) {
			choice.kind = (enum crash_kind)k;
		}
	}
	while (m.number < choice.point && log_next(&rest, &e)) {
		add_entry(r, &m, &e);
	}
	crash_init(&crash, &m, choice.kind, choice.seed);
	int rc = check_state(r, &crash, &choice, 0);

	model_done(&m);
	return rc;
}

static void read_options(struct replay *r, int argc, char **argv)
{
	for (int i = 3; i < argc; i += 2) {
		bool pattern = strcmp(argv[i], "--swallow") == 0;
		uint64_t n = pattern ? 0 : number_of(argv[i + 1]);

		if (pattern && argv[i + 1]) {
			r->swallow = argv[i + 1];
		} else if (strcmp(argv[i], "--states") == 0) {
			r->states = n;
		} else if (strcmp(argv[i], "--seed") == 0) {
			r->seed = n;
		} else if (strcmp(argv[i], "--jobs") == 0) {
			r->jobs = (unsigned)MAX(n, 1u);
		} else if (strcmp(argv[i], "--from") == 0) {
			r->from = n;
		} else if (strcmp(argv[i], "--stop-after") == 0) {
			r->stop_after = n;
		} else {
			give_up("an option that is unknown: %s", argv[i]);
		}
	}
}

int main(int argc, char **argv)
{
	struct replay r = {.states = 1000, .seed = 1, .jobs = 2, .stop_after = UINT64_MAX};

	if (argc < 3) {
		give_up("usage: %s LOG FOLDER [OPTION VALUE]...", argv[0]);
	}
	r.folder = argv[2];
	read_log(&r, argv[1]);
	if (argc == 7 && strcmp(argv[3], "--one") == 0) {
		return check_one_state(&r, argv + 4);
	}
	read_options(&r, argc, argv);
	choose_states(&r);
	check_states(&r);
	printf("%llu entries, %llu crashes, %llu states, %llu bad\n",
	       (unsigned long long)r.entries, (unsigned long long)r.states,
	       (unsigned long long)r.checked, (unsigned long long)r.bad);
	marks_done(&r.marks);
	digest_map_done(&r.seen);
	free(r.choices);
	return r.bad ? 1 : 0;
}
