/*
 * The registry is a plain list: tables are opened at configuration time only, a few dozen of them.
 *
 * Watching a file: the first lookup after a second takes the turn (compare and swap on is_loading), looks at the file and, when
 * it is not the one that was read, reads it; lookups on other threads go on with the old content. Unless nothing is there
 * yet, a lookup never waits for who is writing.
 */
#include <stdarg.h>
#include <utlist.h>

#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/conf/params.h"
#include "common/table/fold.h"
#include "common/table/net/table_cache.h"
#include "common/table/net/table_numbers.h"
#include "common/table/table_file.h"
#include "common/table/table_internal.h"

#define LOOK_EVERY_MS   1000
#define FILE_BYTES_MAX  (UINT64_C(4) << 30)
#define FOLD_STACK      512

struct table {
    struct table *prev, *next;        /* guarded by registry lock */
    unsigned refs;                    /* guarded by registry lock */
    struct table_registry *registry;  /* counted */
    const struct table_type *type;    /* NULL when the type is unknown */
    char *spec;                       /* owned; "type:name" */
    char *settings;                   /* owned; those main.cf has for it, "name = value" lines; NULL: not of that kind */
    char *queue_directory;            /* owned; may be NULL */
    char *module_directory;           /* owned; may be NULL */
    unsigned flags;
    struct span name;                 /* in spec */
    bool is_watched;                  /* immutable */
    _Atomic int64_t next_check_ms;
    atomic_bool is_loading;           /* one thread at a time looks at the file; it owns `file` */
    struct table_file file;           /* when watched */
    struct lock lock;                 /* tables.content */
    struct table_content *content;    /* guarded by lock when watched, else immutable; NULL: broken */
    struct table_numbers *numbers;    /* owned */
    struct table_cache *cache;        /* owned; NULL: the table asks no server */
    char broken[480];                 /* guarded by lock when watched; why content is NULL */
    int broken_sys;                   /* guarded by lock when watched; errno of that, or 0 */
    bool is_unavailable;              /* of the thread that loads: why the load failed */
    enum table_status status;         /* guarded by lock when watched */
};

struct table_registry {
    struct lock lock;                 /* tables.registry */
    unsigned refs;                    /* guarded by lock */
    struct table *tables;             /* guarded by lock */
    const struct log_src *log;        /* borrowed; NULL: nobody listens */
    struct conf *conf;                /* counted; guarded by lock; NULL: main.cf is not known */
    _Atomic int64_t cache_ms;         /* remote_table_cache_time */
};

struct table_registry *table_registry_new(const struct log_src *log)
{
    struct table_registry *r = xcalloc(1, sizeof *r);
    lock_init(&r->lock, LOCK_TABLE_REGISTRY);
    r->refs = 1;
    r->log = log;
    return r;
}

struct table_registry *table_registry_ref(struct table_registry *r)
{
    lock_take(&r->lock);
    r->refs++;
    lock_drop(&r->lock);
    return r;
}

void table_registry_unref(struct table_registry **rp)
{
    struct table_registry *r = *rp;
    if (r == NULL)
        return;
    *rp = NULL;
    lock_take(&r->lock);
    bool last = --r->refs == 0;
    lock_drop(&r->lock);
    if (!last)
        return;
    conf_unref(&r->conf);
    lock_destroy(&r->lock);
    free(r);
}

void table_registry_use_conf(struct table_registry *r, struct conf *c)
{
    struct conf *now = conf_ref(c);
    lock_take(&r->lock);
    struct conf *old = r->conf;
    r->conf = now;
    lock_drop(&r->lock);
    atomic_store_explicit(&r->cache_ms, conf_global(c)->remote_table_cache_time, memory_order_relaxed);
    conf_unref(&old);
}

static struct conf *registry_conf(struct table_registry *r)
{
    lock_take(&r->lock);
    struct conf *c = r->conf != NULL ? conf_ref(r->conf) : NULL;
    lock_drop(&r->lock);
    return c;
}

void table_registry_each(struct table_registry *r, void (*fn)(void *arg, const char *name, const struct table_counts *c),
                         void *arg)
{
    struct table *t;
    lock_take(&r->lock);
    DL_FOREACH(r->tables, t) {
        struct table_counts c = { .is_server = t->type != NULL && (t->type->flags & TT_SERVER) };
        table_numbers_read(t->numbers, &c);
        fn(arg, t->spec, &c);
    }
    lock_drop(&r->lock);
}

/* ---- contents ---- */

void table_content_ref(struct table_content *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

void table_content_unref(struct table_content *c)
{
    /* acquire pairs with the releases of the other readers: nobody reads any more when it is freed */
    if (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        c->ops->free(c);
}

static struct table_content *content_get(struct table *t, struct err *e)
{
    if (!t->is_watched) {
        if (t->content == NULL)
            err_set(e, "%s", t->broken);
        return t->content;
    }
    lock_take(&t->lock);
    struct table_content *c = t->content;
    if (c != NULL)
        table_content_ref(c);
    else
        err_set(e, "%s", t->broken);
    lock_drop(&t->lock);
    return c;
}

static void content_set(struct table *t, struct table_content *c, const struct err *why)
{
    lock_take(&t->lock);
    struct table_content *old = t->content;
    t->content = c;
    t->status = c != NULL ? TABLE_OK : TABLE_BROKEN;
    if (c == NULL)
        snprintf(t->broken, sizeof t->broken, "%s", why->text);
    t->broken_sys = c == NULL ? why->sys : 0;
    lock_drop(&t->lock);
    if (t->cache != NULL) /* the answers of other settings */
        table_cache_clear(t->cache);
    table_content_unref(old);
}

/* ---- files ---- */

/* may_wait: for a writer that has locked the file; else *is_busy is set when there is one. */
static bool read_and_load(struct table *t, const struct table_notes *notes, bool strict, bool may_wait, bool *is_busy,
                          struct table_content **out, struct err *e)
{
    struct buf text = BUF_INIT(FILE_BYTES_MAX - 1);
    bool is_unavailable = false;
    struct table_load in = { .registry = t->registry, .spec = t->spec, .name = t->name, .flags = t->flags,
                             .notes = notes, .strict = strict, .queue_directory = t->queue_directory,
                             .module_directory = t->module_directory, .is_unavailable = &is_unavailable };
    bool ok = false;
    *is_busy = false;
    if (t->is_watched) {
        enum table_file_answer a = table_file_read(&t->file, may_wait, &text, e);
        *is_busy = a == TABLE_FILE_BUSY;
        if (a != TABLE_FILE_READ)
            goto out;
        in.text = &text;
        in.is_database = t->file.is_database;
        if (table_file_is_stale(&t->file))
            table_odd_line(&in, 0, "%s is older than the text it is made from", t->file.database);
    } else if (t->settings != NULL) {
        buf_puts(&text, t->settings);
        in.text = &text;
    }
    ok = t->type->load(&in, out, e);
    t->is_unavailable = is_unavailable;
    if (!ok && in.is_database)
        err_prefix(e, "%s", t->file.database);
out:
    buf_free(&text);
    return ok;
}

static void log_note(void *arg, bool is_error, const char *file, int line, const char *text)
{
    const struct table_registry *r = arg;
    (void)is_error;
    if (line > 0)
        log_warn(r->log, "%s, line %d: %s", file, line, text);
    else
        log_warn(r->log, "%s: %s", file, text);
}

/* notes: whoever opens the table again is told; NULL: the log is. */
static void reload(struct table *t, const struct table_notes *listener)
{
    if (!table_file_is_new(&t->file))
        return;
    lock_take(&t->lock);
    bool had = t->content != NULL;
    lock_drop(&t->lock);
    struct table_notes to_log = { .fn = log_note, .arg = t->registry };
    const struct table_notes *notes = listener != NULL && listener->fn != NULL ? listener : &to_log;
    struct table_content *c = NULL;
    struct err e = ERR_INIT;
    bool is_busy;
    if (read_and_load(t, notes, had, !had, &is_busy, &c, &e)) {
        content_set(t, c, NULL);
        log_info(t->registry->log, "table %s: new content", t->spec);
    } else if (is_busy) {
        return; /* the old content serves until the writer has finished */
    } else if (had) {
        char text[600];
        snprintf(text, sizeof text, "keeping the old content: %s", e.text);
        log_warn(t->registry->log, "table %s: %s", t->spec, text);
        if (notes != &to_log)
            notes->fn(notes->arg, false, t->name.p, 0, text);
    } else {
        err_prefix(&e, "table %s", t->spec);
        content_set(t, NULL, &e);
        log_warn(t->registry->log, "%s", e.text);
    }
}

static void watch(struct table *t, const struct table_notes *notes)
{
    int64_t now = clock_mono_ms();
    if (LIKELY(now < atomic_load_explicit(&t->next_check_ms, memory_order_relaxed)))
        return;
    bool idle = false;
    /* acquire here pairs with the release below: `seen` is handed from one look to the next */
    if (!atomic_compare_exchange_strong_explicit(&t->is_loading, &idle, true, memory_order_acquire,
                                                 memory_order_relaxed))
        return;
    if (now >= atomic_load_explicit(&t->next_check_ms, memory_order_relaxed)) {
        reload(t, notes);
        atomic_store_explicit(&t->next_check_ms, clock_mono_ms() + LOOK_EVERY_MS, memory_order_relaxed);
    }
    atomic_store_explicit(&t->is_loading, false, memory_order_release);
}

/* ---- helpers for types ---- */

static void say(const struct table_load *in, int line, const char *text)
{
    char name[256];
    if (in->notes == NULL || in->notes->fn == NULL)
        return;
    snprintf(name, sizeof name, "%.*s", in->text != NULL ? (int)in->name.n : 200, in->text != NULL ? in->name.p : in->spec);
    in->notes->fn(in->notes->arg, false, name, line, text);
}

bool table_bad_line(const struct table_load *in, int line, struct err *e, const char *fmt, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (in->strict) {
        err_set(e, "%.*s, line %d: %s", in->text != NULL ? (int)in->name.n : 200, in->text != NULL ? in->name.p : in->spec,
                line, text);
        return false;
    }
    say(in, line, text);
    return true;
}

void table_odd_line(const struct table_load *in, int line, const char *fmt, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    say(in, line, text);
}

const struct log_src *table_registry_log(const struct table_registry *r)
{
    return r->log;
}

enum lookup table_found(struct span value, struct arena *a, struct span *out)
{
    if (out != NULL)
        *out = arena_dup_span(a, value);
    return LOOKUP_FOUND;
}

/* ---- opening ---- */

/* Splits "type:name"; proxy: is passed through. A name alone is a hash file. */
static struct span split_type(struct span spec, struct span *name)
{
    while (span_istarts_with(spec, SPAN_LIT("proxy:")))
        spec = span_from(spec, 6);
    ptrdiff_t colon = span_find(spec, ':');
    if (colon < 0) {
        *name = spec;
        return SPAN_LIT("hash");
    }
    *name = span_from(spec, (size_t)colon + 1);
    return span_of(spec.p, (size_t)colon);
}

static bool is_file_name(unsigned type_flags, struct span name)
{
    if (type_flags & TT_SETTINGS)
        return name.n > 0 && (name.p[0] == '/' || name.p[0] == '.');
    return (type_flags & TT_FILE) && (name.n == 0 || name.p[0] != '{');
}

/* NAME_x of main.cf for each setting x of the type. */
static char *settings_of_main(const struct conf *c, const struct table *t)
{
    struct buf text = BUF_INIT(0);
    char name[256];
    for (const char *const *s = t->type->settings; c != NULL && *s != NULL; s++) {
        int n = snprintf(name, sizeof name, "%.*s_%s", SPAN_ARG(t->name), *s);
        const char *value = n > 0 && (size_t)n < sizeof name ? conf_text(c, NULL, span_of(name, (size_t)n)) : NULL;
        if (value != NULL)
            buf_printf(&text, "%s = %s\n", *s, value);
    }
    return buf_detach(&text);
}

static void take_from_conf(struct table *t, struct table_registry *r)
{
    if (t->type == NULL || !(t->type->flags & (TT_SERVER | TT_SETTINGS)))
        return;
    struct conf *c = registry_conf(r);
    if ((t->type->flags & TT_SETTINGS) && !t->is_watched)
        t->settings = settings_of_main(c, t);
    if (c != NULL) {
        t->queue_directory = xstrdup(conf_global(c)->queue_directory);
        t->module_directory = xstrdup(conf_global(c)->table_module_directory);
    }
    conf_unref(&c);
}

static struct table *make(struct table_registry *r, struct span type, struct span name, unsigned flags)
{
    struct table *t = xcalloc(1, sizeof *t);
    t->registry = table_registry_ref(r);
    t->refs = 1;
    t->flags = flags;
    t->spec = xasprintf("%.*s:%.*s", SPAN_ARG(type), SPAN_ARG(name));
    t->name = span_cstr(t->spec + type.n + 1);
    t->type = table_type_find(type);
    t->is_watched = t->type != NULL && is_file_name(t->type->flags, t->name);
    if (t->is_watched)
        table_file_init(&t->file, t->name.p, t->type->suffix); /* spec ends with its NUL */
    t->numbers = table_numbers_new();
    t->cache = t->type != NULL && (t->type->flags & TT_SERVER) ? table_cache_new() : NULL;
    take_from_conf(t, r);
    lock_init(&t->lock, LOCK_TABLE_CONTENT);
    return t;
}

static void destroy(struct table *t)
{
    table_content_unref(t->content);
    lock_destroy(&t->lock);
    table_registry_unref(&t->registry);
    table_file_free(&t->file);
    free(t->spec);
    free(t->settings);
    free(t->queue_directory);
    free(t->module_directory);
    free(t->numbers);
    table_cache_free(&t->cache);
    free(t);
}

/* Only its maker knows the table yet. */
static void load_first(struct table *t, const struct table_notes *notes)
{
    struct err e = ERR_INIT;
    struct table_content *c = NULL;
    t->status = TABLE_BAD;
    if (t->type == NULL) {
        bool is_ipv6 = strspn(t->spec, "0123456789abcdefABCDEF:") >= 2 && span_find(t->name, ':') >= 0;
        snprintf(t->broken, sizeof t->broken, "unknown table type \"%.60s\"%s; known types: %s", t->spec,
                 is_ipv6 ? " (an IPv6 address needs brackets)" : "", table_type_names());
        return;
    }
    if (t->type->flags & TT_MISSING) {
        t->status = TABLE_UNAVAILABLE;
        snprintf(t->broken, sizeof t->broken, "table %.200s: tables of type \"%s\" are not available in this version",
                 t->spec, t->type->name);
        return;
    }
    bool is_busy;
    if (read_and_load(t, notes, false, true, &is_busy, &c, &e)) {
        t->content = c;
        t->status = TABLE_OK;
    } else {
        t->status = t->is_unavailable ? TABLE_UNAVAILABLE : t->is_watched ? TABLE_BROKEN : TABLE_BAD;
        t->broken_sys = e.sys;
        snprintf(t->broken, sizeof t->broken, "table %.160s: %.300s", t->spec, e.text);
    }
    atomic_store_explicit(&t->next_check_ms, clock_mono_ms() + LOOK_EVERY_MS, memory_order_relaxed);
}

static struct table *find_open(struct table_registry *r, const struct table *like)
{
    struct table *t;
    DL_FOREACH(r->tables, t) {
        if (t->flags == like->flags && strcmp(t->spec, like->spec) == 0
            && (t->settings == NULL || strcmp(t->settings, like->settings) == 0))
            return t;
    }
    return NULL;
}

struct table *table_open(struct table_registry *r, struct span spec, unsigned flags, const struct table_notes *notes,
                         enum table_status *status, struct err *e)
{
    struct span name;
    struct span type = split_type(spec, &name);
    struct conf *c = registry_conf(r);
    if (c != NULL && !conf_global(c)->smtputf8_enable)
        flags |= TABLE_BYTES;
    conf_unref(&c);
    struct table *fresh = make(r, type, name, flags);
    lock_take(&r->lock);
    struct table *t = find_open(r, fresh);
    if (t != NULL)
        t->refs++;
    lock_drop(&r->lock);
    if (t != NULL) {
        destroy(fresh);
        if (t->is_watched) { /* a reload wants what is there now */
            atomic_store_explicit(&t->next_check_ms, 0, memory_order_relaxed);
            watch(t, notes);
        }
    } else {
        load_first(fresh, notes);
        t = fresh;
        lock_take(&r->lock);
        DL_APPEND(r->tables, t); /* two threads may both have made one: they are equal, and each is found or not */
        lock_drop(&r->lock);
    }
    lock_take(&t->lock);
    *status = t->status;
    if (t->status != TABLE_OK && e != NULL) {
        err_set(e, "%s", t->broken);
        e->sys = t->broken_sys;
    }
    lock_drop(&t->lock);
    return t;
}

void table_close(struct table **tp)
{
    struct table *t = *tp;
    if (t == NULL)
        return;
    *tp = NULL;
    lock_take(&t->registry->lock);
    bool last = --t->refs == 0;
    if (last)
        DL_DELETE(t->registry->tables, t);
    lock_drop(&t->registry->lock);
    if (last)
        destroy(t);
}

const char *table_name(const struct table *t)
{
    return t->spec;
}

bool table_is_fixed(const struct table *t)
{
    if (t->type == NULL || (t->type->flags & TT_PATTERN))
        return t->type == NULL;
    return t->is_watched || t->content == NULL || !t->content->is_pattern;
}

bool table_may_wait(const struct table *t)
{
    if (t->type == NULL || (t->type->flags & (TT_SERVER | TT_WAITS)))
        return t->type != NULL;
    return !t->is_watched && t->content != NULL && t->content->may_wait;
}

/* ---- lookup ---- */

/* Plain: nothing to fold and nothing to check. */
static bool is_plain(struct span s, bool folds)
{
    for (size_t i = 0; i < s.n; i++) {
        if (ascii_is_8bit(s.p[i]) || (folds && s.p[i] >= 'A' && s.p[i] <= 'Z'))
            return false;
    }
    return true;
}

static enum lookup search_folded(const struct table *t, const struct table_content *c, struct span key, struct arena *a,
                                 struct span *value, struct err *e)
{
    char small[FOLD_STACK];
    size_t room = t->flags & TABLE_BYTES ? key.n : key.n * FOLD_GROWTH;
    char *p = room <= sizeof small ? small : xmalloc(room);
    ptrdiff_t n = (ptrdiff_t)key.n;
    if (t->flags & TABLE_BYTES) {
        memcpy(p, key.p, key.n);
        ascii_lower_buf(p, key.n);
    } else {
        n = fold_utf8(key, p);
    }
    enum lookup answer = n < 0 ? LOOKUP_NONE : c->ops->find(c, span_of(p, (size_t)n), a, value, e);
    if (p != small)
        free(p);
    return answer;
}

static enum lookup search(const struct table *t, const struct table_content *c, struct span key, struct arena *a,
                          struct span *value, struct err *e)
{
    bool folds = (t->type->flags & TT_FOLD) && !(t->flags & TABLE_KEEP_CASE);
    if (is_plain(key, folds) || (!folds && ((t->flags & TABLE_BYTES) || fold_is_utf8(key))))
        return c->ops->find(c, key, a, value, e);
    return folds ? search_folded(t, c, key, a, value, e) : LOOKUP_NONE;
}

/* The same for a table that asks a server, which is to be timed, spared, and complained of. */
static enum lookup search_server(struct table *t, const struct table_content *c, struct span key, struct arena *a,
                                 struct span *value, struct err *e)
{
    int64_t keep_ms = atomic_load_explicit(&t->registry->cache_ms, memory_order_relaxed);
    struct err own = ERR_INIT;
    uint64_t ticket = 0;
    enum lookup answer;
    if (keep_ms > 0 && table_cache_get(t->cache, key, keep_ms, &answer, a, value, &ticket)) {
        table_numbers_count_cached(t->numbers);
        return answer;
    }
    int64_t begin = clock_wall_us();
    answer = search(t, c, key, a, value, &own);
    table_numbers_add_time(t->numbers, clock_wall_us() - begin);
    if (keep_ms > 0 && (answer == LOOKUP_NONE || (answer == LOOKUP_FOUND && value != NULL)))
        table_cache_put(t->cache, key, answer == LOOKUP_FOUND ? value : NULL, ticket);
    if (answer == LOOKUP_TEMPFAIL) {
        table_numbers_tell(t->numbers, t->registry->log, t->spec, &own);
        if (e != NULL)
            *e = own;
    }
    return answer;
}

enum lookup table_lookup(struct table *t, struct span key, struct arena *a, struct span *value, struct err *e)
{
    if (t->is_watched)
        watch(t, NULL);
    enum lookup answer = LOOKUP_TEMPFAIL;
    struct table_content *c = content_get(t, e);
    if (c != NULL) {
        answer = t->type->flags & TT_SERVER ? search_server(t, c, key, a, value, e) : search(t, c, key, a, value, e);
        if (t->is_watched)
            table_content_unref(c);
        if (answer == LOOKUP_FOUND && value != NULL && !(t->flags & TABLE_BYTES) && !(t->type->flags & TT_CHECKED)
            && !fold_is_utf8(*value)) {
            err_set(e, "the value is not valid UTF-8");
            answer = LOOKUP_TEMPFAIL;
        }
        if (answer == LOOKUP_TEMPFAIL)
            err_prefix(e, "table %.200s", t->spec);
    }
    table_numbers_count(t->numbers, answer);
    return answer;
}

bool table_each(struct table *t, table_row_fn *fn, void *arg, struct err *e)
{
    if (t->is_watched)
        watch(t, NULL);
    struct table_content *c = content_get(t, e);
    if (c == NULL)
        return false;
    bool ok = false;
    if (c->ops->each != NULL)
        ok = c->ops->each(c, fn, arg, e);
    else
        err_set(e, "table %.200s: tables of this type cannot be listed", t->spec);
    if (t->is_watched)
        table_content_unref(c);
    return ok;
}
