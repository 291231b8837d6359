#include "daemon/own_inspect.h"

#include <sysexits.h>

#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "daemon/control/local_content.h"
#include "daemon/control/local_inspect.h"
#include "daemon/daemon.h"
#include "daemon/own_expand.h"
#include "queue/own_rcpts.h"

struct own_inspection {
    struct daemon *d;
    struct policy *policy;     /* counted */
    const struct params *p;    /* of the policy's configuration */
    struct msg *m;
    struct content_writer *w;
    struct local_inspect inspect;
    struct local_content content;
};

static bool sink_cb(void *arg, struct span bytes)
{
    struct own_inspection *x = arg;
    return content_append(x->w, bytes) == SPOOL_OK;
}

static bool is_filtered(const struct params *p, enum own_class cls)
{
    static const char *const words[] = { [OWN_BOUNCE] = "bounce", [OWN_NOTIFY] = "notify" };
    struct span rest = span_cstr(p->internal_mail_filter_classes), item;
    while (conf_list_next(&rest, &item, NULL))
        if (span_ieq_cstr(item, words[cls]))
            return true;
    return false;
}

static struct own_inspection *inspect_cb(void *arg, enum own_class cls, struct msg *m, const char *id, struct content_writer *w)
{
    struct daemon *d = arg;
    struct own_inspection *x = xcalloc(1, sizeof *x);
    *x = (struct own_inspection){ .d = d, .policy = daemon_policy(d), .m = m, .w = w };
    x->p = conf_global(policy_conf(x->policy));
    struct local_inspect_options io = {
        .p = x->p, .policy = x->policy, .log = &d->src, .queue_id = arena_strdup(m->arena, id), .is_own = true,
        .has_no_checks = !is_filtered(x->p, cls),
    };
    local_inspect_begin(&x->inspect, &io, m);
    /* Nothing is missing from our own header; the options for what might be are not asked. */
    struct local_content_options co = {
        .drop_headers = x->inspect.o.drop, .undisclosed = "", .date = "", .inspect = &x->inspect.o,
    };
    local_content_begin(&x->content, &co, m->arena, sink_cb, x);
    return x;
}

static bool add_cb(struct own_inspection *x, struct span bytes)
{
    return local_content_add(&x->content, bytes);
}

/* Who gets it instead; the envelope stays as it is when that is not known. */
static bool redirect(struct own_inspection *x, struct err *e)
{
    struct envelope *env = &x->m->env;
    struct own_policy own = own_policy_of(x->d);
    struct msg_rcpt *before = env->rcpts;
    uint32_t count = env->rcpt_count;
    env->rcpt_count = 0; /* begins a new array */
    if (own_rcpts_add(x->m, x->inspect.redirect, &own, x->p->duplicate_filter_limit, e))
        return true;
    env->rcpts = before;
    env->rcpt_count = count;
    return false;
}

static bool add_copies(struct own_inspection *x, struct err *e)
{
    struct envelope *env = &x->m->env;
    struct own_policy own = own_policy_of(x->d);
    uint32_t before = env->rcpt_count;
    for (const struct local_inspect_address *b = x->inspect.bcc; b != NULL; b = b->next) {
        if (!own_rcpts_add(x->m, b->address, &own, x->p->duplicate_filter_limit, e)) {
            env->rcpt_count = before;
            return false;
        }
    }
    for (uint32_t i = before; i < env->rcpt_count; i++)
        env->rcpts[i].notify = NOTIFY_NEVER;
    return true;
}

static enum own_verdict judge(struct own_inspection *x, struct err *e)
{
    struct envelope *env = &x->m->env;
    const struct local_inspect *i = &x->inspect;
    int status = local_inspect_verdict(i, e);
    if (status != 0)
        return status == EX_TEMPFAIL ? OWN_LATER : OWN_REFUSED;
    if (i->is_discard)
        return OWN_DISCARD;
    if (i->redirect.n > 0 ? !redirect(x, e) : !add_copies(x, e))
        return OWN_LATER;
    env->flags |= i->is_hold ? ENV_HOLD : 0;
    env->filter = i->filter;
    env->content_flags = x->content.flags;
    return OWN_KEEP;
}

static enum own_verdict end_cb(struct own_inspection **xp, struct err *e)
{
    struct own_inspection *x = *xp;
    enum own_verdict v = local_content_end(&x->content) ? judge(x, e) : OWN_UNWRITTEN;
    local_inspect_end(&x->inspect);
    policy_unref(&x->policy);
    free(x);
    *xp = NULL;
    return v;
}

struct own_policy own_policy_of(struct daemon *d)
{
    return (struct own_policy){ .expand = own_expand_cb, .inspect = inspect_cb, .inspect_add = add_cb, .inspect_end = end_cb, .arg = d };
}
