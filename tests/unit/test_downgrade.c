/* 8-bit parts as quoted-printable: messages before and after. The cases were compared with what Postfix's smtp(8) sends. */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include "daemon/smtp/downgrade.h"

#define CTE(e)   "Content-Transfer-Encoding: " e "\r\n"
#define QP       CTE("quoted-printable")
#define U8       "Gr\xc3\xbc\xc3\x9f" "e\r\n"
#define UQP      "Gr=C3=BC=C3=9Fe\r\n"
#define TYPE(t)  "Content-Type: " t "\r\n"
#define MULTI(b) TYPE("multipart/mixed; boundary=" b)
#define X10(s)   s s s s s s s s s s

static const struct { const char *name, *before, *after; } cases[] = {
    { "one part", "MIME-Version: 1.0\r\n" CTE("8bit") "X-After: 1\r\n\r\n" U8, "MIME-Version: 1.0\r\nX-After: 1\r\n" QP "\r\n" UQP },
    { "binary", CTE("binary") "\r\n" U8, QP "\r\n" UQP },
    { "label folded and commented", "Content-Transfer-Encoding: (x)\r\n 8BIT\r\nA: b\r\n\r\n" U8, "A: b\r\n" QP "\r\n" UQP },
    { "ASCII that is called 8bit", MULTI("x") "\r\n--x\r\n" CTE("8bit") "\r\na=b\r\n--x--\r\n",
      MULTI("x") "\r\n--x\r\n" QP "\r\na=3Db\r\n--x--\r\n" },
    { "no label", TYPE("text/plain; charset=utf-8") "\r\n" U8, NULL },
    { "no MIME at all", "Subject: x\r\n\r\n" U8, NULL },
    { "wrong label", CTE("7bit") "\r\n" U8, NULL },
    { "unknown label", CTE("x-own") "\r\n" U8, NULL },
    { "already encoded", QP "\r\n=C3=BC\r\n", NULL },
    { "base64", CTE("base64") "\r\nw7w=\r\n", NULL },
    { "two labels", CTE("7bit") CTE("8bit") "\r\n" U8, QP "\r\n" UQP },
    { "header as it is", "Subject: " U8 CTE("8bit") "\r\n" U8, "Subject: " U8 QP "\r\n" UQP },
    { "no body", CTE("8bit") "A: b\r\n", "A: b\r\n" QP "\r\n" },
    { "no end of line in the header", CTE("8bit") "A: b", "A: b\r\n" QP "\r\n" },
    { "no end of line in the body", CTE("8bit") "\r\n\xfc", QP "\r\n=FC" },
    { "parts", MULTI("\"x y\"") CTE("8bit") "\r\npre\xfc\r\n--x y\r\n" CTE("8bit") "\r\n" U8 "--x y \r\n\r\n" U8 "--x y\r\n" QP "\r\na=20\r\n"
      "--x y\r\n" TYPE("message/rfc822") CTE("8bit") "\r\nSubject: " U8 CTE("8bit") "\r\n" U8 "--x y--\r\nepi\xfc\r\n--x y\r\n" CTE("8bit") "\r\n",
      MULTI("\"x y\"") CTE("7bit") "\r\npre\xfc\r\n--x y\r\n" QP "\r\n" UQP "--x y \r\n\r\n" U8 "--x y\r\n" QP "\r\na=20\r\n"
      "--x y\r\n" TYPE("message/rfc822") CTE("7bit") "\r\nSubject: " U8 QP "\r\n" UQP "--x y--\r\nepi\xfc\r\n--x y\r\n" CTE("8bit") "\r\n" },
    { "no closing boundary", MULTI("x") "\r\n--x\r\n" CTE("8bit") "\r\n" U8, MULTI("x") "\r\n--x\r\n" QP "\r\n" UQP },
    { "signed", TYPE("multipart/signed; boundary=x") "\r\n--x\r\n" CTE("8bit") "\r\n" U8 "--x\r\n\r\nsig\r\n--x--\r\n",
      TYPE("multipart/signed; boundary=x") "\r\n--x\r\n" QP "\r\n" UQP "--x\r\n\r\nsig\r\n--x--\r\n" },
    { "digest", TYPE("multipart/digest; boundary=x") "\r\n--x\r\n\r\n" CTE("8bit") "\r\n" U8 "--x--\r\n",
      TYPE("multipart/digest; boundary=x") "\r\n--x\r\n\r\n" QP "\r\n" UQP "--x--\r\n" },
    { "fragments are only relabelled", TYPE("message/partial") CTE("8bit") "\r\n" CTE("8bit") "\r\n" U8,
      TYPE("message/partial") CTE("7bit") "\r\n" CTE("8bit") "\r\n" U8 },
    { "message/global is encoded", TYPE("message/global") CTE("8bit") "\r\nSubject: " U8, TYPE("message/global") QP "\r\nSubject: " UQP },
    { "no empty line", MULTI("x") "\r\n--x\r\n" CTE("8bit") "\xfc: y\r\n--x\r\n" CTE("8bit") "--x--\r\n",
      MULTI("x") "\r\n--x\r\n" QP "\r\n=FC: y\r\n--x\r\n" QP "\r\n--x--\r\n" },
    { "multipart without boundary", TYPE("multipart/mixed") CTE("8bit") "\r\n--x\r\n" CTE("8bit") "\r\n" U8,
      TYPE("multipart/mixed") CTE("7bit") "\r\n--x\r\n" CTE("8bit") "\r\n" U8 },
    { "blanks at the end", CTE("8bit") "\r\na \r\nb\t\r\n \r\nc d\r\n\r\n\te\r\n", QP "\r\na=20\r\nb=09\r\n=20\r\nc d\r\n\r\n\te\r\n" },
    { "controls", CTE("8bit") "\r\na\x01\x7f" "b\rc\t=\r\n", QP "\r\na=01=7Fb=0Dc\t=3D\r\n" },
    { "76 characters fit", CTE("8bit") "\r\n" X10("1234567") "123456\r\n", QP "\r\n" X10("1234567") "123456\r\n" },
    { "77 do not", CTE("8bit") "\r\n" X10("1234567") "1234567\r\n", QP "\r\n" X10("1234567") "12345=\r\n67\r\n" },
    { "a blank at the end of 76", CTE("8bit") "\r\n" X10("1234567") "12345 \r\n", QP "\r\n" X10("1234567") "12345=\r\n=20\r\n" },
    { "an encoded byte is not torn", CTE("8bit") "\r\n" X10("1234567") "123\xfc" "4\r\n", QP "\r\n" X10("1234567") "123=\r\n=FC4\r\n" },
    { "an encoded byte that just fits", CTE("8bit") "\r\n" X10("1234567") "123\xfc\r\n", QP "\r\n" X10("1234567") "123=FC\r\n" },
    { "no dash after a soft break", CTE("8bit") "\r\n" X10("1234567") "12345--x\r\n", QP "\r\n" X10("1234567") "12345=\r\n=2D-x\r\n" },
    { "no new boundary", CTE("8bit") "\r\n--a=b\r\n--c\r\n-d=\r\n", QP "\r\n=2D-a=3Db\r\n--c\r\n-d=3D\r\n" },
    { "dots are left to others", CTE("8bit") "\r\n.\r\n.\xfc\r\n", QP "\r\n.\r\n.=FC\r\n" },
};

struct sink {
    struct buf all;
    struct span content;
    const char *problem;
};

static void put(void *ctx, struct span run, bool is_borrowed)
{
    struct sink *s = ctx;
    bool is_inside = run.p >= s->content.p && run.p + run.n <= s->content.p + s->content.n;
    if (is_borrowed != is_inside)
        s->problem = "a run is not what it says";
    if (s->all.n > 0 && s->all.p[s->all.n - 1] != '\n' && !span_starts_with(run, SPAN_LIT("\r\n")))
        s->problem = "a run ended within a line";
    buf_add_span(&s->all, run);
}

static const struct mime_limits limits = { 2048, 100 };

static struct sink convert(struct span content)
{
    struct sink s = { .all = BUF_INIT(0), .content = content };
    downgrade(content, limits, put, &s);
    return s;
}

static void every_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span before = span_cstr(cases[i].before);
        const char *after = cases[i].after ? cases[i].after : cases[i].before;
        struct sink s = convert(before);
        if (s.problem || !span_eq(buf_span(&s.all), span_cstr(after)))
            fail_msg("%s: %s\n%.*s\nwanted\n%s", cases[i].name, s.problem ? s.problem : "", SPAN_ARG(buf_span(&s.all)), after);
        if (downgrade_need_of(before, limits) != (cases[i].after ? DOWNGRADE_NEEDED : DOWNGRADE_NONE))
            fail_msg("%s: wrong need", cases[i].name);
        if (downgrade_need_of(span_cstr(after), limits) != DOWNGRADE_NONE)
            fail_msg("%s: the result still says 8bit", cases[i].name);
        buf_free(&s.all);
    }
}

/* Pages end at ends of lines, also within one endless line. */
static void long_lines(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    buf_puts(&b, CTE("8bit") "\r\n");
    for (unsigned i = 0; i < 100000; i++)
        buf_putc(&b, "ab\xfc \xff="[i * i % 6]);
    buf_puts(&b, "\r\nend\r\n");
    struct sink s = convert(buf_span(&b));
    assert_null(s.problem);
    struct span rest = buf_span(&s.all), line;
    while (span_next_token(&rest, "\r\n", &line))
        assert_true(line.n <= 76);
    assert_true(span_iends_with(buf_span(&s.all), SPAN_LIT("\r\nend\r\n")));
    buf_free(&s.all);
    buf_free(&b);
}

static void too_deep(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    for (int i = 0; i < 110; i++)
        buf_printf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i);
    assert_int_equal(downgrade_need_of(buf_span(&b), limits), DOWNGRADE_TOO_DEEP);
    assert_int_equal(downgrade_need_of(buf_span(&b), (struct mime_limits){ 2048, 108 }), DOWNGRADE_NONE);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_case), cmocka_unit_test(long_lines), cmocka_unit_test(too_deep) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
