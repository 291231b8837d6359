/*
 * Restriction lists with their arguments (search_order of certificate tables, policy servers, DNS lists, classes) as main.cf has them, and
 * the filters on DNS answers beside them. The first byte picks the parameter. There is a policy unless an error is reported, and
 * compiled again the same is found wrong.
 */
#include "common/base/mem.h"
#include "common/conf/conf_internal.h"
#include "common/conf/conf_report.h"
#include "policy/route.h"
#include "tests/fuzz/fuzz.h"

#define MAIN "myhostname = hub.example.com\nmydestination =\ninet_interfaces = loopback-only\nsmtpd_restriction_classes = mine other\n" \
             "mine = permit_mynetworks, reject\nother = mine\n%s = %s\n"
#define MASTER "127.0.0.1:2525 inet n - n - - smtpd\nsmtp unix - - n - - smtp\n"

static const char *const parameters[] = {
    "smtpd_recipient_restrictions", "smtpd_client_restrictions", "smtpd_sender_restrictions", "smtpd_end_of_data_restrictions", "mine",
    "smtpd_dns_reply_filter", "smtpd_reject_footer_maps",
};

static size_t compile(const char *main_cf, char *first, size_t size)
{
    struct conf_options o = { .dir = "/nonexistent", .main_cf_text = main_cf, .master_cf_text = MASTER };
    struct conf_report report = { 0 };
    struct conf *c = conf_load(&o, &report);
    if (c != NULL) {
        struct policy_options po = { .conf = c, .report = &report };
        struct policy *p = policy_compile(&po);
        CHECK((p == NULL) == conf_report_has_errors(&report));
        policy_unref(&p);
    }
    size_t n = report.count;
    snprintf(first, size, "%s", n > 0 ? report.items[0].text : "");
    conf_report_free(&report);
    conf_unref(&c);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char first[400], again[400];
    /* No input may name a file, a variable or another line. */
    if (size < 2 || size > 1000 || memchr(data, '/', size) || memchr(data, '\n', size) || memchr(data, '\0', size) || memchr(data, '$', size))
        return 0;
    char *value = xstrndup((const char *)data + 1, size - 1), *text = xasprintf(MAIN, parameters[data[0] % ARRAY_LEN(parameters)], value);
    size_t n = compile(text, first, sizeof first);
    if (size % 16 == 0) /* one takes long */
        CHECK(compile(text, again, sizeof again) == n && strcmp(first, again) == 0);
    free(text);
    free(value);
    return 0;
}
