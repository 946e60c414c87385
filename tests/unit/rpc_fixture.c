#include "rpc_fixture.h"

#include <unistd.h>

#include "base/unix_listener.h"

int rpc_fixture_setup(void **state)
{
	struct rpc_fixture *f = xcalloc(1, sizeof(*f));
	struct error err;

	f->rights = RPC_MAY_READ | RPC_MAY_WRITE | RPC_MAY_LIST;
	f->options = (struct rpc_server_options){
		.services = store_methods_services, .context = &f->methods, .drain = 60000};
	snprintf(f->folder, sizeof(f->folder), "/tmp/cairn-rpc-XXXXXX");
	if (!mkdtemp(f->folder) || store_open(&f->store, "memory://", 0, &err) != 0) {
		return -1;
	}
	store_methods_init(&f->methods, &f->store);
	*state = f;
	return 0;
}

static void *run_server(void *context)
{
	struct rpc_fixture *f = context;
	struct error err;

	return rpc_server_run(f->server, &err) == 0 ? NULL : f;
}

static void succeed(int rc, const struct error *err)
{
	if (rc != 0) {
		fail_msg("%s", err->text);
	}
}

struct rpc_fixture *rpc_fixture_start(void **state)
{
	struct rpc_fixture *f = *state;
	const struct unix_listener_options socket = {
		.mode = 0600, .owner = (uid_t)-1, .group = (gid_t)-1};
	char path[96];
	struct error err;

	snprintf(path, sizeof(path), "%s/socket", f->folder);
	snprintf(f->target, sizeof(f->target), "unix:%s", path);
	succeed(unix_listener_new(path, &socket, &f->listener, &err), &err);
	succeed(rpc_server_new(&f->options, &f->server, &err), &err);
	succeed(rpc_server_add_socket(f->server, unix_listener_fd(f->listener), f->rights,
				      &f->peers, &err),
		&err);
	succeed(rpc_server_start(f->server, &err), &err);
	assert_int_equal(pthread_create(&f->thread, NULL, run_server, f), 0);
	f->running = true;
	f->client = raw_client_new(f->target);
	return f;
}

void rpc_fixture_stop(struct rpc_fixture *f)
{
	void *failed = NULL;

	if (f->running) {
		f->running = false;
		rpc_server_stop(f->server);
		pthread_join(f->thread, &failed);
		assert_null(failed);
	}
}

int rpc_fixture_teardown(void **state)
{
	struct rpc_fixture *f = *state;

	rpc_fixture_stop(f);
	if (f->client) {
		raw_client_free(f->client);
	}
	rpc_server_free(f->server);
	unix_listener_free(f->listener);
	store_methods_done(&f->methods);
	store_close(&f->store);
	rmdir(f->folder);
	free(f);
	return 0;
}
