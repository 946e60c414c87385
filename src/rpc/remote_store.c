#include "rpc/remote_store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/un.h>

#include "base/io.h"
#include "rpc/remote.h"
#include "services/store_scheme.h"

#define FILE_MAX ((size_t)1 << 20) /* of certificates and tokens */
#define CONNECTIONS_MAX 64
#define CALLS_MAX 4096

/* Multiples that may follow a number. */
struct unit {
	const char *suffix;
	uint64_t factor;
};

static const struct unit times[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {NULL, 0}};
static const struct unit sizes[] = {
	{"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {NULL, 0}};
static const struct unit counts[] = {{"", 1}, {NULL, 0}};

struct number {
	const char *name;
	const struct unit *units;
	const char *example;
	uint64_t standard;
	uint64_t max;
};

static const struct number timeout = {"timeout", times, "10s", 30000, 86400000};
static const struct number connect_timeout = {"connect-timeout", times, "5s", 5000, 3600000};
static const struct number connections = {"connections", counts, "2", 2, CONNECTIONS_MAX};
static const struct number calls = {"calls", counts, "64", 64, CALLS_MAX};
static const struct number in_flight = {"in-flight", sizes, "64M", 64 << 20,
					(uint64_t)64 << 30};
static const struct number max_blob = {"max-blob", sizes, "16G", (uint64_t)16 << 30,
				       (uint64_t)1 << 40};

static const struct number *const numbers[] = {
	&timeout, &connect_timeout, &connections, &calls, &in_flight, &max_blob,
};

#define COMMON_PARAMETERS                                                              \
	"timeout", "connect-timeout", "connections", "calls", "in-flight", "max-blob", \
		"token-file"

static const char *const plain_parameters[] = {COMMON_PARAMETERS, NULL};
static const char *const tls_parameters[] = {COMMON_PARAMETERS, "ca", "cert", "key", NULL};

/* ---- Parameters ---- */

static bool parse_number(const struct number *n, const char *text, uint64_t *out)
{
	char *end = NULL;

	errno = 0;
	uint64_t value = strtoull(text, &end, 10);

	if (errno != 0 || text[0] < '0' || text[0] > '9') {
		return false;
	}
	for (const struct unit *u = n->units; u->suffix; u++) {
		if (strcmp(end, u->suffix) == 0) {
			return !__builtin_mul_overflow(value, u->factor, out) && *out >= 1 &&
			       *out <= n->max;
		}
	}
	return false;
}

static int get_number(const struct url *address, const struct number *n, uint64_t *out,
		      struct error *err)
{
	const char *text = url_get(address, n->name);

	*out = n->standard;
	if (!text || parse_number(n, text, out)) {
		return 0;
	}
	return error_set(err, ERROR_INVALID, "%s=%s: not a number such as %s (1 to %ju)",
			 n->name, bytes_printable(bytes_of_string(text)), n->example,
			 (uintmax_t)(n->max / n->units[n->units == times].factor));
}

static int check_parameters(const struct url *address, struct error *err)
{
	uint64_t value;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(numbers); i++) {
		rc = get_number(address, numbers[i], &value, err);
	}
	if (rc == 0 && !url_get(address, "cert") != !url_get(address, "key")) {
		rc = error_set(err, ERROR_INVALID, "cert and key come together");
	}
	return rc;
}

/* ---- Where it is ---- */

static int check_unix(const struct url *address, struct error *err)
{
	if (address->authority[0]) {
		return error_set(err, ERROR_INVALID,
				 "a host is not possible here: write grpc+unix:///path");
	}
	if (address->path[0] == '\0') {
		return error_set(err, ERROR_INVALID, "a path is missing: grpc+unix:///path");
	}
	if (strlen(address->path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
		return error_set(err, ERROR_LIMIT, "the path of a socket has at most %zu bytes",
				 sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
	}
	return check_parameters(address, err);
}

/* host, host:port, [v6], [v6]:port. The port's place, or NULL; false: no such thing. */
static bool split_authority(const char *authority, const char **port)
{
	const char *end = authority;

	if (authority[0] == '[') {
		end = strchr(authority, ']');
		if (authority + 1 + strspn(authority + 1, "0123456789abcdefABCDEF:.") != end) {
			return false;
		}
		end++;
	} else {
		end += strspn(authority, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					 "0123456789.-_");
	}
	*port = *end == ':' ? end + 1 : NULL;
	if (end == authority || (*end != '\0' && *end != ':')) {
		return false;
	}
	if (!*port) {
		return true;
	}
	size_t digits = strspn(*port, "0123456789");
	unsigned long value = strtoul(*port, NULL, 10);

	return digits > 0 && digits < 6 && (*port)[digits] == '\0' && value > 0 &&
	       value < 65536;
}

static int check_tcp(const struct url *address, struct error *err)
{
	const char *port;

	if (!split_authority(address->authority, &port)) {
		return error_set(err, ERROR_INVALID,
				 "'%s' is no host, and no host:port: write %s://host:port",
				 bytes_printable(bytes_of_string(address->authority)),
				 address->scheme);
	}
	if (address->path[0] && strcmp(address->path, "/") != 0) {
		return error_set(err, ERROR_INVALID, "no path may follow the host");
	}
	return check_parameters(address, err);
}

/* ---- Opening ---- */

struct files {
	struct buffer ca, cert, key, token;
};

static void files_done(struct files *f)
{
	buffer_done(&f->ca);
	buffer_done(&f->cert);
	buffer_done(&f->key);
	buffer_done(&f->token);
}

/* *text: NULL, or the content with a NUL behind it. */
static int read_text(const struct url *address, const char *parameter, struct buffer *content,
		     const char **text, struct error *err)
{
	const char *path = url_get(address, parameter);

	if (!path) {
		return 0;
	}
	int rc = read_small_file(AT_FDCWD, path, FILE_MAX, content, err);

	if (rc == 0) {
		rc = error_set(err, ERROR_NOT_FOUND, "there is no such file");
	}
	if (rc < 0) {
		return error_wrap(err, "%s=%s", parameter,
				  bytes_printable(bytes_of_string(path)));
	}
	buffer_append_byte(content, '\0');
	*text = (const char *)content->ptr;
	return 0;
}

/* The first line, which must be fit for a header. */
static int read_token(const struct url *address, struct buffer *content, const char **token,
		      struct error *err)
{
	int rc = read_text(address, "token-file", content, token, err);

	if (rc < 0 || !*token) {
		return rc;
	}
	size_t len = strcspn(*token, "\r\n");

	content->ptr[len] = '\0';
	for (size_t i = 0; i < len; i++) {
		if (content->ptr[i] <= ' ' || content->ptr[i] > '~') {
			len = 0;
		}
	}
	return len ? 0
		   : error_set(err, ERROR_INVALID,
			       "token-file=%s: its first line is no token (printable, without "
			       "spaces)",
			       url_get(address, "token-file"));
}

static int read_files(const struct url *address, struct files *f,
		      struct client_channel_config *c, struct error *err)
{
	int rc = read_token(address, &f->token, &c->token, err);

	if (rc == 0) {
		rc = read_text(address, "ca", &f->ca, &c->ca, err);
	}
	if (rc == 0) {
		rc = read_text(address, "cert", &f->cert, &c->certificate, err);
	}
	if (rc == 0) {
		rc = read_text(address, "key", &f->key, &c->key, err);
	}
	return rc;
}

/* All were checked before. */
static void take_numbers(const struct url *address, struct remote_config *c)
{
	uint64_t value;

	get_number(address, &timeout, &value, NULL);
	c->channel.timeout_ms = (unsigned)value;
	get_number(address, &connect_timeout, &value, NULL);
	c->channel.connect_timeout_ms = (unsigned)value;
	get_number(address, &connections, &value, NULL);
	c->channel.connections = (unsigned)value;
	get_number(address, &calls, &value, NULL);
	c->channel.calls_max = (unsigned)value;
	get_number(address, &in_flight, &value, NULL);
	c->in_flight_max = (size_t)value;
	get_number(address, &max_blob, &c->blob_max, NULL);
}

static void open_remote(struct store *out, const struct remote_config *config)
{
	struct remote *r = remote_new(config);

	*out = (struct store){
		.blobs = remote_blobs_new(r),
		.directories = remote_directories_new(r),
		.roots = remote_roots_new(r),
		.path_infos = remote_path_infos_new(r),
	};
	out->stager = remote_stager_new(r, out);
	remote_unref(r);
}

/* target: as gRPC writes it; name: the address without its parameters. */
static int open_target(struct store *out, const struct url *address, const char *target,
		       const char *name, unsigned flags, struct error *err)
{
	struct files files cleanup(files_done) = {0};
	struct remote_config config = {
		.channel =
			{
				.address = name,
				.target = target,
				.tls = strcmp(address->scheme, "grpc+https") == 0,
			},
		.read_only = flags & STORE_READ_ONLY,
	};
	int rc = read_files(address, &files, &config.channel, err);

	if (rc == 0) {
		take_numbers(address, &config);
		open_remote(out, &config);
	}
	return rc;
}

static int open_unix(struct store *out, const struct url *address, unsigned flags,
		     struct error *err)
{
	struct buffer path cleanup(buffer_done) = {0};

	url_encode(&path, address->path);
	buffer_append_byte(&path, '\0');
	char *target cleanup(cleanup_free) = xasprintf("unix:%s", (const char *)path.ptr);
	char *name cleanup(cleanup_free) = xasprintf("grpc+unix://%s", (const char *)path.ptr);

	return open_target(out, address, target, name, flags, err);
}

static int open_tcp(struct store *out, const struct url *address, unsigned flags,
		    struct error *err)
{
	const char *port = NULL;
	bool tls = strcmp(address->scheme, "grpc+https") == 0;

	split_authority(address->authority, &port);
	char *target cleanup(cleanup_free) = xasprintf("dns:///%s%s", address->authority,
						       port  ? ""
						       : tls ? ":443"
							     : ":80");
	char *name cleanup(cleanup_free) =
		xasprintf("%s://%s", address->scheme, address->authority);

	return open_target(out, address, target, name, flags, err);
}

static const struct store_scheme schemes[] = {
	{
		.name = "grpc+unix",
		.form = "grpc+unix:///path",
		.parameters = plain_parameters,
		.check = check_unix,
		.open = open_unix,
	},
	{
		.name = "grpc+http",
		.form = "grpc+http://host:port",
		.parameters = plain_parameters,
		.check = check_tcp,
		.open = open_tcp,
	},
	{
		.name = "grpc+https",
		.form = "grpc+https://host:port",
		.parameters = tls_parameters,
		.check = check_tcp,
		.open = open_tcp,
	},
};

void remote_store_add_schemes(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		store_scheme_add(&schemes[i]);
	}
}
