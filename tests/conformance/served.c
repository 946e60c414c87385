#include "served.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "certificate.h"
#include "rpc/remote_store.h"
#include "rpc/store_methods.h"
#include "suite.h"

#define SERVICES_MAX 16

struct served {
	struct store inner;
	struct store_methods methods;
	const struct rpc_service *services[SERVICES_MAX];
	struct rpc_server *server;
	pthread_t thread;
	int fd; /* of its socket; -1 */
	char *dir;
	char *address;
	struct served *below;
};

static struct served *newest;

static void *run(void *context)
{
	struct served *s = context;
	struct error err = {0};

	if (rpc_server_run(s->server, &err) < 0) {
		print_error("%s\n", err.text);
	}
	return NULL;
}

static char *file_in(const struct served *s, const char *name)
{
	return xasprintf("%s/%s", s->dir, name);
}

/* ---- Doors ---- */

static void open_unix(struct served *s, unsigned rights)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	char *path = file_in(s, "socket");

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->fd, (const struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(s->fd, 64), 0);
	expect(0, rpc_server_add_socket(s->server, s->fd, rights, NULL, &err));
	s->address = xasprintf("grpc+unix://%s", path);
	free(path);
}

static void open_tcp(struct served *s, unsigned rights)
{
	struct sockaddr_in name = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(name);

	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->fd, (const struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(s->fd, 64), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&name, &len), 0);
	expect(0, rpc_server_add_socket(s->server, s->fd, rights, NULL, &err));
	s->address = xasprintf("grpc+http://127.0.0.1:%u", ntohs(name.sin_port));
}

static void write_text(const char *path, struct bytes text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fwrite(text.ptr, 1, text.len, f), text.len);
	fclose(f);
}

static void open_tls(struct served *s, unsigned rights)
{
	struct buffer cert = {0}, key = {0};
	char *path = file_in(s, "cert.pem");
	unsigned port = 0;

	certificate_make(&cert, &key);
	write_text(path, buffer_bytes(&cert));
	buffer_append_byte(&cert, '\0');
	buffer_append_byte(&key, '\0');
	struct rpc_tls tls = {.certificate = buffer_bytes(&cert), .key = buffer_bytes(&key)};

	expect(0, rpc_server_add_tls(s->server, "localhost:0", rights, &tls, &port, &err));
	s->address = xasprintf("grpc+https://localhost:%u?ca=%s", port, path);
	buffer_done(&cert);
	buffer_done(&key);
	free(path);
}

/* ---- Servers ---- */

static void choose_services(struct served *s, enum served_kind kind)
{
	size_t count = 0;

	for (const struct rpc_service *const *at = store_methods_services; *at; at++) {
		if (kind != SERVED_PLAIN || strncmp((*at)->names[0], "cairn.", 6) != 0) {
			assert_true(count + 1 < SERVICES_MAX);
			s->services[count++] = *at;
		}
	}
}

static void open_door(struct served *s, enum served_kind kind)
{
	unsigned rights = RPC_MAY_READ | RPC_MAY_WRITE | RPC_MAY_LIST;

	if (kind == SERVED_TCP) {
		open_tcp(s, rights);
	} else if (kind == SERVED_TLS) {
		open_tls(s, rights);
	} else {
		open_unix(s, rights);
	}
}

static void add_schemes_once(void)
{
	static bool added;

	if (!added) {
		added = true;
		remote_store_add_schemes();
	}
}

static void keep_inner(struct served *s, const struct store *inner)
{
	s->inner = (struct store){
		.blobs = blob_service_ref(inner->blobs),
		.directories = directory_service_ref(inner->directories),
		.roots = root_nodes_ref(inner->roots),
		.path_infos = record_table_ref(inner->path_infos),
	};
}

void served_open(struct store *out, const struct store *inner, enum served_kind kind)
{
	struct served *s = xcalloc(1, sizeof(*s));
	const char *tmp = getenv("TMPDIR");

	s->fd = -1;
	s->below = newest;
	newest = s;
	add_schemes_once();
	s->dir = xasprintf("%s/served-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
	assert_non_null(mkdtemp(s->dir));
	keep_inner(s, inner);
	choose_services(s, kind);
	store_methods_init(&s->methods, &s->inner);
	struct rpc_server_options options = {.services = s->services, .context = &s->methods};

	expect(0, rpc_server_new(&options, &s->server, &err));
	open_door(s, kind);
	expect(0, rpc_server_start(s->server, &err));
	assert_int_equal(pthread_create(&s->thread, NULL, run, s), 0);
	expect(0, store_open(out, s->address, 0, &err));
}

struct store *served_behind(void)
{
	return newest ? &newest->inner : NULL;
}

static void stop(struct served *s)
{
	static const char *const names[] = {"socket", "cert.pem"};

	rpc_server_stop(s->server);
	pthread_join(s->thread, NULL);
	rpc_server_free(s->server);
	store_methods_done(&s->methods);
	store_close(&s->inner);
	if (s->fd >= 0) {
		close(s->fd);
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *path = file_in(s, names[i]);

		unlink(path);
		free(path);
	}
	rmdir(s->dir);
	free(s->dir);
	free(s->address);
	free(s);
}

void served_stop_all(void)
{
	while (newest) {
		struct served *s = newest;

		newest = s->below;
		stop(s);
	}
}
