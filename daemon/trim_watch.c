/*
 * malloc_trim() takes as long as there is freed memory to find (a few milliseconds for a hundred megabytes), and other
 * threads wait for it. So it is called only while the process is larger than it once was by TRIM_GROWTH_BYTES and a
 * quarter, and where it does not help, because the memory is in use, less and less often.
 */
#include "daemon/trim_watch.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
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
    if (t->low_bytes == 0 || bytes < t->low_bytes)
        t->low_bytes = bytes;
    if (bytes < t->low_bytes + t->low_bytes / 4 + TRIM_GROWTH_BYTES) {
        t->wait_ms = 0;
        return;
    }
    if (now < t->next_ms)
        return;
    malloc_trim(0);
    bool helped = resident_bytes() < bytes - bytes / 8;
    t->wait_ms = helped || t->wait_ms == 0 ? TRIM_LOOK_MS : 2 * t->wait_ms;
    if (t->wait_ms > TRIM_WAIT_MAX_MS)
        t->wait_ms = TRIM_WAIT_MAX_MS;
    t->next_ms = now + t->wait_ms;
}
