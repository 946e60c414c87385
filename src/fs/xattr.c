#include "fs/fs_internal.h"

/* The digest of a file or directory, under the names that other implementations use. */
static const char *const names_of_directories[] = {
	"user.tvix.castore.directory.digest",
	"user.snix.castore.directory.digest",
};
static const char *const names_of_files[] = {
	"user.tvix.castore.blob.digest",
	"user.snix.castore.blob.digest",
};

#define NAMES 2

/* NULL: this object has no attributes. The root is no directory of the store. */
static const char *const *names_of(const struct object *o)
{
	if (o->is_root || o->node.kind == NODE_SYMLINK) {
		return NULL;
	}
	return o->node.kind == NODE_DIRECTORY ? names_of_directories : names_of_files;
}

/* Size 0 asks how much room the value needs. */
static int reply_value(struct request *r, uint32_t size, struct bytes value)
{
	if (size == 0) {
		const struct fuse_getxattr_out out = {.size = (uint32_t)value.len};

		request_reply(r, &out, sizeof(out));
		return 0;
	}
	return value.len > size ? ERANGE : request_reply_bytes(r, value);
}

static bool has_name(const struct object *o, struct bytes name)
{
	const char *const *names = names_of(o);

	for (size_t i = 0; names && i < NAMES; i++) {
		if (bytes_equal(name, bytes_of_string(names[i]))) {
			return true;
		}
	}
	return false;
}

int handle_getxattr(struct request *r)
{
	struct object o cleanup(object_done);
	struct fuse_getxattr_in in;
	int rc = request_object(r, &o);

	if (rc != 0) {
		return rc;
	}
	if (!r->fs->show_xattr) {
		return ENOSYS;
	}
	request_arg(r, &in);
	struct bytes text = bytes_of(r->arg.ptr + sizeof(in), r->arg.len - sizeof(in));
	struct bytes name = bytes_of(text.ptr, strnlen((const char *)text.ptr, text.len));

	if (name.len == text.len) {
		return EINVAL;
	}
	if (!has_name(&o, name)) {
		return ENODATA;
	}
	return reply_value(r, in.size, bytes_of_string(digest_text(&o.node.digest)));
}

int handle_listxattr(struct request *r)
{
	struct object o cleanup(object_done);
	struct fuse_getxattr_in in;
	char list[128];
	size_t len = 0;
	int rc = request_object(r, &o);

	if (rc != 0) {
		return rc;
	}
	if (!r->fs->show_xattr) {
		return ENOSYS;
	}
	request_arg(r, &in);
	const char *const *names = names_of(&o);

	for (size_t i = 0; names && i < NAMES; i++) {
		size_t size = strlen(names[i]) + 1;

		memcpy(list + len, names[i], size);
		len += size;
	}
	return reply_value(r, in.size, bytes_of(list, len));
}
