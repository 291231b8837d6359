#include "common/base/ascii.h"
#include "common/mail/smtpreply.h"

void smtp_reply_put(struct buf *b, int code, struct span dsn, struct span text)
{
    const char digits[3] = { (char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10), (char)('0' + code % 10) };
    bool more;
    do {
        ptrdiff_t lf = span_find(text, '\n');
        struct span line = lf < 0 ? text : span_of(text.p, (size_t)lf);
        more = lf >= 0 && (size_t)lf + 1 < text.n;
        text = span_from(text, line.n + 1);
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        buf_add(b, digits, 3);
        buf_putc(b, more ? '-' : ' ');
        if (dsn.n > 0) {
            buf_add_span(b, dsn);
            buf_putc(b, ' ');
        }
        buf_add_span(b, line);
        buf_add(b, "\r\n", 2);
    } while (more);
}

size_t dsn_code_length(struct span s)
{
    size_t i = 2;
    if (s.n < 5 || (s.p[0] != '2' && s.p[0] != '4' && s.p[0] != '5') || s.p[1] != '.')
        return 0;
    for (int part = 0; part < 2; part++) {
        size_t digits = 0;
        while (i < s.n && digits < 3 && ascii_is_digit(s.p[i]))
            i++, digits++;
        if (digits == 0)
            return 0;
        if (part == 0 && (i == s.n || s.p[i++] != '.'))
            return 0;
    }
    return i == s.n || ascii_is_space(s.p[i]) ? i : 0;
}

bool smtp_reply_parse(struct span line, struct smtp_reply_line *out)
{
    if (line.n < 3 || line.p[0] < '2' || line.p[0] > '5' || !ascii_is_digit(line.p[1]) || !ascii_is_digit(line.p[2]))
        return false;
    if (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-')
        return false;
    struct smtp_reply_line r = { .more = line.n > 3 && line.p[3] == '-' };
    r.code = (line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + line.p[2] - '0';
    r.text = span_from(line, 4);
    size_t n = dsn_code_length(r.text);
    r.dsn = span_of(r.text.p, 0);
    if (n > 0 && r.text.p[0] == line.p[0]) {
        r.dsn = span_of(r.text.p, n);
        r.text = span_trim(span_from(r.text, n));
    }
    *out = r;
    return true;
}
