/*
 * A notification from stored texts of any bytes: addresses, ids, what servers said, the original. Outside the original the
 * report has clean lines, the fields that it should have and each as often as it should, so that nothing that was stored
 * can add a field, a part or a line of its own.
 */
#include "tests/fuzz/fuzz.h"

#include "common/base/mem.h"
#include "common/mail/address.h"
#include "queue/dsn.h"

struct spool { struct qid_source qids; };

struct content_writer {
    struct span original;        /* what lies in it is the original */
    struct buf before, after;    /* the report's own bytes around it */
    size_t original_bytes;
};

struct content_pool;
void content_pool_uncharge(struct content_pool *p, size_t n);
void content_pool_uncharge(struct content_pool *p UNUSED, size_t n UNUSED) { }

struct qid_source *spool_qids(struct spool *s) { return &s->qids; }

bool own_content_put(struct own_content *c, struct span bytes)
{
    struct content_writer *w = c->w;
    if (w->original.n > 0 && bytes.p >= w->original.p && bytes.p < w->original.p + w->original.n)
        w->original_bytes += bytes.n;
    else
        buf_add_span(w->original_bytes > 0 ? &w->after : &w->before, bytes);
    return true;
}

static unsigned count(struct span text, const char *line_start)
{
    unsigned n = 0;
    struct span want = span_cstr(line_start);
    for (size_t i = 0; i < text.n; i++)
        n += (i == 0 || text.p[i - 1] == '\n') && span_starts_with(span_from(text, i), want);
    return n;
}

static bool is_known(struct span line)
{
    static const char *const names[] = {
        "Received:", "Date:", "From:", "To:", "Subject:", "Auto-Submitted:", "Message-Id:", "References:", "In-Reply-To:",
        "MIME-Version:", "Content-Type:", "Content-Transfer-Encoding:", "Content-Description:", "Reporting-MTA:",
        "Original-Envelope-Id:", "X-Postfix-Queue-ID:", "X-Postfix-Sender:", "Arrival-Date:", "Final-Recipient:",
        "Original-Recipient:", "Action:", "Status:", "Remote-MTA:", "Diagnostic-Code:", "Will-Retry-Until:", "Return-Path:",
    };
    if (line.n == 0 || line.p[0] == ' ' || line.p[0] == '\t' || span_starts_with(line, SPAN_LIT("--")))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (span_starts_with(line, span_cstr(names[i])))
            return true;
    return false;
}

static void check_lines(struct span text, bool utf8, bool in_words)
{
    struct span line;
    while (text.n > 0) {
        ptrdiff_t lf = span_find(text, '\n');
        CHECK(lf > 0 && text.p[lf - 1] == '\r');
        line = span_of(text.p, (size_t)lf - 1);
        text = span_from(text, (size_t)lf + 1);
        CHECK(line.n <= 998);
        CHECK(line.n == 0 || line.p[0] != '.');
        for (size_t i = 0; i < line.n; i++)
            CHECK(line.p[i] == '\t' || ascii_is_print(line.p[i]) || (utf8 && ascii_is_8bit(line.p[i])));
        CHECK(in_words || is_known(line));
    }
}

static void check(const struct dsn_report *d, struct content_writer *w)
{
    struct span all = buf_span(&w->before);
    const char *words = memmem(all.p, all.n, "\r\n\r\nThis is the mail system", 4);
    const char *status = memmem(all.p, all.n, "\r\nContent-Description: Delivery report\r\n", 38);
    CHECK(words != NULL && status != NULL && words < status);
    check_lines(span_of(all.p, (size_t)(words + 2 - all.p)), d->is_utf8, false);
    check_lines(span_of(words + 2, (size_t)(status - words)), d->is_utf8, true);
    check_lines(span_of(status + 2, (size_t)(all.p + all.n - status - 2)), d->is_utf8, false);
    check_lines(buf_span(&w->after), d->is_utf8, false);
    struct span report = span_of(status, (size_t)(all.p + all.n - status));
    CHECK(count(report, "Final-Recipient:") == d->count && count(report, "Action:") == d->count);
    CHECK(count(report, "Status:") == d->count && count(report, "Diagnostic-Code:") <= d->count);
    CHECK(count(report, "Reporting-MTA:") == 1 && count(report, "Return-Path:") == 1);
    CHECK(count(all, "From:") == 1 && count(all, "To:") == 1 && count(all, "Subject:") == 1);
    CHECK(count(all, "--") + count(buf_span(&w->after), "--") == 4);
    if (!d->is_headers_only)
        CHECK(w->original_bytes == w->original.n);
}

static struct params *the_params(void)
{
    static struct conf *c;
    static const char main_cf[] = "myhostname = mx.example.com\nbounce_size_limit = 400\n";
    if (c == NULL) {
        struct conf_options o = { .main_cf_text = main_cf, .master_cf_text = "smtp unix - - n - - smtp\n",
                                  .hostname = "mx.example.com" };
        struct conf_report r;
        c = conf_load(&o, &r);
        conf_report_free(&r);
        CHECK(c != NULL);
    }
    return (struct params *)conf_global(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct spool spool;
    struct span in = span_of((const char *)data, n);
    if (n < 2 || n > 65536)
        return 0;
    uint8_t how = fuzz_byte(&in), flags = fuzz_byte(&in);
    struct msg *m = msg_new();
    struct envelope *e = &m->env;
    struct bounce_rcpt r[3] = { { .rcpt = 0 } };
    e->id = 0x5f5e100aabbcc;
    e->arrival_us = INT64_C(1700000000000000);
    e->sender = fuzz_part(&in);
    e->envid = fuzz_part(&in);
    e->message_id = fuzz_part(&in);
    e->content_flags = flags;
    size_t count_of = 1 + how / 64 % 3;
    for (size_t i = 0; i < count_of; i++) {
        struct msg_rcpt *to = msg_add_rcpt(m);
        to->addr = fuzz_part(&in);
        to->orig = fuzz_part(&in);
        to->orcpt = fuzz_part(&in);
        r[i] = (struct bounce_rcpt){ .rcpt = (uint32_t)i, .outcome = i ? OUTCOME_DEFERRED : OUTCOME_BOUNCED, .action = "failed",
                                     .dsn = SPAN_LIT("5.1.1"), .reason = fuzz_part(&in), .remote_mta = fuzz_part(&in),
                                     .diagnostic = fuzz_part(&in) };
        if (to->addr.n > ADDR_MAX || to->orig.n > ADDR_MAX || to->orcpt.n > ADDR_MAX) {
            msg_unref(&m);
            return 0;
        }
    }
    struct content_view view = { .p = in.p, .n = in.n };
    struct content_writer w = { .original = in };
    struct dsn_report d = { .p = the_params(), .kind = (enum bounce_kind)(how % 5), .original = m, .rcpts = r, .count = count_of,
                            .view = in.n > 0 ? &view : NULL, .is_utf8 = how & 8, .is_headers_only = how & 16 };
    if (e->sender.n <= ADDR_MAX) {
        struct msg *own = own_mail_new(&d.own, d.p, &spool, SPAN_LIT(""), e->sender);
        struct own_content to = { .w = &w };
        CHECK(dsn_write(&d, &to));
        check(&d, &w);
        msg_unref(&own);
    }
    buf_free(&w.before);
    buf_free(&w.after);
    msg_unref(&m);
    return 0;
}
