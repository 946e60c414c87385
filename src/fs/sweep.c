#include "fs/sweep.h"

#include <pthread.h>

/* A larger file is worth a request of its own. */
#define FILE_MAX ((uint64_t)64 << 10)
/* Of one stretch: the one who waits for the first file waits for all of it. */
#define STRETCH_FILES_MAX 64u
#define STRETCH_BYTES_MAX ((uint64_t)1 << 20)
/* Directories that are read from at one time. */
#define STREAMS 8u
/* Entries that are looked at in one go: directories may have millions without a file. */
#define LOOK_MAX 256u
/* Files that may be left out on the way. */
#define GAP_MAX 8u
/*
 * A directory of so many entries at most is sent whatever the order, after so many READs in it
 * with none elsewhere: cp -r reads by inode number.
 */
#define DENSE_ENTRIES_MAX 256u
#define DENSE_READS 4u

struct stream {
	uint64_t id;
	uint64_t used;     /* when; 0: never */
	uint32_t next;     /* what is below was read or sent */
	uint32_t in_order; /* READs, each a little behind the one before */
	uint32_t together; /* READs with none elsewhere in between */
	bool dense;
	bool refused;
};

struct sweep_table {
	pthread_mutex_t lock; /* guards what follows */
	struct stream streams[STREAMS];
	uint64_t clock;
	uint64_t last;        /* the directory that was read from last */
	bool last_is_through; /* it has no more files to send */
	unsigned swept;       /* directories gone through one after the other */
};

struct sweep_table *sweep_table_new(void)
{
	struct sweep_table *t = xcalloc(1, sizeof(*t));

	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void sweep_table_free(struct sweep_table *t)
{
	if (t) {
		pthread_mutex_destroy(&t->lock);
		free(t);
	}
}

static bool has_content(const struct node *node)
{
	return node->kind == NODE_FILE && node->size > 0;
}

bool sweep_sends(const struct node *node)
{
	return has_content(node) && node->size <= FILE_MAX;
}

static struct stream *stream_find(struct sweep_table *t, uint64_t id)
{
	for (size_t i = 0; i < STREAMS; i++) {
		if (t->streams[i].used && t->streams[i].id == id) {
			return &t->streams[i];
		}
	}
	return NULL;
}

/* In the place of the one that was not used for longest. */
static struct stream *stream_add(struct sweep_table *t, uint64_t id)
{
	struct stream *oldest = &t->streams[0];

	for (size_t i = 1; i < STREAMS; i++) {
		if (t->streams[i].used < oldest->used) {
			oldest = &t->streams[i];
		}
	}
	*oldest = (struct stream){.id = id};
	return oldest;
}

/* Files that a reader would read, from one entry on and before another; counts to limit. */
static unsigned count_files(const struct directory *d, size_t first, size_t end, unsigned limit)
{
	struct directory_entry e;
	unsigned n = 0;

	for (size_t i = first; i < end && n < limit; i++) {
		if (i - first == LOOK_MAX) {
			return limit;
		}
		directory_entry(d, i, &e);
		n += has_content(&e.node);
	}
	return n;
}

static struct sweep_stretch stretch(const struct directory *d, uint32_t first, unsigned files)
{
	struct sweep_stretch s = {first, first};
	uint64_t room = STRETCH_BYTES_MAX;
	struct directory_entry e;

	size_t end = MIN(directory_count(d), (size_t)first + LOOK_MAX);

	for (; files > 0 && s.end < end; s.end++) {
		directory_entry(d, s.end, &e);
		if (!has_content(&e.node)) {
			continue;
		}
		if (!sweep_sends(&e.node) || e.node.size > room) {
			break;
		}
		room -= e.node.size;
		files--;
	}
	return s;
}

/* The first READ in a directory, as far as is known. */
static void begin(struct sweep_table *t, struct stream *s, const struct directory *d,
		  uint32_t entry)
{
	bool is_first = count_files(d, 0, entry, 1) == 0;

	s->in_order = 1;
	if (!is_first) {
		t->swept = 0;
	} else if (t->last_is_through && count_files(d, entry, directory_count(d), 2) > 1) {
		t->swept++; /* one with a single file says nothing */
	}
}

static void go_on(struct sweep_table *t, struct stream *s, const struct directory *d,
		  uint32_t entry)
{
	if (s->dense) {
		return;
	}
	if (count_files(d, s->next, entry, GAP_MAX + 1) <= GAP_MAX) {
		s->in_order++;
		return;
	}
	s->in_order = 1;
	t->swept = 0;
}

/* Doubles with every READ that is as expected. */
static unsigned files_worth(const struct sweep_table *t, const struct stream *s)
{
	unsigned evidence = s->in_order + MIN(t->swept, STRETCH_FILES_MAX);

	if (s->refused) {
		return 0;
	}
	if (s->dense) {
		return STRETCH_FILES_MAX;
	}
	return evidence < 2 ? 0 : evidence > 5 ? STRETCH_FILES_MAX : 2u << evidence;
}

static struct sweep_stretch note(struct sweep_table *t, uint64_t id, const struct directory *d,
				 uint32_t entry)
{
	const struct sweep_stretch nothing = {entry, entry};
	struct stream *s = stream_find(t, id);
	bool fresh = s == NULL;

	s = s ? s : stream_add(t, id);
	s->used = ++t->clock;
	s->together = t->last == id ? s->together + 1 : 1;
	t->last = id;
	if (!s->dense && s->together >= DENSE_READS && s->in_order < DENSE_READS &&
	    directory_count(d) <= DENSE_ENTRIES_MAX) {
		s->dense = true;
		s->next = 0;
	}
	if (entry < s->next) {
		return nothing; /* once more, or while it was on its way */
	}
	if (fresh) {
		begin(t, s, d, entry);
	} else {
		go_on(t, s, d, entry);
	}
	struct sweep_stretch found =
		stretch(d, s->dense ? s->next : entry + 1, files_worth(t, s));

	s->next = found.end;
	t->last_is_through = count_files(d, s->next, directory_count(d), 1) == 0;
	return found;
}

struct sweep_stretch sweep_table_note(struct sweep_table *t, uint64_t id,
				      const struct directory *d, uint32_t entry)
{
	pthread_mutex_lock(&t->lock);
	struct sweep_stretch s = note(t, id, d, entry);

	pthread_mutex_unlock(&t->lock);
	return s;
}

void sweep_table_stop(struct sweep_table *t, uint64_t id, uint32_t entry)
{
	pthread_mutex_lock(&t->lock);
	struct stream *s = stream_find(t, id);

	if (s && s->next > entry) {
		s->next = entry;
		t->last_is_through = false;
	}
	pthread_mutex_unlock(&t->lock);
}

void sweep_table_refuse(struct sweep_table *t, uint64_t id)
{
	pthread_mutex_lock(&t->lock);
	struct stream *s = stream_find(t, id);

	if (s) {
		s->refused = true;
	}
	t->swept = 0;
	t->last_is_through = false;
	pthread_mutex_unlock(&t->lock);
}
