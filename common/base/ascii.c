#include "common/base/ascii.h"

void ascii_lower_buf(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = ascii_lower(p[i]);
}

int ascii_casecmp(const char *a, const char *b)
{
    for (;; a++, b++) {
        int d = (unsigned char)ascii_lower(*a) - (unsigned char)ascii_lower(*b);
        if (d != 0 || *a == '\0')
            return d;
    }
}
