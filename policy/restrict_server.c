/*
 * check_TYPE_{a,mx,ns}_access: an access table asked for the servers of a name, by name and by address.
 *
 * A domain without MX is its own server; one without NS has those of its nearest parent. An address literal is its own
 * address. A server that cannot be looked up is left out, with a warning: these lists keep known bad servers out, and
 * must not keep mail out when DNS is ill. OK as an answer is a mistake: a stranger names his servers as he likes.
 */
#include "common/mail/address.h"
#include "policy/restrict_internal.h"

static void warn_lookup(struct eval *ev, const char *type, struct span name, const struct dns_answer *a)
{
    if (!ev->is_waiting)
        log_warn(ev->p->log, "Unable to look up %s host for %.*s: %s", type, SPAN_ARG(name), a->why);
}

struct server_check {
    struct eval *ev;
    const struct step *s;
    enum subject_kind subject;
    bool found;
};

static enum answer found_here(struct server_check *k, enum lookup got, struct span value, const struct err *e)
{
    k->found = got != LOOKUP_NONE;
    enum answer a = eval_access_answer(k->ev, k->s, k->subject, got, value, e);
    return a == ANSWER_PERMIT ? eval_forbid_permit(k->ev, k->s) : a;
}

static enum answer check_addr(struct server_check *k, const struct ip_addr *addr)
{
    char text[IP_TEXT_MAX];
    struct span value = { NULL, 0 };
    struct err e = ERR_INIT;
    enum lookup got = eval_access_by_addr(k->ev, k->s->table, arena_dup_span(k->ev->a, span_cstr(ip_print(addr, text))), &value, &e);
    return found_here(k, got, value, &e);
}

static enum answer check_name(struct server_check *k, struct span name)
{
    struct span value = { NULL, 0 };
    struct err e = ERR_INIT;
    enum lookup got = eval_access_by_host(k->ev, k->s->table, name, &value, &e);
    return found_here(k, got, value, &e);
}

/* All addresses of a server. */
static enum answer check_addrs_of(struct server_check *k, struct span host, const char *type)
{
    static const enum dns_type types[] = { DNS_A, DNS_AAAA };
    enum answer got = ANSWER_DUNNO;
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        const struct dns_answer *a = eval_dns(k->ev, host, types[t]);
        if (a != NULL && a->status != DNS_OK && a->status != DNS_NODATA && type != NULL)
            warn_lookup(k->ev, type, host, a);
        for (size_t i = 0; a != NULL && a->status == DNS_OK && i < a->count; i++) {
            struct ip_addr addr = types[t] == DNS_A ? ip_from_v4(a->rr[i].a) : ip_from_v6(a->rr[i].aaaa);
            got = check_addr(k, &addr);
            if (got != ANSWER_DUNNO || k->found)
                return got;
        }
    }
    return got;
}

static enum answer check_server(struct server_check *k, struct span host, const char *type)
{
    struct ip_addr addr;
    if (ip_parse(host, &addr))
        return check_addr(k, &addr);
    enum answer got = check_name(k, host);
    return got != ANSWER_DUNNO || k->found ? got : check_addrs_of(k, host, type);
}

/* The NS of the name or of the nearest parent that has some. NULL: waiting, or none. */
static const struct dns_answer *name_servers(struct eval *ev, struct span domain)
{
    for (;;) {
        const struct dns_answer *a = eval_dns(ev, domain, DNS_NS);
        if (a == NULL || (a->status != DNS_NODATA && a->status != DNS_NXDOMAIN))
            return a;
        ptrdiff_t dot = span_find(domain, '.');
        if (dot < 0 || (size_t)dot + 1 >= domain.n)
            return a;
        domain = span_from(domain, (size_t)dot + 1);
    }
}

static const char *host_of(const struct dns_rr *rr)
{
    return rr->type == DNS_MX ? rr->mx.host : rr->name;
}

static enum answer check_servers(struct server_check *k, struct span domain, enum dns_type type)
{
    const char *word = type == DNS_MX ? "MX" : "NS";
    const struct dns_answer *a = type == DNS_MX ? eval_dns(k->ev, domain, DNS_MX) : name_servers(k->ev, domain);
    enum answer got = ANSWER_DUNNO;
    if (a == NULL)
        return ANSWER_DUNNO;
    if (type == DNS_MX && (a->status == DNS_NODATA || a->status == DNS_NXDOMAIN))
        return check_server(k, domain, word);
    if (a->status != DNS_OK) {
        warn_lookup(k->ev, word, domain, a);
        return ANSWER_DUNNO;
    }
    if (a->count > EVAL_SERVERS_MAX)
        eval_warn(k->ev, "%s: \"%.*s\" has %zu servers: the first %d are looked at", k->s->what->name, SPAN_ARG(domain), a->count,
                  EVAL_SERVERS_MAX);
    for (size_t i = 0; i < a->count && i < EVAL_SERVERS_MAX && got == ANSWER_DUNNO && !k->found; i++)
        if (host_of(&a->rr[i])[0] != '\0') /* not the null MX */
            got = check_server(k, span_cstr(host_of(&a->rr[i])), word);
    return got;
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]" */
static bool literal_addr(struct span name, struct ip_addr *out)
{
    static const char prefix[] = "IPv6:";
    if (name.n < 3 || name.p[0] != '[' || name.p[name.n - 1] != ']')
        return false;
    name = span_of(name.p + 1, name.n - 2);
    if (name.n > sizeof prefix - 1 && span_ieq_cstr(span_of(name.p, sizeof prefix - 1), prefix))
        name = span_from(name, sizeof prefix - 1);
    return ip_parse(name, out);
}

static enum answer check(struct eval *ev, const struct step *s, enum subject_kind subject, struct span name, enum dns_type type)
{
    struct server_check k = { .ev = ev, .s = s, .subject = subject };
    struct span local, domain;
    struct ip_addr addr;
    if (addr_split(name, &local, &domain))
        name = domain;
    if (name.n > 1 && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n == 0 || span_ieq_cstr(name, "unknown"))
        return ANSWER_DUNNO;
    if (name.p[0] == '[')
        return literal_addr(name, &addr) && type != DNS_NS ? check_addr(&k, &addr) : ANSWER_DUNNO;
    if (type == DNS_A)
        return check_addrs_of(&k, name, NULL);
    return check_servers(&k, name, type);
}

static struct span recipient_of(const struct eval *ev)
{
    if (ev->stage == STAGE_ETRN) /* that is a domain */
        return span_of("", 0);
    return ev->route != NULL && ev->route->recipient.n > 0 ? ev->route->recipient : ev->c->recipient;
}

STEP_FN(step_check_client_a) { return check(ev, s, SUBJECT_CLIENT, ev->c->name, DNS_A); }
STEP_FN(step_check_client_mx) { return check(ev, s, SUBJECT_CLIENT, ev->c->name, DNS_MX); }
STEP_FN(step_check_client_ns) { return check(ev, s, SUBJECT_CLIENT, ev->c->name, DNS_NS); }
STEP_FN(step_check_reverse_a) { return check(ev, s, SUBJECT_REVERSE_CLIENT, ev->c->reverse_name, DNS_A); }
STEP_FN(step_check_reverse_mx) { return check(ev, s, SUBJECT_REVERSE_CLIENT, ev->c->reverse_name, DNS_MX); }
STEP_FN(step_check_reverse_ns) { return check(ev, s, SUBJECT_REVERSE_CLIENT, ev->c->reverse_name, DNS_NS); }
STEP_FN(step_check_helo_a) { return check(ev, s, SUBJECT_HELO, ev->c->helo, DNS_A); }
STEP_FN(step_check_helo_mx) { return check(ev, s, SUBJECT_HELO, ev->c->helo, DNS_MX); }
STEP_FN(step_check_helo_ns) { return check(ev, s, SUBJECT_HELO, ev->c->helo, DNS_NS); }
STEP_FN(step_check_sender_a) { return check(ev, s, SUBJECT_SENDER, ev->c->sender, DNS_A); }
STEP_FN(step_check_sender_mx) { return check(ev, s, SUBJECT_SENDER, ev->c->sender, DNS_MX); }
STEP_FN(step_check_sender_ns) { return check(ev, s, SUBJECT_SENDER, ev->c->sender, DNS_NS); }
STEP_FN(step_check_recipient_a) { return check(ev, s, SUBJECT_RECIPIENT, recipient_of(ev), DNS_A); }
STEP_FN(step_check_recipient_mx) { return check(ev, s, SUBJECT_RECIPIENT, recipient_of(ev), DNS_MX); }
STEP_FN(step_check_recipient_ns) { return check(ev, s, SUBJECT_RECIPIENT, recipient_of(ev), DNS_NS); }
