/* The server as such: who may call what, limits, calls that go wrong, and its end. */

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "rpc/messages.h"
#include "rpc_fixture.h"

#define BLOBS "/tvix.castore.v1.BlobService/"

static struct bytes chunk_of(struct buffer *out, struct bytes data)
{
	struct blob_chunk m = {.data = data};

	out->len = 0;
	message_encode(&blob_chunk_type, &m, out);
	return buffer_bytes(out);
}

static enum rpc_status put_blob(struct raw_client *c, const char *text)
{
	struct buffer b cleanup(buffer_done) = {0};

	return raw_ask(c, BLOBS "Put", chunk_of(&b, bytes_of_string(text)), NULL);
}

static enum rpc_status stat_blob(struct raw_client *c, const char *text)
{
	struct buffer b cleanup(buffer_done) = {0};
	struct digest digest;

	digest_of(&digest, bytes_of_string(text));
	struct stat_blob_request m = {.digest = digest_bytes(&digest)};

	message_encode(&stat_blob_request_type, &m, &b);
	return raw_ask(c, BLOBS "Stat", buffer_bytes(&b), NULL);
}

static bool has_blob(struct rpc_fixture *f, const char *text)
{
	struct digest digest;
	struct error err;

	digest_of(&digest, bytes_of_string(text));
	return blob_service_has(f->store.blobs, &digest, &err) > 0;
}

/* ---- Methods ---- */

static void test_both_names(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	struct buffer b cleanup(buffer_done) = {0};

	assert_int_equal(put_blob(f->client, "hello"), RPC_STATUS_OK);
	assert_true(has_blob(f, "hello"));
	assert_int_equal(raw_ask(f->client, "/snix.castore.v1.BlobService/Put",
				 chunk_of(&b, bytes_of_string("world")), NULL),
			 RPC_STATUS_OK);
	assert_int_equal(stat_blob(f->client, "world"), RPC_STATUS_OK);
	assert_int_equal(stat_blob(f->client, "absent"), RPC_STATUS_NOT_FOUND);
}

static void test_unknown_methods(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	static const char *const names[] = {
		"/tvix.castore.v1.BlobService/Stats",
		"/tvix.castore.v1.BlobServic/Stat",
		"/tvix.castore.v1.BlobService/",
		"//Stat",
		"/x",
		"/tvix.castore.v1.BlobService/Stat/",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(raw_ask(f->client, names[i], (struct bytes){0}, NULL),
				 RPC_STATUS_UNIMPLEMENTED);
	}
}

static void test_no_request(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	struct raw_call *call = raw_call_start(f->client, BLOBS "Stat", NULL);

	raw_call_send_end(call);
	assert_int_equal(raw_call_finish(call, NULL), RPC_STATUS_INVALID_ARGUMENT);
}

static void test_malformed_requests(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	static const char *const requests[] = {
		"\xff\xff",    /* a tag that is cut off */
		"\x0a\x7f",    /* a length beyond the end */
		"\x08\x01",    /* a digest that is a number */
		"\x0a\003abc", /* a short digest */
	};

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		assert_int_equal(
			raw_ask(f->client, BLOBS "Stat", bytes_of_string(requests[i]), NULL),
			RPC_STATUS_INVALID_ARGUMENT);
	}
	/* Fields that are not known are passed over. */
	struct buffer b cleanup(buffer_done) = {0};
	struct stat_blob_request m = {.digest = digest_bytes(&digest_empty)};

	message_encode(&stat_blob_request_type, &m, &b);
	buffer_append(&b, "\x98\x06\x01", 3);
	assert_int_equal(raw_ask(f->client, BLOBS "Stat", buffer_bytes(&b), NULL),
			 RPC_STATUS_OK);
}

/* ---- Rights ---- */

static void test_reading_only(void **state)
{
	struct rpc_fixture *f = *state;

	f->rights = RPC_MAY_READ;
	rpc_fixture_start(state);
	assert_int_equal(put_blob(f->client, "hello"), RPC_STATUS_PERMISSION_DENIED);
	assert_false(has_blob(f, "hello"));
	assert_int_equal(stat_blob(f->client, ""), RPC_STATUS_OK);
	assert_int_equal(raw_ask(f->client, "/cairn.v1.Roots/List", (struct bytes){0}, NULL),
			 RPC_STATUS_PERMISSION_DENIED);
	assert_int_equal(raw_ask(f->client, "/tvix.store.v1.PathInfoService/List",
				 (struct bytes){0}, NULL),
			 RPC_STATUS_PERMISSION_DENIED);
}

static void test_other_users(void **state)
{
	struct rpc_fixture *f = *state;
	const uid_t other = geteuid() + 1;

	f->peers = (struct rpc_peers){.users = &other, .user_count = 1};
	rpc_fixture_start(state);
	assert_int_equal(stat_blob(f->client, ""), RPC_STATUS_PERMISSION_DENIED);
	/* Also what is for those without a token. */
	assert_int_equal(
		raw_ask(f->client, "/grpc.health.v1.Health/Check", (struct bytes){0}, NULL),
		RPC_STATUS_PERMISSION_DENIED);
}

static void test_this_user(void **state)
{
	struct rpc_fixture *f = *state;
	const uid_t users[] = {geteuid() + 1, geteuid()};

	f->peers = (struct rpc_peers){.users = users, .user_count = 2};
	rpc_fixture_start(state);
	assert_int_equal(stat_blob(f->client, ""), RPC_STATUS_OK);
}

static void test_this_group(void **state)
{
	struct rpc_fixture *f = *state;
	const gid_t group = getegid();

	f->peers = (struct rpc_peers){.groups = &group, .group_count = 1};
	rpc_fixture_start(state);
	assert_int_equal(stat_blob(f->client, ""), RPC_STATUS_OK);
}

static enum rpc_status ask_with(struct raw_client *c, const char *method,
				const char *authorization, struct bytes request)
{
	struct raw_call *call = raw_call_start(c, method, authorization);

	raw_call_send(call, request);
	raw_call_send_end(call);
	return raw_call_finish(call, NULL);
}

static struct rpc_token_table *make_tokens(struct rpc_fixture *f)
{
	static const char text[] = "# of two\nwrite-0123456789abcdef\n\n"
				   "\tread-0123456789abcdef   read\r\n";
	struct rpc_token_table *tokens = NULL;
	struct error err;
	char path[96];

	snprintf(path, sizeof(path), "%s/tokens", f->folder);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	close(fd);
	if (token_table_read(path, &tokens, &err) != 0) {
		fail_msg("%s", err.text);
	}
	assert_int_equal(chmod(path, 0604), 0);
	assert_int_equal(token_table_read(path, &(struct rpc_token_table *){NULL}, &err),
			 -ERROR_DENIED);
	unlink(path);
	return tokens;
}

static void test_tokens(void **state)
{
	struct rpc_fixture *f = *state;
	struct rpc_token_table *tokens = make_tokens(f);
	struct buffer chunk cleanup(buffer_done) = {0};
	static const char health[] = "/grpc.health.v1.Health/Check";
	struct bytes data = chunk_of(&chunk, bytes_of_string("hello"));

	f->options.tokens = tokens;
	rpc_fixture_start(state);
	static const char *const wrong[] = {
		NULL,
		"",
		"Bearer",
		"Bearer ",
		"Bearer write-0123456789abcde",
		"Bearer write-0123456789abcdefg",
		"Basic write-0123456789abcdef",
		"write-0123456789abcdef",
		"Bearer  write-0123456789abcdef",
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(ask_with(f->client, BLOBS "Put", wrong[i], data),
				 RPC_STATUS_UNAUTHENTICATED);
	}
	assert_int_equal(ask_with(f->client, BLOBS "Put", "Bearer read-0123456789abcdef", data),
			 RPC_STATUS_PERMISSION_DENIED);
	assert_false(has_blob(f, "hello"));
	assert_int_equal(
		ask_with(f->client, BLOBS "Put", "bearer write-0123456789abcdef", data),
		RPC_STATUS_OK);
	assert_true(has_blob(f, "hello"));
	/* Whether it is well, a balancer may know without one. */
	assert_int_equal(ask_with(f->client, health, NULL, (struct bytes){0}), RPC_STATUS_OK);
	rpc_fixture_stop(f);
	token_table_free(tokens);
}

/* ---- Calls that go wrong ---- */

/* Nothing of an upload that its client gives up is there, also if its end was never said. */
static void test_upload_given_up(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	struct raw_call *call = raw_call_start(f->client, BLOBS "Put", NULL);
	struct buffer chunk cleanup(buffer_done) = {0};

	assert_true(raw_call_send(call, chunk_of(&chunk, bytes_of_string("half"))));
	raw_call_cancel(call);
	assert_int_equal(raw_call_finish(call, NULL), RPC_STATUS_CANCELLED);
	/* When the server has ended, so has the call. */
	rpc_fixture_stop(f);
	assert_false(has_blob(f, "half"));
}

static void test_client_vanishes(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	struct raw_client *other = raw_client_new(f->target);
	struct raw_call *call = raw_call_start(other, BLOBS "Put", NULL);
	struct buffer chunk cleanup(buffer_done) = {0};

	assert_true(raw_call_send(call, chunk_of(&chunk, bytes_of_string("half"))));
	raw_call_cancel(call);
	raw_call_finish(call, NULL);
	raw_client_free(other);
	assert_int_equal(put_blob(f->client, "whole"), RPC_STATUS_OK);
	rpc_fixture_stop(f);
	assert_false(has_blob(f, "half"));
	assert_true(has_blob(f, "whole"));
}

static void test_no_progress(void **state)
{
	struct rpc_fixture *f = *state;

	f->options.timeout = 50;
	rpc_fixture_start(state);
	struct raw_call *call = raw_call_start(f->client, BLOBS "Put", NULL);

	assert_int_equal(raw_call_finish(call, NULL), RPC_STATUS_DEADLINE_EXCEEDED);
	assert_int_equal(put_blob(f->client, "hello"), RPC_STATUS_OK);
}

static void test_message_too_large(void **state)
{
	struct rpc_fixture *f = *state;

	f->options.message_max = 100000;
	rpc_fixture_start(state);
	uint8_t *data = xcalloc(1, 200000);
	struct buffer chunk cleanup(buffer_done) = {0};

	assert_int_equal(
		raw_ask(f->client, BLOBS "Put", chunk_of(&chunk, bytes_of(data, 200000)), NULL),
		RPC_STATUS_RESOURCE_EXHAUSTED);
	assert_int_equal(
		raw_ask(f->client, BLOBS "Put", chunk_of(&chunk, bytes_of(data, 90000)), NULL),
		RPC_STATUS_OK);
	free(data);
}

/* What is sent after the answer, or in place of it, does not disturb. */
static void test_more_than_is_asked_for(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	struct raw_call *call = raw_call_start(f->client, BLOBS "Stat", NULL);
	struct buffer b cleanup(buffer_done) = {0};
	struct stat_blob_request m = {.digest = digest_bytes(&digest_empty)};

	message_encode(&stat_blob_request_type, &m, &b);
	for (int i = 0; i < 3 && raw_call_send(call, buffer_bytes(&b)); i++) {
	}
	assert_int_equal(raw_call_finish(call, NULL), RPC_STATUS_OK);
}

static int connect_raw(const struct rpc_fixture *f)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->target + strlen("unix:"));
	assert_int_equal(connect(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

/* Until the other end closes. */
static void read_to_end(int fd)
{
	char buf[4096];

	while (read(fd, buf, sizeof(buf)) > 0) {
	}
	close(fd);
}

static void test_no_http(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	static const char request[] = "GET / HTTP/1.1\r\nHost: cairn\r\n\r\n";
	int fd = connect_raw(f);

	assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
	read_to_end(fd);
	assert_int_equal(stat_blob(f->client, ""), RPC_STATUS_OK);
}

/* ---- Limits ---- */

/* With one thread for calls, others wait until the one that runs has ended. */
static void test_calls_wait(void **state)
{
	struct rpc_fixture *f = *state;
	struct buffer chunk cleanup(buffer_done) = {0};
	struct raw_call *waiting[20] = {0};

	f->options.threads = 1;
	rpc_fixture_start(state);
	struct raw_call *first = raw_call_start(f->client, "/cairn.v1.Objects/PutBlobs", NULL);

	for (size_t i = 0; i < ARRAY_SIZE(waiting); i++) {
		waiting[i] = raw_call_start(f->client, BLOBS "Put", NULL);
		raw_call_send(waiting[i], chunk_of(&chunk, bytes_of(&i, sizeof(i))));
		raw_call_send_end(waiting[i]);
	}
	raw_call_send_end(first);
	assert_int_equal(raw_call_finish(first, NULL), RPC_STATUS_OK);
	for (size_t i = 0; i < ARRAY_SIZE(waiting); i++) {
		assert_int_equal(raw_call_finish(waiting[i], NULL), RPC_STATUS_OK);
	}
}

static void test_connections_are_limited(void **state)
{
	struct rpc_fixture *f = *state;

	f->options.connections = 2;
	rpc_fixture_start(state);
	assert_int_equal(stat_blob(f->client, ""), RPC_STATUS_OK);
	int second = connect_raw(f);

	/* A third one hears at once that there is no room. */
	read_to_end(connect_raw(f));
	shutdown(second, SHUT_WR);
	read_to_end(second);
	/* Those that have gone do not count. */
	struct raw_client *again = raw_client_new(f->target);

	while (stat_blob(again, "") != RPC_STATUS_OK) {
		raw_client_free(again);
		again = raw_client_new(f->target);
	}
	raw_client_free(again);
	assert_int_equal(stat_blob(f->client, ""), RPC_STATUS_OK);
}

static void *put_many(void *context)
{
	struct rpc_fixture *f = context;
	struct raw_client *c = raw_client_new(f->target);
	char text[32];
	void *failed = NULL;

	for (int i = 0; i < 20; i++) {
		snprintf(text, sizeof(text), "blob %d", i);
		failed = put_blob(c, text) == RPC_STATUS_OK ? failed : f;
	}
	raw_client_free(c);
	return failed;
}

static void test_many_clients(void **state)
{
	struct rpc_fixture *f = *state;
	pthread_t threads[30];

	f->options.threads = 4;
	rpc_fixture_start(state);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, put_many, f), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_true(has_blob(f, "blob 19"));
}

/* ---- The end ---- */

/*
 * A call that is only on its way when the server stops is refused, and its client takes it to
 * the next connection.
 */
static void wait_for_running(struct rpc_server *server, size_t calls)
{
	struct rpc_server_counts counts;

	do {
		usleep(1000);
		rpc_server_count(server, &counts);
	} while (counts.running_calls != calls);
}

static void test_running_calls_may_end(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	struct buffer chunk cleanup(buffer_done) = {0},
			    state_message cleanup(buffer_done) = {0};
	struct raw_call *watch =
		raw_call_start(f->client, "/grpc.health.v1.Health/Watch", NULL);
	struct raw_call *put = raw_call_start(f->client, BLOBS "Put", NULL);

	raw_call_send(watch, (struct bytes){0});
	raw_call_send_end(watch);
	assert_true(raw_call_receive(watch, &state_message));
	assert_memory_equal(state_message.ptr, "\x08\x01", 2);
	raw_call_send(put, chunk_of(&chunk, bytes_of_string("late")));
	wait_for_running(f->server, 2);
	rpc_server_stop(f->server);
	assert_true(raw_call_receive(watch, &state_message));
	assert_memory_equal(state_message.ptr, "\x08\x02", 2);
	assert_int_equal(raw_call_finish(watch, NULL), RPC_STATUS_OK);
	raw_call_send_end(put);
	assert_int_equal(raw_call_finish(put, NULL), RPC_STATUS_OK);
	rpc_fixture_stop(f);
	assert_true(has_blob(f, "late"));
}

static void test_running_calls_are_ended(void **state)
{
	struct rpc_fixture *f = *state;

	f->options.drain = 1;
	rpc_fixture_start(state);
	struct raw_call *put = raw_call_start(f->client, BLOBS "Put", NULL);

	wait_for_running(f->server, 1);
	rpc_fixture_stop(f);
	assert_int_not_equal(raw_call_finish(put, NULL), RPC_STATUS_OK);
}

static void test_never_started(void **state)
{
	struct rpc_fixture *f = *state;
	struct rpc_server *server;
	struct error err;

	assert_int_equal(rpc_server_new(&f->options, &server, &err), 0);
	rpc_server_free(server);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, rpc_fixture_setup, rpc_fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_both_names),
		TEST(test_unknown_methods),
		TEST(test_no_request),
		TEST(test_malformed_requests),
		TEST(test_reading_only),
		TEST(test_other_users),
		TEST(test_this_user),
		TEST(test_this_group),
		TEST(test_tokens),
		TEST(test_upload_given_up),
		TEST(test_client_vanishes),
		TEST(test_no_progress),
		TEST(test_message_too_large),
		TEST(test_more_than_is_asked_for),
		TEST(test_no_http),
		TEST(test_calls_wait),
		TEST(test_connections_are_limited),
		TEST(test_many_clients),
		TEST(test_running_calls_may_end),
		TEST(test_running_calls_are_ended),
		TEST(test_never_started),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
