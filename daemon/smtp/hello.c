/*
 * From the greeting to the end of EHLO.
 *
 * This is where STARTTLS and AUTH will go: after the EHLO answer, before the first transaction; both make the client
 * say EHLO again or know the peer better, so they belong to setting the connection up and not to a delivery.
 */
#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/num.h"
#include "daemon/deliver/tables.h"
#include "daemon/smtp/request.h"

static const struct {
    const char *keyword;
    uint32_t feature;
} keywords[] = {
    { "PIPELINING", FEAT_PIPELINING }, { "SIZE", FEAT_SIZE },         { "8BITMIME", FEAT_8BITMIME }, { "DSN", FEAT_DSN },
    { "SMTPUTF8", FEAT_SMTPUTF8 },     { "CHUNKING", FEAT_CHUNKING }, { "XFORWARD", 0 },
};

static const struct {
    const char *attribute;
    uint32_t feature;
} xforward_attributes[] = {
    { "NAME", FEAT_XFORWARD_NAME },   { "ADDR", FEAT_XFORWARD_ADDR },   { "PORT", FEAT_XFORWARD_PORT },
    { "PROTO", FEAT_XFORWARD_PROTO }, { "HELO", FEAT_XFORWARD_HELO },   { "IDENT", FEAT_XFORWARD_IDENT },
    { "SOURCE", FEAT_XFORWARD_SOURCE },
};

bool list_has_word(const char *list, struct span word)
{
    struct span rest = span_cstr(list), item;
    while (span_next_token(&rest, ", \t\r\n", &item))
        if (span_ieq(item, word))
            return true;
    return false;
}

static void learn_xforward(struct smtp_conn *c, struct span args)
{
    struct span word;
    while (span_next_token(&args, " \t", &word))
        for (size_t i = 0; i < ARRAY_LEN(xforward_attributes); i++)
            if (span_ieq_cstr(word, xforward_attributes[i].attribute))
                c->features |= xforward_attributes[i].feature;
}

/* One line of the EHLO answer behind its code, unless its keyword is to be discarded. */
static void learn_keyword(struct smtp_request *r, const char *discard, struct span line)
{
    struct smtp_conn *c = r->conn;
    struct span word;
    if (!span_next_token(&line, " \t", &word) || list_has_word(discard, word))
        return;
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        if (!span_ieq_cstr(word, keywords[i].keyword))
            continue;
        c->features |= keywords[i].feature;
        int64_t n;
        if (keywords[i].feature == FEAT_SIZE && num_parse(span_trim(line), 0, INT64_MAX, &n))
            c->size_limit = (uint64_t)n;
        if (keywords[i].feature == 0)
            learn_xforward(c, line);
    }
}

/* First word behind the code. */
static struct span peer_word(struct span reply)
{
    struct span rest = span_from(reply, 4), word = span_of("", 0);
    return span_next_token(&rest, " \t\n", &word) ? word : span_of("", 0);
}

static bool is_loop(struct smtp_request *r, struct span name)
{
    if (!r->wants_loop_check || !span_ieq_cstr(name, r->p->myhostname))
        return false;
    log_warn(&r->log, "host %s replied to HELO/EHLO with my own hostname %s", r->conn->namaddr, r->p->myhostname);
    fail_words(r, r->is_best_mx ? "5.4.6" : "4.4.6", "mail for %.*s loops back to myself", SPAN_ARG(r->job->nexthop));
    r->fail.is_site = true;
    return true;
}

/* "220 ****200**0*": the firewall lets only these bytes through. */
static bool is_pix_banner(struct span text)
{
    struct span rest = span_from(text, 4);
    size_t stars = 0;
    for (size_t i = 0; i < rest.n; i++) {
        if (rest.p[i] == '*')
            stars++;
        else if (rest.p[i] != ' ' && rest.p[i] != '2' && rest.p[i] != '0')
            return false;
    }
    return stars >= 8;
}

/*
 * What a table says of the peer's address, else the general value. Belongs to the arena or the snapshot. NULL when the
 * table failed: r->fail is set.
 */
static const char *value_for_peer(struct smtp_request *r, struct arena *a, const char *maps, const char *general)
{
    struct span value;
    struct err e = ERR_INIT;
    if (*maps == '\0' || r->env->tables == NULL)
        return general;
    switch (maps_lookup(deliver_tables_get(r->env->tables, maps), span_cstr(r->conn->addr), false, a, &value, &e)) {
    case LOOKUP_FOUND:
        return arena_strndup(a, value.p, value.n);
    case LOOKUP_NONE:
        return general;
    case LOOKUP_TEMPFAIL:
        break;
    }
    log_warn(&r->log, "%s: %s", r->conn->namaddr, e.text);
    notify_error(r, NOTIFY_CLASS_DATA);
    fail_words(r, "4.3.5", "mail system configuration error: table lookup failed");
    return NULL;
}

/* Mail that has waited for long behind such a firewall gets the workarounds; new mail is tried as it is. */
static bool enable_pix(struct smtp_request *r, struct span banner, bool *wants_ehlo)
{
    int64_t age_ms = (clock_wall_us() - r->job->msg->env.arrival_us) / 1000;
    if (!is_pix_banner(banner) || age_ms < r->cp->pix_workaround_threshold_time)
        return true;
    struct arena *a = arena_new(0);
    const char *list = value_for_peer(r, a, r->cp->pix_workaround_maps, r->cp->pix_workarounds);
    if (list && *list) {
        log_info(&r->log, "enabling PIX workarounds: %s for %s", list, r->conn->namaddr);
        if (list_has_word(list, SPAN_LIT("delay_dotcrlf")))
            r->conn->features |= FEAT_PIX_DELAY;
        if (list_has_word(list, SPAN_LIT("disable_esmtp")))
            *wants_ehlo = false;
    }
    arena_free(&a);
    return list != NULL;
}

static bool read_greeting(struct smtp_request *r, bool *wants_ehlo)
{
    struct smtp_reply rep;
    stage_begin(r, STAGE_GREETING);
    enum smtp_io io = reply_read(r->conn, &rep);
    if (io != SMTP_IO_OK) {
        fail_io(r, STAGE_GREETING, io);
        return false;
    }
    if (rep.code / 100 != 2) {
        fail_refused(r, &rep);
        if (r->fail.is_permanent && r->cp->skip_5xx_greeting) {
            r->fail.is_permanent = false;
            r->fail.dsn[0] = '4';
        }
        return false;
    }
    if (is_loop(r, peer_word(rep.text)))
        return false;
    bool has_word = false;
    struct span rest = span_from(rep.text, 4), word;
    while (span_next_token(&rest, " \t\n", &word))
        has_word |= span_ieq_cstr(word, "ESMTP");
    *wants_ehlo = !r->cp->never_send_ehlo && (r->cp->always_send_ehlo || has_word);
    return enable_pix(r, rep.text, wants_ehlo);
}

static enum smtp_io say_hello(struct smtp_request *r, enum smtp_stage s, const char *verb, struct smtp_reply *rep)
{
    struct smtp_conn *c = r->conn;
    stage_begin(r, s);
    buf_reset(&c->line);
    buf_printf(&c->line, "%s %s\r\n", verb, r->cp->helo_name);
    conn_put(c, buf_span(&c->line));
    if (stream_flush(c->stream) != STREAM_OK) {
        c->is_broken = true;
        return conn_io_status(c);
    }
    return reply_read(c, rep);
}

static bool learn_features(struct smtp_request *r, const struct smtp_reply *rep)
{
    struct span rest = rep->text, line;
    bool is_first = true;
    struct arena *a = arena_new(0);
    const char *discard = value_for_peer(r, a, r->cp->discard_ehlo_keyword_address_maps, r->cp->discard_ehlo_keywords);
    bool ok = discard != NULL;
    while (ok && span_next_token(&rest, "\n", &line)) {
        if (!is_first)
            learn_keyword(r, discard, span_from(line, 4));
        is_first = false;
    }
    arena_free(&a);
    return ok;
}

bool hello_exchange(struct smtp_request *r)
{
    struct smtp_reply rep;
    bool wants_ehlo = true;
    if (!read_greeting(r, &wants_ehlo))
        return false;
    if (wants_ehlo || r->is_lmtp) {
        enum smtp_stage s = r->is_lmtp ? STAGE_LHLO : STAGE_EHLO;
        enum smtp_io io = say_hello(r, s, r->is_lmtp ? "LHLO" : "EHLO", &rep);
        if (io != SMTP_IO_OK) {
            fail_io(r, s, io);
            return false;
        }
        if (rep.code / 100 == 2) {
            r->conn->features |= FEAT_ESMTP;
            return learn_features(r, &rep) && !is_loop(r, peer_word(rep.text));
        }
        if (rep.code == 421 || r->is_lmtp) {
            fail_refused(r, &rep);
            return false;
        }
    }
    enum smtp_io io = say_hello(r, STAGE_HELO, "HELO", &rep);
    if (io != SMTP_IO_OK) {
        fail_io(r, STAGE_HELO, io);
        return false;
    }
    if (rep.code / 100 != 2) {
        fail_refused(r, &rep);
        return false;
    }
    return !is_loop(r, peer_word(rep.text));
}
