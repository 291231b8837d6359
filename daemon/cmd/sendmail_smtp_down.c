/*
 * sendmail -bs while no daemon runs: enough of SMTP for a program that hands mail in. Every message goes to maildrop/, as it does
 * without -bs, and 250 is said when it is on disk there. What the daemon would do more is left out, and not offered in the answer
 * to EHLO: DSN, BDAT, checks of recipients. Commands may be sent ahead of the replies.
 *
 * Who sends DATA with CRLF has to end lines with CRLF around the final dot too: a bare LF there is content, as it is for the
 * daemon. Who sends LF alone, as some local programs do, may go on so.
 */
#include "daemon/cmd/sendmail.h"

#include <errno.h>
#include <stdarg.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/base/printable.h"
#include "common/conf/params.h"
#include "common/mail/address.h"
#include "daemon/cmd/submit.h"
#include "daemon/control/user_list.h"

#define COMMAND_MAX 2048

struct session {
    struct sendmail *sm;
    const struct params *p;
    FILE *in;
    struct arena *arena;      /* of the transaction */
    struct submission s;
    size_t rcpt_max;          /* slots in s.rcpts */
    bool greeted, has_sender, crlf;
    char *line;               /* owned: the last line read */
    size_t cap;
    bool quit;
    int status;               /* exit status */
};

static void reply(const char *fmt, ...) PRINTF_FMT(1, 2);
static void reply(const char *fmt, ...)
{
    struct buf b = BUF_INIT(0);
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    text_make_printable(b.p, b.n); /* what a client said is repeated: a CR in it would end the line for some */
    printf("%s\r\n", buf_cstr(&b));
    buf_free(&b);
}

static void begin_again(struct session *x)
{
    arena_free(&x->arena);
    x->arena = arena_new(0);
    free(x->s.rcpts);
    x->s = (struct submission){ .rcpts = NULL };
    x->rcpt_max = 0;
    x->has_sender = false;
}

/* A line without its end; false at the end of the input. *crlf: how it ended. */
static bool read_line(struct session *x, struct span *line, bool *crlf)
{
    fflush(stdout);
    ssize_t got = getline(&x->line, &x->cap, x->in);
    size_t n = got > 0 ? (size_t)got : 0;
    bool ended = n > 0 && x->line[n - 1] == '\n';
    if (!ended)
        return false;
    n--;
    *crlf = n > 0 && x->line[n - 1] == '\r';
    *line = span_of(x->line, *crlf ? n - 1 : n);
    return true;
}

static void cmd_ehlo(struct session *x, struct span arg)
{
    if (arg.n == 0) {
        reply("501 Syntax: EHLO hostname");
        return;
    }
    begin_again(x);
    x->greeted = true;
    reply("250-%s", x->p->myhostname);
    reply("250-PIPELINING");
    if (x->p->message_size_limit > 0)
        reply("250-SIZE %lld", (long long)x->p->message_size_limit);
    else
        reply("250-SIZE");
    if (x->p->smtputf8_enable)
        reply("250-SMTPUTF8");
    reply("250-ENHANCEDSTATUSCODES");
    reply("250 8BITMIME");
}

static void cmd_helo(struct session *x, struct span arg)
{
    if (arg.n == 0) {
        reply("501 Syntax: HELO hostname");
        return;
    }
    begin_again(x);
    x->greeted = true;
    reply("250 %s", x->p->myhostname);
}

/* One parameter of MAIL; false when it was refused. */
static bool take_mail_param(struct session *x, struct span word)
{
    int64_t size;
    if (span_istarts_with(word, SPAN_LIT("SIZE="))) {
        if (!num_parse(span_from(word, 5), 0, INT64_MAX, &size)) {
            reply("501 5.5.4 Bad message size syntax");
            return false;
        }
        if (x->p->message_size_limit > 0 && size > x->p->message_size_limit) {
            reply("552 5.3.4 Message size exceeds fixed limit");
            return false;
        }
    } else if (span_ieq(word, SPAN_LIT("BODY=8BITMIME"))) {
        x->s.is_8bitmime = true;
    } else if (span_ieq(word, SPAN_LIT("SMTPUTF8")) && x->p->smtputf8_enable) {
        x->s.is_smtputf8 = true;
    } else if (!span_ieq(word, SPAN_LIT("BODY=7BIT"))) {
        reply("555 5.5.4 Unsupported option: %.*s", SPAN_ARG(word));
        return false;
    }
    return true;
}

/* ":<address>" and what follows it; false when there is no address. */
static bool take_path(struct session *x, struct span *arg, struct addr *out)
{
    struct span rest = span_trim(*arg);
    if (rest.n == 0 || rest.p[0] != ':')
        return false;
    rest = span_trim(span_from(rest, 1));
    size_t n = addr_path_length(rest);
    *arg = span_from(rest, n);
    return n > 0 && addr_parse(span_of(rest.p, n), ADDR_UTF8 | ADDR_NUMERIC_DOMAIN, x->arena, out) == ADDR_OK;
}

static void cmd_mail(struct session *x, struct span arg)
{
    struct addr a;
    struct span word;
    if (!x->greeted) {
        reply("503 5.5.1 Error: send HELO/EHLO first");
        return;
    }
    if (x->has_sender) {
        reply("503 5.5.1 Error: nested MAIL command");
        return;
    }
    begin_again(x);
    if (!take_path(x, &arg, &a)) {
        reply("501 5.1.7 Bad sender address syntax");
        return;
    }
    while (span_next_token(&arg, " \t", &word)) {
        if (!take_mail_param(x, word))
            return;
    }
    x->s.sender = a.text;
    x->has_sender = true;
    reply("250 2.1.0 Ok");
}

static void cmd_rcpt(struct session *x, struct span arg)
{
    struct addr a;
    if (!x->has_sender) {
        reply("503 5.5.1 Error: need MAIL command");
    } else if (!take_path(x, &arg, &a) || a.text.n == 0) {
        reply("501 5.1.3 Bad recipient address syntax");
    } else if (span_trim(arg).n > 0) {
        reply("555 5.5.4 Unsupported option: %.*s", SPAN_ARG(span_trim(arg)));
    } else if (x->s.rcpt_count >= (size_t)x->p->smtpd_recipient_limit) {
        reply("452 4.5.3 Error: too many recipients");
    } else {
        if (x->s.rcpt_count == x->rcpt_max) {
            x->rcpt_max = x->rcpt_max ? 2 * x->rcpt_max : 16;
            x->s.rcpts = xrealloc(x->s.rcpts, x->rcpt_max * sizeof(*x->s.rcpts));
        }
        x->s.rcpts[x->s.rcpt_count++] = a.text;
        reply("250 2.1.5 Ok");
    }
}

/* Up to the final dot. INPUT_FAILED when the input ended before, or cannot be stored (then the rest is read all the same). */
static enum mail_input_status read_content(struct session *x, struct mail_input *in, bool *cut)
{
    uint64_t limit = x->p->message_size_limit > 0 ? (uint64_t)x->p->message_size_limit : 0;
    enum mail_input_status st = INPUT_OK;
    bool crlf, was_crlf = true;
    struct span line;
    *in = (struct mail_input){ .head = BUF_INIT(0) };
    while (read_line(x, &line, &crlf)) {
        if (line.n == 1 && line.p[0] == '.' && (!x->crlf || (crlf && was_crlf)))
            return st == INPUT_OK && !mail_input_finish(in) ? INPUT_FAILED : st;
        was_crlf = crlf;
        if (line.n > 0 && line.p[0] == '.')
            line = span_from(line, 1);
        if (st == INPUT_OK && (!mail_input_add(in, line) || !mail_input_add(in, SPAN_LIT("\n"))))
            st = INPUT_FAILED;
        if (st == INPUT_OK && limit > 0 && in->bytes > limit)
            st = INPUT_TOO_BIG;
    }
    *cut = true;
    return INPUT_FAILED;
}

static void store(struct session *x, struct mail_input *in)
{
    struct err e = ERR_INIT;
    x->s.time_us = clock_wall_us();
    if (submit_message(x->p->queue_directory, &x->s, in, NULL, &e) == 0) {
        reply("250 2.0.0 Ok: queued for the mail system, which is not running");
    } else {
        sendmail_fail(x->sm, 0, "%s", e.text);
        reply("451 4.3.0 Error: queue file write error");
    }
}

static void cmd_data(struct session *x, struct span arg)
{
    struct mail_input in;
    bool cut = false;
    if (x->s.rcpt_count == 0) {
        reply(x->has_sender ? "554 5.5.1 Error: no valid recipients" : "503 5.5.1 Error: need RCPT command");
        return;
    }
    if (arg.n > 0) {
        reply("501 5.5.4 Syntax: DATA");
        return;
    }
    reply("354 End data with <CR><LF>.<CR><LF>");
    enum mail_input_status st = read_content(x, &in, &cut);
    if (cut) {
        x->quit = true;
        x->status = sendmail_fail(x->sm, EX_TEMPFAIL, "the input ended in the middle of a message: it was not taken");
    } else if (st == INPUT_TOO_BIG) {
        reply("552 5.3.4 Error: message file too big");
    } else if (st == INPUT_FAILED) {
        reply("451 4.3.0 Error: queue file write error");
    } else {
        store(x, &in);
    }
    mail_input_free(&in);
    begin_again(x);
}

static void cmd_rset(struct session *x, struct span arg)
{
    (void)arg;
    begin_again(x);
    reply("250 2.0.0 Ok");
}

static void cmd_noop(struct session *x, struct span arg)
{
    (void)x, (void)arg;
    reply("250 2.0.0 Ok");
}

static void cmd_vrfy(struct session *x, struct span arg)
{
    (void)x;
    if (arg.n == 0)
        reply("501 5.5.4 Syntax: VRFY address");
    else
        reply("252 2.0.0 %.*s", SPAN_ARG(arg));
}

static void cmd_quit(struct session *x, struct span arg)
{
    (void)arg;
    x->quit = true;
    reply("221 2.0.0 Bye");
}

static const struct {
    const char *verb;       /* MAIL and RCPT with the word that belongs to them */
    void (*run)(struct session *x, struct span arg);
    bool is_path;           /* the argument begins with ':', without a blank */
} commands[] = {
    { "EHLO", cmd_ehlo, false },      { "HELO", cmd_helo, false }, { "MAIL FROM", cmd_mail, true },
    { "RCPT TO", cmd_rcpt, true },    { "DATA", cmd_data, false }, { "RSET", cmd_rset, false },
    { "NOOP", cmd_noop, false },      { "VRFY", cmd_vrfy, false }, { "QUIT", cmd_quit, false },
};

static void run_command(struct session *x, struct span line)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        struct span verb = span_cstr(commands[i].verb), rest = span_from(line, verb.n <= line.n ? verb.n : line.n);
        if (!span_istarts_with(line, verb))
            continue;
        if (rest.n > 0 && rest.p[0] != ' ' && rest.p[0] != '\t' && !(commands[i].is_path && rest.p[0] == ':'))
            continue;
        commands[i].run(x, span_trim(rest));
        return;
    }
    reply("502 5.5.2 Error: command not recognized");
}

static void converse(struct session *x)
{
    struct span line;
    while (!x->quit && read_line(x, &line, &x->crlf)) {
        if (line.n > COMMAND_MAX)
            reply("500 5.5.2 Error: line too long");
        else if (memchr(line.p, '\0', line.n) != NULL)
            reply("500 5.5.2 Error: NUL in a command");
        else
            run_command(x, span_trim(line));
    }
}

int sendmail_smtp_down(struct sendmail *sm)
{
    struct err e = ERR_INIT;
    struct session x = { .sm = sm, .p = sm->p, .in = stdin, .arena = arena_new(0) };
    if (getuid() != 0 && !user_is_listed(sm->conf, "authorized_submit_users", x.p->authorized_submit_users, getuid(), NULL, &e)) {
        reply("554 5.7.0 %s You may not submit mail", x.p->myhostname);
        fflush(stdout);
        return sendmail_fail(sm, EX_NOPERM, "you may not submit mail: %s", e.text);
    }
    reply("220 %s", x.p->smtpd_banner);
    converse(&x);
    if (fflush(stdout) != 0 && x.status == 0)
        x.status = sendmail_fail(sm, EX_IOERR, "standard output: %s", strerror(errno));
    begin_again(&x);
    arena_free(&x.arena);
    free(x.line);
    return x.status;
}
