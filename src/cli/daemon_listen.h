#pragma once

/* Where `cairn daemon` listens, and who may come in. */

#include "cli/socket_options.h"
#include "rpc/rpc_server.h"

#define DAEMON_LISTENERS_MAX 8
#define DAEMON_PEERS_MAX 64

struct daemon_listen {
	/* As given: unix:PATH, tcp:HOST:PORT. */
	const char *addresses[DAEMON_LISTENERS_MAX];
	size_t address_count;
	struct unix_listener_options socket;
	uid_t users[DAEMON_PEERS_MAX];
	gid_t groups[DAEMON_PEERS_MAX];
	size_t user_count, group_count;
	const char *certificate, *key, *client_ca; /* paths or NULL */
	bool insecure;
	bool has_tokens;
	unsigned rights;

	/* What is open: */
	int passed[DAEMON_LISTENERS_MAX]; /* by the service manager */
	size_t passed_count;
	struct unix_listener *sockets[DAEMON_LISTENERS_MAX];
	size_t socket_count;
	int tcp[DAEMON_LISTENERS_MAX];
	size_t tcp_count;
	char *names[2 * DAEMON_LISTENERS_MAX]; /* to be told, with the ports that were chosen */
	size_t name_count;
	struct buffer pem[3];
};

/* Opens the addresses and gives them to the server. */
int daemon_listen_open(struct daemon_listen *l, struct rpc_server *server, struct error *err);
/* After the server is gone. */
void daemon_listen_close(struct daemon_listen *l);
