#pragma once

/*
 * What addresses something by its content: how it is hashed, and the hash.
 *   text: SHA-256 of the contents; it may have references, but none to itself
 *   flat: of the contents of a file; no references
 *   nar:  of the NAR; with SHA-256 it may have references, also to itself
 */

#include "nix/hash.h"

enum ca_method { CA_TEXT, CA_FLAT, CA_NAR };

struct content_address {
	enum ca_method method;
	struct hash hash;
};

/*
 * Nix's text form: text:sha256:<nixbase32>, fixed:<algo>:<nixbase32>,
 * fixed:r:<algo>:<nixbase32>. Parsing also takes the digest in base 16 or 64, as Nix does.
 */
int content_address_parse(struct bytes text, struct content_address *out, struct error *err);
void content_address_format(const struct content_address *ca, struct buffer *out);
