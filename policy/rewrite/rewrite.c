/* The steps of rewriting in their order, for one address; and what is compiled for them. */
#include "policy/rewrite/rewrite.h"

#include "common/mail/address.h"
#include "policy/rewrite/addr_list.h"
#include "policy/rewrite/rewrite_internal.h"

/* ---- compiling ---- */

static const char *const class_words[REWRITE_CLASSES] = {
    [REWRITE_ENV_SENDER] = "envelope_sender", [REWRITE_ENV_RCPT] = "envelope_recipient",
    [REWRITE_HDR_SENDER] = "header_sender", [REWRITE_HDR_RCPT] = "header_recipient",
};

static bool is_sender(enum rewrite_class cls)
{
    return cls == REWRITE_ENV_SENDER || cls == REWRITE_HDR_SENDER;
}

static void compile_classes(struct rewriter *w, const struct params *v)
{
    for (enum rewrite_class i = 0; i < REWRITE_CLASSES; i++) {
        const struct maps *own = is_sender(i) ? w->sender_canonical : w->recipient_canonical;
        w->uses_canonical[i] = !maps_is_empty(w->canonical) && policy_list_has(v->canonical_classes, class_words[i]);
        w->uses_own[i] = !maps_is_empty(own) &&
                         policy_list_has(is_sender(i) ? v->sender_canonical_classes : v->recipient_canonical_classes, class_words[i]);
        w->uses_masquerade[i] = w->masquerade_count > 0 && policy_list_has(v->masquerade_classes, class_words[i]);
    }
}

static void compile_masquerade(struct compiler *c, struct rewriter *w, const struct params *v)
{
    struct span rest = span_cstr(v->masquerade_domains), item;
    bool braced;
    size_t n = 0;
    while (conf_list_next(&rest, &item, &braced))
        n++;
    w->masquerade = arena_alloc(c->policy->arena, (n + 1) * sizeof *w->masquerade);
    for (rest = span_cstr(v->masquerade_domains); conf_list_next(&rest, &item, &braced);) {
        struct masquerade_rule r = { .domain = item };
        while (r.domain.n > 0 && r.domain.p[0] == '!') {
            r.is_kept = !r.is_kept;
            r.domain = span_from(r.domain, 1);
        }
        if (r.domain.n > 0)
            w->masquerade[w->masquerade_count++] = r;
    }
    w->masquerade_exceptions = compile_list(c, "masquerade_exceptions", span_cstr(v->masquerade_exceptions), MATCH_NAMES);
}

void rewrite_compile(struct compiler *c)
{
    const struct params *v = c->policy->p;
    struct rewriter *w = arena_alloc(c->policy->arena, sizeof *w);
    w->canonical = compile_maps(c, "canonical_maps", span_cstr(v->canonical_maps));
    w->sender_canonical = compile_maps(c, "sender_canonical_maps", span_cstr(v->sender_canonical_maps));
    w->recipient_canonical = compile_maps(c, "recipient_canonical_maps", span_cstr(v->recipient_canonical_maps));
    w->sender_bcc = compile_maps(c, "sender_bcc_maps", span_cstr(v->sender_bcc_maps));
    w->recipient_bcc = compile_maps(c, "recipient_bcc_maps", span_cstr(v->recipient_bcc_maps));
    w->always_bcc = span_trim(span_cstr(v->always_bcc));
    w->passes_extension = policy_list_has(v->propagate_unmatched_extensions, "canonical");
    compile_masquerade(c, w, v);
    compile_classes(w, v);
    c->policy->rewriter = w;
}

/* ---- one address ---- */

enum lookup rewrite_map_external(const struct policy *p, enum rewrite_class cls, struct span *addr, struct arena *a,
                                 const struct rewrite_trace *t, struct err *e)
{
    const struct rewriter *w = p->rewriter;
    enum lookup got = LOOKUP_FOUND;
    if (w->uses_own[cls]) {
        bool s = is_sender(cls);
        got = rewrite_one_to_one(p, s ? w->sender_canonical : w->recipient_canonical,
                                 s ? "sender_canonical_maps" : "recipient_canonical_maps", w->passes_extension, addr, a, t, e);
    }
    if (got != LOOKUP_TEMPFAIL && w->uses_canonical[cls])
        got = rewrite_one_to_one(p, w->canonical, "canonical_maps", w->passes_extension, addr, a, t, e);
    if (got != LOOKUP_TEMPFAIL && w->uses_masquerade[cls]) {
        struct span from = *addr;
        got = masquerade(p, addr, a, e);
        if (got == LOOKUP_FOUND && t != NULL)
            t->step(t->arg, "masquerade_domains", from, *addr);
    }
    return got == LOOKUP_TEMPFAIL ? got : LOOKUP_FOUND;
}

bool rewrite_is_mapped(const struct rewriter *w, enum rewrite_class cls)
{
    return w->uses_own[cls] || w->uses_canonical[cls] || w->uses_masquerade[cls];
}

/* Atoms, one @, and a domain with a dot in it that does not end with one: completion finds nothing to do. */
static bool is_complete(struct span s)
{
    struct span local, domain;
    if (!addr_split(s, &local, &domain) || !addr_local_is_plain(local) || domain.n == 0 || domain.p[domain.n - 1] == '.')
        return false;
    return span_find(domain, '.') > 0 && span_find(domain, '[') < 0;
}

enum lookup rewrite_envelope(const struct policy *p, enum rewrite_class cls, bool has_maps, struct span in, struct arena *a,
                             struct span *out, const struct rewrite_trace *t, struct err *e)
{
    has_maps = has_maps && rewrite_is_mapped(p->rewriter, cls);
    if (in.n == 0 && cls == REWRITE_ENV_RCPT)
        in = span_cstr(p->p->empty_address_recipient);
    *out = in;
    if (in.n == 0 || (!has_maps && is_complete(in)))
        return LOOKUP_FOUND;
    const struct rewrite_context local = address_local_context(p);
    struct span addr = address_rewrite_external(p, &local, addr_quoted(a, in), a, t);
    if (has_maps && rewrite_map_external(p, cls, &addr, a, t, e) == LOOKUP_TEMPFAIL)
        return LOOKUP_TEMPFAIL;
    *out = addr_external_to_internal(addr, a);
    return LOOKUP_FOUND;
}

/* ---- blind copies ---- */

bool rewrite_has_bcc(const struct policy *p)
{
    const struct rewriter *w = p->rewriter;
    return w->always_bcc.n > 0 || !maps_is_empty(w->sender_bcc) || !maps_is_empty(w->recipient_bcc);
}

enum lookup rewrite_bcc(const struct policy *p, enum rewrite_bcc which, struct span address, bool has_maps, struct arena *a,
                        struct span *out, const struct rewrite_trace *t, struct err *e)
{
    static const char *const words[] = {
        [REWRITE_BCC_ALWAYS] = "always_bcc", [REWRITE_BCC_SENDER] = "sender_bcc_maps", [REWRITE_BCC_RCPT] = "recipient_bcc_maps",
    };
    const struct rewriter *w = p->rewriter;
    struct span to = w->always_bcc;
    enum lookup got = to.n > 0 ? LOOKUP_FOUND : LOOKUP_NONE;
    if (which != REWRITE_BCC_ALWAYS)
        got = rewrite_lookup_value(p, which == REWRITE_BCC_SENDER ? w->sender_bcc : w->recipient_bcc, addr_quoted(a, address), a,
                                   &to, NULL, e);
    if (got != LOOKUP_FOUND)
        return got;
    struct addr_list l;
    size_t at = 0;
    addr_list_parse(to, 0, a, &l);
    const struct addr_item *one = addr_list_next(&l, &at);
    if (one == NULL)
        return LOOKUP_NONE;
    if (t != NULL)
        t->step(t->arg, words[which], address, one->text);
    return rewrite_envelope(p, REWRITE_ENV_RCPT, has_maps, addr_external_to_internal(one->text, a), a, out, t, e);
}
