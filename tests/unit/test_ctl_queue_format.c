/* The listing against what postqueue -p of Postfix 3.7 prints for the same queue, and the JSON of a message. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "daemon/cmd/queue_format.h"
#include "daemon/control/queue_json.h"

#define QUEUE_ACTIVE "{\"queue_name\": \"active\", \"queue_id\": \"0C1F4A1B2C3D4\", \"arrival_time\": 1700000000, " \
    "\"message_size\": 345, \"forced_expire\": false, \"sender\": \"alice@example.com\", \"recipients\": " \
    "[{\"orig_address\": \"\", \"address\": \"bob@example.org\"}]}"
#define QUEUE_DEFERRED "{\"queue_name\": \"deferred\", \"queue_id\": \"B2C3D4E5F6\", \"arrival_time\": 1700000100, " \
    "\"message_size\": 123456, \"forced_expire\": false, \"sender\": \"MAILER-DAEMON\", \"recipients\": [" \
    "{\"address\": \"x@y.example\", \"delay_reason\": \"connect to y.example[192.0.2.1]:25: Connection refused\"}, " \
    "{\"address\": \"z@y.example\", \"delay_reason\": \"connect to y.example[192.0.2.1]:25: Connection refused\"}, " \
    "{\"address\": \"q@y.example\", \"delay_reason\": \"host mx.example[192.0.2.2] said: 450 4.2.0 <q@y.example>: " \
    "Recipient address rejected: Greylisted, see http://example.org/ (in reply to RCPT TO command)\"}]}"
#define QUEUE_HOLD "{\"queue_name\": \"hold\", \"queue_id\": \"F00D\", \"arrival_time\": 1700000200, " \
    "\"message_size\": 99, \"forced_expire\": false, \"sender\": \"s@x\", \"recipients\": [{\"address\": \"a@b\"}]}"

static char *listing(bool long_ids, bool as_json, const char *const *messages)
{
    char *text = NULL;
    size_t n = 0;
    struct queue_list l = { .out = open_memstream(&text, &n), .long_ids = long_ids, .as_json = as_json };
    for (; *messages != NULL; messages++) {
        json_error_t je;
        json_t *j = json_loads(*messages, 0, &je);
        assert_non_null(j);
        queue_list_add(&l, j);
        json_decref(j);
    }
    queue_list_end(&l);
    fclose(l.out);
    return text;
}

static void test_list_short(void **state)
{
    (void)state;
    const char *const queue[] = { QUEUE_ACTIVE, QUEUE_DEFERRED, QUEUE_HOLD, NULL };
    char *text = listing(false, false, queue);
    assert_string_equal(text,
        "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
        "0C1F4A1B2C3D4*     345 Tue Nov 14 22:13:20  alice@example.com\n"
        "                                         bob@example.org\n"
        "\n"
        "B2C3D4E5F6   123456 Tue Nov 14 22:15:00  MAILER-DAEMON\n"
        "                      (connect to y.example[192.0.2.1]:25: Connection refused)\n"
        "                                         x@y.example\n"
        "                                         z@y.example\n"
        "(host mx.example[192.0.2.2] said: 450 4.2.0 <q@y.example>: Recipient address rejected: Greylisted, see "
        "http://example.org/ (in reply to RCPT TO command))\n"
        "                                         q@y.example\n"
        "\n"
        "F00D!            99 Tue Nov 14 22:16:40  s@x\n"
        "                                         a@b\n"
        "\n"
        "-- 120 Kbytes in 3 Requests.\n");
    free(text);
}

static void test_list_long(void **state)
{
    (void)state;
    const char *const queue[] = { QUEUE_HOLD, NULL };
    char *text = listing(true, false, queue);
    assert_string_equal(text,
        "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
        "F00D!                   99 Tue Nov 14 22:16:40 s@x\n"
        "                                               a@b\n"
        "\n"
        "-- 0 Kbytes in 1 Request.\n");
    free(text);
}

static void test_list_empty(void **state)
{
    (void)state;
    const char *const queue[] = { NULL };
    char *text = listing(false, false, queue);
    assert_string_equal(text, "Mail queue is empty\n");
    free(text);
    text = listing(false, true, queue);
    assert_string_equal(text, "");
    free(text);
}

static void test_list_json(void **state)
{
    (void)state;
    const char *const queue[] = { QUEUE_ACTIVE, NULL };
    char *text = listing(false, true, queue);
    assert_string_equal(text, QUEUE_ACTIVE "\n");
    free(text);
}

static struct msg *sample_message(void)
{
    struct msg *m = msg_new();
    m->env.id = 0xC1F4A1B2C3D4;
    m->env.arrival_us = INT64_C(1700000000999999);
    m->env.content_bytes = 345;
    m->env.sender = SPAN_LIT("joe \"x\" user@example.com");
    struct msg_rcpt *r = msg_add_rcpt(m);
    r->addr = SPAN_LIT("bob@example.org");
    r->orig = SPAN_LIT("alias@example.net");
    r->last_reason = SPAN_LIT("said: \"no\"\twait \xff");
    r->last_dsn = SPAN_LIT("4.2.0");
    r->attempts = 2;
    r->due_us = INT64_C(1700000600000000);
    r = msg_add_rcpt(m);
    r->addr = r->orig = SPAN_LIT("done@example.org");
    r->state = RCPT_DONE;
    return m;
}

static void test_message_json(void **state)
{
    (void)state;
    struct msg *m = sample_message();
    char id[QID_TEXT_MAX];
    qid_format(m->env.id, false, id);
    json_t *j = queue_json(m, SCHED_DEFERRED, false, false);
    char *text = json_dumps(j, 0);
    char *want = xasprintf("{\"queue_name\": \"deferred\", \"queue_id\": \"%s\", \"arrival_time\": 1700000000, \"message_size\": 345, "
        "\"forced_expire\": false, \"sender\": \"\\\"joe \\\\\\\"x\\\\\\\" user\\\"@example.com\", \"recipients\": "
        "[{\"orig_address\": \"alias@example.net\", \"address\": \"bob@example.org\", "
        "\"delay_reason\": \"said: \\\"no\\\"\\twait ?\"}]}", id);
    assert_string_equal(text, want);
    free(want);
    free(text);
    json_decref(j);

    m->env.sender = SPAN_LIT("");
    j = queue_json(m, SCHED_HOLD, false, true);
    assert_string_equal(json_string_value(json_object_get(j, "sender")), "MAILER-DAEMON");
    assert_int_equal(json_array_size(json_object_get(j, "recipients")), 2);
    json_t *r = json_array_get(json_object_get(j, "recipients"), 0);
    assert_int_equal(json_integer_value(json_object_get(r, "attempts")), 2);
    assert_int_equal(json_integer_value(json_object_get(r, "next_due")), 1700000600);
    assert_string_equal(json_string_value(json_object_get(r, "last_dsn")), "4.2.0");
    json_decref(j);
    msg_unref(&m);
}

static void test_show_text(void **state)
{
    (void)state;
    struct msg *m = sample_message();
    json_t *j = queue_json(m, SCHED_DEFERRED, false, true);
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    queue_show_text(f, j, 1700000000);
    fclose(f);
    assert_non_null(strstr(text, "Queue:           deferred\n"));
    assert_non_null(strstr(text, "Recipient:       bob@example.org\n    Original:    alias@example.net\n"));
    assert_non_null(strstr(text, "    State:       waiting, 2 attempts\n"));
    assert_non_null(strstr(text, "(in 600 s)\n"));
    assert_non_null(strstr(text, "Recipient:       done@example.org\n    State:       done, 0 attempts\n"));
    free(text);
    json_decref(j);
    msg_unref(&m);
}

/* Reason, addresses and Message-ID are others' words: nothing in them may act on a terminal or add a line. */
static void test_terminal(void **state)
{
    (void)state;
    static const char message[] = "{\"queue_name\": \"deferred\", \"queue_id\": \"F00D\", \"sender\": \"a\\u001b[31m@x\", "
        "\"message_id\": \"<1\\u009b2J@x>\", \"helo\": \"h\\u007f\", \"client_address\": \"10.0.0.1\\r\", \"recipients\": [{\"address\": "
        "\"b\\tc@x\", \"delay_reason\": \"450 \\u001b]0;title\\u0007 gr\\u00fcn\\nF00D2 fine\", \"last_host\": \"mx\\u001b\"}]}";
    const char *const queue[] = { message, NULL };
    char *list = listing(false, false, queue), *text = NULL;
    size_t n = 0;
    assert_non_null(strstr(list, "  a?[31m@x\n"));
    assert_non_null(strstr(list, "(450 ?]0;title? gr\xc3\xbcn?F00D2 fine)\n"));
    FILE *f = open_memstream(&text, &n);
    json_error_t je;
    json_t *j = json_loads(message, 0, &je);
    queue_show_text(f, j, 1700000000);
    fclose(f);
    json_decref(j);
    assert_non_null(strstr(text, "Message-ID:      <1??2J@x>\n"));
    for (const char *all[] = { list, text }, **t = all; t < all + 2; t++)
        for (const char *p = *t; *p; p++)
            assert_true(*p == '\n' || (unsigned char)*p >= 32);
    free(list);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_short),   cmocka_unit_test(test_list_long), cmocka_unit_test(test_list_empty),
        cmocka_unit_test(test_list_json),    cmocka_unit_test(test_message_json), cmocka_unit_test(test_show_text),
        cmocka_unit_test(test_terminal),
    };
    setenv("TZ", "UTC", 1);
    tzset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
