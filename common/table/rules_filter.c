/*
 * Most patterns cannot match without some plain text in the key: /\.dsl\.example\.net$/ not without ".dsl.example.net". Of that
 * text one run of three or four bytes, the one that the fewest patterns share, goes into a hash table. A look-up passes once
 * over the key, finds the patterns whose run occurs in it, and only these, and those of which nothing is known, are tried.
 *
 * What is learnt from a pattern must be true for every text that it matches. So the reading below knows few things well and gives up
 * on all others: an alternative outside brackets, groups with options, escapes it does not know. Letters count without case.
 * Bytes of 8 bits, in the pattern or in the key, are left to the pattern itself.
 */
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/table/rules.h"

#define LITERAL_MAX  64
#define GRAM_MIN     3
#define GRAM_MAX     4
#define RULES_MIN    8      /* fewer are tried faster than filtered */
#define NO_RULE      UINT32_MAX

struct literal {
    uint8_t n;              /* 0: nothing is known */
    char text[LITERAL_MAX]; /* lower case */
};

struct slot {
    uint32_t gram;
    uint8_t n;              /* bytes of it; 0: free */
    uint32_t first;         /* rule; others follow in next */
};

struct rules_filter {
    struct literal *literals; /* owned, while rules are added; then NULL */
    size_t count;
    uint64_t *always;         /* owned; rules that must be tried for every key */
    uint32_t *next;           /* owned; next rule with the same gram */
    struct slot *slots;       /* owned */
    uint32_t mask;
    uint64_t quick[64];       /* bits of the grams' hashes: most of a key's grams are in no pattern */
};

/* ---- reading a pattern ---- */

struct reading {
    struct span s;
    size_t i;
    bool is_pcre;
    struct literal run, best;
};

static void flush(struct reading *r)
{
    if (r->run.n > r->best.n)
        r->best = r->run;
    r->run.n = 0;
}

static void push(struct reading *r, char c)
{
    if (r->run.n == LITERAL_MAX)
        flush(r);
    r->run.text[r->run.n++] = ascii_lower(c);
}

static char peek(const struct reading *r, size_t ahead)
{
    return r->i + ahead < r->s.n ? r->s.p[r->i + ahead] : '\0';
}

/* Behind the '[' at i. False when its end is not found. */
static bool skip_class(struct reading *r)
{
    r->i++;
    r->i += peek(r, 0) == '^';
    r->i += peek(r, 0) == ']';
    for (; r->i < r->s.n && r->s.p[r->i] != ']'; r->i++) {
        char c = r->s.p[r->i], d = peek(r, 1);
        if (c == '[' && (d == ':' || d == '.' || d == '=')) {
            r->i += 2;
            while (r->i < r->s.n && !(r->s.p[r->i] == d && peek(r, 1) == ']')) {
                if (r->s.p[r->i++] == ']')
                    return false; /* where such a class ends is not what the libraries agree on */
            }
            r->i++;
        } else if (r->is_pcre && c == '\\') {
            if (d == 'Q' || d == 'E')
                return false;
            r->i++;
        }
    }
    return r->i++ < r->s.n;
}

/* "(?" and "(*" change what follows, except these. */
static bool is_plain_group(const struct reading *r)
{
    char c = peek(r, 1), d = peek(r, 2), f = peek(r, 3);
    if (c == '*')
        return !r->is_pcre;
    if (c != '?')
        return true;
    return r->is_pcre && (d == ':' || d == '=' || d == '!' || (d == '<' && (f == '=' || f == '!')));
}

/* Behind the group that opens at i. */
static bool skip_group(struct reading *r)
{
    int depth = 0;
    do {
        char c = peek(r, 0);
        if (r->i >= r->s.n)
            return false;
        if (c == '[') {
            if (!skip_class(r))
                return false;
            continue;
        }
        if (c == '\\' && (peek(r, 1) == 'Q' || peek(r, 1) == 'E'))
            return false;
        if (c == '(' && !is_plain_group(r))
            return false;
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
        r->i += c == '\\' ? 2 : 1;
    } while (depth > 0);
    return r->i <= r->s.n;
}

/* A quantifier at i: skipped. *may_be_none: what it belongs to may be missing. False when it is none of ours. */
static bool skip_quantifier(struct reading *r, bool *may_be_none, bool *is_one)
{
    *may_be_none = false;
    *is_one = true;
    for (; strchr("*+?{", peek(r, 0)) != NULL && peek(r, 0) != '\0'; *is_one = false) {
        char c = peek(r, 0);
        bool is_mode = r->is_pcre && !*is_one && (c == '?' || c == '+'); /* lazy, possessive */
        if (!is_mode)
            *may_be_none |= c != '+';
        r->i++;
        if (c != '{')
            continue;
        while (ascii_is_digit(peek(r, 0)) || peek(r, 0) == ',')
            r->i++;
        if (peek(r, 0) != '}')
            return false;
        r->i++;
    }
    return true;
}

/* The escape at i. *is_literal with its byte, else it stands for something else. False: unknown. */
static bool read_escape(struct reading *r, bool *is_literal, char *c)
{
    *c = peek(r, 1);
    r->i += 2;
    if (*c == '\0' || ascii_is_8bit(*c))
        return false;
    *is_literal = !ascii_is_alnum(*c) && (r->is_pcre || strchr("<>`'", *c) == NULL);
    if (ascii_is_alnum(*c))
        return strchr(r->is_pcre ? "dDsSwWbBAzZGnrtfahHvVRK" : "wWsSbB", *c) != NULL;
    return true;
}

/* One thing and its quantifier. False: give up. */
static bool read_atom(struct reading *r)
{
    char c = peek(r, 0);
    bool is_literal = false, may_be_none, is_one;
    if (c == '|' || c == ')' || c == '*' || c == '+' || c == '?' || c == '{' || c == '\0')
        return false;
    if (c == '[') {
        if (!skip_class(r))
            return false;
    } else if (c == '(') {
        if (!is_plain_group(r) || !skip_group(r))
            return false;
    } else if (c == '\\') {
        if (!read_escape(r, &is_literal, &c))
            return false;
    } else {
        is_literal = c != '.' && c != '^' && c != '$' && !ascii_is_8bit(c);
        r->i++;
    }
    if (!skip_quantifier(r, &may_be_none, &is_one))
        return false;
    if (is_literal && !may_be_none)
        push(r, c);
    if (!is_literal || !is_one)
        flush(r);
    return true;
}

static struct literal literal_of(enum rules_type type, struct span pattern, struct span flags)
{
    struct reading r = { .s = pattern, .is_pcre = type == RULES_PCRE };
    const struct literal none = { .n = 0 };
    if (span_find(flags, 'x') >= 0)
        return none; /* white space that means nothing; another syntax */
    while (r.i < pattern.n) {
        if (!read_atom(&r))
            return none;
    }
    flush(&r);
    return r.best;
}

/* ---- the table ---- */

struct rules_filter *rules_filter_new(void)
{
    return xcalloc(1, sizeof(struct rules_filter));
}

void rules_filter_free(struct rules_filter **fp)
{
    struct rules_filter *f = *fp;
    if (f == NULL)
        return;
    free(f->literals);
    free(f->always);
    free(f->next);
    free(f->slots);
    free(f);
    *fp = NULL;
}

void rules_filter_add(struct rules_filter *f, enum rules_type type, struct span pattern, struct span flags)
{
    if ((f->count & (f->count + 1)) == 0)
        f->literals = xrealloc(f->literals, (f->count + 1) * 2 * sizeof *f->literals);
    f->literals[f->count++] = pattern.n > 0 ? literal_of(type, pattern, flags) : (struct literal){ .n = 0 };
}

static uint32_t gram_at(const char *p, size_t n)
{
    uint32_t g = 0;
    for (size_t i = 0; i < n; i++)
        g = g << 8 | (uint8_t)p[i];
    return g;
}

static uint32_t hash_gram(uint32_t gram, size_t n)
{
    return (uint32_t)(((uint64_t)gram + ((uint64_t)n << 32)) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

static struct slot *slot_of(const struct rules_filter *f, uint32_t gram, size_t n, uint32_t hash)
{
    uint32_t i = hash & f->mask;
    while (f->slots[i].n != 0 && (f->slots[i].gram != gram || f->slots[i].n != n))
        i = (i + 1) & f->mask;
    return &f->slots[i];
}

/* How often each gram occurs in the literals, in a rough count by hash: good enough to choose by. */
#define COUNTS 65536
static uint16_t *count_grams(const struct rules_filter *f)
{
    uint16_t *counts = xcalloc(COUNTS, sizeof *counts);
    for (size_t r = 0; r < f->count; r++) {
        const struct literal *l = &f->literals[r];
        size_t n = l->n >= GRAM_MAX ? GRAM_MAX : GRAM_MIN;
        for (size_t i = 0; i + n <= l->n; i++) {
            uint16_t *c = &counts[hash_gram(gram_at(l->text + i, n), n) % COUNTS];
            *c = (uint16_t)(*c + (*c < UINT16_MAX));
        }
    }
    return counts;
}

/* Where in the literal its rarest gram begins; of equals the one with the fewest letters, which words have less often. */
static size_t choose(const struct literal *l, size_t n, const uint16_t *counts)
{
    size_t best = 0;
    unsigned best_cost = UINT32_MAX;
    for (size_t i = 0; i + n <= l->n; i++) {
        unsigned cost = counts[hash_gram(gram_at(l->text + i, n), n) % COUNTS] * 8u;
        for (size_t k = 0; k < n; k++)
            cost += ascii_is_alpha(l->text[i + k]);
        if (cost < best_cost) {
            best_cost = cost;
            best = i;
        }
    }
    return best;
}

static void insert(struct rules_filter *f, uint32_t rule, const uint16_t *counts)
{
    const struct literal *l = &f->literals[rule];
    size_t n = l->n >= GRAM_MAX ? GRAM_MAX : GRAM_MIN;
    uint32_t gram = gram_at(l->text + choose(l, n, counts), n);
    uint32_t hash = hash_gram(gram, n);
    struct slot *s = slot_of(f, gram, n, hash);
    if (s->n == 0)
        *s = (struct slot){ .gram = gram, .n = (uint8_t)n, .first = NO_RULE };
    f->next[rule] = s->first;
    s->first = rule;
    f->quick[hash >> 26] |= UINT64_C(1) << (hash >> 20 & 63);
}

void rules_filter_finish(struct rules_filter **fp)
{
    struct rules_filter *f = *fp;
    size_t known = 0;
    for (size_t i = 0; i < f->count; i++)
        known += f->literals[i].n >= GRAM_MIN;
    if (known < RULES_MIN) {
        rules_filter_free(fp);
        return;
    }
    uint32_t size = 16;
    while (size < known * 2)
        size *= 2;
    f->mask = size - 1;
    f->slots = xcalloc(size, sizeof *f->slots);
    f->next = xcalloc(f->count, sizeof *f->next);
    f->always = xcalloc(rules_filter_words(f), sizeof *f->always);
    uint16_t *counts = count_grams(f);
    for (uint32_t i = 0; i < f->count; i++) {
        if (f->literals[i].n >= GRAM_MIN)
            insert(f, i, counts);
        else
            f->always[i / 64] |= UINT64_C(1) << (i % 64);
    }
    free(counts);
    free(f->literals);
    f->literals = NULL;
}

size_t rules_filter_words(const struct rules_filter *f)
{
    return f->count / 64 + 1;
}

static void mark(const struct rules_filter *f, uint32_t gram, size_t n, uint64_t *bits)
{
    uint32_t hash = hash_gram(gram, n);
    if (!(f->quick[hash >> 26] >> (hash >> 20 & 63) & 1))
        return;
    const struct slot *s = slot_of(f, gram, n, hash);
    for (uint32_t r = s->n != 0 ? s->first : NO_RULE; r != NO_RULE; r = f->next[r])
        bits[r / 64] |= UINT64_C(1) << (r % 64);
}

bool rules_filter_candidates(const struct rules_filter *f, struct span key, uint64_t *bits)
{
    uint32_t gram = 0;
    memcpy(bits, f->always, rules_filter_words(f) * sizeof *bits);
    for (size_t i = 0; i < key.n; i++) {
        if (ascii_is_8bit(key.p[i]))
            return false;
        gram = gram << 8 | (uint8_t)ascii_lower(key.p[i]);
        if (i + 1 >= GRAM_MIN)
            mark(f, gram & 0xffffff, GRAM_MIN, bits);
        if (i + 1 >= GRAM_MAX)
            mark(f, gram, GRAM_MAX, bits);
    }
    return true;
}
