/*
 * Accepting connections. It is done here, not by the library: so peers can be told by their
 * user, sockets can come from a service manager, and running out of descriptors is no disaster.
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "rpc/rpc_server_internal.h"

/* When the system has no resources for a connection: wait so long, and look again. */
#define PAUSE_MS 100
#define GROUPS_MAX 65536

/* ---- Who is there ---- */

/* Descriptors are numbers that are used again; a socket's inode is its own. */
static bool connection_lives(const struct server_connection *c)
{
	struct stat st;

	return fstat(c->fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == c->inode;
}

static void forget_closed(struct rpc_server *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->connection_count; i++) {
		if (connection_lives(&s->connections[i])) {
			s->connections[kept++] = s->connections[i];
		}
	}
	s->connection_count = kept;
}

/* False when there are as many as may be. */
static bool remember(struct rpc_server *s, int fd)
{
	struct stat st;

	if (s->connection_count == s->connection_max) {
		forget_closed(s);
	}
	if (s->connection_count == s->connection_max || fstat(fd, &st) != 0) {
		return false;
	}
	s->connections[s->connection_count++] =
		(struct server_connection){.fd = fd, .inode = st.st_ino};
	return true;
}

/* ---- Who may come in ---- */

static bool has_group(const struct rpc_peers *peers, gid_t group)
{
	for (size_t i = 0; i < peers->group_count; i++) {
		if (peers->groups[i] == group) {
			return true;
		}
	}
	return false;
}

static bool has_further_group(const struct rpc_peers *peers, int fd)
{
	socklen_t size = GROUPS_MAX * sizeof(gid_t);
	gid_t *groups cleanup(cleanup_free) = xmalloc(size);

	if (peers->group_count == 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0) {
		return false;
	}
	for (size_t i = 0; i < size / sizeof(gid_t); i++) {
		if (has_group(peers, groups[i])) {
			return true;
		}
	}
	return false;
}

static bool peer_allowed(const struct server_door *door, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (!door->checks_peers) {
		return true;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
		return false;
	}
	for (size_t i = 0; i < door->peers.user_count; i++) {
		if (door->peers.users[i] == peer.uid) {
			return true;
		}
	}
	if (has_group(&door->peers, peer.gid) || has_further_group(&door->peers, fd)) {
		return true;
	}
	log_info("user %u, group %u: refused", peer.uid, peer.gid);
	return false;
}

/* ---- Taking them ---- */

static void tell_full(struct rpc_server *s, const char *why)
{
	if (!s->told_full) {
		log_warning("connections are refused: %s", why);
		s->told_full = true;
	}
}

/* Takes over the descriptor. */
static void admit(struct rpc_server *s, const struct server_door *door, int fd)
{
	int on = 1;

	/* Fails where it is no TCP. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!remember(s, fd)) {
		tell_full(s, "there are as many as may be");
		close(fd);
		return;
	}
	s->told_full = false;
	door = peer_allowed(door, fd) ? door : s->refusing;

	grpc_server_credentials *credentials =
		grpc_library.grpc_insecure_server_credentials_create();

	grpc_library.grpc_server_add_channel_from_fd(door->grpc, fd, credentials);
	grpc_library.grpc_server_credentials_release(credentials);
}

/*
 * There are no more descriptors: one that is held for this is given up for a moment, so that
 * the peer hears at once, instead of waiting for an answer that does not come.
 */
static void refuse_one(struct rpc_server *s, const struct server_door *door)
{
	cleanup_close(&s->spare_fd);
	int fd = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0) {
		close(fd);
	}
	s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* True when the system lacks something and it is better to wait. */
static bool accept_one(struct rpc_server *s, const struct server_door *door)
{
	int fd = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0) {
		admit(s, door, fd);
		return false;
	}
	if (errno == EMFILE || errno == ENFILE) {
		tell_full(s, "there are no more file descriptors");
		refuse_one(s, door);
		return s->spare_fd < 0;
	}
	/* What else happens, happens to one connection, and somebody else may have taken it. */
	return errno == ENOBUFS || errno == ENOMEM;
}

/* ---- Ports of the library's own ---- */

/* How often it is looked whether one of them has gone deaf. */
#define LOOK_MS 1000

static bool has_ports(const struct rpc_server *s)
{
	for (size_t i = 0; i < s->door_count; i++) {
		if (s->doors[i].tls) {
			return true;
		}
	}
	return false;
}

/*
 * In place of the old server, whose connections are asked to come again, and which lets go of
 * the port only when it is told to end. When it does not work yet, it is tried again later.
 */
static void reopen(struct rpc_server *s, struct server_door *door)
{
	grpc_server *fresh = rpc_server_make_grpc(s);

	grpc_library.grpc_server_start(fresh);
	rpc_workers_replace(s, door, fresh);
	fresh = rpc_server_make_grpc(s);
	door->deaf = grpc_library.grpc_server_add_http2_port(fresh, door->tls_address,
							     door->tls) == 0;
	grpc_library.grpc_server_start(fresh);
	rpc_workers_replace(s, door, fresh);
}

static void look_after_ports(struct rpc_server *s)
{
	unsigned failed = grpc_library_failed_accepts();
	bool all = failed != s->failed_accepts;

	if (all) {
		tell_full(s, "there were no more file descriptors; ports open again");
	}
	s->failed_accepts = failed;
	for (size_t i = 0; i < s->door_count; i++) {
		if (s->doors[i].tls && (all || s->doors[i].deaf)) {
			reopen(s, &s->doors[i]);
		}
	}
}

static size_t collect(const struct rpc_server *s, struct pollfd *polled,
		      const struct server_door **doors)
{
	size_t count = 0;

	polled[count++] = (struct pollfd){.fd = s->stop_fd, .events = POLLIN};
	for (size_t i = 0; i < s->door_count; i++) {
		if (s->doors[i].fd >= 0) {
			doors[count] = &s->doors[i];
			polled[count++] =
				(struct pollfd){.fd = s->doors[i].fd, .events = POLLIN};
		}
	}
	return count;
}

int rpc_connections_accept(struct rpc_server *s, struct error *err)
{
	struct pollfd polled[SERVER_DOORS_MAX + 1];
	const struct server_door *doors[SERVER_DOORS_MAX + 1];
	size_t count = collect(s, polled, doors);
	int usual = has_ports(s) ? LOOK_MS : -1;
	bool pause = false;

	for (;;) {
		int n = poll(polled, pause ? 1 : count, pause ? PAUSE_MS : usual);

		if (n < 0 && errno != EINTR) {
			return error_set_errno(err, errno, "cannot wait for connections");
		}
		if (n > 0 && polled[0].revents) {
			return 0;
		}
		if (usual > 0) {
			look_after_ports(s);
		}
		for (size_t i = 1; n > 0 && !pause && i < count; i++) {
			if (polled[i].revents) {
				pause = accept_one(s, doors[i]);
			}
		}
		pause = n == 0 ? false : pause;
	}
}
