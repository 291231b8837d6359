/*
 * expand: one recursive pass. The condition of ${name?..} and ${name:..} looks at the unexpanded text of the name, as
 * Postfix does: a name defined as "$other" counts as set even when $other is empty. White space is ignored around
 * the braces of a branch and kept inside them. A result is bounded in depth, references and bytes, because a few
 * definitions that mention each other twice would otherwise cost exponential time.
 */
#include "common/conf/expand.h"
#include <idn2.h>
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/base/num.h"

struct expansion {
    expand_lookup_fn *lookup;
    void *arg;
    struct err *e;
    int depth;   /* names inside names */
    int nesting; /* depth of our own recursion: names and branches */
    int steps;
};

static bool expand_into(struct expansion *x, struct span text, struct buf *out);

static bool is_name_char(char c)
{
    return ascii_is_alnum(c) || c == '_';
}

static size_t name_length(struct span s)
{
    size_t n = 0;
    while (n < s.n && is_name_char(s.p[n]))
        n++;
    return n;
}

static struct span skip_space(struct span s)
{
    size_t n = 0;
    while (n < s.n && ascii_is_space(s.p[n]))
        n++;
    return span_from(s, n);
}

size_t expand_group_len(struct span s)
{
    char open = s.n > 0 ? s.p[0] : '\0';
    char shut = open == '{' ? '}' : ')';
    size_t level = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == open)
            level++;
        else if (s.p[i] == shut && --level == 0)
            return i + 1;
    }
    return 0;
}

/* Takes "{...}" off the front of *s; *body is what is between the braces. */
static bool take_braced(struct span *s, struct span *body)
{
    *s = skip_space(*s);
    if (s->n == 0 || s->p[0] != '{')
        return false;
    size_t n = expand_group_len(*s);
    if (n == 0)
        return false;
    *body = span_of(s->p + 1, n - 2);
    *s = skip_space(span_from(*s, n));
    return true;
}

static bool expand_name(struct expansion *x, struct span name, struct buf *out)
{
    if (++x->steps > EXPAND_STEPS_MAX) {
        err_set(x->e, "more than %d references in one value", EXPAND_STEPS_MAX);
        return false;
    }
    const char *text = x->lookup(x->arg, name);
    if (text == NULL || *text == '\0')
        return true;
    if (x->depth >= EXPAND_DEPTH_MAX) {
        err_set(x->e, "\"$%.*s\" refers to itself, or is nested more than %d deep", SPAN_ARG(name), EXPAND_DEPTH_MAX);
        return false;
    }
    x->depth++;
    bool ok = expand_into(x, span_cstr(text), out);
    x->depth--;
    return ok;
}

/* The two branches behind '?' or ':'; what is not given stays empty. */
static bool take_branches(struct expansion *x, struct span rest, struct span *when_set, struct span *when_empty)
{
    char op = rest.p[0];
    struct span body;
    rest = span_from(rest, 1);
    *when_set = *when_empty = span_of(NULL, 0);
    struct span *first = op == '?' ? when_set : when_empty;
    struct span after = skip_space(rest);
    if (after.n == 0 || after.p[0] != '{') {
        *first = after;
        return true;
    }
    if (!take_braced(&after, &body)) {
        err_set(x->e, "missing } in \"%.*s\"", SPAN_ARG(rest));
        return false;
    }
    *first = body;
    if (after.n == 0)
        return true;
    if (op != '?' || after.p[0] != ':') {
        err_set(x->e, "unexpected \"%.*s\" after a {...} branch", SPAN_ARG(after));
        return false;
    }
    after = skip_space(span_from(after, 1));
    if (after.n > 0 && after.p[0] == '{') {
        if (!take_braced(&after, when_empty) || after.n > 0) {
            err_set(x->e, "unexpected text after the last {...} branch");
            return false;
        }
    } else {
        *when_empty = after;
    }
    return true;
}

static const char *const compare_ops[] = { "==", "!=", "<=", ">=", "<", ">" };

static bool is_all_digits(struct span s)
{
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_is_digit(s.p[i]))
            return false;
    }
    return true;
}

static int compare_bytes(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n > 0 ? memcmp(a.p, b.p, n) : 0;
    return c != 0 ? c : (a.n > b.n) - (a.n < b.n);
}

static struct span without_zeros(struct span s)
{
    while (s.n > 1 && s.p[0] == '0')
        s = span_from(s, 1);
    return s;
}

/* Numbers of any length: without leading zeros the longer one is the larger one. */
static int compare_numbers(struct span a, struct span b)
{
    a = without_zeros(a);
    b = without_zeros(b);
    return a.n != b.n ? (a.n > b.n) - (a.n < b.n) : compare_bytes(a, b);
}

/* Compatibility levels: up to three numbers with dots, a missing one counts as zero. */
static bool compare_levels(struct span a, struct span b, int *out)
{
    int result = 0;
    for (int i = 0; i < 3; i++) {
        struct span x = SPAN_LIT("0"), y = SPAN_LIT("0");
        bool more_a = span_next_token(&a, ".", &x), more_b = span_next_token(&b, ".", &y);
        if (!is_all_digits(x) || !is_all_digits(y) || (i == 0 && (!more_a || !more_b)))
            return false;
        if (result == 0)
            result = compare_numbers(x, y);
    }
    *out = result;
    return a.n == 0 && b.n == 0;
}

static bool op_holds(const char *op, int cmp)
{
    switch (op[0]) {
    case '=': return cmp == 0;
    case '!': return cmp != 0;
    case '<': return cmp < 0 || (op[1] == '=' && cmp == 0);
    default:  return cmp > 0 || (op[1] == '=' && cmp == 0);
    }
}

/* "{a} op {b}" at the front of *rest. */
static bool take_relation(struct expansion *x, struct span *rest, bool *holds)
{
    struct span whole = *rest, left, right;
    struct buf a = BUF_INIT(EXPAND_BYTES_MAX), b = BUF_INIT(EXPAND_BYTES_MAX);
    const char *op = NULL;
    bool level = false, ok = false;
    int cmp;

    if (!take_braced(rest, &left)) {
        err_set(x->e, "missing } in \"%.*s\"", SPAN_ARG(whole));
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(compare_ops) && op == NULL; i++) {
        if (span_starts_with(*rest, span_cstr(compare_ops[i])))
            op = compare_ops[i];
    }
    if (op == NULL) {
        err_set(x->e, "one of == != < <= >= > expected in \"%.*s\"", SPAN_ARG(whole));
        return false;
    }
    *rest = span_from(*rest, strlen(op));
    level = span_starts_with(*rest, SPAN_LIT("level"));
    if (level)
        *rest = span_from(*rest, 5);
    if (!take_braced(rest, &right)) {
        err_set(x->e, "{value} expected behind %s in \"%.*s\"", op, SPAN_ARG(whole));
        return false;
    }
    if (!expand_into(x, left, &a) || !expand_into(x, right, &b))
        goto out;
    if (level) {
        if (!compare_levels(buf_span(&a), buf_span(&b), &cmp)) {
            err_set(x->e, "not a compatibility level in \"%.*s\"", SPAN_ARG(whole));
            goto out;
        }
    } else if (is_all_digits(buf_span(&a)) && is_all_digits(buf_span(&b))) {
        cmp = compare_numbers(buf_span(&a), buf_span(&b));
    } else {
        cmp = compare_bytes(buf_span(&a), buf_span(&b));
    }
    *holds = op_holds(op, cmp);
    ok = true;
out:
    buf_free(&a);
    buf_free(&b);
    return ok;
}

/* ${domain_to_ascii{value}}: the A-label form; a domain that has none is left as it is. */
static bool call_domain_to_ascii(struct expansion *x, struct span body, struct buf *out)
{
    struct buf in = BUF_INIT(EXPAND_BYTES_MAX);
    bool ok = expand_into(x, body, &in);
    if (ok) {
        char *ascii = NULL;
        int rc = in.n == 0 ? IDN2_DISALLOWED
                           : idn2_to_ascii_8z(buf_cstr(&in), &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
        if (rc == IDN2_MALLOC)
            mem_exhausted();
        if (rc == IDN2_OK)
            buf_puts(out, ascii);
        else
            buf_add_span(out, buf_span(&in));
        idn2_free(ascii);
    }
    buf_free(&in);
    return ok;
}

/* What is between the braces of ${...} or the parentheses of $(...). */
static bool expand_group(struct expansion *x, struct span body, struct buf *out)
{
    struct span rest = skip_space(body), name, set, empty;
    bool is_set;

    if (rest.n > 0 && rest.p[0] == '{') {
        if (!take_relation(x, &rest, &is_set))
            return false;
        if (rest.n == 0) {
            if (is_set)
                buf_puts(out, "true");
            return true;
        }
    } else {
        size_t n = name_length(rest);
        if (n == 0) {
            err_set(x->e, "name expected in \"${%.*s}\"", SPAN_ARG(body));
            return false;
        }
        name = span_of(rest.p, n);
        rest = span_from(rest, n);
        if (rest.n > 0 && rest.p[0] == '{' && span_eq(name, SPAN_LIT("domain_to_ascii"))) {
            if (!take_braced(&rest, &set) || rest.n > 0) {
                err_set(x->e, "bad function call in \"${%.*s}\"", SPAN_ARG(body));
                return false;
            }
            return call_domain_to_ascii(x, set, out);
        }
        rest = skip_space(rest);
        if (rest.n == 0)
            return expand_name(x, name, out);
        const char *text = x->lookup(x->arg, name);
        is_set = text != NULL && *text != '\0';
    }
    if (rest.p[0] != '?' && rest.p[0] != ':') {
        err_set(x->e, "? or : expected at \"%.*s\"", SPAN_ARG(rest));
        return false;
    }
    return take_branches(x, rest, &set, &empty) && expand_into(x, is_set ? set : empty, out);
}

/* One reference at the front of *text, which begins with '$'. */
static bool expand_reference(struct expansion *x, struct span *text, struct buf *out)
{
    struct span s = span_from(*text, 1);
    if (s.n > 0 && s.p[0] == '$') {
        buf_putc(out, '$');
        *text = span_from(s, 1);
        return true;
    }
    if (s.n > 0 && (s.p[0] == '{' || s.p[0] == '(')) {
        size_t n = expand_group_len(s);
        if (n == 0) {
            err_set(x->e, "missing %c in \"%.*s\"", s.p[0] == '{' ? '}' : ')', SPAN_ARG(*text));
            return false;
        }
        *text = span_from(s, n);
        return expand_group(x, span_of(s.p + 1, n - 2), out);
    }
    size_t n = name_length(s);
    if (n == 0) {
        err_set(x->e, "name expected behind $ in \"%.*s\" (write $$ for a dollar sign)", SPAN_ARG(*text));
        return false;
    }
    *text = span_from(s, n);
    return expand_name(x, span_of(s.p, n), out);
}

static bool expand_pieces(struct expansion *x, struct span text, struct buf *out)
{
    while (text.n > 0) {
        ptrdiff_t dollar = span_find(text, '$');
        buf_add(out, text.p, dollar < 0 ? text.n : (size_t)dollar);
        if (dollar < 0)
            break;
        text = span_from(text, (size_t)dollar);
        if (!expand_reference(x, &text, out))
            return false;
    }
    if (!buf_ok(out)) {
        err_set(x->e, "the value expands to more than %d bytes", EXPAND_BYTES_MAX);
        return false;
    }
    return true;
}

static bool expand_into(struct expansion *x, struct span text, struct buf *out)
{
    if (x->nesting >= EXPAND_NESTING_MAX) {
        err_set(x->e, "references and braces are nested more than %d deep", EXPAND_NESTING_MAX);
        return false;
    }
    x->nesting++;
    bool ok = expand_pieces(x, text, out);
    x->nesting--;
    return ok;
}

bool expand_text(struct span text, expand_lookup_fn *lookup, void *arg, struct buf *out, struct err *e)
{
    struct expansion x = { .lookup = lookup, .arg = arg, .e = e };
    return expand_into(&x, text, out);
}

void expand_names(struct span text, expand_name_fn *fn, void *arg)
{
    while (text.n > 0) {
        ptrdiff_t dollar = span_find(text, '$');
        if (dollar < 0)
            return;
        text = span_from(text, (size_t)dollar + 1);
        if (text.n > 0 && text.p[0] == '$') {
            text = span_from(text, 1);
            continue;
        }
        struct span s = text;
        if (s.n > 0 && (s.p[0] == '{' || s.p[0] == '('))
            s = skip_space(span_from(s, 1));
        size_t n = name_length(s);
        if (n > 0)
            fn(arg, span_of(s.p, n));
    }
}
