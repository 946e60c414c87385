#pragma once

/*
 * libgrpc, loaded when it is first needed: loading it takes several times as long as most
 * commands do. For the adapters of this room alone, whose headers show nothing of it.
 */

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

#include "base/bytes.h"
#include "base/error.h"

/* clang-format off */
#define GRPC_LIBRARY_FUNCTIONS(F) \
	F(gpr_convert_clock_type) \
	F(gpr_free) \
	F(gpr_inf_future) \
	F(gpr_inf_past) \
	F(gpr_now) \
	F(gpr_set_log_function) \
	F(gpr_time_add) \
	F(gpr_time_from_millis) \
	F(gpr_time_sub) \
	F(gpr_time_to_millis) \
	F(grpc_byte_buffer_destroy) \
	F(grpc_byte_buffer_length) \
	F(grpc_call_auth_context) \
	F(grpc_call_cancel) \
	F(grpc_call_cancel_with_status) \
	F(grpc_call_details_destroy) \
	F(grpc_call_details_init) \
	F(grpc_call_failed_before_recv_message) \
	F(grpc_call_get_peer) \
	F(grpc_call_start_batch) \
	F(grpc_call_unref) \
	F(grpc_channel_check_connectivity_state) \
	F(grpc_channel_create) \
	F(grpc_channel_create_call) \
	F(grpc_channel_credentials_release) \
	F(grpc_channel_destroy) \
	F(grpc_channel_watch_connectivity_state) \
	F(grpc_completion_queue_create_for_next) \
	F(grpc_completion_queue_create_for_pluck) \
	F(grpc_completion_queue_destroy) \
	F(grpc_completion_queue_next) \
	F(grpc_completion_queue_pluck) \
	F(grpc_completion_queue_shutdown) \
	F(grpc_header_nonbin_value_is_legal) \
	F(grpc_init) \
	F(grpc_insecure_credentials_create) \
	F(grpc_insecure_server_credentials_create) \
	F(grpc_metadata_array_destroy) \
	F(grpc_metadata_array_init) \
	F(grpc_raw_byte_buffer_create) \
	F(grpc_resource_quota_arg_vtable) \
	F(grpc_resource_quota_create) \
	F(grpc_resource_quota_resize) \
	F(grpc_resource_quota_unref) \
	F(grpc_server_add_channel_from_fd) \
	F(grpc_server_add_http2_port) \
	F(grpc_server_cancel_all_calls) \
	F(grpc_server_create) \
	F(grpc_server_credentials_release) \
	F(grpc_server_destroy) \
	F(grpc_server_register_completion_queue) \
	F(grpc_server_request_call) \
	F(grpc_server_shutdown_and_notify) \
	F(grpc_server_start) \
	F(grpc_slice_from_copied_buffer) \
	F(grpc_slice_from_static_buffer) \
	F(grpc_slice_new_with_user_data) \
	F(grpc_slice_unref) \
	F(grpc_ssl_credentials_create_ex) \
	F(grpc_ssl_server_certificate_config_create) \
	F(grpc_ssl_server_certificate_config_destroy) \
	F(grpc_ssl_server_credentials_create_options_using_config) \
	F(grpc_ssl_server_credentials_create_with_options) \
	F(grpc_ssl_server_credentials_options_destroy)
/* clang-format on */

struct grpc_library {
#define GRPC_LIBRARY_MEMBER(name) __typeof__(name) *name;
	GRPC_LIBRARY_FUNCTIONS(GRPC_LIBRARY_MEMBER)
#undef GRPC_LIBRARY_MEMBER
};

/* Filled once grpc_library_load() returned 0. */
extern struct grpc_library grpc_library;

/*
 * Loads the library if need be, and starts it. ERROR_UNSUPPORTED when it is not installed. Any
 * thread. It is not stopped again: that would wait for timers of its own, ten seconds after a
 * connection that could not take all at once.
 */
int grpc_library_load(struct error *err);

/*
 * How often it could not take a connection, for want of descriptors above all. A port of its
 * own is of no use from then on: this version does not listen there again.
 */
unsigned grpc_library_failed_accepts(void);

/* A moment so many milliseconds from now; 0 is never. */
gpr_timespec grpc_library_deadline(uint64_t milliseconds);

static inline struct bytes grpc_library_slice_bytes(const grpc_slice *s)
{
	return bytes_of(GRPC_SLICE_START_PTR(*s), GRPC_SLICE_LENGTH(*s));
}

/* For what lives as long as the slice does, such as string literals. */
grpc_slice grpc_library_static_slice(const char *text);

/*
 * What both ends of a connection want: large frames and reads. Appends to args, which has room
 * for GRPC_LIBRARY_TUNING_MAX more. Of an argument that is there twice, the first one counts.
 */
#define GRPC_LIBRARY_TUNING_MAX 16
void grpc_library_tune(grpc_channel_args *args);
void grpc_library_add_number(grpc_channel_args *args, const char *key, int value);
