#include "daemon/trim.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Only mappings that nobody can have written to: executable and not writable, of a file (proc(5), "maps"). */
static void drop_code_pages(FILE *maps)
{
    char *line = NULL, perms[5];
    size_t size = 0;
    while (getline(&line, &size, maps) > 0) {
        uintptr_t from, to;
        unsigned long inode;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %lu", &from, &to, perms, &inode) == 4 && inode != 0 &&
            strcmp(perms, "r-xp") == 0)
            madvise((void *)from, to - from, MADV_DONTNEED);
    }
    free(line);
}

/* smaps, not maps: what the dynamic linker has written to looks the same, but has pages that the file does not have. */
void trim_find_constants(struct trim_constants *c)
{
    char *line = NULL, perms[5];
    size_t size = 0;
    uintptr_t from = 0, to = 0, low, high;
    unsigned long inode, kib;
    FILE *maps = fopen("/proc/self/smaps", "re");
    c->count = 0;
    while (maps != NULL && c->count < TRIM_CONSTANTS_MAX && getline(&line, &size, maps) > 0) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %lu", &low, &high, perms, &inode) == 4) {
            bool is_candidate = inode != 0 && strcmp(perms, "r--p") == 0;
            from = is_candidate ? low : 0;
            to = is_candidate ? high : 0;
        } else if (from != 0 && sscanf(line, "Anonymous: %lu kB", &kib) == 1) {
            if (kib == 0) {
                c->v[c->count].at = (void *)from;
                c->v[c->count++].bytes = to - from;
            }
            from = 0;
        }
    }
    free(line);
    if (maps != NULL)
        fclose(maps);
}

void trim_memory(const struct trim_constants *c)
{
    malloc_trim(0);
    for (unsigned i = 0; c != NULL && i < c->count; i++)
        madvise(c->v[i].at, c->v[i].bytes, MADV_DONTNEED);
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL)
        return;
    drop_code_pages(maps);
    fclose(maps);
}
