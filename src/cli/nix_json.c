#include "cli/nix_json.h"

#include "cli/nar_file.h"
#include "nix/signature.h"

static void put_text(struct json *j, const char *key, struct buffer *text)
{
	buffer_append_byte(text, '\0');
	json_text(j, key, (const char *)text->ptr);
}

static void put_references(struct json *j, const struct path_info *info)
{
	json_list_begin(j, "references");
	for (size_t i = 0; i < info->reference_count; i++) {
		json_list_text(j, store_path_text(&info->references[i]));
	}
	json_list_end(j);
}

static void put_ca(struct json *j, const struct path_info *info)
{
	struct buffer text cleanup(buffer_done) = {0};

	if (info->has_ca) {
		content_address_format(&info->ca, &text);
		put_text(j, "ca", &text);
	}
}

static void put_deriver(struct json *j, const struct path_info *info)
{
	struct store_path deriver;

	if (info->has_deriver) {
		path_info_deriver_path(info, &deriver);
		json_text(j, "deriver", store_path_text(&deriver));
	}
}

static void put_signatures(struct json *j, const struct path_info *info)
{
	if (info->signature_count == 0) {
		return;
	}
	json_list_begin(j, "signatures");
	for (size_t i = 0; i < info->signature_count; i++) {
		struct buffer text cleanup(buffer_done) = {0};

		signature_format(&info->signatures[i], &text);
		buffer_append_byte(&text, '\0');
		json_list_text(j, (const char *)text.ptr);
	}
	json_list_end(j);
}

void nix_json_path_info(struct json *j, const struct path_info *info)
{
	json_text(j, "path", store_path_text(&info->path));
	json_nar(j, info->nar_sha256, info->nar_size);
	put_references(j, info);
	put_ca(j, info);
	put_deriver(j, info);
	put_signatures(j, info);
	json_node(j, &info->node.node);
}
