/*
 * A whole session: the first byte chooses the client and the size of the pieces in which the rest arrives. Nothing may
 * crash, leak, or leave the session waiting for a callback that nobody owes it. However the input is cut, the same is said
 * and the same is stored; replies are whole lines without control characters, and what is stored has CRLF line ends
 * only, begins with our field, and has addresses that can be sent on.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/smtpd_fixture.h"

struct result {
    struct buf said;     /* without queue ids */
    struct buf content;  /* of the last message, behind our Received field */
    struct buf envelope;
    unsigned messages;
};

static struct fixture *the_fixture(void)
{
    static struct fixture *f;
    if (f == NULL) {
        f = fixture_new("smtpd_client_connection_count_limit = 0\nsmtpd_forbid_unauth_pipelining = no\n"
                        "message_size_limit = 5000\nhopcount_limit = 5\nsmtpd_hard_error_limit = 1000\n"
                        "smtpd_authorized_xclient_hosts = 10.0.0.1\nsmtpd_authorized_xforward_hosts = 10.0.0.1\n"
                        "smtpd_reject_footer = \\c ($client_name, $helo_name)\\nsecond line\nsmtpd_error_sleep_time = 0\nsmtpd_recipient_limit = 3\n");
        f->env.log = NULL;
    }
    return f;
}

/* ---- what was said ---- */

/* "250 2.0.0 Ok: queued as ID": each run has its own. */
static void add_without_id(struct buf *b, struct span line)
{
    static const char mark[] = "queued as ";
    const char *at = line.n > 0 ? memmem(line.p, line.n, mark, sizeof mark - 1) : NULL;
    buf_add(b, line.p, at ? (size_t)(at - line.p) : line.n);
    buf_putc(b, '\n');
}

static void take_replies(const char *said, struct buf *out)
{
    struct span rest = span_cstr(said);
    while (rest.n > 0) {
        add_without_id(out, fuzz_reply_line(&rest));
    }
}

/* ---- what was stored ---- */

static struct span behind_received(struct span content)
{
    CHECK(span_starts_with(content, SPAN_LIT("Received: from ")));
    for (;;) {
        ptrdiff_t lf = span_find(content, '\n');
        CHECK(lf > 0 && lf < 998);
        for (ptrdiff_t i = 0; i < lf; i++)
            CHECK(!ascii_is_8bit(content.p[i]));
        content = span_from(content, (size_t)lf + 1);
        if (content.n == 0 || !ascii_is_blank(content.p[0]))
            return content;
    }
}

static void take_message(struct fixture *f, struct result *r)
{
    const struct envelope *e = &f->spool->last->env;
    struct span content = buf_span(&f->spool->content);
    CHECK(fuzz_has_crlf_lines_only(content) && content.n == e->content_bytes);
    /* A message that begins with a folded line: it goes into the part that is not compared. */
    struct span rest = behind_received(content);
    buf_add_span(&r->content, rest);
    CHECK(!fuzz_has_control(e->sender) && !fuzz_has_control(e->envid) && !fuzz_has_control(e->helo));
    CHECK(e->rcpt_count > 0 && e->sender.n <= ADDR_MAX + 20);
    buf_add_span(&r->envelope, e->sender);
    for (uint32_t i = 0; i < e->rcpt_count; i++) {
        CHECK(!fuzz_has_control(e->rcpts[i].addr) && !fuzz_has_control(e->rcpts[i].orig) && !fuzz_has_control(e->rcpts[i].orcpt));
        buf_printf(&r->envelope, " %u ", e->rcpts[i].notify);
        buf_add_span(&r->envelope, e->rcpts[i].addr);
        buf_add_span(&r->envelope, e->rcpts[i].orcpt);
    }
    buf_printf(&r->envelope, " %x %x %d", e->flags, e->content_flags, e->ret);
}

static void converse(struct fixture *f, struct span in, size_t piece, const char *client, struct result *r)
{
    unsigned before = f->spool->messages;
    *r = (struct result){ .messages = 0 };
    fixture_open(f, client);
    while (in.n > 0 && f->is_open) {
        size_t k = piece < in.n ? piece : in.n;
        fixture_send(f, span_of(in.p, k));
        in = span_from(in, k);
    }
    CHECK(!f->is_open || f->want != WAIT_CALLBACK);
    take_replies(fixture_said(f), &r->said);
    fixture_close(f);
    CHECK(f->spool->begun == f->spool->ended);
    r->messages = f->spool->messages - before;
    if (r->messages > 0)
        take_message(f, r);
}

static void result_free(struct result *r)
{
    buf_free(&r->said);
    buf_free(&r->content);
    buf_free(&r->envelope);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fixture *f = the_fixture();
    struct result whole, cut;
    struct span in = span_of((const char *)data, n);
    if (n < 2 || n > 8192) /* more does not fit between the two ends of a socket pair at once */
        return 0;
    uint8_t how = fuzz_byte(&in);
    const char *client = how & 0x80 ? "10.0.0.1" : "192.0.2.1";
    size_t piece = how & 0x7f ? (how & 0x7f) : 1000;
    converse(f, in, in.n, client, &whole);
    converse(f, in, piece, client, &cut);
    CHECK(span_eq(buf_span(&whole.said), buf_span(&cut.said)));
    CHECK(whole.messages == cut.messages);
    CHECK(span_eq(buf_span(&whole.content), buf_span(&cut.content)));
    CHECK(span_eq(buf_span(&whole.envelope), buf_span(&cut.envelope)));
    result_free(&whole);
    result_free(&cut);
    return 0;
}
