/* Signs what goes through, before another service. */

#include "nix/path_info_service.h"

struct path_info_signer {
	struct path_info_service base;
	struct path_info_service *inner; /* a reference */
	const struct signing_key *key;   /* borrowed */
};

static struct path_info_signer *signer_of(struct path_info_service *s)
{
	return container_of(s, struct path_info_signer, base);
}

static void signer_destroy(struct path_info_service *s)
{
	struct path_info_signer *p = signer_of(s);

	path_info_service_unref(p->inner);
	free(p);
}

static int signer_get(struct path_info_service *s, const uint8_t hash[STORE_PATH_HASH_SIZE],
		      struct path_info *out, struct error *err)
{
	return path_info_service_get(signer_of(s)->inner, hash, out, err);
}

static int put_signed(struct path_info_signer *p, const struct path_info *infos, size_t count,
		      struct path_info *out, struct error *err)
{
	return out ? path_info_service_put(p->inner, infos, out, err)
		   : path_info_service_put_many(p->inner, infos, count, err);
}

static int signer_put(struct path_info_service *s, const struct path_info *infos, size_t count,
		      struct path_info *out, struct error *err)
{
	struct path_info_signer *p = signer_of(s);
	struct path_info *copies cleanup(cleanup_free) = xcalloc(count, sizeof(*copies));
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		path_info_copy(&copies[i], &infos[i]);
		rc = path_info_sign(&copies[i], p->key, err);
	}
	if (rc == 0) {
		rc = put_signed(p, copies, count, out, err);
	}
	for (size_t i = 0; i < count; i++) {
		path_info_done(&copies[i]);
	}
	return rc;
}

static int signer_list(struct path_info_service *s, const uint8_t *after, path_info_visit visit,
		       void *context, struct error *err)
{
	return path_info_service_list(signer_of(s)->inner, after, visit, context, err);
}

static int signer_remove(struct path_info_service *s, const struct store_path *paths,
			 size_t count, size_t *removed, struct error *err)
{
	return path_info_service_remove_many(signer_of(s)->inner, paths, count, removed, err);
}

static const struct path_info_service_ops signer_ops = {
	.name = "signer",
	.destroy = signer_destroy,
	.get = signer_get,
	.put = signer_put,
	.list = signer_list,
	.remove = signer_remove,
};

struct path_info_service *path_info_signer_new(struct path_info_service *inner,
					       const struct signing_key *key)
{
	struct path_info_signer *p = xcalloc(1, sizeof(*p));

	path_info_service_init(&p->base, &signer_ops);
	p->inner = path_info_service_ref(inner);
	p->base.is_local = path_info_service_is_local(inner);
	p->key = key;
	return &p->base;
}
