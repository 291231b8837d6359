/*
 * The client's side of a conversation. A header byte picks protocol, settings and the size of the pieces in which replies
 * arrive; then come sender, recipients, content, and what the server says. The server is never believed further than its
 * word: each recipient is reported once with a status that fits, and whatever was stored, the bytes sent are one command
 * a line and content that ends where it should.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/mail/address.h"
#include "daemon/smtp/request.h"
#include "tests/fuzz/fuzz_wire.h"
#include "tests/unit/client_fake.h"

#define FIRST_LINE "Received: x\r\n" /* begins all content here, so that it is told from commands */
#define RCPTS_MAX  6

/* ---- the job ---- */

/* Stored content of the text: CRLF line ends, and what the receiving leg would have said of it. */
static void make_content(struct span text, struct msg *m, struct buf *b)
{
    size_t line = 0;
    uint32_t f = 0;
    buf_puts(b, FIRST_LINE);
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '\n') {
            buf_puts(b, "\r\n");
            line = 0;
            continue;
        }
        f |= line == 0 && c == '.' ? CONTENT_HAS_DOT_LINE : 0;
        f |= (c == '\r' ? CONTENT_HAS_BARE_CR : 0) | (c == '\0' ? CONTENT_HAS_NUL : 0) | (ascii_is_8bit(c) ? CONTENT_HAS_8BIT : 0);
        f |= ++line > 998 ? CONTENT_HAS_LONG_LINE : 0;
        buf_putc(b, c);
    }
    if (line > 0)
        f |= CONTENT_NO_FINAL_EOL;
    m->env.content_flags = f;
    m->env.content_bytes = b->n;
    m->content = b->p;
}

static struct job *make_job(struct conf *c, bool is_lmtp, struct span *in, struct buf *content, uint8_t flags)
{
    struct job *j = xcalloc(1, sizeof *j);
    struct msg *m = j->msg = msg_new();
    struct span rcpts, rcpt;
    j->conf = conf_ref(c);
    j->transport = conf_transport(c, is_lmtp ? SPAN_LIT("lmtp") : SPAN_LIT("smtp"));
    j->nexthop = SPAN_LIT("there.example");
    j->rcpts = xcalloc(RCPTS_MAX, sizeof *j->rcpts);
    m->env.id = 0x1234567;
    m->env.arrival_us = clock_wall_us();
    m->env.sender = fuzz_part(in);
    m->env.envid = fuzz_part(in);
    rcpts = fuzz_part(in);
    m->env.flags = flags & 4 ? ENV_SMTPUTF8 : 0;
    m->env.ret = flags & 8 ? DSN_RET_FULL : DSN_RET_UNSET;
    m->env.client_addr = SPAN_LIT("2001:db8::7");
    m->env.helo = m->env.envid;
    m->env.rcpts = arena_alloc(m->arena, RCPTS_MAX * sizeof *m->env.rcpts);
    while (m->env.rcpt_count < RCPTS_MAX && span_next_token(&rcpts, "\x02", &rcpt)) {
        struct msg_rcpt *r = &m->env.rcpts[m->env.rcpt_count];
        r->addr = r->orig = rcpt;
        r->notify = flags >> 4;
        j->rcpts[j->rcpt_count++].index = m->env.rcpt_count++;
    }
    make_content(fuzz_part(in), m, content);
    return j;
}

/* ---- what was sent ---- */

static bool is_command(struct span line)
{
    static const char *const verbs[] = { "EHLO ", "LHLO ", "HELO ", "XFORWARD ", "MAIL FROM:<", "RCPT TO:<", "BDAT " };
    if (span_eq(line, SPAN_LIT("DATA")) || span_eq(line, SPAN_LIT("RSET")) || span_eq(line, SPAN_LIT("QUIT")))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (span_starts_with(line, span_cstr(verbs[i])))
            return true;
    return false;
}

/* Content behind DATA up to its end; what was stuffed is taken out into *out. */
static struct span read_content(struct span heard, struct buf *out, bool *is_whole)
{
    bool line_start = true;
    *is_whole = false;
    for (size_t i = 0; i < heard.n; i++) {
        if (line_start && heard.p[i] == '.') {
            if (span_starts_with(span_from(heard, i), SPAN_LIT(".\r\n"))) {
                *is_whole = true;
                return span_from(heard, i + 3);
            }
            CHECK(i + 1 == heard.n || heard.p[i + 1] == '.');
            i++;
        }
        if (i < heard.n)
            buf_putc(out, heard.p[i]);
        line_start = i > 0 && i < heard.n && heard.p[i] == '\n' && heard.p[i - 1] == '\r';
    }
    return span_of("", 0);
}

/* The path of a command, as a server would read it, is the address that was meant. */
static void check_path(struct span line, struct span want)
{
    struct arena *a = arena_new(0);
    struct addr got, meant;
    struct span arg = span_from(line, (size_t)span_find(line, ':') + 1);
    unsigned lax = ADDR_UTF8 | ADDR_ANY_8BIT | ADDR_ANY_DOMAIN;
    bool is_ours = want.n < ADDR_MAX / 3 && addr_parse(addr_quoted(a, want), lax, a, &meant) == ADDR_OK && span_eq(meant.text, want);
    if (is_ours) {
        CHECK(addr_parse(span_of(arg.p, addr_path_length(arg)), lax, a, &got) == ADDR_OK);
        CHECK(span_eq(got.text, want));
    }
    arena_free(&a);
}

struct talk {
    unsigned mails, contents;
    struct buf content; /* of the last that was whole */
};

static void check_heard(struct span heard, const struct msg *m, bool quotes, struct talk *t)
{
    while (heard.n > 0) {
        ptrdiff_t lf = span_find(heard, '\n');
        CHECK(lf > 0 && heard.p[lf - 1] == '\r');
        struct span line = span_of(heard.p, (size_t)lf - 1);
        heard = span_from(heard, (size_t)lf + 1);
        CHECK(!fuzz_has_control(line) && is_command(line));
        if (quotes && span_starts_with(line, SPAN_LIT("MAIL")))
            check_path(line, m->env.sender);
        t->mails += span_starts_with(line, SPAN_LIT("MAIL"));
        bool is_whole = false;
        buf_reset(&t->content);
        if (span_eq(line, SPAN_LIT("DATA")) && (heard.p == NULL || span_starts_with(heard, SPAN_LIT(FIRST_LINE)) ||
                                                span_starts_with(heard, SPAN_LIT(".\r\n")))) {
            heard = read_content(heard, &t->content, &is_whole);
            is_whole = is_whole && t->content.n > 0;
        } else if (span_starts_with(line, SPAN_LIT("BDAT "))) {
            size_t n = strtoul(line.p + 5, NULL, 10);
            CHECK(n <= heard.n && span_starts_with(heard, SPAN_LIT(FIRST_LINE)));
            buf_add(&t->content, heard.p, n);
            heard = span_from(heard, n);
            is_whole = true;
        }
        if (is_whole) {
            t->contents++;
            CHECK(fuzz_has_crlf_lines_only(buf_span(&t->content)));
            uint32_t changed = CONTENT_HAS_8BIT | CONTENT_HAS_LONG_LINE | CONTENT_HAS_BARE_CR | CONTENT_NO_FINAL_EOL;
            if (quotes && !(m->env.content_flags & changed))
                CHECK(span_eq(buf_span(&t->content), span_of(m->content, m->env.content_bytes)));
        }
    }
}

static void check_reports(const struct sched *s, uint32_t rcpts, const struct talk *t)
{
    CHECK(s->report_count == rcpts);
    for (unsigned i = 0; i < s->report_count; i++) {
        const struct fake_report *r = &s->reports[i];
        char class = r->outcome == OUTCOME_SENT ? '2' : r->outcome == OUTCOME_BOUNCED ? '5' : '4';
        CHECK(r->dsn[0] == class && r->dsn[1] == '.');
        CHECK(strchr(r->reason, '\n') == NULL && strchr(r->diagnostic, '\n') == NULL);
        CHECK(r->outcome != OUTCOME_SENT || t->contents > 0);
    }
}

/* ---- */

static struct conf *the_conf(bool odd)
{
    static struct conf *c[2];
    if (c[odd] == NULL)
        c[odd] = fake_conf(odd ? "smtp_line_length_limit = 40\nsmtp_quote_rfc821_envelope = no\nsmtp_send_xforward_command = yes\n"
                                 "lmtp_send_xforward_command = yes\nsmtp_per_request_deadline = yes\n" : "", "");
    return c[odd];
}

static void converse(struct smtp_request *r)
{
    enum transact_end end = TRANSACT_FAILED;
    int turns = 0;
    if (hello_exchange(r)) {
        do
            end = transact(r);
        while (end == TRANSACT_AGAIN && turns++ < 2 * RCPTS_MAX);
        CHECK(turns <= RCPTS_MAX + 1);
    }
    if (r->left > 0) {
        if (end == TRANSACT_STALE || !r->fail.is_set)
            fail_words(r, "4.4.2", "lost connection");
        report_left_failed(r);
    }
    CHECK(r->left == 0);
    conn_close(&r->conn, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct sched *sched;
    static const struct log_src log = { .name = "fuzz" };
    struct span in = span_of((const char *)data, n);
    if (n < 3 || n > 32768)
        return 0;
    if (sched == NULL)
        sched = fake_sched_new();
    uint8_t how = fuzz_byte(&in), flags = fuzz_byte(&in);
    bool is_lmtp = how & 1, odd = how & 2;
    struct buf content = BUF_INIT(0);
    struct job *j = make_job(the_conf(odd), is_lmtp, &in, &content, flags);
    struct fuzz_wire server = { .in = in, .piece = how & 0xf0 ? how >> 4 : SIZE_MAX };
    struct deliver_env env = { .sched = sched, .log = &log };
    struct smtp_request r = { .env = &env, .job = j, .cp = j->transport->client, .p = j->transport->p, .left = j->rcpt_count,
                              .log = log, .is_lmtp = is_lmtp, .is_last_host = how & 4, .is_reused = how & 8,
                              .wants_loop_check = true, .begun_us = clock_wall_us() };
    struct talk talk = { .mails = 0 };
    uint32_t rcpts = j->rcpt_count;
    sched->report_count = sched->finished = 0;
    r.mark = r.mark_inline;
    if (rcpts > 0) {
        r.conn = conn_new(stream_new_layer((struct stream_layer){ &fuzz_wire_ops, &server }, -1), "there.example", "192.0.2.1", 25, is_lmtp);
        converse(&r);
        check_heard(buf_span(&server.out), j->msg, !odd, &talk);
        check_reports(sched, rcpts, &talk);
    }
    buf_free(&talk.content);
    buf_free(&server.out);
    buf_free(&r.extra);
    buf_free(&r.fail.reason);
    buf_free(&r.fail.diagnostic);
    sched_finish(sched, &j, SITE_OK);
    buf_free(&content);
    return 0;
}
