/*
 * regexp, pcre, cidr: ordered rules, the first that matches answers
 *
 * The three share everything but the pattern: rows `PATTERN result`, `!PATTERN result`, `if PATTERN` ... `endif`. An `if`
 * that does not match jumps behind its endif. $1, ${1} and $(1) in a result are what the groups of a pattern matched,
 * $$ is a dollar; a negated pattern has no groups. Sources: a file, or rows in braces: regexp:{ {/x/ y}, {/z/ w} }.
 *
 * Matching needs no lock: compiled patterns are only read, match data lives on the stack or is made for the call.
 */
#include <stdarg.h>

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/table/lines.h"
#include "common/table/rules.h"

#define IF_DEPTH_MAX 64
#define KEY_STACK 512
#define BITS_STACK 64     /* words: for 4096 rules */

static void rules_free(struct table_content *c)
{
    struct rules_content *r = (struct rules_content *)c;
    for (size_t i = 0; i < r->count; i++)
        rules_free_pattern(r->type, &r->rules[i]);
    free(r->rules);
    rules_filter_free(&r->filter);
    cidr_index_free(&r->index);
    arena_free(&r->arena);
    free(r);
}

/* ---- matching ---- */

struct search {
    const struct rules_content *r;
    struct span key;              /* regexp: ends with a NUL */
    const uint64_t *bits;         /* the rules that may match; NULL: all */
    pcre2_match_data *match;      /* owned; made at the first pattern that is tried */
    struct groups groups;
};

/* The first rule from i on that is worth trying; count when there is none. */
static size_t next_rule(const struct search *s, size_t i)
{
    if (s->bits == NULL || i >= s->r->count)
        return i;
    size_t word = i / 64;
    uint64_t left = s->bits[word] >> (i % 64);
    if (left != 0)
        return i + (size_t)__builtin_ctzll(left);
    for (word++; word < s->r->count / 64 + 1; word++) {
        if (s->bits[word] != 0)
            return word * 64 + (size_t)__builtin_ctzll(s->bits[word]);
    }
    return s->r->count;
}

static enum lookup match_rule(struct search *s, const struct rule *u, struct err *e)
{
    enum lookup got;
    if (s->r->type == RULES_REGEXP) {
        got = rules_match_regex(u, s->key, &s->groups, e);
    } else {
        if (s->match == NULL)
            s->match = pcre2_match_data_create(s->r->groups, NULL);
        if (s->match == NULL) {
            err_set(e, "out of memory");
            return LOOKUP_TEMPFAIL;
        }
        got = rules_match_pcre(u, s->key, s->match, &s->groups, e);
    }
    if (u->negated && got != LOOKUP_TEMPFAIL)
        return got == LOOKUP_FOUND ? LOOKUP_NONE : LOOKUP_FOUND;
    return got;
}

static enum lookup answer(const struct search *s, const struct rule *u, struct arena *a, struct span *value, struct err *e)
{
    if (!rules_result_is_empty(u, &s->groups)) {
        if (value != NULL)
            *value = rules_expand_result(u, s->key, &s->groups, a);
        return LOOKUP_FOUND;
    }
    err_set(e, "line %d: the result is empty", u->line);
    return LOOKUP_TEMPFAIL;
}

static enum lookup search(struct search *s, struct arena *a, struct span *value, struct err *e)
{
    const struct rules_content *r = s->r;
    for (size_t i = next_rule(s, 0); i < r->count; i = next_rule(s, i + 1)) {
        const struct rule *u = &r->rules[i];
        if (u->kind == RULE_ENDIF)
            continue;
        enum lookup got = match_rule(s, u, e);
        if (got == LOOKUP_TEMPFAIL)
            return got;
        if (u->kind == RULE_IF && got == LOOKUP_NONE)
            i = u->skip_to - 1;
        if (u->kind == RULE_RESULT && got == LOOKUP_FOUND)
            return answer(s, u, a, value, e);
    }
    return LOOKUP_NONE;
}

static enum lookup search_filtered(struct search *s, struct arena *a, struct span *value, struct err *e)
{
    uint64_t small[BITS_STACK];
    size_t words = s->r->filter != NULL ? rules_filter_words(s->r->filter) : 0;
    uint64_t *bits = words <= BITS_STACK ? small : xmalloc(words * sizeof *bits);
    if (words > 0 && rules_filter_candidates(s->r->filter, s->key, bits))
        s->bits = bits;
    enum lookup got = search(s, a, value, e);
    if (bits != small)
        free(bits);
    return got;
}

static enum lookup find_cidr(const struct rules_content *r, struct span key, struct arena *a, struct span *value)
{
    struct ip_addr ip;
    if (!ip_parse(key, &ip))
        return LOOKUP_NONE;
    struct span result = cidr_index_find(r->index, &ip);
    return result.n > 0 ? table_found(result, a, value) : LOOKUP_NONE;
}

static enum lookup rules_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                              struct err *e)
{
    struct search s = { .r = (const struct rules_content *)c, .key = key };
    char small[KEY_STACK];
    if (s.r->type == RULES_CIDR)
        return find_cidr(s.r, key, a, value);
    char *p = NULL;
    if (s.r->type == RULES_REGEXP) { /* regexec() takes a C string; what lies behind a NUL in a key is not looked at */
        p = key.n < sizeof small ? small : xmalloc(key.n + 1);
        if (key.n)
            memcpy(p, key.p, key.n);
        p[key.n] = '\0';
        s.key = span_cstr(p);
    }
    enum lookup got = search_filtered(&s, a, value, e);
    pcre2_match_data_free(s.match);
    if (p != small)
        free(p);
    return got;
}

static const struct table_ops rules_ops = { .find = rules_find, .free = rules_free };

/* ---- rows ---- */

struct reading {
    const struct table_load *in;
    struct rules_content *r;
    size_t open[IF_DEPTH_MAX];  /* rules that wait for their endif */
    size_t depth;
    struct span pattern, flags; /* of the row */
};

static bool parse_target(struct reading *x, struct rule *u, struct span s, struct span *rest, char *why, size_t why_n)
{
    const char *text;
    x->pattern = x->flags = span_of(NULL, 0);
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
    if (!rules_split_pattern(s, &x->pattern, &x->flags, rest, &text)) {
        snprintf(why, why_n, "%s", text);
        return false;
    }
    return x->r->type == RULES_PCRE ? rules_compile_pcre(u, x->pattern, x->flags, why, why_n)
                                    : rules_compile_regex(u, x->pattern, x->flags, why, why_n);
}

static void add_rule(struct reading *x, const struct rule *u)
{
    struct rules_content *r = x->r;
    if ((r->count & (r->count + 1)) == 0) /* at 0, 1, 3, 7, ...: room for twice as many */
        r->rules = xrealloc(r->rules, (r->count + 1) * 2 * sizeof *r->rules);
    r->rules[r->count++] = *u;
    if (r->filter != NULL)
        rules_filter_add(r->filter, r->type, u->kind == RULE_RESULT && !u->negated ? x->pattern : span_of(NULL, 0), x->flags);
    uint32_t groups = 0;
    if (r->type == RULES_PCRE && u->kind == RULE_RESULT && u->has_references)
        pcre2_pattern_info(u->pcre, PCRE2_INFO_CAPTURECOUNT, &groups);
    if (groups + 1 > r->groups)
        r->groups = groups + 1 < RULES_GROUPS_MAX ? groups + 1 : RULES_GROUPS_MAX;
}

static bool take_word(struct span *s, const char *word)
{
    size_t n = strlen(word);
    if (s->n < n || !span_ieq(span_of(s->p, n), span_of(word, n)) || (s->n > n && ascii_is_alnum(s->p[n])))
        return false;
    *s = span_trim(span_from(*s, n));
    return true;
}

static bool end_if(struct reading *x, struct span rest, int line, struct err *e)
{
    if (rest.n > 0)
        table_odd_line(x->in, line, "text behind endif; ignored");
    if (x->depth == 0)
        return table_bad_line(x->in, line, e, "endif without if; ignored");
    struct rule u = { .kind = RULE_ENDIF, .line = line };
    add_rule(x, &u);
    x->r->rules[x->open[--x->depth]].skip_to = x->r->count;
    return true;
}

/* What stands behind the pattern; false with why. */
static bool take_result(struct reading *x, struct rule *u, struct span rest, char *why, size_t why_n, struct err *e, bool *stop)
{
    if (x->r->type == RULES_CIDR && x->r->count > 0 && span_eq(x->r->rules[x->r->count - 1].result, rest))
        u->result = x->r->rules[x->r->count - 1].result; /* a hundred thousand times the same word */
    else
        u->result = arena_dup_span(x->r->arena, rest);
    if (rest.n == 0 && x->r->type == RULES_CIDR) {
        snprintf(why, why_n, "there is no result behind the network");
        return false;
    }
    if (rest.n == 0)
        *stop = !table_bad_line(x->in, u->line, e, "there is no result behind the pattern: look-ups that match it will fail");
    return x->r->type == RULES_CIDR
           || rules_check_result(x->r->type, u, !(x->in->flags & TABLE_NO_REFERENCES), why, why_n);
}

static bool read_row(struct reading *x, struct span s, int line, struct err *e)
{
    char why[200] = "";
    struct rule u = { .kind = RULE_RESULT, .line = line };
    struct span rest;
    bool stop = false;
    s = span_trim(s);
    if (take_word(&s, "endif"))
        return end_if(x, s, line, e);
    if (take_word(&s, "if"))
        u.kind = RULE_IF;
    while (s.n > 0 && s.p[0] == '!') {
        u.negated = !u.negated;
        s = span_trim(span_from(s, 1));
    }
    bool ok = parse_target(x, &u, s, &rest, why, sizeof why);
    if (ok && u.kind == RULE_RESULT) {
        ok = take_result(x, &u, rest, why, sizeof why, e, &stop);
    } else if (ok && x->depth == IF_DEPTH_MAX) {
        ok = false;
        snprintf(why, sizeof why, "too many ifs inside each other");
    } else if (ok && rest.n > 0) {
        table_odd_line(x->in, line, "text behind if; ignored (a line that begins with white space continues the one before it)");
    }
    if (!ok || stop) {
        rules_free_pattern(x->r->type, &u);
        return !stop && table_bad_line(x->in, line, e, "%s; ignored", why);
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

/* From what was read to what is asked. */
static void finish(struct rules_content *r)
{
    if (r->type != RULES_CIDR) {
        rules_filter_finish(&r->filter);
        return;
    }
    r->index = cidr_index_new(r->rules, r->count);
    free(r->rules);
    r->rules = NULL;
    r->count = 0;
}

static bool rules_load(enum rules_type type, const struct table_load *in, struct table_content **out, struct err *e)
{
    struct rules_content *r = xcalloc(1, sizeof *r);
    r->base.ops = &rules_ops;
    atomic_init(&r->base.refs, 1);
    r->type = type;
    r->groups = 1;
    r->arena = arena_new(0);
    r->filter = type != RULES_CIDR ? rules_filter_new() : NULL;
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
    finish(r);
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
