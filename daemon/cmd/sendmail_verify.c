/*
 * sendmail -bv: asks the daemon about each recipient, delivers nothing, and mails the user a report. The message that others
 * would read from standard input is not read.
 */
#include "daemon/cmd/sendmail.h"

#include <pwd.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "common/mail/address.h"
#include "daemon/cmd/ctl_client.h"
#include "daemon/cmd/header_rcpts.h"
#include "daemon/cmd/submit.h"

#define REPORT_MAX (4 * 1024 * 1024)

struct report {
    struct sendmail *sm;
    struct arena *arena;
    struct rcpt_list rcpts;
    struct span to;      /* who gets the report */
    struct buf text;
};

/* -f, or the login name. */
static int find_reader(struct report *r)
{
    const struct passwd *pw = getpwuid(getuid());
    struct addr a;
    if (r->sm->o.sender == NULL && pw == NULL)
        return sendmail_fail(r->sm, EX_NOUSER, "no login name for user id %lu: say who gets the report with -f", (unsigned long)getuid());
    if (r->sm->o.sender == NULL) {
        r->to = span_cstr(arena_strdup(r->arena, pw->pw_name));
        return 0;
    }
    if (addr_parse(span_trim(span_cstr(r->sm->o.sender)), ADDR_UTF8 | ADDR_NUMERIC_DOMAIN, r->arena, &a) != ADDR_OK || a.text.n == 0)
        return sendmail_fail(r->sm, EX_DATAERR, "\"%s\" is no address for the report", r->sm->o.sender);
    r->to = a.text;
    return 0;
}

static int ask(struct report *r, struct ctl_conn *c, struct span address, struct err *e)
{
    json_t *last = NULL;
    int status = EX_DATAERR;
    json_t *request = json_pack("{s:s, s:s%}", "op", "verify-probe", "address", address.p, address.n);
    if (request == NULL)
        err_set(e, "not UTF-8: %.*s", SPAN_ARG(address));
    else
        status = ctl_request(c, request, e) ? ctl_finish(c, &last, e) : EX_TEMPFAIL;
    if (status == 0)
        buf_printf(&r->text, "<%.*s>: %s\n    %s\n\n", SPAN_ARG(address), json_string_value(json_object_get(last, "status")),
                   json_string_value(json_object_get(last, "text")));
    json_decref(last);
    return status;
}

static int ask_all(struct report *r)
{
    struct ctl_conn c;
    struct err e = ERR_INIT;
    char *path = xasprintf("%s/public/submit", r->sm->p->queue_directory);
    enum ctl_connect st = ctl_connect(path, &c, &e);
    int status = 0;
    free(path);
    if (st != CTL_CONNECT_OK)
        return sendmail_fail(r->sm, st == CTL_CONNECT_DOWN ? EX_UNAVAILABLE : EX_NOPERM, "%s", e.text);
    for (size_t i = 0; status == 0 && i < r->rcpts.n; i++)
        status = ask(r, &c, r->rcpts.items[i], &e);
    ctl_disconnect(&c);
    return status != 0 ? sendmail_fail(r->sm, status, "%s", e.text) : 0;
}

static int post(struct report *r)
{
    struct err e = ERR_INIT;
    struct mail_input in = { .head = BUF_INIT(0) };
    struct submission s = { .rcpts = &r->to, .rcpt_count = 1, .notify = NOTIFY_NEVER, .time_us = clock_wall_us() };
    FILE *f = fmemopen(r->text.p, r->text.n, "r");
    if (f == NULL)
        return sendmail_fail(r->sm, EX_OSERR, "no memory");
    int status = mail_input_read(&in, f, true, 0, &e) == INPUT_OK ? submit_message(r->sm->p->queue_directory, &s, &in, NULL, &e) : EX_TEMPFAIL;
    fclose(f);
    mail_input_free(&in);
    return status != 0 ? sendmail_fail(r->sm, status, "%s", e.text) : 0;
}

static int run(struct report *r)
{
    struct err e = ERR_INIT;
    int status = find_reader(r);
    for (int i = 0; status == 0 && i < r->sm->o.rcpt_count; i++)
        if (!rcpts_add_list(&r->rcpts, span_cstr(r->sm->o.rcpts[i]), &e))
            status = sendmail_fail(r->sm, EX_DATAERR, "recipient %s", e.text);
    if (status == 0 && r->rcpts.n == 0)
        status = sendmail_fail(r->sm, EX_USAGE, "-bv: no recipients");
    buf_printf(&r->text, "From: Mail Delivery System <MAILER-DAEMON@%s>\nTo: %.*s\nSubject: Address verification report\n"
                         "Auto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n"
                         "You asked whether mail for these addresses would be taken. None was sent.\n\n",
               r->sm->p->myorigin, SPAN_ARG(r->to));
    if (status == 0)
        status = ask_all(r);
    if (status == 0)
        status = post(r);
    if (status == 0)
        printf("A report will be mailed to <%.*s>.\n", SPAN_ARG(r->to));
    return status;
}

int sendmail_verify(struct sendmail *sm)
{
    struct report r = { .sm = sm, .arena = arena_new(0), .text = BUF_INIT(REPORT_MAX) };
    r.rcpts.arena = r.arena;
    int status = run(&r);
    rcpt_list_free(&r.rcpts);
    buf_free(&r.text);
    arena_free(&r.arena);
    return status;
}
