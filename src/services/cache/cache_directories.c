/* Directories of a cache, and closures of them that are fetched before they are asked for. */

#include "services/cache/cache_internal.h"

/* Roots whose closures were fetched by this process are not fetched again. */
#define ROOTS_KNOWN_MAX 65536

struct cache_directories {
	struct directory_service base;
	struct cache *cache; /* a reference */
};

static struct cache *cache_of(struct directory_service *s)
{
	return container_of(s, struct cache_directories, base)->cache;
}

static void directories_destroy(struct directory_service *s)
{
	cache_unref(cache_of(s));
	free(container_of(s, struct cache_directories, base));
}

/* ---- Getting ---- */

struct directory_fetch {
	struct cache *cache;
	const struct digest *digest;
	bool damaged; /* near has it, but not its bytes */
};

static void put_near(struct cache *c, struct directory *d, bool damaged)
{
	struct error err;
	int rc = damaged ? directory_service_discard(c->near.directories, directory_digest(d),
						     &err)
			 : 0;

	if (rc == 0) {
		rc = directory_service_put(c->near.directories, d, &err);
	}
	if (rc < 0) {
		cache_near_failed(c, &err);
	} else {
		cache_near_has(c, directory_encoding(d).len);
	}
}

/* Near and memory get it; the caller a reference to its bytes, NULL without memory for them. */
static struct object *keep(struct cache *c, struct directory *d, bool damaged)
{
	struct cache_key key = cache_key_of(CACHE_DIRECTORY, digest_bytes(directory_digest(d)));
	struct object *o = object_copy(directory_encoding(d));

	/* Memory first: who finds it in near must not have to wait for a sync. */
	if (o) {
		object_lru_put(c->recent, cache_key_bytes(&key), o, NULL);
	}
	put_near(c, d, damaged);
	return o;
}

static int fetch_directory(void *context, struct object **out, struct error *err)
{
	const struct directory_fetch *f = context;
	struct cache_key key = cache_key_of(CACHE_DIRECTORY, digest_bytes(f->digest));
	struct directory *d cleanup(cleanup_directory) = NULL;

	/* Another flight may have landed just before this one began. */
	*out = object_lru_get(f->cache->recent, cache_key_bytes(&key), NULL);
	if (*out) {
		return 1;
	}
	int rc = directory_service_get(f->cache->far.directories, f->digest, &d, err);

	if (rc <= 0) {
		return rc;
	}
	*out = keep(f->cache, d, f->damaged);
	return *out ? 1 : error_set(err, ERROR_LIMIT, "no memory for a directory");
}

static int get(struct cache *c, const struct digest *digest, bool nowait, uint8_t **encoding,
	       size_t *len, struct error *err)
{
	struct directory_fetch fetch = {.cache = c, .digest = digest};
	struct cache_key key = cache_key_of(CACHE_DIRECTORY, digest_bytes(digest));
	struct object *o cleanup(cleanup_object) =
		object_lru_get(c->recent, cache_key_bytes(&key), NULL);
	struct error why;

	if (o) {
		return object_give(o, encoding, len, err);
	}
	int rc = directory_service_get_encoding(c->near.directories, digest, nowait, encoding,
						len, &why);

	if (rc > 0) {
		return rc;
	}
	if (nowait) {
		return error_set(err, ERROR_WOULD_BLOCK, "directory %s is far",
				 digest_text(digest));
	}
	if (rc < 0) {
		cache_near_unread(c, &why);
		fetch.damaged = true;
	}
	rc = single_flight_get(&c->flights, cache_key_bytes(&key), fetch_directory, &fetch, &o,
			       err);
	return rc > 0 ? object_give(o, encoding, len, err) : rc;
}

static int directories_get(struct directory_service *s, const struct digest *digest,
			   uint8_t **encoding, size_t *len, struct error *err)
{
	return get(cache_of(s), digest, false, encoding, len, err);
}

static int directories_get_nowait(struct directory_service *s, const struct digest *digest,
				  uint8_t **encoding, size_t *len, struct error *err)
{
	return get(cache_of(s), digest, true, encoding, len, err);
}

static int directories_has(struct directory_service *s, const struct digest *digest,
			   struct error *err)
{
	struct cache *c = cache_of(s);
	struct error why;
	int rc = directory_service_has(c->near.directories, digest, &why);

	if (rc < 0) {
		cache_near_unread(c, &why);
	}
	return rc > 0 ? rc : directory_service_has(c->far.directories, digest, err);
}

static bool near_has(struct cache *c, const struct digest *digest)
{
	return directory_service_has(c->near.directories, digest, NULL) > 0;
}

static int far_missing(struct cache *c, const struct digest *digests, size_t count,
		       bool *missing, struct error *err)
{
	return directory_service_find_missing(c->far.directories, digests, count, missing, err);
}

static int directories_find_missing(struct directory_service *s, const struct digest *digests,
				    size_t count, bool *missing, struct error *err)
{
	const struct cache_questions q = {.near_has = near_has, .far_missing = far_missing};

	return cache_find_missing(cache_of(s), &q, digests, count, missing, err);
}

static int directories_put(struct directory_service *s, struct directory *d, struct error *err)
{
	struct cache *c = cache_of(s);
	int rc = directory_service_put(c->far.directories, d, err);

	if (rc == 0) {
		object_unref(keep(c, d, false));
	}
	return rc;
}

static int directories_sync(struct directory_service *s, struct error *err)
{
	struct cache *c = cache_of(s);
	struct error why;

	if (directory_service_sync(c->near.directories, &why) < 0) {
		cache_near_failed(c, &why);
	}
	return directory_service_sync(c->far.directories, err);
}

/* ---- Closures ahead of time ---- */

struct prefetch {
	struct background_job job;
	struct cache *cache; /* borrowed: it outlives its threads */
	struct digest root;
};

static void free_prefetch(struct background_job *j)
{
	free(container_of(j, struct prefetch, job));
}

/* Asker, for a walk: from near where it is there. */
static int get_for_walk(void *context, const struct digest *digest, struct directory **out,
			struct error *err)
{
	struct cache *c = context;
	int rc = directory_service_get(c->near.directories, digest, out, NULL);

	return rc > 0 ? rc : directory_service_get(c->far.directories, digest, out, err);
}

/*
 * A closure that is new here comes as one stream. Of one whose root is in near, most is, and
 * only what is missing is asked for.
 */
static int begin_walk(const struct prefetch *p, struct closure_walk **out, struct error *err)
{
	struct cache *c = p->cache;

	if (directory_service_has(c->near.directories, &p->root, NULL) > 0) {
		*out = closure_walk_new(CLOSURE_ROOT_TO_LEAVES, &p->root, get_for_walk, c);
		return 1;
	}
	return directory_service_get_recursive(c->far.directories, &p->root, out, err);
}

/*
 * Asker: 0 when far has no such root. With no background, nothing but a fault ends it; one that
 * comes later than at the root leaves it incomplete, which whoever walks will see.
 */
static int fetch_closure(const struct prefetch *p, struct background *b, bool *complete,
			 struct error *err)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) = NULL;
	int found = begin_walk(p, &walk, err), rc = found;

	while (rc > 0 && !(b && background_stopping(b)) && !p->cache->near_failed) {
		struct directory *d cleanup(cleanup_directory) = NULL;

		rc = closure_walk_next(walk, &d, NULL);
		if (rc > 0 && directory_service_has(p->cache->near.directories,
						    directory_digest(d), NULL) == 0) {
			object_unref(keep(p->cache, d, false));
		}
	}
	*complete = found > 0 && rc == 0;
	return found;
}

enum root_state { ROOT_TRIED, ROOT_UNDER_WAY };

static void note_failure(struct cache *c, const struct digest *root)
{
	pthread_mutex_lock(&c->roots_lock);
	*digest_map_get(&c->roots, root) = ROOT_TRIED;
	pthread_mutex_unlock(&c->roots_lock);
}

/* What goes wrong is found again, and told, when somebody asks for what is missing. */
static void run_prefetch(struct background_job *j, struct background *b)
{
	struct prefetch *p = container_of(j, struct prefetch, job);
	bool complete;

	fetch_closure(p, b, &complete, NULL);
	if (!complete) {
		note_failure(p->cache, &p->root);
	}
	free_prefetch(j);
}

/* True the first time, and when it did not work last time. */
static bool is_wanted(struct cache *c, const struct digest *root)
{
	pthread_mutex_lock(&c->roots_lock);
	uint64_t *state = digest_map_get(&c->roots, root);
	bool wanted = state ? *state == ROOT_TRIED : c->roots.count < ROOTS_KNOWN_MAX;

	if (state) {
		*state = ROOT_UNDER_WAY;
	} else if (wanted) {
		digest_map_put(&c->roots, root, ROOT_UNDER_WAY);
	}
	pthread_mutex_unlock(&c->roots_lock);
	return wanted;
}

/* Who walks now does not wait for a closure that is coming: what is missing is asked for. */
static int directories_gather(struct directory_service *s, const struct digest *root,
			      struct error *err)
{
	const struct prefetch p = {.cache = cache_of(s), .root = *root};

	if (!is_wanted(p.cache, root)) {
		return directories_has(s, root, err);
	}
	bool complete;
	int rc = fetch_closure(&p, NULL, &complete, err);

	if (!complete) {
		note_failure(p.cache, root);
	}
	return rc;
}

static void directories_prefetch(struct directory_service *s, const struct digest *root)
{
	struct cache *c = cache_of(s);

	if (!is_wanted(c, root)) {
		return;
	}
	struct prefetch *p = xcalloc(1, sizeof(*p));

	p->job.run = run_prefetch;
	p->job.free = free_prefetch;
	p->cache = c;
	p->root = *root;
	background_add(c->fetcher, &p->job);
}

static const struct directory_service_ops directories_ops = {
	.name = "cache",
	.destroy = directories_destroy,
	.get = directories_get,
	.get_nowait = directories_get_nowait,
	.has = directories_has,
	.find_missing = directories_find_missing,
	.put = directories_put,
	.prefetch = directories_prefetch,
	.gather = directories_gather,
	.sync = directories_sync,
};

struct directory_service *cache_directories_new(struct cache *c)
{
	struct cache_directories *d = xcalloc(1, sizeof(*d));

	directory_service_init(&d->base, &directories_ops);
	d->cache = cache_ref(c);
	return &d->base;
}
