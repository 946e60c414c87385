#include "nix/path_info.h"

#include <inttypes.h>
#include <stdio.h>

#define DRV ".drv"
#define DRV_LEN (sizeof(DRV) - 1)

static void drop_signatures(struct path_info *info)
{
	for (size_t i = 0; i < info->signature_count; i++) {
		free(info->signatures[i].name);
	}
	free(info->signatures);
}

void path_info_done(struct path_info *info)
{
	root_node_done(&info->node);
	free(info->references);
	drop_signatures(info);
	*info = (struct path_info){0};
}

static void *copy_array(const void *array, size_t count, size_t size)
{
	return count ? memcpy(xmalloc(count * size), array, count * size) : NULL;
}

void path_info_copy(struct path_info *out, const struct path_info *info)
{
	struct path_info copy = *info;

	copy.node = (struct root_node){0};
	root_node_set(&copy.node, &info->node.node);
	copy.references =
		copy_array(info->references, info->reference_count, sizeof(*info->references));
	copy.signatures =
		copy_array(info->signatures, info->signature_count, sizeof(*info->signatures));
	for (size_t i = 0; i < copy.signature_count; i++) {
		copy.signatures[i].name = xstrdup(info->signatures[i].name);
	}
	path_info_done(out);
	*out = copy;
}

/* ---- References and deriver ---- */

static int compare_paths(const void *a, const void *b)
{
	return store_path_compare(a, b);
}

int path_info_set_references(struct path_info *info, const struct store_path *references,
			     size_t count, struct error *err)
{
	if (count > PATH_INFO_REFERENCES_MAX) {
		return error_set(err, ERROR_LIMIT, "%zu references, more than %zu", count,
				 PATH_INFO_REFERENCES_MAX);
	}
	struct store_path *sorted = copy_array(references, count, sizeof(*references));

	if (count) {
		qsort(sorted, count, sizeof(*sorted), compare_paths);
	}
	for (size_t i = 1; i < count; i++) {
		if (store_path_compare(&sorted[i - 1], &sorted[i]) == 0) {
			error_set(err, ERROR_INVALID, "the reference to %s is there twice",
				  store_path_text(&sorted[i]));
			free(sorted);
			return -ERROR_INVALID;
		}
	}
	free(info->references);
	info->references = sorted;
	info->reference_count = count;
	return 0;
}

int path_info_set_deriver(struct path_info *info, const struct store_path *path,
			  struct error *err)
{
	struct bytes name = bytes_of(path->name, path->name_len);
	struct store_path deriver;

	if (name.len < DRV_LEN || memcmp(name.ptr + name.len - DRV_LEN, DRV, DRV_LEN) != 0) {
		return error_set(err, ERROR_INVALID,
				 "the deriver %s does not end in \"" DRV "\"",
				 store_path_text(path));
	}
	int rc = store_path_set(&deriver, path->hash, bytes_of(name.ptr, name.len - DRV_LEN),
				err);

	if (rc != 0) {
		return error_wrap(err, "the deriver %s", store_path_text(path));
	}
	info->has_deriver = true;
	info->deriver = deriver;
	return 0;
}

void path_info_deriver_path(const struct path_info *info, struct store_path *out)
{
	*out = info->deriver;
	memcpy(out->name + out->name_len, DRV, DRV_LEN + 1);
	out->name_len = (uint8_t)(out->name_len + DRV_LEN);
}

/* ---- Signatures ---- */

int signature_check_name(struct bytes key_name, struct error *err)
{
	bool good = key_name.len >= 1 && key_name.len <= SIGNATURE_NAME_MAX;

	for (size_t i = 0; good && i < key_name.len; i++) {
		uint8_t c = key_name.ptr[i];

		good = c > ' ' && c < 0x7f && c != ':';
	}
	return good ? 0
		    : error_set(err, ERROR_INVALID,
				"\"%s\" is no name of a key: it takes 1 to %d printable "
				"characters without ':' and space",
				bytes_printable(key_name), SIGNATURE_NAME_MAX);
}

static bool has_name(const struct path_signature *s, struct bytes name)
{
	return bytes_equal(bytes_of_string(s->name), name);
}

int path_info_keep_signature(struct path_info *info, struct bytes key_name,
			     const uint8_t data[SIGNATURE_SIZE], struct error *err)
{
	int rc = signature_check_name(key_name, err);

	if (rc != 0) {
		return rc;
	}
	for (size_t i = 0; i < info->signature_count; i++) {
		const struct path_signature *s = &info->signatures[i];

		if (has_name(s, key_name) && memcmp(s->data, data, SIGNATURE_SIZE) == 0) {
			return 0;
		}
	}
	if (info->signature_count >= PATH_INFO_SIGNATURES_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %zu signatures",
				 PATH_INFO_SIGNATURES_MAX);
	}
	info->signatures = xrealloc(info->signatures,
				    (info->signature_count + 1) * sizeof(*info->signatures));
	struct path_signature *s = &info->signatures[info->signature_count++];

	s->name = xasprintf("%.*s", (int)key_name.len, (const char *)key_name.ptr);
	memcpy(s->data, data, SIGNATURE_SIZE);
	return 1;
}

int path_info_add_signature(struct path_info *info, struct bytes key_name,
			    const uint8_t data[SIGNATURE_SIZE], struct error *err)
{
	size_t kept = 0;
	bool there = false;

	/* Equal ones are there once, so what stays of this name is one at most. */
	for (size_t i = 0; i < info->signature_count; i++) {
		struct path_signature s = info->signatures[i];
		bool same_name = has_name(&s, key_name);

		if (same_name && memcmp(s.data, data, SIGNATURE_SIZE) != 0) {
			free(s.name);
			continue;
		}
		there = there || same_name;
		info->signatures[kept++] = s;
	}
	bool dropped = kept < info->signature_count;

	info->signature_count = kept;
	return there ? dropped : path_info_keep_signature(info, key_name, data, err);
}

/* ---- What follows from an info ---- */

void path_info_fingerprint(const struct path_info *info, struct buffer *out)
{
	struct hash nar = hash_of_sha256(info->nar_sha256);
	char size[32];

	buffer_append_string(out, "1;");
	buffer_append_string(out, store_path_text(&info->path));
	buffer_append_byte(out, ';');
	hash_format(&nar, out);
	snprintf(size, sizeof(size), ";%" PRIu64 ";", info->nar_size);
	buffer_append_string(out, size);
	for (size_t i = 0; i < info->reference_count; i++) {
		buffer_append_string(out, i ? "," : "");
		buffer_append_string(out, store_path_text(&info->references[i]));
	}
}

bool path_info_content_addressed(const struct path_info *info)
{
	struct store_path *others cleanup(cleanup_free) =
		xcalloc(info->reference_count, sizeof(*others));
	struct store_path made;
	size_t count = 0;

	if (!info->has_ca) {
		return false;
	}
	for (size_t i = 0; i < info->reference_count; i++) {
		if (store_path_compare(&info->references[i], &info->path) != 0) {
			others[count++] = info->references[i];
		}
	}
	return store_path_make(&info->ca, bytes_of(info->path.name, info->path.name_len),
			       others, count, count < info->reference_count, &made,
			       NULL) == 0 &&
	       store_path_compare(&made, &info->path) == 0;
}
