/*
 * Transports, destinations, flows and entries: what waits where, and what may start.
 *
 * dest.is_ready and transport.is_ready are functions of the other fields; dest_update_locked() recomputes them after any
 * change, so that sched_next() finds only what may start, in constant time.
 */
#include <sys/types.h>

#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

/* FNV-1a of the lower-cased address: senders that differ in case only are one. */
uint64_t sched_hash_address(struct span s)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)ascii_lower(s.p[i])) * UINT64_C(0x100000001b3);
    return h;
}

/* ---- transports ---- */

static bool list_names(const char *list, struct span name)
{
    struct span rest = span_cstr(list), item;
    bool braced;
    while (conf_list_next(&rest, &item, &braced))
        if (span_eq(item, name))
            return true;
    return false;
}

/* smtp(8), lmtp(8): fields that name the recipient go into the content, so each recipient needs a copy of its own. */
static bool has_recipient_fields(const struct conf_service *svc)
{
    for (const char *const *argv = svc->argv; argv != NULL && *argv != NULL; argv++)
        if (strncmp(*argv, "flags=", 6) == 0 && strpbrk(*argv + 6, "DO") != NULL)
            return true;
    return false;
}

static void transport_configure(struct sched *s, struct transport *t)
{
    struct span name = span_of(t->name, t->name_n);
    conf_unref(&t->conf);
    t->conf = conf_ref(s->conf);
    t->svc = conf_transport(t->conf, name);
    t->is_deferred = list_names(conf_global(t->conf)->defer_transports, name);
    if (t->svc == NULL)
        return;
    const struct transport_limits *l = &t->svc->limits;
    t->limits = (struct window_limits){
        .initial = l->initial_destination_concurrency < 1 ? 1 : (uint32_t)l->initial_destination_concurrency,
        .max = (uint32_t)l->destination_concurrency_limit,
        .failed_cohort_limit = (double)l->destination_concurrency_failed_cohort_limit,
    };
    /* A rate delay makes sense for one delivery at a time only. */
    if (l->destination_rate_delay_ms > 0)
        t->limits.max = t->limits.initial = 1;
    if (!feedback_parse(l->destination_concurrency_positive_feedback, &t->limits.positive))
        t->limits.positive = (struct feedback){ .number = 1 };
    if (!feedback_parse(l->destination_concurrency_negative_feedback, &t->limits.negative))
        t->limits.negative = (struct feedback){ .number = 1 };
    t->rcpt_limit = has_recipient_fields(t->svc) ? 1 : l->destination_recipient_limit;
    t->maxproc = t->svc->maxproc;
    t->dest_delay_ms = l->destination_rate_delay_ms;
    t->delay_ms = l->transport_rate_delay_ms;
}

struct transport *transport_get_locked(struct sched *s, struct span name)
{
    struct transport *t;
    HASH_FIND(hh, s->transports, name.p, name.n, t);
    if (t != NULL)
        return t;
    t = xcalloc(1, sizeof *t + name.n + 1);
    memcpy(t->name, name.p, name.n);
    t->name_n = name.n;
    transport_configure(s, t);
    HASH_ADD_KEYPTR(hh, s->transports, t->name, t->name_n, t);
    return t;
}

void transports_reload_locked(struct sched *s)
{
    struct transport *t, *tmp;
    HASH_ITER(hh, s->transports, t, tmp) {
        transport_configure(s, t);
        struct dest *d, *dtmp;
        HASH_ITER(hh, t->dests, d, dtmp) {
            window_clamp(&d->window, &t->limits);
            dest_update_locked(s, d);
        }
        transport_update_locked(s, t);
    }
}

static void dest_end_draining(struct sched *s, struct dest *d)
{
    if (!d->is_draining)
        return;
    d->is_draining = false;
    DL_DELETE2(s->draining, d, drain_prev, drain_next);
}

static void dest_free(struct sched *s, struct dest *d)
{
    struct transport *t = d->transport;
    if (d->is_idle) {
        DL_DELETE(s->idle_dests, d);
        s->n_idle_dests--;
    }
    dest_end_draining(s, d);
    heap_remove(&s->dest_timers, &d->timer);
    HASH_DEL(t->dests, d);
    free(d->dead_dsn);
    free(d->dead_reason);
    free(d->dead_mta);
    free(d);
}

void transports_free(struct sched *s)
{
    struct transport *t, *tmp;
    HASH_ITER(hh, s->transports, t, tmp) {
        struct dest *d, *dtmp;
        HASH_ITER(hh, t->dests, d, dtmp)
            dest_free(s, d);
        heap_remove(&s->transport_timers, &t->timer);
        HASH_DEL(s->transports, t);
        conf_unref(&t->conf);
        free(t);
    }
}

void transport_update_locked(struct sched *s, struct transport *t)
{
    int64_t now = t->delay_ms > 0 && t->not_before_ms > 0 ? clock_mono_ms() : INT64_MAX;
    bool may = t->ready != NULL && t->svc != NULL && (t->maxproc <= 0 || t->busy < t->maxproc) && now >= t->not_before_ms;
    if (may == t->is_ready)
        return;
    t->is_ready = may;
    if (may)
        DL_APPEND(s->ready, t);
    else
        DL_DELETE(s->ready, t);
}

/* ---- destinations ---- */

static void dest_unidle(struct sched *s, struct dest *d)
{
    if (!d->is_idle)
        return;
    DL_DELETE(s->idle_dests, d);
    d->is_idle = false;
    s->n_idle_dests--;
    if (!d->window.is_dead && clock_mono_ms() - d->idle_since_ms > SCHED_IDLE_MS)
        window_init(&d->window, &d->transport->limits);
}

void dest_update_locked(struct sched *s, struct dest *d)
{
    struct transport *t = d->transport;
    bool delayed = d->not_before_ms > 0 && clock_mono_ms() < d->not_before_ms;
    bool may = d->flows != NULL && !d->window.is_dead && !d->is_paused && d->busy < d->window.size && !delayed;
    if (may != d->is_ready) {
        d->is_ready = may;
        if (may)
            DL_APPEND(t->ready, d);
        else
            DL_DELETE(t->ready, d);
        transport_update_locked(s, t);
    }
}

void dest_release_locked(struct sched *s, struct dest *d)
{
    if (d->busy > 0 || d->flows != NULL || d->suspended > 0 || d->parked > 0 || d->is_idle)
        return;
    d->idle_since_ms = clock_mono_ms();
    d->is_idle = true;
    DL_APPEND(s->idle_dests, d);
    s->n_idle_dests++;
    if (s->n_idle_dests <= SCHED_IDLE_DESTS)
        return;
    for (int tries = 0; tries < 4 && s->n_idle_dests > SCHED_IDLE_DESTS; tries++) {
        struct dest *old = s->idle_dests;
        if (old->timer.slot == 0) {
            dest_free(s, old);
        } else { /* dead or delayed: there is something to remember */
            DL_DELETE(s->idle_dests, old);
            DL_APPEND(s->idle_dests, old);
        }
    }
}

/* With a recipient limit of 1, postconf(5) makes every per-destination limit one per recipient. */
static size_t dest_key(const struct transport *t, const struct msg_rcpt *r, char *out, size_t size, struct span *key)
{
    struct span hop = r->route.nexthop;
    if (t->rcpt_limit != 1 || r->addr.n + 1 + hop.n > size) {
        *key = hop;
        return 0;
    }
    memcpy(out, r->addr.p, r->addr.n);
    ascii_lower_buf(out, r->addr.n);
    out[r->addr.n] = '\0';
    memcpy(out + r->addr.n + 1, hop.p, hop.n);
    *key = span_of(out, r->addr.n + 1 + hop.n);
    return r->addr.n + 1;
}

struct dest *dest_find_locked(struct sched *s, const struct msg_rcpt *r)
{
    char text[1400];
    struct span key;
    struct transport *t;
    struct dest *d;
    HASH_FIND(hh, s->transports, r->route.transport.p, r->route.transport.n, t);
    if (t == NULL)
        return NULL;
    dest_key(t, r, text, sizeof text, &key);
    HASH_FIND(hh, t->dests, key.p, key.n, d);
    return d;
}

static struct dest *dest_get(struct transport *t, const struct msg_rcpt *r)
{
    char text[1400];
    struct span key;
    struct dest *d;
    size_t hop_at = dest_key(t, r, text, sizeof text, &key);
    HASH_FIND(hh, t->dests, key.p, key.n, d);
    if (d != NULL)
        return d;
    d = xcalloc(1, sizeof *d + key.n + 1);
    memcpy(d->key, key.p, key.n);
    d->key_n = key.n;
    d->nexthop = span_of(d->key + hop_at, key.n - hop_at);
    d->transport = t;
    window_init(&d->window, &t->limits);
    HASH_ADD_KEYPTR(hh, t->dests, d->key, d->key_n, d);
    return d;
}

/* ---- flows and entries ---- */

static struct flow *flow_find(struct sched *s, const struct dest *d, const struct flow_key *key)
{
    struct flow *f = NULL;
    if (d->is_own_used && d->own.key.sender == key->sender)
        return &key->dest->own;
    if (d->other_flows > 0)
        HASH_FIND(hh, s->flows, key, sizeof *key, f);
    return f;
}

struct flow *flow_find_locked(struct sched *s, const struct dest *d, struct span sender)
{
    struct flow_key key = { .dest = (struct dest *)(uintptr_t)d, .sender = sched_hash_address(sender) };
    return flow_find(s, d, &key);
}

struct flow *flow_get_locked(struct sched *s, struct dest *d, struct span sender)
{
    struct flow_key key = { .dest = d, .sender = sched_hash_address(sender) };
    struct flow *f = flow_find(s, d, &key);
    if (f != NULL)
        return f;
    if (!d->is_own_used) {
        f = &d->own;
        d->is_own_used = true;
        *f = (struct flow){ .key = key };
    } else {
        f = xcalloc(1, sizeof *f);
        f->key = key;
        HASH_ADD(hh, s->flows, key, sizeof key, f);
        d->other_flows++;
    }
    return f;
}

void flow_settle_locked(struct sched *s, struct flow *f)
{
    struct dest *d = f->key.dest;
    if (f->entries == NULL && f->is_in_ring) {
        f->is_in_ring = false;
        DL_DELETE(d->flows, f);
        if (d->flows == NULL) /* whoever took the last: the draining itself, a command, new routes after a reload */
            dest_end_draining(s, d);
    }
    if (f->parked != NULL || d->hungry > 0)
        park_look_locked(s, f);
    if (f->entries != NULL || f->parked != NULL)
        return;
    park_sated_locked(s, f);
    if (f == &d->own) {
        d->is_own_used = false;
    } else {
        HASH_DEL(s->flows, f);
        d->other_flows--;
        free(f);
    }
}

static struct entry *entry_new(struct sched *s, struct msg_sched *ms)
{
    struct entry *e;
    if (!ms->is_own_used) {
        e = &ms->own;
        *e = (struct entry){ .ms = ms };
        ms->is_own_used = true;
    } else {
        e = xcalloc(1, sizeof *e);
        e->ms = ms;
    }
    e->first = e->last = UINT32_MAX;
    DL_APPEND2(ms->entries, e, ms_prev, ms_next);
    s->n_entries++;
    return e;
}

/* Takes an empty or unwanted entry out of its lists and frees it. */
static void entry_free(struct sched *s, struct entry *e)
{
    struct msg_sched *ms = e->ms;
    struct dest *d = e->dest;
    if (e->flow != NULL) {
        DL_DELETE(e->flow->entries, e);
        e->flow->count--;
        d->entries--;
        flow_settle_locked(s, e->flow);
    } else {
        DL_DELETE(s->suspended, e);
        if (d != NULL)
            d->suspended--;
    }
    if (d != NULL && d->building == e)
        d->building = NULL;
    DL_DELETE2(ms->entries, e, ms_prev, ms_next);
    s->n_entries--;
    if (e == &ms->own)
        ms->is_own_used = false;
    else
        free(e);
}

/* The entry of this message to add to: the newest ones are looked at, so one that takes all recipients of a place is found. */
static struct entry *suspended_entry(struct sched *s, struct msg_sched *ms, struct dest *d, enum suspend_why why)
{
    struct entry *e = ms->entries ? ms->entries->ms_prev : NULL;
    if (e != NULL && e->flow == NULL && e->dest == d && e->why == why)
        return e;
    e = entry_new(s, ms);
    e->dest = d;
    e->why = (uint8_t)why;
    if (d != NULL)
        d->suspended++;
    DL_APPEND(s->suspended, e);
    sched_kick_locked(s);
    return e;
}

static struct entry *queued_entry(struct sched *s, struct msg_sched *ms, struct dest *d)
{
    if (d->building != NULL && d->building->ms == ms)
        return d->building;
    struct entry *e = entry_new(s, ms);
    e->dest = d;
    e->flow = flow_get_locked(s, d, ms->m->env.sender);
    DL_APPEND(e->flow->entries, e);
    e->flow->count++;
    if (!e->flow->is_in_ring) {
        e->flow->is_in_ring = true;
        DL_APPEND(d->flows, e->flow);
    }
    d->entries++;
    d->building = e;
    return e;
}

void sched_enqueue_locked(struct sched *s, struct msg_sched *ms, uint32_t i, struct after *a)
{
    struct msg_rcpt *r = &ms->m->env.rcpts[i];
    struct transport *t = transport_get_locked(s, r->route.transport);
    struct dest *d = NULL;
    struct entry *e;
    bool is_new = false;
    if (t->svc == NULL) {
        e = suspended_entry(s, ms, NULL, SUSPEND_NO_TRANSPORT);
    } else {
        d = dest_get(t, r);
        dest_unidle(s, d);
        if (s->pauses.n > 0 && (d->is_paused = sched_is_paused_locked(s, t, d))) {
            sched_park_locked(s, ms, i);
            dest_release_locked(s, d);
            return;
        }
        if (ms->is_reviving && d->window.is_dead)
            dest_revive_locked(s, d, a);
        if (t->is_deferred && !ms->is_forced) {
            e = suspended_entry(s, ms, d, SUSPEND_DEFER_TRANSPORTS);
        } else if (d->window.is_dead) {
            e = suspended_entry(s, ms, d, SUSPEND_DEAD);
        } else {
            e = queued_entry(s, ms, d);
            is_new = e->count == 0;
        }
    }
    ms->rx[i].next = UINT32_MAX;
    if (e->count++ == 0)
        e->first = i;
    else
        ms->rx[e->last].next = i;
    e->last = i;
    ms->rx[i].flags |= RX_QUEUED;
    ms->idle--;
    ms->queued++;
    if (is_new) {
        dest_update_locked(s, d);
        if (d->is_ready && t->is_ready)
            a->wake++;
    }
}

/* All queued recipients of the message are idle again (hold, delete, new routes). */
void sched_unqueue_message_locked(struct sched *s, struct msg_sched *ms)
{
    struct entry *e, *tmp;
    DL_FOREACH_SAFE2(ms->entries, e, tmp, ms_next) {
        struct dest *d = e->dest;
        for (uint32_t i = e->first; i != UINT32_MAX; i = ms->rx[i].next) {
            ms->rx[i].flags &= (uint8_t)~RX_QUEUED;
            ms->queued--;
            ms->idle++;
        }
        entry_free(s, e);
        if (d != NULL) {
            dest_update_locked(s, d);
            dest_release_locked(s, d);
        }
    }
}

static void count_start(struct sched *s, struct dest *d)
{
    struct transport *t = d->transport;
    d->busy++;
    t->busy++;
    s->n_busy_jobs++;
    /* At most one start per transport_rate_delay. */
    if (t->delay_ms > 0) {
        t->not_before_ms = clock_mono_ms() + t->delay_ms;
        heap_put(&s->transport_timers, &t->timer, t->not_before_ms);
        sched_kick_locked(s);
    }
    dest_update_locked(s, d);
    transport_update_locked(s, t);
}

/* How many of the entry's recipients go together, at most n. */
static uint32_t company(const struct msg_sched *ms, const struct entry *e, uint32_t n)
{
    uint32_t k = 1;
    if (!ms->has_alone || (ms->rx[e->first].flags & RX_ALONE))
        return ms->has_alone ? 1 : n;
    for (uint32_t i = ms->rx[e->first].next; k < n && !(ms->rx[i].flags & RX_ALONE); i = ms->rx[i].next)
        k++;
    return k;
}

struct sjob *job_from_entry_locked(struct sched *s, struct entry *e, uint32_t max, struct dest *count_at)
{
    struct msg_sched *ms = e->ms;
    struct dest *d = e->dest;
    uint32_t n = company(ms, e, max == 0 || max > e->count ? e->count : max);
    struct sjob *j = xcalloc(1, sizeof *j + n * sizeof *j->rcpts);
    j->pub.rcpts = j->rcpts;
    j->pub.rcpt_count = n;
    j->pub.sched_private = j;
    j->pub.msg = msg_ref(ms->m);
    j->pub.active_us = ms->active_us;
    j->ms = ms;
    j->dest = count_at;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = e->first;
        j->rcpts[k].index = i;
        e->first = ms->rx[i].next;
        ms->rx[i].flags &= (uint8_t)~RX_QUEUED;
        ms->m->env.rcpts[i].state = RCPT_BUSY;
    }
    e->count -= n;
    ms->queued -= n;
    ms->busy += n;
    ms->jobs++;
    if (e->count == 0) {
        entry_free(s, e);
    } else if (e->flow != NULL && e->next != NULL) {
        /* The rest of a large mailing goes behind the other messages of its sender. */
        DL_DELETE(e->flow->entries, e);
        DL_APPEND(e->flow->entries, e);
    }
    if (d != NULL && d->building == e)
        d->building = NULL;
    if (count_at != NULL)
        count_start(s, count_at);
    return j;
}

/* ---- how a destination fares ---- */

static void set_text(char **to, struct span v)
{
    free(*to);
    *to = xstrndup(v.p ? v.p : "", v.n);
}

static void dest_drain(struct sched *s, struct dest *d)
{
    if (d->flows == NULL || d->is_draining)
        return;
    d->is_draining = true;
    DL_APPEND2(s->draining, d, drain_prev, drain_next);
}

static void dest_die(struct sched *s, struct dest *d, const struct sjob *j)
{
    const struct params *p = sched_params_locked(s);
    bool known = j->last_reason.n > 0;
    set_text(&d->dead_dsn, known ? j->last_dsn : SPAN_LIT("4.4.1"));
    set_text(&d->dead_reason, known ? j->last_reason : SPAN_LIT("unavailable"));
    set_text(&d->dead_mta, j->last_mta);
    heap_put(&s->dest_timers, &d->timer, clock_mono_ms() + retry_jitter_ms(p->minimal_backoff_time, &s->rng));
    dest_drain(s, d);
    sched_kick_locked(s);
}

/* Wakes for what a wider window lets start. */
static void wake_for(struct dest *d, struct after *a)
{
    uint32_t room = d->window.size > d->busy ? d->window.size - d->busy : 0;
    if (d->is_ready && d->transport->is_ready)
        a->wake += room < d->entries ? room : d->entries;
}

void dest_pause_changed_locked(struct sched *s, struct dest *d, struct after *a)
{
    if (d->is_paused)
        dest_drain(s, d);
    else if (!d->window.is_dead)
        dest_end_draining(s, d);
    dest_update_locked(s, d);
    wake_for(d, a);
}

void dest_park_first_locked(struct sched *s, struct dest *d, struct after *a)
{
    struct entry *e = d->flows->entries;
    struct msg_sched *ms = e->ms;
    for (uint32_t i = e->first, next; i != UINT32_MAX; i = next) {
        next = ms->rx[i].next;
        ms->rx[i].flags &= (uint8_t)~RX_QUEUED;
        ms->queued--;
        ms->idle++;
        sched_park_locked(s, ms, i);
    }
    entry_free(s, e);
    dest_update_locked(s, d);
    dest_release_locked(s, d);
    ms_settle_locked(s, ms, a);
}

/* The end of a back-off, of a rate delay, or of both by command. */
void dest_revive_locked(struct sched *s, struct dest *d, struct after *a)
{
    if (d->window.is_dead)
        window_revive(&d->window, &d->transport->limits);
    heap_remove(&s->dest_timers, &d->timer);
    d->not_before_ms = 0;
    if (!d->is_paused)
        dest_end_draining(s, d);
    dest_update_locked(s, d);
    wake_for(d, a);
}

void dest_site_verdict_locked(struct sched *s, struct sjob *j, enum site_verdict v, struct after *a)
{
    struct dest *d = j->dest;
    struct transport *t = d->transport;
    uint32_t size = d->window.size, busy = d->busy;
    bool was_dead = d->window.is_dead;
    switch (v) {
    case SITE_OK: window_success(&d->window, &t->limits, busy); break;
    case SITE_UNAVAILABLE:
        if (window_failure(&d->window, &t->limits))
            dest_die(s, d, j);
        break;
    case SITE_NEUTRAL: break;
    }
    d->busy--;
    t->busy--;
    s->n_busy_jobs--;
    if (t->dest_delay_ms > 0 && !d->window.is_dead) {
        d->not_before_ms = clock_mono_ms() + t->dest_delay_ms;
        heap_put(&s->dest_timers, &d->timer, d->not_before_ms);
        sched_kick_locked(s);
    }
    if (was_dead && !d->window.is_dead) {
        dest_revive_locked(s, d, a);
    } else {
        dest_update_locked(s, d);
        /* This thread comes back for one job by itself; a window that grew lets another start. */
        if (d->window.size > size && d->is_ready && t->is_ready && d->entries > 1)
            a->wake++;
    }
    transport_update_locked(s, t);
}

void sched_timers_locked(struct sched *s, int64_t now_ms, struct after *a)
{
    struct heap_item *it;
    while ((it = heap_first(&s->dest_timers)) != NULL && it->key <= now_ms) {
        struct dest *d = (struct dest *)((char *)it - offsetof(struct dest, timer));
        dest_revive_locked(s, d, a);
        dest_release_locked(s, d);
    }
    while ((it = heap_first(&s->transport_timers)) != NULL && it->key <= now_ms) {
        struct transport *t = (struct transport *)((char *)it - offsetof(struct transport, timer));
        heap_remove(&s->transport_timers, it);
        t->not_before_ms = 0;
        transport_update_locked(s, t);
        if (t->is_ready)
            a->wake++;
    }
}
