/*
 * A list is cut at commas (and at the ';' of a group) outside quotes, comments, domain literals and angle brackets;
 * addr_parse() does the rest. A ':' outside all of these ends the name of a group, which is dropped.
 */
#include "daemon/cmd/header_rcpts.h"

#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/mail/address.h"
#include "common/mail/headers.h"

struct splitter {
    bool in_quotes, in_angle, in_literal, escaped;
    unsigned comment_depth;
};

/* True when c stands outside everything that protects it. */
static bool step(struct splitter *s, char c)
{
    if (s->escaped) {
        s->escaped = false;
        return false;
    }
    if (c == '\\' && (s->in_quotes || s->comment_depth > 0 || s->in_literal)) {
        s->escaped = true;
        return false;
    }
    if (s->comment_depth > 0) {
        s->comment_depth += c == '(' ? 1 : c == ')' ? -1u : 0;
        return false;
    }
    if (s->in_quotes) {
        s->in_quotes = c != '"';
        return false;
    }
    if (c == '"')
        s->in_quotes = true;
    else if (c == '(')
        s->comment_depth = 1;
    else if (c == '[')
        s->in_literal = true;
    else if (c == ']')
        s->in_literal = false;
    else if (c == '<')
        s->in_angle = true;
    else if (c == '>')
        s->in_angle = false;
    else
        return !s->in_angle && !s->in_literal;
    return false;
}

/* Nothing but blanks and comments: no address (an empty place in a list is allowed). */
static bool is_blank_item(struct span s)
{
    struct splitter sp = { .in_quotes = false };
    for (size_t i = 0; i < s.n; i++) {
        bool was_comment = sp.comment_depth > 0;
        step(&sp, s.p[i]);
        if (!was_comment && sp.comment_depth == 0 && !ascii_is_space(s.p[i]))
            return false;
    }
    return true;
}

static bool add_one(struct rcpt_list *l, struct span text, struct err *e)
{
    struct addr a;
    text = span_trim(text);
    if (is_blank_item(text))
        return true;
    if (addr_parse(text, ADDR_UTF8 | ADDR_NUMERIC_DOMAIN, l->arena, &a) != ADDR_OK || a.text.n == 0 || a.local.n == 0) {
        err_set(e, "\"%.*s\" is not an address", text.n > 200 ? 200 : (int)text.n, text.p);
        return false;
    }
    if (l->n == RCPTS_MAX) {
        err_set(e, "more than %d recipients", RCPTS_MAX);
        return false;
    }
    if (l->n == l->cap) {
        l->cap = l->cap > 0 ? l->cap * 2 : 16;
        l->items = xrealloc(l->items, l->cap * sizeof *l->items);
    }
    l->items[l->n++] = a.text;
    return true;
}

void rcpt_list_free(struct rcpt_list *l)
{
    free(l->items);
    l->items = NULL;
    l->n = l->cap = 0;
}

bool rcpts_add_list(struct rcpt_list *l, struct span text, struct err *e)
{
    struct splitter sp = { .in_quotes = false };
    size_t start = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (!step(&sp, text.p[i]))
            continue;
        if (text.p[i] == ':') {
            start = i + 1;
        } else if (text.p[i] == ',' || text.p[i] == ';') {
            if (!add_one(l, span_of(text.p + start, i - start), e))
                return false;
            start = i + 1;
        }
    }
    return add_one(l, span_from(text, start), e);
}

/* ---- header ---- */

enum { FIELDS_PLAIN, FIELDS_RESENT };

/* Which list a field belongs to; -1 for other fields. */
static int field_kind(struct span name)
{
    static const struct { const char *name; int kind; } fields[] = {
        { "To", FIELDS_PLAIN },          { "Cc", FIELDS_PLAIN },          { "Bcc", FIELDS_PLAIN },
        { "Resent-To", FIELDS_RESENT },  { "Resent-Cc", FIELDS_RESENT },  { "Resent-Bcc", FIELDS_RESENT },
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (span_ieq_cstr(name, fields[i].name))
            return fields[i].kind;
    }
    return -1;
}

static struct span next_line(struct span *rest)
{
    ptrdiff_t nl = span_find(*rest, '\n');
    struct span line = span_of(rest->p, nl < 0 ? rest->n : (size_t)nl);
    *rest = span_from(*rest, nl < 0 ? rest->n : (size_t)nl + 1);
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static bool end_field(struct rcpt_list *lists, int kind, struct buf *value, struct err *e)
{
    bool ok = kind < 0 || rcpts_add_list(&lists[kind], buf_span(value), e);
    buf_reset(value);
    return ok;
}

bool rcpts_add_header(struct rcpt_list *l, struct span text, struct err *e)
{
    struct rcpt_list lists[2] = { { .arena = l->arena }, { .arena = l->arena } };
    struct buf value = BUF_INIT(0);
    bool ok = true, seen_resent = false;
    int kind = -1;
    while (ok && text.n > 0) {
        struct span line = next_line(&text);
        size_t name_n = hdr_name_length(line);
        if (line.n > 0 && ascii_is_blank(line.p[0])) { /* folded */
            buf_add_span(&value, line);
            continue;
        }
        if (line.n == 0 || name_n == 0)
            break;
        ok = end_field(lists, kind, &value, e);
        kind = field_kind(span_of(line.p, name_n));
        seen_resent = seen_resent || kind == FIELDS_RESENT;
        buf_add_span(&value, span_from(line, (size_t)span_find(line, ':') + 1));
    }
    ok = ok && end_field(lists, kind, &value, e);
    struct rcpt_list *from = &lists[seen_resent ? FIELDS_RESENT : FIELDS_PLAIN];
    for (size_t i = 0; ok && i < from->n; i++) {
        if (l->n == l->cap) {
            l->cap = l->cap > 0 ? l->cap * 2 : 16;
            l->items = xrealloc(l->items, l->cap * sizeof *l->items);
        }
        l->items[l->n++] = from->items[i];
    }
    rcpt_list_free(&lists[0]);
    rcpt_list_free(&lists[1]);
    buf_free(&value);
    return ok;
}
