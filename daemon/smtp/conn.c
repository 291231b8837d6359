#include "common/base/clock.h"
#include "common/base/mem.h"
#include "daemon/smtp/conn.h"

#define REPLY_TEXT_MAX  8192
#define COMMAND_MAX     8192 /* addresses and their parameters are limited at their reception */
#define QUIT_SEND_MS    1000 /* a peer that does not even take six bytes is not waited for */

struct smtp_conn *conn_new(struct stream *stream, const char *host, const char *addr, uint16_t port, bool is_lmtp)
{
    struct smtp_conn *c = xcalloc(1, sizeof *c);
    c->stream = stream;
    c->is_lmtp = is_lmtp;
    c->opened_ms = clock_mono_ms();
    c->host = xstrdup(host);
    c->addr = xstrdup(addr);
    c->namaddr = xasprintf("%s[%s]", host, addr);
    c->relay = port ? xasprintf("%s[%s]:%u", host, addr, port) : xstrdup(c->namaddr);
    buf_init(&c->reply, REPLY_TEXT_MAX);
    buf_init(&c->line, COMMAND_MAX);
    return c;
}

void conn_put(struct smtp_conn *c, struct span line)
{
    stream_put(c->stream, line);
    if (c->transcript != NULL)
        transcript_command(c->transcript, false, span_of(line.p, line.n - 2));
}

static void say_quit(struct smtp_conn *c, bool wait)
{
    struct span line;
    stream_set_deadline(c->stream, clock_mono_ms() + QUIT_SEND_MS);
    stream_puts(c->stream, "QUIT\r\n");
    if (stream_flush(c->stream) != STREAM_OK || !wait || c->skip_quit_response)
        return;
    stream_set_deadline(c->stream, clock_mono_ms() + c->quit_timeout_ms);
    while (stream_read_line(c->stream, 1024, &line) == STREAM_OK && line.n > 3 && line.p[3] == '-')
        ;
}

void conn_close(struct smtp_conn **cp, bool wait)
{
    struct smtp_conn *c = *cp;
    if (c == NULL)
        return;
    if (!c->is_broken)
        say_quit(c, wait);
    stream_free(&c->stream);
    free(c->host);
    free(c->addr);
    free(c->namaddr);
    free(c->relay);
    free(c->key[0]);
    free(c->key[1]);
    buf_free(&c->reply);
    buf_free(&c->line);
    free(c);
    *cp = NULL;
}
