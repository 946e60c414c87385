/*
 * What many small blobs are compared with: a client of the same daemon that makes one call for
 * each, and waits for the answer before it makes the next one.
 *
 *   naive put TARGET FOLDER DIGESTS    puts every file of a folder, writes down the digests
 *   naive get TARGET DIGESTS           reads each of them
 *
 * TARGET is an address as gRPC has it, unix:/path. Prints one JSON object: the time from before
 * the connection to the last answer, the number of blobs and their bytes.
 */

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

#define DIGEST_SIZE 32
#define BLOB_MAX (1 << 20)
#define FIELD_1 0x0a /* number 1, bytes: all that these messages have */

static grpc_channel *channel;
static grpc_completion_queue *queue;
static uint64_t blobs, bytes;

/* A message whose field 1 has these bytes. */
static grpc_byte_buffer *message_of(const uint8_t *data, size_t size)
{
	uint8_t head[8] = {FIELD_1};
	size_t used = 1;

	for (size_t left = size; used == 1 || left > 0; left >>= 7) {
		head[used++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
	}
	grpc_slice slice = grpc_slice_malloc(used + size);

	memcpy(GRPC_SLICE_START_PTR(slice), head, used);
	if (size > 0) {
		memcpy(GRPC_SLICE_START_PTR(slice) + used, data, size);
	}
	grpc_byte_buffer *made = grpc_raw_byte_buffer_create(&slice, 1);

	grpc_slice_unref(slice);
	return made;
}

/* One request and at most one answer, NULL if there is none. */
static grpc_byte_buffer *call(const char *method, grpc_byte_buffer *request)
{
	grpc_metadata_array first, last;
	grpc_status_code status;
	grpc_slice details;
	grpc_byte_buffer *answer = NULL;
	grpc_call *made =
		grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue,
					 grpc_slice_from_static_string(method), NULL,
					 gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
	grpc_op ops[6] = {
		{.op = GRPC_OP_SEND_INITIAL_METADATA},
		{.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = request},
		{.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
		{.op = GRPC_OP_RECV_INITIAL_METADATA,
		 .data.recv_initial_metadata.recv_initial_metadata = &first},
		{.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &answer},
		{.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
		 .data.recv_status_on_client = {&last, &status, &details, NULL}},
	};

	grpc_metadata_array_init(&first);
	grpc_metadata_array_init(&last);
	if (grpc_call_start_batch(made, ops, 6, made, NULL) != GRPC_CALL_OK) {
		errx(1, "%s cannot be called", method);
	}
	grpc_completion_queue_pluck(queue, made, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
	if (status != GRPC_STATUS_OK) {
		errx(1, "%s: status %d: %.*s", method, (int)status,
		     (int)GRPC_SLICE_LENGTH(details), GRPC_SLICE_START_PTR(details));
	}
	grpc_metadata_array_destroy(&first);
	grpc_metadata_array_destroy(&last);
	grpc_slice_unref(details);
	grpc_byte_buffer_destroy(request);
	grpc_call_unref(made);
	return answer;
}

/* All bytes of an answer, its head included. */
static grpc_slice bytes_of(grpc_byte_buffer *answer)
{
	grpc_byte_buffer_reader reader;

	if (!grpc_byte_buffer_reader_init(&reader, answer)) {
		errx(1, "an answer that cannot be read");
	}
	grpc_slice all = grpc_byte_buffer_reader_readall(&reader);

	grpc_byte_buffer_reader_destroy(&reader);
	grpc_byte_buffer_destroy(answer);
	return all;
}

static void put_file(int folder, const char *name, FILE *digests)
{
	static uint8_t content[BLOB_MAX];
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	ssize_t size = fd >= 0 ? read(fd, content, sizeof(content)) : -1;

	if (size < 0) {
		err(1, "%s", name);
	}
	close(fd);
	grpc_byte_buffer *answer =
		call("/tvix.castore.v1.BlobService/Put", message_of(content, (size_t)size));
	grpc_slice got = answer ? bytes_of(answer) : grpc_empty_slice();

	if (GRPC_SLICE_LENGTH(got) != 2 + DIGEST_SIZE) {
		errx(1, "%s: no digest comes", name);
	}
	if (fwrite(GRPC_SLICE_START_PTR(got) + 2, DIGEST_SIZE, 1, digests) != 1) {
		err(1, "digests");
	}
	grpc_slice_unref(got);
	blobs++;
	bytes += (uint64_t)size;
}

static void put_all(const char *folder, const char *path)
{
	DIR *dir = opendir(folder);
	FILE *digests = fopen(path, "we");
	const struct dirent *entry;

	if (!dir || !digests) {
		err(1, "%s or %s", folder, path);
	}
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_type == DT_REG) {
			put_file(dirfd(dir), entry->d_name, digests);
		}
	}
	closedir(dir);
	if (fclose(digests) != 0) {
		err(1, "%s", path);
	}
}

static void get_all(const char *path)
{
	uint8_t digest[DIGEST_SIZE];
	FILE *digests = fopen(path, "re");

	if (!digests) {
		err(1, "%s", path);
	}
	while (fread(digest, sizeof(digest), 1, digests) == 1) {
		grpc_byte_buffer *answer = call("/tvix.castore.v1.BlobService/Read",
						message_of(digest, sizeof(digest)));

		if (answer) {
			grpc_slice got = bytes_of(answer);

			bytes += GRPC_SLICE_LENGTH(got);
			grpc_slice_unref(got);
		}
		blobs++;
	}
	fclose(digests);
}

int main(int argc, char **argv)
{
	if (!(argc == 5 && strcmp(argv[1], "put") == 0) &&
	    !(argc == 4 && strcmp(argv[1], "get") == 0)) {
		errx(2, "usage: naive put TARGET FOLDER DIGESTS | naive get TARGET DIGESTS");
	}
	double begin = seconds_now();

	grpc_init();
	grpc_channel_credentials *plain = grpc_insecure_credentials_create();

	channel = grpc_channel_create(argv[2], plain, NULL);
	queue = grpc_completion_queue_create_for_pluck(NULL);
	if (argc == 5) {
		put_all(argv[3], argv[4]);
	} else {
		get_all(argv[3]);
	}
	double seconds = seconds_now() - begin;

	printf("{\"seconds\": %.9f, \"blobs\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n", seconds,
	       blobs, bytes);
	grpc_channel_credentials_release(plain);
	grpc_channel_destroy(channel);
	return 0;
}
