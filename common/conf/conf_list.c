/*
 * conf_list: items of a list. Commas and white space separate; an item that begins with '{' reaches to the brace that
 * closes it. Braces further inside an item (inline:{a=b}, regexp:{{/x/ y}}) belong to it, separators included.
 */
#include "common/base/ascii.h"
#include "common/conf/conf.h"
#include "common/conf/expand.h"

static bool is_separator(char c)
{
    return c == ',' || ascii_is_space(c);
}

/* Length of an item that may hold {groups}; an unclosed group ends with the text. */
static size_t item_length(struct span s)
{
    size_t i = 0;
    while (i < s.n && !is_separator(s.p[i])) {
        size_t group = s.p[i] == '{' ? expand_group_len(span_from(s, i)) : 0;
        if (s.p[i] == '{' && group == 0)
            return s.n;
        i += group ? group : 1;
    }
    return i;
}

bool conf_list_next(struct span *rest, struct span *item, bool *was_braced)
{
    size_t skip = 0;
    while (skip < rest->n && is_separator(rest->p[skip]))
        skip++;
    *rest = span_from(*rest, skip);
    if (rest->n == 0)
        return false;
    size_t n = item_length(*rest);
    struct span s = span_of(rest->p, n);
    bool braced = s.p[0] == '{' && expand_group_len(s) == n;
    *rest = span_from(*rest, n);
    *item = braced ? span_trim(span_of(s.p + 1, s.n - 2)) : s;
    if (was_braced != NULL)
        *was_braced = braced;
    return true;
}
