/* sendmail's main business: envelope from options, header and user, then submit_message(). */
#include "daemon/cmd/sendmail.h"

#include <pwd.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "common/mail/address.h"
#include "daemon/cmd/header_rcpts.h"
#include "daemon/cmd/submit.h"
#include "daemon/control/user_list.h"

struct letter {
    struct sendmail *sm;
    struct arena *arena;
    struct rcpt_list rcpts;
    struct mail_input in;
    struct submission s;
};

/* The name in the user's passwd entry: up to the first comma, '&' standing for the login name. */
static struct span gecos_name(struct arena *a, const struct passwd *pw)
{
    struct buf b = BUF_INIT(500);
    for (const char *p = pw->pw_gecos; p != NULL && *p != '\0' && *p != ','; p++) {
        if (*p != '&') {
            buf_putc(&b, *p);
            continue;
        }
        buf_putc(&b, ascii_upper(pw->pw_name[0]));
        buf_puts(&b, pw->pw_name[0] != '\0' ? pw->pw_name + 1 : "");
    }
    struct span s = arena_dup_span(a, span_trim(buf_span(&b)));
    buf_free(&b);
    return s;
}

static int find_sender(struct letter *l)
{
    const struct sendmail *sm = l->sm;
    const struct passwd *pw = getpwuid(getuid());
    const char *env = getenv("NAME");
    const char *name = sm->o.full_name != NULL ? sm->o.full_name : env;
    if (name != NULL)
        l->s.full_name = arena_dup_span(l->arena, span_trim(span_cstr(name)));
    else if (pw != NULL)
        l->s.full_name = gecos_name(l->arena, pw);
    if (!utf8_is_valid(l->s.full_name))
        l->s.full_name = span_of(NULL, 0);
    if (sm->o.sender == NULL) {
        if (pw == NULL)
            return sendmail_fail(sm, EX_NOUSER, "no login name for user id %lu: say who sends with -f", (unsigned long)getuid());
        l->s.sender = span_cstr(arena_strdup(l->arena, pw->pw_name));
        return 0;
    }
    struct addr a;
    struct span text = span_trim(span_cstr(sm->o.sender));
    if (text.n == 0 || span_eq(text, SPAN_LIT("<>")))
        return 0;
    if (addr_parse(text, ADDR_UTF8 | ADDR_NUMERIC_DOMAIN, l->arena, &a) != ADDR_OK)
        return sendmail_fail(sm, EX_DATAERR, "sender \"%s\" is not an address", sm->o.sender);
    l->s.sender = a.text;
    return 0;
}

static int find_rcpts(struct letter *l)
{
    const struct sendmail *sm = l->sm;
    struct err e = ERR_INIT;
    for (int i = 0; i < sm->o.rcpt_count; i++) {
        if (!rcpts_add_list(&l->rcpts, span_cstr(sm->o.rcpts[i]), &e))
            return sendmail_fail(sm, EX_DATAERR, "recipient %s", e.text);
    }
    if (sm->o.extract && !rcpts_add_header(&l->rcpts, buf_span(&l->in.head), &e))
        return sendmail_fail(sm, EX_DATAERR, "recipient in the message header: %s", e.text);
    if (l->rcpts.n == 0)
        return sendmail_fail(sm, EX_USAGE, sm->o.extract ? "no recipients in the message header"
                                                        : "no recipients: name them, or use -t to take them from the header");
    l->s.rcpts = l->rcpts.items;
    l->s.rcpt_count = l->rcpts.n;
    return 0;
}

static int read_message(struct letter *l)
{
    struct err e = ERR_INIT;
    const struct sendmail *sm = l->sm;
    uint64_t limit = sm->p->message_size_limit > 0 ? (uint64_t)sm->p->message_size_limit : 0;
    switch (mail_input_read(&l->in, stdin, sm->o.ignore_dots, limit, &e)) {
    case INPUT_OK:
        return 0;
    case INPUT_TOO_BIG:
        return sendmail_fail(sm, EX_DATAERR, "%s", e.text);
    case INPUT_FAILED:
        break;
    }
    return sendmail_fail(sm, EX_TEMPFAIL, "%s", e.text);
}

static int compose_and_send(struct letter *l)
{
    struct err e = ERR_INIT;
    const struct sendmail *sm = l->sm;
    if (getuid() != 0 && !user_is_listed(sm->conf, "authorized_submit_users", sm->p->authorized_submit_users, getuid(), NULL, &e))
        return sendmail_fail(sm, EX_NOPERM, "you may not submit mail: %s", e.text);
    int status = find_sender(l);
    if (status == 0 && (!sm->o.extract && sm->o.rcpt_count == 0))
        status = find_rcpts(l); /* says that there are none, before anything is read */
    if (status == 0)
        status = read_message(l);
    if (status == 0)
        status = find_rcpts(l);
    if (status != 0)
        return status;
    l->s.notify = sm->o.notify;
    l->s.ret = sm->o.ret;
    l->s.envid = span_cstr(sm->o.envid);
    l->s.is_8bitmime = sm->o.is_8bitmime;
    l->s.is_smtputf8 = sm->o.is_smtputf8;
    l->s.time_us = clock_wall_us();
    status = submit_message(sm->p->queue_directory, &l->s, &l->in, NULL, &e);
    return status != 0 ? sendmail_fail(sm, status, "%s", e.text) : 0;
}

int sendmail_deliver(struct sendmail *sm)
{
    struct letter l = { .sm = sm, .arena = arena_new(0) };
    l.rcpts.arena = l.arena;
    int status = compose_and_send(&l);
    rcpt_list_free(&l.rcpts);
    mail_input_free(&l.in);
    arena_free(&l.arena);
    return status;
}
