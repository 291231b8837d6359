/* Snapshots: file syntax, values per service, stress, transports, reference counting. */
#include "tests/unit/unit.h"
#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/conf/conf_internal.h"
#include "common/conf/conf_lines.h"
#include "common/conf/params.h"

static const char stock_master[] =
    "smtp inet n - y - - smtpd\n"
    "submission inet n - y - - smtpd\n"
    "  -o syslog_name=postfix/submission\n"
    "  # a comment in the middle\n"
    "  -o { smtpd_recipient_restrictions = permit_sasl_authenticated, reject }\n"
    "  -osmtpd_timeout=20s -v\n"
    "pickup unix n - y 60 1 pickup\n"
    "qmgr fifo n - n 300? 1 qmgr\n"
    "smtp unix - - y - - smtp\n"
    "relay unix - - y - 7 smtp\n"
    "        -o syslog_name=postfix/$service_name -o smtp_helo_timeout=5 -o smtp_connect_timeout=5\n"
    "lmtp unix - - y - 0 lmtp\n"
    "error unix - - y - - error\n"
    "maildrop unix - n n - - pipe flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient} { a b }\n";

static struct conf *load(const char *main_cf, const char *master_cf, struct conf_report *r)
{
    struct conf_options o = { .main_cf_text = main_cf, .master_cf_text = master_cf, .hostname = "mail.example.org" };
    return conf_load(&o, r);
}

static struct conf *load_good(const char *main_cf, const char *master_cf)
{
    struct conf_report r;
    struct conf *c = load(main_cf, master_cf, &r);
    if (c == NULL)
        fail_msg("line %d: %s", r.items[0].line, r.items[0].text);
    conf_report_free(&r);
    return c;
}

static const struct conf_service *service(const struct conf *c, const char *name, enum conf_service_type type)
{
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *s = conf_service(c, i);
        if (strcmp(s->name, name) == 0 && s->type == type)
            return s;
    }
    fail_msg("no service %s", name);
    return NULL;
}

struct line_case {
    const char *name, *text, *want; /* lines as "first-last:text|" */
};

static const struct line_case line_cases[] = {
    { "empty", "", "" },
    { "only comments", "# a\n\n  \n\t# b\n", "" },
    { "one", "a = b\n", "1-1:a = b|" },
    { "no newline at the end", "a = b", "1-1:a = b|" },
    { "continued", "a = b\n  c\n\td\ne = f\n", "1-3:a = b  c\td|4-4:e = f|" },
    { "comment inside", "a = b\n# x\n  # y\n\n  c\nd = e\n", "1-5:a = b  c|6-6:d = e|" },
    { "blank line does not end it", "a = b\n \t \n  c\n", "1-3:a = b  c|" },
    { "hash inside is text", "a = b # c\n", "1-1:a = b # c|" },
    { "leading blank", "  a = b\n", "1-1:  a = b|" },
    { "CRLF", "a = b\r\nc = d\r\n", "1-1:a = b|2-2:c = d|" },
};

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(line_cases); i++) {
        struct conf_lines r;
        struct conf_line line = { .text = BUF_INIT(0) };
        struct buf got = BUF_INIT(0);
        conf_lines_init(&r, span_cstr(line_cases[i].text));
        while (conf_lines_next(&r, &line))
            buf_printf(&got, "%d-%d:%s|", line.first, line.last, buf_cstr(&line.text));
        if (strcmp(buf_cstr(&got), line_cases[i].want) != 0)
            fail_msg("%s: %s", line_cases[i].name, buf_cstr(&got));
        buf_free(&got);
        conf_line_free(&line);
    }
}

struct list_case {
    const char *text, *want; /* items as "item|", braced ones as "{item}|" */
};

static const struct list_case list_cases[] = {
    { "", "" },
    { " , ,\t", "" },
    { "a b,c", "a|b|c|" },
    { "{ a b }, c", "{a b}|c|" },
    { "inline:{ a=b, {c = d e} } hash:/x", "inline:{ a=b, {c = d e} }|hash:/x|" },
    { "check_policy_service { inet:127.0.0.1:1, timeout = 1s } reject",
      "check_policy_service|{inet:127.0.0.1:1, timeout = 1s}|reject|" },
    { "{}", "{}|" },
    { "{ a", "{ a|" },
    { "[::1]:25,!10.0.0.0/8", "[::1]:25|!10.0.0.0/8|" },
};

static void test_lists(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(list_cases); i++) {
        struct span rest = span_cstr(list_cases[i].text), item;
        struct buf got = BUF_INIT(0);
        bool braced;
        while (conf_list_next(&rest, &item, &braced))
            buf_printf(&got, braced ? "{%.*s}|" : "%.*s|", SPAN_ARG(item));
        if (strcmp(buf_cstr(&got), list_cases[i].want) != 0)
            fail_msg("%s: %s", list_cases[i].text, buf_cstr(&got));
        buf_free(&got);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    struct conf *c = load_good("", stock_master);
    const struct params *p = conf_global(c);
    assert_string_equal(p->myhostname, "mail.example.org");
    assert_string_equal(p->mydomain, "example.org");
    assert_string_equal(p->myorigin, "mail.example.org");
    assert_string_equal(p->mydestination, "mail.example.org, localhost.example.org, localhost");
    assert_int_equal(p->message_size_limit, 10240000);
    assert_int_equal(p->maximal_queue_lifetime, INT64_C(5) * 86400 * 1000);
    assert_int_equal(p->delay_warning_time, 0);
    assert_int_equal(p->spool_message_buffer_limit, 256 * 1024);
    assert_true(p->smtputf8_enable);
    assert_false(p->soft_bounce);
    assert_string_equal(p->smtpd_forbid_bare_newline, "normalize");
    assert_string_equal(p->bounce2_notice_recipient, "postmaster");
    /* kept for later: these are expanded when a reply is made */
    assert_non_null(strstr(p->default_rbl_reply, "$rbl_code"));
    assert_non_null(strstr(p->mynetworks, "127.0.0.1/32"));
    conf_unref(&c);
    assert_null(c);
}

/* LEDGER: mydomain */
static void test_hostname_without_domain(void **state)
{
    (void)state;
    struct conf_options o = { .main_cf_text = "", .master_cf_text = "", .hostname = "box" };
    struct conf_report r;
    struct conf *c = conf_load(&o, &r);
    assert_non_null(c);
    assert_string_equal(conf_global(c)->myhostname, "box.localdomain");
    assert_string_equal(conf_global(c)->mydomain, "localdomain");
    conf_unref(&c);
    conf_report_free(&r);
    o.main_cf_text = "mydomain = example.net\n";
    c = conf_load(&o, &r);
    assert_non_null(c);
    assert_string_equal(conf_global(c)->myhostname, "box.example.net");
    conf_unref(&c);
    conf_report_free(&r);
}

static void test_services(void **state)
{
    (void)state;
    struct conf *c = load_good("smtpd_timeout = ${stress?{10}:{300}}s\n", stock_master);
    const struct conf_service *in = service(c, "smtp", SVC_INET), *sub = service(c, "submission", SVC_INET);
    assert_int_equal(in->role, SVC_LISTENER);
    assert_string_equal(in->host, "");
    assert_string_equal(in->port, "smtp");
    assert_int_equal(in->maxproc, 100);
    assert_false(in->is_private);
    assert_true(in->chroot);
    /* no overrides: the global values themselves */
    assert_ptr_equal(in->p, conf_global(c));
    assert_int_equal(in->p->smtpd_timeout, 300000);
    assert_int_equal(in->p_stress->smtpd_timeout, 10000);
    assert_int_equal(in->p_stress->smtpd_hard_error_limit, 1);
    assert_int_equal(in->p->smtpd_hard_error_limit, 20);

    assert_ptr_not_equal(sub->p, conf_global(c));
    assert_string_equal(sub->p->syslog_name, "postfix/submission");
    assert_string_equal(sub->p->smtpd_recipient_restrictions, "permit_sasl_authenticated, reject");
    assert_int_equal(sub->p->smtpd_timeout, 20000);
    assert_int_equal(sub->p_stress->smtpd_timeout, 20000);
    assert_int_equal(sub->p_stress->smtpd_junk_command_limit, 1);
    assert_int_equal(sub->argc, 0);

    assert_int_equal(service(c, "pickup", SVC_UNIX)->role, SVC_INTERNAL);
    assert_int_equal(service(c, "qmgr", SVC_FIFO)->role, SVC_INTERNAL);
    const struct conf_service *pipe = service(c, "maildrop", SVC_UNIX);
    assert_int_equal(pipe->role, SVC_UNSUPPORTED);
    assert_int_equal(pipe->argc, 6);
    assert_string_equal(pipe->argv[0], "flags=DRXhu");
    assert_string_equal(pipe->argv[3], "-d");
    assert_string_equal(pipe->argv[5], "a b");
    assert_null(pipe->argv[6]);
    conf_unref(&c);
}

static void test_transports(void **state)
{
    (void)state;
    struct conf *c = load_good("relay_destination_concurrency_limit = 3\n"
                               "default_destination_concurrency_limit = 11\n"
                               "smtp_destination_rate_delay = 2m\n"
                               "default_destination_concurrency_negative_feedback = 1/sqrt_concurrency\n"
                               "error_initial_destination_concurrency = $relay_destination_concurrency_limit\n"
                               "lmtp_connect_timeout = 1m\n",
                               stock_master);
    const struct conf_service *smtp = conf_transport(c, SPAN_LIT("smtp")), *relay = conf_transport(c, SPAN_LIT("relay")),
                              *lmtp = conf_transport(c, SPAN_LIT("lmtp")), *error = conf_transport(c, SPAN_LIT("error"));
    assert_null(conf_transport(c, SPAN_LIT("maildrop")));
    assert_null(conf_transport(c, SPAN_LIT("nobody")));
    assert_int_equal(smtp->limits.destination_concurrency_limit, 11);
    assert_int_equal(smtp->limits.destination_rate_delay_ms, 120000);
    assert_int_equal(relay->limits.destination_concurrency_limit, 3);
    assert_int_equal(relay->limits.destination_rate_delay_ms, 0);
    assert_string_equal(relay->limits.destination_concurrency_negative_feedback, "1/sqrt_concurrency");
    assert_int_equal(error->limits.initial_destination_concurrency, 3);
    assert_int_equal(relay->maxproc, 7);
    assert_int_equal(lmtp->maxproc, 0);
    /* client parameters of the right protocol, with -o */
    assert_int_equal(smtp->client->connect_timeout, 30000);
    assert_int_equal(relay->client->connect_timeout, 5000);
    assert_int_equal(relay->client->helo_timeout, 5000);
    assert_int_equal(lmtp->client->connect_timeout, 60000);
    assert_string_equal(smtp->client->tcp_port, "smtp");
    assert_string_equal(lmtp->client->tcp_port, "24");
    assert_string_equal(smtp->client->helo_name, "mail.example.org");
    assert_null(error->client);
    /* $service_name differs */
    assert_string_equal(relay->p->syslog_name, "postfix/relay");
    conf_unref(&c);
}

/* A port that postscreen guards is served by smtpd with what the line behind it says. */
static void test_postscreen_is_served(void **state)
{
    (void)state;
    struct conf_report r;
    struct conf *c = load("", "smtp inet n - y - 1 postscreen\n"
                              "smtpd pass - - y - 33 smtpd\n  -o smtpd_timeout=44s\n"
                              "dnsblog unix - - y - 0 dnsblog\n", &r);
    assert_non_null(c);
    const struct conf_service *s = service(c, "smtp", SVC_INET);
    assert_int_equal(s->role, SVC_LISTENER);
    assert_string_equal(s->command, "smtpd");
    assert_int_equal(s->p->smtpd_timeout, 44000);
    assert_int_equal(s->maxproc, 33);
    assert_int_equal(service(c, "smtpd", SVC_PASS)->role, SVC_INTERNAL);
    assert_int_equal(service(c, "dnsblog", SVC_UNIX)->role, SVC_INTERNAL);
    bool told = false;
    for (size_t i = 0; i < r.count; i++)
        told = told || (r.items[i].line == 1 && strstr(r.items[i].text, "postscreen") != NULL);
    assert_true(told);
    conf_report_free(&r);
    conf_unref(&c);
}

static void test_service_name_in_main_cf(void **state)
{
    (void)state;
    struct conf *c = load_good("syslog_name = x-$service_name-$process_name\n", stock_master);
    assert_string_equal(service(c, "smtp", SVC_INET)->p->syslog_name, "x-smtp-smtpd");
    assert_string_equal(conf_transport(c, SPAN_LIT("lmtp"))->p->syslog_name, "x-lmtp-lmtp");
    assert_string_equal(conf_global(c)->syslog_name, "x--posthoused");
    conf_unref(&c);
}

/* LEDGER: stress */
static void test_stress_can_be_fixed(void **state)
{
    (void)state;
    struct conf *c = load_good("", "25 inet n - n - - smtpd -o stress=\n26 inet n - n - - smtpd -o stress=yes\n");
    assert_int_equal(service(c, "25", SVC_INET)->p_stress->smtpd_timeout, 300000);
    assert_int_equal(service(c, "26", SVC_INET)->p->smtpd_timeout, 10000);
    conf_unref(&c);
}

/* However a scope came by its values: each is what its definition or default expands to there, and stored as that. */
static void test_rows_mean_what_they_expand_to(void **state)
{
    (void)state;
    static const char main_cf[] = "smtpd_timeout = ${stress?7}${stress:8}s\nmail_name = m\nsmtpd_banner = $a $mail_name\na = $service_name\n";
    struct conf *c = load_good(main_cf, "25 inet n - n - - smtpd\n26 inet n - n - - smtpd\n -o mail_name=n -o relay_domains=$a\n"
                                        "smtp unix - - n - - smtp -o smtp_helo_name=$mail_name -o mynetworks=10.0.0.1\n");
    size_t scopes = 0;
    for (const struct conf_values *v = c->values; v != NULL; v = v->next, scopes++) {
        for (size_t i = 0; i < param_count(); i++) {
            const struct param_row *row = param_row(i);
            struct buf b = BUF_INIT(0);
            struct err e = ERR_INIT;
            assert_true(row->name ? conf_scope_expand(&v->scope, span_cstr(row->name), &b, &e) : conf_scope_expand_text(&v->scope, row->def, &b, &e));
            if (strcmp(v->text[i], buf_cstr(&b)) != 0)
                fail_msg("%s of \"%s\": %s, not %s", row->name, v->scope.service_name, v->text[i], buf_cstr(&b));
            buf_free(&b);
        }
    }
    assert_int_equal(scopes, 6); /* all, each service, each listener under stress */
    assert_int_equal(conf_service(c, 1)->p->smtpd_timeout, 8000);
    assert_int_equal(conf_service(c, 1)->p_stress->smtpd_timeout, 7000);
    assert_string_equal(conf_service(c, 1)->p->relay_domains, "26");
    assert_string_equal(conf_service(c, 1)->p->smtpd_banner, "26 n");
    assert_int_equal(conf_service(c, 1)->p->smtpd_error_sleep_time, conf_global(c)->smtpd_error_sleep_time);
    assert_string_equal(conf_service(c, 2)->client->helo_name, "m");
    conf_unref(&c);
}

static void test_text_of_user_names(void **state)
{
    (void)state;
    struct conf *c = load_good("smtpd_restriction_classes = greet\n"
                               "greet = reject_unknown_sender_domain, $more\n"
                               "more = permit\n",
                               "smtp inet n - n - - smtpd -o more=reject\n");
    assert_string_equal(conf_text(c, NULL, SPAN_LIT("greet")), "reject_unknown_sender_domain, permit");
    assert_string_equal(conf_text(c, service(c, "smtp", SVC_INET), SPAN_LIT("greet")),
                        "reject_unknown_sender_domain, reject");
    assert_string_equal(conf_text(c, NULL, SPAN_LIT("smtpd_banner")), "mail.example.org ESMTP Posthouse");
    assert_null(conf_text(c, NULL, SPAN_LIT("nobody_defined_this")));
    conf_unref(&c);
}

/* LEDGER: mynetworks_style. Every system has 127.0.0.1/8 on its loopback interface. */
static void test_networks_by_style(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } styles[] = {
        { "inet_interfaces = loopback-only\ninet_protocols = ipv4\nmynetworks_style = host\n", "127.0.0.1/32" },
        { "inet_interfaces = loopback-only\ninet_protocols = ipv4\nmynetworks_style = subnet\n", "127.0.0.0/8" },
        { "inet_interfaces = 127.0.0.1\nmynetworks_style = class\n", "127.0.0.0/8" },
        { "mynetworks_style = subnet\nmynetworks = 192.0.2.0/24\n", "192.0.2.0/24" },
    };
    for (size_t i = 0; i < ARRAY_LEN(styles); i++) {
        struct conf *c = load_good(styles[i].text, "");
        assert_string_equal(conf_global(c)->mynetworks, styles[i].want);
        conf_unref(&c);
    }
}

struct address_case {
    const char *name, *host, *port;
};

static const struct address_case address_cases[] = {
    { "25", "", "25" },
    { "127.0.0.1:10025", "127.0.0.1", "10025" },
    { "[::1]:0", "::1", "0" },
    { "localhost:smtp", "localhost", "smtp" },
    { "[mail.example.org]:submission", "mail.example.org", "submission" },
    { "submissions", "", "submissions" },
};

static void test_listener_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(address_cases); i++) {
        const struct address_case *t = &address_cases[i];
        char *master = xasprintf("%s inet n - n - - smtpd\n", t->name);
        struct conf *c = load_good("", master);
        assert_string_equal(conf_service(c, 0)->host, t->host);
        assert_string_equal(conf_service(c, 0)->port, t->port);
        conf_unref(&c);
        free(master);
    }
}

static void test_references(void **state)
{
    (void)state;
    struct conf *a = load_good("", ""), *b = conf_ref(a), *other = load_good("", "");
    assert_true(conf_generation(other) > conf_generation(a));
    conf_unref(&a);
    assert_string_equal(conf_global(b)->mydomain, "example.org");
    conf_unref(&b);
    conf_unref(&b);
    conf_unref(&other);
}

static void test_missing_files(void **state)
{
    (void)state;
    struct conf_options o = { .dir = "/nonexistent/posthouse" };
    struct conf_report r;
    assert_null(conf_load(&o, &r));
    assert_int_equal(r.count, 2);
    assert_non_null(strstr(r.items[0].text, "/nonexistent/posthouse/main.cf"));
    conf_report_free(&r);
}

/* The only address of a family in inet_interfaces is where mail comes from, unless it is a loopback address. */
static void test_source_addresses(void **state)
{
    static const struct { const char *interfaces, *source4, *source6; } rows[] = {
        { "all", "", "" },
        { "loopback-only", "", "" },
        { "127.0.0.1, ::1", "", "" },
        { "192.0.2.7", "192.0.2.7", "" },
        { "192.0.2.7, [2001:db8::7] 192.0.2.7", "192.0.2.7", "2001:db8::7" },
        { "192.0.2.7 192.0.2.8 2001:db8::7", "", "2001:db8::7" },
        { "192.0.2.7, 127.0.0.1", "", "" },
        { "192.0.2.7, localhost", "", "" },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *main_cf = xasprintf("mynetworks = 127.0.0.1\ninet_interfaces = %s\n", rows[i].interfaces);
        struct conf *c = load_good(main_cf, "smtp unix - - n - - smtp\nother unix - - n - - lmtp -o inet_interfaces=192.0.2.9\n");
        const struct conf_service *s = conf_service(c, 0);
        assert_string_equal(s->source4, rows[i].source4);
        assert_string_equal(s->source6, rows[i].source6);
        assert_string_equal(conf_service(c, 1)->source4, "192.0.2.9");
        conf_unref(&c);
        free(main_cf);
    }
}

/* What `make mutate` relies on; builds for production do not know the variable. */
static void test_ignored_parameter(void **state)
{
    static const struct {
        const char *name;
        int64_t timeout_ms, limit; /* of the relay transport */
        bool helo_required;
    } rows[] = {
        { "", 5000, 3, true },
        { "smtp_helo_timeout", 300000, 3, true },
        { "smtpd_helo_required", 5000, 3, false },
        { "default_destination_concurrency_limit", 5000, 20, true },
        { "default_recipient_limit", 5000, 3, true }, /* its suffix ends other names too */
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(setenv("POSTHOUSE_IGNORE_PARAMETER", rows[i].name, 1), 0);
        struct conf *c = load_good("smtpd_helo_required = yes\nrelay_destination_concurrency_limit = 3\n"
                                   "default_destination_concurrency_limit = 4\nrelay_destination_recipient_limit = 7\n",
                                   stock_master);
        const struct conf_service *relay = service(c, "relay", SVC_UNIX);
#ifdef POSTHOUSE_DEBUG
        size_t want = i;
#else
        size_t want = 0;
#endif
        assert_int_equal(relay->client->helo_timeout, rows[want].timeout_ms);
        assert_int_equal(relay->limits.destination_concurrency_limit, rows[want].limit);
        assert_int_equal(relay->limits.destination_recipient_limit, 7);
        assert_int_equal(conf_global(c)->smtpd_helo_required, rows[want].helo_required);
        conf_unref(&c);
    }
    unsetenv("POSTHOUSE_IGNORE_PARAMETER");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_hostname_without_domain),
        cmocka_unit_test(test_services),
        cmocka_unit_test(test_transports),
        cmocka_unit_test(test_postscreen_is_served),
        cmocka_unit_test(test_service_name_in_main_cf),
        cmocka_unit_test(test_stress_can_be_fixed),
        cmocka_unit_test(test_rows_mean_what_they_expand_to),
        cmocka_unit_test(test_text_of_user_names),
        cmocka_unit_test(test_listener_addresses),
        cmocka_unit_test(test_networks_by_style),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_missing_files),
        cmocka_unit_test(test_source_addresses),
        cmocka_unit_test(test_ignored_parameter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
