/* Names below the folder of a local store. */

#include <stdio.h>

#include "services/local/local_internal.h"

void local_pack_name(char out[LOCAL_NAME_SIZE], uint64_t number)
{
	snprintf(out, LOCAL_NAME_SIZE, "packs/%08llx.pack", (unsigned long long)number);
}

void local_file_name(char out[LOCAL_NAME_SIZE], const struct digest *digest)
{
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(hex, digest);
	snprintf(out, LOCAL_NAME_SIZE, "files/%.2s/%s", hex, hex);
}
