/* Evaluation takes nothing from the heap once its arena is warm: malloc and its like are counted (linked with --wrap). */
#include "tests/unit/unit.h"
#include <stdatomic.h>
#include "policy/answers.h"
#include "tests/unit/policy_fixture.h"

static atomic_uint taken;

void *__real_malloc(size_t n);
void *__real_calloc(size_t k, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t k, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n) { taken++; return __real_malloc(n); }
void *__wrap_calloc(size_t k, size_t n) { taken++; return __real_calloc(k, n); }
void *__wrap_realloc(void *p, size_t n) { taken++; return __real_realloc(p, n); }

static char dir[] = "/tmp/test_policy_alloc.XXXXXX";

static const char lists[] =
    "virtual_mailbox_domains = box.example\n"
    "virtual_mailbox_maps = inline:{ user@box.example=x }\n"
    "virtual_alias_maps = inline:{ other@box.example=x@y.example }\n"
    "transport_maps = inline:{ far.example=smtp:[127.0.0.1] }\n"
    "smtpd_restriction_classes = strict\n"
    "strict = check_sender_access inline:{ bad.example=REJECT }, reject_non_fqdn_sender\n"
    "smtpd_client_restrictions = permit_mynetworks, permit_sasl_authenticated, permit_tls_clientcerts, check_client_access cidr:%s/cidr,\n"
    "  check_client_access inline:{ 10.1=REJECT }, check_reverse_client_hostname_access inline:{ bad.example=REJECT },\n"
    "  reject_unauth_pipelining, check_client_access texthash:%s/text\n"
    "smtpd_helo_restrictions = permit_mynetworks, check_helo_access inline:{ bad.example=REJECT }, reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname\n"
    "smtpd_sender_restrictions = check_sender_access texthash:%s/text, check_sender_access pcre:%s/pcre, reject_non_fqdn_sender,\n"
    "  reject_unlisted_sender, strict\n"
    "smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination\n"
    "smtpd_recipient_restrictions = reject_non_fqdn_recipient, check_recipient_access texthash:%s/text, reject_unlisted_recipient,\n"
    "  check_recipient_access inline:{ user@box.example=DUNNO }\n";

static void write_table(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static enum verdict check_once(struct fixture *f, enum policy_stage stage, struct policy_answers *answers)
{
    struct verdict_reply out;
    struct policy_client c = {
        .addr_text = SPAN_LIT("192.0.2.9"), .name = SPAN_LIT("mail.client.example"), .reverse_name = SPAN_LIT("mail.client.example"),
        .helo = SPAN_LIT("mail.client.example"), .sender = SPAN_LIT("someone@elsewhere.example"), .recipient = SPAN_LIT("user@box.example"),
        .answers = answers,
    };
    assert_true(ip_parse(c.addr_text, &c.addr));
    arena_reset(f->arena);
    return policy_check(f->policy, conf_service(f->conf, 0), stage, &c, f->arena, &out);
}

static void test_nothing_is_allocated(void **state)
{
    (void)state;
    char *text;
    assert_non_null(mkdtemp(dir));
    write_table("cidr", "10.0.0.0/8 REJECT\n172.16.0.0/12 REJECT\n2001:db8::/32 REJECT\n");
    write_table("text", "bad.example REJECT\nworse@bad.example REJECT\n10.2 REJECT\n");
    write_table("pcre", "/^bounce-.*@bad\\.example$/ REJECT\n/^(news|list)-(\\d+)@/ REJECT $1\n");
    assert_true(asprintf(&text, lists, dir, dir, dir, dir, dir) > 0);
    struct fixture *f = fixture_new(text);
    struct policy_answers *answers = policy_answers_new(NULL);
    static const enum policy_stage stages[] = { STAGE_CONNECT, STAGE_HELO, STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_END_OF_DATA };
    for (size_t s = 0; s < ARRAY_LEN(stages); s++) {
        assert_int_equal(check_once(f, stages[s], answers), VERDICT_OK);
        unsigned before = taken;
        for (int i = 0; i < 100; i++)
            assert_int_equal(check_once(f, stages[s], answers), VERDICT_OK);
        if (taken != before)
            fail_msg("stage %d: %u allocations in 100 evaluations", (int)stages[s], taken - before);
    }
    policy_answers_free(&answers);
    fixture_free(&f);
    free(text);
}

/* The counting itself: what is known to allocate is seen. */
static void test_counting_works(void **state)
{
    (void)state;
    unsigned before = taken;
    struct arena *a = arena_new(0);
    (void)arena_alloc(a, 1);
    assert_int_equal(taken - before, 2);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counting_works),
        cmocka_unit_test(test_nothing_is_allocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
