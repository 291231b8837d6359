/*
 * smtpd_reject_footer, smtpd_reject_footer_maps: text behind every 4xx and 5xx reply. The client sees it, the log does not.
 *
 * "\c" at the begin joins the footer to the reply's last line, "\n" begins a line of its own. $name stands for what is known of
 * the session; of main.cf nothing is expanded. What smtpd_expansion_filter does not have becomes an underscore.
 */
#include <time.h>

#include "common/base/clock.h"
#include "common/conf/expand.h"
#include "daemon/smtpd/smtpd_internal.h"

#define FOOTER_MAX 2000 /* of text after expansion: long replies are cut by those that read them */

struct footer {
    struct smtpd_sess *S;
    struct arena *a;
};

/* Values stand for themselves: a '$' in them is no macro. */
static const char *literally(const struct footer *f, const char *value)
{
    size_t n = 0;
    char *out = arena_alloc(f->a, 2 * strlen(value) + 1);
    for (; *value != '\0'; value++) {
        out[n++] = policy_may_reply(f->S->svc->policy, f->S->svc->svc, *value) ? *value : '_';
        if (out[n - 1] == '$')
            out[n++] = '$';
    }
    out[n] = '\0';
    return out;
}

static const char *local_time(struct arena *a)
{
    time_t now = (time_t)clock_wall_s();
    struct tm tm;
    char *text = arena_alloc(a, 32);
    localtime_r(&now, &tm);
    strftime(text, 32, "%b %e %H:%M:%S", &tm);
    return text;
}

static const char *macro(void *arg, struct span name)
{
    const struct footer *f = arg;
    struct smtpd_sess *S = f->S;
    char *addr = arena_alloc(f->a, IP_TEXT_MAX);
    const struct {
        const char *name, *value;
    } rows[] = {
        { "client_address", ip_print(&S->s.peer, addr) }, { "client_name", S->client_name }, { "reverse_client_name", S->reverse_name },
        { "client", arena_printf(f->a, "%s[%s]", S->client_name ? S->client_name : "unknown", addr) },
        { "client_port", arena_printf(f->a, "%u", S->s.peer_port) }, { "helo_name", S->helo }, { "server_name", S->p->myhostname },
    };
    if (span_eq(name, SPAN_LIT("localtime")))
        return literally(f, local_time(f->a));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (span_eq(name, span_cstr(rows[i].name)))
            return rows[i].value != NULL ? literally(f, rows[i].value) : NULL;
    return NULL;
}

/* By the whole reply, or the one for all. */
static struct span template_of(struct smtpd_sess *S, struct arena *a, int code, struct span dsn, struct span text)
{
    struct span found, all = span_cstr(S->p->smtpd_reject_footer);
    struct err e = ERR_INIT;
    if (maps_is_empty(S->svc->footer_maps))
        return all;
    const char *key = arena_printf(a, "%d %.*s%s%.*s", code, SPAN_ARG(dsn), dsn.n > 0 ? " " : "", SPAN_ARG(text));
    switch (maps_lookup(S->svc->footer_maps, span_cstr(key), false, a, &found, &e)) {
    case LOOKUP_FOUND:
        return found;
    case LOOKUP_NONE:
        return all;
    case LOOKUP_TEMPFAIL:
        break;
    }
    log_line(&S->log, LOG_LV_WARNING, "smtpd_reject_footer_maps: %s", e.text);
    return all;
}

static size_t line_length(struct span s)
{
    for (size_t i = 0; i + 1 < s.n; i++)
        if (s.p[i] == '\\' && s.p[i + 1] == 'n')
            return i;
    return s.n;
}

/* False: a template that cannot be expanded is left out as a whole. */
static bool expand(struct footer *f, struct span template, struct buf *out)
{
    struct err e = ERR_INIT;
    bool is_joined = template.n >= 2 && template.p[0] == '\\' && template.p[1] == 'c';
    if (is_joined)
        template = span_from(template, 2);
    else
        buf_putc(out, '\n');
    for (;;) {
        size_t n = line_length(template);
        if (!expand_text(span_of(template.p, n), macro, f, out, &e)) {
            log_line(&f->S->log, LOG_LV_WARNING, "smtpd_reject_footer or smtpd_reject_footer_maps: %s", e.text);
            return false;
        }
        if (n == template.n)
            return true;
        template = span_from(template, n + 2);
        buf_putc(out, '\n');
    }
}

void smtpd_footer_add(struct smtpd_sess *S, int code, struct span dsn, struct buf *text)
{
    struct footer f = { .S = S, .a = arena_new(1024) };
    struct buf out = BUF_INIT(FOOTER_MAX);
    struct span template = template_of(S, f.a, code, dsn, buf_span(text));
    if (template.n > 0 && expand(&f, template, &out) && buf_ok(&out))
        buf_add_span(text, buf_span(&out));
    buf_free(&out);
    arena_free(&f.a);
}
