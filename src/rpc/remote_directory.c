#include "rpc/remote_directory.h"

#include "castore/closure.h"
#include "rpc/answer.h"

struct stream {
	struct peer *peer;
	struct closure_validator *validator; /* NULL: one Directory */
	struct directory *only;
	remote_directory_take take;
	void *context;
	bool enough;
	bool any;
};

/* What a peer sends that is no Directory, or not in its place, is its fault. */
static int peers_fault(const struct stream *s, const struct error *why, struct error *err)
{
	enum error_code code = why->code == ERROR_INVALID ? ERROR_CORRUPT : why->code;

	return error_set(err, code, "%s: %s", peer_address(s->peer), why->text);
}

static int take_directory(struct stream *s, struct directory *d, struct error *err)
{
	struct error why;

	if (!s->validator) {
		if (s->only) {
			return error_set(err, ERROR_CORRUPT,
					 "%s: more than the one directory that was asked for",
					 peer_address(s->peer));
		}
		s->only = directory_ref(d);
		return 0;
	}
	if (closure_validator_add(s->validator, d, &why) < 0) {
		return peers_fault(s, &why, err);
	}
	s->any = true;
	int rc = s->take(s->context, d, err);

	s->enough = rc > 0;
	return rc;
}

static int take_message(void *context, struct bytes message, struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct stream *s = context;
	struct error why;

	if (directory_normalize(message, &d, &why) < 0) {
		return peers_fault(s, &why, err);
	}
	return take_directory(s, d, err);
}

static int get_stream(struct stream *s, const struct digest *digest, struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct get_directory_request m = {
		.digest = digest_bytes(digest),
		.recursive = s->validator != NULL,
	};

	message_encode(&get_directory_request_type, &m, &request);
	return peer_stream(s->peer, PEER_METHOD(PEER_DIRECTORIES, "Get"),
			   buffer_bytes(&request), take_message, s, err);
}

int remote_directory_get(struct peer *p, const struct digest *digest, struct directory **out,
			 struct error *err)
{
	struct stream s = {.peer = p};
	int rc = get_stream(&s, digest, err);

	if (rc > 0 && s.only && !digest_equal(directory_digest(s.only), digest)) {
		rc = error_set(err, ERROR_CORRUPT, "%s: directory %s came as %s",
			       peer_address(p), digest_text(digest),
			       digest_text(directory_digest(s.only)));
	}
	if (rc > 0 && s.only) {
		*out = s.only;
		return 1;
	}
	/* Some peers say that it is absent by an empty stream. */
	directory_unref(s.only);
	return rc < 0 ? rc : 0;
}

int remote_directory_get_closure(struct peer *p, const struct digest *root,
				 remote_directory_take take, void *context, struct error *err)
{
	struct closure_validator *validator cleanup(cleanup_closure_validator) =
		closure_validator_new(CLOSURE_ROOT_TO_LEAVES, root);
	struct stream s = {.peer = p, .validator = validator, .take = take, .context = context};
	struct error why;
	int rc = get_stream(&s, root, err);

	if (rc > 0 && !s.any) {
		return 0;
	}
	if (rc > 0 && !s.enough && closure_validator_finish(validator, NULL, &why) < 0) {
		rc = error_set(err, ERROR_UNAVAILABLE, "%s: %s", peer_address(p), why.text);
	}
	return rc;
}
