/*
 * conf_lines: a logical line ends where the next physical line begins with something else than white space or '#'.
 * A line of white space only, or whose first visible byte is '#', is skipped wherever it stands, so that a comment
 * in the middle of a value does not end it.
 */
#include "common/conf/conf_lines.h"
#include "common/base/ascii.h"

void conf_lines_init(struct conf_lines *r, struct span text)
{
    r->rest = text;
    r->next_line = 1;
}

static struct span take_physical(struct conf_lines *r)
{
    ptrdiff_t nl = span_find(r->rest, '\n');
    struct span line = span_of(r->rest.p, nl < 0 ? r->rest.n : (size_t)nl);
    r->rest = span_from(r->rest, nl < 0 ? r->rest.n : (size_t)nl + 1);
    r->next_line++;
    return line;
}

static bool is_blank_or_comment(struct span line)
{
    struct span t = span_trim(line);
    return t.n == 0 || t.p[0] == '#';
}

static bool next_is_continuation(const struct conf_lines *r)
{
    return r->rest.n > 0 && (r->rest.p[0] == '#' || ascii_is_space(r->rest.p[0]));
}

bool conf_lines_next(struct conf_lines *r, struct conf_line *line)
{
    buf_reset(&line->text);
    line->first = 0;
    while (r->rest.n > 0) {
        struct span s = take_physical(r);
        if (!is_blank_or_comment(s)) {
            if (line->first == 0) {
                line->first = r->next_line - 1;
                line->starts_blank = ascii_is_space(s.p[0]);
            }
            line->last = r->next_line - 1;
            buf_add_span(&line->text, s);
        }
        if (line->first != 0 && !next_is_continuation(r))
            break;
    }
    while (line->text.n > 0 && ascii_is_space(line->text.p[line->text.n - 1]))
        line->text.n--;
    return line->first != 0;
}

void conf_line_free(struct conf_line *line)
{
    buf_free(&line->text);
}
