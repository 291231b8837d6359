/*
 * What a local program says to sendmail -bs while no daemon runs. The first byte picks the settings. Replies are whole lines
 * without control characters, one for each command at least; a message that is kept has addresses that can be sent, whole
 * lines, and no dot that was only there for the way.
 */
#include "tests/fuzz/fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/conf/params.h"
#include "daemon/cmd/sendmail.h"
#include "daemon/cmd/submit.h"
#include "daemon/control/user_list.h"

#define SIZE_LIMIT 2000
#define RCPT_LIMIT 3

/* ---- in the place of what it calls ---- */

struct told { unsigned stored, failed; bool is_full; };

static struct told told;

static bool gather(void *arg, struct span piece)
{
    buf_add_span(arg, piece);
    return true;
}

int submit_message(const char *queue_dir UNUSED, struct submission *s, struct mail_input *in, char **queue_id UNUSED, struct err *e)
{
    struct buf b = BUF_INIT(0);
    CHECK(!fuzz_has_control(s->sender) && s->rcpt_count > 0 && s->rcpt_count <= RCPT_LIMIT);
    for (size_t i = 0; i < s->rcpt_count; i++)
        CHECK(s->rcpts[i].n > 0 && !fuzz_has_control(s->rcpts[i]));
    CHECK(mail_input_each(in, gather, &b) && b.n == in->bytes && b.n <= SIZE_LIMIT);
    CHECK(b.n == 0 || b.p[b.n - 1] == '\n');
    buf_free(&b);
    told.stored++;
    if (told.is_full)
        err_set(e, "no room");
    return told.is_full ? 75 : 0;
}

int sendmail_fail(const struct sendmail *sm UNUSED, int status, const char *fmt, ...)
{
    char text[500];
    va_list ap;
    va_start(ap, fmt);
    CHECK(vsnprintf(text, sizeof text, fmt, ap) > 0);
    va_end(ap);
    told.failed++;
    return status;
}

bool user_is_listed(struct conf *c UNUSED, const char *title UNUSED, const char *list UNUSED, uid_t uid UNUSED, const struct log_src *log UNUSED,
                    struct err *e UNUSED)
{
    return true;
}

/* ---- a conversation ---- */

static unsigned check_replies(struct span said)
{
    unsigned replies = 0;
    while (said.n > 0) {
        replies += fuzz_reply_line(&said).p[3] == ' ';
    }
    return replies;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct params p = { .myhostname = "hub.example", .smtpd_banner = "hub.example ESMTP", .message_size_limit = SIZE_LIMIT,
                        .smtpd_recipient_limit = RCPT_LIMIT, .queue_directory = "/nonexistent", .authorized_submit_users = "" };
    struct sendmail sm = { .name = "sendmail", .p = &p };
    struct span in = span_of((const char *)data, n);
    char *said = NULL;
    size_t said_n = 0;
    if (n < 2 || n > 8192)
        return 0;
    uint8_t how = fuzz_byte(&in);
    p.smtputf8_enable = how & 1;
    told = (struct told){ .is_full = how & 2 };
    FILE *old_in = stdin, *old_out = stdout;
    stdin = fmemopen((void *)(uintptr_t)in.p, in.n, "r");
    stdout = open_memstream(&said, &said_n);
    CHECK(stdin != NULL && stdout != NULL);
    int status = sendmail_smtp_down(&sm);
    CHECK(feof(stdin) || status == 0); /* read to the end, or told to stop */
    fclose(stdin);
    fclose(stdout);
    stdin = old_in;
    stdout = old_out;
    CHECK(check_replies(span_of(said, said_n)) >= 1 + told.stored);
    CHECK(status == 0 || told.failed > 0);
    free(said);
    return 0;
}
