#include "daemon/trim.h"

#include <inttypes.h>
#include <malloc.h>
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

void trim_memory(void)
{
    malloc_trim(0);
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL)
        return;
    drop_code_pages(maps);
    fclose(maps);
}
