/*
 * Most fields hold addresses to which nothing can happen but what tables say. Seeing that costs a look at each character;
 * reading the list and putting every address together again costs fifty times as much.
 */
#include "common/base/ascii.h"
#include "policy/rewrite/rewrite_internal.h"

static bool is_word(char c)
{
    return ascii_is_alnum(c) || c == '-' || c == '_' || c == '+' || c == '=';
}

/* Words with single dots between them, from *at on, which moves behind them; the number of dots, or -1 when it is none. */
static int dotted(struct span s, size_t *at)
{
    int dots = 0;
    char before = '.';
    for (; *at < s.n && (is_word(s.p[*at]) || s.p[*at] == '.'); before = s.p[(*at)++]) {
        if (s.p[*at] != '.')
            continue;
        if (before == '.')
            return -1;
        dots++;
    }
    return before == '.' ? -1 : dots;
}

static bool is_plain_address(struct span s)
{
    size_t at = 0;
    if (dotted(s, &at) < 0 || at == s.n || s.p[at++] != '@')
        return false;
    return dotted(s, &at) > 0 && at == s.n;
}

static bool is_plain_item(struct span s)
{
    if (s.n == 0 || s.p[s.n - 1] != '>')
        return is_plain_address(s);
    ptrdiff_t open = span_find(s, '<');
    for (ptrdiff_t i = 0; i < open; i++)
        if (!is_word(s.p[i]) && s.p[i] != ' ')
            return false;
    return open >= 0 && is_plain_address(span_of(s.p + open + 1, s.n - (size_t)open - 2));
}

bool rewrite_list_is_plain(struct span list)
{
    for (;;) {
        ptrdiff_t comma = span_find(list, ',');
        if (!is_plain_item(span_trim(comma < 0 ? list : span_of(list.p, (size_t)comma))))
            return false;
        if (comma < 0)
            return true;
        list = span_from(list, (size_t)comma + 1);
    }
}
