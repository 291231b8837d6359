/* sendmail's command line: what acts, what is ignored, what is refused. */
#include "tests/unit/unit.h"

#include <string.h>
#include <sysexits.h>

#include "daemon/cmd/sendmail_options.h"

struct row {
    const char *name;
    const char *args[8];   /* argv[0] first */
    int status;
    struct sendmail_options want;
};

static const struct row rows[] = {
    { "deliver", { "sendmail", "a@b" }, 0, { .rcpt_count = 1 } },
    { "path and mailq", { "/usr/bin/mailq" }, 0, { .mode = SM_LIST } },
    { "newaliases", { "newaliases" }, 0, { .mode = SM_ALIASES } },
    { "-bp", { "sendmail", "-bp" }, 0, { .mode = SM_LIST } },
    { "-bs", { "sendmail", "-bs" }, 0, { .mode = SM_SMTP } },
    { "-bm", { "sendmail", "-bm", "x" }, 0, { .rcpt_count = 1 } },
    { "-b s apart", { "sendmail", "-b", "s" }, 0, { .mode = SM_SMTP } },
    { "-bi", { "sendmail", "-bi" }, 0, { .mode = SM_ALIASES } },
    { "-I with -oA", { "sendmail", "-I", "-oAhash:/x" }, 0, { .mode = SM_ALIASES, .arg = "hash:/x" } },
    { "-bd", { "sendmail", "-bd", "-q15m" }, 0, { .mode = SM_DAEMON } },
    { "-q", { "sendmail", "-q" }, 0, { .mode = SM_FLUSH } },
    { "-qI", { "sendmail", "-qIABC" }, 0, { .mode = SM_FLUSH_ID, .arg = "ABC" } },
    { "-qR", { "sendmail", "-qRexample.com" }, 0, { .mode = SM_FLUSH_SITE, .arg = "example.com" } },
    { "-qS", { "sendmail", "-qSx" }, EX_UNAVAILABLE, { 0 } },
    { "-qI empty", { "sendmail", "-qI" }, EX_USAGE, { 0 } },
    { "-t -i", { "sendmail", "-t", "-i" }, 0, { .extract = true, .ignore_dots = true } },
    { "-ti joined", { "sendmail", "-ti" }, 0, { .extract = true, .ignore_dots = true } },
    { "-oi -t", { "sendmail", "-oi", "-t" }, 0, { .extract = true, .ignore_dots = true } },
    { "php", { "sendmail", "-t", "-i", "-f", "web@x" }, 0, { .extract = true, .ignore_dots = true, .sender = "web@x" } },
    { "-f attached", { "sendmail", "-fjoe", "x" }, 0, { .sender = "joe", .rcpt_count = 1 } },
    { "-r", { "sendmail", "-r", "joe", "x" }, 0, { .sender = "joe", .rcpt_count = 1 } },
    { "-f empty", { "sendmail", "-f", "", "x" }, 0, { .sender = "", .rcpt_count = 1 } },
    { "-f missing", { "sendmail", "-f" }, EX_USAGE, { 0 } },
    { "-F", { "sendmail", "-FJoe User", "x" }, 0, { .full_name = "Joe User", .rcpt_count = 1 } },
    { "-N", { "sendmail", "-N", "failure,delay", "x" }, 0, { .notify = NOTIFY_FAILURE | NOTIFY_DELAY, .rcpt_count = 1 } },
    { "-N never", { "sendmail", "-Nnever", "x" }, 0, { .notify = NOTIFY_NEVER, .rcpt_count = 1 } },
    { "-N never and more", { "sendmail", "-N", "never,delay" }, EX_USAGE, { 0 } },
    { "-N nonsense", { "sendmail", "-N", "always" }, EX_USAGE, { 0 } },
    { "-R hdrs", { "sendmail", "-R", "hdrs" }, 0, { .ret = DSN_RET_HDRS } },
    { "-R nonsense", { "sendmail", "-R", "body" }, EX_USAGE, { 0 } },
    { "-V", { "sendmail", "-V", "env1" }, 0, { .envid = "env1" } },
    { "-V bad", { "sendmail", "-V", "a\tb" }, EX_USAGE, { 0 } },
    { "-B", { "sendmail", "-B8BITMIME" }, 0, { .is_8bitmime = true } },
    { "-B 7bit", { "sendmail", "-B", "7bit" }, 0, { 0 } },
    { "-B nonsense", { "sendmail", "-B", "9bit" }, EX_USAGE, { 0 } },
    { "-O smtputf8", { "sendmail", "-O", "smtputf8" }, 0, { .is_smtputf8 = true } },
    { "-O ignored", { "sendmail", "-O", "DeliveryMode=b", "x" }, 0, { .rcpt_count = 1 } },
    { "-O requiretls", { "sendmail", "-O", "requiretls" }, EX_UNAVAILABLE, { 0 } },
    { "ignored flags", { "sendmail", "-m", "-n", "-U", "-v", "-G", "-om", "x" }, 0, { .rcpt_count = 1 } },
    { "ignored error mode", { "sendmail", "-em", "-e", "p", "-c", "-x", "x" }, 0, { .rcpt_count = 1 } },
    { "ignored values", { "sendmail", "-h", "25", "-Ac", "-L", "lab", "x" }, 0, { .rcpt_count = 1 } },
    { "-oem", { "sendmail", "-oem", "x" }, 0, { .rcpt_count = 1 } },
    { "-o x value", { "sendmail", "-o", "e", "m", "x" }, 0, { .rcpt_count = 1 } },
    { "-o7 apart", { "sendmail", "-o", "7", "x" }, 0, { .rcpt_count = 1 } },
    { "-bh", { "sendmail", "-bh", "x" }, EX_UNAVAILABLE, { 0 } },
    { "-bz", { "sendmail", "-bz" }, EX_USAGE, { 0 } },
    { "-XV", { "sendmail", "-XV" }, EX_UNAVAILABLE, { 0 } },
    { "-X file", { "sendmail", "-X", "/tmp/x" }, 0, { 0 } },
    { "unknown", { "sendmail", "-z" }, EX_USAGE, { 0 } },
    { "-- ends", { "sendmail", "-t", "--", "-f" }, 0, { .extract = true, .rcpt_count = 1 } },
    { "first address ends", { "sendmail", "x", "-t" }, 0, { .rcpt_count = 2 } },
};

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void check(const struct row *r)
{
    struct sendmail_options o;
    struct err e = ERR_INIT;
    int argc = 0;
    while (argc < 8 && r->args[argc] != NULL)
        argc++;
    int status = sendmail_parse(argc, (char **)(uintptr_t)r->args, &o, &e);
    bool ok = status == r->status;
    if (ok && status != 0)
        ok = e.text[0] != '\0';
    if (ok && status == 0)
        ok = o.mode == r->want.mode && same(o.arg, r->want.arg) && same(o.sender, r->want.sender) &&
             same(o.full_name, r->want.full_name) && same(o.envid, r->want.envid) && o.extract == r->want.extract &&
             o.ignore_dots == r->want.ignore_dots && o.is_8bitmime == r->want.is_8bitmime &&
             o.is_smtputf8 == r->want.is_smtputf8 && o.notify == r->want.notify && o.ret == r->want.ret &&
             o.rcpt_count == r->want.rcpt_count;
    if (!ok)
        fail_msg("%s: status %d, wanted %d (%s)", r->name, status, r->status, e.text);
}

static void test_options(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(&rows[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_options) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
