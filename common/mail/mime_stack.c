/*
 * A line that begins with "--" and a boundary of the stack ends all parts inside that multipart. The longest boundary
 * that fits counts, the innermost of equals. As RFC 2046 5.1.2 allows, only the beginning of the line is compared.
 *
 * The nesting limit is where Postfix 3.7 was seen to have it: messages inside messages do not count, and two multiparts
 * more than the limit pass.
 */
#include "common/mail/mime_stack.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/mail/mime.h"

void mime_stack_free(struct mime_stack *s)
{
    buf_free(&s->names);
    free(s->levels);
    *s = (struct mime_stack){ .count = 0 };
}

bool mime_stack_push(struct mime_stack *s, struct span content_type, bool is_digest)
{
    struct mime_level v = { .name_begin = s->names.n, .is_digest = is_digest };
    if (s->count > s->limits.nesting + 1)
        return false;
    if (!mime_parameter(content_type, "boundary", s->limits.boundary_bytes, &s->names, &v.is_cut))
        return true;
    v.name_bytes = s->names.n - v.name_begin;
    if (s->count == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 4;
        s->levels = xrealloc(s->levels, s->cap * sizeof *s->levels);
    }
    s->levels[s->count++] = v;
    return true;
}

static struct span boundary_of(const struct mime_stack *s, size_t level)
{
    return span_of(s->names.p + s->levels[level].name_begin, s->levels[level].name_bytes);
}

size_t mime_stack_find(const struct mime_stack *s, struct span line)
{
    size_t best = s->count;
    if (s->count == 0 || line.n < 3 || line.p[0] != '-' || line.p[1] != '-')
        return best;
    for (size_t i = s->count; i-- > 0;) {
        bool fits = span_starts_with(span_from(line, 2), boundary_of(s, i));
        if (fits && (best == s->count || s->levels[i].name_bytes > s->levels[best].name_bytes))
            best = i;
    }
    return best;
}

static bool is_closing(const struct mime_stack *s, size_t level, struct span line)
{
    struct span after = span_from(line, 2 + s->levels[level].name_bytes);
    return s->levels[level].is_cut ? span_iends_with(span_trim(after), SPAN_LIT("--")) : span_starts_with(after, SPAN_LIT("--"));
}

bool mime_stack_pass(struct mime_stack *s, size_t level, struct span line, bool *is_digest)
{
    bool is_end = is_closing(s, level, line);
    const struct mime_level *v = &s->levels[level];
    *is_digest = v->is_digest;
    s->count = is_end ? level : level + 1;
    s->names.n = v->name_begin + (is_end ? 0 : v->name_bytes);
    return is_end;
}
