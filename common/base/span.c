#include "common/base/ascii.h"
#include "common/base/span.h"

bool span_ieq(struct span a, struct span b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
            return false;
    return true;
}

bool span_starts_with(struct span s, struct span prefix)
{
    return s.n >= prefix.n && span_eq(span_of(s.p, prefix.n), prefix);
}

bool span_istarts_with(struct span s, struct span prefix)
{
    return s.n >= prefix.n && span_ieq(span_of(s.p, prefix.n), prefix);
}

bool span_iends_with(struct span s, struct span suffix)
{
    return s.n >= suffix.n && span_ieq(span_from(s, s.n - suffix.n), suffix);
}

struct span span_trim(struct span s)
{
    while (s.n > 0 && ascii_is_space(s.p[0]))
        s = span_from(s, 1);
    while (s.n > 0 && ascii_is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

ptrdiff_t span_find(struct span s, char c)
{
    const char *q = s.n ? memchr(s.p, c, s.n) : NULL;
    return q ? q - s.p : -1;
}

ptrdiff_t span_rfind(struct span s, char c)
{
    const char *q = s.n ? memrchr(s.p, c, s.n) : NULL;
    return q ? q - s.p : -1;
}

struct span span_from(struct span s, size_t from)
{
    if (from >= s.n)
        return span_of(s.n ? s.p + s.n : s.p, 0);
    return span_of(s.p + from, s.n - from);
}

static bool is_sep(const char *seps, char c)
{
    return c != '\0' && strchr(seps, c) != NULL;
}

bool span_next_token(struct span *rest, const char *seps, struct span *out)
{
    size_t i = 0;
    while (i < rest->n && is_sep(seps, rest->p[i]))
        i++;
    if (i == rest->n)
        return false;
    size_t j = i;
    while (j < rest->n && !is_sep(seps, rest->p[j]))
        j++;
    *out = span_of(rest->p + i, j - i);
    *rest = span_from(*rest, j);
    return true;
}
