/* posthousectl conf: output as postconf(1) gives it, and edits that touch nothing else. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/unit.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "daemon/ctl_conf.h"

static const char main_cf[] =
    "# first\n"
    "myhostname = mail.example.org\n"
    "\n"
    "smtpd_banner = $myhostname\n"
    "    # inside\n"
    "    ESMTP   here\n"
    "mynetworks_style = host\n"
    "my_macro = x\n"
    "relay_domains = $my_macro\n"
    "queue_run_delay = 1m\n"
    "queue_run_delay = 2m\n"
    "# last\n";

static const char master_cf[] =
    "# services\n"
    "smtp inet n - y - - smtpd\n"
    "  -o { smtpd_banner = a b } -o syslog_name=$myhostname/x\n"
    "# between\n"
    "relay unix - - n - 5 smtp\n";

struct fixture {
    char dir[64];
};

static void write_text(const char *dir, const char *name, const char *text)
{
    char *path = xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    free(path);
}

static char *read_text(const char *dir, const char *name)
{
    struct buf b = BUF_INIT(0);
    char *path = xasprintf("%s/%s", dir, name);
    assert_true(io_read_file(path, &b, NULL));
    free(path);
    return b.n ? buf_detach(&b) : xstrdup("");
}

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/posthouse-conf-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    write_text(f->dir, "main.cf", main_cf);
    write_text(f->dir, "master.cf", master_cf);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = { "main.cf", "master.cf" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path = xasprintf("%s/%s", f->dir, names[i]);
        unlink(path);
        free(path);
    }
    int rc = rmdir(f->dir); /* fails when a temporary file was left behind */
    free(f);
    return rc;
}

/* Runs "conf ARGS" (separated by '|'), compares the status and standard output; *complaint (optional) is part of the other. */
static void run(struct fixture *f, const char *args, int want_rc, const char *want_out, const char *complaint)
{
    char *argv[16] = { (char[]){ "conf" } }, *copy = xstrdup(args), *out = NULL, *err = NULL;
    size_t out_len, err_len;
    int argc = 1;
    for (char *at = copy, *next; at != NULL && *at != '\0'; at = next) {
        next = strchr(at, '|');
        if (next != NULL)
            *next++ = '\0';
        argv[argc++] = at;
    }
    FILE *o = open_memstream(&out, &out_len), *e = open_memstream(&err, &err_len);
    int rc = ctl_conf_to(f->dir, argc, argv, o, e);
    fclose(o);
    fclose(e);
    if (rc != want_rc || (want_out != NULL && strcmp(out, want_out) != 0) ||
        (complaint != NULL && strstr(err, complaint) == NULL))
        fail_msg("conf %s: status %d\n%s\n%s", args, rc, out, err);
    free(copy);
    free(out);
    free(err);
}

static void expect_file(struct fixture *f, const char *name, const char *want)
{
    char *text = read_text(f->dir, name);
    assert_string_equal(text, want);
    free(text);
}

static void test_show(void **state)
{
    struct fixture *f = *state;
    char *set = xasprintf("config_directory = %s\nmy_macro = x\nmyhostname = mail.example.org\nmynetworks_style = host\n"
                          "queue_run_delay = 2m\nrelay_domains = $my_macro\nsmtpd_banner = $myhostname ESMTP here\n",
                          f->dir);
    run(f, "-n", 0, set, "line 11: warning: queue_run_delay is defined again");
    free(set);
    run(f, "smtpd_banner|relayhost", 0, "smtpd_banner = $myhostname ESMTP here\nrelayhost =\n", NULL);
    run(f, "-x|smtpd_banner", 0, "smtpd_banner = mail.example.org ESMTP here\n", NULL);
    run(f, "-xh|smtpd_banner|relay_domains", 0, "mail.example.org ESMTP here\nx\n", NULL);
    run(f, "-d|smtpd_banner", 0, "smtpd_banner = $myhostname ESMTP $mail_name\n", NULL);
    run(f, "-dx|queue_run_delay", 0, "queue_run_delay = 300s\n", NULL);
    run(f, "relay_destination_recipient_limit", 0, "relay_destination_recipient_limit = $default_destination_recipient_limit\n", NULL);
    run(f, "-o|default_destination_recipient_limit=7|-x|relay_destination_recipient_limit", 0,
        "relay_destination_recipient_limit = 7\n", NULL);
    run(f, "-o|relay_destination_recipient_limit=3|relay_destination_recipient_limit", 0, "relay_destination_recipient_limit = 3\n", NULL);
    run(f, "-H|queue_run_delay", 0, "queue_run_delay\n", NULL);
    run(f, "-j|queue_run_delay", 0, "{\"name\": \"queue_run_delay\", \"value\": \"2m\"}\n", NULL);
    run(f, "default_rbl_reply|-x", 1, NULL, "-x: unknown parameter");
    run(f, "-x|default_rbl_reply", 0,
        "default_rbl_reply = $rbl_code Service unavailable; $rbl_class [$rbl_what] blocked using "
        "$rbl_domain${rbl_reason?; $rbl_reason}\n", NULL);
    run(f, "smtp_conect_timeout", 1, "", "smtp_conect_timeout: unknown parameter; did you mean smtp_connect_timeout?");
    run(f, "-d|my_macro", 1, "", "unknown parameter");
    run(f, "-o|my_macro=y|-ofresh=$my_macro|-x|relay_domains|fresh", 0, "relay_domains = y\nfresh = y\n", NULL);
    run(f, "-o|my_macro", 64, "", "usage:");
    run(f, "-z", 64, "", "usage:");
    run(f, "-X", 64, "", "usage:");
}

static void test_all_names_are_listed(void **state)
{
    struct fixture *f = *state;
    char *argv[] = { (char[]){ "conf" }, (char[]){ "-dH" }, NULL }, *out = NULL;
    size_t len;
    FILE *o = open_memstream(&out, &len);
    assert_int_equal(ctl_conf_to(f->dir, 2, argv, o, stderr), 0);
    fclose(o);
    static const char *const names[] = { "\nrelay_destination_rate_delay\n", "\nrelay_recipient_limit\n", "\nsmtpd_banner\n" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *first = strstr(out, names[i]);
        assert_non_null(first);
        assert_null(strstr(first + 1, names[i]));
    }
    assert_null(strstr(out, "\nrelay_time_limit\n")); /* of pipe(8) and spawn(8) alone */
    assert_null(strstr(out, "\nmy_macro\n"));
    free(out);
}

static void test_show_master(void **state)
{
    struct fixture *f = *state;
    run(f, "-M", 0,
        "smtp       inet  n       -       y       -       -       smtpd -o {smtpd_banner=a b} -o "
        "syslog_name=$myhostname/x\n"
        "relay      unix  -       -       n       -       5       smtp\n", NULL);
    run(f, "-Mf|smtp/inet", 0,
        "smtp       inet  n       -       y       -       -       smtpd\n    -o {smtpd_banner=a b}\n"
        "    -o syslog_name=$myhostname/x\n", NULL);
    run(f, "-Mx|smtp/inet", 0,
        "smtp       inet  n       -       y       -       -       smtpd -o {smtpd_banner=a b} -o "
        "syslog_name=mail.example.org/x\n", NULL);
    run(f, "-Fx|smtp/inet/command", 0,
        "smtp/inet/command = smtpd -o {smtpd_banner=a b} -o syslog_name=mail.example.org/x\n", NULL);
    run(f, "-M|nosuch", 1, "", "nosuch: nothing like this");
    run(f, "-P", 0, "smtp/inet/smtpd_banner = a b\nsmtp/inet/syslog_name = $myhostname/x\n", NULL);
    run(f, "-Px|smtp/inet/syslog_name", 0, "smtp/inet/syslog_name = mail.example.org/x\n", NULL);
    run(f, "-F|relay/unix/process_limit|relay/*/chroot", 0, "relay/unix/process_limit = 5\nrelay/unix/chroot = n\n", NULL);
    run(f, "-jM|relay", 0,
        "{\"service\": \"relay\", \"type\": \"unix\", \"private\": \"-\", \"unprivileged\": \"-\", \"chroot\": \"n\", "
        "\"wakeup\": \"-\", \"process_limit\": \"5\", \"command\": \"smtp\"}\n", NULL);
}

static void test_edit(void **state)
{
    struct fixture *f = *state;
    char *path = xasprintf("%s/main.cf", f->dir);
    struct stat st;
    assert_int_equal(chmod(path, 0640), 0);
    run(f, "smtpd_banner=$myhostname ready|queue_run_delay = 5m|relayhost=[a.example]:25", 0, "", NULL);
    expect_file(f, "main.cf",
                "# first\nmyhostname = mail.example.org\n\nsmtpd_banner = $myhostname ready\n    # inside\n"
                "mynetworks_style = host\nmy_macro = x\nrelay_domains = $my_macro\nqueue_run_delay = 5m\n# last\n"
                "relayhost = [a.example]:25\n");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    run(f, "-#|mynetworks_style|relayhost", 0, "", NULL);
    run(f, "-X|queue_run_delay", 0, "", NULL);
    expect_file(f, "main.cf",
                "# first\nmyhostname = mail.example.org\n\nsmtpd_banner = $myhostname ready\n    # inside\n"
                "#mynetworks_style = host\nmy_macro = x\nrelay_domains = $my_macro\n# last\n"
                "#relayhost = [a.example]:25\n");
    run(f, "-e|relay_domains=", 0, "", NULL);
    run(f, "relay_domains", 0, "relay_domains =\n", NULL);
    run(f, "relayhost=[b.example]", 0, "", NULL);
    run(f, "-x|address_verify_relayhost", 0, "address_verify_relayhost = [b.example]\n", NULL);
    run(f, "-dx|address_verify_relayhost", 0, "address_verify_relayhost =\n", NULL);
    free(path);
}

static void test_bad_edits_change_nothing(void **state)
{
    struct fixture *f = *state;
    run(f, "relayhost=b.example|queue_minfree=lots", 1, "", "queue_minfree = lots: expected a whole number");
    run(f, "relayhost=b.example\nx = y", 1, "", "on one line");
    run(f, "#a=b", 1, "", "not a name");
    run(f, "-e|relayhost", 1, "", "'=' expected");
    run(f, "-X|relayhost", 0, "", "warning: relayhost: not defined");
    run(f, "-X|relayhost=", 1, "", "without a value");
    run(f, "myhostname=", 1, "", "must not be empty");
    expect_file(f, "main.cf", main_cf);
    run(f, "-Me|x/unix=x unix - - n smtp", 1, "", "the \"maxproc\" column is missing");
    run(f, "-F|smtp/inet/chroot=maybe", 1, "", "column \"chroot\"");
    run(f, "-F|smtp/inet/colour=red", 1, "", "no such field");
    run(f, "-P|nosuch/inet/a=b", 1, "", "no such service");
    run(f, "-F|*/unix/colour=red", 1, "", "no such field");
    run(f, "-F|*/*/chroot=maybe", 1, "", "column \"chroot\"");
    run(f, "-PX|relay/unix/a", 0, "", "warning: relay/unix/a: there is no such -o setting");
    run(f, "-MX|relay/inet", 0, "", "warning: relay/inet: there is no such service");
    run(f, "-MX|relay", 1, "", "SERVICE/TYPE");
    expect_file(f, "master.cf", master_cf);
}

static void test_unknown_name_is_set_with_a_warning(void **state)
{
    struct fixture *f = *state;
    run(f, "relay_domain=x", 0, "", "did you mean relay_domains?");
    run(f, "relay_domain", 0, "relay_domain = x\n", NULL);
}

static void test_edit_master(void **state)
{
    struct fixture *f = *state;
    run(f, "-P|smtp/inet/smtpd_banner=c d|smtp/inet/soft_bounce=yes|relay/unix/smtp_helo_timeout=5s", 0, "", NULL);
    run(f, "-PX|smtp/inet/syslog_name", 0, "", NULL);
    run(f, "-F|relay/unix/process_limit=9", 0, "", NULL);
    run(f, "-Me|lmtp/unix=lmtp unix - - n - - lmtp", 0, "", NULL);
    expect_file(f, "master.cf",
                "# services\n"
                "smtp       inet  n       -       y       -       -       smtpd\n    -o {smtpd_banner=c d}\n"
                "    -o soft_bounce=yes\n"
                "# between\n"
                "relay      unix  -       -       n       -       9       smtp\n    -o smtp_helo_timeout=5s\n"
                "lmtp       unix  -       -       n       -       -       lmtp\n");
    run(f, "-F|relay/unix/command=lmtp -v { a b }", 0, "", NULL);
    run(f, "-F|relay/unix/command", 0, "relay/unix/command = lmtp -v {a b}\n", NULL);
    run(f, "-M#|smtp/inet", 0, "", NULL);
    run(f, "-MX|relay/unix", 0, "", NULL);
    expect_file(f, "master.cf",
                "# services\n"
                "#smtp       inet  n       -       y       -       -       smtpd\n#    -o {smtpd_banner=c d}\n"
                "#    -o soft_bounce=yes\n"
                "# between\n"
                "lmtp       unix  -       -       n       -       -       lmtp\n");
}

static void test_edit_each_service(void **state)
{
    struct fixture *f = *state;
    run(f, "-P|*/*/soft_bounce=yes", 0, "", NULL);
    run(f, "-F|*/inet/chroot=n", 0, "", NULL);
    run(f, "-PX|*/*/syslog_name", 0, "", NULL);
    expect_file(f, "master.cf",
                "# services\n"
                "smtp       inet  n       -       n       -       -       smtpd\n    -o {smtpd_banner=a b}\n"
                "    -o soft_bounce=yes\n"
                "# between\n"
                "relay      unix  -       -       n       -       5       smtp\n    -o soft_bounce=yes\n");
    run(f, "-MX|*/unix", 0, "", NULL);
    run(f, "-F|*/*/service", 0, "smtp/inet/service = smtp\n", NULL);
}

static char *check(struct fixture *f, bool verbose, int want_rc, struct conf **conf)
{
    char *out = NULL;
    size_t len;
    FILE *o = open_memstream(&out, &len);
    int rc = ctl_check_conf(f->dir, o, verbose, conf);
    fclose(o);
    if (rc != want_rc)
        fail_msg("status %d\n%s", rc, out);
    return out;
}

static void test_check(void **state)
{
    struct fixture *f = *state;
    struct conf *c = NULL;
    char *out = check(f, true, 0, &c);
    assert_non_null(c);
    conf_unref(&c);
    assert_non_null(strstr(out, "main.cf, line 11: warning: queue_run_delay is defined again"));
    free(out);
    write_text(f->dir, "main.cf", "soft_bounce = 1\nmax_idle = 5\nrelay_domian = x\n");
    write_text(f->dir, "master.cf", "smtp inet n - y - - smtpd\nuucp unix - - n - - pipe user=x argv=x\n");
    out = check(f, true, 1, &c);
    assert_null(c);
    assert_non_null(strstr(out, "main.cf, line 1: error: soft_bounce = 1: expected yes or no"));
    assert_non_null(strstr(out, "main.cf, line 2: note: max_idle changes nothing"));
    assert_non_null(strstr(out, "main.cf, line 3: warning: relay_domian: no parameter has this name"));
    assert_non_null(strstr(out, "master.cf, line 2: warning: service uucp is not served"));
    free(out);
}

/* What has no effect is told, but not when it is the default, and at length only when asked. */
static void test_check_tells_what_is_not_in_effect(void **state)
{
    struct fixture *f = *state;
    struct conf *c = NULL;
    write_text(f->dir, "main.cf",
               "max_idle = 5\nmax_use=7\nmail_name = X\nqmgr_fudge_factor = 100\nsmtpd_sasl_path = a\n"
               "parent_domain_matches_subdomains = x\ncanonical_classes = envelope_sender envelope_recipient\n"
               "  header_sender,header_recipient\ndaemon_timeout = 18000s\n");
    write_text(f->dir, "master.cf", "smtp inet n - y - - smtpd -o smtpd_sasl_path=b\n");
    char *out = check(f, false, 0, &c);
    conf_unref(&c);
    assert_non_null(strstr(out, "main.cf, line 5: warning: smtpd_sasl_path: known, not in effect in this version"));
    assert_non_null(strstr(out, "master.cf, line 1: warning: smtpd_sasl_path: known, not in effect in this version"));
    assert_non_null(strstr(out, "note: 2 settings are without meaning here; check -v names them and says why"));
    assert_null(strstr(out, "max_idle"));
    assert_null(strstr(out, "qmgr_fudge_factor"));
    assert_null(strstr(out, "canonical_classes"));
    free(out);
    out = check(f, true, 0, &c);
    conf_unref(&c);
    assert_non_null(strstr(out, "main.cf, line 2: note: max_use changes nothing: there are no separate processes"));
    assert_null(strstr(out, "daemon_timeout"));
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_show, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_names_are_listed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_show_master, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_edit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_edits_change_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_name_is_set_with_a_warning, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_edit_master, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_edit_each_service, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_tells_what_is_not_in_effect, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
