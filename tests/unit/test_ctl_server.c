/* The control sockets: requests and answers, limits, submission, and the end. */
#include "tests/unit/ctl_fixture.h"

#include <sysexits.h>

#include "daemon/cmd/ctl_client.h"

static bool reload_cb(void *arg, struct buf *text)
{
    struct fixture *f = arg;
    buf_puts(text, "one finding\nanother\n");
    return f->reloads++ == 0;
}

static void stop_cb(void *arg)
{
    ((struct fixture *)arg)->stops++;
}

static struct control *serve(struct fixture *f)
{
    struct err e = ERR_INIT;
    struct control_options o = { .socket_path = f->socket, .queue_dir = f->spool_dir, .conf_dir = f->dir, .started_us = 1,
                                 .sched = &f->sched, .spool = f->spool, .log = &f->log, .conf = fixture_conf,
                                 .reload = reload_cb, .stop = stop_cb, .arg = f };
    fixture_start_spool(f, true);
    struct control *c = control_start(&o, &e);
    if (c == NULL)
        fail_msg("%s", e.text);
    return c;
}

static struct ctl_conn dial(const char *path)
{
    struct ctl_conn c;
    struct err e = ERR_INIT;
    if (ctl_connect(path, &c, &e) != CTL_CONNECT_OK)
        fail_msg("%s", e.text);
    return c;
}

/* All lines of the answer, as one text. */
static void ask(struct ctl_conn *c, json_t *request, struct buf *out)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    buf_reset(out);
    assert_non_null(request);
    assert_true(ctl_request(c, request, &e));
    while (!is_last) {
        json_t *j = ctl_answer(c, &is_last, &e);
        if (j == NULL)
            fail_msg("%s", e.text);
        char *text = json_dumps(j, 0);
        buf_printf(out, "%s\n", text);
        free(text);
        json_decref(j);
    }
}

static void expect(const struct buf *b, const char *text)
{
    struct buf *copy = (struct buf *)(uintptr_t)b;
    if (strstr(buf_cstr(copy), text) == NULL)
        fail_msg("no \"%s\" in: %s", text, buf_cstr(copy));
}

static void submit_sample(struct fixture *f)
{
    struct mail_input in;
    struct err e = ERR_INIT;
    struct submission s = sample(&in, "Subject: x\n\nhello\n");
    int status = submit_to_daemon(f->spool_dir, &s, &in, NULL, &e);
    if (status != 0)
        fail_msg("status %d: %s", status, e.text);
    mail_input_free(&in);
}

static void test_submit_and_queue(void **state)
{
    struct fixture *f = *state;
    struct control *c = serve(f);
    struct buf b = BUF_INIT(0);
    char id[QID_TEXT_MAX], want[200];
    submit_sample(f);
    assert_int_equal(got_count(f), 1); /* durable, and with the scheduler, when the client is told */
    qid_format(f->sched.got[0]->env.id, false, id);
    struct ctl_conn k = dial(f->socket);
    ask(&k, json_pack("{s:s}", "op", "queue-list"), &b);
    snprintf(want, sizeof want, "\"queue_id\": \"%s\"", id);
    expect(&b, want);
    expect(&b, "{\"ok\": true");
    ask(&k, json_pack("{s:s, s:[s,s]}", "op", "queue-show", "ids", id, "F00"), &b);
    expect(&b, "\"message_id\": ");
    expect(&b, "{\"queue_id\": \"F00\", \"missing\": true}");
    ask(&k, json_pack("{s:s, s:[s]}", "op", "queue-hold", "ids", id), &b);
    expect(&b, "\"result\": \"done\"");
    assert_int_equal(f->sched.admin_what, ADMIN_HOLD);
    f->sched.admin_status = SCHED_CMD_BUSY;
    ask(&k, json_pack("{s:s, s:[s,s,s]}", "op", "queue-delete", "ids", id, "F00", "not an id"), &b);
    expect(&b, "\"result\": \"busy\"");
    expect(&b, "{\"queue_id\": \"F00\", \"result\": \"missing\"}");
    expect(&b, "{\"queue_id\": \"not an id\", \"result\": \"missing\"}");
    expect(&b, "\"done\": 0, \"missing\": 2, \"busy\": 1, \"failed\": 0");
    f->sched.admin_status = SCHED_CMD_OK;
    ask(&k, json_pack("{s:s, s:b}", "op", "queue-requeue", "all", 1), &b);
    expect(&b, "\"done\": 1, \"missing\": 0");
    ask(&k, json_pack("{s:s, s:s}", "op", "queue-flush", "site", "example.org"), &b);
    assert_string_equal(f->sched.site, "example.org");
    ask(&k, json_pack("{s:s}", "op", "queue-flush"), &b);
    assert_int_equal(f->sched.flushes, 1);
    ask(&k, json_pack("{s:s, s:[s,s]}", "op", "queue-flush", "ids", id, "F00"), &b);
    expect(&b, "\"done\": 1");
    expect(&b, "{\"queue_id\": \"F00\", \"missing\": true}");
    ctl_disconnect(&k);
    buf_free(&b);
    control_stop(&c);
}

static void test_content(void **state)
{
    struct fixture *f = *state;
    struct control *c = serve(f);
    struct err e = ERR_INIT;
    char id[QID_TEXT_MAX];
    json_t *last = NULL;
    struct span s;
    struct buf got = BUF_INIT(0);
    submit_sample(f);
    qid_format(f->sched.got[0]->env.id, false, id);
    struct ctl_conn k = dial(f->socket);
    assert_true(ctl_request(&k, json_pack("{s:s, s:s}", "op", "queue-cat", "id", id), &e));
    assert_int_equal(ctl_finish(&k, &last, &e), 0);
    size_t n = (size_t)json_integer_value(json_object_get(last, "content_bytes"));
    assert_int_equal(n, f->sched.got[0]->env.content_bytes);
    while (got.n < n) {
        assert_int_equal(stream_read_some(k.s, &s), STREAM_OK);
        buf_add_span(&got, s);
    }
    assert_int_equal(got.n, n);
    expect(&got, "Received: by hub.example.net (");
    expect(&got, "\r\n\r\nhello\r\n");
    json_decref(last);
    assert_true(ctl_request(&k, json_pack("{s:s, s:s}", "op", "queue-cat", "id", "F00"), &e));
    assert_int_equal(ctl_finish(&k, NULL, &e), 1);
    assert_non_null(strstr(e.text, "F00"));
    ctl_disconnect(&k);
    buf_free(&got);
    control_stop(&c);
}

static void test_daemon_commands(void **state)
{
    struct fixture *f = *state;
    struct control *c = serve(f);
    struct buf b = BUF_INIT(0);
    struct ctl_conn k = dial(f->socket);
    ask(&k, json_pack("{s:s}", "op", "status"), &b);
    expect(&b, "\"myhostname\": \"hub.example.net\"");
    expect(&b, "\"version\": \"" PACKAGE_VERSION "\"");
    ask(&k, json_pack("{s:s}", "op", "reload"), &b);
    expect(&b, "{\"finding\": \"one finding\"}\n{\"finding\": \"another\"}\n{\"ok\": true}");
    ask(&k, json_pack("{s:s}", "op", "reload"), &b);
    expect(&b, "\"ok\": false");
    expect(&b, "\"status\": 78");
    ask(&k, json_pack("{s:s}", "op", "stop"), &b);
    expect(&b, "\"pid\": ");
    ctl_disconnect(&k);
    control_stop(&c);
    assert_int_equal(f->stops, 1);
    assert_int_equal(access(f->socket, F_OK), -1);
    buf_free(&b);
}

static void test_bad_requests(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = { "\n", "x\n", "[]\n", "{}\n", "{\"op\": 7}\n", "{\"op\": \"nonsense\"}\n",
                                       "{\"op\": \"submit\"}\n", "{\"op\": \"queue-hold\"}\n", "{\"op\": \"smtp\"}\n" };
    struct control *c = serve(f);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct ctl_conn k = dial(f->socket);
        struct err e = ERR_INIT;
        stream_puts(k.s, bad[i]);
        assert_int_equal(stream_flush(k.s), STREAM_OK);
        int status = ctl_finish(&k, NULL, &e);
        if (status == 0 || status == EX_TEMPFAIL || e.text[0] == '\0')
            fail_msg("%s: status %d, %s", bad[i], status, e.text);
        ctl_disconnect(&k);
    }
    control_stop(&c);
}

/* A line that never ends is cut off at the limit, not gathered. */
static void test_endless_line(void **state)
{
    struct fixture *f = *state;
    struct control *c = serve(f);
    struct ctl_conn k = dial(f->socket);
    struct err e = ERR_INIT;
    char piece[65536];
    memset(piece, 'x', sizeof piece);
    for (int i = 0; i < 20 && stream_status(k.s) == STREAM_OK; i++) {
        stream_put(k.s, span_of(piece, sizeof piece));
        if (stream_flush(k.s) != STREAM_OK)
            break;
    }
    ctl_disconnect(&k);
    k = dial(f->socket); /* and others are served */
    assert_true(ctl_request(&k, json_pack("{s:s}", "op", "status"), &e));
    assert_int_equal(ctl_finish(&k, NULL, &e), 0);
    ctl_disconnect(&k);
    control_stop(&c);
}

static void test_submission_refused(void **state)
{
    struct fixture *f = *state;
    struct control *c = serve(f);
    struct mail_input in;
    struct err e = ERR_INIT;
    struct submission s = sample(&in, "x\n");
    char *big = xcalloc(1, 300001);
    memset(big, 'y', 300000);
    buf_puts(&in.head, big);
    in.bytes = s.content_bytes = in.head.n;
    assert_int_equal(submit_to_daemon(f->spool_dir, &s, &in, NULL, &e), EX_DATAERR);
    assert_non_null(strstr(e.text, "message_size_limit"));
    mail_input_free(&in);
    free(big);

    /* The content is shorter than announced, and the client is gone: nothing is taken. */
    char *path = xasprintf("%s/public/submit", f->spool_dir);
    struct ctl_conn k = dial(path);
    s = sample(&in, "Subject: x\n\nhello\n");
    json_t *j = submission_encode(&s);
    json_object_set_new(j, "op", json_string("submit"));
    assert_true(ctl_request(&k, j, &e));
    stream_puts(k.s, "Subject:");
    assert_int_equal(stream_flush(k.s), STREAM_OK);
    ctl_disconnect(&k);
    mail_input_free(&in);

    submit_sample(f);
    assert_int_equal(got_count(f), 1);
    free(path);
    control_stop(&c);
    assert_int_equal(got_count(f), 1);
}

/* A message that is being handed in is waited for at a stop, but not for ever; and nothing of it is taken. */
static void test_slow_submission_holds_up_no_stop(void **state)
{
    struct fixture *f = *state;
    struct control *c = serve(f);
    struct mail_input in;
    struct err e = ERR_INIT;
    struct submission s = sample(&in, "Subject: x\n\nhello\n");
    char *path = xasprintf("%s/public/submit", f->spool_dir);
    struct ctl_conn k = dial(path);
    json_t *j = submission_encode(&s);
    json_object_set_new(j, "op", json_string("submit"));
    assert_true(ctl_request(&k, j, &e));
    stream_puts(k.s, "Subject:");
    assert_int_equal(stream_flush(k.s), STREAM_OK);
    submit_sample(f); /* by now the other one is being read */
    int64_t began_ms = clock_mono_ms();
    control_stop(&c);
    assert_true(clock_mono_ms() - began_ms < WAIT_MS);
    assert_int_equal(got_count(f), 1);
    ctl_disconnect(&k);
    mail_input_free(&in);
    free(path);
}

static void test_too_many_clients(void **state)
{
    struct fixture *f = *state;
    struct control *c = serve(f);
    struct ctl_conn k[CONTROL_CLIENTS_MAX];
    struct err e = ERR_INIT;
    struct buf b = BUF_INIT(0);
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        k[i] = dial(f->socket);
        ask(&k[i], json_pack("{s:s}", "op", "status"), &b);
    }
    struct ctl_conn extra = dial(f->socket);
    assert_int_equal(ctl_finish(&extra, NULL, &e), EX_TEMPFAIL);
    assert_non_null(strstr(e.text, "too many clients"));
    ctl_disconnect(&extra);
    submit_sample(f); /* the other socket has places of its own */
    ctl_disconnect(&k[0]);
    int64_t deadline = clock_mono_ms() + WAIT_MS; /* a place is free again */
    int status;
    do {
        extra = dial(f->socket);
        status = ctl_request(&extra, json_pack("{s:s}", "op", "status"), &e) ? ctl_finish(&extra, NULL, &e) : EX_TEMPFAIL;
        ctl_disconnect(&extra);
    } while (status != 0 && clock_mono_ms() < deadline);
    assert_int_equal(status, 0);
    control_stop(&c); /* does not wait for idle clients */
    for (int i = 1; i < CONTROL_CLIENTS_MAX; i++)
        ctl_disconnect(&k[i]);
    buf_free(&b);
}

static void test_daemon_down(void **state)
{
    struct fixture *f = *state;
    struct ctl_conn k;
    struct mail_input in;
    struct err e = ERR_INIT;
    fixture_start_spool(f, true);
    assert_int_equal(ctl_connect(f->socket, &k, &e), CTL_CONNECT_DOWN);
    assert_non_null(strstr(e.text, f->socket));
    struct submission s = sample(&in, "Subject: x\n\nhello\n");
    assert_int_equal(submit_to_daemon(f->spool_dir, &s, &in, NULL, &e), SUBMIT_USE_FILE);
    assert_int_equal(submit_message(f->spool_dir, &s, &in, NULL, &e), 0);
    assert_int_equal(count_files(f, "maildrop", NULL), 1);
    mail_input_free(&in);
}

static void test_socket_in_use(void **state)
{
    struct fixture *f = *state;
    struct err e = ERR_INIT;
    struct control *c = serve(f);
    struct control_options o = { .socket_path = f->socket, .queue_dir = f->spool_dir, .log = &f->log };
    assert_null(control_start(&o, &e));
    assert_non_null(strstr(e.text, f->socket));
    submit_sample(f);
    control_stop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_submit_and_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(test_content, setup, teardown),
        cmocka_unit_test_setup_teardown(test_daemon_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_endless_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_submission_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_submission_holds_up_no_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_clients, setup, teardown),
        cmocka_unit_test_setup_teardown(test_daemon_down, setup, teardown),
        cmocka_unit_test_setup_teardown(test_socket_in_use, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
