#include "rpc/write_turn.h"

void write_turns_init(struct write_turns *t, struct blob_service *blobs)
{
	*t = (struct write_turns){.blobs = blobs};
	pthread_mutex_init(&t->lock, NULL);
}

void write_turns_done(struct write_turns *t)
{
	pthread_mutex_destroy(&t->lock);
}

int write_turn_begin(struct write_turns *t, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	/* Next to others, it fails as they do. */
	if (t->failed && t->writing == 0) {
		rc = blob_service_recover(t->blobs, err);
		t->failed = rc < 0;
	}
	if (rc == 0) {
		t->writing++;
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

/* Callers that send nonsense, or go away, do the store no harm. */
static bool is_failure_of_store(int rc)
{
	return rc == -ERROR_NO_SPACE || rc == -ERROR_IO || rc == -ERROR_LIMIT ||
	       rc == -ERROR_CORRUPT;
}

void write_turn_end(struct write_turns *t, int rc)
{
	pthread_mutex_lock(&t->lock);
	t->writing--;
	t->failed = t->failed || is_failure_of_store(rc);
	pthread_mutex_unlock(&t->lock);
}
