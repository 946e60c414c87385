#pragma once

/*
 * Names and records of a store whose objects are in other stores: before one is put, those are
 * synced, so that nobody finds a name before what it stands for.
 */

#include "services/store.h"

/* Puts itself before the roots and path infos of s. */
void synced_names_wrap(struct store *s);
