/* common/dns against a name server of our own: cache, single flight, retries, TCP, forgeries, many threads. */
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/dns/dns.h"
#include "tests/unit/dns_responder.h"

static const char *const zone[] = {
    "example.org. 300 IN MX 10 mail.example.org.",
    "mail.example.org. 300 IN A 192.0.2.1",
    "short.example.org. 1 IN A 192.0.2.1",
    "zero.example.org. 0 IN A 192.0.2.1",
    "alias.example.org. 300 IN CNAME mail.example.org.",
    "slow.example.org. 300 IN A 192.0.2.3", "!delay slow.example.org. 150",
    "lost.example.org. 300 IN A 192.0.2.4", "!drop1 lost.example.org.",
    "big.example.org. 300 IN A 192.0.2.5", "!tc big.example.org.",
    "forged.example.org. 300 IN A 192.0.2.6", "!wrongid forged.example.org.",
    "other.example.org. 300 IN A 192.0.2.6", "!wrongname other.example.org.",
    "flood.example.org. 300 IN A 192.0.2.6", "!flood flood.example.org.",
    "old.example.org. 300 IN A 192.0.2.7", "!noedns old.example.org.",
    "sec.example.org. 300 IN A 192.0.2.8", "!ad sec.example.org.",
    "!servfail fail.example.org.", "!drop gone.example.org.", "!garbage garbage.example.org.",
    "xn--bcher-kva.example. 300 IN A 192.0.2.9",
    NULL,
};

static int setup(void **state) { return responder_setup(state, zone); }

static void check(struct dns_answer *a, const char *name, enum dns_status want, const char *addr)
{
    char text[INET_ADDRSTRLEN] = "none";
    if (a->count > 0)
        inet_ntop(AF_INET, &a->rr[0].a, text, sizeof text);
    if (a->status != want || (addr && strcmp(text, addr) != 0))
        fail_msg("%s: status %d (%s), %s; wanted %d %s", name, a->status, a->why, text, want, addr ? addr : "");
    dns_answer_unref(&a);
}

static void ask(struct responder_state *f, const char *name, enum dns_status want, const char *addr)
{
    check(dns_query_wait(f->d, span_cstr(name), DNS_A, clock_mono_ms() + 5000), name, want, addr);
}

static void asked(struct responder_state *f, unsigned n)
{
    assert_int_equal(responder_questions(f->r), n);
}

static void answers_come_and_are_kept(void **state)
{
    struct responder_state *f = *state;
    assert_null(dns_query_cached(f->d, SPAN_LIT("mail.example.org"), DNS_A));
    ask(f, "mail.example.org", DNS_OK, "192.0.2.1");
    ask(f, "MAIL.example.org.", DNS_OK, "192.0.2.1");
    asked(f, 1);
    struct dns_answer *a = dns_query_cached(f->d, SPAN_LIT("mail.example.org"), DNS_A);
    assert_non_null(a);
    dns_answer_unref(&a);
    ask(f, "nothing.example.org", DNS_NXDOMAIN, NULL);
    ask(f, "nothing.example.org", DNS_NXDOMAIN, NULL);
    asked(f, 2);
    ask(f, "example.org", DNS_NODATA, NULL);
    ask(f, "example.org", DNS_NODATA, NULL);
    asked(f, 3);
    ask(f, "b\xc3\xbc" "cher.example", DNS_OK, "192.0.2.9");
    ask(f, "a..b", DNS_INVALID, NULL);
    asked(f, 4);
    a = dns_query_wait(f->d, SPAN_LIT("alias.example.org"), DNS_A, clock_mono_ms() + 5000);
    assert_string_equal(a->qname, "alias.example.org");
    assert_string_equal(a->final_name, "mail.example.org");
    dns_answer_unref(&a);
    struct dns_stats s;
    dns_stats(f->d, &s);
    assert_int_equal(s.cached, 5);
    assert_int_equal(s.pending, 0);
}

static void ttl_is_honoured(void **state)
{
    struct responder_state *f = *state;
    ask(f, "short.example.org", DNS_OK, "192.0.2.1");
    ask(f, "zero.example.org", DNS_OK, "192.0.2.1");
    ask(f, "zero.example.org", DNS_OK, "192.0.2.1");
    asked(f, 3);
    ask(f, "nothing.example.org", DNS_NXDOMAIN, NULL);
    asked(f, 4);
    clock_advance_for_test(1001, 0);
    ask(f, "short.example.org", DNS_OK, "192.0.2.1");
    ask(f, "nothing.example.org", DNS_NXDOMAIN, NULL);
    asked(f, 5);
    clock_advance_for_test(60000, 0); /* the SOA's minimum */
    ask(f, "nothing.example.org", DNS_NXDOMAIN, NULL);
    asked(f, 6);
}

static void failures_are_temporary_and_not_kept(void **state)
{
    struct responder_state *f = *state;
    struct dns_answer *a = dns_query_wait(f->d, SPAN_LIT("fail.example.org"), DNS_A, clock_mono_ms() + 5000);
    assert_string_equal(a->why, "Host not found, try again");
    check(a, "fail", DNS_TEMPFAIL, NULL);
    asked(f, 1);
    ask(f, "fail.example.org", DNS_TEMPFAIL, NULL);
    asked(f, 2);
    ask(f, "garbage.example.org", DNS_INVALID, NULL);
    asked(f, 3);
    int64_t t0 = clock_mono_ms();
    ask(f, "gone.example.org", DNS_TEMPFAIL, NULL); /* 2 tries of 200 ms */
    int64_t took = clock_mono_ms() - t0;
    asked(f, 5);
    if (took < 390 || took > 3000)
        fail_msg("took %lld ms", (long long)took);
    struct dns_stats s;
    dns_stats(f->d, &s);
    assert_int_equal(s.cached, 0);
    assert_int_equal(s.timeouts, 2);
}

static void a_lost_packet_is_sent_again(void **state)
{
    struct responder_state *f = *state;
    ask(f, "lost.example.org", DNS_OK, "192.0.2.4");
    asked(f, 2);
}

static void truncation_goes_to_tcp(void **state)
{
    struct responder_state *f = *state;
    ask(f, "big.example.org", DNS_OK, "192.0.2.5");
    asked(f, 2);
    assert_int_equal(responder_tcp(f->r), 1);
}

static void forged_answers_are_passed_over(void **state)
{
    struct responder_state *f = *state;
    ask(f, "forged.example.org", DNS_OK, "192.0.2.6");
    ask(f, "other.example.org", DNS_OK, "192.0.2.6");
    asked(f, 2);
    ask(f, "flood.example.org", DNS_OK, "192.0.2.6");
    assert_int_equal(responder_tcp(f->r), 1);
}

static void a_server_without_edns_is_asked_without(void **state)
{
    struct responder_state *f = *state;
    ask(f, "old.example.org", DNS_OK, "192.0.2.7");
    asked(f, 2);
}

static void ad_is_believed_on_this_machine(void **state)
{
    struct responder_state *f = *state;
    struct dns_answer *a = dns_query_wait(f->d, SPAN_LIT("sec.example.org"), DNS_A, clock_mono_ms() + 5000);
    assert_true(a->secure);
    dns_answer_unref(&a);
    a = dns_query_wait(f->d, SPAN_LIT("mail.example.org"), DNS_A, clock_mono_ms() + 5000);
    assert_false(a->secure);
    dns_answer_unref(&a);
}

static void a_caller_leaves_at_its_deadline(void **state)
{
    struct responder_state *f = *state;
    int64_t t0 = clock_mono_ms();
    check(dns_query_wait(f->d, SPAN_LIT("slow.example.org"), DNS_A, t0 + 15), "slow", DNS_TEMPFAIL, NULL);
    assert_true(clock_mono_ms() - t0 < 140); /* the answer takes 150 */
    ask(f, "slow.example.org", DNS_OK, "192.0.2.3"); /* joins the question under way */
    asked(f, 1);
}

static void the_next_server_is_asked_when_one_is_dead(void **state)
{
    struct responder_state *f = *state;
    uint16_t port;
    static const char *const mute[] = { "!drop mail.example.org.", "!servfail big.example.org.", NULL };
    struct responder *dead = responder_start(mute, &port);
    char servers[64];
    struct err e = ERR_INIT;
    uint16_t good;
    static const char *const rows[] = { "mail.example.org. 300 IN A 192.0.2.1", "big.example.org. 300 IN A 192.0.2.2", NULL };
    struct responder *live = responder_start(rows, &good);
    assert_true(snprintf(servers, sizeof servers, "127.0.0.1:%u 127.0.0.1:%u", port, good) > 0);
    assert_true(dns_reconfigure(f->d, &(struct dns_options){ .resolvers = servers, .timeout_ms = 100, .tries = 3 }, &e));
    ask(f, "big.example.org", DNS_OK, "192.0.2.2"); /* SERVFAIL from the first */
    assert_int_equal(responder_questions(dead), 1);
    ask(f, "mail.example.org", DNS_OK, "192.0.2.1");
    assert_int_equal(responder_questions(dead), 2);
    ask(f, "nothing.example.org", DNS_NXDOMAIN, NULL); /* the first is known to be bad now */
    assert_int_equal(responder_questions(dead), 2);
    asked(f, 0);
    assert_false(dns_reconfigure(f->d, &(struct dns_options){ .resolvers = "nonsense" }, &e));
    responder_stop(&dead);
    responder_stop(&live);
}

static void new_resolvers_empty_the_cache(void **state)
{
    struct responder_state *f = *state;
    uint16_t port;
    static const char *const rows[] = { "mail.example.org. 300 IN A 198.51.100.1", NULL };
    char server[64];
    struct err e = ERR_INIT;
    ask(f, "mail.example.org", DNS_OK, "192.0.2.1");
    struct responder *two = responder_start(rows, &port);
    assert_true(snprintf(server, sizeof server, "127.0.0.1:%u", port) > 0);
    assert_true(dns_reconfigure(f->d, &(struct dns_options){ .resolvers = server, .timeout_ms = 200, .tries = 1 }, &e));
    /* Asked before the thread took the change, the old answer would do: wait for a miss. */
    struct dns_answer *a;
    for (int i = 0; i < 500 && (a = dns_query_cached(f->d, SPAN_LIT("mail.example.org"), DNS_A)); i++) {
        dns_answer_unref(&a);
        usleep(1000);
    }
    ask(f, "mail.example.org", DNS_OK, "198.51.100.1");
    responder_stop(&two);
    /* Nobody there: refused at once, not after the time-out. */
    ask(f, "later.example.org", DNS_TEMPFAIL, NULL);
}

/* ---- callbacks ---- */

struct count {
    atomic_uint ok, temp, other;
    struct dns *d;
};

static void count_cb(void *arg, struct dns_answer *a)
{
    struct count *c = arg;
    atomic_fetch_add(a->status == DNS_OK ? &c->ok : a->status == DNS_TEMPFAIL ? &c->temp : &c->other, 1);
    dns_answer_unref(&a);
}

static void wait_for(atomic_uint *v, unsigned want)
{
    for (int i = 0; i < 5000 && atomic_load(v) < want; i++)
        usleep(1000);
    assert_int_equal(atomic_load(v), want);
}

static void one_question_serves_all_who_ask(void **state)
{
    struct responder_state *f = *state;
    struct count c = { .ok = 0 };
    for (int i = 0; i < 100; i++)
        dns_query(f->d, SPAN_LIT("slow.example.org"), DNS_A, count_cb, &c);
    wait_for(&c.ok, 100);
    asked(f, 1);
    struct dns_stats s;
    dns_stats(f->d, &s);
    assert_int_equal(s.joined, 99);
}

static void chain_cb(void *arg, struct dns_answer *a)
{
    struct count *c = arg;
    dns_query(c->d, span_cstr(a->rr[0].mx.host), DNS_A, count_cb, c);
    dns_answer_unref(&a);
}

static void a_callback_may_ask_again(void **state)
{
    struct responder_state *f = *state;
    struct count c = { .d = f->d };
    dns_query(f->d, SPAN_LIT("example.org"), DNS_MX, chain_cb, &c);
    wait_for(&c.ok, 1);
}

static void stop_answers_everybody(void **state)
{
    struct responder_state *f = *state;
    struct count c = { .ok = 0 };
    char name[64];
    for (int i = 0; i < 1000; i++) { /* more than may have a socket */
        assert_true(snprintf(name, sizeof name, "%d.gone.example.org", i) > 0);
        dns_query(f->d, span_cstr(i % 2 ? "gone.example.org" : name), DNS_A, count_cb, &c);
    }
    dns_stop(&f->d);
    assert_int_equal(atomic_load(&c.ok) + atomic_load(&c.temp) + atomic_load(&c.other), 1000);
    assert_true(atomic_load(&c.temp) >= 500);
}

static void too_many_questions_are_refused(void **state)
{
    struct responder_state *f = *state;
    struct count c = { .ok = 0 };
    char name[64];
    static const char *const mute[] = { "!drop *", NULL };
    struct responder *r = responder_start(mute, NULL);
    struct dns *d = responder_dns_patient(r, 60000); /* none is given up while the others are asked, however long that takes */
    (void)f;
    for (int i = 0; i < DNS_PENDING_MAX + 500; i++) {
        assert_true(snprintf(name, sizeof name, "q%d.example.org", i) > 0);
        dns_query(d, span_cstr(name), DNS_A, count_cb, &c);
    }
    struct dns_stats s;
    dns_stats(d, &s);
    assert_true(s.refused > 0 && s.refused <= 500);
    assert_true(s.pending > 0 && s.pending <= DNS_PENDING_MAX);
    dns_stop(&d);
    assert_int_equal(atomic_load(&c.temp), DNS_PENDING_MAX + 500);
    responder_stop(&r);
}

/* Those who wait for one of the DNS_INFLIGHT_MAX places are not answered later than those who have one. */
static void dead_resolvers_hold_nobody_long(void **state)
{
    struct responder_state *f = *state;
    struct count c = { .ok = 0 };
    char name[64];
    static const char *const mute[] = { "!drop *", NULL };
    struct responder *r = responder_start(mute, NULL);
    struct dns *d = responder_dns(r); /* two tries of 200 ms */
    const int questions = 16 * DNS_INFLIGHT_MAX;
    int64_t begin_ms = clock_mono_ms();
    (void)f;
    for (int i = 0; i < questions; i++) {
        assert_true(snprintf(name, sizeof name, "q%d.example.org", i) > 0);
        dns_query(d, span_cstr(name), DNS_A, count_cb, &c);
    }
    while (atomic_load(&c.temp) < questions && clock_mono_ms() < begin_ms + 10000)
        usleep(5000);
    assert_int_equal(atomic_load(&c.temp), questions);
    assert_in_range(clock_mono_ms() - begin_ms, 350, 6000); /* one after the other it would be 6.4 s */
    dns_stop(&d);
    responder_stop(&r);
}

/* ---- many threads ---- */

static void *hammer(void *arg)
{
    struct count *c = arg;
    static const char *const names[] = { "mail.example.org", "zero.example.org", "alias.example.org", "big.example.org",
                                         "no1.example.org", "no2.example.org", "fail.example.org" };
    for (int i = 0; i < 300; i++) {
        const char *name = names[(i * 7 + i / 3) % (int)ARRAY_LEN(names)];
        if (i % 3 == 0) {
            dns_query(c->d, span_cstr(name), DNS_A, count_cb, c);
            continue;
        }
        struct dns_answer *a = dns_query_wait(c->d, span_cstr(name), DNS_A, clock_mono_ms() + (i % 7 == 0 ? 1 : 5000));
        count_cb(c, a);
    }
    return NULL;
}

static void many_threads_ask_while_resolvers_change(void **state)
{
    struct responder_state *f = *state;
    enum { THREADS = 8 };
    pthread_t t[THREADS];
    uint16_t port;
    struct count c = { .d = f->d };
    struct err e = ERR_INIT;
    char one[64];
    struct responder *two = responder_start(zone, &port);
    assert_true(snprintf(one, sizeof one, "127.0.0.1:%u", port) > 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(thread_start(&t[i], "hammer", 0, hammer, &c), 0);
    for (int i = 0; i < 20; i++) {
        assert_true(dns_reconfigure(f->d, &(struct dns_options){ .resolvers = one, .timeout_ms = 500 + i % 2 }, &e));
        usleep(3000);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < 5000 && atomic_load(&c.ok) + atomic_load(&c.temp) + atomic_load(&c.other) < THREADS * 300; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&c.ok) + atomic_load(&c.temp) + atomic_load(&c.other), THREADS * 300);
    assert_true(atomic_load(&c.ok) > THREADS * 100);
    struct dns_stats s;
    dns_stats(f->d, &s);
    assert_int_equal(s.pending, 0);
    responder_stop(&two);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, responder_teardown)
    const struct CMUnitTest tests[] = {
        T(answers_come_and_are_kept),
        T(ttl_is_honoured),
        T(failures_are_temporary_and_not_kept),
        T(a_lost_packet_is_sent_again),
        T(truncation_goes_to_tcp),
        T(forged_answers_are_passed_over),
        T(a_server_without_edns_is_asked_without),
        T(ad_is_believed_on_this_machine),
        T(a_caller_leaves_at_its_deadline),
        T(the_next_server_is_asked_when_one_is_dead),
        T(new_resolvers_empty_the_cache),
        T(one_question_serves_all_who_ask),
        T(a_callback_may_ask_again),
        T(stop_answers_everybody),
        T(too_many_questions_are_refused),
        T(dead_resolvers_hold_nobody_long),
        T(many_threads_ask_while_resolvers_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
