#include "rpc/grpc_library.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"

/* The library's own limit on a frame; larger frames mean fewer of them. */
#define FRAME_MAX 0xffffff
/* What a peer may send of one stream before it is read. */
#define LOOKAHEAD (4 << 20)
#define READ_CHUNK (1 << 20)

/*
 * Messages come and go by the mebibyte. Memory that is given back to the kernel after each is
 * zeroed again for the next one, which takes longer than to copy the message.
 */
#define KEPT_MEMORY (16 << 20)
#define LARGEST_KEPT (8 << 20)

struct grpc_library grpc_library;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct error load_error; /* code ERROR_NONE when it is loaded */

static atomic_uint failed_accepts;

unsigned grpc_library_failed_accepts(void)
{
	return atomic_load(&failed_accepts);
}

/* What the library says is for those who look into it; failures come as statuses as well. */
static void log_of_library(gpr_log_func_args *args)
{
	static const char failed_accept[] = "Failed accept";

	/* It tells in no other way. */
	if (strncmp(args->message, failed_accept, sizeof(failed_accept) - 1) == 0) {
		atomic_fetch_add(&failed_accepts, 1);
	}
	if (args->severity == GPR_LOG_SEVERITY_ERROR) {
		log_info("gRPC: %s", args->message);
	} else {
		log_debug("gRPC: %s", args->message);
	}
}

static int find_functions(void *handle, struct error *err)
{
	static const char *const names[] = {
#define NAME(name) #name,
		GRPC_LIBRARY_FUNCTIONS(NAME)
#undef NAME
	};
	char *slots = (char *)&grpc_library;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		void *function = dlsym(handle, names[i]);

		if (!function) {
			return error_set(err, ERROR_UNSUPPORTED,
					 "%s, which gRPC needs, has no %s", CAIRN_LIBGRPC,
					 names[i]);
		}
		memcpy(slots + i * sizeof(function), &function, sizeof(function));
	}
	return 0;
}

static void load(void)
{
	_Static_assert(sizeof(void *) == sizeof(void (*)(void)), "functions are addresses");
	void *handle = dlopen(CAIRN_LIBGRPC, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);

	if (!handle) {
		error_set(&load_error, ERROR_UNSUPPORTED,
			  "gRPC needs a library that cannot be loaded: %s", dlerror());
	} else if (find_functions(handle, &load_error) == 0) {
		mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
		mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT);
		grpc_library.gpr_set_log_function(log_of_library);
		grpc_library.grpc_init();
	}
}

int grpc_library_load(struct error *err)
{
	pthread_once(&once, load);
	return load_error.code == ERROR_NONE
		       ? 0
		       : error_set(err, load_error.code, "%s", load_error.text);
}

gpr_timespec grpc_library_deadline(uint64_t milliseconds)
{
	const struct grpc_library *lib = &grpc_library;

	if (milliseconds == 0) {
		return lib->gpr_inf_future(GPR_CLOCK_MONOTONIC);
	}
	return lib->gpr_time_add(
		lib->gpr_now(GPR_CLOCK_MONOTONIC),
		lib->gpr_time_from_millis((int64_t)MIN(milliseconds, (uint64_t)INT64_MAX),
					  GPR_TIMESPAN));
}

grpc_slice grpc_library_static_slice(const char *text)
{
	return grpc_library.grpc_slice_from_static_buffer(text, strlen(text));
}

void grpc_library_add_number(grpc_channel_args *args, const char *key, int value)
{
	args->args[args->num_args++] = (grpc_arg){
		.type = GRPC_ARG_INTEGER,
		/* Only read, and only while it is called. */
		.key = (char *)(uintptr_t)key,
		.value.integer = value,
	};
}

void grpc_library_tune(grpc_channel_args *args)
{
	grpc_library_add_number(args, GRPC_ARG_HTTP2_MAX_FRAME_SIZE, FRAME_MAX);
	grpc_library_add_number(args, GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, LOOKAHEAD);
	grpc_library_add_number(args, GRPC_ARG_TCP_READ_CHUNK_SIZE, READ_CHUNK);
	grpc_library_add_number(args, GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, READ_CHUNK);
	grpc_library_add_number(args, GRPC_ARG_ENABLE_CHANNELZ, 0);
	grpc_library_add_number(args, GRPC_ARG_ENABLE_CENSUS, 0);
}
