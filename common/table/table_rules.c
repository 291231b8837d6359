/*
 * regexp, pcre, cidr: ordered rules, the first that matches answers
 *
 * The three share everything but the pattern: rows `PATTERN result`, `!PATTERN result`, `if PATTERN` ... `endif`. An `if`
 * that does not match jumps behind its endif. $1, ${1} and $(1) in a result are what the groups of a pattern matched,
 * $$ is a dollar; a negated pattern has no groups. Sources: a file, or rows in braces: regexp:{ {/x/ y}, {/z/ w} }.
 *
 * Matching needs no lock: compiled patterns are only read, match data lives on the stack or is made for the call.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <regex.h>
#include <stdarg.h>

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/net/ipaddr.h"
#include "common/table/lines.h"
#include "common/table/table_internal.h"

#define GROUPS_MAX 32
#define IF_DEPTH_MAX 64
#define KEY_STACK 512

enum rule_kind { RULE_RESULT, RULE_IF, RULE_ENDIF };

struct rule {
    enum rule_kind kind;
    bool negated;
    struct span result;   /* in the content's arena */
    size_t skip_to;       /* RULE_IF: where to go on when it does not match */
    int line;
    regex_t *regex;       /* owned; one of the three by the table's type */
    pcre2_code *pcre;     /* owned */
    struct ip_net net;
};

enum rules_type { RULES_REGEXP, RULES_PCRE, RULES_CIDR };

struct rules_content {
    struct table_content base;
    enum rules_type type;
    struct rule *rules;   /* owned */
    size_t count;
    struct arena *arena;  /* owned */
};

struct groups {
    int count;                         /* the whole match included */
    size_t from[GROUPS_MAX], to[GROUPS_MAX];
};

static void rules_free(struct table_content *c)
{
    struct rules_content *r = (struct rules_content *)c;
    for (size_t i = 0; i < r->count; i++) {
        if (r->rules[i].regex != NULL)
            regfree(r->rules[i].regex);
        free(r->rules[i].regex);
        pcre2_code_free(r->rules[i].pcre);
    }
    free(r->rules);
    arena_free(&r->arena);
    free(r);
}

/* ---- matching ---- */

static enum lookup match_regex(const struct rule *u, struct span key, struct groups *g, struct err *e)
{
    regmatch_t m[GROUPS_MAX];
    (void)e;
    if (regexec(u->regex, key.p, GROUPS_MAX, m, 0) != 0) /* key ends with a NUL: rules_find() */
        return LOOKUP_NONE;
    g->count = (int)u->regex->re_nsub + 1 < GROUPS_MAX ? (int)u->regex->re_nsub + 1 : GROUPS_MAX;
    for (int i = 0; i < g->count; i++) {
        g->from[i] = m[i].rm_so < 0 ? 0 : (size_t)m[i].rm_so;
        g->to[i] = m[i].rm_so < 0 ? 0 : (size_t)m[i].rm_eo;
    }
    return LOOKUP_FOUND;
}

static enum lookup match_pcre(const struct rule *u, struct span key, struct groups *g, struct err *e)
{
    pcre2_match_data *m = pcre2_match_data_create(GROUPS_MAX, NULL);
    if (m == NULL) {
        err_set(e, "out of memory");
        return LOOKUP_TEMPFAIL;
    }
    int rc = pcre2_match(u->pcre, (PCRE2_SPTR)(key.p ? key.p : ""), key.n, 0, 0, m, NULL);
    enum lookup got = LOOKUP_NONE;
    if (rc >= 0) {
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m);
        got = LOOKUP_FOUND;
        g->count = GROUPS_MAX;
        for (int i = 0; i < GROUPS_MAX; i++) {
            bool set = (rc == 0 || i < rc) && at[2 * i] != PCRE2_UNSET;
            g->from[i] = set ? at[2 * i] : 0;
            g->to[i] = set ? at[2 * i + 1] : 0;
        }
    } else if (rc != PCRE2_ERROR_NOMATCH) {
        char why[120];
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        err_set(e, "line %d: %s", u->line, why);
        got = LOOKUP_TEMPFAIL; /* the limits against runaway patterns end here */
    }
    pcre2_match_data_free(m);
    return got;
}

static enum lookup match_rule(const struct rules_content *r, const struct rule *u, struct span key,
                              const struct ip_addr *ip, struct groups *g, struct err *e)
{
    enum lookup got = LOOKUP_NONE;
    switch (r->type) {
    case RULES_REGEXP:
        got = match_regex(u, key, g, e);
        break;
    case RULES_PCRE:
        got = match_pcre(u, key, g, e);
        break;
    case RULES_CIDR:
        got = ip_net_contains(&u->net, ip) ? LOOKUP_FOUND : LOOKUP_NONE;
        break;
    }
    if (u->negated && got != LOOKUP_TEMPFAIL)
        return got == LOOKUP_FOUND ? LOOKUP_NONE : LOOKUP_FOUND;
    return got;
}

/* One `$...` at s: its group number and length. False when it is not a reference. */
static bool parse_reference(struct span s, int *group, size_t *length)
{
    size_t i = 1;
    char close = '\0';
    int n = 0;
    if (s.n > i && (s.p[i] == '{' || s.p[i] == '('))
        close = s.p[i++] == '{' ? '}' : ')';
    size_t digits = i;
    while (i < s.n && ascii_is_digit(s.p[i]) && n < 1000)
        n = n * 10 + (s.p[i++] - '0');
    if (i == digits || (close != '\0' && (i >= s.n || s.p[i++] != close)))
        return false;
    *group = n;
    *length = i;
    return true;
}

static struct span expand_result(const struct rule *u, struct span key, const struct groups *g, struct arena *a)
{
    struct buf b = BUF_INIT(0);
    struct span s = u->result;
    for (size_t i = 0; i < s.n;) {
        int group;
        size_t length;
        if (s.p[i] == '$' && i + 1 < s.n && s.p[i + 1] == '$') {
            buf_putc(&b, '$');
            i += 2;
        } else if (s.p[i] == '$' && parse_reference(span_from(s, i), &group, &length)) {
            if (!u->negated && group < g->count)
                buf_add(&b, key.p + g->from[group], g->to[group] - g->from[group]);
            i += length;
        } else {
            buf_putc(&b, s.p[i++]);
        }
    }
    struct span out = arena_dup_span(a, buf_span(&b));
    buf_free(&b);
    return out;
}

static enum lookup search(const struct rules_content *r, struct span key, const struct ip_addr *ip, struct arena *a,
                          struct span *value, struct err *e)
{
    struct groups g = { .count = 0 };
    for (size_t i = 0; i < r->count; i++) {
        const struct rule *u = &r->rules[i];
        if (u->kind == RULE_ENDIF)
            continue;
        enum lookup got = match_rule(r, u, key, ip, &g, e);
        if (got == LOOKUP_TEMPFAIL)
            return got;
        if (u->kind == RULE_IF && got == LOOKUP_NONE)
            i = u->skip_to - 1;
        if (u->kind != RULE_RESULT || got == LOOKUP_NONE)
            continue;
        if (value == NULL)
            return LOOKUP_FOUND;
        *value = r->type == RULES_CIDR ? arena_dup_span(a, u->result) : expand_result(u, key, &g, a);
        if (value->n > 0)
            return LOOKUP_FOUND;
        err_set(e, "line %d: the result is empty", u->line);
        return LOOKUP_TEMPFAIL;
    }
    return LOOKUP_NONE;
}

/* regexec() takes a C string; what lies behind a NUL in a key is not looked at. */
static enum lookup search_cstr(const struct rules_content *r, struct span key, struct arena *a, struct span *value,
                               struct err *e)
{
    char small[KEY_STACK];
    char *p = key.n < sizeof small ? small : xmalloc(key.n + 1);
    if (key.n)
        memcpy(p, key.p, key.n);
    p[key.n] = '\0';
    enum lookup got = search(r, span_cstr(p), NULL, a, value, e);
    if (p != small)
        free(p);
    return got;
}

static enum lookup rules_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                              struct err *e)
{
    const struct rules_content *r = (const struct rules_content *)c;
    struct ip_addr ip;
    if (r->type == RULES_REGEXP)
        return search_cstr(r, key, a, value, e);
    if (r->type == RULES_CIDR && !ip_parse(key, &ip))
        return LOOKUP_NONE;
    return search(r, key, &ip, a, value, e);
}

static const struct table_ops rules_ops = { .find = rules_find, .free = rules_free };

/* ---- patterns ---- */

/* "/pattern/flags": the pieces; *rest gets what follows. The delimiter may be any byte that is no letter or digit. */
static bool split_pattern(struct span s, struct span *pattern, struct span *flags, struct span *rest, const char **why)
{
    char delimiter = s.n ? s.p[0] : '\0';
    size_t i = 1;
    *why = "expected a pattern between delimiters: /pattern/flags";
    if (s.n == 0 || ascii_is_alnum(delimiter) || ascii_is_space(delimiter))
        return false;
    while (i < s.n && s.p[i] != delimiter)
        i += s.p[i] == '\\' && i + 1 < s.n ? 2 : 1;
    *why = "the pattern is not closed by its delimiter";
    if (i >= s.n)
        return false;
    *pattern = span_of(s.p + 1, i - 1);
    size_t from = ++i;
    while (i < s.n && !ascii_is_space(s.p[i]))
        i++;
    *flags = span_of(s.p + from, i - from);
    *rest = span_trim(span_from(s, i));
    return true;
}

static bool compile_regex(struct rule *u, struct span pattern, struct span flags, char *why, size_t why_n)
{
    int cflags = REG_EXTENDED | REG_ICASE;
    for (size_t i = 0; i < flags.n; i++) {
        switch (flags.p[i]) {
        case 'i': cflags ^= REG_ICASE; break;
        case 'm': cflags ^= REG_NEWLINE; break;
        case 'x': cflags ^= REG_EXTENDED; break;
        default:
            snprintf(why, why_n, "unknown flag '%c' behind the pattern; known: i m x", flags.p[i]);
            return false;
        }
    }
    char *text = xstrndup(pattern.p, pattern.n);
    u->regex = xcalloc(1, sizeof *u->regex);
    int rc = regcomp(u->regex, text, cflags);
    free(text);
    if (rc == 0)
        return true;
    regerror(rc, u->regex, why, why_n);
    free(u->regex);
    u->regex = NULL;
    return false;
}

static bool compile_pcre(struct rule *u, struct span pattern, struct span flags, char *why, size_t why_n)
{
    static const struct { char c; uint32_t bit; } bits[] = {
        { 'i', PCRE2_CASELESS }, { 'm', PCRE2_MULTILINE }, { 's', PCRE2_DOTALL }, { 'x', PCRE2_EXTENDED },
        { 'A', PCRE2_ANCHORED }, { 'E', PCRE2_DOLLAR_ENDONLY }, { 'U', PCRE2_UNGREEDY }, { 'X', 0 },
    };
    uint32_t options = PCRE2_CASELESS | PCRE2_DOTALL;
    for (size_t i = 0; i < flags.n; i++) {
        size_t k = 0;
        while (k < ARRAY_LEN(bits) && bits[k].c != flags.p[i])
            k++;
        if (k == ARRAY_LEN(bits)) {
            snprintf(why, why_n, "unknown flag '%c' behind the pattern; known: i m s x A E U X", flags.p[i]);
            return false;
        }
        options ^= bits[k].bit;
    }
    int code;
    PCRE2_SIZE at;
    u->pcre = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n, options, &code, &at, NULL);
    if (u->pcre != NULL)
        return true;
    char text[160];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    snprintf(why, why_n, "at byte %zu of the pattern: %s", (size_t)at, text);
    return false;
}

static int group_count(const struct rule *u)
{
    uint32_t n = 0;
    if (u->regex != NULL)
        return (int)u->regex->re_nsub;
    if (u->pcre != NULL)
        pcre2_pattern_info(u->pcre, PCRE2_INFO_CAPTURECOUNT, &n);
    return (int)n;
}

static bool check_references(const struct rule *u, bool may_refer, char *why, size_t why_n)
{
    for (size_t i = 0; i < u->result.n; i++) {
        int group;
        size_t length;
        if (u->result.p[i] != '$')
            continue;
        if (i + 1 < u->result.n && u->result.p[i + 1] == '$') {
            i++;
            continue;
        }
        if (!may_refer && parse_reference(span_from(u->result, i), &group, &length)) {
            snprintf(why, why_n, "$%d: what the pattern matched may not become a part of this result", group);
            return false;
        }
        if (parse_reference(span_from(u->result, i), &group, &length)
            && (group > group_count(u) || group >= GROUPS_MAX || group == 0)) {
            snprintf(why, why_n, "$%d: the pattern has %d groups", group, group_count(u));
            return false;
        }
    }
    return true;
}

/* ---- rows ---- */

struct reading {
    const struct table_load *in;
    struct rules_content *r;
    size_t open[IF_DEPTH_MAX];  /* rules that wait for their endif */
    size_t depth;
};

static bool parse_target(struct reading *x, struct rule *u, struct span s, struct span *rest, char *why, size_t why_n)
{
    struct span pattern, flags;
    const char *text;
    if (x->r->type == RULES_CIDR) {
        struct err e = ERR_INIT;
        struct span net = { NULL, 0 };
        if (!span_next_token(&s, " \t", &net) || !ip_net_parse(net, &u->net, &e)) {
            snprintf(why, why_n, "%.150s", net.n ? e.text : "expected a network");
            return false;
        }
        *rest = span_trim(s);
        return true;
    }
    if (!split_pattern(s, &pattern, &flags, rest, &text)) {
        snprintf(why, why_n, "%s", text);
        return false;
    }
    return x->r->type == RULES_PCRE ? compile_pcre(u, pattern, flags, why, why_n)
                                    : compile_regex(u, pattern, flags, why, why_n);
}

static struct rule *add_rule(struct reading *x, const struct rule *u)
{
    struct rules_content *r = x->r;
    if ((r->count & (r->count + 1)) == 0) /* at 0, 1, 3, 7, ...: room for twice as many */
        r->rules = xrealloc(r->rules, (r->count + 1) * 2 * sizeof *r->rules);
    r->rules[r->count] = *u;
    return &r->rules[r->count++];
}

static void drop_pattern(struct rule *u)
{
    if (u->regex != NULL)
        regfree(u->regex);
    free(u->regex);
    pcre2_code_free(u->pcre);
}

static bool take_word(struct span *s, const char *word)
{
    size_t n = strlen(word);
    if (s->n < n || !span_ieq(span_of(s->p, n), span_of(word, n)) || (s->n > n && ascii_is_alnum(s->p[n])))
        return false;
    *s = span_trim(span_from(*s, n));
    return true;
}

static bool end_if(struct reading *x, int line, struct err *e)
{
    if (x->depth == 0)
        return table_bad_line(x->in, line, e, "endif without if; ignored");
    struct rule u = { .kind = RULE_ENDIF, .line = line };
    add_rule(x, &u);
    x->r->rules[x->open[--x->depth]].skip_to = x->r->count;
    return true;
}

static bool read_row(struct reading *x, struct span s, int line, struct err *e)
{
    char why[200] = "";
    struct rule u = { .kind = RULE_RESULT, .line = line };
    struct span rest;
    s = span_trim(s);
    if (take_word(&s, "endif"))
        return end_if(x, line, e);
    if (take_word(&s, "if"))
        u.kind = RULE_IF;
    while (s.n > 0 && s.p[0] == '!') {
        u.negated = !u.negated;
        s = span_trim(span_from(s, 1));
    }
    bool ok = parse_target(x, &u, s, &rest, why, sizeof why);
    if (ok && u.kind == RULE_RESULT) {
        u.result = arena_dup_span(x->r->arena, rest);
        ok = rest.n > 0 && (x->r->type == RULES_CIDR || u.negated || check_references(&u, !(x->in->flags & TABLE_NO_REFERENCES), why, sizeof why));
    } else if (ok && x->depth == IF_DEPTH_MAX) {
        ok = false;
        snprintf(why, sizeof why, "too many ifs inside each other");
    }
    if (!ok) {
        drop_pattern(&u);
        return table_bad_line(x->in, line, e, "%s; ignored", *why ? why : "there is no result behind the pattern");
    }
    if (u.kind == RULE_IF)
        x->open[x->depth++] = x->r->count;
    add_rule(x, &u);
    return true;
}

static bool read_inline(struct reading *x, struct err *e)
{
    struct span rest = x->in->name, item;
    bool braced;
    if (rest.n < 2 || rest.p[rest.n - 1] != '}') {
        err_set(e, "expected { {row}, {row}, ... }");
        return false;
    }
    rest = span_of(rest.p + 1, rest.n - 2);
    for (int row = 1; conf_list_next(&rest, &item, &braced); row++) {
        if (!read_row(x, item, row, e))
            return false;
    }
    return true;
}

static bool read_file(struct reading *x, struct err *e)
{
    struct lines ls = lines_of(x->in->text->p, x->in->text->n);
    struct line l;
    while (lines_next(&ls, &l)) {
        if (!read_row(x, span_of(l.p, l.n), l.number, e))
            return false;
    }
    return true;
}

static bool rules_load(enum rules_type type, const struct table_load *in, struct table_content **out, struct err *e)
{
    struct rules_content *r = xcalloc(1, sizeof *r);
    r->base.ops = &rules_ops;
    atomic_init(&r->base.refs, 1);
    r->type = type;
    r->arena = arena_new(0);
    struct reading x = { .in = in, .r = r };
    bool ok = in->text != NULL ? read_file(&x, e) : read_inline(&x, e);
    for (; ok && x.depth > 0; x.depth--) {
        struct rule *u = &r->rules[x.open[x.depth - 1]];
        u->skip_to = r->count;
        ok = table_bad_line(in, u->line, e, "if without endif; it reaches to the end");
    }
    if (!ok) {
        rules_free(&r->base);
        return false;
    }
    *out = &r->base;
    return true;
}

bool table_regexp_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return rules_load(RULES_REGEXP, in, out, e);
}

bool table_pcre_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return rules_load(RULES_PCRE, in, out, e);
}

bool table_cidr_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return rules_load(RULES_CIDR, in, out, e);
}
