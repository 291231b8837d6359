/*
 * Replies: "ddd-text" lines, the last one "ddd text" or "ddd" (RFC 5321 4.2). A line that has no code ends the
 * conversation: with pipelining nobody could tell any more which reply belongs to which command.
 */
#include "common/mail/smtpreply.h"
#include "daemon/smtp/request.h"

#define LINE_MAX_BYTES 2048 /* a longer line is cut; RFC 5321 4.5.3.1.5 allows 512 */
#define LINES_MAX      1000 /* of one reply */

enum smtp_io conn_io_status(const struct smtp_conn *c)
{
    switch (stream_status(c->stream)) {
    case STREAM_OK:
    case STREAM_TOO_LONG:
        return SMTP_IO_OK;
    case STREAM_TIMEOUT:
        return SMTP_IO_TIMEOUT;
    case STREAM_CLOSED:
    case STREAM_IO:
        break;
    }
    return SMTP_IO_LOST;
}

static void take_dsn(struct smtp_reply *rep, const struct smtp_reply_line *l)
{
    rep->has_dsn = l->dsn.n > 0 && l->dsn.n < sizeof rep->dsn_text;
    if (rep->has_dsn) {
        memcpy(rep->dsn_text, l->dsn.p, l->dsn.n);
        rep->dsn_text[l->dsn.n] = '\0';
        rep->dsn = span_of(rep->dsn_text, l->dsn.n);
        return;
    }
    memcpy(rep->dsn_text, "0.0.0", 6);
    rep->dsn_text[0] = (char)('0' + (l->code / 100 == 3 ? 4 : l->code / 100));
    rep->dsn = span_of(rep->dsn_text, 5);
}

enum smtp_io reply_read(struct smtp_conn *c, struct smtp_reply *rep)
{
    struct span line;
    buf_reset(&c->reply);
    for (int lines = 0; lines < LINES_MAX; lines++) {
        enum stream_status st = stream_read_line(c->stream, LINE_MAX_BYTES, &line);
        if (st != STREAM_OK && st != STREAM_TOO_LONG) {
            c->is_broken = true;
            return conn_io_status(c);
        }
        struct smtp_reply_line l;
        if (c->transcript != NULL)
            transcript_reply(c->transcript, true, line);
        if (!smtp_reply_parse(line, &l))
            break;
        if (l.more || c->reply.n > 0) {
            if (c->reply.n > 0)
                buf_putc(&c->reply, '\n');
            buf_add_span(&c->reply, line); /* beyond the maximum the rest is left out */
        }
        if (!l.more) {
            rep->code = l.code;
            take_dsn(rep, &l);
            rep->text = c->reply.n > 0 ? buf_span(&c->reply) : line;
            return SMTP_IO_OK;
        }
    }
    c->is_broken = true;
    return SMTP_IO_PROTOCOL;
}
