#include <stdint.h>
#include <string.h>

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

/* How many bytes at s are printable ASCII: eight at a time, since most texts are nothing else. */
static size_t plain(const char *s, size_t n)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    size_t i = 0;
    for (uint64_t v; i + sizeof v <= n; i += sizeof v) {
        memcpy(&v, s + i, sizeof v);
        uint64_t del = v ^ (0x7f * ones);
        /* bytes above 0x7f, bytes below 0x20, bytes that are 0x7f; a borrow marks a byte too many at most, never one too few */
        if ((v | (v - 0x20 * ones) | ((del - ones) & ~del)) & high)
            break;
    }
    while (i < n && ascii_is_print(s[i]))
        i++;
    return i;
}

void text_make_printable(char *p, size_t n)
{
    for (size_t i = plain(p, n); i < n;) {
        size_t k = shown(p + i, n - i);
        if (k == 0)
            p[i++] = '?';
        else
            i += k;
    }
}

bool text_is_printable(struct span s)
{
    for (size_t i = plain(s.p, s.n), k; i < s.n; i += k)
        if ((k = shown(s.p + i, s.n - i)) == 0)
            return false;
    return true;
}
