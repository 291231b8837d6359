/*
 * The SMTP and LMTP delivery agent: one job after another on the connection it holds.
 *
 * For each job: the connection held, else one parked for the next hop, else the hosts of each next hop in turn. A host
 * that fails for now is followed by the next one, until the session limit; what is left then gets the last failure.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/dest.h"
#include "daemon/deliver/trace_headers.h"
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
    if (r->copy_flags & (COPY_DELIVERED_TO | COPY_ORIGINAL_TO | COPY_RETURN_PATH))
        trace_headers_add(&r->extra, r->copy_flags, &j->msg->env, &j->msg->env.rcpts[j->rcpts[0].index], "\r\n");
}

static void request_end(struct smtp_request *r)
{
    if (r->has_view)
        content_release(&r->view);
    if (r->mark != r->mark_inline)
        free(r->mark);
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
    if (!(r->copy_flags & COPY_DELIVERED_TO))
        return false;
    if (!r->has_view && !content_acquire(r->env->spool, r->job->msg, &r->view, &e)) {
        log_warn(&r->log, "cannot read the content of a message: %s", e.text);
        fail_words(r, "4.3.0", "local data error");
        return true;
    }
    r->has_view = true;
    if (!trace_headers_has_delivered_to(span_of(r->view.p, r->view.n), addr))
        return false;
    fail_words(r, "5.4.6", "mail forwarding loop for %.*s", SPAN_ARG(addr));
    return true;
}

/* ---- destinations ---- */

static bool target_of_dest(struct smtp_request *r, const struct dest *d, struct smtp_target *t, char name[static 300])
{
    struct err e = ERR_INIT;
    *t = (struct smtp_target){ .host = r->p->myhostname, .path = d->path };
    if (d->is_unix)
        return true;
    struct span service = d->service.n > 0 ? d->service : span_cstr(r->cp->tcp_port);
    if (!dest_port(service, span_cstr(r->p->known_tcp_ports), &t->port, &e)) {
        fail_words(r, "4.3.5", "%s", e.text);
        return false;
    }
    snprintf(name, 300, "%.*s", SPAN_ARG(d->host));
    t->host = name;
    t->addr = d->ip;
    if (d->ip.family == IP_NONE) {
        fail_words(r, "4.4.3", "no host lookup yet for %s", name);
        return false;
    }
    return true;
}

static void try_destination(struct smtp_request *r, struct span text, bool is_last)
{
    struct dest d;
    struct err e = ERR_INIT;
    struct smtp_target t;
    char name[300];
    if (!dest_parse(text, &d, &e)) {
        fail_words(r, "4.3.5", "bad next hop: %s", e.text);
        return;
    }
    if (!target_of_dest(r, &d, &t, name))
        return;
    r->is_last_host = is_last;
    if (!connect_target(r, &t))
        return;
    if (!use_connection(r) && r->left > 0) {
        if (connect_target(r, &t))
            (void)use_connection(r);
    }
}

static void try_destinations(struct smtp_request *r)
{
    struct span rest = r->job->nexthop, text;
    while (r->left > 0 && span_next_token(&rest, ", \t\r\n", &text))
        try_destination(r, text, span_trim(rest).n == 0);
    if (r->left > 0 && !r->fail.is_set)
        fail_words(r, "4.3.5", "no usable next hop in \"%.*s\"", SPAN_ARG(r->job->nexthop));
}

static void request_run(struct smtp_request *r)
{
    char key[CONN_KEY_MAX];
    if (!is_delivery_loop(r)) {
        if (r->conn == NULL && conn_key_nexthop(r, key))
            r->conn = conn_cache_take(r->env->conn_cache, CONN_KEY_NEXTHOP, key);
        if (r->conn) {
            r->is_reused = true;
            (void)use_connection(r);
        }
        if (r->left > 0)
            try_destinations(r);
    }
    report_left_failed(r);
}

/* ---- the connection afterwards ---- */

static bool is_in_list(const char *list, struct span word)
{
    struct span rest = span_cstr(list), item;
    while (span_next_token(&rest, ", \t\r\n", &item))
        if (span_ieq(item, word))
            return true;
    return false;
}

static struct keep_rules keep_rules_of(const struct smtp_request *r)
{
    const struct client_params *cp = r->cp;
    bool is_off = r->is_lmtp && !cp->cache_connection;
    return (struct keep_rules){
        .is_always = !is_off && is_in_list(cp->connection_cache_destinations, r->job->nexthop),
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
        request_end(&r);
        if (held)
            j = sched_finish_next(env->sched, &j, v);
        else
            sched_finish(env->sched, &j, v);
    }
    park_or_close(env, &held, &keep);
}
