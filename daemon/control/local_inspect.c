/* The stages see a field in the order in which they are added: first who judges it as it came, then who changes it. */
#include "daemon/control/local_inspect.h"

#include <sysexits.h>

#include "common/conf/conf.h"
#include "common/mail/address.h"

static void effect_cb(void *arg, enum policy_effect effect, struct span value)
{
    struct local_inspect *i = arg;
    struct local_inspect_address *a;
    switch (effect) {
    case EFFECT_HOLD:
        i->is_hold = true;
        break;
    case EFFECT_DISCARD:
        i->is_discard = true;
        break;
    case EFFECT_REDIRECT:
        i->redirect = value;
        break;
    case EFFECT_FILTER:
        i->filter = value;
        break;
    case EFFECT_BCC: /* each address once */
        a = arena_alloc(i->m->arena, sizeof *a);
        *a = (struct local_inspect_address){ .address = value };
        *i->bcc_end = a;
        i->bcc_end = &a->next;
        break;
    case EFFECT_NONE:
    case EFFECT_PREPEND: /* done by the pipe */
        break;
    }
}

static bool has_word(const char *list, const char *word)
{
    struct span rest = span_cstr(list), item;
    bool braced;
    while (conf_list_next(&rest, &item, &braced))
        if (span_ieq_cstr(item, word))
            return true;
    return false;
}

static void add_checks(struct local_inspect *i, const struct local_inspect_options *o)
{
    const struct envelope *env = &i->m->env;
    struct arena *a = i->m->arena;
    const struct content_checks *c = o->policy != NULL ? policy_content_checks(o->policy, o->pickup) : NULL;
    if (c == NULL || o->has_no_checks || (!o->is_own && has_word(o->p->receive_override_options, "no_header_body_checks")))
        return;
    i->log = *o->log;
    i->log.prog = "cleanup";
    i->message = (struct checks_message){
        .log = &i->log,
        .queue_id = span_cstr(o->queue_id),
        .origin = SPAN_LIT("local"),
        .sender = addr_quoted(a, env->sender),
        .recipient = env->rcpt_count > 0 ? addr_quoted(a, env->rcpts[env->rcpt_count - 1].orig) : SPAN_LIT(""),
        .is_utf8 = (env->flags & ENV_SMTPUTF8) != 0,
        .effect = effect_cb,
        .arg = i,
    };
    i->checks = checks_begin(c, &i->message, a, &i->o.stages[i->o.stage_count++]);
}

bool local_inspect_maps_addresses(const struct params *p)
{
    return !has_word(p->receive_override_options, "no_address_mappings");
}

void local_inspect_begin(struct local_inspect *i, const struct local_inspect_options *o, struct msg *m)
{
    const struct params *p = o->p;
    *i = (struct local_inspect){ .m = m, .o = {
        .header_bytes = (size_t)p->header_size_limit,
        .line_bytes = (size_t)p->line_length_limit,
        .mime = { .boundary_bytes = (size_t)p->mime_boundary_length_limit, .nesting = (size_t)p->mime_nesting_limit },
        .is_mime = !p->disable_mime_input_processing,
        .drop = hdr_names_of(p->message_drop_headers),
    } };
    i->bcc_end = &i->bcc;
    add_checks(i, o);
    i->rewrite = rewrite_stage_new(o->policy, REWRITE_LOCAL, o->is_own || local_inspect_maps_addresses(p));
    if (i->rewrite != NULL)
        i->o.stages[i->o.stage_count++] = rewrite_stage_of(i->rewrite);
}

int local_inspect_verdict(const struct local_inspect *i, struct err *e)
{
    int code = 0;
    const char *dsn = "";
    struct span text = SPAN_LIT("");
    if (i->rewrite != NULL && i->rewrite->has_failed) {
        *e = i->rewrite->e;
        return EX_TEMPFAIL;
    }
    switch (i->checks != NULL ? checks_status(i->checks, &code, &dsn, &text) : CHECKS_OK) {
    case CHECKS_OK:
        return 0;
    case CHECKS_REJECTED:
        err_set(e, "%s %.*s", dsn, SPAN_ARG(text));
        return code < 500 ? EX_TEMPFAIL : EX_DATAERR;
    case CHECKS_FAILED:
        break;
    }
    err_set(e, "a table lookup failed");
    return EX_TEMPFAIL;
}

void local_inspect_end(struct local_inspect *i)
{
    checks_end(&i->checks);
    rewrite_stage_free(&i->rewrite);
}
