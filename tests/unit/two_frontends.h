#pragma once

/*
 * For tests of virtiofs in which somebody misbehaves: one server with two front ends, of which
 * the good one must not notice anything.
 */

#include "stalled_blobs.h"
#include "test_fs_driver.h"
#include "vhost_frontend.h"

struct two_frontends {
	struct driver *driver;
	struct blob_service *blobs;
	struct server server;
	struct frontend bad;  /* connected, nothing said yet */
	struct frontend good; /* booted */
	uint64_t good_id;     /* of a directory that it knows */
	struct frontend_reply reply;
};

/* For cmocka. The teardown sees to it that the good one is still served. */
int two_frontends_setup(void **state);
int two_frontends_teardown(void **state);
