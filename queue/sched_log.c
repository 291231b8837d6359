/*
 * The log lines of the queue manager, in Postfix's words (reference/wire-formats.md section 8), built in a stack buffer.
 */
#include "common/base/clock.h"
#include "common/conf/params.h"
#include "common/mail/address.h"
#include "queue/sched_internal.h"

/* Room for one line; what does not fit is cut. */
struct line {
    size_t n;
    char b[LOG_TEXT_MAX];
};

static void add(struct line *l, struct span s)
{
    size_t n = s.n < sizeof l->b - l->n ? s.n : sizeof l->b - l->n;
    if (n > 0)
        memcpy(l->b + l->n, s.p, n);
    l->n += n;
}

#define ADD_LIT(l, text) add((l), SPAN_LIT(text))

static void add_uint(struct line *l, uint64_t v)
{
    char t[24];
    size_t at = sizeof t;
    do
        t[--at] = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    add(l, span_of(t + at, sizeof t - at));
}

static void add_qid(struct line *l, const struct params *p, uint64_t id)
{
    char t[QID_TEXT_MAX];
    add(l, span_of(t, qid_format(id, p->enable_long_queue_ids, t)));
    ADD_LIT(l, ": ");
}

/* info_log_address_format: the envelope holds the internal form; the external one has quotes where they are needed. */
static void add_addr(struct line *l, const struct params *p, struct span a)
{
    struct span local, domain;
    if (a.n == 0 || p->info_log_address_format[0] == 'i' || (addr_split(a, &local, &domain) && addr_local_is_plain(local))) {
        add(l, a);
        return;
    }
    struct buf quoted = BUF_INIT(LOG_TEXT_MAX);
    addr_quote(&quoted, a);
    add(l, buf_span(&quoted));
    buf_free(&quoted);
}

static void add_to(struct line *l, const struct params *p, const char *label, struct span a)
{
    add(l, span_cstr(label));
    ADD_LIT(l, "<");
    add_addr(l, p, a);
    ADD_LIT(l, ">");
}

size_t log_format_delay(char out[32], int64_t us, int64_t max_decimals)
{
    static const int64_t unit[] = { 1000000, 100000, 10000, 1000, 100, 10, 1 };
    if (us < 0)
        us = 0;
    int decimals = us >= 10000000 ? 0 : us >= 1000000 ? 1 : us >= 100000 ? 2 : us >= 10000 ? 3 : us >= 1000 ? 4 : us >= 100 ? 5 : 6;
    if (decimals > max_decimals)
        decimals = (int)max_decimals;
    us = (us + unit[decimals] / 2) / unit[decimals] * unit[decimals];
    uint64_t whole = (uint64_t)us / 1000000, rest = (uint64_t)us % 1000000 / (uint64_t)unit[decimals];
    while (decimals > 0 && rest % 10 == 0) {
        rest /= 10;
        decimals--;
    }
    size_t at = 32;
    for (int i = 0; i < decimals; i++, rest /= 10)
        out[--at] = (char)('0' + rest % 10);
    if (decimals > 0)
        out[--at] = '.';
    do
        out[--at] = (char)('0' + whole % 10);
    while ((whole /= 10) > 0);
    memmove(out, out + at, 32 - at);
    return 32 - at;
}

static void add_delay(struct line *l, const struct params *p, char before, int64_t us)
{
    char t[33];
    t[0] = before;
    add(l, span_of(t, 1));
    add(l, span_of(t, log_format_delay(t, us, p->delay_logging_resolution_limit)));
}

static void put(const struct log_src *src, const struct line *l)
{
    log_text(src, LOG_LV_INFO, span_of(l->b, l->n));
}

void log_active(struct sched *s, const struct params *p, const struct msg *m)
{
    struct line l;
    l.n = 0;
    add_qid(&l, p, m->env.id);
    add_to(&l, p, "from=", m->env.sender);
    ADD_LIT(&l, ", size=");
    add_uint(&l, m->env.content_bytes);
    ADD_LIT(&l, ", nrcpt=");
    add_uint(&l, m->env.rcpt_count);
    ADD_LIT(&l, " (queue active)");
    put(&s->log, &l);
}

void log_simple(const struct log_src *src, const struct params *p, uint64_t id, const char *text)
{
    struct line l;
    l.n = 0;
    add_qid(&l, p, id);
    add(&l, span_cstr(text));
    put(src, &l);
}

void log_expired(struct sched *s, const struct params *p, const struct msg *m, bool is_forced)
{
    struct line l;
    l.n = 0;
    add_qid(&l, p, m->env.id);
    add_to(&l, p, "from=", m->env.sender);
    add(&l, is_forced ? SPAN_LIT(", status=force-expired, returned to sender") : SPAN_LIT(", status=expired, returned to sender"));
    put(&s->log, &l);
}

void log_delivery(struct sched *s, const struct job *j, uint32_t rcpt, const struct delivery_result *r, struct span dsn,
                  const char *status, int64_t now_us)
{
    const struct params *p = conf_global(j->conf);
    const struct envelope *e = &j->msg->env;
    const struct msg_rcpt *rc = &e->rcpts[rcpt];
    struct log_src src = s->log_error;
    struct line l;
    if (j->transport != NULL) {
        src.name = j->transport->p->syslog_name;
        src.prog = j->transport->command;
    }
    l.n = 0;
    add_qid(&l, p, e->id);
    add_to(&l, p, "to=", rc->addr);
    if (rc->orig.n > 0 && !span_ieq(rc->orig, rc->addr))
        add_to(&l, p, ", orig_to=", rc->orig);
    ADD_LIT(&l, ", relay=");
    add(&l, r->relay.n ? r->relay : SPAN_LIT("none"));
    if (r->conn_use > 1) {
        ADD_LIT(&l, ", conn_use=");
        add_uint(&l, r->conn_use);
    }
    ADD_LIT(&l, ", delay");
    add_delay(&l, p, '=', now_us - e->arrival_us);
    ADD_LIT(&l, ", delays");
    add_delay(&l, p, '=', j->active_us - e->arrival_us);
    add_delay(&l, p, '/', j->taken_us - j->active_us);
    add_delay(&l, p, '/', r->conn_us);
    add_delay(&l, p, '/', r->xfer_us);
    ADD_LIT(&l, ", dsn=");
    add(&l, dsn);
    ADD_LIT(&l, ", status=");
    add(&l, span_cstr(status));
    ADD_LIT(&l, " (");
    struct span reason = r->reason;
    if (reason.n > sizeof l.b - l.n - 1) /* cut, but closed */
        reason.n = sizeof l.b - l.n - 1;
    add(&l, reason);
    ADD_LIT(&l, ")");
    put(&src, &l);
}

void sched_log_probe(struct sched *s, const struct job *j, const struct delivery_result *r, const char *status)
{
    log_delivery(s, j, 0, r, r->dsn, status, clock_wall_us());
}
