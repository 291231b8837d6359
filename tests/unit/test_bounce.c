#include "unit.h"
#include <pthread.h>

#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/dsn.h"
#include "sched_bench.h"

struct answer { int calls, status; };

static void queued(void *arg, int status)
{
    struct answer *a = arg;
    a->calls++;
    a->status = status;
}

static struct bounce_rcpt failed(uint32_t i)
{
    return (struct bounce_rcpt){ .rcpt = i, .outcome = OUTCOME_BOUNCED, .action = "failed", .dsn = SPAN_LIT("5.1.1"),
        .reason = SPAN_LIT("host mx.example.net[192.0.2.1] said: 550 5.1.1 no such user here, nor was there ever one as far as anybody can tell (in reply to RCPT TO command)"),
        .remote_mta = SPAN_LIT("mx.example.net"), .diagnostic = SPAN_LIT("550 5.1.1 no such user here") };
}

/* Notifications that came of one call. */
static unsigned notify(struct bench *b, enum bounce_kind kind, struct msg *m, const struct bounce_rcpt *r, size_t n, struct answer *a)
{
    struct log_src src = b->src;
    src.prog = "bounce";
    struct bounce_options o = { .spool = b->spool, .conf = b->conf, .log = &src };
    unsigned before = b->spool->committed_n;
    *a = (struct answer){ 0 };
    b->spool->sched = NULL;
    bounce_send(&o, kind, m, r, n, queued, a);
    fake_commit_all(b->spool);
    assert_int_equal(a->calls, 1);
    return b->spool->committed_n - before;
}

static struct msg *last(struct bench *b)
{
    return b->spool->committed[b->spool->committed_n - 1];
}

/* Value of a field in the part of `text` from `from` on, unfolded; free(). NULL when it is not there. */
static char *field(const char *text, const char *from, const char *name)
{
    const char *p = strstr(text, from);
    if (p == NULL)
        return NULL;
    size_t n = strlen(name);
    for (; p != NULL && *p != '\0'; p = strstr(p, "\r\n"), p = p ? p + 2 : NULL) {
        if (strncmp(p, name, n) != 0 || p[n] != ':')
            continue;
        struct buf b = BUF_INIT(4096);
        for (p += n + 1; *p == ' '; p++)
            ;
        while (p[0] != '\r' || p[2] == ' ' || p[2] == '\t') {
            if (*p == '\r') {
                for (p += 2; p[1] == ' ' || p[1] == '\t'; p++)
                    ;
                buf_putc(&b, ' ');
                p++;
                continue;
            }
            buf_putc(&b, *p++);
        }
        return buf_detach(&b);
    }
    return NULL;
}

static void assert_field(const char *text, const char *from, const char *name, const char *value)
{
    char *v = field(text, from, name);
    if (v == NULL || strcmp(v, value) != 0)
        fail_msg("%s is '%s', not '%s'", name, v ? v : "(absent)", value);
    free(v);
}

/* Every line is CRLF, at most 998 bytes; the boundary opens three parts and closes. */
static void assert_form(const struct msg *m)
{
    const char *text = m->content;
    size_t n = strlen(text), line = 0;
    assert_int_equal(n, m->env.content_bytes);
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\n') {
            assert_true(i > 0 && text[i - 1] == '\r');
            line = 0;
        } else {
            assert_true(++line <= 999);
        }
        if (!(m->env.content_flags & CONTENT_HAS_8BIT))
            assert_true((unsigned char)text[i] < 128);
    }
    char *type = field(text, "Received:", "Content-Type");
    assert_non_null(type);
    char *start = strstr(type, "boundary=\"");
    assert_non_null(start);
    start += 10;
    *strchr(start, '"') = '\0';
    char *open = xasprintf("\r\n--%s\r\n", start), *close = xasprintf("\r\n--%s--\r\n", start);
    unsigned parts = 0;
    for (const char *p = text; (p = strstr(p, open)) != NULL; p++)
        parts++;
    assert_int_equal(parts, 3);
    assert_non_null(strstr(text, close));
    assert_true(strcmp(text + n - strlen(close), close) == 0);
    free(open);
    free(close);
    free(type);
}

static struct msg *original(struct bench *b, const char *sender)
{
    struct msg *m = bench_msg(b, sender);
    struct msg_rcpt *r = bench_rcpt(m, "user@example.net", "smtp", "example.net");
    r->orig = SPAN_LIT("alias@example.com");
    r->orcpt = SPAN_LIT("rfc822;first@example.org");
    bench_rcpt(m, "odd user@example.net", "smtp", "example.net");
    m->env.envid = SPAN_LIT("env-1");
    return m;
}

static void failure(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct msg *m = original(b, "sender@example.org");
    struct bounce_rcpt r[2] = { failed(0), failed(1) };
    struct answer a;
    assert_int_equal(notify(b, BOUNCE_FAILURE, m, r, 2, &a), 1);
    assert_int_equal(a.status, 0);
    struct msg *n = last(b);
    const char *t = n->content;
    assert_form(n);
    assert_int_equal(n->env.sender.n, 0);
    assert_true(n->env.flags & ENV_BOUNCE);
    assert_false(n->env.flags & ENV_SMTPUTF8);
    assert_int_equal(n->env.rcpt_count, 1);
    assert_int_equal(n->env.rcpts[0].route.transport.n, 0);
    assert_true(span_eq(n->env.rcpts[0].addr, SPAN_LIT("sender@example.org")));
    assert_field(t, "Received:", "From", "Mail Delivery System <MAILER-DAEMON@example.com>");
    assert_field(t, "Received:", "To", "sender@example.org");
    assert_field(t, "Received:", "Auto-Submitted", "auto-replied");
    assert_field(t, "Received:", "MIME-Version", "1.0");
    char *id = field(t, "Received:", "Message-Id");
    assert_true(span_eq(span_cstr(id), n->env.message_id));
    free(id);
    assert_null(field(t, "Received:", "In-Reply-To"));
    const char *status = "message/delivery-status";
    assert_field(t, status, "Reporting-MTA", "dns; hub.example.com");
    assert_field(t, status, "Original-Envelope-Id", "env-1");
    assert_field(t, status, "X-Postfix-Sender", "rfc822; sender@example.org");
    assert_field(t, status, "Final-Recipient", "rfc822; user@example.net");
    assert_field(t, status, "Original-Recipient", "rfc822; first@example.org");
    assert_field(t, status, "Action", "failed");
    assert_field(t, status, "Status", "5.1.1");
    assert_field(t, status, "Remote-MTA", "dns; mx.example.net");
    assert_field(t, status, "Diagnostic-Code", "smtp; 550 5.1.1 no such user here");
    assert_field(t, "\r\nFinal-Recipient: rfc822; \"odd", "Final-Recipient", "rfc822; \"odd user\"@example.net");
    char want[40];
    snprintf(want, sizeof want, "%llX", (unsigned long long)m->env.id);
    assert_field(t, status, "X-Postfix-Queue-ID", want);
    assert_non_null(strstr(t, "<user@example.net> (sent to <alias@example.com>): host"));
    assert_non_null(strstr(t, "Content-Type: message/rfc822\r\n\r\nReturn-Path: <sender@example.org>\r\nFrom: a\r\nSubject: test\r\n\r\nbody\r\n\r\n--"));
    assert_int_equal(bench_log_count(b, "posthouse/bounce[7]: "), 1);
    assert_int_equal(bench_log_count(b, "posthouse/cleanup[7]: "), 1);
    char *line = xasprintf("%llX: sender non-delivery notification: %llX\n", (unsigned long long)m->env.id, (unsigned long long)n->env.id);
    assert_int_equal(bench_log_count(b, line), 1);
    free(line);
    msg_unref(&m);
    bench_free(&b);
}

/* Stored texts of any length make no line that is too long (RFC 5322 2.1.1), and no field of their own. */
static void endless_texts(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    static char quotes[1100], words[5000];
    struct bounce_rcpt r[1] = { failed(0) };
    struct answer a;
    memset(quotes, '"', 1000);
    memcpy(quotes + 1000, "@example.com", 12);
    memset(words, 'w', sizeof words - 1);
    struct msg *m = original(b, quotes);
    m->env.rcpts[0].addr = span_cstr(quotes + 1);
    m->env.rcpts[0].orig = span_cstr(quotes);
    m->env.rcpts[0].orcpt = span_cstr(arena_printf(m->arena, "rfc822;%s", words));
    m->env.envid = m->env.message_id = r[0].reason = r[0].diagnostic = r[0].remote_mta = span_cstr(words);
    assert_int_equal(notify(b, BOUNCE_FAILURE, m, r, 1, &a), 1);
    assert_form(last(b));
    r[0].reason = r[0].diagnostic = SPAN_LIT("550 no\r\nAction: delivered\x1b[2J\n\n--x");
    assert_int_equal(notify(b, BOUNCE_FAILURE, m, r, 1, &a), 1);
    assert_form(last(b));
    assert_null(strstr(last(b)->content, "\nAction: delivered"));
    msg_unref(&m);
    bench_free(&b);
}

static void who_hears_of_it(void **state UNUSED)
{
    static const struct {
        const char *name, *conf, *sender;
        enum bounce_kind kind;
        uint8_t notify;
        unsigned sent;
        const char *to, *from; /* of the last one */
    } cases[] = {
        { "default", "", "s@example.org", BOUNCE_FAILURE, 0, 1, "s@example.org", "" },
        { "NEVER", "", "s@example.org", BOUNCE_FAILURE, NOTIFY_NEVER, 0, NULL, NULL },
        { "only SUCCESS asked", "", "s@example.org", BOUNCE_FAILURE, NOTIFY_SUCCESS, 0, NULL, NULL },
        { "FAILURE asked", "", "s@example.org", BOUNCE_FAILURE, NOTIFY_FAILURE, 1, "s@example.org", "" },
        { "delay", "", "s@example.org", BOUNCE_DELAY, 0, 1, "s@example.org", "" },
        { "delay not asked", "", "s@example.org", BOUNCE_DELAY, NOTIFY_FAILURE, 0, NULL, NULL },
        { "delay of a notification", "", "", BOUNCE_DELAY, 0, 0, NULL, NULL },
        { "double bounce, class off", "", "", BOUNCE_FAILURE, 0, 0, NULL, NULL },
        { "double bounce", "notify_classes = 2bounce\n" "2bounce_notice_recipient = twice\n", "", BOUNCE_FAILURE, 0, 1, "twice@example.com", "double-bounce@example.com" },
        { "double bounce does not bounce", "notify_classes = 2bounce\n", "double-bounce@example.com", BOUNCE_FAILURE, 0, 0, NULL, NULL },
        { "nor after masquerading", "notify_classes = 2bounce\n", "Double-Bounce@hub.example.com", BOUNCE_FAILURE, 0, 0, NULL, NULL },
        { "a double-bounce address of the site's own", "notify_classes = 2bounce\n" "double_bounce_sender = twice.failed\n", "twice.failed@example.com", BOUNCE_FAILURE, 0, 0, NULL, NULL },
        { "the usual name is then nobody's", "double_bounce_sender = twice.failed\n", "double-bounce@example.com", BOUNCE_FAILURE, 0, 1, "double-bounce@example.com", "" },
        { "it sends", "notify_classes = 2bounce\n" "double_bounce_sender = twice.failed\n", "", BOUNCE_FAILURE, 0, 1, "postmaster@example.com", "twice.failed@example.com" },
        { "another double-bounce address", "double_bounce_sender = db@x.example\n", "db@y.example", BOUNCE_FAILURE, 0, 1, "db@y.example", "" },
        { "copy of a bounce", "notify_classes = bounce\n" "bounce_notice_recipient = pm@example.com\n", "s@example.org", BOUNCE_FAILURE, 0, 2, "pm@example.com", "double-bounce@example.com" },
        { "copy although NEVER", "notify_classes = bounce\n", "s@example.org", BOUNCE_FAILURE, NOTIFY_NEVER, 1, "postmaster@example.com", "double-bounce@example.com" },
        { "copy of a delay", "notify_classes = delay\n" "delay_notice_recipient = late\n", "s@example.org", BOUNCE_DELAY, 0, 2, "late@example.com", "double-bounce@example.com" },
        { "success", "", "s@example.org", BOUNCE_SUCCESS, NOTIFY_SUCCESS, 1, "s@example.org", "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bench *b = bench_new(cases[i].conf, NULL);
        struct msg *m = bench_msg(b, cases[i].sender);
        bench_rcpt(m, "u@example.net", "smtp", "example.net")->notify = cases[i].notify;
        struct bounce_rcpt r = failed(0);
        struct answer a;
        unsigned n = notify(b, cases[i].kind, m, &r, 1, &a);
        if (n != cases[i].sent || a.status != 0)
            fail_msg("%s: %u sent, status %d", cases[i].name, n, a.status);
        if (n > 0) {
            assert_form(last(b));
            if (!span_eq(last(b)->env.rcpts[0].addr, span_cstr(cases[i].to)) || !span_eq(last(b)->env.sender, span_cstr(cases[i].from)))
                fail_msg("%s: to %.*s from %.*s", cases[i].name, SPAN_ARG(last(b)->env.rcpts[0].addr), SPAN_ARG(last(b)->env.sender));
        }
        msg_unref(&m);
        bench_free(&b);
    }
}

static void size_and_ret(void **state UNUSED)
{
    struct bench *b = bench_new("bounce_size_limit = 100\n", NULL);
    struct bounce_rcpt r = failed(0);
    struct answer a;
    struct msg *m = original(b, "s@example.org");
    m->env.ret = DSN_RET_HDRS;
    notify(b, BOUNCE_FAILURE, m, &r, 1, &a);
    assert_non_null(strstr(last(b)->content, "Content-Type: text/rfc822-headers\r\n\r\nReturn-Path: <s@example.org>\r\nFrom: a\r\nSubject: test\r\n\r\n\r\n--"));
    assert_null(strstr(last(b)->content, "\r\nbody\r\n"));
    assert_form(last(b));
    msg_unref(&m);
    /* Beyond the limit: its header, cut at a line. */
    m = original(b, "s@example.org");
    free(m->content);
    struct buf big = BUF_INIT(1 << 20);
    for (int i = 0; i < 20; i++)
        buf_printf(&big, "X-Line-%02d: some words to fill it\r\n", i);
    buf_puts(&big, "\r\nbody\r\n");
    m->env.content_bytes = big.n;
    m->content = buf_detach(&big);
    notify(b, BOUNCE_FAILURE, m, &r, 1, &a);
    assert_null(strstr(last(b)->content, "\r\nbody\r\n"));
    assert_non_null(strstr(last(b)->content, "X-Line-01: some words to fill it\r\n"));
    assert_null(strstr(last(b)->content, "X-Line-04"));
    assert_form(last(b));
    /* No content to be had: the report goes all the same. */
    free(m->content);
    m->content = NULL;
    assert_int_equal(notify(b, BOUNCE_FAILURE, m, &r, 1, &a), 1);
    assert_form(last(b));
    msg_unref(&m);
    bench_free(&b);
}

static void a_large_original_streams(void **state UNUSED)
{
    struct bench *b = bench_new("bounce_size_limit = 1000000\n", NULL);
    struct bounce_rcpt r = failed(0);
    struct answer a;
    struct msg *m = original(b, "s@example.org");
    free(m->content);
    struct buf big = BUF_INIT(1 << 20);
    buf_puts(&big, "Subject: big\r\n\r\n");
    for (int i = 0; i < 9000; i++)
        buf_printf(&big, "line %06d of the body\r\n", i);
    buf_puts(&big, "no line end");
    m->env.content_bytes = big.n;
    m->env.content_flags = CONTENT_NO_FINAL_EOL;
    m->content = buf_detach(&big);
    notify(b, BOUNCE_FAILURE, m, &r, 1, &a);
    assert_form(last(b));
    assert_false(last(b)->env.content_flags & CONTENT_NO_FINAL_EOL);
    assert_non_null(strstr(last(b)->content, "line 008999 of the body\r\nno line end\r\n"));
    assert_true(last(b)->env.content_bytes > m->env.content_bytes);
    msg_unref(&m);
    bench_free(&b);
}

static void international(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct answer a;
    struct msg *m = bench_msg(b, "s\xc3\xbc\xc3\x9f@example.org");
    bench_rcpt(m, "\xc3\xa4@example.net", "smtp", "example.net");
    struct bounce_rcpt r = failed(0);
    m->env.flags = ENV_SMTPUTF8;
    m->env.content_flags = CONTENT_HAS_8BIT;
    notify(b, BOUNCE_FAILURE, m, &r, 1, &a);
    const char *t = last(b)->content;
    assert_form(last(b));
    assert_true(last(b)->env.flags & ENV_SMTPUTF8);
    assert_true(last(b)->env.content_flags & CONTENT_HAS_8BIT_HEADER);
    assert_non_null(strstr(t, "report-type=global-delivery-status"));
    assert_field(t, "message/global-delivery-status", "Final-Recipient", "utf-8; \xc3\xa4@example.net");
    assert_field(t, "message/global-delivery-status", "X-Postfix-Sender", "utf-8; s\xc3\xbc\xc3\x9f@example.org");
    assert_non_null(strstr(t, "Content-Type: message/global\r\n"));
    assert_non_null(strstr(t, "charset=utf-8"));
    m->env.ret = DSN_RET_HDRS;
    notify(b, BOUNCE_FAILURE, m, &r, 1, &a);
    assert_non_null(strstr(last(b)->content, "Content-Type: message/global-headers\r\n"));
    /* Without SMTPUTF8 8-bit words of a remote host are made harmless. */
    struct msg *plain = original(b, "s@example.org");
    r.reason = SPAN_LIT("said: 550 gr\xfc\xdf");
    r.diagnostic = SPAN_LIT("550 \x01\r\nInjected: yes");
    notify(b, BOUNCE_FAILURE, plain, &r, 1, &a);
    assert_form(last(b));
    assert_non_null(strstr(last(b)->content, "said: 550 gr??"));
    assert_null(strstr(last(b)->content, "\r\nInjected"));
    msg_unref(&plain);
    msg_unref(&m);
    bench_free(&b);
}

static void delay(void **state UNUSED)
{
    struct bench *b = bench_new("maximal_queue_lifetime = 3d\n" "enable_threaded_bounces = yes\n", NULL);
    struct answer a;
    struct msg *m = original(b, "s@example.org");
    m->env.arrival_us = INT64_C(1700000000000000);
    struct bounce_rcpt r = { .rcpt = 0, .outcome = OUTCOME_DEFERRED, .action = "delayed", .dsn = SPAN_LIT("4.4.1"),
                             .reason = SPAN_LIT("connect to mx: Connection refused") };
    notify(b, BOUNCE_DELAY, m, &r, 1, &a);
    const char *t = last(b)->content;
    assert_form(last(b));
    assert_field(t, "message/delivery-status", "Action", "delayed");
    assert_field(t, "message/delivery-status", "Diagnostic-Code", "X-Postfix; connect to mx: Connection refused");
    char *until = field(t, "message/delivery-status", "Will-Retry-Until");
    assert_non_null(until);
    assert_non_null(strstr(until, "17 Nov 2023"));
    free(until);
    assert_field(t, "Received:", "In-Reply-To", "<orig@example.com>");
    assert_field(t, "Received:", "References", "<orig@example.com>");
    assert_non_null(strstr(t, "text/rfc822-headers"));
    msg_unref(&m);
    bench_free(&b);
}

static void failures_of_the_spool(void **state UNUSED)
{
    struct bench *b = bench_new("notify_classes = bounce\n", NULL);
    struct answer a;
    struct msg *m = original(b, "s@example.org");
    struct bounce_rcpt r = failed(0);
    b->spool->fail_submit = SPOOL_IO;
    assert_int_equal(notify(b, BOUNCE_FAILURE, m, &r, 1, &a), 0);
    assert_int_equal(a.status, SPOOL_IO);
    b->spool->fail_submit = 0;
    b->spool->fail_content = 1;
    assert_int_equal(notify(b, BOUNCE_FAILURE, m, &r, 1, &a), 0);
    assert_true(a.status != 0);
    assert_int_equal(bench_log_count(b, "sender non-delivery"), 0);
    msg_unref(&m);
    bench_free(&b);
}

/* What the mapping of a recipient answers; it fails when there is nothing. */
static bool expand(void *arg, struct span rcpt, struct arena *a, struct span **out, size_t *count, struct err *e)
{
    const char *const *members = arg;
    *count = 0;
    while (members[*count] != NULL)
        ++*count;
    if (*count == 0) {
        err_set(e, "no answer for %.*s", SPAN_ARG(rcpt));
        return false;
    }
    *out = arena_alloc(a, *count * sizeof **out);
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = arena_dup_span(a, span_cstr(members[i]));
    return true;
}

static unsigned notify_mapped(struct bench *b, enum bounce_kind kind, struct msg *m, const char *const *members, struct answer *a)
{
    struct bounce_rcpt r = failed(0);
    struct bounce_options o = { .spool = b->spool, .conf = b->conf, .log = &b->src, .own = { .expand = expand, .arg = (void *)(uintptr_t)members } };
    unsigned before = b->spool->committed_n;
    *a = (struct answer){ 0 };
    b->spool->sched = NULL;
    bounce_send(&o, kind, m, &r, 1, queued, a);
    fake_commit_all(b->spool);
    assert_int_equal(a->calls, 1);
    return b->spool->committed_n - before;
}

static void recipients_that_are_aliases(void **state UNUSED)
{
    static const char *const members[] = { "one@example.org", "two@example.org", "ONE@example.org", "s@example.org", NULL };
    struct bench *b = bench_new(NULL, NULL);
    struct answer a;
    struct msg *m = original(b, "s@example.org");
    assert_int_equal(notify_mapped(b, BOUNCE_FAILURE, m, members, &a), 1);
    assert_int_equal(a.status, 0);
    const struct envelope *env = &last(b)->env;
    assert_int_equal(env->rcpt_count, 3);
    assert_int_equal(env->flags & (ENV_BOUNCE | ENV_HOLD), ENV_BOUNCE);
    assert_int_equal(env->sender.n, 0);
    assert_true(span_ieq_cstr(env->rcpts[1].addr, "two@example.org"));
    for (uint32_t i = 0; i < 3; i++)
        assert_true(span_ieq_cstr(env->rcpts[i].orig, "s@example.org"));
    assert_field(last(b)->content, "Received:", "To", "s@example.org");
    msg_unref(&m);
    bench_free(&b);
}

/* Who hears of it later anyway has to wait; others get it on hold; a copy does not go out twice. */
static void recipients_that_cannot_be_mapped(void **state UNUSED)
{
    static const char *const nothing[] = { NULL };
    struct bench *b = bench_new("notify_classes = bounce, delay, 2bounce\n", NULL);
    struct answer a;
    struct msg *m = original(b, "s@example.org"), *of_nobody = original(b, "");
    assert_int_equal(notify_mapped(b, BOUNCE_FAILURE, m, nothing, &a), 0);
    assert_int_equal(a.status, SPOOL_IO);
    assert_int_equal(notify_mapped(b, BOUNCE_DELAY, m, nothing, &a), 0);
    assert_int_equal(a.status, SPOOL_IO);
    assert_int_equal(notify_mapped(b, BOUNCE_FAILURE, of_nobody, nothing, &a), 0);
    assert_int_equal(a.status, SPOOL_IO);
    assert_int_equal(notify_mapped(b, BOUNCE_SUCCESS, m, nothing, &a), 1);
    assert_int_equal(a.status, 0);
    assert_true(last(b)->env.flags & ENV_HOLD);
    assert_int_equal(last(b)->env.rcpt_count, 1);
    assert_true(span_ieq_cstr(last(b)->env.rcpts[0].addr, "s@example.org"));
    msg_unref(&of_nobody);
    msg_unref(&m);
    bench_free(&b);
}

static void many_recipients(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct answer a;
    struct msg *m = bench_msg(b, "s@example.org");
    enum { N = 1500 };
    struct bounce_rcpt *r = xcalloc(N, sizeof *r);
    char addr[64];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(addr, sizeof addr, "u%u@example.net", i);
        bench_rcpt(m, addr, "smtp", "example.net");
        r[i] = failed(i);
    }
    assert_int_equal(notify(b, BOUNCE_FAILURE, m, r, N, &a), 1);
    assert_form(last(b));
    unsigned n = 0;
    for (const char *p = last(b)->content; (p = strstr(p, "\r\nFinal-Recipient: ")) != NULL; p++)
        n++;
    assert_int_equal(n, N);
    free(r);
    msg_unref(&m);
    bench_free(&b);
}

static void header_length(void **state UNUSED)
{
    assert_int_equal(dsn_header_length(SPAN_LIT("A: b\r\n\r\nbody")), 8);
    assert_int_equal(dsn_header_length(SPAN_LIT("A: b\r\n")), 6);
    assert_int_equal(dsn_header_length(SPAN_LIT("\r\nbody\r\n\r\n")), 2);
    assert_int_equal(dsn_header_length((struct span){ 0 }), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failure),
        cmocka_unit_test(endless_texts),
        cmocka_unit_test(who_hears_of_it),
        cmocka_unit_test(size_and_ret),
        cmocka_unit_test(a_large_original_streams),
        cmocka_unit_test(international),
        cmocka_unit_test(delay),
        cmocka_unit_test(failures_of_the_spool),
        cmocka_unit_test(recipients_that_are_aliases),
        cmocka_unit_test(recipients_that_cannot_be_mapped),
        cmocka_unit_test(many_recipients),
        cmocka_unit_test(header_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
