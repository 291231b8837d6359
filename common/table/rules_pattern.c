/*
 * Patterns are compiled once, those of pcre to machine code where the system lets us. Groups are asked for only when the result
 * takes something from them: that spares both libraries their slowest part.
 */
#include <errno.h>

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/table/rules.h"

bool rules_split_pattern(struct span s, struct span *pattern, struct span *flags, struct span *rest, const char **why)
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

bool rules_compile_regex(struct rule *u, struct span pattern, struct span flags, char *why, size_t why_n)
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

bool rules_compile_pcre(struct rule *u, struct span pattern, struct span flags, char *why, size_t why_n)
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
    if (u->pcre != NULL) {
        (void)pcre2_jit_compile(u->pcre, PCRE2_JIT_COMPLETE); /* without it the pattern is interpreted */
        return true;
    }
    char text[160];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    snprintf(why, why_n, "at byte %zu of the pattern: %s", (size_t)at, text);
    return false;
}

void rules_free_pattern(enum rules_type type, struct rule *u)
{
    switch (type) {
    case RULES_REGEXP:
        if (u->regex != NULL)
            regfree(u->regex);
        free(u->regex);
        break;
    case RULES_PCRE:
        pcre2_code_free(u->pcre);
        break;
    case RULES_CIDR:
        break;
    }
}

/* ---- results ---- */

/* One `$...` at s: its length, and its group or, for "$$", -1. False when it is neither. */
static bool parse_reference(struct span s, int *group, size_t *length)
{
    size_t i = 1;
    char close = '\0';
    int n = 0;
    *group = -1;
    *length = 2;
    if (s.n > 1 && s.p[1] == '$')
        return true;
    if (s.n > i && (s.p[i] == '{' || s.p[i] == '('))
        close = s.p[i++] == '{' ? '}' : ')';
    size_t digits = i;
    while (i < s.n && ascii_is_digit(s.p[i]) && n < 1000)
        n = n * 10 + (s.p[i++] - '0');
    if (i == digits)
        return false;
    if (close != '\0' && (i >= s.n || s.p[i++] != close))
        return false;
    if (close == '\0' && i < s.n && (ascii_is_alnum(s.p[i]) || s.p[i] == '_'))
        return false; /* $1x: the x would belong to the name */
    *group = n;
    *length = i;
    return true;
}

static int group_count(enum rules_type type, const struct rule *u)
{
    uint32_t n = 0;
    if (type == RULES_REGEXP)
        return (int)u->regex->re_nsub;
    pcre2_pattern_info(u->pcre, PCRE2_INFO_CAPTURECOUNT, &n);
    return (int)n;
}

bool rules_check_result(enum rules_type type, struct rule *u, bool may_refer, char *why, size_t why_n)
{
    size_t length;
    for (size_t i = 0; i < u->result.n; i += length) {
        int group;
        length = 1;
        if (u->result.p[i] != '$')
            continue;
        u->has_references = true;
        if (!parse_reference(span_from(u->result, i), &group, &length)) {
            snprintf(why, why_n, "a $ that is no $1, ${1}, $(1) or $$ (text right behind $1 needs ${1})");
            return false;
        }
        if (group < 0)
            continue;
        if (u->negated || !may_refer) {
            snprintf(why, why_n, u->negated ? "$%d: nothing has matched when a pattern with ! applies"
                                            : "$%d: what the pattern matched may not become a part of this result", group);
            return false;
        }
        if (group == 0 || group > group_count(type, u) || group >= RULES_GROUPS_MAX) {
            snprintf(why, why_n, "$%d: the pattern has %d groups", group, group_count(type, u));
            return false;
        }
    }
    return true;
}

bool rules_result_is_empty(const struct rule *u, const struct groups *g)
{
    size_t length;
    for (size_t i = 0; i < u->result.n; i += length) {
        int group = 0;
        if (u->result.p[i] != '$' || !parse_reference(span_from(u->result, i), &group, &length) || group < 0)
            return false;
        if (group < g->count && g->to[group] > g->from[group])
            return false;
    }
    return true;
}

struct span rules_expand_result(const struct rule *u, struct span key, const struct groups *g, struct arena *a)
{
    if (!u->has_references)
        return arena_dup_span(a, u->result);
    struct buf b = BUF_INIT(0);
    size_t length;
    for (size_t i = 0; i < u->result.n; i += length) {
        int group = 0;
        length = 1;
        if (u->result.p[i] != '$' || !parse_reference(span_from(u->result, i), &group, &length))
            buf_putc(&b, u->result.p[i]);
        else if (group < 0)
            buf_putc(&b, '$');
        else if (group < g->count)
            buf_add(&b, key.p + g->from[group], g->to[group] - g->from[group]);
    }
    struct span out = arena_dup_span(a, buf_span(&b));
    buf_free(&b);
    return out;
}

/* ---- matching ---- */

/* glibc says "no match" also when it had no memory to look; errno tells. */
enum lookup rules_match_regex(const struct rule *u, struct span key, struct groups *g, struct err *e)
{
    regmatch_t m[RULES_GROUPS_MAX];
    size_t wanted = u->has_references && !u->negated ? RULES_GROUPS_MAX : 0;
    errno = 0;
    int rc = regexec(u->regex, key.p, wanted, m, 0);
    if (rc != 0 && (rc != REG_NOMATCH || errno == ENOMEM)) {
        err_set(e, "line %d: out of memory", u->line);
        return LOOKUP_TEMPFAIL;
    }
    if (rc != 0)
        return LOOKUP_NONE;
    g->count = wanted == 0 ? 0 : (int)u->regex->re_nsub + 1 < RULES_GROUPS_MAX ? (int)u->regex->re_nsub + 1 : RULES_GROUPS_MAX;
    for (int i = 0; i < g->count; i++) {
        g->from[i] = m[i].rm_so < 0 ? 0 : (size_t)m[i].rm_so;
        g->to[i] = m[i].rm_so < 0 ? 0 : (size_t)m[i].rm_eo;
    }
    return LOOKUP_FOUND;
}

enum lookup rules_match_pcre(const struct rule *u, struct span key, pcre2_match_data *m, struct groups *g, struct err *e)
{
    PCRE2_SPTR text = (PCRE2_SPTR)(key.p != NULL ? key.p : "");
    int rc = pcre2_match(u->pcre, text, key.n, 0, 0, m, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter takes its memory from the heap */
        rc = pcre2_match(u->pcre, text, key.n, 0, PCRE2_NO_JIT, m, NULL);
    if (rc == PCRE2_ERROR_NOMATCH)
        return LOOKUP_NONE;
    if (rc < 0) {
        char why[120];
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        err_set(e, "line %d: %s", u->line, why);
        return LOOKUP_TEMPFAIL; /* the limits against runaway patterns end here */
    }
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m);
    int pairs = (int)pcre2_get_ovector_count(m);
    g->count = !u->has_references || u->negated ? 0 : pairs;
    for (int i = 0; i < g->count; i++) {
        bool set = (rc == 0 || i < rc) && at[2 * i] != PCRE2_UNSET;
        g->from[i] = set ? at[2 * i] : 0;
        g->to[i] = set ? at[2 * i + 1] : 0;
    }
    return LOOKUP_FOUND;
}
