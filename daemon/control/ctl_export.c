/*
 * queue-export {"id": ".."}: the last line has "envelope" (envelope_json.h) and "content_bytes"; so many bytes follow it
 * queue-import {"envelope": .., "content_bytes": n}, then n bytes: the last line, with "queue_id", comes when the message is
 *              durable. The content is taken as it is; lines end with CRLF.
 */
#include "daemon/control/control_internal.h"

#include <sysexits.h>

#include "common/base/clock.h"
#include "common/conf/params.h"
#include "daemon/control/envelope_json.h"
#include "queue/sched.h"

#define LONG_LINE 998

/* ---- export ---- */

static bool export_message(struct ctl_client *cl, const struct msg *copy, bool on_hold, struct msg *m)
{
    const struct control_options *o = &cl->c->o;
    struct content_view v;
    struct err e = ERR_INIT;
    struct conf *c = o->conf(o->arg);
    bool long_ids = conf_global(c)->enable_long_queue_ids;
    conf_unref(&c);
    if (!content_acquire(o->spool, m, &v, &e))
        return ctl_fail(cl, EX_IOERR, "%s", e.text);
    bool ok = ctl_ok(cl, json_pack("{s:o, s:I}", "envelope", envelope_encode(copy, on_hold, long_ids), "content_bytes", (json_int_t)v.n));
    for (size_t done = 0; ok && done < v.n; ) {
        size_t piece = v.n - done < 65536 ? v.n - done : 65536;
        stream_put_borrowed(cl->s, span_of(v.p + done, piece));
        ok = ctl_flush(cl);
        done += piece;
    }
    content_release(&v);
    return ok;
}

bool ctl_queue_export(struct ctl_client *cl, json_t *request)
{
    const char *text = json_string_value(json_object_get(request, "id"));
    struct sched *s = cl->c->o.sched;
    uint64_t id;
    enum sched_where w = SCHED_DEFERRED;
    struct msg *copy = NULL, *m = NULL;
    if (text != NULL && qid_parse(span_cstr(text), &id) && (copy = sched_find(s, id, &w)) != NULL)
        m = sched_ref(s, id);
    bool ok = m != NULL ? export_message(cl, copy, w == SCHED_HOLD, m)
                        : ctl_fail(cl, 1, "no message with queue id %.64s", text != NULL ? text : "");
    msg_unref(&m);
    msg_unref(&copy);
    return ok;
}

/* ---- import ---- */

struct scan { /* what later legs want to know of the content */
    uint32_t flags;
    size_t line_bytes;
    bool in_body, had_cr;
};

static void scan_byte(struct scan *s, char c)
{
    if (s->had_cr && c != '\n')
        s->flags |= CONTENT_HAS_BARE_CR;
    if (c == '\n' && s->had_cr) {
        s->in_body = s->in_body || s->line_bytes == 1;
        s->line_bytes = 0;
        s->had_cr = false;
        return;
    }
    s->had_cr = c == '\r';
    if (s->line_bytes == 0 && c == '.')
        s->flags |= CONTENT_HAS_DOT_LINE;
    if (c == '\0')
        s->flags |= CONTENT_HAS_NUL;
    if ((unsigned char)c >= 0x80)
        s->flags |= CONTENT_HAS_8BIT | (s->in_body ? 0 : CONTENT_HAS_8BIT_HEADER);
    if (++s->line_bytes > LONG_LINE + 1)
        s->flags |= CONTENT_HAS_LONG_LINE;
}

static uint32_t scan_end(struct scan *s)
{
    if (s->line_bytes > 0)
        s->flags |= CONTENT_NO_FINAL_EOL;
    if (s->had_cr)
        s->flags |= CONTENT_HAS_BARE_CR;
    return s->flags;
}

/* All bytes are read, whatever becomes of them; false when the connection failed. */
static bool receive(struct ctl_client *cl, uint64_t left, struct content_writer *w, struct scan *sc, enum spool_status *st)
{
    struct span piece;
    while (left > 0) {
        stream_set_deadline(cl->s, clock_mono_ms() + CTL_IO_MS);
        if (stream_read_some(cl->s, &piece) != STREAM_OK || piece.n > left)
            return false;
        for (size_t i = 0; i < piece.n; i++)
            scan_byte(sc, piece.p[i]);
        if (*st == SPOOL_OK)
            *st = content_append(w, piece);
        left -= piece.n;
    }
    return true;
}

static bool pass_over(struct ctl_client *cl, uint64_t bytes)
{
    struct scan sc = { .flags = 0 };
    enum spool_status st = SPOOL_IO; /* nothing is to be written */
    return receive(cl, bytes, NULL, &sc, &st);
}

static bool answer(struct ctl_client *cl, enum spool_status st, uint64_t id, const char *from)
{
    const struct control_options *o = &cl->c->o;
    char text[QID_TEXT_MAX];
    struct conf *c = o->conf(o->arg);
    qid_format(id, conf_global(c)->enable_long_queue_ids, text);
    conf_unref(&c);
    if (st == SPOOL_FULL)
        return ctl_fail(cl, EX_TEMPFAIL, "insufficient system storage: nothing was imported");
    if (st != SPOOL_OK)
        return ctl_fail(cl, EX_IOERR, "the spool could not be written: nothing was imported");
    struct log_src src = *o->log;
    src.prog = "postsuper";
    log_info(&src, "%s: imported (exported as %.64s)", text, from != NULL ? from : "unknown");
    return ctl_ok(cl, json_pack("{s:s}", "queue_id", text));
}

bool ctl_queue_import(struct ctl_client *cl, json_t *request)
{
    struct spool *s = cl->c->o.spool;
    json_t *env = json_object_get(request, "envelope");
    json_int_t announced = json_integer_value(json_object_get(request, "content_bytes"));
    struct err e = ERR_INIT;
    struct scan sc = { .flags = 0 };
    if (announced < 0)
        return ctl_fail(cl, EX_PROTOCOL, "\"content_bytes\" is no number of bytes");
    uint64_t bytes = (uint64_t)announced;
    struct msg *m = msg_new();
    if (bytes == 0 || !envelope_decode(env, m, &e)) {
        msg_unref(&m);
        /* All is read first: closing with unread bytes would take the answer away. */
        return pass_over(cl, bytes) && ctl_fail(cl, EX_DATAERR, "%s", e.text[0] != '\0' ? e.text : "there is no content");
    }
    enum spool_status st = spool_has_room(s, bytes) ? SPOOL_OK : SPOOL_FULL;
    uint64_t id = m->env.id = qid_new(spool_qids(s));
    struct content_writer *w = content_begin(s, id);
    bool ok = receive(cl, bytes, w, &sc, &st);
    if (!ok || st != SPOOL_OK) {
        content_abort(&w);
        msg_unref(&m);
        return ok && answer(cl, st, id, NULL);
    }
    m->env.content_flags = scan_end(&sc);
    m->env.content_bytes = bytes;
    st = content_finish(&w, m);
    if (st == SPOOL_OK && ctl_commit_begin(cl)) {
        st = spool_commit(s, &m, 1);
        ctl_commit_end(cl);
    } else {
        st = st == SPOOL_OK ? SPOOL_STOPPING : st;
        msg_unref(&m);
    }
    return answer(cl, st, id, json_string_value(json_object_get(env, "queue_id")));
}
