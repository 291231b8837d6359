/*
 * Restriction lists with their arguments (search_order of certificate tables, policy servers, DNS lists, classes) as main.cf has them, and
 * the filters on DNS answers beside them. The first byte picks the parameter. There is a policy unless an error is reported, and
 * compiled again the same is found wrong.
 */
#include "common/base/mem.h"
#include "common/conf/conf_internal.h"
#include "common/conf/conf_report.h"
#include "common/conf/params.h"
#include "policy/route.h"
#include "tests/fuzz/fuzz.h"

#define MAIN "myhostname = hub.example.com\nmydestination =\ninet_interfaces = loopback-only\nsmtpd_restriction_classes = mine other\n" \
             "mine = permit_mynetworks, reject\nother = mine\n%s = %s\n"
#define MASTER "127.0.0.1:2525 inet n - n - - smtpd\nsmtp unix - - n - - smtp\n"

static const struct { const char *name; size_t offset; } parameters[] = {
#define PARAMETER(name) { #name, offsetof(struct params, name) }
    PARAMETER(smtpd_recipient_restrictions), PARAMETER(smtpd_client_restrictions), PARAMETER(smtpd_sender_restrictions),
    PARAMETER(smtpd_end_of_data_restrictions), { "mine", 0 }, PARAMETER(smtpd_dns_reply_filter), PARAMETER(smtpd_reject_footer_maps),
};

static struct conf *load(const char *main_cf, struct conf_report *report)
{
    struct conf_options o = { .dir = "/nonexistent", .main_cf_text = main_cf, .master_cf_text = MASTER };
    return conf_load(&o, report);
}

static void set(const struct params *p, size_t offset, const char *value)
{
    memcpy((char *)(uintptr_t)p + offset, &value, sizeof value);
}

/* To load a configuration takes longer than what this is about: it is loaded once, and has the value in place of another one. */
static struct conf *with_value(size_t which, const char *value)
{
    static struct conf *c;
    struct conf_report report = { 0 };
    if (c == NULL) {
        char *text = xasprintf(MAIN, "smtpd_sasl_path", "x");
        c = load(text, &report);
        CHECK(c != NULL);
        conf_report_free(&report);
        free(text);
    }
    for (size_t i = 0; i < ARRAY_LEN(parameters); i++)
        if (parameters[i].offset != 0) {
            const char *v = i == which ? value : "";
            set(conf_global(c), parameters[i].offset, v);
            set(conf_service(c, 0)->p, parameters[i].offset, v);
            set(conf_service(c, 0)->p_stress, parameters[i].offset, v);
        }
    return conf_ref(c);
}

static size_t compile(size_t which, const char *value, bool is_loaded, char *first, size_t size)
{
    struct conf_report report = { 0 };
    char *text = xasprintf(MAIN, parameters[which].name, value);
    struct conf *c = is_loaded ? load(text, &report) : with_value(which, value);
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
    free(text);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char first[400], again[400];
    /* No input may name a file, a variable or another line. */
    if (size < 2 || size > 1000 || memchr(data, '/', size) || memchr(data, '\n', size) || memchr(data, '\0', size) || memchr(data, '$', size))
        return 0;
    size_t which = data[0] % ARRAY_LEN(parameters);
    bool is_loaded = size % 32 == 0;
    if (parameters[which].offset == 0 && !is_loaded)
        return 0;
    char *value = xstrndup((const char *)data + 1, size - 1);
    size_t n = compile(which, value, is_loaded, first, sizeof first);
    if (size % 16 == 0)
        CHECK(compile(which, value, is_loaded, again, sizeof again) == n && strcmp(first, again) == 0);
    free(value);
    return 0;
}
