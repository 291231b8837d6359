/*
 * malloc_trim() takes as long as there is freed memory to find (a few milliseconds for a hundred megabytes), and other
 * threads wait for it. So it is called only when the process has grown by TRIM_GROWTH_BYTES and a quarter since the last
 * time; where it does not help, because the memory is in use, the new size is what further growth is measured from.
 */
#include "daemon/trim_watch.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/clock.h"

/* Resident, without what is shared with files; 0 when it is not known. */
static int64_t resident_bytes(void)
{
    char text[128];
    long size, resident, shared;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    if (sscanf(text, "%ld %ld %ld", &size, &resident, &shared) != 3)
        return 0;
    return (int64_t)(resident - shared) * sysconf(_SC_PAGESIZE);
}

void trim_watch_look(struct trim_watch *t)
{
    int64_t now = clock_mono_ms();
    if (t->looked_ms != 0 && now - t->looked_ms < TRIM_LOOK_MS)
        return;
    t->looked_ms = now;
    int64_t bytes = resident_bytes();
    if (bytes == 0)
        return;
    if (t->floor_bytes == 0 || bytes < t->floor_bytes)
        t->floor_bytes = bytes;
    if (bytes < t->floor_bytes + t->floor_bytes / 4 + TRIM_GROWTH_BYTES)
        return;
    malloc_trim(0);
    t->floor_bytes = resident_bytes();
}
