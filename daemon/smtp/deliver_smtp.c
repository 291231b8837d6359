/*
 * The SMTP and LMTP delivery agent: one job after another on the connection it holds.
 *
 * For each job: the connection held, else one parked for the next hop, else the hosts of each next hop in turn. A host
 * that fails for now is followed by the next one, until the session limit; what is left then gets the last failure.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/dest.h"
#include "common/table/dns_filter.h"
#include "daemon/deliver/tables.h"
#include "daemon/deliver/trace_headers.h"
#include "daemon/smtp/hosts.h"
#include "daemon/smtp/request.h"

/* What becomes of the connection after the job, noted while the job's configuration is still there. */
struct keep_rules {
    bool is_always;         /* the destination is in *_connection_cache_destinations */
    bool is_on_demand;
    int64_t time_limit_ms;
};

static void request_begin(struct smtp_request *r, struct deliver_env *env, struct job *j)
{
    *r = (struct smtp_request){ .env = env, .job = j, .cp = j->transport->client, .p = j->transport->p, .left = j->rcpt_count };
    r->log = *env->log;
    r->log.name = r->p->syslog_name;
    r->log.prog = j->transport->command;
    r->is_lmtp = strcmp(j->transport->command, "lmtp") == 0;
    r->copy_flags = copy_flags_of(j->transport->argv);
    r->mark = j->rcpt_count <= RCPT_INLINE ? r->mark_inline : xcalloc(j->rcpt_count, 1);
    r->verdict = SITE_NEUTRAL;
    r->begun_us = clock_wall_us();
    notify_begin(r);
    if (r->copy_flags & (COPY_DELIVERED_TO | COPY_ORIGINAL_TO | COPY_RETURN_PATH))
        trace_headers_add(&r->extra, r->copy_flags, &j->msg->env, &j->msg->env.rcpts[j->rcpts[0].index], "\r\n");
}

static void request_end(struct smtp_request *r)
{
    notify_end(r);
    inspect_free(&r->inspected);
    if (r->has_view)
        content_release(&r->view);
    if (r->mark != r->mark_inline)
        free(r->mark);
    free(r->tried);
    buf_free(&r->extra);
    buf_free(&r->fail.reason);
    buf_free(&r->fail.diagnostic);
}

/* ---- one connection ---- */

/* Delivers what can be delivered over r->conn. False when the connection was gone before it was used. */
static bool use_connection(struct smtp_request *r)
{
    enum transact_end end;
    r->conn_done_us = clock_wall_us();
    do
        end = transact(r);
    while (end == TRANSACT_AGAIN);
    if (r->left > 0 || r->conn->is_broken)
        conn_close(&r->conn, true);
    return end != TRANSACT_STALE;
}

/* flags=D: a message that already was here goes in a circle. */
static bool is_delivery_loop(struct smtp_request *r)
{
    struct err e = ERR_INIT;
    struct span addr = r->job->msg->env.rcpts[r->job->rcpts[0].index].addr;
    if (!(r->copy_flags & COPY_DELIVERED_TO) || r->job->probe != NULL)
        return false;
    if (!r->has_view && !content_acquire(r->env->spool, r->job->msg, &r->view, &e)) {
        log_warn(&r->log, "cannot read the content of a message: %s", e.text);
        notify_error(r, NOTIFY_CLASS_DATA);
        fail_words(r, "4.3.0", "local data error");
        return true;
    }
    r->has_view = true;
    if (!trace_headers_has_delivered_to(span_of(r->view.p, r->view.n), addr))
        return false;
    fail_words(r, "5.4.6", "mail forwarding loop for %.*s", SPAN_ARG(addr));
    return true;
}

/* Remembers the host that a reused connection led to: it has had its chance. */
static void note_tried(struct smtp_request *r)
{
    free(r->tried);
    r->tried = r->conn && r->conn->key[CONN_KEY_ENDPOINT] ? xstrdup(r->conn->key[CONN_KEY_ENDPOINT]) : NULL;
}

/* ---- one host ---- */

static void deliver_to_host(struct smtp_request *r, const struct smtp_target *t, bool *had_session)
{
    for (int tries = 0; tries < 2; tries++) {
        if (!connect_target(r, t, tries > 0))
            return;
        *had_session = true;
        r->is_last_host = r->is_last_destination && (t->is_last || r->is_last_session);
        if (use_connection(r))
            return;
    }
}

/* ---- destinations ---- */

static bool port_of(struct smtp_request *r, const struct dest *d, uint16_t *port)
{
    struct err e = ERR_INIT;
    struct span service = d->service.n > 0 ? d->service : span_cstr(r->cp->tcp_port);
    if (dest_port(service, span_cstr(r->p->known_tcp_ports), port, &e))
        return true;
    log_warn(&r->log, "next hop %.*s: %s", SPAN_ARG(r->job->nexthop), e.text);
    fail_words(r, "4.3.5", "mail system configuration error: %s", e.text);
    return false;
}

/* A unix socket or an address literal: nothing to look up. */
static void try_endpoint(struct smtp_request *r, const struct dest *d)
{
    char name[IP_TEXT_MAX + 16];
    struct smtp_target t = { .host = r->p->myhostname, .path = d->path, .is_last = true };
    bool had_session = false;
    if (!d->is_unix) {
        if (!port_of(r, d, &t.port))
            return;
        snprintf(name, sizeof name, "%.*s", SPAN_ARG(d->host));
        t.host = name;
        t.addr = d->ip;
    }
    r->is_last_host = r->is_last_destination;
    r->wants_loop_check = false;
    deliver_to_host(r, &t, &had_session);
}

static void try_hosts(struct smtp_request *r, const struct hosts *h)
{
    int64_t limit = r->cp->mx_session_limit, sessions = 0;
    for (size_t i = 0; i < h->count && r->left > 0 && !r->is_over && (limit == 0 || sessions < limit); i++) {
        const struct host_addr *a = &h->addr[i];
        struct smtp_target t = { .host = a->name, .addr = a->addr, .port = a->port, .is_last = i + 1 == h->count };
        bool had_session = false;
        r->is_best_mx = a->is_best;
        r->is_last_session = limit > 0 && sessions + 1 == limit;
        r->is_last_host = r->is_last_destination && t.is_last;
        deliver_to_host(r, &t, &had_session);
        sessions += had_session;
    }
}

/* A next hop that an administrator named is not bounced for: the mistake is ours. */
static void forgive_configuration(struct smtp_request *r, struct span text, bool is_fallback)
{
    const char *parameter = is_fallback ? "smtp_fallback_relay"
                            : span_eq(text, span_trim(span_cstr(r->p->relayhost))) ? "relayhost" : NULL;
    if (!r->fail.is_permanent || parameter == NULL)
        return;
    log_warn(&r->log, "%s configuration problem: %.*s", parameter, SPAN_ARG(buf_span(&r->fail.reason)));
    r->fail.is_permanent = false;
    r->fail.dsn[0] = '4';
}

static struct dns_answer *filter_dns(const void *arg, struct dns_answer *a)
{
    return dns_filter_apply(arg, a);
}

static void try_named(struct smtp_request *r, const struct dest *d, struct span text, bool is_fallback)
{
    struct hosts_options o;
    struct hosts h;
    struct err e = ERR_INIT;
    if (!hosts_options_init(&o, r->p, r->cp, r->is_lmtp, d, &e)) {
        log_warn(&r->log, "next hop %.*s: %s", SPAN_ARG(text), e.text);
        fail_words(r, "4.3.5", "mail system configuration error: %s", e.text);
        return;
    }
    struct dns_filter filter = { NULL, &r->log };
    if (*r->cp->dns_reply_filter != '\0') {
        filter.maps = deliver_tables_get_bytes(r->env->tables, r->cp->dns_reply_filter);
        o.filter = filter_dns;
        o.filter_arg = &filter;
    }
    hosts_find(r->env->dns, d, &o, &h);
    r->found_self |= h.found_self;
    r->wants_loop_check = o.loop_check && !r->is_lmtp;
    if (h.status == HOSTS_OK) {
        try_hosts(r, &h);
    } else {
        fail_words(r, h.dsn, "%s", h.text);
        r->verdict = h.status == HOSTS_DEFER ? SITE_UNAVAILABLE : SITE_NEUTRAL;
        r->wants_best_mx_transport = h.status == HOSTS_SELF && *r->p->best_mx_transport && r->left == r->job->rcpt_count;
        forgive_configuration(r, text, is_fallback);
    }
    hosts_free(&h);
}

static void try_destination(struct smtp_request *r, struct span text, bool is_fallback)
{
    struct dest d;
    struct err e = ERR_INIT;
    if (!dest_parse(text, &d, &e)) {
        log_warn(&r->log, "bad next hop: %s", e.text);
        fail_words(r, "4.3.5", "mail system configuration error: %s", e.text);
    } else if (d.is_unix || d.ip.family != IP_NONE) {
        try_endpoint(r, &d);
    } else {
        try_named(r, &d, text, is_fallback);
    }
}

static bool next_destination(struct span *rest, struct span *text) { return span_next_token(rest, ", \t\r\n", text); }

/* Each next hop in turn, then the fallback relays. */
static void try_destinations(struct smtp_request *r)
{
    struct span fallback = span_trim(span_cstr(r->cp->fallback_relay));
    for (int round = 0; round < 2; round++) {
        struct span rest = round == 0 ? r->job->nexthop : fallback, text;
        while (r->left > 0 && !r->is_over && !r->wants_best_mx_transport && next_destination(&rest, &text)) {
            struct span more = rest, unused;
            r->is_last_destination = !next_destination(&more, &unused) && (round == 1 || fallback.n == 0);
            try_destination(r, text, round == 1);
        }
        if (r->found_self)
            break; /* a backup MX must not send what it got from outside to a relay that sends it here again */
    }
    if (r->left > 0 && !r->fail.is_set)
        fail_words(r, "4.3.5", "no usable next hop in \"%.*s\"", SPAN_ARG(r->job->nexthop));
}

/* The whole next hop is one unix socket or address: when it fails there is no other. */
static bool is_single_endpoint(const struct smtp_request *r)
{
    struct span rest = r->job->nexthop, text, more;
    struct dest d;
    return next_destination(&rest, &text) && !next_destination(&rest, &more) && *r->cp->fallback_relay == '\0' &&
           dest_parse(text, &d, NULL) && (d.is_unix || d.ip.family != IP_NONE);
}

static void request_run(struct smtp_request *r)
{
    char key[CONN_KEY_MAX];
    bool is_loop = is_delivery_loop(r);
    if (!is_loop && r->conn == NULL && conn_key_nexthop(r, key))
        r->conn = conn_cache_take(r->env->conn_cache, CONN_KEY_NEXTHOP, key);
    notify_adopt(r);
    if (!is_loop && r->conn) {
        r->is_reused = true;
        r->is_last_host = is_single_endpoint(r);
        note_tried(r);
        if (!use_connection(r)) {
            free(r->tried);
            r->tried = NULL;
        }
    }
    if (!is_loop && r->left > 0)
        try_destinations(r);
    if (!r->wants_best_mx_transport)
        report_left_failed(r);
}

/* ---- the connection afterwards ---- */

/* Destinations are named without brackets and port (postconf(5)); the next hop as it is written is taken too. */
static bool is_cached_destination(const char *list, struct span nexthop)
{
    struct dest d;
    struct err e = ERR_INIT;
    if (*list == '\0')
        return false;
    return list_has_word(list, nexthop) || (dest_parse(nexthop, &d, &e) && !d.is_unix && list_has_word(list, d.host));
}

static struct keep_rules keep_rules_of(const struct smtp_request *r)
{
    const struct client_params *cp = r->cp;
    bool is_off = r->is_lmtp && !cp->cache_connection;
    return (struct keep_rules){
        .is_always = !is_off && is_cached_destination(cp->connection_cache_destinations, r->job->nexthop),
        .is_on_demand = !is_off && cp->connection_cache_on_demand,
        .time_limit_ms = cp->connection_cache_time_limit,
    };
}

/* Closes a connection that may not be used again; NULL then. */
static void drop_worn_out(struct smtp_request *r)
{
    struct smtp_conn *c = r->conn;
    if (c == NULL)
        return;
    bool too_old = clock_mono_ms() - c->opened_ms >= r->cp->connection_reuse_time_limit;
    bool too_often = r->cp->connection_reuse_count_limit > 0 && c->use_count >= (uint64_t)r->cp->connection_reuse_count_limit;
    if (too_old || too_often)
        conn_close(&r->conn, true);
}

static void park_or_close(struct deliver_env *env, struct smtp_conn **c, const struct keep_rules *k)
{
    if (*c == NULL)
        return;
    struct conn_cache *cc = env->conn_cache;
    bool park = cc && (*c)->key[CONN_KEY_NEXTHOP] && k->time_limit_ms > 0 &&
                (k->is_always ||
                 (k->is_on_demand && conn_cache_note_demand(cc, (*c)->key[CONN_KEY_NEXTHOP], k->time_limit_ms)));
    if (park)
        conn_cache_put(cc, *c, clock_mono_ms() + k->time_limit_ms);
    else
        conn_close(c, true);
    *c = NULL;
}

/* Mail whose best MX this machine is goes to best_mx_transport, with its own next hop when it names none. */
static void hand_over(struct deliver_env *env, struct job *j)
{
    const struct params *p = j->transport->p;
    struct span name = span_cstr(p->best_mx_transport), nexthop = span_of("", 0);
    ptrdiff_t colon = span_find(name, ':');
    if (colon >= 0) {
        nexthop = span_from(name, (size_t)colon + 1);
        name.n = (size_t)colon;
    }
    const struct conf_service *svc = conf_transport(j->conf, name);
    deliver_fn *agent = svc ? deliver_agent(svc->command) : NULL;
    if (agent == NULL || (agent == deliver_smtp && nexthop.n == 0)) {
        struct delivery_result res = { .outcome = OUTCOME_DEFERRED, .dsn = SPAN_LIT("4.3.5"), .relay = SPAN_LIT("none"),
                                       .reason = SPAN_LIT("mail system configuration error: best_mx_transport") };
        log_warn(env->log, "best_mx_transport = %s: no such transport, or one that would come back here", p->best_mx_transport);
        sched_report_all(env->sched, j, &res);
        sched_finish(env->sched, &j, SITE_NEUTRAL);
        return;
    }
    j->transport = svc;
    if (nexthop.n > 0)
        j->nexthop = nexthop; /* text of the snapshot, which the job holds */
    agent(env, j);
}

void deliver_smtp(struct deliver_env *env, struct job *j)
{
    struct smtp_conn *held = NULL;
    struct keep_rules keep = { .is_always = false };
    while (j) {
        struct smtp_request r;
        request_begin(&r, env, j);
        r.conn = held;
        request_run(&r);
        drop_worn_out(&r);
        held = r.conn;
        keep = keep_rules_of(&r);
        enum site_verdict v = r.any_sent ? SITE_OK : r.verdict;
        bool is_ours = r.wants_best_mx_transport;
        request_end(&r);
        if (is_ours) {
            hand_over(env, j);
            return; /* no connection is held: nobody was called */
        }
        if (held)
            j = sched_finish_next(env->sched, &j, v);
        else
            sched_finish(env->sched, &j, v);
    }
    park_or_close(env, &held, &keep);
}
