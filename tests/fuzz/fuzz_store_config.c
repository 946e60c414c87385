/* Texts that claim to be configurations: names are names, and what they stand for ends. */

#include <stdint.h>
#include <stdlib.h>

#include "services/store.h"
#include "services/store_config.h"

#include "fuzz.h"

static void check_definition(const struct store_config *c, const struct store_definition *d)
{
	struct store_needs needs = {0};
	struct error err = {0};

	check(d->name[0] && d->address && d->address[0] && d->line > 0);
	check(!strpbrk(d->name, "/.:% \t\n"));
	check(store_config_find(c, d->name) == d);
	/* Opens nothing. */
	check(store_needs(d->name, &needs, &err) == 0 || (err.code && told(&err)));
	store_needs_done(&needs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_config *c = NULL;
	struct error err = {0};

	if (store_config_parse("conf", bytes_of(data, size), &c, &err) != 0) {
		check(!c && strncmp(err.text, "conf", 4) == 0);
		check(err.code == ERROR_INVALID || err.code == ERROR_LIMIT);
		return 0;
	}
	store_config_use(c);
	for (size_t i = 0; i < store_config_count(c) && i < 16; i++) {
		check_definition(c, store_config_at(c, i));
	}
	if (store_config_default(c)) {
		check(store_config_find(c, store_config_default(c)) != NULL);
	}
	store_config_use(NULL);
	store_config_free(c);
	return 0;
}
