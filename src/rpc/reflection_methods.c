/*
 * grpc.reflection: what the services are, from the FileDescriptorSet that the build has made of
 * proto/ (proto/embed_descriptors.py). Its messages are FileDescriptorProto {name = 1, package
 * = 2, dependency = 3, message_type = 4, enum_type = 5, service = 6}; a DescriptorProto has its
 * name under 1, and further ones inside under 3 and 4; a ServiceDescriptorProto its name under
 * 1 and its methods under 2.
 */

#include "rpc/rpc_status.h"
#include "rpc/store_methods_internal.h"

extern const uint8_t proto_descriptors[];
extern const size_t proto_descriptors_size;

#define FILES_MAX 32
#define SYMBOL_MAX 512

static struct wire all_files(void)
{
	return wire_of(bytes_of(proto_descriptors, proto_descriptors_size));
}

/* Ours, and whole: nothing in it can be malformed. */
static bool next(struct wire *w, unsigned field, struct bytes *out)
{
	return message_next_element(w, field, out, NULL) > 0;
}

static struct bytes text_field(struct bytes message, unsigned field)
{
	struct wire w = wire_of(message);
	struct bytes value = {0};

	(void)next(&w, field, &value);
	return value;
}

static bool find_file(struct bytes name, struct bytes *file)
{
	struct wire w = all_files();

	while (next(&w, 1, file)) {
		if (bytes_equal(text_field(*file, 1), name)) {
			return true;
		}
	}
	return false;
}

/* ---- Symbols ---- */

/* What is left of a symbol behind "scope."; false when it is not in there. */
static bool strip(struct bytes *symbol, struct bytes scope)
{
	if (symbol->len <= scope.len + 1 || symbol->ptr[scope.len] != '.' ||
	    memcmp(symbol->ptr, scope.ptr, scope.len) != 0) {
		return false;
	}
	*symbol = bytes_of(symbol->ptr + scope.len + 1, symbol->len - scope.len - 1);
	return true;
}

static const unsigned inside_file[] = {4, 5, 6, 0};
static const unsigned inside_message[] = {3, 4, 0};
static const unsigned inside_service[] = {2, 0};
static const unsigned inside_others[] = {0};

static const unsigned *inside(const unsigned *where, unsigned field)
{
	if (where == inside_file && field == 6) {
		return inside_service;
	}
	bool message =
		(where == inside_file && field == 4) || (where == inside_message && field == 3);

	return message ? inside_message : inside_others;
}

/* A few levels deep, as our own files are. */
static bool defines(struct bytes message, const unsigned *where, struct bytes symbol)
{
	for (const unsigned *field = where; *field; field++) {
		struct wire w = wire_of(message);
		struct bytes element, rest = symbol;

		while (next(&w, *field, &element)) {
			struct bytes name = text_field(element, 1);

			rest = symbol;
			if (bytes_equal(name, symbol) ||
			    (strip(&rest, name) &&
			     defines(element, inside(where, *field), rest))) {
				return true;
			}
		}
	}
	return false;
}

static bool find_symbol(struct bytes symbol, struct bytes *file)
{
	struct wire w = all_files();

	while (next(&w, 1, file)) {
		struct bytes rest = symbol;

		if (strip(&rest, text_field(*file, 2)) && defines(*file, inside_file, rest)) {
			return true;
		}
	}
	return false;
}

/* ---- Answers ---- */

struct file_list {
	struct bytes files[FILES_MAX];
	size_t count;
};

/* A file, and all that it imports, each once. */
static void add_file(struct file_list *l, struct bytes file)
{
	struct wire w = wire_of(file);
	struct bytes name, imported;

	for (size_t i = 0; i < l->count; i++) {
		if (l->files[i].ptr == file.ptr) {
			return;
		}
	}
	if (l->count == FILES_MAX) {
		return;
	}
	l->files[l->count++] = file;
	while (next(&w, 3, &name)) {
		if (find_file(name, &imported)) {
			add_file(l, imported);
		}
	}
}

static void answer_file(struct buffer *out, struct bytes file)
{
	struct file_list l = {.count = 0};
	struct buffer inner cleanup(buffer_done) = {0};

	add_file(&l, file);
	for (size_t i = 0; i < l.count; i++) {
		message_put_element(&inner, 1, l.files[i]);
	}
	message_put_element(out, 4, buffer_bytes(&inner));
}

struct error_message {
	uint64_t code;
	struct bytes text;
};

static const struct message_type error_message_type = {
	.name = "ErrorResponse",
	.members = {{1, MESSAGE_NUMBER, offsetof(struct error_message, code)},
		    {2, MESSAGE_BYTES, offsetof(struct error_message, text)}},
};

static void answer_error(struct buffer *out, enum rpc_status status, const char *text)
{
	struct error_message m = {.code = status, .text = bytes_of_string(text)};

	message_put_typed(out, 7, &error_message_type, &m);
}

static void answer_services(struct buffer *out)
{
	struct buffer inner cleanup(buffer_done) = {0};

	for (const struct rpc_service *const *s = store_methods_services; *s; s++) {
		for (size_t i = 0; i < RPC_SERVICE_NAMES && (*s)->names[i]; i++) {
			struct bytes_message m = {.value = bytes_of_string((*s)->names[i])};

			message_put_typed(&inner, 1, &bytes_message_type, &m);
		}
	}
	message_put_element(out, 6, buffer_bytes(&inner));
}

struct reflection_request {
	struct bytes file_by_filename, file_containing_symbol, file_containing_extension,
		all_extension_numbers_of_type, list_services;
};

static const struct message_type reflection_request_type = {
	.name = "ServerReflectionRequest",
	.members = {{3, MESSAGE_BYTES, offsetof(struct reflection_request, file_by_filename)},
		    {4, MESSAGE_BYTES,
		     offsetof(struct reflection_request, file_containing_symbol)},
		    {5, MESSAGE_BYTES,
		     offsetof(struct reflection_request, file_containing_extension)},
		    {6, MESSAGE_BYTES,
		     offsetof(struct reflection_request, all_extension_numbers_of_type)},
		    {7, MESSAGE_BYTES, offsetof(struct reflection_request, list_services)}},
};

static void answer(struct bytes request, const struct reflection_request *m, struct buffer *out)
{
	struct bytes file;

	message_put_element(out, 2, request);
	if (m->list_services.ptr) {
		answer_services(out);
	} else if (m->file_by_filename.ptr) {
		if (find_file(m->file_by_filename, &file)) {
			answer_file(out, file);
		} else {
			answer_error(out, RPC_STATUS_NOT_FOUND, "there is no such file");
		}
	} else if (m->file_containing_symbol.ptr) {
		if (find_symbol(m->file_containing_symbol, &file)) {
			answer_file(out, file);
		} else {
			answer_error(out, RPC_STATUS_NOT_FOUND, "there is no such symbol");
		}
	} else if (m->file_containing_extension.ptr || m->all_extension_numbers_of_type.ptr) {
		answer_error(out, RPC_STATUS_NOT_FOUND, "there are no extensions");
	} else {
		answer_error(out, RPC_STATUS_INVALID_ARGUMENT,
			     "nothing that is known is asked");
	}
}

static int reflect(void *context unused, struct server_call *c, struct error *err)
{
	struct request r cleanup(request_done) = {0};
	struct buffer out cleanup(buffer_done) = {0};
	struct reflection_request m;
	struct bytes message;
	int rc;

	while ((rc = request_next(c, &r, &message, err)) > 0) {
		rc = message_decode(&reflection_request_type, message, &m, err);
		if (rc == 0) {
			answer(message, &m, &out);
			rc = send_buffer(c, &out, err);
		}
		if (rc < 0) {
			break;
		}
	}
	if (rc == 0) {
		server_call_reply(c, &(struct rpc_message){0});
	}
	return rc;
}

static const struct rpc_method methods[] = {
	{"ServerReflectionInfo", 0, reflect},
};

const struct rpc_service reflection_methods_service = {
	.names = {"grpc.reflection.v1.ServerReflection",
		  "grpc.reflection.v1alpha.ServerReflection"},
	.methods = methods,
	.method_count = ARRAY_SIZE(methods),
};
