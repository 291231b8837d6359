/*
 * BDAT. RFC 3030. A chunk follows the command line whatever the answer will be, so a refused command still takes its
 * chunk; only when the size cannot be read is the position in the stream lost, and the session ends.
 */
#include "common/base/num.h"
#include "daemon/smtpd/smtpd_internal.h"

static bool parse(struct span arg, int64_t *size, bool *last)
{
    struct span number, word, more;
    *last = false;
    if (!span_next_token(&arg, " \t", &number) || !num_parse(number, 0, INT64_MAX, size))
        return false;
    if (!span_next_token(&arg, " \t", &word))
        return true;
    *last = span_ieq_cstr(word, "LAST");
    return *last && !span_next_token(&arg, " \t", &more);
}

/* The reply has been given; the chunk is thrown away. */
static enum cmd_result skip(struct smtpd_sess *S, bool last)
{
    S->bdat_skip = true;
    S->bdat_failed = true; /* what follows goes the same way, up to the last chunk */
    if (last)
        smtpd_tx_drop(S);
    smtpd_set_state(S, SMTPD_BDAT);
    return CMD_ERROR;
}

/* State, size and policy. False: replied. */
static bool may_take(struct smtpd_sess *S)
{
    struct smtpd_tx *tx = S->tx;
    struct policy_client c;
    if (S->bdat_failed) {
        smtpd_reply(S, 551, "5.0.0", "Discarded %llu bytes after earlier error", (unsigned long long)S->bdat_chunk);
        return false;
    }
    if (tx == NULL) {
        smtpd_reply(S, 503, "5.5.1", "Error: need RCPT command");
        return false;
    }
    if (tx->accepted == 0) {
        smtpd_reply(S, 554, "5.5.1", "Error: no valid recipients");
        return false;
    }
    if (S->p->message_size_limit > 0 && S->bdat_chunk + tx->scan.taken > (uint64_t)S->p->message_size_limit) {
        log_line(&S->log, LOG_LV_WARNING, "%s: BDAT request from %s exceeds message size limit", smtpd_qid(S),
                 S->namaddr);
        smtpd_limit_reached(S, SMTPD_LIMIT_SIZE, S->p->message_size_limit);
        smtpd_reply(S, 552, "5.3.4", "Chunk exceeds message size limit");
        tx->is_bdat = true;
        return false;
    }
    if (tx->is_bdat)
        return true;
    smtpd_policy_client(S, &c);
    if (tx->accepted == 1)
        c.recipient = tx->first_rcpt;
    return smtpd_policy_ok(S, STAGE_DATA, "BDAT", &c, addr_quoted(smtpd_scratch(S), c.recipient));
}

enum cmd_result smtpd_cmd_BDAT(struct smtpd_sess *S, struct span arg)
{
    int64_t size = 0;
    bool last;
    if (S->ehlo_discard & 1u << EHLO_CHUNKING) { /* 521: content follows, not a command */
        smtpd_reply(S, 521, "5.5.1", "Error: command not implemented");
        return CMD_ERROR;
    }
    if (!parse(arg, &size, &last)) {
        log_line(&S->log, LOG_LV_WARNING, "%s: malformed BDAT command syntax from %s: BDAT %.*s", smtpd_qid(S),
                 S->namaddr, SPAN_ARG(arg));
        smtpd_reply(S, 521, "5.5.4", "Syntax: BDAT count [LAST]");
        return CMD_ERROR;
    }
    if (size == 0 && !last) {
        log_line(&S->log, LOG_LV_WARNING, "%s: null BDAT request from %s", smtpd_qid(S), S->namaddr);
        S->bdat_failed = true;
        smtpd_reply(S, 551, "5.7.1", "Null BDAT request");
        return CMD_ERROR;
    }
    S->bdat_chunk = S->bdat_left = (uint64_t)size;
    S->bdat_last = last;
    S->bdat_skip = false;
    if (!may_take(S))
        return S->is_asking ? CMD_ERROR : skip(S, last);
    if (!S->tx->is_bdat) {
        S->tx->is_bdat = true;
        smtpd_message_begin(S, false);
    }
    smtpd_set_state(S, SMTPD_BDAT);
    return CMD_LATER;
}

enum flow smtpd_bdat_run(struct smtpd_sess *S)
{
    struct span in = smtpd_input(S);
    size_t take = in.n < S->bdat_left ? in.n : (size_t)S->bdat_left;
    if (S->bdat_skip)
        smtpd_request_earned(S, take);
    else if (take > 0)
        smtpd_message_feed_bdat(S, S->in.p + S->in_pos, take);
    S->in_pos += take;
    S->bdat_left -= take;
    if (S->bdat_left > 0)
        return FLOW_INPUT;
    if (!S->bdat_skip && S->bdat_last)
        return smtpd_message_end(S);
    smtpd_set_state(S, SMTPD_COMMAND);
    S->request_deadline_ms = 0;
    if (!S->bdat_skip) {
        smtpd_reply(S, 250, "2.0.0", "Ok: %llu bytes", (unsigned long long)S->bdat_chunk);
        smtpd_command_done(S, CMD_BDAT, true);
    }
    return FLOW_ON;
}
