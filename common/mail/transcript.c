#include "common/mail/transcript.h"
#include <stdio.h>
#include "common/base/ascii.h"

void transcript_init(struct transcript *t)
{
    *t = (struct transcript){ .gap = 0 };
    buf_init(&t->text, TRANSCRIPT_MAX + TRANSCRIPT_LINE_MAX + 16);
}

void transcript_free(struct transcript *t)
{
    buf_free(&t->text);
}

void transcript_reset(struct transcript *t)
{
    transcript_free(t);
    buf_init(&t->text, TRANSCRIPT_MAX + TRANSCRIPT_LINE_MAX + 16);
    t->gap = 0;
    t->lines = t->left_out = 0;
}

void transcript_echo(struct transcript *t, const struct log_src *to, const char *peer, int64_t level)
{
    t->echo = to;
    t->echo_level = level;
    snprintf(t->echo_peer, sizeof t->echo_peer, "%s", peer);
}

static void echo(const struct transcript *t, const char *label, struct span line)
{
    const char *mark = label[0] == 'I' ? "<" : label[0] == 'O' ? ">" : "=";
    if (t->echo != NULL && t->echo_level >= (*mark == '=' ? 2 : 1))
        log_info(t->echo, "%s %s: %.*s", mark, t->echo_peer, SPAN_ARG(line));
}

/* Takes whole lines away behind the beginning until a quarter of the room is free. */
static void make_room(struct transcript *t)
{
    struct buf *b = &t->text;
    if (t->left_out == 0) {
        const char *lf = memchr(b->p + TRANSCRIPT_HEAD, '\n', b->n - TRANSCRIPT_HEAD);
        t->gap = lf ? (size_t)(lf - b->p) + 1 : b->n;
    }
    size_t end = t->gap;
    while (end < b->n && b->n - (end - t->gap) > TRANSCRIPT_MAX * 3 / 4) {
        const char *lf = memchr(b->p + end, '\n', b->n - end);
        end = lf ? (size_t)(lf - b->p) + 1 : b->n;
        t->left_out++;
    }
    memmove(b->p + t->gap, b->p + end, b->n - end);
    b->n -= end - t->gap;
}

static void add(struct transcript *t, const char *label, struct span line)
{
    struct buf *b = &t->text;
    bool is_cut = line.n > TRANSCRIPT_LINE_MAX;
    if (b->n + TRANSCRIPT_LINE_MAX + 16 > TRANSCRIPT_MAX)
        make_room(t);
    echo(t, label, line);
    buf_puts(b, label);
    for (size_t i = 0; i < line.n && i < TRANSCRIPT_LINE_MAX; i++)
        buf_putc(b, ascii_is_print(line.p[i]) ? line.p[i] : '?');
    buf_puts(b, is_cut ? "...\n" : "\n");
    t->lines++;
}

static const char *label(bool is_in)
{
    return is_in ? "In:  " : "Out: ";
}

static bool is_auth(struct span line)
{
    return line.n >= 4 && span_ieq_cstr(span_of(line.p, 4), "AUTH") && (line.n == 4 || ascii_is_space(line.p[4]));
}

/* Mechanism names are no secret; what follows them is. */
static void add_auth(struct transcript *t, bool is_in, struct span line)
{
    struct span rest = span_trim(span_from(line, 4)), mechanism;
    char text[64];
    if (!span_next_token(&rest, " \t", &mechanism))
        mechanism = span_of("", 0);
    bool more = span_trim(rest).n > 0;
    int n = snprintf(text, sizeof text, "AUTH %.*s%s", mechanism.n < 24 ? (int)mechanism.n : 0, mechanism.p, more ? " [not shown]" : "");
    add(t, label(is_in), span_of(text, (size_t)n));
}

void transcript_command(struct transcript *t, bool is_in, struct span line)
{
    if (is_auth(line)) {
        add_auth(t, is_in, line);
        t->is_secret_next = true;
        return;
    }
    t->is_secret_next = false;
    add(t, label(is_in), line);
}

void transcript_unknown(struct transcript *t, struct span line)
{
    if (!is_auth(line) && t->is_secret_next)
        add(t, "In:  ", SPAN_LIT("[not shown]"));
    else
        transcript_command(t, true, line);
}

void transcript_reply(struct transcript *t, bool is_in, struct span lines)
{
    struct span line;
    while (span_next_token(&lines, "\r\n", &line))
        add(t, label(is_in), line);
}

void transcript_note(struct transcript *t, const char *fmt, ...)
{
    char text[128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    add(t, "     ", span_of(text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1));
}

void transcript_print(const struct transcript *t, struct buf *out)
{
    size_t head = t->left_out > 0 ? t->gap : t->text.n;
    buf_add(out, t->text.p, head);
    if (t->left_out > 0)
        buf_printf(out, "     [%u lines left out]\n", t->left_out);
    buf_add(out, t->text.p ? t->text.p + head : "", t->text.n - head);
}
