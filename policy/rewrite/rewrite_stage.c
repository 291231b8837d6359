#include "policy/rewrite/rewrite_stage.h"

#include <stdlib.h>

#include "common/base/mem.h"

struct rewrite_stage *rewrite_stage_new(const struct policy *p, enum rewrite_origin origin, bool has_maps)
{
    if (origin == REWRITE_NOBODY || p == NULL)
        return NULL;
    struct rewrite_stage *s = xcalloc(1, sizeof *s);
    *s = (struct rewrite_stage){ .policy = p, .origin = origin, .has_maps = has_maps, .e = ERR_INIT };
    return s;
}

void rewrite_stage_free(struct rewrite_stage **sp)
{
    if (*sp == NULL)
        return;
    if ((*sp)->scratch != NULL)
        arena_free(&(*sp)->scratch);
    free(*sp);
    *sp = NULL;
}

static enum pipe_answer field_cb(void *arg, struct content_pipe *p, const struct pipe_field *f, struct buf *out)
{
    struct rewrite_stage *s = arg;
    struct span text;
    (void)p;
    if (!rewrite_may_change(s->policy, s->has_maps, f->text, f->name_n))
        return PIPE_KEEP;
    if (s->scratch == NULL)
        s->scratch = arena_new(0);
    enum lookup got = rewrite_header(s->policy, s->origin, s->has_maps, f->text, f->name_n, s->scratch, &text, NULL, &s->e);
    if (got == LOOKUP_FOUND)
        buf_add_span(out, text);
    arena_reset(s->scratch);
    if (got == LOOKUP_TEMPFAIL)
        s->has_failed = true;
    return got == LOOKUP_TEMPFAIL ? PIPE_STOP : got == LOOKUP_FOUND ? PIPE_REPLACE : PIPE_KEEP;
}

struct pipe_stage rewrite_stage_of(struct rewrite_stage *s)
{
    return (struct pipe_stage){ .arg = s, .field = field_cb, .own_header_only = true };
}
