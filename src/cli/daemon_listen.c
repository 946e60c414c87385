#include "cli/daemon_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"

#define BACKLOG 1024
#define PEM_MAX ((size_t)1 << 20)

/* Takes over the name. */
static void add_name(struct daemon_listen *l, char *name)
{
	l->names[l->name_count++] = name;
}

/* ---- Unix sockets ---- */

static int open_unix(struct daemon_listen *l, struct rpc_server *server, const char *path,
		     struct error *err)
{
	const struct rpc_peers peers = {l->users, l->user_count, l->groups, l->group_count};
	struct unix_listener *u;
	int rc = unix_listener_new(path, &l->socket, &u, err);

	if (rc == 0) {
		l->sockets[l->socket_count++] = u;
		add_name(l, xasprintf("unix:%s", path));
		rc = rpc_server_add_socket(server, unix_listener_fd(u), l->rights, &peers, err);
	}
	return rc;
}

/* ---- TCP ---- */

struct endpoint {
	struct sockaddr_storage address;
	socklen_t length;
	char host[256];
	char port[16];
};

static int no_endpoint(const char *text, struct error *err)
{
	return error_set(err, ERROR_INVALID,
			 "tcp:%s: this is not tcp:HOST:PORT with an IP address, in [] if it is "
			 "IPv6, or localhost",
			 text);
}

/* HOST:PORT, or [HOST]:PORT. Names are not looked up: one may stand for many addresses. */
static int parse_endpoint(const char *text, struct endpoint *out, struct error *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : 0;
	struct addrinfo *found;
	bool bracketed = len > 2 && text[0] == '[' && text[len - 1] == ']';
	const char *host = bracketed ? text + 1 : text;

	len -= bracketed ? 2 : 0;
	if (len == 0 || len >= sizeof(out->host) || strlen(colon + 1) >= sizeof(out->port) ||
	    !colon[1] || (!bracketed && memchr(text, ':', len))) {
		return no_endpoint(text, err);
	}
	snprintf(out->host, sizeof(out->host), "%.*s", (int)len, host);
	snprintf(out->port, sizeof(out->port), "%s", colon + 1);
	if (strcmp(out->host, "localhost") == 0) {
		snprintf(out->host, sizeof(out->host), "127.0.0.1");
	}
	if (getaddrinfo(out->host, out->port, &hints, &found) != 0) {
		return no_endpoint(text, err);
	}
	memcpy(&out->address, found->ai_addr, found->ai_addrlen);
	out->length = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

static bool is_loopback(const struct endpoint *e)
{
	if (e->address.ss_family == AF_INET6) {
		const struct sockaddr_in6 *a = (const void *)&e->address;

		return IN6_IS_ADDR_LOOPBACK(&a->sin6_addr);
	}
	const struct sockaddr_in *a = (const void *)&e->address;

	return ntohl(a->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

/* Whoever is on the network must not get in by an oversight. */
static int check_safe(const struct daemon_listen *l, const struct endpoint *e,
		      struct error *err)
{
	bool encrypted = l->certificate != NULL;
	bool known = l->client_ca != NULL || l->has_tokens;

	if (l->insecure || is_loopback(e) || (encrypted && known)) {
		return 0;
	}
	return error_set(err, ERROR_DENIED,
			 "%s can be reached by others: %s (--insecure goes without)", e->host,
			 encrypted ? "clients must show a certificate (--client-ca) or a token "
				     "(--token-file)"
				   : "connections must be encrypted (--tls-cert, --tls-key)");
}

static unsigned bound_port(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char port[16];

	if (getsockname(fd, (void *)&address, &length) != 0 ||
	    getnameinfo((void *)&address, length, NULL, 0, port, sizeof(port),
			NI_NUMERICSERV) != 0) {
		return 0;
	}
	return (unsigned)strtoul(port, NULL, 10);
}

static void add_tcp_name(struct daemon_listen *l, const struct endpoint *e, unsigned port)
{
	bool six = e->address.ss_family == AF_INET6;

	add_name(l, xasprintf("tcp:%s%s%s:%u", six ? "[" : "", e->host, six ? "]" : "", port));
}

static int listen_tcp(const struct endpoint *e, struct error *err)
{
	int on = 1;
	int fd = socket(e->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		return error_set_errno(err, errno, "cannot make a socket");
	}
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    bind(fd, (const void *)&e->address, e->length) != 0 || listen(fd, BACKLOG) != 0) {
		int rc = error_set_errno(err, errno, "cannot listen on %s port %s", e->host,
					 e->port);

		close(fd);
		return rc;
	}
	return fd;
}

static int open_plain(struct daemon_listen *l, struct rpc_server *server,
		      const struct endpoint *e, struct error *err)
{
	int fd = listen_tcp(e, err);

	if (fd < 0) {
		return fd;
	}
	l->tcp[l->tcp_count++] = fd;
	add_tcp_name(l, e, bound_port(fd));
	return rpc_server_add_socket(server, fd, l->rights, NULL, err);
}

/* With a NUL behind it. */
static int read_pem(const char *path, struct buffer *out, struct error *err)
{
	int rc = read_small_file(AT_FDCWD, path, PEM_MAX, out, err);

	if (rc <= 0) {
		return rc < 0 ? rc : error_set(err, ERROR_NOT_FOUND, "%s: no such file", path);
	}
	buffer_append_byte(out, '\0');
	return 0;
}

static int open_tls(struct daemon_listen *l, struct rpc_server *server,
		    const struct endpoint *e, const char *text, struct error *err)
{
	unsigned port = 0;
	int rc = read_pem(l->certificate, &l->pem[0], err);

	if (rc == 0) {
		rc = read_pem(l->key, &l->pem[1], err);
	}
	if (rc == 0 && l->client_ca) {
		rc = read_pem(l->client_ca, &l->pem[2], err);
	}
	if (rc == 0) {
		const struct rpc_tls tls = {
			.certificate = buffer_bytes(&l->pem[0]),
			.key = buffer_bytes(&l->pem[1]),
			.client_ca = buffer_bytes(&l->pem[2]),
		};

		rc = rpc_server_add_tls(server, text, l->rights, &tls, &port, err);
	}
	if (rc == 0) {
		add_tcp_name(l, e, port);
	}
	return rc;
}

static int open_tcp(struct daemon_listen *l, struct rpc_server *server, const char *text,
		    struct error *err)
{
	struct endpoint e;
	int rc = parse_endpoint(text, &e, err);

	if (rc == 0) {
		rc = check_safe(l, &e, err);
	}
	if (rc < 0) {
		return rc;
	}
	return l->certificate ? open_tls(l, server, &e, text, err)
			      : open_plain(l, server, &e, err);
}

/* ---- All of them ---- */

/* Behind a prefix, or NULL. */
static const char *strip(const char *text, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static int open_address(struct daemon_listen *l, struct rpc_server *server, const char *text,
			struct error *err)
{
	const char *path = strip(text, "unix:"), *tcp = strip(text, "tcp:");

	if (path) {
		return open_unix(l, server, path, err);
	}
	if (tcp) {
		return open_tcp(l, server, tcp, err);
	}
	return error_set(err, ERROR_INVALID,
			 "'%s' is no address to listen on: unix:PATH or tcp:HOST:PORT", text);
}

/* Who opened it has said who may connect to it. */
static int add_passed(struct daemon_listen *l, struct rpc_server *server, int fd,
		      struct error *err)
{
	const struct rpc_peers peers = {l->users, l->user_count, l->groups, l->group_count};
	int domain, accepts;
	socklen_t size = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) != 0 || !accepts) {
		return error_set(err, ERROR_INVALID, "descriptor %d is no listening socket",
				 fd);
	}
	if (domain != AF_UNIX && l->certificate) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "descriptor %d: TLS needs an address of its own (--listen)",
				 fd);
	}
	add_name(l, xasprintf("fd:%d", fd));
	return rpc_server_add_socket(server, fd, l->rights, domain == AF_UNIX ? &peers : NULL,
				     err);
}

int daemon_listen_open(struct daemon_listen *l, struct rpc_server *server, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < l->passed_count; i++) {
		rc = add_passed(l, server, l->passed[i], err);
	}
	for (size_t i = 0; rc == 0 && i < l->address_count; i++) {
		rc = open_address(l, server, l->addresses[i], err);
	}
	return rc;
}

void daemon_listen_close(struct daemon_listen *l)
{
	for (size_t i = 0; i < l->socket_count; i++) {
		unix_listener_free(l->sockets[i]);
	}
	for (size_t i = 0; i < l->tcp_count; i++) {
		close(l->tcp[i]);
	}
	for (size_t i = 0; i < l->name_count; i++) {
		free(l->names[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(l->pem); i++) {
		/* One of them is a secret. */
		if (l->pem[i].len) {
			explicit_bzero(l->pem[i].ptr, l->pem[i].len);
		}
		buffer_done(&l->pem[i]);
	}
}
