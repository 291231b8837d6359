/*
 * Order of start, and why:
 *   configuration, policy      nothing is touched when they are wrong
 *   log, descriptors, ports    as root: log file, RLIMIT_NOFILE, ports below 1024
 *   notices                    they are collected from here on; the thread that sends them comes with the spool's
 *   mail_owner                 from here on an ordinary user
 *   spool                      its lock keeps a second daemon out
 *   dns, scheduler, pool       the scheduler must be there before the spool gives it what it recovered
 *   spool threads              recovered messages arrive at the scheduler
 *   reactor, listeners         only now can mail come in
 *   control, pickup            only now can anybody ask, or maildrop/ be looked at
 * Stop is the reverse, except that the reactor drains first (clients get their replies while the committer still runs) and
 * the spool's threads stop after the last delivery thread has written its results.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/conf/conf_status.h"
#include "common/conf/params.h"
#include "daemon/daemon.h"
#include "daemon/deliver/tables.h"
#include "daemon/descriptors.h"
#include "daemon/last_words.h"
#include "daemon/logging.h"
#include "daemon/own_inspect.h"
#include "daemon/own_report.h"
#include "daemon/postmaster.h"
#include "daemon/smtp/conn_cache.h"
#include "queue/index.h"

#define SMTPD_DRAIN_MS 10000
#define DELIVERY_DRAIN_MS 20000
#define RELOAD_WAIT_MS 60000
#define PROBE_DRAIN_MS 3000

struct policy *daemon_policy(struct daemon *d)
{
    lock_take(&d->m);
    struct policy *p = policy_ref(d->policy);
    lock_drop(&d->m);
    return p;
}

static void print_report(const struct conf_report *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct conf_finding *f = &r->items[i];
        const char *level = f->severity == CONF_ERROR ? "error" : "warning";
        if (f->severity == CONF_NOTE)
            continue;
        if (f->file != NULL && f->line > 0)
            fprintf(stderr, "posthoused: %s: %s, line %d: %s\n", level, f->file, f->line, f->text);
        else if (f->file != NULL)
            fprintf(stderr, "posthoused: %s: %s: %s\n", level, f->file, f->text);
        else
            fprintf(stderr, "posthoused: %s: %s\n", level, f->text);
    }
}

static void name_idle_cb(void *arg, const struct conf_idle_setting *s)
{
    struct buf *names = arg;
    if (s->class != PARAM_CLASS_NOT_YET)
        return;
    buf_puts(names, names->n > 0 ? ", " : "");
    buf_puts(names, s->name);
}

void daemon_tell_idle_settings(struct daemon *d)
{
    struct buf names = BUF_INIT(1500);
    conf_each_idle_setting(d->conf, name_idle_cb, &names);
    if (names.n > 0)
        log_warn(&d->src, "not in effect in this version: %s%s (posthousectl check)", buf_cstr(&names), names.overflow ? ", ..." : "");
    buf_free(&names);
}

/* Both or neither. */
static bool load_snapshot(struct daemon *d, struct conf_report *report, struct conf **c, struct policy **p)
{
    struct conf_options o = { .dir = d->conf_dir };
    *c = conf_load(&o, report);
    if (*c == NULL)
        return false;
    struct policy_options po = { .conf = *c, .previous = d->policy, .report = report, .log = &d->policy_src };
    *p = policy_compile(&po);
    if (*p == NULL)
        conf_unref(c);
    return *p != NULL;
}

bool daemon_configure(struct daemon *d)
{
    struct conf_report report = { 0 };
    bool ok = load_snapshot(d, &report, &d->conf, &d->policy);
    print_report(&report);
    conf_report_free(&report);
    return ok;
}

static struct log_src source(struct daemon *d, const char *prog)
{
    return (struct log_src){ .log = d->log, .name = d->syslog_name, .prog = prog, .pid = (unsigned)getpid() };
}

static void make_sources(struct daemon *d)
{
    d->src = source(d, "master");
    d->qmgr_src = source(d, "qmgr");
    d->spool_src = source(d, "spool");
    d->dns_src = source(d, "dns");
    d->policy_src = source(d, "smtpd");
    d->smtp_src = source(d, "smtp");
    d->verify_src = source(d, "verify");
}

static bool open_log(struct daemon *d, struct err *e)
{
    struct log_options lo;
    if (!logging_options(d->conf, d->in_foreground, &lo, e))
        return false;
    d->log = log_open(&lo, e);
    if (d->log == NULL)
        return false;
    if (lo.dest == LOG_TO_FILE && d->owner.is_root && chown(lo.path, d->owner.uid, (gid_t)-1) != 0) {
        /* /dev/stdout and the like: the descriptor is open already */
    }
    d->syslog_name = xstrdup(conf_global(d->conf)->syslog_name);
    make_sources(d);
    index_log_errors(&d->spool_src);
    last_words_from(&d->src);
    return true;
}

/* Several users' Maildirs need the right to become those users. */
static bool needs_setuid(struct conf *c)
{
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *s = conf_service(c, i);
        if (s->role == SVC_TRANSPORT && strcmp(s->command, "virtual") == 0 && s->p->virtual_mailbox_maps[0] != '\0')
            return true;
    }
    return false;
}

static struct conf *conf_cb(void *arg)
{
    struct daemon *d = arg;
    lock_take(&d->m);
    struct conf *c = conf_ref(d->conf);
    lock_drop(&d->m);
    return c;
}

static bool open_spool(struct daemon *d, struct err *e)
{
    struct log_src src = source(d, "notice");
    struct own_policy x = own_policy_of(d);
    d->notices = notices_new(&src, conf_cb, d, &x);
    const struct params *p = conf_global(d->conf);
    struct spool_options o = {
        .dir = p->queue_directory, .segment_bytes = p->journal_segment_size,
        .buffer_limit_bytes = p->spool_message_buffer_limit, .memory_limit_bytes = p->spool_memory_limit,
        .minfree_bytes = p->queue_minfree, .index_flush_ms = p->index_flush_interval, .create = true,
        .log = &d->spool_src, .trouble = postmaster_spool_trouble, .trouble_arg = d->notices,
    };
    return spool_open(&o, &d->spool, e) == SPOOL_OPEN_OK;
}

/* A port that is taken is most often taken by this very daemon, started twice. */
static bool prepare_listeners(struct daemon *d, struct err *e)
{
    struct err in_use = ERR_INIT;
    if (listeners_prepare(d->listeners, d->conf, e))
        return true;
    if (e->sys == EADDRINUSE && spool_is_in_use(conf_global(d->conf)->queue_directory, &in_use))
        err_prefix(e, "posthoused runs already (%s)", in_use.text);
    return false;
}

bool daemon_prepare(struct daemon *d, struct err *e)
{
    const struct params *p = conf_global(d->conf);
    d->listeners = listeners_new();
    if (!owner_find(p->mail_owner, &d->owner, e) || !open_log(d, e))
        return false;
    d->sessions_max = descriptors_prepare((unsigned)p->session_limit, (unsigned)p->delivery_threads, &d->src);
    return prepare_listeners(d, e) &&
           owner_make_dir(&d->owner, "queue_directory", p->queue_directory, 0700, e) &&
           owner_make_dir(&d->owner, "data_directory", p->data_directory, 0700, e) &&
           (!d->owner.is_root || pickup_make_maildrop(p->queue_directory, p->setgid_group, d->owner.uid, d->owner.gid, e)) &&
           owner_become(&d->owner, needs_setuid(d->conf), e) && open_spool(d, e);
}

/* ---- what joins queue and policy ---- */

static int resolve_cb(void *arg, struct conf *c, struct span sender, struct span filter, struct msg_rcpt *r, struct arena *a, struct span *dsn,
                      struct span *why)
{
    struct daemon *d = arg;
    struct policy *p = daemon_policy(d);
    struct route route;
    struct err e = ERR_INIT;
    int answer = -1;
    (void)c; /* the scheduler follows the same snapshot: daemon_reload() changes both */
    if (filter.n > 0) {
        route_filter(p, filter, r->addr, a, &r->route.transport, &r->route.nexthop);
        answer = 0;
    } else if (route_way(p, sender, r->addr, a, &route, &e) == LOOKUP_FOUND) {
        r->addr = route.recipient;
        r->route.transport = route.transport;
        r->route.nexthop = route.nexthop;
        answer = 0;
    } else {
        *dsn = SPAN_LIT("4.3.0");
        *why = arena_dup_span(a, span_cstr(e.text));
    }
    policy_unref(&p);
    return answer;
}

static bool routing_may_wait_cb(void *arg, struct conf *c)
{
    struct policy *p = daemon_policy(arg);
    bool may = policy_routing_may_wait(p);
    (void)c; /* see resolve_cb() */
    policy_unref(&p);
    return may;
}

static void wake_cb(void *arg, unsigned count)
{
    struct daemon *d = arg;
    deliver_pool_wake(d->pool, count);
}

/* ---- start ---- */

static struct policy *policy_cb(void *arg)
{
    return daemon_policy(arg);
}

static struct policy *verifier_policy_cb(void *arg)
{
    struct prober *q = arg;
    return q->policy(q->arg);
}

/* Between spool and scheduler: see pickup.h. */
static bool make_pickup(struct daemon *d, struct err *e)
{
    const struct params *p = conf_global(d->conf);
    struct pickup_options o = {
        .queue_dir = p->queue_directory, .setgid_group = p->setgid_group, .sched = d->sched,
        .env = { .spool = d->spool, .log = &d->src, .conf = conf_cb, .policy = policy_cb, .report = own_report_cb, .arg = d },
    };
    d->pickup = pickup_new(&o, e);
    return d->pickup != NULL;
}

static void notice_cb(void *arg, const struct notice *x)
{
    notices_post(arg, x);
}

static bool start_queue(struct daemon *d, struct err *e)
{
    const struct params *p = conf_global(d->conf);
    char *pauses_path = xasprintf("%s/paused", p->queue_directory);
    struct sched_options so = { .spool = d->spool, .conf = d->conf, .log = &d->qmgr_src, .resolve = resolve_cb, .may_wait = routing_may_wait_cb,
                                .resolve_arg = d, .own = own_policy_of(d), .wake = wake_cb, .wake_arg = d, .pauses_path = pauses_path };
    d->sched = sched_new(&so, e);
    free(pauses_path);
    if (d->sched == NULL)
        return false;
    d->conn_cache = conn_cache_new();
    d->tables = deliver_tables_new(policy_tables(d->policy), &d->smtp_src);
    d->deliver_env = (struct deliver_env){ .sched = d->sched, .spool = d->spool, .dns = d->dns, .log = &d->smtp_src,
                                           .conn_cache = d->conn_cache, .tables = d->tables,
                                           .notices = d->notices, .notice = notice_cb,
                                           .trouble = postmaster_resource_trouble };
    d->prober = (struct prober){ .env = &d->deliver_env, .policy = policy_cb, .arg = d };
    struct verifier_options vo = { .policy = verifier_policy_cb, .probe = probe_run, .arg = &d->prober, .log = &d->verify_src };
    d->verifier = verifier_new(&vo);
    d->pool = deliver_pool_new(&d->deliver_env, (unsigned)p->delivery_threads, e);
    if (d->pool == NULL || !make_pickup(d, e))
        return false;
    struct spool_sink sink = { .committed = pickup_committed, .arg = d->pickup };
    if (!spool_start(d->spool, &sink, e))
        return false;
    pickup_recover(d->pickup);
    int rc = sched_start(d->sched);
    if (rc == 0)
        rc = notices_start(d->notices, d->spool);
    if (rc != 0)
        err_set_sys(e, rc, "starting the threads of the queue");
    return rc == 0;
}

static bool start_dns(struct daemon *d, struct err *e)
{
    const struct params *p = conf_global(d->conf);
    struct dns_options o = { .resolvers = p->dns_resolver_addresses, .timeout_ms = (int)p->dns_timeout, .log = &d->dns_src };
    d->dns = dns_start(&o, e);
    return d->dns != NULL;
}

/* Overload: nine tenths of the session limit are in use. */
static bool is_stressed_cb(void *arg)
{
    struct daemon *d = arg;
    return d->reactor != NULL && reactor_is_crowded(d->reactor);
}

static void *make_service_cb(void *arg, const struct conf_service *svc, struct err *e)
{
    return smtpd_service_new(svc, arg, e);
}

static void release_service_cb(void *made)
{
    struct smtpd_service *v = made;
    smtpd_service_unref(&v);
}

static bool commit_listeners(struct daemon *d, struct conf *c, struct policy *p, struct err *e)
{
    struct listener_maker mk = { .make = make_service_cb, .release = release_service_cb, .arg = p };
    return listeners_commit(d->listeners, c, d->reactor, &mk, e);
}

static void flush_cb(void *arg, struct span nexthop)
{
    struct daemon *d = arg;
    sched_flush_nexthop(d->sched, nexthop);
}

static bool start_reactor(struct daemon *d, struct err *e)
{
    const struct params *p = conf_global(d->conf);
    d->smtpd_env = (struct smtpd_env){ .spool = d->spool, .dns = d->dns, .log = d->log, .verifier = d->verifier, .clients = client_counts_new(CLIENT_COUNT_MAX),
                                       .is_stressed = is_stressed_cb, .stress_arg = d, .resume = sess_resume, .will_block = reactor_will_block,
                                       .notice = notice_cb, .notice_arg = d->notices, .flush = flush_cb, .flush_arg = d,
                                       .report = own_report_cb, .report_arg = d };
    smtpd_limits_init(&d->smtpd_env);
    client_counts_set_window(d->smtpd_env.clients, p->anvil_rate_time_unit);
    unsigned workers = p->default_process_limit < d->sessions_max ? (unsigned)p->default_process_limit : d->sessions_max;
    struct reactor_options ro = { .workers = workers, .session_limit = d->sessions_max,
                                  .create = smtpd_create, .create_arg = &d->smtpd_env, .log = &d->src,
                                  .trouble = postmaster_resource_trouble, .trouble_arg = d->notices };
    d->reactor = reactor_new(&ro, e);
    if (d->reactor == NULL)
        return false;
    int rc = reactor_start(d->reactor);
    if (rc != 0) {
        err_set_sys(e, rc, "starting worker threads");
        return false;
    }
    return commit_listeners(d, d->conf, d->policy, e);
}

/* ---- control ---- */

static void order(struct daemon *d, char what)
{
    if (write(d->order_pipe[1], &what, 1) != 1) { /* the pipe is full of orders already */ }
}

static void stop_cb(void *arg)
{
    order(arg, 't');
}

/* On a control thread: main reloads, this waits. */
static bool reload_cb(void *arg, struct buf *text)
{
    struct daemon *d = arg;
    int64_t deadline = clock_mono_ms() + RELOAD_WAIT_MS;
    lock_take(&d->m);
    unsigned mine = ++d->reloads_asked;
    order(d, 'h');
    while (d->reloads_done < mine && !d->is_stopping && cond_wait_until(&d->reload_done, &d->m, deadline)) { }
    bool is_done = d->reloads_done >= mine, ok = is_done && d->reload_ok;
    if (!is_done && d->is_stopping)
        buf_puts(text, "posthoused is stopping\n");
    else if (!is_done)
        buf_printf(text, "no outcome within %d seconds: see the log\n", RELOAD_WAIT_MS / 1000);
    else
        buf_add_span(text, buf_span(&d->reload_text));
    lock_drop(&d->m);
    return ok;
}

void daemon_reload_begins(struct daemon *d)
{
    lock_take(&d->m);
    d->reloads_begun = d->reloads_asked;
    lock_drop(&d->m);
}

/* No reload comes any more: who waits for one is told, so that the control threads can end. */
static void refuse_reloads(struct daemon *d)
{
    lock_take(&d->m);
    d->is_stopping = true;
    cond_broadcast(&d->reload_done);
    lock_drop(&d->m);
}

void daemon_reload_over(struct daemon *d, bool ok, const struct buf *text)
{
    lock_take(&d->m);
    d->reload_ok = ok;
    buf_reset(&d->reload_text);
    buf_add_span(&d->reload_text, buf_span(text));
    d->reloads_done = d->reloads_begun;
    cond_broadcast(&d->reload_done);
    lock_drop(&d->m);
}

/* Returns how many. */
static size_t gather_limits(struct daemon *d)
{
    size_t n = 0;
    d->limits[n++] = reactor_session_limit(d->reactor);
    d->limits[n++] = spool_memory_limit(d->spool);
    d->limits[n++] = verifier_limit(d->verifier);
    for (int i = 0; i < SMTPD_LIMITS; i++)
        d->limits[n++] = &d->smtpd_env.limits[i];
    return n;
}

bool daemon_start_control(struct daemon *d, struct err *e)
{
    size_t limit_count = gather_limits(d);
    const struct params *p = conf_global(d->conf);
    struct control_options o = {
        .socket_path = p->control_socket, .queue_dir = p->queue_directory, .conf_dir = d->conf_dir,
        .started_us = d->started_us, .sched = d->sched, .spool = d->spool, .verifier = d->verifier, .reactor = d->reactor, .limits = d->limits,
        .limit_count = limit_count, .log = &d->src,
        .conf = conf_cb, .policy = policy_cb, .report = own_report_cb, .reload = reload_cb, .stop = stop_cb, .arg = d,
    };
    d->control = control_start(&o, e);
    if (d->control == NULL)
        return false;
    int rc = pickup_start(d->pickup);
    if (rc != 0)
        err_set_sys(e, rc, "starting the pickup thread");
    return rc == 0;
}

bool daemon_start(struct daemon *d, struct err *e)
{
    int rc = log_start(d->log);
    if (rc != 0) {
        err_set_sys(e, rc, "starting the log thread");
        return false;
    }
    return start_dns(d, e) && start_queue(d, e) && start_reactor(d, e) && daemon_start_control(d, e);
}

/* ---- reload ---- */

bool daemon_reload(struct daemon *d, struct conf_report *report, struct err *e)
{
    struct conf *c = NULL;
    struct policy *p = NULL;
    struct log_options lo;
    if (!load_snapshot(d, report, &c, &p)) {
        err_set(e, "the new configuration has errors: the running one stays in force");
        return false;
    }
    if (!logging_options(c, d->in_foreground, &lo, e) || !listeners_prepare(d->listeners, c, e) ||
        !commit_listeners(d, c, p, e)) {
        err_prefix(e, "the running configuration stays in force");
        policy_unref(&p);
        conf_unref(&c);
        return false;
    }
    struct err why = ERR_INIT;
    if (!log_reopen(d->log, &lo, &why))
        log_warn(&d->src, "%s: the log goes on where it went before", why.text);
    const struct params *g = conf_global(c);
    struct dns_options dopt = { .resolvers = g->dns_resolver_addresses, .timeout_ms = (int)g->dns_timeout, .log = &d->dns_src };
    if (!dns_reconfigure(d->dns, &dopt, &why))
        log_warn(&d->src, "%s: the resolvers stay as they were", why.text);
    lock_take(&d->m);
    struct conf *old_c = d->conf;
    struct policy *old_p = d->policy;
    d->conf = c;
    d->policy = p;
    lock_drop(&d->m);
    sched_reconfigure(d->sched, c);
    client_counts_set_window(d->smtpd_env.clients, g->anvil_rate_time_unit);
    d->clients_due_ms = 0;
    policy_unref(&old_p);
    conf_unref(&old_c);
    return true;
}

/* ---- in between ---- */

int64_t daemon_look_at_clients(struct daemon *d)
{
    int64_t now = clock_mono_ms(), every = conf_global(d->conf)->anvil_status_update_time;
    if (d->clients_due_ms == 0)
        d->clients_due_ms = now + every;
    if (now >= d->clients_due_ms) {
        client_counts_status(d->smtpd_env.clients, &d->src);
        d->clients_due_ms = now + every;
    }
    return d->clients_due_ms - now;
}

/* ---- stop ---- */

bool daemon_stop(struct daemon *d)
{
    bool all_ended = true;
    refuse_reloads(d);
    if (d->verifier != NULL)
        verifier_halt(d->verifier); /* who waits for a probe is answered without it */
    control_stop(&d->control);
    pickup_stop(d->pickup);
    if (d->dns != NULL)
        dns_hurry(d->dns); /* neither sessions nor deliveries wait for dead resolvers now */
    if (d->reactor != NULL && !reactor_drain(d->reactor, clock_mono_ms() + SMTPD_DRAIN_MS))
        log_warn(&d->src, "some SMTP sessions did not end within %d seconds", SMTPD_DRAIN_MS / 1000);
    if (d->smtpd_env.clients != NULL)
        client_counts_status(d->smtpd_env.clients, &d->src);
    if (d->sched != NULL)
        sched_end_jobs(d->sched); /* else a thread goes on as long as there is mail for the connection it holds */
    if (d->pool != NULL)
        all_ended = deliver_pool_stop(d->pool, clock_mono_ms() + DELIVERY_DRAIN_MS);
    if (!all_ended)
        log_warn(&d->src, "some deliveries did not end within %d seconds: their messages stay queued",
                 DELIVERY_DRAIN_MS / 1000);
    if (d->verifier != NULL && !verifier_stop(d->verifier, clock_mono_ms() + PROBE_DRAIN_MS))
        all_ended = false; /* a probe waits for a host that does not answer: it is left behind, and everything with it */
    notices_stop(d->notices);
    if (d->sched != NULL && !sched_stop(d->sched)) {
        log_warn(&d->src, "a look-up for the routing of queued mail did not end in time: the mail stays queued");
        all_ended = false;
    }
    if (d->spool != NULL)
        spool_stop(d->spool);
    if (!all_ended)
        return false;
    if (d->dns != NULL)
        dns_halt(d->dns); /* like the spool: no session may be freed while a callback is owed to it */
    reactor_free(&d->reactor);
    verifier_free(&d->verifier);
    dns_stop(&d->dns); /* until here a session may have asked */
    client_counts_free(&d->smtpd_env.clients);
    deliver_pool_free(&d->pool);
    conn_cache_free(&d->conn_cache);
    deliver_tables_free(&d->tables);
    pickup_free(&d->pickup);
    sched_free(&d->sched);
    spool_close(&d->spool);
    notices_free(&d->notices);
    listeners_free(&d->listeners);
    policy_unref(&d->policy);
    conf_unref(&d->conf);
    return true;
}
