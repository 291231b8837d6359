#include <stdarg.h>
#include <stdatomic.h>

#include "common/base/mem.h"

static atomic_bool is_exhausted; /* for whoever writes the last words */

bool mem_was_exhausted(void)
{
    return atomic_load(&is_exhausted);
}

void mem_exhausted(void)
{
    atomic_store(&is_exhausted, true);
    fputs("posthouse: out of memory\n", stderr);
    abort();
}

static void *checked(void *p)
{
    if (p == NULL)
        mem_exhausted();
    return p;
}

/* glibc's calloc() goes past the caches that each thread has of small blocks (before 2.41), and takes the lock of an arena. */
#define SMALL_BYTES 1024

void *xcalloc(size_t n, size_t size)
{
    size_t bytes;
    if (!__builtin_mul_overflow(n, size, &bytes) && bytes - 1 < SMALL_BYTES)
        return memset(checked(malloc(bytes)), 0, bytes);
    return checked(calloc(n ? n : 1, size ? size : 1));
}

void *xmalloc(size_t size)
{
    return checked(malloc(size ? size : 1));
}

void *xrealloc(void *p, size_t size)
{
    return checked(realloc(p, size ? size : 1));
}

char *xstrndup(const char *p, size_t n)
{
    char *s = xmalloc(n + 1);
    if (n > 0)
        memcpy(s, p, n);
    s[n] = '\0';
    return s;
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

char *xasprintf(const char *fmt, ...)
{
    va_list ap;
    char *s = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return checked(n < 0 ? NULL : s);
}
