/*
 * address_resolve: which domain an address really leads to
 *
 * "user%x@ours", "x!user@ours", "\"user@x\"@ours" and "@ours:user@x" are all mail for x: as long as the domain behind the
 * last @ is ours it is taken off, and what is left is rewritten and looked at again, until a domain is reached that is
 * not ours, or nothing but a local part is left. What cannot be taken apart any more but still has an operator in its
 * local part (because the domain is not ours, or the administrator switched the operator off) is marked as routed; relay
 * control does not trust it.
 *
 * The plain address, atoms on both sides of one @, is recognised in one pass and takes none of these steps.
 *
 * Addresses come and go in internal form (common/mail/address.h); in between they are taken apart in external form, where
 * a quoted operator is not an operator.
 */
#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/mail/address.h"
#include "policy/policy_internal.h"
#include "policy/rewrite/rewrite.h"

#define TURNS_MAX         50   /* an address with more hops than this is nobody's */
#define ADDRESS_BYTES_MAX 4096

enum tok_kind { TOK_TEXT, TOK_QUOTED, TOK_LITERAL, TOK_OPERATOR };

struct tok {
    enum tok_kind kind;
    char op;            /* TOK_OPERATOR: @ ! % : . */
    struct span text;   /* TOK_TEXT, TOK_LITERAL as written; TOK_QUOTED without quotes and backslashes */
};

struct toks {
    struct tok *t;
    size_t n;
};

/* ---- taking apart and putting together ---- */

static bool is_op(char c)
{
    return c == '@' || c == '!' || c == '%' || c == ':' || c == '.';
}

static struct tok take_quoted(struct span s, size_t *i, struct arena *a)
{
    char *out = arena_alloc(a, s.n - *i + 1);
    size_t n = 0;
    size_t at = *i + 1;
    for (; at < s.n && s.p[at] != '"'; at++) {
        if (s.p[at] == '\\' && at + 1 < s.n)
            at++;
        out[n++] = s.p[at];
    }
    *i = at < s.n ? at + 1 : s.n;
    return (struct tok){ .kind = TOK_QUOTED, .text = span_of(out, n) };
}

/* "[...]" as one piece; an unclosed bracket is ordinary text. */
static bool take_literal(struct span s, size_t *i, struct tok *out)
{
    ptrdiff_t end = span_find(span_from(s, *i), ']');
    if (s.p[*i] != '[' || end < 0)
        return false;
    *out = (struct tok){ .kind = TOK_LITERAL, .text = span_of(s.p + *i, (size_t)end + 1) };
    *i += (size_t)end + 1;
    return true;
}

static struct tok take_text(struct span s, size_t *i)
{
    size_t from = *i;
    while (*i < s.n && !is_op(s.p[*i]) && s.p[*i] != '"' && (s.p[*i] != '[' || *i == from)) {
        if (s.p[*i] == '\\' && *i + 1 < s.n)
            ++*i;
        ++*i;
    }
    return (struct tok){ .kind = TOK_TEXT, .text = span_of(s.p + from, *i - from) };
}

static struct toks scan(struct span s, struct arena *a)
{
    struct toks ts = { arena_alloc(a, (s.n + 4) * sizeof(struct tok)), 0 };
    for (size_t i = 0; i < s.n;) {
        struct tok *t = &ts.t[ts.n++];
        if (is_op(s.p[i]))
            *t = (struct tok){ .kind = TOK_OPERATOR, .op = s.p[i++] };
        else if (s.p[i] == '"')
            *t = take_quoted(s, &i, a);
        else if (!take_literal(s, &i, t))
            *t = take_text(s, &i);
    }
    return ts;
}

static void put_unescaped(struct buf *b, struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\\' && i + 1 < text.n)
            i++;
        buf_putc(b, text.p[i]);
    }
}

/* Text that had backslashes comes out quoted, if it still needs that. */
static void put_external(struct buf *b, const struct tok *t)
{
    struct buf plain = BUF_INIT(0);
    bool is_quoted = t->kind == TOK_QUOTED;
    if (is_quoted)
        buf_add_span(&plain, t->text);
    else
        put_unescaped(&plain, t->text);
    for (size_t i = 0; i < plain.n && !is_quoted; i++)
        is_quoted = (unsigned char)plain.p[i] <= ' ' || plain.p[i] == 127 || strchr("|%!()<>@,;:\\\".[]", plain.p[i]) != NULL;
    if (!is_quoted) {
        buf_add_span(b, buf_span(&plain));
    } else {
        buf_putc(b, '"');
        for (size_t i = 0; i < plain.n; i++) {
            if (plain.p[i] != '\0' && strchr("\"\\\r\n", plain.p[i]) != NULL)
                buf_putc(b, '\\');
            buf_putc(b, plain.p[i]);
        }
        buf_putc(b, '"');
    }
    buf_free(&plain);
}

static struct span print_external(const struct tok *t, size_t n, struct arena *a)
{
    struct buf b = BUF_INIT(0);
    for (size_t i = 0; i < n; i++) {
        if (t[i].kind == TOK_OPERATOR)
            buf_putc(&b, t[i].op);
        else if (t[i].kind == TOK_LITERAL || (t[i].kind == TOK_TEXT && span_find(t[i].text, '\\') < 0))
            buf_add_span(&b, t[i].text);
        else
            put_external(&b, &t[i]);
    }
    struct span out = arena_dup_span(a, buf_span(&b));
    buf_free(&b);
    return out;
}

/* In internal form. */
static struct span print(const struct tok *t, size_t n, struct arena *a)
{
    struct buf b = BUF_INIT(0);
    for (size_t i = 0; i < n; i++) {
        if (t[i].kind == TOK_OPERATOR)
            buf_putc(&b, t[i].op);
        else if (t[i].kind == TOK_TEXT)
            put_unescaped(&b, t[i].text);
        else
            buf_add_span(&b, t[i].text);
    }
    struct span out = arena_dup_span(a, buf_span(&b));
    buf_free(&b);
    return out;
}

static ptrdiff_t op_find(const struct toks *ts, char op)
{
    for (size_t i = 0; i < ts->n; i++) {
        if (ts->t[i].kind == TOK_OPERATOR && ts->t[i].op == op)
            return (ptrdiff_t)i;
    }
    return -1;
}

static ptrdiff_t op_rfind(const struct toks *ts, char op)
{
    for (size_t i = ts->n; i-- > 0;) {
        if (ts->t[i].kind == TOK_OPERATOR && ts->t[i].op == op)
            return (ptrdiff_t)i;
    }
    return -1;
}

static bool is_op_tok(const struct toks *ts, size_t i, char op)
{
    return i < ts->n && ts->t[i].kind == TOK_OPERATOR && ts->t[i].op == op;
}

static void join(struct toks *ts, const struct toks *more, struct arena *a)
{
    struct tok *all = arena_alloc(a, (ts->n + more->n + 4) * sizeof *all);
    memcpy(all, ts->t, ts->n * sizeof *all);
    memcpy(all + ts->n, more->t, more->n * sizeof *all);
    ts->t = all;
    ts->n += more->n;
}

static const struct tok at_sign = { .kind = TOK_OPERATOR, .op = '@' };

static void append_domain(struct toks *ts, const char *domain, struct arena *a)
{
    struct toks one = { (struct tok[]){ at_sign }, 1 };
    struct toks more = scan(span_cstr(domain), a);
    join(ts, &one, a);
    join(ts, &more, a);
}

/* ---- rewriting ---- */

/* "user@domain." loses its dot; "user@domain.." and "user@." are wrong and stay so. */
static void drop_final_dot(struct toks *ts)
{
    if (is_op_tok(ts, ts->n - 1, '.') && op_rfind(ts, '@') >= 0 && !is_op_tok(ts, ts->n - 2, '.')
        && !is_op_tok(ts, ts->n - 2, '@'))
        ts->n--;
}

/* "host!rest" becomes "rest@host". */
static void swap_bang(struct toks *ts, size_t bang, struct arena *a)
{
    struct toks host = { ts->t, bang };
    struct toks out = { arena_alloc(a, sizeof(struct tok)), 0 };
    struct toks rest = { ts->t + bang + 1, ts->n - bang - 1 };
    struct toks one = { (struct tok[]){ at_sign }, 1 };
    join(&out, &rest, a);
    join(&out, &one, a);
    join(&out, &host, a);
    *ts = out;
}

/* The parameter that did it. */
static const char *complete_domain(const struct policy *p, const struct rewrite_context *x, struct toks *ts, struct arena *a)
{
    ptrdiff_t bang = op_find(ts, '!');
    ptrdiff_t percent = op_rfind(ts, '%');
    if (p->p->swap_bangpath && bang >= 0) {
        swap_bang(ts, (size_t)bang, a);
        return "swap_bangpath";
    }
    if (p->p->allow_percent_hack && percent >= 0) {
        ts->t[percent].op = '@';
        return "allow_percent_hack";
    }
    if (p->p->append_at_myorigin && *x->origin != '\0')
        append_domain(ts, x->origin, a);
    return "append_at_myorigin";
}

static void append_mydomain(const struct policy *p, const struct rewrite_context *x, struct toks *ts, struct arena *a)
{
    ptrdiff_t at = op_rfind(ts, '@');
    if (!p->p->append_dot_mydomain || *x->domain == '\0' || at < 0 || (size_t)at + 1 >= ts->n)
        return;
    for (size_t i = (size_t)at + 1; i < ts->n; i++) {
        if (ts->t[i].kind == TOK_LITERAL || is_op_tok(ts, i, '.'))
            return;
    }
    struct toks dot = { (struct tok[]){ { .kind = TOK_OPERATOR, .op = '.' } }, 1 };
    struct toks more = scan(span_cstr(x->domain), a);
    join(ts, &dot, a);
    join(ts, &more, a);
}

/* Whoever asks is told of a step that changed something. */
static void tell(const struct rewrite_trace *t, const char *what, struct span *before, const struct toks *ts, struct arena *a)
{
    if (LIKELY(t == NULL))
        return;
    struct span now = print_external(ts->t, ts->n, a);
    if (!span_eq(now, *before))
        t->step(t->arg, what, *before, now);
    *before = now;
}

static void rewrite_in(const struct policy *p, const struct rewrite_context *x, struct toks *ts, struct arena *a,
                       const struct rewrite_trace *t)
{
    if (ts->n == 1 && is_op_tok(ts, 0, '@'))
        ts->n = 0;
    if (ts->n == 0)
        return;
    struct span before = t != NULL ? print_external(ts->t, ts->n, a) : span_of(NULL, 0);
    ptrdiff_t colon = op_find(ts, ':');
    if (is_op_tok(ts, 0, '@') && colon >= 0 && (size_t)colon + 1 < ts->n) { /* source route */
        ts->t += colon + 1;
        ts->n -= (size_t)colon + 1;
        tell(t, "source route", &before, ts, a);
    }
    if (op_rfind(ts, '@') < 0) {
        const char *what = complete_domain(p, x, ts, a);
        tell(t, what, &before, ts, a);
    }
    append_mydomain(p, x, ts, a);
    tell(t, "append_dot_mydomain", &before, ts, a);
    drop_final_dot(ts);
    tell(t, "final dot", &before, ts, a);
}

struct rewrite_context address_local_context(const struct policy *p)
{
    return (struct rewrite_context){ p->p->myorigin, p->p->mydomain };
}

static void rewrite(const struct policy *p, struct toks *ts, struct arena *a)
{
    struct rewrite_context x = address_local_context(p);
    rewrite_in(p, &x, ts, a, NULL);
}

struct span address_rewrite_external(const struct policy *p, const struct rewrite_context *x, struct span in, struct arena *a,
                                     const struct rewrite_trace *t)
{
    struct toks ts = scan(in, a);
    rewrite_in(p, x, &ts, a, t);
    return print_external(ts.t, ts.n, a);
}

struct span address_rewrite(const struct policy *p, struct span in, struct arena *a)
{
    struct toks ts = scan(in, a);
    rewrite(p, &ts, a);
    return print(ts.t, ts.n, a);
}

/* ---- domains ---- */

static bool is_own_literal(const struct policy *p, struct span domain)
{
    struct ip_addr ip;
    if (!ip_parse_any(domain, &ip))
        return false;
    for (size_t i = 0; i < p->own_addr_count; i++) {
        if (ip_eq(&p->own_addrs[i], &ip))
            return true;
    }
    return false;
}

enum lookup policy_is_local_domain(const struct policy *p, struct span domain, struct err *e)
{
    if (domain.n > 1 && domain.p[domain.n - 1] == '.' && domain.p[domain.n - 2] != '.')
        domain.n--;
    enum lookup got = match_list_name(p->mydestination, domain, e);
    if (got == LOOKUP_NONE && domain.n > 0 && domain.p[0] == '[' && is_own_literal(p, domain))
        got = LOOKUP_FOUND;
    return got;
}

bool address_domain_is_valid(struct span domain)
{
    if (domain.n > 0 && domain.p[0] == '[')
        return addr_literal_is_valid(domain);
    return addr_domain_is_valid(domain, true, false);
}

/* ---- resolving ---- */

static bool is_plain_local_char(unsigned char c)
{
    if (ascii_is_alnum((char)c) || c >= 0x80)
        return true;
    return strchr("#$&'*+-/=?^_`{|}~.", c) != NULL && c != '\0';
}

/* Atoms and dots, one @, a domain of host name characters that does not end with a dot. */
static bool is_plain(struct span s, size_t *at)
{
    size_t i = 0;
    while (i < s.n && is_plain_local_char((unsigned char)s.p[i]))
        i++;
    if (i == 0 || i >= s.n || s.p[i] != '@' || s.p[s.n - 1] == '.')
        return false;
    *at = i;
    return addr_domain_is_valid(span_from(s, i + 1), true, false);
}

/* The last operator in a quoted local part that an administrator lets us obey. */
static ptrdiff_t operator_in_quotes(const struct policy *p, struct span text)
{
    ptrdiff_t at = span_rfind(text, '@');
    if (at < 0 && p->p->allow_percent_hack)
        at = span_rfind(text, '%');
    if (at < 0 && p->p->swap_bangpath)
        at = span_rfind(text, '!');
    return at;
}

/* A quoted local part that holds an operator is opened: "user@x" becomes user@x. False when there is nothing to open. */
static bool open_quotes(const struct policy *p, struct toks *ts, struct arena *a)
{
    if (!p->p->resolve_dequoted_address || ts->n != 1 || ts->t[0].kind != TOK_QUOTED)
        return false;
    struct span text = ts->t[0].text;
    ptrdiff_t op = operator_in_quotes(p, text);
    if (op < 0)
        return false;
    if (text.p[op] == '!') {
        *ts = scan(text, a);
        return true;
    }
    char *opened = arena_strndup(a, text.p, text.n);
    opened[op] = '@';
    *ts = scan(addr_quoted(a, span_of(opened, text.n)), a);
    return true;
}

struct peel {
    struct toks ts;
    struct toks saved;  /* "@domain" of ours that was taken off last */
    bool is_local;
};

/* Takes one domain of ours off. FOUND: look again; NONE: done. */
static enum lookup peel_once(const struct policy *p, struct peel *x, struct arena *a, struct err *e)
{
    struct toks *ts = &x->ts;
    if (ts->n >= 2)
        drop_final_dot(ts);
    if (p->p->resolve_null_domain && ts->n > 0 && is_op_tok(ts, ts->n - 1, '@'))
        ts->n--;
    ptrdiff_t at = op_rfind(ts, '@');
    if (at >= 0) {
        struct toks domain = { ts->t + at + 1, ts->n - (size_t)at - 1 };
        if (domain.n > 0) {
            enum lookup ours = policy_is_local_domain(p, print(domain.t, domain.n, a), e);
            if (ours != LOOKUP_FOUND)
                return ours;
        }
        x->saved = (struct toks){ ts->t + at, ts->n - (size_t)at };
        ts->n = (size_t)at;
    }
    if (op_rfind(ts, '@') >= 0 || (p->p->swap_bangpath && op_find(ts, '!') >= 0)
        || (p->p->allow_percent_hack && op_find(ts, '%') >= 0) || open_quotes(p, ts, a)) {
        struct toks copy = { arena_alloc(a, (ts->n + 4) * sizeof(struct tok)), ts->n }; /* `saved` lies behind ts */
        memcpy(copy.t, ts->t, ts->n * sizeof(struct tok));
        *ts = copy;
        rewrite(p, ts, a);
        return LOOKUP_FOUND;
    }
    if (ts->n == 1 && ts->t[0].kind == TOK_QUOTED && ts->t[0].text.n == 0)
        ts->n = 0;
    if (ts->n == 0)
        *ts = scan(span_cstr(p->p->empty_address_recipient), a);
    x->is_local = true;
    return LOOKUP_NONE;
}

/* Any operator in the local part, quoted or not. */
static bool has_operator(const struct tok *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (t[i].kind == TOK_OPERATOR && t[i].op != '.' && t[i].op != ':')
            return true;
        for (size_t k = 0; t[i].kind != TOK_OPERATOR && k < t[i].text.n; k++) {
            if (strchr("@!%", t[i].text.p[k]) != NULL && t[i].text.p[k] != '\0')
                return true;
        }
    }
    return false;
}

static void finish(const struct policy *p, struct peel *x, struct arena *a, struct resolved *out)
{
    if (x->is_local && x->saved.n > 0)
        join(&x->ts, &x->saved, a);
    else if (x->is_local)
        append_domain(&x->ts, p->p->myhostname, a);
    size_t at = (size_t)op_rfind(&x->ts, '@');
    out->address = print(x->ts.t, x->ts.n, a);
    struct span domain = print(x->ts.t + at + 1, x->ts.n - at - 1, a);
    struct ip_addr ip;
    if (p->p->resolve_numeric_domain && domain.n > 0 && domain.p[0] != '[' && ip_parse(domain, &ip)) {
        char literal[IP_TEXT_MAX];
        struct span local = print(x->ts.t, at, a);
        domain = arena_dup_span(a, span_cstr(ip_print_literal(&ip, literal)));
        out->address = span_cstr(arena_printf(a, "%.*s@%.*s", SPAN_ARG(local), SPAN_ARG(domain)));
    }
    out->is_local = x->is_local;
    out->is_routed = has_operator(x->ts.t, at);
    out->is_bad = !address_domain_is_valid(domain);
    out->domain = span_of(out->address.p + out->address.n - domain.n, domain.n);
}

/* The long way, in memory that is given back: a hostile address may need much of it. */
static enum lookup resolve_slowly(const struct policy *p, struct span in, struct arena *scratch, struct resolved *out,
                                  struct err *e)
{
    struct peel x = { .ts = scan(addr_quoted(scratch, in), scratch) };
    enum lookup more = LOOKUP_FOUND;
    rewrite(p, &x.ts, scratch);
    for (int turn = 0; more == LOOKUP_FOUND && turn < TURNS_MAX; turn++)
        more = peel_once(p, &x, scratch, e);
    if (more == LOOKUP_TEMPFAIL)
        return more;
    if (more == LOOKUP_FOUND) /* still not done */
        *out = (struct resolved){ .address = in, .is_bad = true, .is_routed = true };
    else
        finish(p, &x, scratch, out);
    return LOOKUP_FOUND;
}

enum lookup address_resolve(const struct policy *p, struct span in, struct arena *a, struct resolved *out,
                            struct err *e)
{
    size_t at;
    struct resolved r = { .address = in, .is_bad = true };
    enum lookup got = LOOKUP_FOUND;
    if (in.n > ADDRESS_BYTES_MAX) {
        *out = r;
        return LOOKUP_FOUND;
    }
    if (LIKELY(is_plain(in, &at)) && (!p->p->append_dot_mydomain || span_find(span_from(in, at), '.') >= 0)) {
        struct span domain = span_from(in, at + 1);
        got = policy_is_local_domain(p, domain, e);
        r = (struct resolved){ .address = in, .domain = domain, .is_local = got == LOOKUP_FOUND };
        if (got == LOOKUP_NONE)
            got = LOOKUP_FOUND;
        r.address = arena_dup_span(a, in);
    } else {
        struct arena *scratch = arena_new(0);
        got = resolve_slowly(p, in, scratch, &r, e);
        if (got == LOOKUP_FOUND)
            r.address = arena_dup_span(a, r.address);
        arena_free(&scratch);
    }
    if (got != LOOKUP_FOUND)
        return got;
    r.domain = span_from(r.address, r.address.n - r.domain.n);
    *out = r;
    return LOOKUP_FOUND;
}
