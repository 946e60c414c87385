#include "rpc/prefetched.h"

/* Two generations: when the young one fills its half of the room, the old one goes. */
struct prefetched {
	size_t bytes_max;
	pthread_mutex_t lock; /* guards what follows */
	struct object_table generations[2];
	unsigned young;
	size_t young_bytes;
};

/* The table's own cost of an object. */
#define OBJECT_COST ((size_t)160)

struct prefetched *prefetched_new(size_t bytes_max)
{
	struct prefetched *p = xcalloc(1, sizeof(*p));

	p->bytes_max = bytes_max;
	pthread_mutex_init(&p->lock, NULL);
	object_table_init(&p->generations[0]);
	object_table_init(&p->generations[1]);
	return p;
}

void prefetched_free(struct prefetched *p)
{
	if (p) {
		object_table_done(&p->generations[0]);
		object_table_done(&p->generations[1]);
		pthread_mutex_destroy(&p->lock);
		free(p);
	}
}

void prefetched_add(struct prefetched *p, const struct digest *digest, struct bytes encoding)
{
	struct object *o = object_copy(encoding);

	if (!o) {
		return; /* whoever wants it asks the peer */
	}
	pthread_mutex_lock(&p->lock);
	if (p->young_bytes >= p->bytes_max / 2) {
		p->young = 1 - p->young;
		p->young_bytes = 0;
		object_table_clear(&p->generations[p->young]);
	}
	p->young_bytes += encoding.len + OBJECT_COST;
	object_table_put(&p->generations[p->young], digest, o);
	pthread_mutex_unlock(&p->lock);
}

struct object *prefetched_get(struct prefetched *p, const struct digest *digest)
{
	pthread_mutex_lock(&p->lock);
	struct object *o = object_table_get(&p->generations[p->young], digest);

	if (!o) {
		o = object_table_get(&p->generations[1 - p->young], digest);
	}
	pthread_mutex_unlock(&p->lock);
	return o;
}
