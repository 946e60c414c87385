#include "services/single_flight.h"

struct flight {
	struct lru_entry entry;
	pthread_cond_t landed;
	unsigned users; /* threads that look at this */
	bool done;
	int rc;
	struct object *object; /* a reference, or NULL */
	struct error err;
};

void single_flight_init(struct single_flight *f)
{
	pthread_mutex_init(&f->lock, NULL);
	f->flights = (struct lru_map){0};
}

void single_flight_done(struct single_flight *f)
{
	lru_map_done(&f->flights);
	pthread_mutex_destroy(&f->lock);
}

unsigned single_flight_users(struct single_flight *f, struct bytes key)
{
	pthread_mutex_lock(&f->lock);
	struct lru_entry *e = lru_map_get(&f->flights, key);
	unsigned users = e ? container_of(e, struct flight, entry)->users : 0;

	pthread_mutex_unlock(&f->lock);
	return users;
}

/* The result for one user; the last one ends the flight. */
static int land_locked(struct flight *t, struct object **out, struct error *err)
{
	int rc = t->rc;

	if (rc > 0) {
		*out = t->object ? object_ref(t->object) : NULL;
	} else if (rc < 0 && err) {
		*err = t->err;
	}
	if (--t->users == 0) {
		object_unref(t->object);
		pthread_cond_destroy(&t->landed);
		free(t);
	}
	return rc;
}

static struct flight *begin_locked(struct single_flight *f, struct bytes key)
{
	struct flight *t = xcalloc(1, sizeof(*t));

	pthread_cond_init(&t->landed, NULL);
	t->users = 1;
	t->entry.key = key; /* of the first thread, which stays until the flight is out */
	lru_map_add(&f->flights, &t->entry);
	return t;
}

int single_flight_get(struct single_flight *f, struct bytes key, single_flight_fetch fetch,
		      void *context, struct object **out, struct error *err)
{
	pthread_mutex_lock(&f->lock);
	struct lru_entry *e = lru_map_get(&f->flights, key);
	struct flight *t;

	if (e) {
		t = container_of(e, struct flight, entry);
		t->users++;
		while (!t->done) {
			pthread_cond_wait(&t->landed, &f->lock);
		}
	} else {
		t = begin_locked(f, key);
		pthread_mutex_unlock(&f->lock);
		t->rc = fetch(context, &t->object, &t->err);
		pthread_mutex_lock(&f->lock);
		t->done = true;
		lru_map_remove(&f->flights, &t->entry);
		pthread_cond_broadcast(&t->landed);
	}
	int rc = land_locked(t, out, err);

	pthread_mutex_unlock(&f->lock);
	return rc;
}
