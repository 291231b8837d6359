/*
 * Tokens are found from left to right. Addresses are found from right to left, because only behind an address it is known
 * whether the words in front of '<' were a phrase and the words in front of ':' the name of a group:
 *
 *   what was met           what it means for the words gathered so far (they stand to its right)
 *   , ;                    they are an address
 *   : in a group           they are an address; up to the next comma on the left stands the group's name
 *   >                      they are an address; up to '<' stands another, and up to the next of > ; , : a phrase
 *   a word beside a word   they are an address; a comma was forgotten
 *   a comment              nothing; it moves behind the address
 *
 * Items are gathered in reverse order and turned around at the end.
 */
#include "policy/rewrite/addr_list.h"

#include <string.h>

#include "common/base/ascii.h"
#include "common/mail/address.h"

static const char specials[] = "|%!()<>@,;:\".[]";

static bool is_gap(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_special(char c)
{
    return c != '\0' && strchr(specials, c) != NULL;
}

/* ---- tokens ---- */

struct reader {
    const char *p, *end;
    struct arena *a;
};

/* Where a run ends: at `stop`, or for 0 at any special or gap. */
static const char *run_end(const struct reader *r, char stop)
{
    const char *p = r->p;
    for (; p < r->end; p++) {
        if (*p == '\\' && p + 1 < r->end)
            p++;
        else if (stop != '\0' ? *p == stop : is_gap(*p) || is_special(*p))
            break;
    }
    return p;
}

/* Without backslashes; gaps inside (quotes may have some) become blanks, a line end one blank. */
static struct span take_run(struct reader *r, char stop)
{
    const char *end = run_end(r, stop), *p = r->p;
    char *out = arena_alloc(r->a, (size_t)(end - p) + 1);
    size_t n = 0;
    for (; p < end; p++) {
        if (*p == '\\' && ++p == end)
            break;
        if (*p == '\r' && p + 1 < end && p[1] == '\n')
            continue;
        out[n++] = is_gap(*p) ? ' ' : *p;
    }
    r->p = stop != '\0' && end < r->end ? end + 1 : end;
    return span_of(out, n);
}

/* p is at the '('. Kept as it is, backslashes and all. */
static struct span take_comment(struct reader *r)
{
    const char *from = r->p++;
    for (int depth = 1; r->p < r->end && depth > 0; r->p++) {
        if (*r->p == '\\' && r->p + 1 < r->end)
            r->p++;
        else if (*r->p == '(')
            depth++;
        else if (*r->p == ')')
            depth--;
    }
    return span_of(from, (size_t)(r->p - from));
}

/* An atom that holds what atoms cannot hold (it had a backslash) must be quoted from now on. */
static struct addr_item atom_of(struct span text)
{
    struct addr_item t = { .kind = ITEM_ATOM, .text = text };
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c <= ' ' || c == 127 || c == '\\' || is_special((char)c))
            t.kind = ITEM_QUOTED;
    }
    return t;
}

static bool next_token(struct reader *r, struct addr_item *out)
{
    while (r->p < r->end && is_gap(*r->p))
        r->p++;
    if (r->p == r->end)
        return false;
    char c = *r->p;
    if (c == '(') {
        *out = (struct addr_item){ .kind = ITEM_COMMENT, .text = take_comment(r) };
    } else if (c == '[' || c == '"') {
        r->p++;
        *out = (struct addr_item){ .kind = c == '[' ? ITEM_LITERAL : ITEM_QUOTED };
        out->text = take_run(r, c == '[' ? ']' : '"');
    } else if (is_special(c)) {
        r->p++;
        *out = (struct addr_item){ .kind = ITEM_SPECIAL, .special = c };
    } else {
        *out = atom_of(take_run(r, '\0'));
    }
    return true;
}

static struct addr_item *tokens_of(struct span text, size_t limit, struct arena *a, size_t *count, bool *is_cut)
{
    struct reader r = { text.p, text.p + text.n, a };
    struct addr_item t, *all = NULL;
    size_t n = 0, cap = 0;
    *is_cut = false;
    while (next_token(&r, &t)) {
        if (limit > 0 && n == limit) {
            *is_cut = true;
            break;
        }
        if (n == cap) {
            cap = cap ? cap * 2 : 16;
            struct addr_item *more = arena_alloc(a, cap * sizeof *more);
            if (n > 0)
                memcpy(more, all, n * sizeof *more);
            all = more;
        }
        all[n++] = t;
    }
    *count = n;
    return all;
}

/* ---- printing ---- */

static void put_escaped(struct buf *b, struct span text, const char *set)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] != '\0' && strchr(set, text.p[i]) != NULL)
            buf_putc(b, '\\');
        buf_putc(b, text.p[i]);
    }
}

static void put_token(struct buf *b, const struct addr_item *t)
{
    switch (t->kind) {
    case ITEM_QUOTED:
        buf_putc(b, '"');
        put_escaped(b, t->text, "\"\\\r\n");
        buf_putc(b, '"');
        return;
    case ITEM_LITERAL:
        buf_putc(b, '[');
        put_escaped(b, t->text, "\\\r\n");
        buf_putc(b, ']');
        return;
    case ITEM_SPECIAL:
        buf_putc(b, t->special);
        return;
    case ITEM_GROUP_COLON:
        buf_putc(b, ':');
        return;
    case ITEM_ATOM:
    case ITEM_COMMENT:
    case ITEM_ADDRESS:
        buf_add_span(b, t->text);
        return;
    }
}

static bool is_op(const struct addr_item *t, char c)
{
    return t->kind == ITEM_SPECIAL && t->special == c;
}

static bool is_wordlike(const struct addr_item *t)
{
    return t->kind != ITEM_SPECIAL && t->kind != ITEM_GROUP_COLON;
}

void addr_list_print(struct buf *b, const struct addr_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct addr_item *t = &l->items[i], *next = i + 1 < l->count ? t + 1 : NULL;
        put_token(b, t);
        if (is_op(t, ','))
            buf_putc(b, '\n');
        else if (next != NULL && (t->kind == ITEM_GROUP_COLON || is_op(next, '<') || (is_wordlike(t) && is_wordlike(next))))
            buf_putc(b, ' ');
    }
}

/* ---- addresses ---- */

struct finder {
    const struct addr_item *t;
    size_t i;                  /* tokens not looked at yet */
    struct addr_item *out;     /* in reverse order */
    size_t out_n;
    const struct addr_item **words; /* of an address, in reverse order */
    size_t words_n;
    struct arena *a;
};

static void push(struct finder *f, struct addr_item t)
{
    f->out[f->out_n++] = t;
}

/* What was gathered is an address; with a comma to its left if there is something. */
static void end_address(struct finder *f, bool wants_comma)
{
    if (f->words_n == 0)
        return;
    struct buf b = BUF_INIT(0);
    for (size_t i = f->words_n; i-- > 0;)
        put_token(&b, f->words[i]);
    push(f, (struct addr_item){ .kind = ITEM_ADDRESS, .text = arena_dup_span(f->a, buf_span(&b)) });
    buf_free(&b);
    if (wants_comma)
        push(f, (struct addr_item){ .kind = ITEM_SPECIAL, .special = ',' });
    f->words_n = 0;
}

/* Tokens that belong to no address, up to one of the specials in `stops`. */
static void skip_to(struct finder *f, const char *stops)
{
    while (f->i > 0) {
        const struct addr_item *t = &f->t[f->i - 1];
        if (t->kind == ITEM_SPECIAL && strchr(stops, t->special) != NULL)
            return;
        push(f, *t);
        f->i--;
    }
}

/* The '>' has been pushed. */
static void take_angle(struct finder *f)
{
    for (; f->i > 0 && !is_op(&f->t[f->i - 1], '<'); f->i--) {
        const struct addr_item *t = &f->t[f->i - 1];
        if (t->kind == ITEM_COMMENT)
            push(f, *t);
        else
            f->words[f->words_n++] = t;
    }
    end_address(f, false);
    skip_to(f, ">;,:");
}

static void find_addresses(struct finder *f)
{
    bool word_may_come = true, in_group = false;
    while (f->i > 0) {
        const struct addr_item *t = &f->t[--f->i];
        if (t->kind == ITEM_COMMENT) {
            push(f, *t);
        } else if (t->kind != ITEM_SPECIAL) {
            if (!word_may_come)
                end_address(f, true);
            word_may_come = false;
            f->words[f->words_n++] = t;
        } else if (t->special == ':' && in_group) {
            end_address(f, false);
            push(f, (struct addr_item){ .kind = ITEM_GROUP_COLON });
            skip_to(f, ",");
        } else {
            word_may_come = true;
            if (t->special == ',' || t->special == ';' || t->special == '>') {
                end_address(f, t->special != ',');
                push(f, *t);
                in_group |= t->special == ';';
                if (t->special == '>')
                    take_angle(f);
            } else {
                f->words[f->words_n++] = t;
            }
        }
    }
    end_address(f, false);
}

void addr_list_parse(struct span text, size_t token_limit, struct arena *a, struct addr_list *out)
{
    size_t n;
    *out = (struct addr_list){ 0 };
    struct addr_item *tokens = tokens_of(text, token_limit, a, &n, &out->is_cut);
    struct finder f = { .t = tokens, .i = n, .a = a };
    f.out = arena_alloc(a, (2 * n + 1) * sizeof *f.out); /* a comma for each address */
    f.words = arena_alloc(a, (n + 1) * sizeof *f.words);
    find_addresses(&f);
    for (size_t i = 0; i < f.out_n / 2; i++) {
        struct addr_item x = f.out[i];
        f.out[i] = f.out[f.out_n - 1 - i];
        f.out[f.out_n - 1 - i] = x;
    }
    out->items = f.out;
    out->count = f.out_n;
}

struct addr_item *addr_list_next(const struct addr_list *l, size_t *at)
{
    while (*at < l->count) {
        struct addr_item *t = &l->items[(*at)++];
        if (t->kind == ITEM_ADDRESS)
            return t;
    }
    return NULL;
}

/* ---- one address ---- */

struct span addr_external_to_internal(struct span external, struct arena *a)
{
    size_t n;
    bool is_cut;
    if (memchr(external.p ? external.p : "", '"', external.n) == NULL && memchr(external.p ? external.p : "", '\\', external.n) == NULL)
        return external;
    const struct addr_item *t = tokens_of(external, 0, a, &n, &is_cut);
    struct buf b = BUF_INIT(0);
    for (size_t i = 0; i < n; i++) {
        if (t[i].kind == ITEM_QUOTED)
            buf_add_span(&b, t[i].text);
        else
            put_token(&b, &t[i]);
    }
    struct span out = arena_dup_span(a, buf_span(&b));
    buf_free(&b);
    return out;
}
