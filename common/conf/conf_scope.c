/*
 * conf_scope: the order of look-up. myhostname without a definition is the system's name; when that has no domain,
 * $mydomain is put behind it if main.cf defines it, else "localdomain". mydomain without a definition is what follows
 * the first dot of myhostname.
 */
#include "common/conf/conf_scope.h"
#include <unistd.h>
#include "common/base/ascii.h"
#include "common/base/io.h"
#include "common/conf/conf_host.h"
#include "common/conf/expand.h"

/* WHAT is a string literal. */
#define is(name, what) span_eq(name, SPAN_LIT(what))

/* Names whose default is not in the table. */
static const char *computed(const struct conf_scope *s, struct span name)
{
    const struct conf_source *src = s->src;
    if (is(name, "myhostname"))
        return src->hostname;
    if (is(name, "mydomain"))
        return src->mydomain ? src->mydomain : "localdomain";
    if (is(name, "mynetworks"))
        return src->mynetworks ? src->mynetworks : "";
    if (is(name, "service_name"))
        return s->service_name;
    if (is(name, "process_name"))
        return s->process_name;
    if (is(name, "process_id"))
        return src->process_id;
    return NULL;
}

const char *conf_scope_computed(size_t i)
{
    static const char *const names[] = { "myhostname", "mydomain", "mynetworks", "service_name", "process_name", "process_id",
                                         "stress", "config_directory" };
    return i < ARRAY_LEN(names) ? names[i] : NULL;
}

const char *conf_scope_fallback(const struct conf_source *src, struct span name)
{
    if (memchr(name.p, '_', name.n) == NULL)
        return NULL;
    for (const struct master_line *l = src->services; l != NULL; l = l->next) {
        const struct param_row *row = param_transport_row(name, span_cstr(l->name));
        if (row != NULL)
            return row->name;
    }
    return NULL;
}

const struct conf_entry *conf_scope_entry(const struct conf_scope *s, struct span name)
{
    const struct conf_entry *e = s->overrides ? conf_dict_get(s->overrides, name) : NULL;
    return e ? e : conf_dict_get(s->src->main, name);
}

/* Text in main.cf, -o or computed; NULL leaves the tables. */
static const char *defined(const struct conf_scope *s, struct span name)
{
    const struct conf_entry *e = s->overrides ? conf_dict_get(s->overrides, name) : NULL;
    if (e != NULL)
        return e->value;
    if (s->stress && is(name, "stress"))
        return "yes";
    if (s->src->dir != NULL && is(name, "config_directory"))
        return s->src->dir;
    e = conf_dict_get(s->src->main, name);
    return e ? e->value : computed(s, name);
}

/*
 * The tables hold <transport>_X only as default_X. What is returned then is a name, not a text: *reference is set.
 */
static const char *find_text(const struct conf_scope *s, struct span name, bool *reference)
{
    *reference = false;
    const char *text = defined(s, name);
    if (text != NULL)
        return text;
    ptrdiff_t row = param_find(s->src->index, name);
    if (row >= 0)
        return param_row((size_t)row)->def;
    const char *other = conf_scope_fallback(s->src, name);
    *reference = other != NULL;
    return other;
}

static const char *lookup_cb(void *arg, struct span name)
{
    const struct conf_scope *s = arg;
    bool reference;
    const char *text = find_text(s, name, &reference);
    /* The default of the default: its own definition or number, never another reference to a transport. */
    if (reference)
        text = find_text(s, span_cstr(text), &reference);
    return text;
}

const char *conf_scope_raw(const struct conf_scope *s, struct span name)
{
    return lookup_cb((void *)(uintptr_t)s, name);
}

bool conf_scope_expand_text(const struct conf_scope *s, const char *text, struct buf *out, struct err *e)
{
    return expand_text(span_cstr(text), lookup_cb, (void *)(uintptr_t)s, out, e);
}

/* myorigin = /file: the first word of that file, as Debian's packages have it in /etc/mailname. */
static bool read_first_line(const char *path, struct buf *out, struct err *e)
{
    struct buf file = BUF_INIT(64 * 1024);
    bool ok = io_read_file(path, &file, e);
    if (ok) {
        struct span rest = buf_span(&file), word;
        if (span_next_token(&rest, " \t\r\n", &word)) {
            buf_add_span(out, word);
        } else {
            err_set(e, "%s is empty; a domain name was expected in it", path);
            ok = false;
        }
    }
    buf_free(&file);
    return ok;
}

static bool expand_of(const struct conf_scope *s, struct span name, const char *text, bool is_raw, struct buf *out, struct err *e)
{
    if (text == NULL || *text == '\0')
        return true;
    if (is_raw) {
        buf_puts(out, text);
        return true;
    }
    if (!is(name, "myorigin"))
        return conf_scope_expand_text(s, text, out, e);
    struct buf value = BUF_INIT(0);
    bool ok = conf_scope_expand_text(s, text, &value, e);
    if (ok && value.n > 0 && value.p[0] == '/')
        ok = read_first_line(buf_cstr(&value), out, e);
    else
        buf_add_span(out, buf_span(&value));
    buf_free(&value);
    return ok;
}

bool conf_scope_expand(const struct conf_scope *s, struct span name, struct buf *out, struct err *e)
{
    ptrdiff_t row = param_find(s->src->index, name);
    if (row >= 0)
        return conf_scope_expand_row(s, param_row((size_t)row), out, e);
    return expand_of(s, name, conf_scope_raw(s, name), false, out, e);
}

bool conf_scope_expand_row(const struct conf_scope *s, const struct param_row *row, struct buf *out, struct err *e)
{
    struct span name = span_cstr(row->name);
    const char *text = defined(s, name);
    return expand_of(s, name, text != NULL ? text : row->def, row->kind == PARAM_RAW, out, e);
}

static const char *compute_domain(const struct conf_scope *global, struct arena *a)
{
    struct buf host = BUF_INIT(EXPAND_BYTES_MAX);
    struct err e = ERR_INIT;
    const char *domain = "localdomain";
    if (conf_scope_expand(global, SPAN_LIT("myhostname"), &host, &e)) {
        ptrdiff_t dot = span_find(buf_span(&host), '.');
        if (dot >= 0 && (size_t)dot + 1 < host.n)
            domain = arena_strndup(a, host.p + dot + 1, host.n - (size_t)dot - 1);
    }
    buf_free(&host);
    return domain;
}

static const char *compute_networks(const struct conf_scope *global, struct arena *a, struct conf_report *report)
{
    struct buf style = BUF_INIT(EXPAND_BYTES_MAX), protocols = style, interfaces = style, out = style;
    struct err e = ERR_INIT;
    const char *networks = "";
    bool ok = conf_scope_expand(global, SPAN_LIT("mynetworks_style"), &style, &e) &&
              conf_scope_expand(global, SPAN_LIT("inet_protocols"), &protocols, &e) &&
              conf_scope_expand(global, SPAN_LIT("inet_interfaces"), &interfaces, &e) &&
              conf_host_networks(buf_cstr(&style), buf_cstr(&protocols), buf_cstr(&interfaces), &out, &e);
    if (ok)
        networks = arena_strdup(a, buf_cstr(&out));
    else
        conf_report_add(report, CONF_WARNING, NULL, 0, "mynetworks stays empty: %s", e.text);
    buf_free(&style);
    buf_free(&protocols);
    buf_free(&interfaces);
    buf_free(&out);
    return networks;
}

void conf_source_compute(struct conf_source *src, struct arena *a, struct conf_report *report)
{
    struct conf_scope global = { .src = src, .service_name = "", .process_name = "posthoused" };
    struct span host = span_cstr(src->hostname);

    if (span_find(host, '.') < 0)
        src->hostname = conf_dict_get(src->main, SPAN_LIT("mydomain")) ? arena_printf(a, "%s.$mydomain", src->hostname)
                                                                       : arena_printf(a, "%s.localdomain", src->hostname);
    src->process_id = arena_printf(a, "%ld", (long)getpid());
    if (conf_dict_get(src->main, SPAN_LIT("mydomain")) == NULL)
        src->mydomain = compute_domain(&global, a);
    if (conf_dict_get(src->main, SPAN_LIT("mynetworks")) == NULL)
        src->mynetworks = compute_networks(&global, a, report);
}
