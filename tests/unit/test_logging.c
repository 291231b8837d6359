/* logging: what maillog_file and its relatives make of the log; the file itself is test_log.c's business. */
#include "tests/unit/unit.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "daemon/logging.h"

static const struct {
    const char *name, *main_cf;
    bool ok;
    enum log_dest dest;
    unsigned mode;
    int facility;
} rows[] = {
    { "syslog by default", "", true, LOG_TO_SYSLOG, 0, 2 },
    { "another facility", "syslog_facility = local3\n", true, LOG_TO_SYSLOG, 0, 19 },
    { "no such facility", "syslog_facility = kitchen\n", false, LOG_TO_SYSLOG, 0, 0 },
    { "a file", "maillog_file = /var/log/x\n", true, LOG_TO_FILE, 0600, 2 },
    { "its permissions", "maillog_file = /var/log/x\nmaillog_file_permissions = 0644\n", true, LOG_TO_FILE, 0644, 2 },
    { "no permissions", "maillog_file = /var/log/x\nmaillog_file_permissions = rw\n", false, LOG_TO_FILE, 0, 0 },
    { "elsewhere", "maillog_file = /srv/x\n", false, LOG_TO_FILE, 0, 0 },
    { "elsewhere, allowed", "maillog_file = /srv/x\nmaillog_file_prefixes = /var /srv\n", true, LOG_TO_FILE, 0600, 2 },
};

static void log_options_follow_the_parameters(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct conf_report report = { 0 };
        struct log_options lo;
        struct err e = ERR_INIT;
        struct conf *c = conf_load(&(struct conf_options){ .dir = "/nonexistent", .main_cf_text = rows[i].main_cf,
            .master_cf_text = "", .hostname = "hub.example.net" }, &report);
        if (c == NULL)
            fail_msg("%s: %s", rows[i].name, report.count ? report.items[0].text : "conf_load");
        conf_report_free(&report);
        bool ok = logging_options(c, false, &lo, &e);
        if (ok != rows[i].ok)
            fail_msg("%s: %s", rows[i].name, ok ? "accepted" : e.text);
        if (ok && (lo.dest != rows[i].dest || lo.mode != rows[i].mode || lo.facility != rows[i].facility))
            fail_msg("%s: destination %d, mode %o, facility %d", rows[i].name, (int)lo.dest, lo.mode, lo.facility);
        conf_unref(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(log_options_follow_the_parameters) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
