/*
 * A continuation is moved down over the line end before it, so a logical line never needs more room than it has.
 */
#include <string.h>

#include "common/base/ascii.h"
#include "common/table/lines.h"

/* Takes one physical line; *n excludes its line end. */
static char *take(struct lines *ls, size_t *n)
{
    char *start = ls->p;
    char *nl = memchr(start, '\n', (size_t)(ls->end - start));
    *n = (size_t)((nl ? nl : ls->end) - start);
    ls->p = nl ? nl + 1 : ls->end;
    ls->next_line++;
    return start;
}

/* Nothing but white space, or a comment. */
static bool is_void(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n && ascii_is_space(p[i]))
        i++;
    return i == n || p[i] == '#';
}

bool lines_next(struct lines *ls, struct line *out)
{
    size_t n = 0;
    char *start = NULL;
    int number = 0;
    while (ls->p < ls->end) {
        number = ls->next_line;
        start = take(ls, &n);
        if (!is_void(start, n))
            break;
        start = NULL;
    }
    if (start == NULL)
        return false;
    char *to = start + n;
    while (ls->p < ls->end) {
        struct lines before = *ls;
        size_t more;
        char *p = take(ls, &more);
        if (is_void(p, more))
            continue;
        if (!ascii_is_space(*p)) {
            *ls = before;
            break;
        }
        memmove(to, p, more);
        to += more;
    }
    while (to > start && ascii_is_space(to[-1]))
        to--;
    *out = (struct line){ .p = start, .n = (size_t)(to - start), .number = number, .is_stray = ascii_is_space(*start) };
    return true;
}
