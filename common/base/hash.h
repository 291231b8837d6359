/*
 * hash: uthash.h, which would call exit() when memory is exhausted
 *
 * Purpose    ends the process as every other allocation of ours does (mem.h)
 * Threads    as the tables made with it
 */
#pragma once
#include "common/base/mem.h"
#define uthash_fatal(msg) mem_exhausted()
#include <uthash.h>
