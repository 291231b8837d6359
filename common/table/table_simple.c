/*
 * The types that need no file: inline, static, fail, environ, unix. Their contents never change, except that unix asks
 * the system's databases each time.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/table/fold.h"
#include "common/table/strmap.h"
#include "common/table/table_internal.h"

#define DB_BYTES_MAX 65536

struct simple_content {
    struct table_content base;
    char *text;             /* owned */
    size_t n;
    struct strmap map;      /* inline */
    bool is_group;          /* unix */
};

static void simple_free(struct table_content *c)
{
    struct simple_content *s = (struct simple_content *)c;
    strmap_free(&s->map);
    free(s->text);
    free(s);
}

static struct simple_content *simple_new(const struct table_ops *ops, struct span text)
{
    struct simple_content *s = xcalloc(1, sizeof *s);
    s->base.ops = ops;
    atomic_init(&s->base.refs, 1);
    s->text = xstrndup(text.p ? text.p : "", text.n);
    s->n = text.n;
    return s;
}

/* "{ text }" -> "text"; false when there are no braces around it. */
static bool strip_braces(struct span *s)
{
    struct span t = span_trim(*s);
    if (t.n < 2 || t.p[0] != '{' || t.p[t.n - 1] != '}')
        return false;
    *s = span_trim(span_of(t.p + 1, t.n - 2));
    return true;
}

/* ---- inline ---- */

static enum lookup inline_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                               struct err *e)
{
    const struct simple_content *s = (const struct simple_content *)c;
    (void)e;
    const struct strmap_row *row = strmap_get(&s->map, key);
    return row == NULL ? LOOKUP_NONE : table_found(strmap_value(&s->map, row), a, value);
}

static bool inline_each(const struct table_content *c, table_row_fn *fn, void *arg, struct err *e)
{
    const struct simple_content *s = (const struct simple_content *)c;
    (void)e;
    for (uint32_t i = 0; i < s->map.count; i++) {
        if (!fn(arg, strmap_key(&s->map, &s->map.rows[i]), strmap_value(&s->map, &s->map.rows[i])))
            break;
    }
    return true;
}

static const struct table_ops inline_ops = { .find = inline_find, .free = simple_free, .each = inline_each };

/* Folded key and value behind one another in `text`, which may move. False when they are no UTF-8. */
static bool add_inline(struct simple_content *s, struct buf *text, unsigned flags, struct span key, struct span value)
{
    size_t at = text->n;
    if (!buf_reserve(text, key.n * FOLD_GROWTH + value.n))
        return false;
    ptrdiff_t n = (ptrdiff_t)key.n;
    if (flags & (TABLE_BYTES | TABLE_KEEP_CASE)) {
        buf_add_span(text, key);
        if (!(flags & TABLE_KEEP_CASE))
            ascii_lower_buf(text->p + at, key.n);
    } else {
        n = fold_utf8(key, text->p + at);
        text->n += n > 0 ? (size_t)n : 0;
    }
    if (n < 0 || (!(flags & TABLE_BYTES) && !fold_is_utf8(value)))
        return false;
    buf_add_span(text, value);
    s->map.base = text->p;
    (void)!strmap_add(&s->map, span_of(text->p + at, (size_t)n), span_of(text->p + at + n, value.n), true); /* the last one counts */
    return true;
}

bool table_inline_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    struct span rest = in->name, item;
    if (!strip_braces(&rest)) {
        err_set(e, "expected inline:{ key=value, { key = text with spaces }, ... }");
        return false;
    }
    struct simple_content *s = simple_new(&inline_ops, span_of(NULL, 0));
    struct buf text = BUF_INIT(0);
    bool braced, ok = true;
    strmap_init(&s->map, NULL);
    while (ok && conf_list_next(&rest, &item, &braced)) {
        ptrdiff_t eq = span_find(item, '=');
        struct span key = eq < 0 ? item : span_trim(span_of(item.p, (size_t)eq));
        struct span value = eq < 0 ? span_of(NULL, 0) : span_trim(span_from(item, (size_t)eq + 1));
        if (key.n == 0 || value.n == 0)
            err_set(e, "\"%.*s\": expected key=value, neither of them empty", SPAN_ARG(item));
        else if (!add_inline(s, &text, in->flags, key, value))
            err_set(e, "\"%.*s\" is not valid UTF-8", SPAN_ARG(item));
        else
            continue;
        ok = false;
    }
    free(s->text);
    s->text = buf_detach(&text);
    s->map.base = s->text;
    if (!ok) {
        simple_free(&s->base);
        return false;
    }
    *out = &s->base;
    return true;
}

/* ---- static ---- */

static enum lookup static_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                               struct err *e)
{
    const struct simple_content *s = (const struct simple_content *)c;
    (void)e;
    (void)key;
    return table_found(span_of(s->text, s->n), a, value);
}

static const struct table_ops static_ops = { .find = static_find, .free = simple_free };

bool table_static_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    struct span text = in->name;
    (void)strip_braces(&text);
    if (text.n == 0) {
        err_set(e, "expected static:value");
        return false;
    }
    *out = &simple_new(&static_ops, text)->base;
    return true;
}

/* ---- fail ---- */

static enum lookup fail_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                             struct err *e)
{
    (void)c;
    (void)key;
    (void)a;
    (void)value;
    err_set(e, "this table always fails");
    return LOOKUP_TEMPFAIL;
}

static const struct table_ops fail_ops = { .find = fail_find, .free = simple_free };

bool table_fail_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    (void)e;
    *out = &simple_new(&fail_ops, in->name)->base;
    return true;
}

/* ---- environ ---- */

static enum lookup environ_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                                struct err *e)
{
    (void)c;
    char name[256];
    if (key.n >= sizeof name || memchr(key.p, '\0', key.n) != NULL)
        return LOOKUP_NONE;
    snprintf(name, sizeof name, "%.*s", SPAN_ARG(key));
    const char *v = getenv(name); /* nothing here ever changes the environment */
    if (v == NULL)
        return LOOKUP_NONE;
    if (*v == '\0') {
        err_set(e, "variable %s is empty", name);
        return LOOKUP_TEMPFAIL;
    }
    return table_found(span_cstr(v), a, value);
}

static const struct table_ops environ_ops = { .find = environ_find, .free = simple_free };

bool table_environ_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    (void)e;
    *out = &simple_new(&environ_ops, in->name)->base;
    return true;
}

/* ---- unix ---- */

static enum lookup answer_row(struct buf *row, struct arena *a, struct span *value)
{
    enum lookup found = table_found(buf_span(row), a, value);
    buf_free(row);
    return found;
}

static enum lookup find_user(const char *name, struct arena *a, struct span *value, struct err *e)
{
    char small[4096];
    struct passwd pw, *res = NULL;
    int rc = getpwnam_r(name, &pw, small, sizeof small, &res);
    char *big = NULL;
    if (rc == ERANGE) {
        big = xmalloc(DB_BYTES_MAX);
        rc = getpwnam_r(name, &pw, big, DB_BYTES_MAX, &res);
    }
    enum lookup answer = LOOKUP_NONE;
    if (res != NULL) {
        struct buf b = BUF_INIT(DB_BYTES_MAX);
        buf_printf(&b, "%s:%s:%u:%u:%s:%s:%s", pw.pw_name, pw.pw_passwd, (unsigned)pw.pw_uid, (unsigned)pw.pw_gid,
                   pw.pw_gecos, pw.pw_dir, pw.pw_shell);
        answer = answer_row(&b, a, value);
    } else if (rc != 0 && rc != ENOENT && rc != ESRCH) {
        err_set_sys(e, rc, "user %s", name);
        answer = LOOKUP_TEMPFAIL;
    }
    free(big);
    return answer;
}

static enum lookup find_group(const char *name, struct arena *a, struct span *value, struct err *e)
{
    char *big = xmalloc(DB_BYTES_MAX);
    struct group gr, *res = NULL;
    int rc = getgrnam_r(name, &gr, big, DB_BYTES_MAX, &res);
    enum lookup answer = LOOKUP_NONE;
    if (res != NULL) {
        struct buf b = BUF_INIT(DB_BYTES_MAX);
        buf_printf(&b, "%s:%s:%u:", gr.gr_name, gr.gr_passwd, (unsigned)gr.gr_gid);
        for (char **m = gr.gr_mem; *m != NULL; m++)
            buf_printf(&b, "%s%s", m == gr.gr_mem ? "" : ",", *m);
        answer = answer_row(&b, a, value);
    } else if (rc != 0 && rc != ENOENT && rc != ESRCH) {
        err_set_sys(e, rc, "group %s", name);
        answer = LOOKUP_TEMPFAIL;
    }
    free(big);
    return answer;
}

static enum lookup unix_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                             struct err *e)
{
    const struct simple_content *s = (const struct simple_content *)c;
    char name[256];
    if (key.n == 0 || key.n >= sizeof name || memchr(key.p, '\0', key.n) != NULL)
        return LOOKUP_NONE;
    snprintf(name, sizeof name, "%.*s", SPAN_ARG(key));
    return s->is_group ? find_group(name, a, value, e) : find_user(name, a, value, e);
}

static const struct table_ops unix_ops = { .find = unix_find, .free = simple_free };

bool table_unix_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    bool is_group = span_eq(in->name, SPAN_LIT("group.byname"));
    if (!is_group && !span_eq(in->name, SPAN_LIT("passwd.byname"))) {
        err_set(e, "expected unix:passwd.byname or unix:group.byname");
        return false;
    }
    struct simple_content *s = simple_new(&unix_ops, in->name);
    s->is_group = is_group;
    *out = &s->base;
    return true;
}
