/*
 * The cache in memory is what counts; the file (verify_file.c) follows it and is read once.
 *
 * A result is good until it expires. When it is old enough to be refreshed it still answers, and a probe is sent behind it. A
 * probe that fails does not replace an address that was found good until that expires: a host that is down for an hour
 * takes nobody's name away. Without address_verify_negative_cache a failure answers those who wait for it, and is
 * forgotten.
 */
#include "policy/verify_internal.h"

#include "common/base/arena.h"
#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/mail/address.h"

static const char in_progress[] = "Address verification in progress";

struct verify_ages verify_ages_of(const struct params *p)
{
    return (struct verify_ages){
        .positive_expire = p->address_verify_positive_expire_time / 1000, .positive_refresh = p->address_verify_positive_refresh_time / 1000,
        .negative_expire = p->address_verify_negative_expire_time / 1000, .negative_refresh = p->address_verify_negative_refresh_time / 1000,
    };
}

bool verify_is_expired(const struct entry *e, const struct verify_ages *a, int64_t now_s)
{
    return e->updated_s + (e->status == VERIFY_OK ? a->positive_expire : a->negative_expire) < now_s;
}

bool verify_is_refresh_due(const struct entry *e, const struct verify_ages *a, int64_t now_s)
{
    return e->updated_s + (e->status == VERIFY_OK ? a->positive_refresh : a->negative_refresh) < now_s;
}

/* ---- entries ---- */

#define KEY_MAX 1000 /* an address that the world accepts has 320 at most */

/* The domain has no case. False: too long to be kept, or probed. */
static bool make_key(struct span address, char out[static KEY_MAX], struct span *key)
{
    struct span local, domain;
    if (address.n == 0 || address.n > KEY_MAX)
        return false;
    memcpy(out, address.p, address.n);
    if (addr_split(address, &local, &domain))
        ascii_lower_buf(out + (address.n - domain.n), domain.n);
    *key = span_of(out, address.n);
    return true;
}

struct entry *verify_entry_get_locked(struct verifier *v, struct span key)
{
    struct entry *e;
    HASH_FIND(hh, v->entries, key.p, key.n, e);
    return e;
}

struct entry *verify_entry_add_locked(struct verifier *v, struct span key)
{
    struct entry *e = xcalloc(1, sizeof *e + key.n + 1);
    ptrdiff_t at = span_rfind(key, '@');
    memcpy(e->address, key.p, key.n);
    e->n = (uint32_t)key.n;
    e->domain_at = at >= 0 ? (uint32_t)at + 1 : e->n;
    e->status = VERIFY_TODO;
    HASH_ADD_KEYPTR(hh, v->entries, e->address, e->n, e);
    return e;
}

/* Of those with a result. */
static void drop_oldest_locked(struct verifier *v) REQUIRES(&v->m);
static void drop_oldest_locked(struct verifier *v)
{
    struct entry *e = v->by_age;
    while (e != NULL && e->is_mark)
        e = e->next;
    if (HASH_COUNT(v->entries) <= VERIFY_ENTRIES_MAX || e == NULL || e->is_queued || e->is_running || e->waiters > 0)
        return;
    verify_entry_drop_locked(v, e);
}

void verify_entry_set_locked(struct verifier *v, struct entry *e, enum verify_status status, struct span text, int64_t updated_s)
{
    if (e->updated_s != 0)
        DL_DELETE(v->by_age, e);
    free(e->text);
    e->text = xstrndup(text.p, text.n < VERIFY_TEXT_MAX ? text.n : VERIFY_TEXT_MAX - 1);
    e->status = (uint8_t)status;
    e->updated_s = updated_s > 0 ? updated_s : 1;
    DL_APPEND(v->by_age, e);
    drop_oldest_locked(v);
}

void verify_entry_dirty_locked(struct verifier *v, struct entry *e)
{
    v->is_dirty = true;
    if (e->is_dirty)
        return;
    e->is_dirty = true;
    DL_APPEND2(v->dirty, e, d_prev, d_next);
}

void verify_entry_clean_locked(struct verifier *v, struct entry *e)
{
    if (e->is_dirty)
        DL_DELETE2(v->dirty, e, d_prev, d_next);
    e->is_dirty = false;
}

void verify_walk_begin_locked(struct verifier *v, struct entry *mark, bool from_newest)
{
    *mark = (struct entry){ .is_mark = true };
    if (from_newest)
        DL_APPEND(v->by_age, mark);
    else
        DL_PREPEND(v->by_age, mark);
}

struct entry *verify_walk_locked(struct verifier *v, struct entry *mark, bool from_newest)
{
    struct entry *e = mark;
    do
        e = !from_newest ? e->next : e == v->by_age ? NULL : e->prev; /* the first one's prev is the last */
    while (e != NULL && e->is_mark);
    DL_DELETE(v->by_age, mark);
    if (e != NULL && from_newest)
        DL_PREPEND_ELEM(v->by_age, e, mark);
    else if (e != NULL)
        DL_APPEND_ELEM(v->by_age, e, mark);
    return e;
}

static void entry_free(struct entry *e)
{
    free(e->text);
    free(e);
}

/* From memory; its row goes with the next flush. */
void verify_entry_drop_locked(struct verifier *v, struct entry *e)
{
    HASH_DELETE(hh, v->entries, e);
    verify_entry_clean_locked(v, e);
    if (e->updated_s == 0) {
        entry_free(e);
        return;
    }
    DL_DELETE(v->by_age, e);
    e->next = v->gone;
    v->gone = e;
    v->is_dirty = true;
}

/* ---- those who wait ---- */

int64_t verify_take_waiters_locked(struct verifier *v, const struct entry *e, int64_t now_ms, struct waiter **out)
{
    int64_t next = CLOCK_NEVER;
    for (struct waiter **at = &v->waiters; *at != NULL;) {
        struct waiter *w = *at;
        if (e != NULL ? w->entry == e : w->until_ms <= now_ms) {
            *at = w->next;
            w->entry->waiters--;
            w->next = *out;
            *out = w;
            continue;
        }
        next = w->until_ms < next ? w->until_ms : next;
        at = &w->next;
    }
    return next;
}

void verify_answer_all(struct waiter *list, const struct verify_result *r)
{
    while (list != NULL) {
        struct waiter *w = list;
        list = w->next;
        w->cb(w->arg, r);
        free(w);
    }
}

/* ---- questions ---- */

void verify_copy_result(const struct entry *e, struct verify_result *out)
{
    out->status = e->status;
    snprintf(out->text, sizeof out->text, "%s", e->text != NULL ? e->text : in_progress);
}

static void set_result(struct verify_result *out, enum verify_status status, const char *text)
{
    out->status = status;
    snprintf(out->text, sizeof out->text, "%s", text);
}

/* False: too many wait already. */
static bool want_probe_locked(struct verifier *v, const struct params *p, struct entry *e) REQUIRES(&v->m);
static bool want_probe_locked(struct verifier *v, const struct params *p, struct entry *e)
{
    if (v->is_stopping) /* nobody would answer who waits */
        return false;
    if (e->is_queued || e->is_running)
        return true;
    if (v->todo_count >= (size_t)p->address_verify_pending_request_limit)
        return false;
    e->is_queued = true;
    v->todo_count++;
    DL_APPEND2(v->todo, e, todo_prev, todo_next);
    return true;
}

void verify_unqueue_locked(struct verifier *v, struct entry *e)
{
    DL_DELETE2(v->todo, e, todo_prev, todo_next);
    v->todo_count--;
    e->is_queued = false;
}

bool verifier_peek(struct verifier *v, const struct params *p, struct span address, struct verify_result *out)
{
    char buf[KEY_MAX];
    struct span key;
    struct verify_ages ages = verify_ages_of(p);
    int64_t now = clock_wall_s();
    bool found = false, wake = false;
    if (!make_key(address, buf, &key)) {
        set_result(out, VERIFY_DEFER, "the address is too long to be verified");
        return true;
    }
    lock_take(&v->m);
    struct entry *e = verify_entry_get_locked(v, key);
    if (e != NULL && e->updated_s != 0 && !verify_is_expired(e, &ages, now)) {
        found = true;
        verify_copy_result(e, out);
        if (verify_is_refresh_due(e, &ages, now) && !e->is_queued && !e->is_running)
            wake = want_probe_locked(v, p, e);
    }
    lock_drop(&v->m);
    if (wake)
        verify_threads_wake(v);
    return found;
}

void verifier_ask(struct verifier *v, const struct params *p, struct span address, int64_t wait_ms, verify_cb *cb, void *arg)
{
    char buf[KEY_MAX];
    struct span key = { NULL, 0 };
    struct verify_result r;
    bool is_refused = false;
    if (verifier_peek(v, p, address, &r)) {
        cb(arg, &r);
        return;
    }
    set_result(&r, VERIFY_TODO, in_progress);
    (void)make_key(address, buf, &key);
    lock_take(&v->m);
    struct entry *e = verify_entry_get_locked(v, key);
    if (e == NULL)
        e = verify_entry_add_locked(v, key);
    if (!want_probe_locked(v, p, e)) {
        is_refused = !v->is_stopping;
        if (e->updated_s == 0 && e->waiters == 0 && !e->is_queued && !e->is_running)
            verify_entry_drop_locked(v, e);
    } else if (wait_ms > 0) {
        struct waiter *w = xcalloc(1, sizeof *w);
        *w = (struct waiter){ .next = v->waiters, .entry = e, .until_ms = clock_mono_ms() + wait_ms, .cb = cb, .arg = arg };
        v->waiters = w;
        e->waiters++;
        cb = NULL;
    }
    lock_drop(&v->m);
    if (is_refused) {
        limit_reached(&v->limit, v->o.log, p->address_verify_pending_request_limit, "addresses are not verified");
        set_result(&r, VERIFY_DEFER, "Too many address verification requests");
    } else {
        verify_threads_wake(v);
    }
    if (cb != NULL)
        cb(arg, &r);
}

/* ---- for people ---- */

struct item_copy {
    struct verify_item item;
    struct verify_result result;
    char address[KEY_MAX];
};

/* A piece of them; false: that was all. */
static bool copy_piece(struct verifier *v, struct entry *mark, struct item_copy *all, size_t *n)
{
    struct entry *e = NULL;
    *n = 0;
    lock_take(&v->m);
    while (*n < VERIFY_PIECE && (e = verify_walk_locked(v, mark, true)) != NULL) {
        struct item_copy *to = &all[(*n)++];
        memcpy(to->address, e->address, e->n);
        verify_copy_result(e, &to->result);
        to->item = (struct verify_item){ .address = span_of(to->address, e->n), .result = &to->result,
                                         .updated_s = e->updated_s, .is_probing = e->is_queued || e->is_running };
    }
    lock_drop(&v->m);
    return e != NULL;
}

void verifier_each(struct verifier *v, bool (*fn)(void *arg, const struct verify_item *i), void *arg)
{
    struct entry mark;
    struct item_copy *all = xcalloc(VERIFY_PIECE, sizeof *all);
    bool is_more = true, go_on = true;
    lock_take(&v->m);
    verify_walk_begin_locked(v, &mark, true);
    lock_drop(&v->m);
    while (is_more && go_on) {
        size_t n;
        is_more = copy_piece(v, &mark, all, &n);
        for (size_t i = 0; i < n && go_on; i++)
            go_on = fn(arg, &all[i].item);
    }
    lock_take(&v->m);
    if (is_more)
        DL_DELETE(v->by_age, &mark);
    lock_drop(&v->m);
    free(all);
}

/* Who is being probed stays. */
static bool forget_one_locked(struct verifier *v, struct entry *e) REQUIRES(&v->m);
static bool forget_one_locked(struct verifier *v, struct entry *e)
{
    if (e->updated_s == 0 || e->is_queued || e->is_running)
        return false;
    verify_entry_drop_locked(v, e);
    return true;
}

static size_t forget_all(struct verifier *v)
{
    struct entry mark, *e = &mark;
    size_t n = 0;
    lock_take(&v->m);
    verify_walk_begin_locked(v, &mark, false);
    lock_drop(&v->m);
    while (e != NULL) {
        lock_take(&v->m);
        for (int i = 0; i < VERIFY_PIECE && (e = verify_walk_locked(v, &mark, false)) != NULL; i++)
            n += forget_one_locked(v, e);
        lock_drop(&v->m);
    }
    return n;
}

static size_t forget_address(struct verifier *v, struct span address)
{
    char buf[KEY_MAX];
    struct span key;
    if (!make_key(address, buf, &key))
        return 0;
    lock_take(&v->m);
    struct entry *e = verify_entry_get_locked(v, key);
    bool forgotten = e != NULL && forget_one_locked(v, e);
    lock_drop(&v->m);
    return forgotten;
}

size_t verifier_forget(struct verifier *v, struct span address)
{
    size_t n = address.n == 0 ? forget_all(v) : forget_address(v, address);
    if (n > 0)
        verify_threads_wake(v);
    return n;
}

const struct limit *verifier_limit(const struct verifier *v)
{
    return &v->limit;
}

/* ---- life ---- */

struct verifier *verifier_new(const struct verifier_options *o)
{
    struct verifier *v = xcalloc(1, sizeof *v);
    v->o = *o;
    v->limit.parameter = "address_verify_pending_request_limit";
    v->flush_ms = v->next_cleanup_ms = CLOCK_NEVER;
    lock_init(&v->m, LOCK_VERIFY);
    cond_init(&v->wake_keeper);
    cond_init(&v->wake_probe);
    cond_init(&v->changed);
    v->keeper.v = v;
    for (size_t i = 0; i < VERIFY_THREADS; i++)
        v->slots[i].v = v;
    return v;
}

void verifier_free(struct verifier **vp)
{
    struct verifier *v = *vp;
    struct entry *e, *next;
    if (v == NULL)
        return;
    *vp = NULL;
    HASH_ITER(hh, v->entries, e, next) {
        HASH_DELETE(hh, v->entries, e);
        entry_free(e);
    }
    while (v->gone != NULL) {
        e = v->gone;
        v->gone = e->next;
        entry_free(e);
    }
    cond_destroy(&v->wake_keeper);
    cond_destroy(&v->wake_probe);
    cond_destroy(&v->changed);
    lock_destroy(&v->m);
    free(v->path);
    free(v);
}
