#include "services/local/file_cache.h"

#include <sys/stat.h>
#include <unistd.h>

void file_cache_init(struct file_cache *c, size_t capacity)
{
	*c = (struct file_cache){.capacity = capacity};
	pthread_mutex_init(&c->lock, NULL);
}

static void cached_file_free(struct cached_file *f)
{
	close(f->fd);
	free(f->spans);
	free(f);
}

void file_cache_done(struct file_cache *c)
{
	file_cache_clear(c);
	pthread_mutex_destroy(&c->lock);
}

void file_cache_clear(struct file_cache *c)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < FILE_CACHE_BUCKETS; i++) {
		struct cached_file **at = &c->buckets[i];

		while (*at) {
			struct cached_file *f = *at;

			if (f->refs) {
				at = &f->next;
				continue;
			}
			*at = f->next;
			cached_file_free(f);
			c->count--;
		}
	}
	pthread_mutex_unlock(&c->lock);
}

static struct cached_file **bucket_of(struct file_cache *c, const struct digest *key)
{
	return &c->buckets[digest_hash(key) % FILE_CACHE_BUCKETS];
}

static struct cached_file *find_locked(struct file_cache *c, const struct digest *key)
{
	for (struct cached_file *f = *bucket_of(c, key); f; f = f->next) {
		if (!f->forgotten && digest_equal(&f->key, key)) {
			f->refs++;
			f->used = ++c->clock;
			return f;
		}
	}
	return NULL;
}

struct cached_file *file_cache_get(struct file_cache *c, const struct digest *key)
{
	pthread_mutex_lock(&c->lock);
	struct cached_file *f = find_locked(c, key);
	pthread_mutex_unlock(&c->lock);
	return f;
}

/* A scan over all: it runs once per opened file, and opening costs more than it. */
static struct cached_file *take_oldest_locked(struct file_cache *c)
{
	struct cached_file **oldest = NULL;

	for (size_t i = 0; i < FILE_CACHE_BUCKETS; i++) {
		for (struct cached_file **at = &c->buckets[i]; *at; at = &(*at)->next) {
			if ((*at)->refs == 0 && (!oldest || (*at)->used < (*oldest)->used)) {
				oldest = at;
			}
		}
	}
	if (!oldest) {
		return NULL;
	}
	struct cached_file *f = *oldest;

	*oldest = f->next;
	c->count--;
	return f;
}

struct cached_file *file_cache_add(struct file_cache *c, const struct digest *key, int fd,
				   uint64_t size, uint8_t *spans)
{
	struct cached_file *surplus = NULL, *old = NULL;
	struct cached_file *f = xmalloc(sizeof(*f));

	*f = (struct cached_file){
		.key = *key, .fd = fd, .size = size, .spans = spans, .refs = 1};
	pthread_mutex_lock(&c->lock);
	struct cached_file *other = find_locked(c, key);

	if (other) {
		surplus = f;
		f = other;
	} else {
		if (c->count >= c->capacity) {
			old = take_oldest_locked(c);
		}
		f->used = ++c->clock;
		f->next = *bucket_of(c, key);
		*bucket_of(c, key) = f;
		c->count++;
	}
	pthread_mutex_unlock(&c->lock);
	if (surplus) {
		cached_file_free(surplus);
	}
	if (old) {
		cached_file_free(old);
	}
	return f;
}

struct cached_file *file_cache_ref(struct file_cache *c, struct cached_file *f)
{
	pthread_mutex_lock(&c->lock);
	f->refs++;
	pthread_mutex_unlock(&c->lock);
	return f;
}

void file_cache_release(struct file_cache *c, struct cached_file *f)
{
	if (f) {
		pthread_mutex_lock(&c->lock);
		f->refs--;
		pthread_mutex_unlock(&c->lock);
	}
}

static void forget_locked(struct cached_file *f)
{
	/* Closed when its turn comes, as all that is unused. */
	f->forgotten = true;
	f->refs--;
}

void file_cache_forget(struct file_cache *c, const struct digest *key)
{
	pthread_mutex_lock(&c->lock);
	struct cached_file *f = find_locked(c, key);

	if (f) {
		forget_locked(f);
	}
	pthread_mutex_unlock(&c->lock);
}

bool file_cache_forget_removed(struct file_cache *c, const struct digest *key)
{
	struct stat st;

	pthread_mutex_lock(&c->lock);
	struct cached_file *f = find_locked(c, key);
	bool removed = f && fstat(f->fd, &st) == 0 && st.st_nlink == 0;

	if (removed) {
		forget_locked(f);
	} else if (f) {
		f->refs--;
	}
	pthread_mutex_unlock(&c->lock);
	return removed;
}
