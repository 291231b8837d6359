/* HELO and EHLO. RFC 5321 4.1.1.1; both end a transaction. */
#include "daemon/smtpd/smtpd_internal.h"

/* What would break a header or a log line out of its brackets. */
static void neuter(char *p)
{
    for (; *p != '\0'; p++)
        if (strchr(" <>()\\\";@", *p) != NULL || (unsigned char)*p < 32 || *p == 127)
            *p = '?';
}

/* All words with one blank between them, as much as is kept; NULL: none, or one that no name can be. */
static char *joined(struct span arg)
{
    char name[ADDR_MAX];
    struct span word;
    size_t n = 0;
    while (span_next_token(&arg, " \t", &word)) {
        if (memchr(word.p, '\0', word.n) != NULL)
            return NULL;
        if (n > 0 && n < sizeof name)
            name[n++] = ' ';
        size_t take = word.n < sizeof name - n ? word.n : sizeof name - n;
        memcpy(name + n, word.p, take);
        n += take;
    }
    return n > 0 ? xstrndup(name, n) : NULL;
}

static bool begin(struct smtpd_sess *S, struct span arg, const char *verb)
{
    struct policy_client c;
    char *name = joined(arg), *before = S->helo;
    if (name == NULL) {
        smtpd_reply(S, 501, "", "Syntax: %s hostname", verb);
        return false;
    }
    S->helo = xstrdup(name); /* what is logged has it already */
    neuter(S->helo);
    smtpd_policy_client(S, &c);
    c.helo = span_cstr(name);
    c.sender = c.recipient = span_of("", 0);
    bool ok = smtpd_policy_ok(S, STAGE_HELO, verb, &c, SPAN_LIT(""));
    free(name);
    free(ok ? before : S->helo);
    if (!ok) {
        S->helo = before;
        return false;
    }
    smtpd_tx_drop(S);
    return true;
}

/* smtpd_discard_ehlo_keyword_address_maps has the last word. False: the table failed, replied. */
static bool find_discarded(struct smtpd_sess *S)
{
    struct policy_client c;
    struct span value;
    struct err e = ERR_INIT;
    S->ehlo_discard = S->t->ehlo_discard;
    if (maps_is_empty(S->svc->discard_maps))
        return true;
    smtpd_policy_client(S, &c);
    switch (maps_lookup(S->svc->discard_maps, c.addr_text, false, smtpd_scratch(S), &value, &e)) {
    case LOOKUP_FOUND:
        S->ehlo_discard = smtpd_ehlo_keywords_parse(arena_strndup(smtpd_scratch(S), value.p, value.n));
        return true;
    case LOOKUP_NONE:
        return true;
    case LOOKUP_TEMPFAIL:
        break;
    }
    log_line(&S->log, LOG_LV_WARNING, "smtpd_discard_ehlo_keyword_address_maps: %s", e.text);
    smtpd_reply(S, 451, "", "Temporary lookup failure");
    return false;
}

enum cmd_result smtpd_cmd_HELO(struct smtpd_sess *S, struct span arg)
{
    if (!begin(S, arg, "HELO") || !find_discarded(S))
        return CMD_ERROR; /* after EHLO the session stays ESMTP: the client has been told that it may pipeline */
    smtpd_reply(S, 250, "", "%s", S->p->myhostname);
    return CMD_OK;
}

/* False: it is not known who may what, replied. */
static bool find_privileges(struct smtpd_sess *S)
{
    if (smtpd_may_xclient(S) == LOOKUP_TEMPFAIL)
        smtpd_refuse_unsure(S, "smtpd_authorized_xclient_hosts");
    else if (smtpd_may_xforward(S) == LOOKUP_TEMPFAIL)
        smtpd_refuse_unsure(S, "smtpd_authorized_xforward_hosts");
    else
        return true;
    return false;
}

static unsigned discarded_keywords(struct smtpd_sess *S)
{
    unsigned off = S->ehlo_discard | 1u << EHLO_STARTTLS | 1u << EHLO_AUTH;
    if (S->p->disable_vrfy_command)
        off |= 1u << EHLO_VRFY;
    if (!S->p->smtputf8_enable)
        off |= 1u << EHLO_SMTPUTF8;
    if (smtpd_may_xclient(S) != LOOKUP_FOUND)
        off |= 1u << EHLO_XCLIENT;
    if (smtpd_may_xforward(S) != LOOKUP_FOUND)
        off |= 1u << EHLO_XFORWARD;
    return off;
}

/* What smtpd_discard_ehlo_keywords leaves out. */
static void log_discarded(struct smtpd_sess *S)
{
    struct buf b = BUF_INIT(400);
    if ((S->ehlo_discard & (EHLO_SILENT - 1)) == 0 || (S->ehlo_discard & EHLO_SILENT) != 0)
        return;
    for (int k = 0; k < EHLO_KEYWORDS; k++)
        if (S->ehlo_discard & 1u << k)
            buf_printf(&b, " %s", smtpd_ehlo_keyword_name((enum ehlo_keyword)k));
    log_line(&S->log, LOG_LV_INFO, "discarding EHLO keywords:%s", buf_cstr(&b));
    buf_free(&b);
}

enum cmd_result smtpd_cmd_EHLO(struct smtpd_sess *S, struct span arg)
{
    static const char *const plain[EHLO_KEYWORDS] = {
        [EHLO_PIPELINING] = "PIPELINING\r\n", [EHLO_VRFY] = "VRFY\r\n", [EHLO_ETRN] = "ETRN\r\n",
        [EHLO_ENHANCEDSTATUSCODES] = "ENHANCEDSTATUSCODES\r\n", [EHLO_8BITMIME] = "8BITMIME\r\n", [EHLO_DSN] = "DSN\r\n",
        [EHLO_XCLIENT] = "XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT\r\n",
        [EHLO_XFORWARD] = "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT\r\n", [EHLO_SMTPUTF8] = "SMTPUTF8\r\n", [EHLO_CHUNKING] = "CHUNKING\r\n",
    };
    if (!begin(S, arg, "EHLO") || !find_discarded(S) || !find_privileges(S))
        return CMD_ERROR;
    S->is_esmtp = true;
    log_discarded(S);
    unsigned off = discarded_keywords(S);
    struct buf b = BUF_INIT(0);
    size_t last = 0;
    buf_puts(&b, "250-");
    buf_puts(&b, S->p->myhostname);
    buf_puts(&b, "\r\n");
    for (int k = 0; k < EHLO_KEYWORDS; k++) {
        if (off & 1u << k)
            continue;
        last = b.n;
        buf_puts(&b, "250-");
        if (k != EHLO_SIZE) {
            buf_puts(&b, plain[k]);
        } else {
            buf_puts(&b, "SIZE");
            if (S->p->message_size_limit > 0)
                buf_printf(&b, " %lld", (long long)S->p->message_size_limit);
            buf_puts(&b, "\r\n");
        }
    }
    b.p[last + 3] = ' ';
    smtpd_reply_raw(S, buf_span(&b));
    buf_free(&b);
    return CMD_OK;
}
