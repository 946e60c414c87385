#include "rpc/peer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/moment.h"
#include "rpc/messages.h"

#define ATTEMPTS_MAX 5
#define FIRST_WAIT_MS 50u
#define SILENCE_MS 500

#define METHOD_PATH_MAX 128

enum package { PACKAGE_UNKNOWN, PACKAGE_SNIX, PACKAGE_TVIX };
enum { CAIRN_UNKNOWN, CAIRN_NO, CAIRN_YES };

struct peer {
	struct client_channel *channel;
	_Atomic int packages[PEER_SERVICE_COUNT];
	_Atomic int cairn;
	_Atomic uint64_t heard; /* when something came from it; see moment_now() */
	_Atomic uint64_t silent_until;
};

struct peer *peer_new(const struct client_channel_config *config)
{
	struct peer *p = xcalloc(1, sizeof(*p));

	p->channel = client_channel_new(config);
	return p;
}

void peer_free(struct peer *p)
{
	if (p) {
		client_channel_free(p->channel);
		free(p);
	}
}

const char *peer_address(const struct peer *p)
{
	return client_channel_address(p->channel);
}

/* ---- Again ---- */

/* Up to twice as long each time, so that many clients of one peer do not come back at once. */
static unsigned choose_wait(unsigned attempt)
{
	unsigned limit = FIRST_WAIT_MS << attempt;
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0) {
		random = UINT32_MAX / 2;
	}
	return limit / 2 + (unsigned)((uint64_t)random * (limit / 2) >> 32);
}

bool peer_retry(struct peer_retry *r, int rc)
{
	if ((rc != -ERROR_UNAVAILABLE && rc != -ERROR_LIMIT) ||
	    r->attempts + 1 >= ATTEMPTS_MAX) {
		return false;
	}
	client_channel_wait(r->peer->channel, choose_wait(r->attempts++),
			    rc == -ERROR_UNAVAILABLE);
	return true;
}

/* ---- Silence ---- */

/*
 * A reader is not one call: the kernel asks for more than was read, and again for less when
 * that fails; so somebody would wait for several timeouts. When a call was in vain, and nothing
 * was heard from the peer while it lasted, those that come next are not made.
 */
static int check_silent(const struct peer *p, struct error *err)
{
	return moment_now() < atomic_load(&p->silent_until)
		       ? error_set(err, ERROR_TIMEOUT, "%s: it has just given no answer",
				   peer_address(p))
		       : 0;
}

static void note_heard(struct peer *p)
{
	atomic_store_explicit(&p->heard, moment_now(), memory_order_relaxed);
}

/* Of a call that began then. */
static void note_end(struct peer *p, uint64_t begin, int rc)
{
	if (rc != -ERROR_TIMEOUT && rc != -ERROR_UNAVAILABLE) {
		note_heard(p);
	} else if (rc == -ERROR_TIMEOUT && atomic_load(&p->heard) < begin) {
		atomic_store(&p->silent_until, moment_now() + SILENCE_MS);
	}
}

/* ---- Names ---- */

static const char *const service_paths[PEER_SERVICE_COUNT] = {
	[PEER_BLOBS] = "castore.v1.BlobService",
	[PEER_DIRECTORIES] = "castore.v1.DirectoryService",
	[PEER_PATH_INFOS] = "store.v1.PathInfoService",
};

static void make_path(const struct peer_method *m, int package, char path[METHOD_PATH_MAX])
{
	if (m->path) {
		snprintf(path, METHOD_PATH_MAX, "%s", m->path);
	} else {
		snprintf(path, METHOD_PATH_MAX, "/%s.%s/%s",
			 package == PACKAGE_TVIX ? "tvix" : "snix", service_paths[m->service],
			 m->name);
	}
}

/* A call under one name, as often as it takes. */
struct attempt {
	struct peer *peer;
	int (*run)(struct attempt *a, const char *path, struct error *err);
	struct bytes request;
	struct buffer *reply;
	peer_take take;
	peer_take_pieces take_pieces; /* instead of it, or NULL */
	void *context;
	bool taken;               /* take was called */
	struct client_stop *stop; /* or NULL */
	struct client_question *questions;
	size_t count;
};

/* What comes back after it was away may be something else. */
static void note_failure(struct peer *p, const struct peer_method *m, int rc)
{
	if (rc == -ERROR_UNAVAILABLE || (m->path && rc == -ERROR_UNSUPPORTED)) {
		atomic_store(&p->cairn, CAIRN_UNKNOWN);
	}
}

static int run_again(struct attempt *a, const struct peer_method *m, int package,
		     struct error *err)
{
	struct peer_retry retry = {.peer = a->peer};
	char path[METHOD_PATH_MAX];
	int rc;

	make_path(m, package, path);
	do {
		uint64_t begin = moment_now();

		rc = check_silent(a->peer, err);
		if (rc < 0) {
			return rc;
		}
		rc = a->run(a, path, err);
		note_end(a->peer, begin, rc);
		note_failure(a->peer, m, rc);
	} while (rc < 0 && !a->taken && peer_retry(&retry, rc));
	return rc;
}

/*
 * Under the name that was right before, else under the newer one; and when the peer (which may
 * be another one by now) does not know that, under the other.
 */
static int run(struct attempt *a, const struct peer_method *m, struct error *err)
{
	if (m->path) {
		return run_again(a, m, PACKAGE_UNKNOWN, err);
	}
	_Atomic int *known = &a->peer->packages[m->service];
	int first = atomic_load(known);

	first = first == PACKAGE_UNKNOWN ? PACKAGE_SNIX : first;
	int rc = run_again(a, m, first, err);

	if (rc == -ERROR_UNSUPPORTED && !a->taken) {
		struct error why = {0};
		int other = first == PACKAGE_SNIX ? PACKAGE_TVIX : PACKAGE_SNIX;
		int rc2 = run_again(a, m, other, &why);

		if (rc2 != -ERROR_UNSUPPORTED) {
			first = other;
			rc = rc2;
			if (rc < 0 && err) {
				*err = why;
			}
		}
	}
	/* Whatever it answered: it knows the method. */
	if (rc >= 0 || rc == -ERROR_NOT_FOUND) {
		atomic_store(known, first);
	}
	return rc;
}

/* ---- Calls ---- */

static int run_ask(struct attempt *a, const char *path, struct error *err)
{
	return client_channel_ask(a->peer->channel, path, a->request, a->reply, err);
}

int peer_ask(struct peer *p, const struct peer_method *method, struct bytes request,
	     struct buffer *reply, struct error *err)
{
	struct attempt a = {.peer = p, .run = run_ask, .request = request, .reply = reply};

	return run(&a, method, err);
}

int peer_lookup(struct peer *p, const struct peer_method *method, struct bytes request,
		struct buffer *reply, struct error *err)
{
	int rc = peer_ask(p, method, request, reply, err);

	return rc == -ERROR_NOT_FOUND ? 0 : rc < 0 ? rc : 1;
}

static int run_ask_many(struct attempt *a, const char *path, struct error *err)
{
	for (size_t i = 0; i < a->count; i++) {
		a->questions[i].method = path;
		a->questions[i].reply.len = 0;
	}
	return client_channel_ask_many(a->peer->channel, a->questions, a->count, err);
}

int peer_ask_many(struct peer *p, const struct peer_method *method,
		  struct client_question *questions, size_t count, struct error *err)
{
	struct attempt a = {
		.peer = p, .run = run_ask_many, .questions = questions, .count = count};

	return run(&a, method, err);
}

/* Asker: 0 at the end, and when enough was taken. */
static int take_next(struct attempt *a, struct client_call *call, struct error *err)
{
	const struct rpc_message *pieces;
	struct bytes message;
	int rc = a->take_pieces ? client_call_receive_pieces(call, &pieces, err)
				: client_call_receive(call, &message, err);

	if (rc <= 0) {
		return rc;
	}
	a->taken = true;
	note_heard(a->peer);
	rc = a->take_pieces ? a->take_pieces(a->context, pieces, err)
			    : a->take(a->context, message, err);
	return rc < 0 ? rc : rc == 0;
}

static int run_stream(struct attempt *a, const char *path, struct error *err)
{
	struct client_call *call cleanup(cleanup_client_call) = NULL;
	int rc = client_call_start(a->peer->channel, path, &call, err);

	if (rc == 0 && a->stop) {
		rc = client_call_obey(call, a->stop, err);
	}
	if (rc == 0) {
		rc = client_call_send(call, a->request, true, err);
	}
	if (rc == 0) {
		do {
			rc = take_next(a, call, err);
		} while (rc > 0);
	}
	return rc;
}

static int stream(struct attempt *a, const struct peer_method *method, struct error *err)
{
	int rc = run(a, method, err);

	if (rc == -ERROR_NOT_FOUND && !a->taken) {
		return 0;
	}
	return rc < 0 ? rc : 1;
}

int peer_stream(struct peer *p, const struct peer_method *method, struct bytes request,
		peer_take take, void *context, struct error *err)
{
	struct attempt a = {
		.peer = p,
		.run = run_stream,
		.request = request,
		.take = take,
		.context = context,
	};

	return stream(&a, method, err);
}

int peer_stream_pieces(struct peer *p, const struct peer_method *method, struct bytes request,
		       peer_take_pieces take, void *context, struct client_stop *stop,
		       struct error *err)
{
	struct attempt a = {
		.peer = p,
		.run = run_stream,
		.request = request,
		.take_pieces = take,
		.context = context,
		.stop = stop,
	};

	return stream(&a, method, err);
}

/* Any call that tells one name from the other: about what nobody has. */
static int take_anything(void *context unused, struct bytes message unused,
			 struct error *err unused)
{
	return 1;
}

static int find_package(struct peer *p, enum peer_service service, struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct buffer reply cleanup(buffer_done) = {0};
	struct digest nothing = {0};
	struct digest_message m = {.digest = digest_bytes(&nothing)};
	int rc;

	if (atomic_load(&p->packages[service]) != PACKAGE_UNKNOWN) {
		return 0;
	}
	message_encode(&digest_message_type, &m, &request);
	if (service == PEER_BLOBS) {
		rc = peer_lookup(p, PEER_METHOD(service, "Stat"), buffer_bytes(&request),
				 &reply, err);
	} else {
		rc = peer_stream(p, PEER_METHOD(service, "Get"), buffer_bytes(&request),
				 take_anything, NULL, err);
	}
	return rc < 0 ? rc : 0;
}

int peer_upload(struct peer *p, const struct peer_method *method, struct client_call **out,
		struct error *err)
{
	char path[METHOD_PATH_MAX];
	int package = PACKAGE_UNKNOWN;

	if (!method->path) {
		int rc = find_package(p, method->service, err);

		if (rc < 0) {
			return rc;
		}
		package = atomic_load(&p->packages[method->service]);
	}
	make_path(method, package, path);
	return client_call_start(p->channel, path, out, err);
}

int peer_is_cairn(struct peer *p, struct error *err)
{
	struct buffer reply cleanup(buffer_done) = {0};
	int known = atomic_load(&p->cairn);

	if (known != CAIRN_UNKNOWN) {
		return known == CAIRN_YES;
	}
	int rc = peer_ask(p, PEER_CAIRN("Objects/FindMissing"), bytes_of(NULL, 0), &reply, err);

	if (rc < 0 && rc != -ERROR_UNSUPPORTED) {
		return rc;
	}
	atomic_store(&p->cairn, rc == 0 ? CAIRN_YES : CAIRN_NO);
	return rc == 0;
}

bool peer_known_cairn(const struct peer *p)
{
	return atomic_load(&p->cairn) == CAIRN_YES;
}
