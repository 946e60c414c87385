#include "services/store.h"

void store_needs_done(struct store_needs *n)
{
	for (size_t i = 0; i < n->folder_count; i++) {
		free(n->folders[i]);
	}
	free(n->folders);
	*n = (struct store_needs){0};
}

void store_needs_add_folder(struct store_needs *n, const char *folder)
{
	n->folders = xrealloc(n->folders, (n->folder_count + 1) * sizeof(*n->folders));
	n->folders[n->folder_count++] = xstrdup(folder);
}
