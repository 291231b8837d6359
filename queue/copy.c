#include "queue/copy.h"

#include "common/base/mem.h"
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
    to->env.sender = sender; /* copied below */
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

enum spool_status mail_copy(struct spool *s, struct msg *original, struct span sender, struct msg **out, struct err *e)
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

struct mail_list *mail_list_of(struct mail_list **all, struct span owner, struct arena *a)
{
    for (; *all != NULL; all = &(*all)->next)
        if (span_eq((*all)->owner, owner))
            return *all;
    *all = arena_alloc(a, sizeof **all);
    (*all)->owner = arena_dup_span(a, owner);
    return *all;
}

struct msg_rcpt *mail_list_add(struct mail_list *l, struct arena *a)
{
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 8;
        struct msg_rcpt *more = arena_alloc(a, l->cap * sizeof *more);
        if (l->count > 0)
            memcpy(more, l->rcpts, l->count * sizeof *more);
        l->rcpts = more;
    }
    return &l->rcpts[l->count++];
}

static void move_members(struct msg *to, const struct mail_list *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        struct msg_rcpt *r = msg_add_rcpt(to);
        *r = l->rcpts[i];
        struct span *const spans[] = { &r->addr, &r->orig, &r->orcpt, &r->route.transport, &r->route.nexthop };
        for (size_t k = 0; k < sizeof spans / sizeof spans[0]; k++)
            *spans[k] = arena_dup_span(to->arena, *spans[k]);
    }
}

enum spool_status mail_lists_copy(struct spool *s, struct mail_list **all, struct msg *original, struct err *e)
{
    if (*all != NULL && original->env.rcpt_count == 0) {
        original->env.sender = (*all)->owner;
        original->env.envid = SPAN_LIT("");
        original->env.ret = DSN_RET_UNSET;
        move_members(original, *all);
        *all = (*all)->next;
    }
    for (struct mail_list *l = *all; l != NULL; l = l->next) {
        enum spool_status st = mail_copy(s, original, l->owner, &l->copy, e);
        if (st != SPOOL_OK)
            return st;
        move_members(l->copy, l);
    }
    return SPOOL_OK;
}

struct msg **mail_lists_take(struct mail_list **all, struct msg *original, struct msg *report, size_t *n)
{
    size_t count = 2;
    for (const struct mail_list *l = *all; l != NULL; l = l->next)
        count++;
    struct msg **v = xcalloc(count, sizeof(struct msg *));
    v[0] = original;
    *n = 1;
    for (struct mail_list *l = *all; l != NULL; l = l->next) {
        v[(*n)++] = l->copy;
        l->copy = NULL;
    }
    *all = NULL;
    if (report != NULL)
        v[(*n)++] = report;
    return v;
}

void mail_lists_drop(struct spool *s, struct mail_list **all)
{
    for (struct mail_list *l = *all; l != NULL; l = l->next)
        spool_msg_drop(s, &l->copy);
    *all = NULL;
}
