/*
 * Short texts with a grammar of their own: queue ids, xtext and unitext, replies of SMTP servers. What is accepted has one
 * spelling only, or comes out the same when it is written and read again.
 */
#include "tests/fuzz/fuzz.h"

#include "common/mail/address.h"
#include "common/mail/smtpreply.h"
#include "common/mail/xtext.h"
#include "queue/qid.h"

static void check_qid(struct span text)
{
    uint64_t id;
    char again[QID_TEXT_MAX];
    if (!qid_parse(text, &id))
        return;
    bool is_long = span_find(text, 'z') >= 0;
    CHECK(span_eq(text, span_of(again, qid_format(id, is_long, again))));
}

static void check_qid_number(struct span text)
{
    uint64_t id = 0, got;
    char out[QID_TEXT_MAX];
    for (size_t i = 0; i < 8 && i < text.n; i++)
        id = id << 8 | (unsigned char)text.p[i];
    for (int is_long = 0; id != 0 && is_long < 2; is_long++) {
        size_t n = qid_format(id, is_long, out);
        CHECK(n < QID_TEXT_MAX && qid_parse(span_of(out, n), &got) && got == id);
    }
}

static void check_xtext(struct span text, struct arena *a)
{
    struct span plain, again;
    struct buf coded = BUF_INIT(0);
    for (int utf8 = 0; utf8 < 2; utf8++) {
        if (!xtext_decode(text, utf8, a, &plain))
            continue;
        buf_reset(&coded);
        xtext_encode(&coded, plain);
        CHECK(!fuzz_has_control(buf_span(&coded)) && span_find(buf_span(&coded), ' ') < 0);
        CHECK(xtext_decode(buf_span(&coded), false, a, &again) && span_eq(plain, again));
    }
    buf_reset(&coded);
    xtext_encode(&coded, text);
    CHECK(xtext_decode(buf_span(&coded), false, a, &again) && span_eq(text, again));
    if (xtext_decode_unitext(text, a, &plain)) {
        CHECK(plain.n <= text.n);
        if (utf8_is_valid(plain)) {
            buf_reset(&coded);
            xtext_encode_unitext(&coded, plain);
            CHECK(span_is_ascii(buf_span(&coded)) && !fuzz_has_control(buf_span(&coded)));
            CHECK(xtext_decode_unitext(buf_span(&coded), a, &again) && span_eq(plain, again));
        } else {
            CHECK(!utf8_is_valid(text));
        }
    }
    buf_free(&coded);
}

/* What a server says is put into a reply of ours: as many lines, all of them replies of that code. */
static void check_reply(struct span text)
{
    struct smtp_reply_line l, m;
    struct buf b = BUF_INIT(0);
    if (smtp_reply_parse(text, &l)) {
        CHECK(l.code >= 200 && l.code < 600);
        CHECK(l.dsn.n == 0 || (dsn_code_length(l.dsn) == l.dsn.n && l.dsn.p[0] == text.p[0]));
        CHECK(l.text.n <= text.n);
    }
    smtp_reply_put(&b, 550, SPAN_LIT("5.1.1"), text);
    struct span rest = buf_span(&b), line;
    bool more = true;
    size_t lines = 1, seen = 0;
    for (size_t i = 0; i + 1 < text.n; i++)
        lines += text.p[i] == '\n';
    while (rest.n > 0) {
        ptrdiff_t lf = span_find(rest, '\n');
        CHECK(lf > 0 && rest.p[lf - 1] == '\r' && more);
        line = span_of(rest.p, (size_t)lf - 1);
        rest = span_from(rest, (size_t)lf + 1);
        CHECK(smtp_reply_parse(line, &m) && m.code == 550 && span_eq(m.dsn, SPAN_LIT("5.1.1")));
        more = m.more;
        seen++;
    }
    CHECK(!more && seen == lines);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span text = span_of((const char *)data, n);
    if (n > 4096)
        return 0;
    struct arena *a = arena_new(0);
    check_qid(text);
    check_qid_number(text);
    check_xtext(text, a);
    check_reply(text);
    arena_free(&a);
    return 0;
}
