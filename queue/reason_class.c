#include "queue/reason_class.h"

#include <stdbool.h>

#include "common/base/ascii.h"

#define DIGITS_MAX 4 /* more in one word: an identifier, not a code */

static const struct span prefix = { "delivery temporarily suspended: ", 32 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "example.com", not "4.2.1" and not "found." */
static bool looks_like_host(struct span w)
{
    for (size_t i = 1; i + 1 < w.n; i++)
        if (w.p[i] == '.' && !is_digit(w.p[i - 1]) && !is_digit(w.p[i + 1]) && w.p[i - 1] != '.' && w.p[i + 1] != '.')
            return true;
    return false;
}

static bool is_variable(struct span w)
{
    unsigned digits = 0;
    for (size_t i = 0; i < w.n; i++) {
        if (w.p[i] == '<' || w.p[i] == '@' || w.p[i] == '[' || (unsigned char)w.p[i] >= 0x80 || (unsigned char)w.p[i] < 0x20)
            return true;
        if (w.p[i] == ':' && i + 2 < w.n && w.p[i + 1] == '/' && w.p[i + 2] == '/')
            return true;
        digits += is_digit(w.p[i]);
    }
    return digits > DIGITS_MAX || looks_like_host(w);
}

/* What punctuates the sentence stays. */
static size_t tail_of(struct span w)
{
    size_t n = 0;
    while (n < w.n && n < 2 && (w.p[w.n - 1 - n] == ':' || w.p[w.n - 1 - n] == ',' || w.p[w.n - 1 - n] == ')'))
        n++;
    return n;
}

void reason_class(struct buf *b, struct span reason)
{
    size_t begin = b->n;
    struct span word, rest = reason;
    bool was_dots = false;
    if (span_starts_with(rest, prefix))
        rest = span_from(rest, prefix.n);
    while (b->n - begin < REASON_CLASS_MAX && span_next_token(&rest, " \t\r\n", &word)) {
        bool dots = is_variable(word);
        if (dots && was_dots)
            continue;
        if (b->n > begin)
            buf_putc(b, ' ');
        if (dots) {
            size_t n = tail_of(word);
            buf_puts(b, "...");
            buf_add(b, word.p + word.n - n, n);
        } else {
            buf_add_span(b, word);
        }
        was_dots = dots;
    }
    if (b->n - begin > REASON_CLASS_MAX)
        b->n = begin + REASON_CLASS_MAX;
}

static int code_at(struct span s)
{
    if (s.n < 3 || s.p[0] < '2' || s.p[0] > '5' || !is_digit(s.p[1]) || !is_digit(s.p[2]) ||
        (s.n > 3 && s.p[3] != ' ' && s.p[3] != '-'))
        return 0;
    return (s.p[0] - '0') * 100 + (s.p[1] - '0') * 10 + s.p[2] - '0';
}

/* What a client says of a host ends with a colon, and the host's own words follow: only the first of these counts. */
int reason_reply_code(struct span reason)
{
    static const struct span begins[] = { { " said: ", 7 }, { " refused to talk to me: ", 24 } };
    if (span_starts_with(reason, prefix))
        reason = span_from(reason, prefix.n);
    if (!span_starts_with(reason, SPAN_LIT("host ")))
        return code_at(reason);
    for (size_t at = 0; at < reason.n; at++)
        for (size_t i = 0; i < ARRAY_LEN(begins); i++)
            if (span_starts_with(span_from(reason, at), begins[i]))
                return code_at(span_from(reason, at + begins[i].n));
    return 0;
}
