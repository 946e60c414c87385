#include "nix/path_info_service.h"
#include "nix/nixbase32.h"

#include <stdatomic.h>

void path_info_service_init(struct path_info_service *s,
			    const struct path_info_service_ops *ops)
{
	s->ops = ops;
	s->is_local = false;
	atomic_init(&s->refs, 1);
}

struct path_info_service *path_info_service_ref(struct path_info_service *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void path_info_service_unref(struct path_info_service *s)
{
	if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
		s->ops->destroy(s);
	}
}

int path_info_service_get(struct path_info_service *s, const uint8_t hash[STORE_PATH_HASH_SIZE],
			  struct path_info *out, struct error *err)
{
	struct path_info found cleanup(path_info_done) = {0};
	int rc = s->ops->get(s, hash, &found, err);

	if (rc <= 0) {
		return rc;
	}
	if (memcmp(found.path.hash, hash, STORE_PATH_HASH_SIZE) != 0) {
		char wanted[STORE_PATH_HASH_TEXT + 1];

		nixbase32_encode(wanted, bytes_of(hash, STORE_PATH_HASH_SIZE));
		return error_set(err, ERROR_CORRUPT, "the path info of %s is that of %s",
				 wanted, store_path_text(&found.path));
	}
	path_info_done(out);
	*out = found;
	found = (struct path_info){0};
	return 1;
}

/* What could not be read again is not stored. */
static int check_valid(const struct path_info *info, struct error *err)
{
	struct buffer message cleanup(buffer_done) = {0};
	struct path_info again cleanup(path_info_done) = {0};

	path_info_encode(&message, info);
	return path_info_decode(buffer_bytes(&message), &again, err);
}

int path_info_service_put(struct path_info_service *s, const struct path_info *info,
			  struct path_info *out, struct error *err)
{
	int rc = check_valid(info, err);

	return rc < 0 ? rc : s->ops->put(s, info, 1, out, err);
}

int path_info_service_put_many(struct path_info_service *s, const struct path_info *infos,
			       size_t count, struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		int rc = check_valid(&infos[i], err);

		if (rc < 0) {
			return rc;
		}
	}
	return count ? s->ops->put(s, infos, count, NULL, err) : 0;
}

int path_info_service_list(struct path_info_service *s, const uint8_t *after,
			   path_info_visit visit, void *context, struct error *err)
{
	return s->ops->list(s, after, visit, context, err);
}

int path_info_service_remove(struct path_info_service *s,
			     const uint8_t hash[STORE_PATH_HASH_SIZE], struct error *err)
{
	struct store_path path = {0};
	size_t removed;

	memcpy(path.hash, hash, STORE_PATH_HASH_SIZE);
	int rc = path_info_service_remove_many(s, &path, 1, &removed, err);

	return rc < 0 ? rc : removed > 0;
}

int path_info_service_remove_many(struct path_info_service *s, const struct store_path *paths,
				  size_t count, size_t *removed, struct error *err)
{
	return s->ops->remove(s, paths, count, removed, err);
}

bool path_info_service_is_local(const struct path_info_service *s)
{
	return s->is_local;
}
