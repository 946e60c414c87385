#pragma once

/*
 * PathInfoService: path infos by the 20 bytes of their store path's hash. Shared and
 * thread-safe. What comes from a back end is valid and has the hash that was asked for:
 * anything else is ERROR_CORRUPT, never absent.
 */

#include "nix/signature.h"
#include "services/store.h"

struct path_info_service;

struct path_info_service *path_info_service_ref(struct path_info_service *s);
void path_info_service_unref(struct path_info_service *s);
DEFINE_CLEANUP(cleanup_path_info_service, struct path_info_service *, path_info_service_unref)

/* Asker. out is zeroed or holds an earlier info. */
int path_info_service_get(struct path_info_service *s, const uint8_t hash[STORE_PATH_HASH_SIZE],
			  struct path_info *out, struct error *err);
/*
 * Stores info, replacing what was there under its hash; durable and visible when it returns,
 * after all that was put into the store before it. out (may be NULL; zeroed or holds an earlier
 * info) is what is stored now: it may have more signatures. ERROR_INVALID when it breaks a rule
 * of path_info.h.
 */
int path_info_service_put(struct path_info_service *s, const struct path_info *info,
			  struct path_info *out, struct error *err);
/* The same for many, at the cost of one; all are stored or none. */
int path_info_service_put_many(struct path_info_service *s, const struct path_info *infos,
			       size_t count, struct error *err);
/*
 * Visits all in the order of their basenames, from the first one whose hash is greater than
 * that of `after` (NULL: from the start), until visit returns false. The info is borrowed for
 * the call; visit must not call back. A broken one ends it with ERROR_CORRUPT.
 */
typedef bool (*path_info_visit)(void *context, const struct path_info *info);
int path_info_service_list(struct path_info_service *s, const uint8_t *after,
			   path_info_visit visit, void *context, struct error *err);
/* True when getting and listing never wait for a peer. */
bool path_info_service_is_local(const struct path_info_service *s);
/* Asker: forgets a path; 0 when it was not there. ERROR_UNSUPPORTED where that cannot be. */
int path_info_service_remove(struct path_info_service *s,
			     const uint8_t hash[STORE_PATH_HASH_SIZE], struct error *err);
/* The same for all of these or, when it fails, none. How many there were. */
int path_info_service_remove_many(struct path_info_service *s, const struct store_path *paths,
				  size_t count, size_t *removed, struct error *err);

/* ---- Back ends ---- */

/* Over a store's table of path infos, which the store must have. */
struct path_info_service *path_info_store_new(struct store *store);
/* Adds a signature by this key (borrowed) to everything that is put. */
struct path_info_service *path_info_signer_new(struct path_info_service *inner,
					       const struct signing_key *key);

/*
 * RootNodes: basenames of store paths. A name that is no store path is absent, and so is the
 * right hash with another name. Read-only; may grow.
 */
struct root_nodes *path_info_roots_new(struct path_info_service *s);

/* ---- For back ends ---- */

struct path_info_service_ops {
	const char *name;
	void (*destroy)(struct path_info_service *s);
	int (*get)(struct path_info_service *s, const uint8_t hash[STORE_PATH_HASH_SIZE],
		   struct path_info *out, struct error *err);
	/* out: NULL, or one info: then count is 1. */
	int (*put)(struct path_info_service *s, const struct path_info *infos, size_t count,
		   struct path_info *out, struct error *err);
	int (*list)(struct path_info_service *s, const uint8_t *after, path_info_visit visit,
		    void *context, struct error *err);
	int (*remove)(struct path_info_service *s, const struct store_path *paths, size_t count,
		      size_t *removed, struct error *err);
};

struct path_info_service {
	const struct path_info_service_ops *ops;
	_Atomic unsigned refs;
	bool is_local; /* false, the careful answer, unless the back end sets it */
};

void path_info_service_init(struct path_info_service *s,
			    const struct path_info_service_ops *ops);
