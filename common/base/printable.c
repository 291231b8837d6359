#include "common/base/printable.h"

#include "common/base/ascii.h"

/* Length of the character at s when it can be shown, else 0. */
static size_t shown(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80)
        return ascii_is_print(s[0]) ? 1 : 0;
    size_t len = u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : 2;
    if (u[0] < 0xc2 || u[0] > 0xf4 || len > n || (u[0] == 0xc2 && u[1] < 0xa0))
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xf0 && u[1] < 0x90);
    return overlong ? 0 : len;
}

void text_make_printable(char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t k = shown(p + i, n - i);
        if (k == 0)
            p[i++] = '?';
        else
            i += k;
    }
}

bool text_is_printable(struct span s)
{
    for (size_t i = 0, k; i < s.n; i += k)
        if ((k = shown(s.p + i, s.n - i)) == 0)
            return false;
    return true;
}
