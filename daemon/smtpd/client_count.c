/*
 * Shards of open hash chains. An entry whose window has passed and that has no connection is removed when a chain is
 * walked for another reason, by a slow sweep of one bucket per new entry, and by client_counts_status().
 *
 * Keys come from strangers (an IPv6 client has as many addresses as it wants), so the hash is keyed: nobody can choose some
 * that share a chain. Accounts and domains are kept as 128 bits of such a hash, so that all entries have one size.
 *
 * The worst are kept per shard, under its lock, with a text that is made only when somebody becomes the worst.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "daemon/smtpd/client_count.h"

#define SHARDS 16
#define BUCKETS 4096 /* per shard */
#define EVICT_BUCKETS 64 /* looked at for a rate to forget when the table is full */
#define WHO_TEXT_MAX 120

struct entry {
    struct entry *next;
    struct count_key key;
    uint32_t connections;
    uint32_t unnamed; /* of these */
    uint32_t connect_rate;
    uint32_t events[CLIENT_EVENTS];
    int64_t window_end_ms;
};

/* What status lines are about, in anvil's order. */
enum metric { METRIC_RATE, METRIC_COUNT, METRIC_EVENT, METRICS = METRIC_EVENT + CLIENT_EVENTS };

struct worst {
    uint32_t value; /* 0: nobody */
    struct count_key key;
    int64_t when_s; /* wall clock */
    char who[WHO_TEXT_MAX];
};

struct shard {
    struct lock m;
    struct entry *buckets[BUCKETS];             /* guarded by m */
    unsigned sweep;                             /* guarded by m */
    struct worst worst[COUNT_KINDS][METRICS];   /* guarded by m */
};

struct client_counts {
    atomic_uint entries;
    atomic_uint entries_max;   /* since the last status */
    _Atomic int64_t entries_max_s;
    _Atomic int64_t window_ms;
    unsigned max;     /* immutable */
    uint64_t key[4];  /* immutable: random */
    struct shard shards[SHARDS];
};

struct client_counts *client_counts_new(unsigned max)
{
    struct client_counts *c = xcalloc(1, sizeof *c);
    c->max = max;
    c->window_ms = 60000;
    (void)!getrandom(c->key, sizeof c->key, 0);
    for (int i = 0; i < SHARDS; i++)
        lock_init(&c->shards[i].m, LOCK_SESSION_TABLE);
    return c;
}

void client_counts_free(struct client_counts **cp)
{
    struct client_counts *c = *cp;
    if (c == NULL)
        return;
    for (int i = 0; i < SHARDS; i++) {
        for (int b = 0; b < BUCKETS; b++)
            for (struct entry *e = c->shards[i].buckets[b], *next; e != NULL; e = next) {
                next = e->next;
                free(e);
            }
        lock_destroy(&c->shards[i].m);
    }
    free(c);
    *cp = NULL;
}

void client_counts_set_window(struct client_counts *c, int64_t window_ms)
{
    atomic_store_explicit(&c->window_ms, window_ms, memory_order_relaxed);
}

/* ---- keys ---- */

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

struct count_who count_client(uint32_t service, const char *name, const struct ip_addr *a, unsigned v4_bits, unsigned v6_bits)
{
    unsigned bits = a->family == IP_V6 ? v6_bits : v4_bits;
    struct ip_net net = ip_net_of(a, a->family == IP_NONE ? 0 : bits);
    struct count_who w = { .service = name, .key = { .service = service, .kind = COUNT_CLIENT, .family = a->family, .bits = (uint8_t)bits } };
    memcpy(w.key.b, net.addr.b, sizeof w.key.b);
    return w;
}

struct count_who count_text(const struct client_counts *c, enum count_kind kind, uint32_t service, const char *name, struct span text)
{
    struct count_who w = { .service = name, .text = text, .key = { .service = service, .kind = (uint8_t)kind } };
    uint64_t h[2] = { c->key[2], c->key[3] };
    for (size_t at = 0; at <= text.n; at += 8) { /* the length is in the last word */
        unsigned char word[8] = { 0 };
        uint64_t v;
        for (size_t i = 0; i < 8 && at + i < text.n; i++)
            word[i] = (unsigned char)ascii_lower(text.p[at + i]);
        memcpy(&v, word, sizeof v);
        v ^= text.n << 56;
        h[0] = fold(h[0] ^ v, c->key[0] | 1);
        h[1] = fold(h[1] ^ v, c->key[1] | 1);
    }
    memcpy(w.key.b, h, sizeof h);
    return w;
}

static bool same_key(const struct count_key *a, const struct count_key *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static struct shard *shard_of(struct client_counts *c, const struct count_key *k, unsigned *bucket)
{
    uint64_t w[3];
    memcpy(w, k, sizeof w);
    uint64_t h = fold(fold(w[0] ^ c->key[0], w[1] ^ c->key[1]) ^ c->key[2], w[2] ^ c->key[3]);
    uint32_t half = (uint32_t)(h ^ h >> 32);
    *bucket = half / SHARDS % BUCKETS;
    return &c->shards[half % SHARDS];
}

_Static_assert(sizeof(struct count_key) == 24, "no padding: it is compared and hashed as bytes");

/* ---- entries ---- */

static void drop_locked(struct client_counts *c, struct entry **at)
{
    struct entry *e = *at;
    *at = e->next;
    free(e);
    atomic_fetch_sub_explicit(&c->entries, 1, memory_order_relaxed);
}

static void drop_stale_locked(struct client_counts *c, struct entry **chain, int64_t now)
{
    while (*chain != NULL) {
        if ((*chain)->connections == 0 && (*chain)->window_end_ms <= now)
            drop_locked(c, chain);
        else
            chain = &(*chain)->next;
    }
}

/* Room for one more entry in this shard: a client that is not connected loses its rates. */
static bool make_room_locked(struct client_counts *c, struct shard *s)
{
    for (int i = 0; i < EVICT_BUCKETS; i++) {
        for (struct entry **at = &s->buckets[s->sweep++ % BUCKETS]; *at != NULL; at = &(*at)->next)
            if ((*at)->connections == 0) {
                drop_locked(c, at);
                return true;
            }
    }
    return false;
}

static struct entry *find_locked(struct entry *chain, const struct count_key *k)
{
    while (chain != NULL && !same_key(&chain->key, k))
        chain = chain->next;
    return chain;
}

static void note_size(struct client_counts *c)
{
    unsigned n = 1 + atomic_fetch_add_explicit(&c->entries, 1, memory_order_relaxed);
    if (n <= atomic_load_explicit(&c->entries_max, memory_order_relaxed))
        return;
    atomic_store_explicit(&c->entries_max, n, memory_order_relaxed);
    atomic_store_explicit(&c->entries_max_s, clock_wall_s(), memory_order_relaxed);
}

static struct entry *find_or_add_locked(struct client_counts *c, struct shard *s, unsigned bucket, const struct count_key *k, int64_t now)
{
    drop_stale_locked(c, &s->buckets[bucket], now);
    struct entry *e = find_locked(s->buckets[bucket], k);
    if (e != NULL)
        return e;
    drop_stale_locked(c, &s->buckets[s->sweep++ % BUCKETS], now);
    if (atomic_load_explicit(&c->entries, memory_order_relaxed) >= c->max && !make_room_locked(c, s))
        return NULL;
    e = xcalloc(1, sizeof *e);
    e->key = *k;
    e->next = s->buckets[bucket];
    s->buckets[bucket] = e;
    note_size(c);
    return e;
}

static void begin_window(const struct client_counts *c, struct entry *e, int64_t now)
{
    if (e->window_end_ms > now)
        return;
    e->window_end_ms = now + atomic_load_explicit(&c->window_ms, memory_order_relaxed);
    e->connect_rate = 0;
    memset(e->events, 0, sizeof e->events);
}

/* ---- the worst ---- */

static void print_client(const struct count_key *k, char out[static IP_TEXT_MAX + 8])
{
    char text[IP_TEXT_MAX];
    struct ip_addr a = { .family = k->family };
    memcpy(a.b, k->b, sizeof a.b);
    ip_print(&a, text);
    if (k->family == IP_NONE || k->bits == (k->family == IP_V6 ? 128 : 32))
        snprintf(out, IP_TEXT_MAX + 8, "%s", text);
    else
        snprintf(out, IP_TEXT_MAX + 8, "%s/%u", text, k->bits);
}

static void print_who(const struct count_who *w, char out[static WHO_TEXT_MAX])
{
    char client[IP_TEXT_MAX + 8];
    switch ((enum count_kind)w->key.kind) {
    case COUNT_CLIENT:
        print_client(&w->key, client);
        snprintf(out, WHO_TEXT_MAX, "%.30s:%s", w->service, client);
        break;
    case COUNT_ACCOUNT:
        snprintf(out, WHO_TEXT_MAX, "%.30s:sasl_username=%.*s", w->service, SPAN_ARG(w->text));
        break;
    case COUNT_SENDER_DOMAIN:
        snprintf(out, WHO_TEXT_MAX, "%.30s:sender_domain=%.*s", w->service, SPAN_ARG(w->text));
        break;
    case COUNT_KINDS:
        break;
    }
}

/* Whoever is the worst mostly was before: then there is no text to be made. */
static void note_worst_locked(struct shard *s, const struct count_who *w, enum metric m, uint32_t value)
{
    struct worst *x = &s->worst[w->key.kind][m];
    if (LIKELY(value <= x->value))
        return;
    if (x->value == 0 || !same_key(&x->key, &w->key)) {
        x->key = w->key;
        print_who(w, x->who);
    }
    x->value = value;
    x->when_s = clock_wall_s();
}

static void print_time(int64_t s, char out[static 32])
{
    time_t t = (time_t)s;
    struct tm tm;
    localtime_r(&t, &tm);
    strftime(out, 32, "%b %e %H:%M:%S", &tm);
}

static void log_worst(const struct log_src *log, const struct worst *x, enum metric m, int64_t window_ms)
{
    static const char *const names[METRICS] = {
        [METRIC_RATE] = "connection rate", [METRIC_COUNT] = "connection count", [METRIC_EVENT + CLIENT_MESSAGE] = "message rate",
        [METRIC_EVENT + CLIENT_RCPT] = "recipient rate", [METRIC_EVENT + CLIENT_TLS] = "newtls rate",
        [METRIC_EVENT + CLIENT_AUTH] = "auth rate",
    };
    char when[32], unit[24] = "";
    print_time(x->when_s, when);
    if (m != METRIC_COUNT)
        snprintf(unit, sizeof unit, "/%llds", (long long)(window_ms / 1000));
    log_line(log, LOG_LV_INFO, "statistics: max %s %u%s for (%s) at %s", names[m], x->value, unit, x->who, when);
}

/* Takes the worst of all shards and forgets it. */
static void take_worst(struct client_counts *c, enum count_kind kind, enum metric m, struct worst *out)
{
    *out = (struct worst){ 0 };
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shards[i];
        lock_take(&s->m);
        if (s->worst[kind][m].value > out->value)
            *out = s->worst[kind][m];
        s->worst[kind][m] = (struct worst){ 0 };
        lock_drop(&s->m);
    }
}

static void sweep(struct client_counts *c)
{
    int64_t now = clock_mono_ms();
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shards[i];
        for (int b = 0; b < BUCKETS; b += 256) { /* nobody waits long for the lock */
            lock_take(&s->m);
            for (int k = b; k < b + 256; k++)
                drop_stale_locked(c, &s->buckets[k], now);
            lock_drop(&s->m);
        }
    }
}

void client_counts_status(struct client_counts *c, const struct log_src *log)
{
    struct log_src src = *log;
    int64_t window_ms = atomic_load_explicit(&c->window_ms, memory_order_relaxed);
    src.prog = "anvil";
    for (int kind = 0; kind < COUNT_KINDS; kind++)
        for (int m = 0; m < METRICS; m++) {
            struct worst x;
            take_worst(c, (enum count_kind)kind, (enum metric)m, &x);
            if (x.value > 0)
                log_worst(&src, &x, (enum metric)m, window_ms);
        }
    unsigned most = atomic_exchange_explicit(&c->entries_max, 0, memory_order_relaxed);
    if (most > 0) {
        char when[32];
        print_time(atomic_load_explicit(&c->entries_max_s, memory_order_relaxed), when);
        log_line(&src, LOG_LV_INFO, "statistics: max cache size %u at %s", most, when);
    }
    sweep(c);
}

/* ---- counting ---- */

struct client_count_now client_connect(struct client_counts *c, const struct count_who *w)
{
    int64_t now = clock_mono_ms();
    unsigned b;
    struct client_count_now r = { 0 };
    struct shard *s = shard_of(c, &w->key, &b);
    lock_take(&s->m);
    struct entry *e = find_or_add_locked(c, s, b, &w->key, now);
    if (e != NULL) {
        begin_window(c, e, now);
        r.is_counted = true;
        r.connections = ++e->connections;
        r.unnamed = ++e->unnamed;
        r.rate = ++e->connect_rate;
    }
    lock_drop(&s->m);
    return r;
}

void client_is_named(struct client_counts *c, const struct count_who *w, bool is_exempt)
{
    unsigned b;
    struct shard *s = shard_of(c, &w->key, &b);
    lock_take(&s->m);
    struct entry *e = find_locked(s->buckets[b], &w->key);
    if (e != NULL && e->unnamed > 0)
        e->unnamed--;
    if (e != NULL && !is_exempt) {
        note_worst_locked(s, w, METRIC_RATE, e->connect_rate);
        note_worst_locked(s, w, METRIC_COUNT, e->connections);
    }
    lock_drop(&s->m);
}

void client_disconnect(struct client_counts *c, const struct count_who *w, bool keep_rates)
{
    unsigned b;
    struct shard *s = shard_of(c, &w->key, &b);
    unsigned entries = atomic_load_explicit(&c->entries, memory_order_relaxed);
    keep_rates = keep_rates || (entries <= CLIENT_COUNT_KEEP && entries <= c->max / 2);
    lock_take(&s->m);
    struct entry **at = &s->buckets[b];
    while (*at != NULL && !same_key(&(*at)->key, &w->key))
        at = &(*at)->next;
    if (*at != NULL && (*at)->connections > 0 && --(*at)->connections == 0 && !keep_rates)
        drop_locked(c, at);
    lock_drop(&s->m);
}

unsigned client_counts_entries(struct client_counts *c)
{
    return atomic_load_explicit(&c->entries, memory_order_relaxed);
}

unsigned client_count_event(struct client_counts *c, const struct count_who *w, enum client_event ev)
{
    int64_t now = clock_mono_ms();
    unsigned b, n = 0;
    struct shard *s = shard_of(c, &w->key, &b);
    lock_take(&s->m);
    /* A client that is not there has connected while the table was full. */
    struct entry *e = w->key.kind == COUNT_CLIENT ? find_locked(s->buckets[b], &w->key)
                                                  : find_or_add_locked(c, s, b, &w->key, now);
    if (e != NULL) {
        begin_window(c, e, now);
        n = ++e->events[ev];
        note_worst_locked(s, w, (enum metric)(METRIC_EVENT + ev), n);
    }
    lock_drop(&s->m);
    return n;
}
