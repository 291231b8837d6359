#include "common/table/net/net_answer.h"

#include "common/base/ascii.h"
#include "common/base/num.h"

#define MEMCACHE_KEY_MAX 250

static enum net_answer garbage(struct err *e, struct span what)
{
    char shown[60];
    size_t n = what.n < sizeof shown - 1 ? what.n : sizeof shown - 1;
    for (size_t i = 0; i < n; i++)
        shown[i] = ascii_is_print(what.p[i]) ? what.p[i] : '?';
    shown[n] = '\0';
    err_set(e, "\"%s\" is no answer", shown);
    return NET_GARBAGE;
}

static enum net_answer temporary(struct err *e, const char *kind, struct span reason)
{
    reason = span_trim(reason);
    err_set(e, "the server says %s%s%.*s", kind, reason.n > 0 ? ": " : "", SPAN_ARG(reason));
    return NET_TEMPORARY;
}

/* ---- socketmap ---- */

bool netstring_length(struct span head, size_t max, size_t *length, bool *more)
{
    size_t n = 0, i = 0;
    for (; i < head.n && ascii_is_digit(head.p[i]); i++) {
        n = n * 10 + (size_t)(head.p[i] - '0');
        if (n > max || (i > 0 && head.p[0] == '0'))
            return false;
    }
    *length = n;
    *more = i == head.n;
    return *more || (i > 0 && head.p[i] == ':');
}

enum net_answer socketmap_answer(struct span reply, struct span *value, struct err *e)
{
    static const char *const failures[] = { "TEMP", "TIMEOUT", "PERM" };
    ptrdiff_t space = span_find(reply, ' ');
    struct span word = space < 0 ? reply : span_of(reply.p, (size_t)space);
    struct span rest = space < 0 ? span_of(NULL, 0) : span_from(reply, (size_t)space + 1);
    if (span_eq(word, SPAN_LIT("OK"))) {
        *value = rest;
        return NET_FOUND;
    }
    if (span_eq(word, SPAN_LIT("NOTFOUND")))
        return NET_NONE;
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        if (span_eq(word, span_cstr(failures[i])))
            return temporary(e, failures[i], rest);
    }
    return garbage(e, reply);
}

/* ---- tcp_table ---- */

void tcp_table_encode(struct span key, struct buf *out)
{
    for (size_t i = 0; i < key.n; i++) {
        if (key.p[i] == '%' || key.p[i] == ' ' || !ascii_is_print(key.p[i]))
            buf_printf(out, "%%%02X", (unsigned char)key.p[i]);
        else
            buf_putc(out, key.p[i]);
    }
}

static bool decode(struct span in, struct buf *out)
{
    for (size_t i = 0; i < in.n; i++) {
        if (in.p[i] != '%') {
            buf_putc(out, in.p[i]);
            continue;
        }
        int high = in.n - i > 2 ? ascii_hex_value(in.p[i + 1]) : -1;
        int low = in.n - i > 2 ? ascii_hex_value(in.p[i + 2]) : -1;
        if (high < 0 || low < 0)
            return false;
        buf_putc(out, (char)(high * 16 + low));
        i += 2;
    }
    return buf_ok(out);
}

enum net_answer tcp_table_answer(struct span line, struct buf *value, struct err *e)
{
    struct buf text = BUF_INIT(0);
    enum net_answer answer = NET_GARBAGE;
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (line.n >= 4 && ascii_is_blank(line.p[3]) && decode(span_trim(span_from(line, 4)), &text)) {
        struct span code = span_of(line.p, 3);
        if (span_eq(code, SPAN_LIT("200"))) {
            buf_add_span(value, buf_span(&text));
            answer = buf_ok(value) ? NET_FOUND : NET_GARBAGE;
        } else if (span_eq(code, SPAN_LIT("500"))) {
            answer = NET_NONE;
        } else if (span_eq(code, SPAN_LIT("400"))) {
            answer = temporary(e, "400", buf_span(&text));
        }
    }
    buf_free(&text);
    return answer == NET_GARBAGE ? garbage(e, line) : answer;
}

/* ---- memcache ---- */

bool memcache_key_is_good(struct span key)
{
    for (size_t i = 0; i < key.n; i++) {
        if ((unsigned char)key.p[i] <= ' ' || key.p[i] == 0x7f)
            return false;
    }
    return key.n > 0 && key.n <= MEMCACHE_KEY_MAX;
}

/* "VALUE key flags bytes [cas]" or "END" */
enum net_answer memcache_answer(struct span line, struct span key, size_t max, size_t *length, struct err *e)
{
    struct span rest = line, word[5];
    int64_t bytes;
    size_t n = 0;
    if (rest.n > 0 && rest.p[rest.n - 1] == '\r')
        rest.n--;
    while (n < ARRAY_LEN(word) && span_next_token(&rest, " ", &word[n]))
        n++;
    if (n == 1 && span_eq(word[0], SPAN_LIT("END")))
        return NET_NONE;
    if (n < 4 || !span_eq(word[0], SPAN_LIT("VALUE")) || !span_eq(word[1], key) || !num_parse(word[3], 0, INT64_MAX, &bytes))
        return garbage(e, line);
    if ((uint64_t)bytes > max) {
        err_set(e, "an answer of %lld bytes is over the limit of %zu", (long long)bytes, max);
        return NET_GARBAGE;
    }
    *length = (size_t)bytes;
    return NET_FOUND;
}
