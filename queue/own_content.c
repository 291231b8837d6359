#include "queue/own_content.h"

void own_content_begin(struct own_content *c, const struct own_policy *x, enum own_class cls, const struct own_mail *own,
                       struct spool *s, struct msg *m)
{
    char id[QID_TEXT_MAX + 1];
    *c = (struct own_content){ .w = content_begin(s, own->id), .policy = x };
    if (x == NULL || x->inspect == NULL)
        return;
    id[qid_format(own->id, own->p->enable_long_queue_ids, id)] = '\0';
    c->x = x->inspect(x->arg, cls, m, id, c->w);
}

bool own_content_put(struct own_content *c, struct span bytes)
{
    if (c->has_failed)
        return false;
    bool ok = c->x != NULL ? c->policy->inspect_add(c->x, bytes) : content_append(c->w, bytes) == SPOOL_OK;
    c->has_failed = !ok;
    return ok;
}

enum own_verdict own_content_end(struct own_content *c, struct msg *m, struct err *e)
{
    enum own_verdict v = OWN_KEEP;
    if (c->x != NULL)
        v = c->policy->inspect_end(&c->x, e);
    if (c->has_failed)
        v = OWN_UNWRITTEN;
    if (v == OWN_KEEP)
        return content_finish(&c->w, m) == SPOOL_OK ? OWN_KEEP : OWN_UNWRITTEN;
    content_abort(&c->w);
    return v;
}
