/*
 * Which parts a template takes is found out once; a key is then checked against both templates together, because one that
 * cannot fill the result format need not be asked for.
 */
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/table/match_list.h"
#include "common/table/table_query.h"

#define LABELS_MAX 9

struct needs {
    bool key_user, key_domain;     /* an address with something before (behind) the @ */
    bool value_user, value_domain;
    int labels;                    /* of the key's domain, from the right */
};

struct table_query {
    char *query, *format;          /* owned */
    struct needs needs;
    struct match_list *domain;     /* owned; NULL: every key */
};

static bool scan(const char *text, bool is_result, struct needs *n, struct err *e)
{
    for (const char *p = text; (p = strchr(p, '%')) != NULL; p++) {
        char c = *++p;
        if (c == 'u')
            *(is_result ? &n->value_user : &n->key_user) = true;
        else if (c == 'd')
            *(is_result ? &n->value_domain : &n->key_domain) = true;
        else if (c == 'U')
            n->key_user = true;
        else if (c == 'D')
            n->key_domain = true;
        else if (c >= '1' && c <= '9') {
            n->key_domain = true;
            n->labels = c - '0' > n->labels ? c - '0' : n->labels;
        } else if (c != '%' && c != 's' && c != 'S') {
            err_set(e, "%s = %.200s: %%%c has no meaning; known: %%%% %%s %%u %%d %%S %%U %%D %%1-%%9",
                    is_result ? "result_format" : "query", text, c != '\0' ? c : ' ');
            return false;
        }
    }
    return true;
}

static void domain_problem(void *arg, enum table_status status, const char *text)
{
    const struct table_load *in = arg;
    (void)status;
    if (in->notes != NULL && in->notes->fn != NULL)
        in->notes->fn(in->notes->arg, true, in->spec, 0, text);
}

struct table_query *table_query_new(const struct table_load *in, const char *query, const char *result_format,
                                    const char *domain, struct err *e)
{
    struct table_query *q = xcalloc(1, sizeof *q);
    q->query = xstrdup(query);
    q->format = xstrdup(result_format != NULL ? result_format : "%s");
    if (!scan(q->query, false, &q->needs, e) || !scan(q->format, true, &q->needs, e)) {
        table_query_free(&q);
        return NULL;
    }
    if (domain != NULL && *domain != '\0') {
        struct match_options o = { .registry = in->registry, .list = span_cstr(domain), .kind = MATCH_NAMES, .title = "domain",
                                   .problem = domain_problem, .arg = (void *)(uintptr_t)in };
        q->domain = match_list_compile(&o);
    }
    return q;
}

void table_query_free(struct table_query **qp)
{
    struct table_query *q = *qp;
    if (q == NULL)
        return;
    match_list_free(&q->domain);
    free(q->query);
    free(q->format);
    free(q);
    *qp = NULL;
}

/* n-th label of a domain from the right, n from 1; empty when there is none. */
static struct span label(struct span domain, int n)
{
    for (;; n--) {
        ptrdiff_t dot = span_rfind(domain, '.');
        struct span last = span_from(domain, (size_t)(dot + 1));
        if (n == 1)
            return last;
        if (dot < 0)
            return span_of(NULL, 0);
        domain.n = (size_t)dot;
    }
}

struct span table_query_part(char letter, struct span key)
{
    ptrdiff_t at = span_rfind(key, '@');
    struct span domain = at >= 0 ? span_from(key, (size_t)at + 1) : span_of(NULL, 0);
    if (ascii_lower(letter) == 'd')
        return domain;
    if (ascii_lower(letter) == 'u')
        return at >= 0 ? span_of(key.p, (size_t)at) : key;
    if (letter >= '1' && letter <= '9')
        return label(domain, letter - '0');
    return key;
}

enum lookup table_query_admits(const struct table_query *q, struct span key, struct err *e)
{
    ptrdiff_t at = span_rfind(key, '@');
    struct span domain = at >= 0 ? span_from(key, (size_t)at + 1) : span_of(NULL, 0);
    if (q->domain != NULL) {
        if (at <= 0 || domain.n == 0)
            return LOOKUP_NONE;
        enum lookup got = match_list_name(q->domain, domain, e);
        if (got != LOOKUP_FOUND)
            return got;
    }
    if (key.n == 0 || (q->needs.key_domain && domain.n == 0) || (q->needs.key_user && at == 0))
        return LOOKUP_NONE;
    for (int i = 1; i <= q->needs.labels; i++) {
        if (label(domain, i).n == 0)
            return LOOKUP_NONE;
    }
    return LOOKUP_FOUND;
}

bool table_query_expand_other(const char *text, struct span key, table_quote_fn *quote, void *arg, struct buf *out,
                              struct err *e)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p != '%' || p[1] == '\0') {
            buf_putc(out, *p);
            continue;
        }
        if (*++p == '%') {
            buf_putc(out, '%');
            continue;
        }
        struct span part = table_query_part(*p, key);
        if (quote == NULL)
            buf_add_span(out, part);
        else if (!quote(arg, part, out, e))
            return false;
    }
    if (buf_ok(out))
        return true;
    err_set(e, "the query for this key is too long");
    return false;
}

bool table_query_expand(const struct table_query *q, struct span key, table_quote_fn *quote, void *arg, struct buf *out,
                        struct err *e)
{
    return table_query_expand_other(q->query, key, quote, arg, out, e);
}

bool table_query_result(const struct table_query *q, struct span key, struct span result, struct buf *out)
{
    ptrdiff_t at = span_rfind(result, '@');
    bool has_domain = at >= 0 && (size_t)at + 1 < result.n;
    if (result.n == 0 || (q->needs.value_domain && !has_domain) || (q->needs.value_user && at == 0))
        return false;
    if (out->n > 0)
        buf_putc(out, ',');
    for (const char *p = q->format; *p != '\0'; p++) {
        if (*p != '%' || p[1] == '\0')
            buf_putc(out, *p);
        else if (*++p == '%')
            buf_putc(out, '%');
        else
            buf_add_span(out, table_query_part(*p, *p == 's' || *p == 'u' || *p == 'd' ? result : key));
    }
    return true;
}
