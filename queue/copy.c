#include "queue/copy.h"

#include "queue/qid.h"

static void copy_envelope(struct msg *to, const struct msg *from, struct span sender)
{
    struct arena *a = to->arena;
    struct span *const spans[] = {
        &to->env.sender, &to->env.client_name, &to->env.client_addr, &to->env.client_port, &to->env.helo, &to->env.proto,
        &to->env.sasl_user, &to->env.sasl_method, &to->env.message_id, &to->env.filter, &to->env.orig_id,
    };
    uint64_t id = to->env.id;
    to->env = from->env;
    to->env.id = id;
    to->env.sender = sender;
    to->env.envid = SPAN_LIT("");
    to->env.ret = DSN_RET_UNSET;
    to->env.rcpts = NULL;
    to->env.rcpt_count = 0;
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++)
        *spans[i] = arena_dup_span(a, *spans[i]);
    to->received_ms = from->received_ms;
}

static enum spool_status copy_content(struct spool *s, struct msg *to, struct msg *from, struct err *e)
{
    struct content_view v;
    if (!content_acquire(s, from, &v, e))
        return SPOOL_IO;
    struct content_writer *w = content_begin(s, to->env.id);
    enum spool_status st = w != NULL ? content_append(w, span_of(v.p, v.n)) : SPOOL_IO;
    content_release(&v);
    if (st == SPOOL_OK)
        st = content_finish(&w, to);
    else
        content_abort(&w);
    return st;
}

enum spool_status spool_copy(struct spool *s, struct msg *original, struct span sender, struct msg **out, struct err *e)
{
    struct msg *m = msg_new();
    m->env.id = qid_new(spool_qids(s));
    copy_envelope(m, original, sender);
    enum spool_status st = copy_content(s, m, original, e);
    if (st == SPOOL_OK)
        *out = m;
    else
        msg_unref(&m);
    return st;
}
