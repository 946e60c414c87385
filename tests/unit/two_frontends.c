#include "two_frontends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

int two_frontends_setup(void **state)
{
	struct two_frontends *x = xcalloc(1, sizeof(*x));

	x->driver = driver_new();
	x->blobs = stalled_blobs_new(x->driver->store.blobs);
	x->driver->options.blobs = x->blobs;
	server_start(&x->server, &x->driver->options, 4, false);
	frontend_open(&x->good, &x->server);
	frontend_boot(&x->good);
	x->good_id = frontend_walk(&x->good, "tree/sub");
	frontend_open(&x->bad, &x->server);
	*state = x;
	return 0;
}

int two_frontends_teardown(void **state)
{
	struct two_frontends *x = *state;

	assert_int_equal(frontend_getattr(&x->good, x->good_id), 0);
	frontend_close(&x->good);
	frontend_close(&x->bad);
	server_stop(&x->server);
	blob_service_unref(x->blobs);
	driver_free(x->driver);
	free(x);
	return 0;
}
