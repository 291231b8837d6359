/* What start-up leaves behind is given back, and the program goes on. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/trim.h"

#define BLOCKS      8192
#define BLOCK_BYTES 1024

static long resident_kib(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL || fscanf(f, "%*s %ld", &pages) != 1)
        fail_msg("no /proc/self/statm");
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* 8 MiB in holes below a block that stays: free() alone cannot shorten the heap. */
static void holes_in_the_heap_go_back(void **state)
{
    (void)state;
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    skip(); /* their allocators are not glibc's */
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    skip();
#endif
#endif
    static char *block[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        block[i] = malloc(BLOCK_BYTES);
        assert_non_null(block[i]);
        memset(block[i], 1, BLOCK_BYTES);
    }
    for (size_t i = 0; i + 1 < BLOCKS; i++)
        free(block[i]);
    long before = resident_kib();
    trim_memory(NULL);
    long after = resident_kib();
    free(block[BLOCKS - 1]);
    if (after > before - BLOCKS * BLOCK_BYTES / 1024 / 2)
        fail_msg("%ld KiB before, %ld KiB after", before, after);
}

static struct trim_constants constants;

static void code_runs_on(void **state)
{
    (void)state;
    assert_in_range(constants.count, 1, TRIM_CONSTANTS_MAX);
    for (int i = 0; i < 3; i++) {
        char text[32];
        trim_memory(&constants);
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(strtol(text, NULL, 10), i);
    }
}

int main(void)
{
    trim_find_constants(&constants);
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(holes_in_the_heap_go_back),
        cmocka_unit_test(code_runs_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
