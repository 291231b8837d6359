/* What a session does beyond its replies: the envelope and content it hands over, log lines, limits, time, splits. */
#include "tests/unit/smtpd_fixture.h"
#include <sys/socket.h>
#include <unistd.h>
#include "tests/unit/dns_responder.h"

#define SAY(f, text) fixture_send(f, span_cstr(text))
#define HEARD(f, text) assert_non_null(strstr(fixture_said(f), text))

static void say_envelope(struct fixture *f)
{
    SAY(f, "EHLO client.example\r\n");
    SAY(f, "MAIL FROM:<a@b.example>\r\n");
    SAY(f, "RCPT TO:<joe@example.com>\r\n");
    SAY(f, "DATA\r\n");
    HEARD(f, "354 ");
}

static const char *content(struct fixture *f)
{
    return buf_cstr(&f->spool->content);
}

static void assert_logged(struct fixture *f, const char *text)
{
    char *log = fixture_log(f);
    if (strstr(log, text) == NULL)
        fail_msg("not in the log: %s\nlog:\n%s", text, log);
    free(log);
}

static void test_envelope(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("");
    fixture_open(f, "192.0.2.7");
    SAY(f, "EHLO client.example\r\n");
    SAY(f, "MAIL FROM:<\"a b\"@c.example> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By SIZE=50\r\n"
           "RCPT TO:<@r.example:joe@EXAMPLE.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;joe+40old.example\r\n"
           "RCPT TO:<list@alias.example> NOTIFY=NEVER\r\n"
           "RCPT TO:<list@alias.example> NOTIFY=NEVER\r\n"
           "RCPT TO:<postmaster>\r\n");
    SAY(f, "DATA\r\n");
    SAY(f, "Message-ID: <1@c.example>\r\nSubject: j\xc3\xb6\r\n\r\n.\r\n..dot\r\n.\r\n");
    HEARD(f, "250 2.0.0 Ok: queued as ");
    assert_non_null(f->spool->last);
    const struct envelope *e = &f->spool->last->env;
    assert_true(span_eq(e->sender, SPAN_LIT("a b@c.example")));
    assert_int_equal(e->flags, ENV_SMTPUTF8 | ENV_8BITMIME);
    assert_int_equal(e->ret, DSN_RET_HDRS);
    assert_true(span_eq(e->envid, SPAN_LIT("x+y")));
    assert_true(span_eq(e->message_id, SPAN_LIT("<1@c.example>")));
    assert_true(span_eq(e->client_addr, SPAN_LIT("192.0.2.7")) && span_eq(e->client_name, SPAN_LIT("unknown")));
    assert_true(span_eq(e->client_port, SPAN_LIT("4711")) && span_eq(e->helo, SPAN_LIT("client.example")));
    assert_true(span_eq(e->proto, SPAN_LIT("UTF8SMTP")));
    assert_int_equal(e->content_bytes, f->spool->content.n);
    /* the first "." line ended the message: what follows is commands, and is refused */
    assert_int_equal(e->content_flags, CONTENT_HAS_8BIT | CONTENT_HAS_8BIT_HEADER);
    assert_int_equal(e->rcpt_count, 5); /* list has three members, and came twice */
    assert_true(span_eq(e->rcpts[0].addr, SPAN_LIT("joe@EXAMPLE.com")));
    assert_int_equal(e->rcpts[0].notify, NOTIFY_SUCCESS | NOTIFY_FAILURE);
    assert_true(span_eq(e->rcpts[0].orcpt, SPAN_LIT("rfc822;joe@old.example")));
    assert_true(span_eq(e->rcpts[0].route.transport, SPAN_LIT("local")));
    assert_true(span_eq(e->rcpts[1].orig, SPAN_LIT("list@alias.example")));
    assert_true(span_eq(e->rcpts[3].route.transport, SPAN_LIT("relay")));
    assert_true(span_eq(e->rcpts[3].route.nexthop, SPAN_LIT("relay.example")));
    assert_true(span_eq(e->rcpts[4].addr, SPAN_LIT("postmaster@mx.example.com")));
    fixture_free(&f);
}

static void test_received(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("");
    setenv("TZ", "UTC0", 1);
    fixture_open(f, NULL);
    say_envelope(f);
    SAY(f, "Subject: x\r\n\r\nbody\r\n.\r\n");
    char want[400], qid[QID_TEXT_MAX];
    qid_format(f->spool->last->env.id, false, qid);
    snprintf(want, sizeof want, "Received: from client.example (localhost [127.0.0.1])\r\n\tby mx.example.com (Posthouse) with ESMTP id %s\r\n"
             "\tfor <joe@example.com>; ", qid);
    assert_int_equal(strncmp(content(f), want, strlen(want)), 0);
    assert_non_null(strstr(content(f), " +0000 (UTC)\r\nSubject: x\r\n\r\nbody\r\n"));
    /* two recipients: none is named; ESMTP stays */
    SAY(f, "HELO <evil(>\r\n");
    SAY(f, "MAIL FROM:<>\r\n");
    SAY(f, "RCPT TO:<joe@example.com>\r\n");
    SAY(f, "RCPT TO:<jane@example.com>\r\n");
    SAY(f, "DATA\r\n");
    SAY(f, ".\r\n");
    assert_ptr_equal(strstr(content(f), "Received: from ?evil?? (localhost [127.0.0.1])\r\n"), content(f));
    assert_non_null(strstr(content(f), ") with ESMTP id "));
    assert_null(strstr(content(f), "for <"));
    fixture_open(f, "::1");
    SAY(f, "HELO client.example\r\n");
    SAY(f, "MAIL FROM:<>\r\n");
    SAY(f, "RCPT TO:<joe@example.com>\r\n");
    SAY(f, "DATA\r\n");
    SAY(f, ".\r\n");
    assert_non_null(strstr(content(f), ") with SMTP id "));
    fixture_open(f, "::1");
    say_envelope(f);
    SAY(f, ".\r\n");
    assert_non_null(strstr(content(f), "[IPv6:::1])"));
    fixture_free(&f);
    f = fixture_new("smtpd_hide_client_session = yes\nenable_long_queue_ids = yes\n");
    fixture_open(f, NULL);
    say_envelope(f);
    SAY(f, ".\r\n");
    qid_format(f->spool->last->env.id, true, qid);
    snprintf(want, sizeof want, "Received: by mx.example.com (Posthouse) id %s\r\n\tfor <joe@example.com>; ", qid);
    assert_int_equal(strncmp(content(f), want, strlen(want)), 0);
    fixture_free(&f);
}

/* However long the client's names are, the field is whole, has short lines and seven bits. */
static void test_received_is_whole(void **state)
{
    (void)state;
    static char helo[1100], rcpt[1100];
    struct fixture *f = fixture_new("local_recipient_maps =\nmydestination = example.com\n");
    static const struct { const char *local; bool is_shown; } cases[] = {
        { "joe", true }, { "\"\"", false }, { "j\xc3\xb6", false },
    };
    memset(helo, 'h', sizeof helo - 1);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (cases[i].local[0] == '"') { /* all that an address may have, each byte of it quoted */
            rcpt[0] = '"';
            for (size_t k = 1; k <= 1080; k++)
                rcpt[k] = k % 2 ? '\\' : '"';
            rcpt[1081] = '"';
        } else {
            snprintf(rcpt, sizeof rcpt, "%s", cases[i].local);
        }
        char *ehlo = xasprintf("EHLO %s\xc3\xb6\r\n", i ? "h" : helo);
        char *envelope = xasprintf("MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<%s@example.com>\r\nDATA\r\n", rcpt);
        fixture_open(f, NULL);
        SAY(f, ehlo);
        SAY(f, envelope);
        HEARD(f, "354 ");
        free(ehlo);
        free(envelope);
        SAY(f, "Subject: x\r\n\r\nbody\r\n.\r\n");
        assert_int_equal(f->spool->messages, i + 1);
        const char *subject = strstr(content(f), "Subject: x\r\n");
        assert_non_null(subject);
        assert_true(subject[-1] == '\n' && subject[-2] == '\r');
        assert_true((strstr(content(f), "\tfor <") != NULL) == cases[i].is_shown);
        size_t line = 0;
        for (const char *p = content(f); p < subject; p++) {
            assert_false(*p & 0x80);
            line = *p == '\n' ? 0 : line + 1;
            assert_true(line < 998);
        }
        fixture_close(f);
    }
    fixture_free(&f);
}

/* What RFC 5321 has no place for in a path is refused at the door, quoted or not. */
static void test_control_characters_in_paths(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("");
    fixture_open(f, NULL);
    SAY(f, "EHLO x\r\n");
    fixture_said(f);
    SAY(f, "MAIL FROM:<\"a\rb\"@c.example>\r\n");
    assert_string_equal(fixture_said(f), "501 5.1.7 Bad sender address syntax\r\n");
    SAY(f, "MAIL FROM:<\"a\x1b[2J\"@c.example>\r\n");
    assert_string_equal(fixture_said(f), "501 5.1.7 Bad sender address syntax\r\n");
    SAY(f, "MAIL FROM:<>\r\n");
    fixture_said(f);
    SAY(f, "RCPT TO:<\"joe\\\r\"@example.com>\r\n");
    assert_string_equal(fixture_said(f), "501 5.1.3 Bad recipient address syntax\r\n");
    fixture_free(&f);
}

static void test_missing_headers(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("always_add_missing_headers = yes\n" "undisclosed_recipients_header = To: undisclosed-recipients:;\n");
    fixture_open(f, NULL);
    say_envelope(f);
    SAY(f, "Subject: x\r\n\r\nbody\r\n.\r\n");
    assert_non_null(strstr(content(f), "\r\nSubject: x\r\nMessage-Id: <"));
    assert_non_null(strstr(content(f), "@mx.example.com>\r\nDate: "));
    assert_non_null(strstr(content(f), "\r\nFrom: a@b.example\r\nTo: undisclosed-recipients:;\r\n\r\nbody\r\n"));
    assert_true(f->spool->last->env.message_id.n > 20);
    SAY(f, "MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@example.com>\r\n");
    SAY(f, "DATA\r\n");
    SAY(f, "message-id: <1@x>\r\nFrom: j\r\nDate: d\r\nResent-To: y\r\nCc: x\r\n\r\n.\r\n");
    assert_non_null(strstr(content(f), "\r\nCc: x\r\nResent-Message-Id: <"));
    assert_non_null(strstr(content(f), "\r\nResent-Date: "));
    assert_non_null(strstr(content(f), "\r\nResent-From: a@b.example\r\n\r\n"));
    assert_true(span_eq(f->spool->last->env.message_id, SPAN_LIT("<1@x>")));
    fixture_free(&f);
    f = fixture_new("local_header_rewrite_clients = permit_mynetworks\n");
    fixture_open(f, "10.0.0.1");
    say_envelope(f);
    SAY(f, ".\r\n");
    assert_non_null(strstr(content(f), "Message-Id: "));
    fixture_open(f, "192.0.2.1");
    say_envelope(f);
    SAY(f, ".\r\n");
    assert_null(strstr(content(f), "Message-Id: "));
    fixture_free(&f);
}

static void test_log_lines(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("");
    fixture_open(f, NULL);
    say_envelope(f);
    SAY(f, "Message-ID: <m@x>\r\n\r\nx\n.\r\n.\r\n");
    char qid[QID_TEXT_MAX], want[200];
    qid_format(f->spool->last->env.id, false, qid);
    SAY(f, "MAIL FROM:<\"a b\"@c.example>\r\nRCPT TO:<\"x y\"@remote.example>\r\n");
    SAY(f, "QUIT\r\n");
    assert_false(f->is_open);
    assert_logged(f, "connect from localhost[127.0.0.1]\n");
    snprintf(want, sizeof want, "%s: client=localhost[127.0.0.1]\n%s: message-id=<m@x>\n", qid, qid);
    assert_logged(f, want);
    assert_logged(f, "NOQUEUE: reject: RCPT from localhost[127.0.0.1]: 454 4.7.1 <x y@remote.example>: Relay access denied; "
                     "from=<\"a b\"@c.example> to=<\"x y\"@remote.example> proto=ESMTP helo=<client.example>\n");
    assert_logged(f, "disconnect from localhost[127.0.0.1] ehlo=1 mail=2 rcpt=1/2 data=1 quit=1 commands=6/7 notes=bare_lf\n");

    fixture_open(f, NULL);
    fixture_hang_up(f);
    assert_logged(f, "\nlost connection after CONNECT from localhost[127.0.0.1]\ndisconnect from localhost[127.0.0.1] commands=0/0\n");
    fixture_open(f, NULL);
    say_envelope(f);
    SAY(f, "abc\r\ndef\r\n");
    fixture_hang_up(f);
    assert_logged(f, "\nlost connection after DATA (10 bytes) from localhost[127.0.0.1]\n"
                     "disconnect from localhost[127.0.0.1] ehlo=1 mail=1 rcpt=1 data=0/1 commands=3/4\n");
    fixture_open(f, NULL);
    say_envelope(f);
    SAY(f, ".\r\n");
    fixture_hang_up(f);
    assert_logged(f, "\nlost connection after END-OF-MESSAGE from localhost[127.0.0.1]\n");
    fixture_open(f, NULL);
    SAY(f, "EHLO x\r\nMAIL\\\x01\r\n");
    assert_logged(f, "\nimproper command pipelining after EHLO from localhost[127.0.0.1]: MAIL\\134\\001\\r\\n\n");
    fixture_free(&f);
    f = fixture_new("smtpd_client_port_logging = yes\n");
    fixture_open(f, NULL);
    assert_logged(f, "connect from localhost[127.0.0.1]:4711\n");
    SAY(f, "QUIT\r\n");
    assert_logged(f, "disconnect from localhost[127.0.0.1]:4711 quit=1 commands=1\n");
    fixture_free(&f);
}

static void test_errors_and_tarpit(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("smtpd_soft_error_limit = 3\nsmtpd_hard_error_limit = 5\nsmtpd_junk_command_limit = 2\n");
    fixture_open(f, NULL);
    SAY(f, "X\r\n");
    SAY(f, "X\r\n");
    SAY(f, "X\r\n");
    assert_int_equal(f->timers, 0);
    SAY(f, "RSET\r\n");
    assert_int_equal(f->timers, 1); /* the soft limit is reached: every reply waits */
    SAY(f, "X\r\n");
    SAY(f, "X\r\n");
    HEARD(f, "421 4.7.0 mx.example.com Error: too many errors\r\n");
    assert_false(f->is_open);
    assert_logged(f, "too many errors after UNKNOWN from localhost[127.0.0.1]\n");
    fixture_open(f, NULL); /* junk */
    assert_int_equal(f->s->deadline_ms > clock_mono_ms(), 1);
    for (int i = 0; i < 8 && f->is_open; i++)
        SAY(f, "RSET\r\n");
    HEARD(f, "421 4.7.0 ");
    fixture_open(f, NULL); /* a message forgives */
    SAY(f, "X\r\n");
    SAY(f, "X\r\n");
    say_envelope(f);
    SAY(f, ".\r\n");
    SAY(f, "X\r\n");
    SAY(f, "X\r\n");
    SAY(f, "X\r\n");
    assert_int_equal(f->timers, 0);
    fixture_free(&f);
}

static void test_timeouts(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("smtpd_timeout = 100s\n");
    fixture_open(f, NULL);
    assert_int_equal(f->want, WAIT_INPUT);
    int64_t left = f->s->deadline_ms - clock_mono_ms();
    assert_true(left > 99000 && left <= 100000);
    fixture_said(f);
    fixture_time_out(f);
    HEARD(f, "421 4.4.2 mx.example.com Error: timeout exceeded\r\n");
    assert_false(f->is_open);
    assert_logged(f, "timeout after CONNECT from localhost[127.0.0.1]\n");
    fixture_open(f, NULL);
    say_envelope(f);
    SAY(f, "abc\r\n");
    fixture_time_out(f);
    assert_logged(f, "timeout after DATA (5 bytes) from localhost[127.0.0.1]\n");
    fixture_free(&f);

    /* A deadline for the whole request: slow drops do not renew it, data at the least rate does. */
    f = fixture_new("smtpd_timeout = 100s\nsmtpd_per_request_deadline = yes\n" "smtpd_min_data_rate = 10\n");
    fixture_open(f, NULL);
    SAY(f, "NO");
    int64_t deadline = f->s->deadline_ms;
    clock_advance_for_test(5000, 0);
    SAY(f, "OP");
    assert_int_equal(f->s->deadline_ms, deadline);
    SAY(f, "\r\n");
    assert_true(f->s->deadline_ms > deadline);
    say_envelope(f);
    deadline = f->s->deadline_ms;
    SAY(f, "a: b\r\n\r\n345678901234567890");
    clock_advance_for_test(5000, 0);
    SAY(f, "3");
    assert_in_range(f->s->deadline_ms, deadline + 90, deadline + 2800);
    char much[10000]; /* worth 1,000 seconds, but a deadline is never further away than smtpd_timeout */
    memset(much, 'x', sizeof much);
    fixture_send(f, span_of(much, sizeof much));
    assert_true(f->s->deadline_ms <= clock_mono_ms() + 100000);
    fixture_free(&f);
}

/* With smtpd_per_request_deadline: no way to stay by sending, or taking, a little now and then. */
static void test_request_deadline_everywhere(void **state)
{
    (void)state;
    static const struct { const char *name, *before, *then, *drip; } cases[] = {
        { "waiting for a command", "", "", "" },
        { "a command", "", "", "N" },
        { "a command line that is too long", "NOOP 0123456789012345678901234567890123456789", "", "x" },
        { "a header line", "DATA\r\n", "", "a" },
        { "a body", "DATA\r\n", "a: b\r\n\r\n", "x\r\n" },
        { "a chunk", "BDAT 10000\r\n", "", "x\r\n" },
        { "a chunk that is thrown away", "RSET\r\n", "BDAT 9000000000000000000\r\n", "x\r\n" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture *f = fixture_new("smtpd_timeout = 100s\nsmtpd_per_request_deadline = yes\nsmtpd_min_data_rate = 1000\n"
                                        "line_length_limit = 40\n");
        fixture_open(f, NULL);
        SAY(f, "EHLO client.example\r\n");
        SAY(f, "MAIL FROM:<a@b.example>\r\n");
        SAY(f, "RCPT TO:<joe@example.com>\r\n");
        SAY(f, cases[i].before);
        SAY(f, cases[i].then);
        int64_t began = clock_mono_ms();
        for (int k = 0; k < 20 && f->s->deadline_ms > clock_mono_ms(); k++) {
            clock_advance_for_test(9000, 0);
            if (cases[i].drip[0] != '\0')
                SAY(f, cases[i].drip);
        }
        if (clock_mono_ms() - began > 110000)
            fail_msg("%s: no deadline", cases[i].name);
        fixture_free(&f);
    }
}

/* Replies that are read a little at a time. The steps are made here: fixture_run() would read everything. */
static void test_reply_deadline(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("smtpd_timeout = 100s\nsmtpd_per_request_deadline = yes\nsmtpd_forbid_unauth_pipelining = no\n");
    static const char hello[] = "EHLO client.example\r\n";
    char taken[500];
    int size = 2048;
    enum sess_wait w;
    fixture_open(f, NULL);
    assert_int_equal(setsockopt(f->s->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(send(f->client, hello, sizeof hello - 1, MSG_NOSIGNAL | MSG_DONTWAIT), sizeof hello - 1);
    w = f->s->ops->step(f->s, WAKE_READY);
    assert_int_equal(w, WAIT_OUTPUT);
    int64_t first = f->s->deadline_ms;
    const struct buf *out = &((struct smtpd_sess *)f->s)->out;
    size_t waiting = out->n;
    for (int i = 0; i < 100 && out->n == waiting; i++) {
        clock_advance_for_test(1000, 0);
        assert_true(recv(f->client, taken, sizeof taken, 0) > 0);
        w = f->s->ops->step(f->s, WAKE_READY);
        assert_int_equal(w, WAIT_OUTPUT);
    }
    assert_true(out->n < waiting); /* something was taken, and yet: */
    assert_int_equal(f->s->deadline_ms, first);
    f->want = WAIT_OUTPUT;
    fixture_run(f);
    assert_int_equal(f->want, WAIT_INPUT); /* the next request has its own */
    assert_true(f->s->deadline_ms > first);
    fixture_free(&f);
}

static void test_commit(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("");
    f->spool->hold_commit = true;
    fixture_open(f, NULL);
    say_envelope(f);
    SAY(f, ".\r\nRSET\r\n");
    assert_int_equal(f->want, WAIT_CALLBACK); /* nothing is answered before the flush */
    assert_string_equal(fixture_said(f), "");
    fixture_commit(f);
    const char *said = fixture_said(f);
    assert_int_equal(strncmp(said, "250 2.0.0 Ok: queued as ", 24), 0);
    assert_non_null(strstr(said, "\r\n250 2.0.0 Ok\r\n"));
    f->spool->hold_commit = false;
    static const struct { enum spool_status append, finish, commit; const char *reply; } cases[] = {
        { SPOOL_OK, SPOOL_OK, SPOOL_FULL, "452 4.3.1 Insufficient system storage\r\n" },
        { SPOOL_OK, SPOOL_OK, SPOOL_IO, "451 4.3.0 Error: queue file write error\r\n" },
        { SPOOL_OK, SPOOL_FULL, SPOOL_OK, "452 4.3.1 Insufficient system storage\r\n" },
        { SPOOL_IO, SPOOL_OK, SPOOL_OK, "451 4.3.0 Error: queue file write error\r\n" },
        { SPOOL_OK, SPOOL_OK, SPOOL_STOPPING, "421 4.3.2 mx.example.com Service shutting down\r\n" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fixture_open(f, NULL);
        say_envelope(f);
        f->spool->append = cases[i].append;
        f->spool->finish = cases[i].finish;
        f->spool->commit = cases[i].commit;
        SAY(f, "Subject: x\r\n\r\nx\r\n.\r\n");
        assert_string_equal(fixture_said(f), cases[i].reply);
        f->spool->append = f->spool->finish = f->spool->commit = SPOOL_OK;
    }
    assert_int_equal(f->spool->messages, 1);
    fixture_open(f, NULL);
    f->spool->is_full = true;
    fixture_said(f);
    SAY(f, "MAIL FROM:<a@b.example>\r\n");
    assert_string_equal(fixture_said(f), "452 4.3.1 Insufficient system storage\r\n");
    fixture_free(&f);
}

/* However many steps its commands fill: a session whose message is with the committer stays until the answer came. */
static void test_hang_up_during_commit(void **state)
{
    (void)state;
    unsigned committed = 0;
    for (unsigned resets = 80; resets < 110; resets++) {
        struct fixture *f = fixture_new("smtpd_junk_command_limit = 1000\n");
        struct buf b = BUF_INIT(0);
        f->spool->hold_commit = true;
        fixture_open(f, NULL);
        SAY(f, "EHLO client.example\r\n");
        for (unsigned i = 0; i < resets; i++)
            buf_puts(&b, "RSET\r\n");
        buf_puts(&b, "MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@example.com>\r\nBDAT 14 LAST\r\nSubject: x\r\n\r\n");
        assert_int_equal(send(f->client, b.p, b.n, MSG_NOSIGNAL), (ssize_t)b.n);
        close(f->client);
        f->client = -1;
        fixture_run(f);
        if (f->spool->held != NULL) { /* else the turn ended before the message did, and the loss was seen */
            assert_true(f->is_open);
            assert_int_equal(f->want, WAIT_CALLBACK);
            fixture_commit(f);
            committed++;
        }
        assert_false(f->is_open);
        buf_free(&b);
        fixture_free(&f);
    }
    assert_true(committed > 5);
}

/* What comes while a command runs is looked at, and leaves the command's own bytes alone. */
static void test_early_input_keeps_the_line(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("smtpd_forbid_unauth_pipelining = no\n");
    fixture_open(f, NULL);
    struct smtpd_sess *S = (struct smtpd_sess *)f->s;
    SAY(f, "RSET");                      /* in the buffer, not run yet */
    assert_true(buf_reserve(&S->in, 100)); /* as after a read */
    struct span line = smtpd_input(S);
    S->in_pos = S->in.n;                 /* as while a line is run */
    assert_int_equal(send(f->client, "MAIL FROM", 9, MSG_NOSIGNAL), 9);
    assert_true(smtpd_has_early_input(S));
    assert_true(span_eq(line, SPAN_LIT("RSET")));
    assert_true(span_eq(smtpd_input(S), SPAN_LIT("MAIL FROM")));
    fixture_free(&f);
}

static struct count_who who(const struct fixture *f, const struct ip_addr *a)
{
    return count_client(f->service->number, "smtp", a, 32, 84);
}

static void test_client_limits(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("smtpd_client_connection_count_limit = 2\nsmtpd_client_connection_rate_limit = 4\n"
                                    "smtpd_client_message_rate_limit = 1\nsmtpd_client_recipient_rate_limit = 2\n");
    struct ip_addr a;
    assert_true(ip_parse(SPAN_LIT("192.0.2.1"), &a));
    struct count_who w = who(f, &a);
    client_connect(f->env.clients, &w);
    fixture_open(f, "192.0.2.1");
    HEARD(f, "220 ");
    struct client_count_now n = client_connect(f->env.clients, &w);
    assert_true(n.connections == 3 && n.rate == 3);
    fixture_close(f);
    fixture_open(f, "192.0.2.1");
    HEARD(f, "421 4.7.0 mx.example.com Error: too many connections from 192.0.2.1\r\n");
    assert_false(f->is_open);
    assert_logged(f, "warning: Connection concurrency limit exceeded: 3 from unknown[192.0.2.1] for service smtp\n");
    client_disconnect(f->env.clients, &w, true);
    client_disconnect(f->env.clients, &w, true);
    fixture_open(f, "192.0.2.1");
    HEARD(f, "421 4.7.0 ");
    assert_logged(f, "warning: Connection rate limit exceeded: 5 from unknown[192.0.2.1] for service smtp\n");
    clock_advance_for_test(60001, 0);
    fixture_open(f, "192.0.2.1");
    HEARD(f, "220 ");
    SAY(f, "EHLO x\r\n");
    SAY(f, "MAIL FROM:<a@b.example>\r\n");
    for (int i = 0; i < 3; i++)
        SAY(f, "RCPT TO:<joe@example.com>\r\n");
    HEARD(f, "450 4.7.1 Error: too many recipients from 192.0.2.1\r\n");
    SAY(f, "RSET\r\n");
    SAY(f, "MAIL FROM:<a@b.example>\r\n");
    HEARD(f, "450 4.7.1 Error: too much mail from 192.0.2.1\r\n");
    assert_logged(f, "warning: Message delivery request rate limit exceeded: 2 from unknown[192.0.2.1] for service smtp\n");
    /* mynetworks are excepted */
    assert_true(ip_parse(SPAN_LIT("10.0.0.1"), &a));
    w = who(f, &a);
    for (int i = 0; i < 9; i++)
        client_connect(f->env.clients, &w);
    fixture_open(f, "10.0.0.1");
    HEARD(f, "220 ");
    fixture_free(&f);
}

static bool is_stressed(void *arg)
{
    return *(bool *)arg;
}

/* While session_limit is nearly reached, a client with more than its share does not even get a session. */
static void test_client_limits_under_stress(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("smtpd_client_connection_count_limit = 2\nsmtpd_peername_lookup = no\n"
                                    "smtpd_authorized_xclient_hosts = 198.51.100.1\n");
    struct ip_addr a;
    bool stressed = true;
    int fd[2];
    char said[200] = "";
    f->env.is_stressed = is_stressed;
    f->env.stress_arg = &stressed;
    assert_true(ip_parse(SPAN_LIT("192.0.2.1"), &a));
    struct count_who w = who(f, &a);
    for (int i = 0; i < 2; i++)
        client_connect(f->env.clients, &w);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    assert_null(smtpd_create(&f->listener, fd[1], &a, 4711, &f->env));
    assert_true(recv(fd[0], said, sizeof said - 1, 0) > 0);
    assert_string_equal(said, "421 4.7.0 mx.example.com Error: too many connections from 192.0.2.1\r\n");
    assert_logged(f, "warning: Connection concurrency limit exceeded: 3 from unknown[192.0.2.1] for service smtp\n");
    assert_logged(f, "warning: stress reached: ");
    assert_int_equal(client_connect(f->env.clients, &w).connections, 3); /* it is not counted any more */
    assert_int_equal(limit_count(&f->env.limits[SMTPD_LIMIT_CONNECTIONS]), 1);
    close(fd[0]);
    close(fd[1]);
    fixture_open(f, "192.0.2.2"); /* others come in */
    HEARD(f, "220 ");
    fixture_open(f, "10.0.0.1");  /* mynetworks: exempt */
    HEARD(f, "220 ");
    fixture_free(&f);
}

/*
 * A client whose names nobody answers for: its connections count from the first moment, and beyond twice the limit they do not
 * even wait for the name. A client that is exempt by its name is not touched by that.
 */
static void test_client_limits_before_the_name(void **state)
{
    (void)state;
    static const char *const rows[] = { "!drop *", NULL };
    uint16_t port;
    struct responder *r = responder_start(rows, &port);
    struct fixture *f = fixture_new("smtpd_client_connection_count_limit = 2\n");
    struct ip_addr a;
    f->env.dns = responder_dns(r);
    assert_true(ip_parse(SPAN_LIT("192.0.2.1"), &a));
    struct count_who w = who(f, &a);
    fixture_open(f, "192.0.2.1");
    assert_int_equal(f->want, WAIT_CALLBACK);
    fixture_await(f);
    HEARD(f, "220 ");
    fixture_close(f);
    for (unsigned i = 1; i <= 2; i++) /* two that wait for their name */
        assert_int_equal(client_connect(f->env.clients, &w).connections, i);
    unsigned asked = responder_questions(r);
    fixture_open(f, "192.0.2.1");
    HEARD(f, "421 4.7.0 mx.example.com Error: too many connections from 192.0.2.1\r\n");
    assert_false(f->is_open);
    assert_int_equal(responder_questions(r), asked);
    for (int i = 0; i < 2; i++) /* they have it: this one waits for its own */
        client_is_named(f->env.clients, &w, false);
    fixture_open(f, "192.0.2.1");
    assert_int_equal(f->want, WAIT_CALLBACK);
    fixture_await(f);
    HEARD(f, "421 4.7.0 ");
    dns_stop(&f->env.dns);
    responder_stop(&r);
    fixture_free(&f);
}

/* What a session keeps while it waits is the budget's: an envelope that grows, input that cannot be used yet. */
static void test_memory_budget(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("");
    char rcpt[200], part[5001];
    unsigned taken = 0, refused = 0;
    f->spool->memory = 20000;
    fixture_open(f, NULL);
    SAY(f, "EHLO client.example\r\n");
    SAY(f, "MAIL FROM:<a@b.example>\r\n");
    SAY(f, "RCPT TO:<joe@example.com>\r\n");
    assert_int_equal(f->spool->memory_used, 0); /* an ordinary message needs nothing of it */
    fixture_said(f);
    for (int i = 0; i < 300; i++) {
        snprintf(rcpt, sizeof rcpt, "RCPT TO:<joe@example.com> ORCPT=rfc822;%d%0100d\r\n", i, 0);
        SAY(f, rcpt);
        const char *said = fixture_said(f);
        taken += strncmp(said, "250 ", 4) == 0;
        refused += strcmp(said, "452 4.3.1 Insufficient system storage\r\n") == 0;
    }
    if (taken <= 20 || refused <= 100 || taken + refused != 300)
        fail_msg("%u taken, %u refused: %s", taken, refused, fixture_said(f));
    assert_true(f->spool->memory_used > 10000 && f->spool->memory_used <= 20000);
    SAY(f, "DATA\r\n"); /* what was taken can still be sent */
    SAY(f, "Subject: x\r\n\r\nx\r\n.\r\n");
    HEARD(f, "250 2.0.0 Ok: queued as ");
    assert_int_equal(f->spool->memory_used, 0);
    assert_int_equal(f->spool->last->env.rcpt_count, taken + 1);
    fixture_free(&f);

    f = fixture_new("line_length_limit = 5000\n");
    memset(part, 'x', sizeof part - 1);
    part[sizeof part - 1] = '\0';
    f->spool->memory = 500;
    fixture_open(f, NULL);
    fixture_send(f, span_of(part, 4500));
    assert_int_equal(f->spool->memory_used, 404);
    assert_true(((struct smtpd_sess *)f->s)->in.cap <= 4500);
    fixture_send(f, span_of(part, 200));
    HEARD(f, "421 4.3.1 mx.example.com Error: insufficient memory, try later\r\n");
    assert_false(f->is_open);
    assert_int_equal(f->spool->memory_used, 0);
    fixture_free(&f);
}

static uint64_t reached(const struct fixture *f, enum smtpd_limit which)
{
    return limit_count(&f->env.limits[which]);
}

/* Each is counted, and logged with the parameter's name, but not more than once a minute. */
static void test_limits_are_told(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("smtpd_recipient_limit = 1\nline_length_limit = 100\nmessage_size_limit = 50\n"
                                    "queue_minfree = 0\nsmtpd_junk_command_limit = 1\nsmtpd_hard_error_limit = 3\n"
                                    "smtpd_error_sleep_time = 0\n");
    char line[300] = "";
    memset(line, 'x', 200);
    fixture_open(f, NULL);
    say_envelope(f);
    SAY(f, "0123456789012345678901234567890123456789012345678901234567890123456789\r\n.\r\n");
    SAY(f, "MAIL FROM:<a@b.example>\r\n");
    for (int i = 0; i < 3; i++)
        SAY(f, "RCPT TO:<joe@example.com>\r\n");
    fixture_open(f, NULL);
    SAY(f, line);
    SAY(f, "\r\n");
    for (int i = 0; i < 4 && f->is_open; i++)
        SAY(f, "RSET\r\n");
    assert_false(f->is_open);
    assert_int_equal(reached(f, SMTPD_LIMIT_SIZE), 1);
    assert_int_equal(reached(f, SMTPD_LIMIT_RECIPIENTS), 2);
    assert_int_equal(reached(f, SMTPD_LIMIT_LINE), 1);
    assert_int_equal(reached(f, SMTPD_LIMIT_JUNK), 2);
    assert_int_equal(reached(f, SMTPD_LIMIT_ERRORS), 1);
    assert_int_equal(reached(f, SMTPD_LIMIT_CONNECTIONS), 0);
    assert_logged(f, "warning: smtpd_recipient_limit (1) reached: further recipients of a message are deferred\n");
    assert_logged(f, "warning: message_size_limit (50) reached: a message is rejected\n");
    char *log = fixture_log(f), *at = strstr(log, "smtpd_junk_command_limit");
    assert_non_null(at);
    assert_null(strstr(at + 1, "smtpd_junk_command_limit"));
    free(log);
    clock_advance_for_test(60001, 0);
    fixture_open(f, NULL);
    for (int i = 0; i < 3; i++)
        SAY(f, "RSET\r\n");
    assert_logged(f, "smtpd_junk_command_limit (1) reached: commands count as errors (1 more since the last such line)\n");
    fixture_free(&f);
}

/* The same bytes in two pieces, cut everywhere, must give the same replies and message. */
static void test_pipelining_split(void **state)
{
    (void)state;
    static const char group[] = "MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@example.com>\r\nRCPT TO:<x@y.example>\r\nBDAT 9\r\nSubject: "
                                "BDAT 16 LAST\r\nx\r\n\r\n.\r\n.body\r\nRSET\r\nQUIT\r\n";
    struct fixture *f = fixture_new("");
    char *first = NULL;
    size_t n = sizeof group - 1;
    for (size_t cut = 0; cut <= n; cut++) {
        fixture_open(f, NULL);
        SAY(f, "EHLO x\r\n");
        fixture_said(f);
        struct buf got = BUF_INIT(0);
        fixture_send(f, span_of(group, cut));
        buf_puts(&got, fixture_said(f));
        fixture_send(f, span_of(group + cut, n - cut));
        buf_puts(&got, fixture_said(f));
        char *q = strstr(buf_cstr(&got), "queued as ");
        assert_non_null(q);
        for (q += 10; *q != '\r'; q++)
            *q = '#';
        if (first == NULL)
            first = xstrdup(buf_cstr(&got));
        assert_int_equal(strcspn(first, "#"), strcspn(buf_cstr(&got), "#"));
        assert_string_equal(strchr(first, '#') + strspn(strchr(first, '#'), "#"), strchr(got.p, '#') + strspn(strchr(got.p, '#'), "#"));
        assert_non_null(strstr(content(f), "\r\nSubject: x\r\n\r\n.\r\n.body\r\n"));
        assert_false(f->is_open);
        buf_free(&got);
    }
    assert_int_equal(f->spool->messages, n + 1);
    assert_int_equal(strncmp(first, "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n454 4.7.1 ", 38), 0);
    free(first);
    fixture_free(&f);
}

/* DATA with its text cut everywhere; commands behind the final dot in the same write are run. */
static void test_data_split(void **state)
{
    (void)state;
    static const char text[] = "Subject: x\r\n fold\r\nTo: y\r\n\r\n..\r\n.\nnot the end\r\nx\r\n.\r\nNOOP\r\n";
    struct fixture *f = fixture_new("");
    for (size_t cut = 0; cut < sizeof text; cut++) {
        fixture_open(f, NULL);
        say_envelope(f);
        fixture_send(f, span_of(text, cut));
        fixture_send(f, span_of(text + cut, sizeof text - 1 - cut));
        assert_non_null(strstr(content(f), "\r\nSubject: x\r\n fold\r\nTo: y\r\n\r\n.\r\n\r\nnot the end\r\nx\r\n"));
        HEARD(f, "\r\n250 2.0.0 Ok\r\n");
    }
    fixture_free(&f);
}

static void test_idle_is_small(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("");
    fixture_open(f, NULL);
    SAY(f, "EHLO x\r\n");
    const struct smtpd_sess *S = (const struct smtpd_sess *)f->s;
    assert_true(S->in.cap == 0 && S->out.cap == 0 && S->scratch == NULL && S->tx == NULL);
    assert_true(sizeof *S <= 800);
    SAY(f, "NOO");
    assert_true(S->in.n == 3); /* what has come stays */
    fixture_free(&f);
}

static void test_shutdown(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("");
    fixture_open(f, NULL);
    fixture_said(f);
    assert_int_equal(f->s->ops->step(f->s, WAKE_SHUTDOWN), WAIT_DONE);
    HEARD(f, "421 4.3.2 mx.example.com Service shutting down\r\n");
    f->want = WAIT_DONE;
    fixture_free(&f);
}

/* Settings of what is stored. */
static void test_content_settings(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("message_strip_characters = \\1z\ncleanup_replace_stray_cr_lf = no\n" "duplicate_filter_limit = 1\n"
                                    "smtpd_delay_open_until_valid_rcpt = no\n" "append_at_myorigin = no\n");
    fixture_open(f, NULL);
    SAY(f, "EHLO x\r\n");
    SAY(f, "MAIL FROM:<lone>\r\n");
    assert_logged(f, ": client=localhost[127.0.0.1]\n");
    for (int i = 0; i < 2; i++) /* one is remembered, the other is not */
        SAY(f, "RCPT TO:<joe@example.com>\r\nRCPT TO:<jane@example.com>\r\n");
    SAY(f, "DATA\r\n");
    SAY(f, "a: b\r\n\r\nx\x01yz\rw\r\n.\r\n");
    assert_non_null(strstr(content(f), "\r\na: b\r\n\r\nxy\rw\r\n"));
    /* with characters to strip any line may turn out to begin with a dot */
    assert_int_equal(f->spool->last->env.content_flags, CONTENT_HAS_BARE_CR | CONTENT_HAS_DOT_LINE);
    assert_int_equal(f->spool->last->env.rcpt_count, 3);
    assert_true(span_eq(f->spool->last->env.sender, SPAN_LIT("lone")));
    fixture_free(&f);
}

/* sendmail -bs: the same dialogue over pipes, without a reactor. */
static void test_run(void **state)
{
    (void)state;
    static const char say[] = "HELO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<joe@example.com>\r\nDATA\r\n";
    static const char rest[] = "Subject: x\r\n\r\n.\r\nQUIT\r\n";
    struct fixture *f = fixture_new("smtpd_forbid_unauth_pipelining = no\n");
    int in[2], out[2];
    char got[2000];
    f->env.resume = smtpd_run_resume;
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    assert_int_equal(write(in[1], say, sizeof say - 1), sizeof say - 1);
    assert_int_equal(write(in[1], rest, sizeof rest - 1), sizeof rest - 1);
    assert_int_equal(smtpd_run(&f->env, f->service, in[0], out[1]), 0);
    ssize_t n = read(out[0], got, sizeof got - 1);
    assert_true(n > 0);
    got[n] = '\0';
    assert_int_equal(strncmp(got, "220 mx.example.com ", 19), 0);
    assert_non_null(strstr(got, "\r\n250 2.0.0 Ok: queued as "));
    assert_non_null(strstr(got, "\r\n221 2.0.0 Bye\r\n"));
    assert_non_null(strstr(content(f), "Message-Id: ")); /* local mail gets what it lacks */
    for (int i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
    }
    fixture_free(&f);
}

/* A message far larger than the read buffer, and a client that sends faster than it reads. */
static void test_large(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("message_size_limit = 0\n");
    struct buf b = BUF_INIT(0);
    buf_puts(&b, "Subject: x\r\n\r\n");
    for (int i = 0; i < 40000; i++)
        buf_printf(&b, "line %d of many, none of them short enough to be nothing at all\r\n", i);
    fixture_open(f, NULL);
    say_envelope(f);
    fixture_send(f, buf_span(&b));
    SAY(f, ".\r\n");
    HEARD(f, "250 2.0.0 ");
    const char *at = strstr(content(f), "Subject: x\r\n");
    assert_non_null(at);
    assert_int_equal(f->spool->content.n - (size_t)(at - content(f)), b.n);
    assert_memory_equal(at, b.p, b.n);
    buf_free(&b);
    fixture_free(&f);
}

/* The name comes from the PTR, and counts only when it leads back to the address. */
/* /etc/hosts: the first line of an address counts, and what is no host name is not there. */
static void test_hosts_file(void **state)
{
    (void)state;
    static const char text[] = "# 10.0.0.9 no\n10.0.0.2 b.example x\n10.0.0.1 first.example\n10.0.0.1 second.example\n10.0.0.3\n"
                               "10.0.0.4 <a(b>\n10.0.0.5 10.0.0.6\n::1 localhost # y\nnonsense\n10.0.0.7\tc.example\r\n";
    static const struct { const char *addr, *name; } want[] = {
        { "10.0.0.1", "first.example" }, { "10.0.0.2", "b.example" }, { "10.0.0.3", NULL }, { "10.0.0.4", NULL }, { "10.0.0.5", NULL },
        { "10.0.0.7", "c.example" }, { "::1", "localhost" }, { "10.0.0.9", NULL },
    };
    char path[] = "/tmp/hostsXXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1);
    close(fd);
    struct hosts_file *h = hosts_file_load(path);
    unlink(path);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        struct ip_addr a;
        assert_true(ip_parse(span_cstr(want[i].addr), &a));
        const char *name = hosts_file_name(h, &a);
        if ((name == NULL) != (want[i].name == NULL) || (name && strcmp(name, want[i].name) != 0))
            fail_msg("%s: %s", want[i].addr, name ? name : "(none)");
    }
    hosts_file_free(&h);
}

static void test_client_name(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "1.2.0.192.in-addr.arpa. 300 IN PTR good.example.", "good.example. 300 IN A 192.0.2.99", "good.example. 300 IN A 192.0.2.1",
        "2.2.0.192.in-addr.arpa. 300 IN PTR forged.example.", "forged.example. 300 IN A 192.0.2.99",
        "3.2.0.192.in-addr.arpa. 300 IN PTR nowhere.example.", "!servfail 4.2.0.192.in-addr.arpa.",
        "5.2.0.192.in-addr.arpa. 300 IN PTR 192.0.2.5.", NULL,
    };
    static const struct { const char *addr, *connect, *warning; } cases[] = {
        { "192.0.2.1", "connect from good.example[192.0.2.1]\n", NULL },
        { "192.0.2.2", "connect from unknown[192.0.2.2]\n",
          "warning: hostname forged.example does not resolve to address 192.0.2.2\n" },
        { "192.0.2.3", "connect from unknown[192.0.2.3]\n",
          "warning: hostname nowhere.example does not resolve to address 192.0.2.3: " },
        { "192.0.2.4", "connect from unknown[192.0.2.4]\n", NULL },
        { "192.0.2.5", "connect from unknown[192.0.2.5]\n", NULL },
        { "192.0.2.6", "connect from unknown[192.0.2.6]\n", NULL },
        { "127.0.0.1", "connect from localhost[127.0.0.1]\n", NULL },
    };
    uint16_t port;
    struct responder *r = responder_start(rows, &port);
    struct fixture *f = fixture_new("");
    f->env.dns = responder_dns(r);
    for (int again = 0; again < 2; again++) { /* the second time from the cache */
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            fixture_open(f, cases[i].addr);
            fixture_await(f);
            HEARD(f, "220 ");
            assert_logged(f, cases[i].connect);
            if (cases[i].warning != NULL)
                assert_logged(f, cases[i].warning);
        }
    }
    fixture_open(f, "192.0.2.2"); /* reverse_name has what the PTR said */
    fixture_await(f);
    assert_string_equal(((struct smtpd_sess *)f->s)->reverse_name, "forged.example");
    fixture_close(f);
    dns_stop(&f->env.dns);
    responder_stop(&r);
    fixture_free(&f);
    f = fixture_new("smtpd_peername_lookup = no\n");
    fixture_open(f, NULL);
    assert_logged(f, "connect from unknown[127.0.0.1]\n");
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope), cmocka_unit_test(test_received), cmocka_unit_test(test_hosts_file), cmocka_unit_test(test_received_is_whole),
        cmocka_unit_test(test_control_characters_in_paths), cmocka_unit_test(test_missing_headers),
        cmocka_unit_test(test_log_lines), cmocka_unit_test(test_errors_and_tarpit), cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_commit), cmocka_unit_test(test_hang_up_during_commit),
        cmocka_unit_test(test_early_input_keeps_the_line), cmocka_unit_test(test_client_limits),
        cmocka_unit_test(test_request_deadline_everywhere), cmocka_unit_test(test_memory_budget),
        cmocka_unit_test(test_limits_are_told), cmocka_unit_test(test_reply_deadline),
        cmocka_unit_test(test_client_limits_before_the_name), cmocka_unit_test(test_client_limits_under_stress),
        cmocka_unit_test(test_pipelining_split),
        cmocka_unit_test(test_data_split), cmocka_unit_test(test_idle_is_small), cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_large), cmocka_unit_test(test_client_name),
        cmocka_unit_test(test_content_settings), cmocka_unit_test(test_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
