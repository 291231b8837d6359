/*
 * smtpd_reject_filter_maps: 4xx and 5xx replies that are replaced, before soft_bounce and footers. The key is the whole reply,
 * code, enhanced status code and text, and so is the result. The client sees the new reply, the log has the old one.
 */
#include "common/mail/smtpreply.h"
#include "daemon/smtpd/smtpd_internal.h"

static bool parse(struct span found, struct arena *a, struct smtpd_new_reply *out)
{
    struct smtp_reply_line line;
    if (!smtp_reply_parse(span_trim(found), &line) || line.code < 400)
        return false;
    *out = (struct smtpd_new_reply){ .code = line.code, .dsn = arena_dup_span(a, line.dsn), .text = arena_dup_span(a, line.text) };
    return true;
}

bool smtpd_reject_filter(struct smtpd_sess *S, struct arena *a, int code, struct span dsn, struct span text, struct smtpd_new_reply *out)
{
    struct span found;
    struct err e = ERR_INIT;
    const char *key = arena_printf(a, "%d %.*s%s%.*s", code, SPAN_ARG(dsn), dsn.n > 0 ? " " : "", SPAN_ARG(text));
    switch (maps_lookup(S->svc->reject_filter_maps, span_cstr(key), false, a, &found, &e)) {
    case LOOKUP_FOUND:
        break;
    case LOOKUP_NONE:
        return false;
    case LOOKUP_TEMPFAIL:
        log_line(&S->log, LOG_LV_WARNING, "smtpd_reject_filter_maps: %s", e.text);
        return false;
    }
    if (!parse(found, a, out)) {
        log_line(&S->log, LOG_LV_WARNING, "smtpd_reject_filter_maps: \"%.*s\" is no 4xx or 5xx reply, ignored", SPAN_ARG(found));
        return false;
    }
    return true;
}
