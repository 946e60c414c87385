/* DirectoryService. */

#include "rpc/store_methods_internal.h"

/* ---- Get ---- */

static void release_directory(void *context)
{
	directory_unref(context);
}

/* Takes over the reference: the library sends the directory's own memory. */
static void set_directory(struct rpc_message *m, struct directory *d)
{
	rpc_message_set_parts(m, (struct bytes){0}, directory_encoding(d), release_directory,
			      d);
}

static int get_one(struct store_methods *s, struct server_call *c, const struct digest *digest,
		   struct error *err)
{
	struct rpc_message m = {0};
	struct directory *d;
	int rc = directory_service_get(s->store->directories, digest, &d, err);

	if (rc <= 0) {
		return rc < 0 ? rc : not_found("directory", digest, err);
	}
	rc = server_call_hold(c, directory_memory(d), err);
	if (rc < 0) {
		directory_unref(d);
		return rc;
	}
	set_directory(&m, d);
	server_call_reply(c, &m);
	return 0;
}

static int get_closure(struct store_methods *s, struct server_call *c,
		       const struct digest *digest, struct error *err)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) = NULL;
	struct directory *d;
	int rc = directory_service_get_recursive(s->store->directories, digest, &walk, err);

	if (rc < 0) {
		return rc;
	}
	/* Nothing comes when there is no root: clients of Tvix and snix take that for absence,
	 * and any status for an error. */
	while (walk && (rc = closure_walk_next(walk, &d, err)) > 0) {
		struct rpc_message m = {0};

		/* The one before may be on its way still. */
		rc = server_call_hold(c, 2 * (uint64_t)directory_memory(d), err);
		set_directory(&m, d);
		rc = rc < 0 ? rc : server_call_send(c, &m, err);
		if (rc < 0) {
			rpc_message_done(&m);
			return rc;
		}
	}
	if (rc == 0) {
		server_call_reply(c, &(struct rpc_message){0});
	}
	return rc;
}

static int get_directory(void *context, struct server_call *c, struct error *err)
{
	struct request r cleanup(request_done) = {0};
	struct get_directory_request m;
	struct digest digest;
	int rc = request_receive(c, &get_directory_request_type, &r, &m, err);

	if (rc == 0) {
		rc = message_digest(m.digest, &digest, err);
	}
	if (rc < 0) {
		return rc;
	}
	return m.recursive ? get_closure(context, c, &digest, err)
			   : get_one(context, c, &digest, err);
}

/* ---- Put ---- */

static int receive_closure(struct server_call *c, struct directory_batch *b, struct error *err)
{
	struct request r cleanup(request_done) = {0};
	struct bytes message;
	int rc;

	while ((rc = request_next(c, &r, &message, err)) > 0) {
		struct directory *d cleanup(cleanup_directory) = NULL;

		rc = directory_normalize(message, &d, err);
		if (rc == 0) {
			rc = directory_batch_add(b, d, err);
		}
		if (rc == 0) {
			rc = server_call_hold(c, directory_batch_memory(b), err);
		}
		if (rc < 0) {
			break;
		}
	}
	return rc;
}

/* Ends the batch. */
static int commit_closure(struct store_methods *s, struct directory_batch *b,
			  struct digest *root, struct error *err)
{
	int rc = write_turn_begin(&s->turns, err);

	if (rc < 0) {
		directory_batch_free(b);
		return rc;
	}
	rc = directory_batch_commit(b, root, err);
	if (rc == 0) {
		rc = directory_service_sync(s->store->directories, err);
	}
	write_turn_end(&s->turns, rc);
	return rc;
}

static int put_directory(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct directory_batch *b;
	struct digest root;
	int rc = directory_service_put_batch(s->store->directories, &b, err);

	if (rc < 0) {
		return rc;
	}
	rc = receive_closure(c, b, err);
	if (rc < 0) {
		directory_batch_free(b);
		return rc;
	}
	rc = commit_closure(s, b, &root, err);
	if (rc == 0) {
		reply_digest(c, &root);
	}
	return rc;
}

static const struct rpc_method methods[] = {
	{"Get", RPC_MAY_READ, get_directory},
	{"Put", RPC_MAY_WRITE, put_directory},
};

const struct rpc_service directory_methods_service = {
	.names = {"tvix.castore.v1.DirectoryService", "snix.castore.v1.DirectoryService"},
	.methods = methods,
	.method_count = ARRAY_SIZE(methods),
};
