/* What is refused or warned about, where, and in which words. */
#include <unistd.h>
#include "tests/unit/unit.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/conf/param_table.h"
#include "common/conf/params.h"

#define LISTEN "smtp inet n - n - - smtpd\n"

struct finding_case {
    const char *name;
    const char *main_cf, *master_cf;
    enum conf_severity severity;
    int line;
    const char *text; /* part of the finding; NULL: nothing may be found */
};

static const struct finding_case cases[] = {
    { "clean", "", LISTEN, CONF_NOTE, 0, NULL },
    /* syntax */
    { "no equals sign", "a\n", LISTEN, CONF_ERROR, 1, "'=' expected" },
    { "no name", "= x\n", LISTEN, CONF_ERROR, 1, "name expected" },
    { "name with space", "\n\nmy name = x\n", LISTEN, CONF_ERROR, 3, "'=' expected" },
    { "leading blank", " mydomain = x\n", LISTEN, CONF_WARNING, 1, "no line that it continues" },
    { "twice", "mydomain = a.example\n#\nmydomain = b.example\n", LISTEN, CONF_WARNING, 3,
      "mydomain is defined again; its definition in line 1" },
    /* kinds */
    { "bad bool", "soft_bounce = maybe\n", LISTEN, CONF_ERROR, 1, "soft_bounce = maybe: expected yes or no" },
    { "empty bool", "soft_bounce =\n", LISTEN, CONF_ERROR, 1, "expected yes or no" },
    { "bad int", "\nmessage_size_limit = 20M\n", LISTEN, CONF_ERROR, 2, "expected a whole number" },
    { "negative int", "queue_minfree = -1\n", LISTEN, CONF_ERROR, 1, "expected a whole number" },
    { "empty int", "queue_minfree =\n", LISTEN, CONF_ERROR, 1, "expected a whole number" },
    { "int too large", "smtpd_recipient_limit = 99999999999\n", LISTEN, CONF_ERROR, 1, "expected a whole number" },
    { "reply code", "unknown_client_reject_code = 55\n", LISTEN, CONF_ERROR, 1, "from 200 to 599" },
    { "bad time", "queue_run_delay = 5x\n", LISTEN, CONF_ERROR, 1, "expected a time" },
    { "time below range", "smtpd_timeout = 0\n", LISTEN, CONF_ERROR, 1, "at least 1s" },
    { "time overflow", "smtpd_timeout = 9999999999999999w\n", LISTEN, CONF_ERROR, 1, "expected a time" },
    { "no ms for whole seconds", "smtpd_timeout = 5000ms\n", LISTEN, CONF_ERROR, 1, "expected a time such as 30s" },
    { "ms where they count", "index_flush_interval = 250ms\ndns_timeout = 100MS\n", LISTEN, CONF_NOTE, 0, NULL },
    { "too few ms", "index_flush_interval = 99ms\n", LISTEN, CONF_ERROR, 1, "at least 100ms" },
    { "ms of nothing", "dns_timeout = ms\n", LISTEN, CONF_ERROR, 1, "expected a time" },
    { "unit is told", "maximal_queue_lifetime = x\n", LISTEN, CONF_ERROR, 1, "a number alone means days" },
    { "bad word", "mynetworks_style = planet\n", LISTEN, CONF_ERROR, 1, "expected one of: class|subnet|host" },
    { "word or nothing", "smtpd_tls_security_level = always\n", LISTEN, CONF_ERROR, 1, "(or nothing)" },
    { "list of words", "notify_classes = bounce, 2Bounce delay\nsmtp_dns_resolver_options =\n", LISTEN, CONF_NOTE, 0, NULL },
    { "not in the list", "notify_classes = resource, softwear\n", LISTEN, CONF_ERROR, 1,
      "notify_classes = resource, softwear: expected words of this list: bounce|2bounce|" },
    { "client's list", "lmtp_dns_resolver_options = res_defname\n", LISTEN, CONF_ERROR, 1, "res_defnames|res_dnsrch" },
    { "list in an override", "", "smtp inet n - n - - smtpd -o receive_override_options=no_adress_mappings\n", CONF_ERROR, 1,
      "receive_override_options = no_adress_mappings" },
    { "bytes with suffix", "journal_segment_size = 16M\n", LISTEN, CONF_NOTE, 0, NULL },
    { "bytes below range", "journal_segment_size = 16\n", LISTEN, CONF_ERROR, 1, "expected a size" },
    { "empty name", "myhostname =\n", LISTEN, CONF_ERROR, 1, "myhostname = : it must not be empty" },
    { "bad client value", "smtp_connect_timeout = soon\n", LISTEN, CONF_ERROR, 1, "smtp_connect_timeout = soon" },
    { "bad default_", "default_destination_recipient_limit = many\n", LISTEN, CONF_ERROR, 1, "expected a whole" },
    { "bad <transport>_", "relay_destination_recipient_limit = many\n", LISTEN "relay unix - - n - - smtp\n",
      CONF_ERROR, 1, "relay_destination_recipient_limit = many" },
    { "bad feedback", "default_destination_concurrency_positive_feedback = 1/x\n", LISTEN, CONF_ERROR, 1,
      "NUMBER / concurrency" },
    { "only under stress", "smtpd_hard_error_limit = ${stress?{none}:{3}}\n", LISTEN, CONF_ERROR, 1, "= none: expected" },
    { "in an override", "", "smtp inet n - n - - smtpd -o smtpd_client_port_logging=2\n", CONF_ERROR, 1,
      "smtpd_client_port_logging = 2" },
    { "bad expansion", "mydomain = ${myhostname\n", LISTEN, CONF_ERROR, 1, "missing }" },
    { "loop", "mydomain = $myorigin\nmyorigin = $mydomain\n", LISTEN, CONF_ERROR, 1, "refers to itself" },
    /* seen together */
    { "hostname", "myhostname = no spaces\n", LISTEN, CONF_ERROR, 1, "expected a host name" },
    { "relayhost is me", "relayhost = mail.example.org\n", LISTEN, CONF_ERROR, 1, "it is this host itself" },
    { "relayhost is me, other port", "relayhost = [mail.example.org]:2525\n", LISTEN, CONF_WARNING, 1,
      "another port or address" },
    { "relayhost is another", "relayhost = [smtp.example.org]:25\n", LISTEN, CONF_NOTE, 0, NULL },
    { "protocols", "inet_protocols = ipv5\n", LISTEN, CONF_ERROR, 1, "expected all, ipv4, ipv6" },
    { "backoff", "minimal_backoff_time = 2h\n", LISTEN, CONF_WARNING, 0, "minimal_backoff_time is more" },
    { "origin file", "myorigin = /nonexistent/mailname\n", LISTEN, CONF_ERROR, 1, "/nonexistent/mailname" },
    /* relay control */
    { "open relay", "smtpd_relay_restrictions =\n", LISTEN, CONF_ERROR, 1, "would relay mail for anyone" },
    { "behind permit", "smtpd_relay_restrictions = permit_mynetworks, permit, reject_unauth_destination\n", LISTEN,
      CONF_ERROR, 1, "would relay mail for anyone" },
    { "only warned", "smtpd_relay_restrictions = warn_if_reject reject_unauth_destination\n", LISTEN, CONF_ERROR, 1,
      "would relay mail for anyone" },
    { "by recipient restrictions",
      "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks reject_unauth_destination\n",
      LISTEN, CONF_NOTE, 0, NULL },
    { "by reject", "smtpd_relay_restrictions = permit_mynetworks, reject\n", LISTEN, CONF_NOTE, 0, NULL },
    { "by a class", "smtpd_relay_restrictions = mine\nsmtpd_restriction_classes = mine\nmine = reject\n", LISTEN,
      CONF_NOTE, 0, NULL },
    { "by an unlisted class", "smtpd_relay_restrictions = mine\nmine = reject\n", LISTEN, CONF_ERROR, 1,
      "would relay" },
    { "open by override", "", "smtp inet n - n - - smtpd -o smtpd_relay_restrictions=\n", CONF_ERROR, 1,
      "service smtp would relay" },
    { "mended by override", "smtpd_relay_restrictions =\n",
      "smtp inet n - n - - smtpd -o smtpd_recipient_restrictions=permit_mynetworks,reject\n", CONF_NOTE, 0, NULL },
    { "nobody listens", "smtpd_relay_restrictions =\n", "", CONF_NOTE, 0, NULL },
    /* names */
    { "misspelt", "\nsmtpd_recipient_restriction = reject\n", LISTEN, CONF_WARNING, 2,
      "did you mean smtpd_recipient_restrictions?" },
    { "far from anything", "xyzzy = 1\n", LISTEN, CONF_WARNING, 1, "no parameter has this name" },
    { "macro", "mua_x = reject\nsmtpd_sender_restrictions = ${mua_x}\n", LISTEN, CONF_NOTE, 0, NULL },
    { "macro by override", "mua_x = reject\n", "smtp inet n - n - - smtpd -o smtpd_sender_restrictions=$mua_x\n",
      CONF_NOTE, 0, NULL },
    { "defined by override", "smtpd_sender_restrictions = $mua_x\n", "smtp inet n - n - - smtpd -o mua_x=reject\n",
      CONF_NOTE, 0, NULL },
    { "class", "smtpd_restriction_classes = a, b\na = reject\nb = permit\n", LISTEN, CONF_NOTE, 0, NULL },
    { "of a transport", "dovecot_destination_recipient_limit = 1\n", LISTEN "dovecot unix - n n - - pipe flags=D\n",
      CONF_NOTE, 0, NULL },
    { "of a spawned server", "policy_time_limit = 3600s\n", LISTEN "policy unix - n n - 0 spawn user=x argv=/bin/x\n",
      CONF_NOTE, 0, NULL },
    { "of no transport", "dovecot_destination_recipient_limit = 1\n", LISTEN, CONF_WARNING, 1, "no parameter has" },
    { "of a table", "virtual_alias_maps = ldap:people\npeople_server_host = x\n", LISTEN, CONF_NOTE, 0, NULL },
    { "misspelt in an override", "", "smtp inet n - n - - smtpd -o smtpd_tls_wraper_mode=yes\n", CONF_WARNING, 1,
      "did you mean smtpd_tls_wrappermode?" },
    /* master.cf */
    { "columns", "", "smtp inet n - n - smtpd\n", CONF_ERROR, 1, "the \"command\" column is missing" },
    { "type", "", "smtp inet6 n - n - - smtpd\n", CONF_ERROR, 1, "\"inet6\" found, inet, unix" },
    { "private", "", "smtp inet q - n - - smtpd\n", CONF_ERROR, 1, "column \"private\"" },
    { "wakeup", "", "qmgr unix n - n 5m 1 qmgr\n", CONF_ERROR, 1, "column \"wakeup\"" },
    { "maxproc", "", "smtp inet n - n - -1 smtpd\n", CONF_ERROR, 1, "column \"maxproc\"" },
    { "-o without anything", "", "smtp inet n - n - - smtpd -o\n", CONF_ERROR, 1, "-o needs" },
    { "-o without value", "", "smtp inet n - n - - smtpd -o abc\n", CONF_ERROR, 1, "-o abc" },
    { "-o with spaces", "", "smtp inet n - n - - smtpd -o a = b\n", CONF_ERROR, 1, "-o a:" },
    { "open brace", "", "\nsmtp inet n - n - - smtpd -o { a = b\n", CONF_ERROR, 2, "missing }" },
    { "behind a brace", "", "smtp inet n - n - - smtpd -o {a=b}c\n", CONF_ERROR, 1, "text directly behind }" },
    { "port name", "", "nosuchport inet n - n - - smtpd\n", CONF_ERROR, 1, "neither a port number nor" },
    { "IPv6 without brackets", "", "::1:25 inet n - n - - smtpd\n", CONF_ERROR, 1, "in brackets" },
    { "service twice", "", LISTEN LISTEN, CONF_WARNING, 2, "service smtp inet is given again; line 1" },
    { "same name, other type", "", LISTEN "smtp unix - - n - - smtp\n", CONF_NOTE, 0, NULL },
    { "master leading blank", "", "  -o a=b\n", CONF_WARNING, 1, "no line that it continues" },
};

static bool has_finding(const struct conf_report *r, const struct finding_case *t)
{
    for (size_t i = 0; i < r->count; i++) {
        if (r->items[i].severity == t->severity && r->items[i].line == t->line &&
            strstr(r->items[i].text, t->text) != NULL)
            return true;
    }
    return false;
}

static void test_findings(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct finding_case *t = &cases[i];
        struct conf_options o = { .main_cf_text = t->main_cf, .master_cf_text = t->master_cf,
                                  .hostname = "mail.example.org" };
        struct conf_report r;
        struct conf *c = conf_load(&o, &r);
        const char *first = r.count ? r.items[0].text : "nothing found";
        if (t->text == NULL && r.count > 0)
            fail_msg("%s: found \"%s\"", t->name, first);
        if (t->text != NULL && !has_finding(&r, t))
            fail_msg("%s: found \"%s\" (line %d)", t->name, first, r.count ? r.items[0].line : 0);
        if ((c == NULL) != (t->severity == CONF_ERROR))
            fail_msg("%s: %s", t->name, c ? "was accepted" : "was refused");
        conf_unref(&c);
        conf_report_free(&r);
    }
}

static void test_origin_from_file(void **state)
{
    (void)state;
    char path[] = "/tmp/posthouse-mailname-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "site.example\nrest\n", 18), 18);
    close(fd);
    char *text = xasprintf("myorigin = %s\n", path);
    struct conf_options o = { .main_cf_text = text, .master_cf_text = LISTEN, .hostname = "mail.example.org" };
    struct conf_report r;
    struct conf *c = conf_load(&o, &r);
    assert_non_null(c);
    assert_string_equal(conf_global(c)->myorigin, "site.example");
    conf_unref(&c);
    conf_report_free(&r);
    unlink(path);
    free(text);
}

struct near_case {
    const char *name, *want;
};

static const struct near_case near_cases[] = {
    { "mydestinations", "mydestination" },   { "smptd_banner", "smtpd_banner" },
    { "smtp_tls_securitylevel", "smtp_tls_security_level" }, { "mynetwork", "mynetworks" },
    { "qqqqqqqqqqqqqq", NULL },              { "", NULL },
};

static void test_nearest(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(near_cases); i++) {
        const char *got = param_nearest(span_cstr(near_cases[i].name));
        if (near_cases[i].want == NULL)
            assert_null(got);
        else
            assert_string_equal(got ? got : "nothing", near_cases[i].want);
    }
}

/* A default must satisfy its own row, and the tables must hold no name twice. */
static void test_tables_are_consistent(void **state)
{
    (void)state;
    struct param_index *ix = param_index_new();
    for (size_t i = 0; i < param_count(); i++) {
        const struct param_row *row = param_row(i);
        if (row->name != NULL)
            assert_int_equal(param_find(ix, span_cstr(row->name)), i);
        if (row->kind == PARAM_INT || row->kind == PARAM_TIME || row->kind == PARAM_BYTES)
            assert_true(row->min < row->max);
    }
    assert_int_equal(param_find(ix, SPAN_LIT("nosuch")), -1);
    param_index_free(&ix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_findings),
        cmocka_unit_test(test_origin_from_file),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_tables_are_consistent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
