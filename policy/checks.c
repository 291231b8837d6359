/*
 * A field or line is looked up in the tables of its class; the first word of the answer is the action. One row of `actions`
 * per action; what is common to all (the word in the log, text that is needed) stands in the row.
 *
 * DISCARD, REJECT, REDIRECT and PASS end the inspection: Postfix asks no table after them, though header_checks(5) says
 * otherwise of REDIRECT.
 */
#include "policy/checks.h"

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/mail/address.h"
#include "common/mail/smtpreply.h"
#include "policy/checks_internal.h"

static const char *const table_names[] = {
    [PIPE_MAIN] = "header_checks", [PIPE_MIME] = "mime_header_checks", [PIPE_NESTED] = "nested_header_checks", [CHECKS_BODY] = "body_checks",
};

/* What a table answered. */
struct answer {
    struct checks_run *r;
    struct content_pipe *pipe;
    int table;             /* enum pipe_class or CHECKS_BODY */
    struct span content;   /* the field or line */
    struct span text;      /* behind the action */
    struct buf *out;
    enum policy_effect effect; /* of the action's row */
};

/* ---- log ---- */

static void put_field(struct buf *b, const char *name, struct span value, const char *open, const char *close)
{
    if (value.n > 0 || *open == '<')
        buf_printf(b, " %s=%s%.*s%s", name, open, SPAN_ARG(value), close);
}

static void put_envelope(struct buf *b, const struct checks_message *m)
{
    buf_printf(b, " from %.*s;", SPAN_ARG(m->origin));
    put_field(b, "from", m->sender, "<", ">");
    put_field(b, "to", m->recipient, "<", ">");
    put_field(b, "proto", m->proto, "", "");
    if (m->helo.n > 0)
        put_field(b, "helo", m->helo, "<", ">");
}

static void log_action(const struct answer *a, const char *word, struct span text)
{
    const struct checks_message *m = a->r->m;
    size_t shown = a->r->c->is_client ? CHECKS_SHOWN_CLIENT : CHECKS_SHOWN;
    struct buf b = BUF_INIT(LOG_TEXT_MAX);
    buf_printf(&b, "%.*s: %s: %s ", SPAN_ARG(m->queue_id), word, a->table == CHECKS_BODY ? "body" : "header");
    buf_add(&b, a->content.p, a->content.n < shown ? a->content.n : shown);
    if (!a->r->c->is_client)
        put_envelope(&b, m);
    if (text.n > 0)
        buf_printf(&b, ": %.*s", SPAN_ARG(text));
    log_text(m->log, LOG_LV_INFO, buf_span(&b));
    buf_free(&b);
}

static void complain(const struct answer *a, const char *what, const char *needed)
{
    log_warn(a->r->m->log, "%.*s: %s \"%.*s\" in %s%s -- %s", SPAN_ARG(a->r->m->queue_id), what, SPAN_ARG(a->text), a->r->c->prefix,
             table_names[a->table], needed);
}

/* ---- actions ---- */

void checks_refuse(struct checks_run *r, const char *dsn, struct span text)
{
    r->status = CHECKS_REJECTED;
    r->dsn = arena_strdup(r->arena, dsn);
    r->text = arena_dup_span(r->arena, text);
}

static enum pipe_answer do_reject(struct answer *a, const char *word)
{
    size_t n = dsn_code_length(a->text);
    const char *dsn = n > 0 ? arena_strndup(a->r->scratch, a->text.p, n) : "5.7.1";
    struct span text = span_trim(span_from(a->text, n));
    if (text.n == 0)
        text = SPAN_LIT("message content rejected");
    checks_refuse(a->r, dsn, text);
    log_action(a, word, span_cstr(arena_printf(a->r->scratch, "%s %.*s", dsn, SPAN_ARG(text))));
    a->r->is_off = true;
    return PIPE_STOP;
}

static void effect(struct answer *a, struct span value)
{
    const struct checks_message *m = a->r->m;
    m->effect(m->arg, a->effect, value);
}

/* The text can come from the message ($1), which must not be able to ask for any number of different ones. */
static bool is_too_many(const struct answer *a, const struct span_set *seen)
{
    int64_t limit = a->r->c->p->smtpd_recipient_limit;
    return (int64_t)seen->count >= limit && !span_set_has(seen, a->text);
}

static enum pipe_answer refuse_more(struct answer *a, const char *what)
{
    const char *text = arena_printf(a->r->scratch, "content checks ask for too many %s", what);
    checks_refuse(a->r, "5.5.3", span_cstr(text));
    log_action(a, "reject", span_cstr(arena_printf(a->r->scratch, "5.5.3 %s (smtpd_recipient_limit)", text)));
    a->r->is_off = true;
    return PIPE_STOP;
}

static enum pipe_answer do_discard(struct answer *a, const char *word)
{
    log_action(a, word, a->text);
    effect(a, SPAN_LIT(""));
    a->r->is_off = true;
    return PIPE_KEEP; /* size and line limits still count: the client is answered as if it were taken */
}

static enum pipe_answer do_hold(struct answer *a, const char *word)
{
    log_action(a, word, a->text);
    effect(a, SPAN_LIT(""));
    return PIPE_KEEP;
}

static enum pipe_answer do_note(struct answer *a, const char *word)
{
    log_action(a, word, a->text);
    return PIPE_KEEP;
}

static enum pipe_answer do_pass(struct answer *a, const char *word)
{
    log_action(a, word, a->text);
    a->r->is_off = true;
    return PIPE_KEEP;
}

static enum pipe_answer do_nothing(struct answer *a, const char *word)
{
    (void)a;
    (void)word;
    return PIPE_KEEP;
}

static enum pipe_answer do_ignore(struct answer *a, const char *word)
{
    (void)a;
    (void)word;
    return PIPE_DROP;
}

static enum pipe_answer do_strip(struct answer *a, const char *word)
{
    log_action(a, word, a->text);
    return PIPE_DROP;
}

static enum pipe_answer do_filter(struct answer *a, const char *word)
{
    struct span kept;
    if (span_find(a->text, ':') < 0) {
        complain(a, "bad FILTER command", "need transport:destination");
        return PIPE_KEEP;
    }
    if (is_too_many(a, &a->r->filters))
        return refuse_more(a, "filters");
    log_action(a, word, a->text);
    span_set_add(&a->r->filters, a->r->arena, a->text, &kept);
    effect(a, kept); /* also when it was said before: the last one holds */
    return PIPE_KEEP;
}

/* REDIRECT and BCC. */
static enum pipe_answer do_address(struct answer *a, const char *word)
{
    struct span local, domain, kept;
    bool is_redirect = a->effect == EFFECT_REDIRECT;
    if (!addr_split(a->text, &local, &domain)) {
        complain(a, is_redirect ? "bad REDIRECT target" : "bad BCC address", "need user@domain");
        return PIPE_KEEP;
    }
    if (!is_redirect && is_too_many(a, &a->r->copies))
        return refuse_more(a, "copies");
    log_action(a, word, a->text);
    if (is_redirect)
        effect(a, arena_dup_span(a->r->arena, a->text));
    else if (span_set_add(&a->r->copies, a->r->arena, a->text, &kept))
        effect(a, kept);
    a->r->is_off |= is_redirect;
    return PIPE_KEEP;
}

/* Text that goes into the message in place of, or in front of, what was looked up. */
static bool is_usable_text(struct answer *a, const char *action)
{
    bool is_header = a->table != CHECKS_BODY;
    if (a->text.n == 0)
        log_warn(a->r->m->log, "%.*s: %s action without text in %s%s", SPAN_ARG(a->r->m->queue_id), action, a->r->c->prefix,
                 table_names[a->table]);
    else if (is_header && hdr_name_length(a->text) == 0)
        complain(a, *action == 'P' ? "bad PREPEND header text" : "bad REPLACE header text", "need \"headername: headervalue\"");
    else
        return true;
    return false;
}

static enum pipe_answer do_prepend(struct answer *a, const char *word)
{
    if (!is_usable_text(a, "PREPEND"))
        return PIPE_KEEP;
    log_action(a, word, a->text);
    pipe_put_line(a->pipe, a->text);
    return PIPE_KEEP;
}

static enum pipe_answer do_replace(struct answer *a, const char *word)
{
    if (!is_usable_text(a, "REPLACE"))
        return PIPE_KEEP;
    log_action(a, word, a->text);
    buf_add_span(a->out, a->text);
    return PIPE_REPLACE;
}

struct action {
    const char *name;
    const char *word; /* in the log */
    bool is_for_clients;
    enum policy_effect effect;
    enum pipe_answer (*fn)(struct answer *a, const char *word);
};

static const struct action actions[] = {
    { "BCC", "bcc", false, EFFECT_BCC, do_address },
    { "DISCARD", "discard", false, EFFECT_DISCARD, do_discard },
    { "DUNNO", "", true, EFFECT_NONE, do_nothing },
    { "FILTER", "filter", false, EFFECT_FILTER, do_filter },
    { "HOLD", "hold", false, EFFECT_HOLD, do_hold },
    { "IGNORE", "", true, EFFECT_NONE, do_ignore },
    { "INFO", "info", true, EFFECT_NONE, do_note },
    { "OK", "", true, EFFECT_NONE, do_nothing },
    { "PASS", "pass", false, EFFECT_NONE, do_pass },
    { "PREPEND", "prepend", true, EFFECT_NONE, do_prepend },
    { "REDIRECT", "redirect", false, EFFECT_REDIRECT, do_address },
    { "REJECT", "reject", false, EFFECT_NONE, do_reject },
    { "REPLACE", "replace", true, EFFECT_NONE, do_replace },
    { "STRIP", "strip", true, EFFECT_NONE, do_strip },
    { "WARN", "warning", true, EFFECT_NONE, do_note },
};

static enum pipe_answer act(struct answer *a, struct span value)
{
    struct span word = { NULL, 0 };
    a->text = span_trim(value);
    struct span rest = a->text;
    (void)span_next_token(&rest, " \t\r\n", &word);
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        if (!span_ieq_cstr(word, actions[i].name) || (a->r->c->is_client && !actions[i].is_for_clients))
            continue;
        a->text = span_trim(rest);
        a->effect = actions[i].effect;
        return actions[i].fn(a, actions[i].word);
    }
    complain(a, a->r->c->is_client ? "unsupported action" : "unknown action", "the line is kept");
    return PIPE_KEEP;
}

/* ---- look-ups ---- */

static enum pipe_answer look_up(struct checks_run *r, struct content_pipe *p, int table, struct span content, struct buf *out)
{
    struct span value = { NULL, 0 };
    struct err e = ERR_INIT;
    const struct maps *m = r->c->maps[table];
    if (m == NULL || r->is_off || content.n == 0)
        return PIPE_KEEP;
    switch (maps_lookup(m, content, false, r->scratch, &value, &e)) {
    case LOOKUP_NONE:
        return PIPE_KEEP;
    case LOOKUP_TEMPFAIL:
        log_warn(r->m->log, "%.*s: %s%s map lookup problem -- message not %s, try again later: %s", SPAN_ARG(r->m->queue_id),
                 r->c->prefix, table_names[table], r->c->is_client ? "sent" : "accepted", e.text);
        r->status = CHECKS_FAILED;
        r->is_off = true;
        return PIPE_STOP;
    case LOOKUP_FOUND:
        break;
    }
    struct answer a = { .r = r, .pipe = p, .table = table, .content = content, .out = out };
    enum pipe_answer got = act(&a, value);
    arena_reset(r->scratch);
    return got;
}

static enum pipe_answer on_field(void *arg, struct content_pipe *p, const struct pipe_field *f, struct buf *out)
{
    struct checks_run *r = arg;
    checks_mime_field(r, f);
    return look_up(r, p, (int)f->cls, f->text, out);
}

static enum pipe_answer on_line(void *arg, struct content_pipe *p, struct span line, struct buf *out)
{
    struct checks_run *r = arg;
    uint64_t limit = (uint64_t)r->c->p->body_checks_size_limit, before = r->part_bytes;
    r->part_bytes += line.n + 1;
    checks_mime_line(r, p, line);
    return limit == 0 || before < limit ? look_up(r, p, CHECKS_BODY, line, out) : PIPE_KEEP;
}

static bool on_part(void *arg, struct content_pipe *p, const struct pipe_part *part)
{
    struct checks_run *r = arg;
    r->part_bytes = part->has_empty_line; /* it counts as a line */
    checks_mime_part(r, p, part);
    arena_reset(r->scratch);
    return true;
}

struct checks_run *checks_begin(const struct content_checks *c, const struct checks_message *m, struct arena *a, struct pipe_stage *stage)
{
    struct checks_run *r = arena_alloc(a, sizeof *r);
    *r = (struct checks_run){ .c = c, .m = m, .arena = a, .scratch = arena_new(0), .dsn = "" };
    *stage = (struct pipe_stage){
        .arg = r,
        .field = on_field,
        .line = c->has_body ? on_line : NULL,
        .part = on_part,
        .own_header_only = c->maps[PIPE_MIME] == NULL && c->maps[PIPE_NESTED] == NULL && !c->is_strict_header && !c->is_strict_encoding,
    };
    return r;
}

static const struct maps *unless_empty(const struct maps *m)
{
    return maps_is_empty(m) ? NULL : m;
}

struct checks_run *checks_begin_client(const struct checks_tables *t, const struct params *p, const struct checks_message *m,
                                       struct arena *a, struct pipe_stage *stage)
{
    struct content_checks *c = arena_alloc(a, sizeof *c);
    *c = (struct content_checks){ .p = p, .prefix = t->prefix, .is_client = true };
    c->maps[PIPE_MAIN] = unless_empty(t->header);
    c->maps[PIPE_MIME] = unless_empty(t->mime);
    c->maps[PIPE_NESTED] = unless_empty(t->nested);
    c->maps[CHECKS_BODY] = unless_empty(t->body);
    c->has_body = c->maps[CHECKS_BODY] != NULL;
    return checks_begin(c, m, a, stage);
}

enum checks_status checks_status(const struct checks_run *r, int *code, const char **dsn, struct span *text)
{
    if (r->status == CHECKS_REJECTED) {
        *code = r->dsn[0] == '4' ? 451 : 550;
        *dsn = r->dsn;
        *text = r->text;
    }
    return r->status;
}

void checks_end(struct checks_run **rp)
{
    if (*rp != NULL)
        arena_free(&(*rp)->scratch);
    *rp = NULL;
}
