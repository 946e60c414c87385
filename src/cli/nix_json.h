#pragma once

/* What the nix commands say as JSON of a store path. */

#include "cli/json.h"
#include "nix/path_info.h"

/* The keys of `nix path-info --json`, and those of the tree as json_node() has them. */
void nix_json_path_info(struct json *j, const struct path_info *info);
