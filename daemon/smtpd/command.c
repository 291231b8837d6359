/*
 * Finds the next line, its command, and runs it. The table (commands.def) says what holds for a verb; what must have
 * come before is checked by the handlers, because the replies differ.
 */
#include "common/base/clock.h"
#include "daemon/smtpd/smtpd_internal.h"
#include "policy/answers.h"

#define ROUNDS_MAX 1000 /* of questions for one verdict: more is a mistake of ours, and would never end */

static const struct command {
    struct span verb;
    cmd_fn *run;
    unsigned flags;
} commands[] = {
#define CMD(id, verb, name, flags) [CMD_##id] = { { verb, sizeof(verb) - 1 }, smtpd_cmd_##id, flags },
#include "daemon/smtpd/commands.def"
#undef CMD
};
_Static_assert(ARRAY_LEN(commands) == CMD_UNKNOWN, "a handler for each command");

const char *smtpd_command_name(enum cmd_id id)
{
    return id < CMD_UNKNOWN ? commands[id].verb.p : "UNKNOWN";
}

void smtpd_policy_client(struct smtpd_sess *S, struct policy_client *c)
{
    /* namaddr is "name[addr]..." */
    struct span addr = span_cstr(S->namaddr + strlen(S->client_name) + 1);
    addr.n = (size_t)span_rfind(addr, ']');
    *c = (struct policy_client){
        .addr = S->s.peer,
        .addr_text = addr,
        .name = span_cstr(S->client_name),
        .reverse_name = span_cstr(S->reverse_name),
        .helo = span_cstr(S->helo ? S->helo : ""),
        .is_esmtp = S->is_esmtp,
        .is_pipelining_early = S->saw_illegal_pipelining,
        .is_name_tempfail = S->is_name_tempfail,
        .is_reverse_tempfail = S->is_reverse_tempfail,
    };
    if (S->login != NULL) {
        c->sasl_user = span_cstr(S->login);
        c->sasl_method = SPAN_LIT("XCLIENT");
    }
    if (!S->p->smtpd_delay_reject && S->carry == NULL)
        S->carry = xcalloc(1, sizeof *S->carry);
    c->carry = S->carry;
    if (S->answers == NULL)
        S->answers = smtpd_answers_new(S->env);
    c->answers = S->answers;
    if (S->s.peer_port != S->port_printed) { /* XCLIENT changes it */
        struct buf port = { .p = S->port_text, .cap = sizeof S->port_text, .max = sizeof S->port_text - 1 };
        buf_put_uint(&port, S->s.peer_port);
        S->port_text[port.n] = '\0';
        S->port_printed = S->s.peer_port;
    }
    if (S->s.peer_port != 0)
        c->port = span_cstr(S->port_text);
    if (S->tx != NULL) {
        c->sender = S->tx->sender;
        c->sender_given = S->tx->sender_given;
        c->size_bytes = S->tx->size_param;
        c->rcpt_count = S->tx->accepted;
        if (S->tx->has_qid)
            c->queue_id = span_cstr(S->tx->qid_text);
    }
}

static void reactor_blocks(void *arg)
{
    struct smtpd_sess *S = arg;
    if (S->env->will_block != NULL)
        S->env->will_block(&S->s);
}

/* What only policy servers are told. */
static void fill_for_servers(struct smtpd_sess *S, const char *word, struct policy_client *c)
{
    smtpd_know_server(S);
    c->server_addr = S->server_addr;
    c->server_port = S->server_port;
    c->state_word = strcmp(word, "BDAT") == 0 ? "DATA" : word; /* they know no BDAT */
    c->instance = span_cstr(arena_printf(smtpd_scratch(S), "%x.%llx.%llx.%x", S->log.pid, (unsigned long long)(S->begun_us / 1000000),
                                         (unsigned long long)(S->begun_us % 1000000), S->transactions));
    c->is_stressed = S->t == &S->svc->stress;
    c->will_block = reactor_blocks;
    c->will_block_arg = S;
}

/* What policy wants logged besides its verdict. */
static void log_notes(struct smtpd_sess *S, const char *word, struct span rcpt, const struct policy_note *n)
{
    for (; n != NULL; n = n->next) {
        struct span text = n->text;
        if (n->is_silent || (n->effect == EFFECT_HOLD && smtpd_action_is(S->tx, EFFECT_HOLD))) /* held once is enough */
            continue;
        if (n->code != 0)
            text = span_cstr(arena_printf(smtpd_scratch(S), "%d %.*s %.*s", n->code, SPAN_ARG(n->dsn), SPAN_ARG(n->text)));
        smtpd_log_event(S, n->what, word, rcpt, text);
    }
}

bool smtpd_policy_ok(struct smtpd_sess *S, enum policy_stage stage, const char *word, struct policy_client *c,
                     struct span rcpt_arg)
{
    struct verdict_reply r;
    if (S->out_fd >= 0) /* sendmail -bs: access is not restricted for local users (sendmail(1)) */
        return true;
    if (smtpd_action_is(S->tx, EFFECT_DISCARD)) /* whatever comes, it is thrown away */
        return true;
    if (policy_asks_servers(S->svc->policy, S->svc->svc))
        fill_for_servers(S, word, c);
    enum verdict v = policy_check(S->svc->policy, S->svc->svc, stage, c, smtpd_scratch(S), &r);
    if (v == VERDICT_WAIT && ++S->rounds <= ROUNDS_MAX) {
        S->is_asking = true;
        return false;
    }
    if (v == VERDICT_WAIT) {
        log_line(&S->log, LOG_LV_WARNING, "%s from %s: the restrictions have no verdict after %d rounds of questions", word, S->namaddr,
                 ROUNDS_MAX);
        r = (struct verdict_reply){ .code = 451, .dsn = SPAN_LIT("4.3.0"), .text = SPAN_LIT("Temporary lookup failure") };
        v = VERDICT_REJECT;
    }
    S->rounds = 0;
    log_notes(S, word, rcpt_arg, r.notes);
    if (v == VERDICT_OK) {
        for (const struct policy_note *n = r.notes; n != NULL; n = n->next)
            smtpd_action_note(S, n);
        return true;
    }
    smtpd_reject(S, word, rcpt_arg, &r);
    if (v == VERDICT_DISCONNECT)
        smtpd_end_session(S);
    return false;
}

static void count(struct smtpd_sess *S, enum cmd_id cmd, bool ok)
{
    if (S->count[cmd].total == UINT16_MAX)
        return;
    S->count[cmd].total++;
    S->count[cmd].ok += ok;
}

void smtpd_command_done(struct smtpd_sess *S, enum cmd_id cmd, bool ok)
{
    count(S, cmd, ok);
    if (!ok)
        S->errors++;
}

static enum cmd_id find_command(struct span verb)
{
    for (int i = 0; i < CMD_UNKNOWN; i++)
        if (span_ieq(verb, commands[i].verb))
            return (enum cmd_id)i;
    return CMD_UNKNOWN;
}

static enum cmd_result deny(struct smtpd_sess *S)
{
    smtpd_reply(S, 503, "5.7.0", "Error: access denied for %s", S->namaddr);
    return CMD_ERROR;
}

static enum cmd_result unknown_command(struct smtpd_sess *S, struct span verb, struct span line)
{
    if (verb.n > 0 &&
        (smtpd_word_in_list(S->p->smtpd_forbidden_commands, verb) || smtpd_service_is_forbidden(S->svc, line) ||
         span_find(verb, ':') > 0)) {
        log_line(&S->log, LOG_LV_WARNING, "non-SMTP command from %s: %.100s", S->namaddr,
                 arena_strndup(smtpd_scratch(S), line.p, line.n));
        smtpd_notify_error(S, NOTIFY_CLASS_PROTOCOL);
        smtpd_reply(S, 221, "2.7.0", "Error: I can break rules, too. Goodbye.");
        smtpd_end_session(S);
        return CMD_ERROR;
    }
    if (S->access_denied && verb.n > 0)
        return deny(S);
    smtpd_reply(S, 500, "5.5.2", verb.n > 0 ? "Error: command not recognized" : "Error: bad syntax");
    return CMD_ERROR;
}

/*
 * A command that ends a pipeline group has input behind it, or the client pipelines without having said EHLO. True: the
 * session is over.
 */
static bool is_pipelined_wrongly(struct smtpd_sess *S, enum cmd_id cmd)
{
    if (S->is_esmtp ? !(commands[cmd].flags & CMD_LAST) : (commands[cmd].flags & CMD_ALWAYS) != 0)
        return false;
    if (S->is_rerun || S->saw_illegal_pipelining || !smtpd_has_early_input(S))
        return false;
    S->saw_illegal_pipelining = true;
    smtpd_log_pipelining(S, commands[cmd].verb.p);
    if (!S->p->smtpd_forbid_unauth_pipelining)
        return false;
    smtpd_reply(S, 554, "5.5.0", "Error: SMTP protocol synchronization");
    smtpd_end_session(S);
    return true;
}

static enum cmd_result dispatch(struct smtpd_sess *S, enum cmd_id cmd, struct span verb, struct span arg, struct span line)
{
    if (*S->p->smtpd_noop_commands != '\0' && smtpd_word_in_list(S->p->smtpd_noop_commands, verb)) {
        smtpd_reply(S, 250, "2.0.0", "Ok");
        return CMD_OK;
    }
    if (cmd == CMD_UNKNOWN)
        return unknown_command(S, verb, line);
    if (S->access_denied && !(commands[cmd].flags & CMD_ALWAYS))
        return deny(S);
    if (is_pipelined_wrongly(S, cmd))
        return CMD_ERROR;
    return commands[cmd].run(S, arg);
}

/* smtpd_forbid_bare_newline = reject, for a command line. True: the session is over. */
static bool is_bare_lf_refused(struct smtpd_sess *S)
{
    const char *mode = S->p->smtpd_forbid_bare_newline;
    S->saw_bare_lf |= strcmp(mode, "no") != 0;
    if (strcmp(mode, "reject") != 0 || smtpd_bare_lf_is_excluded(S))
        return false;
    smtpd_reply(S, (int)S->p->smtpd_forbid_bare_newline_reject_code, "5.5.2", "%s Error: bare <LF> received",
                S->p->myhostname);
    log_line(&S->log, LOG_LV_INFO, "disconnect: bare <LF> received from %s after %s", S->namaddr, smtpd_state_word(S));
    smtpd_end_session(S);
    return true;
}

/* smtpd_command_filter: another line in the place of this one. False: the table failed, replied. */
static bool filter_line(struct smtpd_sess *S, struct span *line)
{
    struct err e = ERR_INIT;
    if (maps_is_empty(S->svc->command_filter) ||
        maps_lookup(S->svc->command_filter, *line, false, smtpd_scratch(S), line, &e) != LOOKUP_TEMPFAIL)
        return true;
    log_line(&S->log, LOG_LV_WARNING, "smtpd_command_filter: %s", e.text);
    smtpd_reply(S, 451, "4.3.0", "Temporary lookup failure");
    return false;
}

static void note_command(struct smtpd_sess *S, enum cmd_id cmd, struct span line)
{
    if (S->transcript == NULL || S->is_rerun)
        return;
    if (cmd == CMD_EHLO || cmd == CMD_HELO || cmd == CMD_RSET)
        smtpd_notify_flush_point(S);
    if (cmd == CMD_UNKNOWN)
        transcript_unknown(S->transcript, line);
    else
        transcript_command(S->transcript, true, line);
}

static enum flow run_line(struct smtpd_sess *S, struct span line)
{
    struct span verb, arg;
    bool is_ascii = span_is_ascii(line);
    atomic_fetch_add_explicit(&S->env->counters.commands, !S->is_rerun, memory_order_relaxed);
    line = span_trim(line);
    bool filtered = filter_line(S, &line);
    size_t n = 0;
    while (n < line.n && !ascii_is_blank(line.p[n]))
        n++;
    verb = span_of(line.p, n);
    arg = span_trim(span_from(line, n));
    enum cmd_id cmd = find_command(verb);
    note_command(S, cmd, line);
    S->last_cmd = (uint8_t)cmd;
    S->is_after_message = false;
    enum cmd_result r = CMD_ERROR;
    if (!filtered)
        ;
    else if (!is_ascii && S->p->smtputf8_enable && !utf8_is_valid(line))
        smtpd_reply(S, 500, "5.5.2", "Error: bad UTF-8 syntax");
    else
        r = dispatch(S, cmd, verb, arg, line);
    S->is_rerun = false;
    if (S->is_asking) {
        S->in_pos = S->line_pos;
        arena_reset(S->scratch);
        smtpd_ask(S);
        return FLOW_ON;
    }
    if (S->answers != NULL)
        policy_answers_clear(S->answers);
    if (cmd != CMD_UNKNOWN && (commands[cmd].flags & CMD_JUNK) && S->junk++ > (unsigned)S->p->smtpd_junk_command_limit) {
        smtpd_limit_reached(S, SMTPD_LIMIT_JUNK, S->p->smtpd_junk_command_limit);
        S->errors++;
    }
    if (r == CMD_LATER)
        S->pending_cmd = (uint8_t)cmd;
    else if (verb.n == 0) /* no command at all: an error that no name is counted for */
        S->errors++;
    else
        smtpd_command_done(S, cmd, r == CMD_OK);
    if (S->scratch != NULL)
        arena_reset(S->scratch);
    if (S->wants_greeting)
        smtpd_greet_anew(S);
    return FLOW_ON;
}

/* More than line_length_limit without a line end: thrown away up to it. */
static enum flow skip_long_line(struct smtpd_sess *S, const char *lf)
{
    struct span in = smtpd_input(S);
    if (!S->skipping) {
        smtpd_limit_reached(S, SMTPD_LIMIT_LINE, S->p->line_length_limit);
        log_line(&S->log, LOG_LV_WARNING, "%s: request longer than %lld: %.*s...", S->namaddr,
                 (long long)S->p->line_length_limit, (int)(in.n < 30 ? in.n : 30), in.p);
    }
    if (lf == NULL) {
        S->skipping = true;
        S->in_pos = S->in.n;
        return FLOW_INPUT;
    }
    S->skipping = false;
    S->request_deadline_ms = 0;
    S->in_pos = (size_t)(lf + 1 - S->in.p);
    S->last_cmd = CMD_UNKNOWN;
    if (S->transcript != NULL)
        transcript_note(S->transcript, "[a line longer than line_length_limit]");
    smtpd_reply(S, 500, "5.5.2", "Error: line too long");
    smtpd_command_done(S, CMD_UNKNOWN, false);
    return FLOW_ON;
}

enum flow smtpd_command_run(struct smtpd_sess *S)
{
    if (S->errors >= (unsigned)S->p->smtpd_hard_error_limit) {
        log_line(&S->log, LOG_LV_INFO, "too many errors after %s from %s", smtpd_state_word(S), S->namaddr);
        smtpd_limit_reached(S, SMTPD_LIMIT_ERRORS, S->p->smtpd_hard_error_limit);
        smtpd_notify_error(S, NOTIFY_CLASS_PROTOCOL);
        smtpd_reply(S, 421, "4.7.0", "%s Error: too many errors", S->p->myhostname);
        return FLOW_ON;
    }
    struct span in = smtpd_input(S);
    const char *lf = in.n > 0 ? memchr(in.p, '\n', in.n) : NULL;
    size_t n = lf ? (size_t)(lf - in.p) : in.n;
    if (S->skipping || n > (size_t)S->p->line_length_limit)
        return skip_long_line(S, lf);
    if (lf == NULL)
        return FLOW_INPUT;
    S->request_deadline_ms = 0;
    S->line_pos = S->in_pos;
    S->in_pos += n + 1;
    if (UNLIKELY(n == 0 || lf[-1] != '\r') && is_bare_lf_refused(S))
        return FLOW_ON;
    return run_line(S, span_of(in.p, n > 0 && lf[-1] == '\r' ? n - 1 : n));
}
