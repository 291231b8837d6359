/*
 * The step function: settles what woke the session, reads once, runs commands, writes once. The session keeps its buffers
 * only while it has something in them (park()).
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "daemon/smtpd/smtpd_internal.h"
#include "policy/answers.h"


static bool transition_ok(enum smtpd_state from, enum smtpd_state to)
{
    switch (from) {
    case SMTPD_CONNECT:
        return to == SMTPD_COMMAND || to == SMTPD_ASK || to == SMTPD_UPSTREAM || to == SMTPD_END;
    case SMTPD_UPSTREAM:
        return to == SMTPD_CONNECT || to == SMTPD_END;
    case SMTPD_COMMAND:
        return to == SMTPD_ASK || to == SMTPD_DATA || to == SMTPD_BDAT || to == SMTPD_COMMIT || to == SMTPD_END;
    case SMTPD_DATA:
    case SMTPD_BDAT:
        return to == SMTPD_COMMAND || to == SMTPD_COMMIT || to == SMTPD_ASK || to == SMTPD_END;
    case SMTPD_COMMIT:
        return to == SMTPD_COMMAND || to == SMTPD_END;
    case SMTPD_ASK:
        return to != SMTPD_COMMIT && to != SMTPD_ASK;
    case SMTPD_END:
        return to == SMTPD_END;
    }
    return false;
}

void smtpd_set_state(struct smtpd_sess *S, enum smtpd_state to)
{
    if (S->state == SMTPD_END) /* a reply of a command that runs on may not bring it back */
        return;
    if (UNLIKELY(!transition_ok((enum smtpd_state)S->state, to)))
        abort();
    S->state = (uint8_t)to;
}

struct arena *smtpd_scratch(struct smtpd_sess *S)
{
    if (S->scratch == NULL)
        S->scratch = arena_new(SCRATCH_BYTES);
    return S->scratch;
}

struct span smtpd_input(const struct smtpd_sess *S)
{
    return span_of(S->in.p ? S->in.p + S->in_pos : "", S->in.n - S->in_pos);
}

/* ---- handing a callback over ---- */

void smtpd_handoff_begin(struct smtpd_sess *S)
{
    atomic_store_explicit(&S->handoff, HANDOFF_ASKED, memory_order_relaxed);
}

void smtpd_handoff_answer(struct smtpd_sess *S)
{
    /* acq_rel pairs with smtpd_handoff_is_here(): what the callback wrote is seen by the step, and the other way round */
    if (atomic_exchange_explicit(&S->handoff, HANDOFF_ANSWERED, memory_order_acq_rel) == HANDOFF_WAITING)
        S->env->resume(&S->s);
}

bool smtpd_handoff_is_here(struct smtpd_sess *S)
{
    return atomic_exchange_explicit(&S->handoff, HANDOFF_WAITING, memory_order_acq_rel) == HANDOFF_ANSWERED;
}

/* ---- input and output ---- */

enum io_result { IO_DONE, IO_AGAIN, IO_LOST };

static ssize_t read_some(struct smtpd_sess *S, char *p, size_t n)
{
    ssize_t r;
    do
        r = S->out_fd < 0 ? recv(S->s.fd, p, n, 0) : read(S->s.fd, p, n);
    while (r < 0 && errno == EINTR);
    return r;
}

/* Room to read; more of it when the last read of a message filled what there was. */
static bool make_room(struct smtpd_sess *S)
{
    bool is_content = S->state == SMTPD_DATA || S->state == SMTPD_BDAT;
    size_t want = is_content ? (S->in_was_full ? IN_BUF_DATA_BYTES : IN_BUF_BYTES)
                             : (S->in_was_full ? IN_BUF_PIPELINE_BYTES : IN_BUF_COMMAND_BYTES);
    if (S->in_pos > 0) {
        buf_consume(&S->in, S->in_pos);
        S->in_pos = 0;
    }
    if (S->in.cap < want)
        return buf_reserve(&S->in, want - 1 - S->in.n);
    return buf_reserve(&S->in, 1);
}

static enum io_result fill(struct smtpd_sess *S)
{
    if (!make_room(S))
        return IO_LOST;
    size_t room = S->in.cap - 1 - S->in.n;
    ssize_t r = read_some(S, S->in.p + S->in.n, room);
    S->in_was_full = r == (ssize_t)room;
    S->s.is_bulk = S->in_was_full && room >= IN_BUF_COMMAND_BYTES;
    S->has_drained = r > 0 && r < (ssize_t)room;
    if (r > 0) {
        S->in.n += (size_t)r;
        return IO_DONE;
    }
    return r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? IO_AGAIN : IO_LOST;
}

static enum io_result flush_out(struct smtpd_sess *S)
{
    size_t done = 0;
    enum io_result res = IO_DONE;
    /* The answer to QUIT goes in one packet with the end of the connection, which comes at once. Not where there is input left: then
     * the end is a reset, which would overtake it. */
    bool is_goodbye = S->state == SMTPD_END && S->last_cmd == CMD_QUIT && S->has_drained && S->in_pos == S->in.n;
    int flags = MSG_NOSIGNAL | (is_goodbye ? MSG_MORE : 0);
    S->has_drained = false;
    while (done < S->out.n) {
        ssize_t r = S->out_fd < 0 ? send(S->s.fd, S->out.p + done, S->out.n - done, flags)
                                  : write(S->out_fd, S->out.p + done, S->out.n - done);
        if (r >= 0) {
            done += (size_t)r;
        } else if (errno != EINTR) {
            res = errno == EAGAIN || errno == EWOULDBLOCK ? IO_AGAIN : IO_LOST;
            break;
        }
    }
    if (res == IO_LOST)
        done = S->out.n;
    buf_consume(&S->out, done);
    return res;
}

/* The command line being run is in `in`: what is read goes behind it, and nothing moves. */
bool smtpd_has_early_input(struct smtpd_sess *S)
{
    int waiting = 0;
    if (S->out_fd >= 0) /* a local program may write its whole dialogue at once */
        return false;
    if (S->in.n > S->in_pos)
        return true;
    if (S->has_drained) /* the read of this step left nothing */
        return false;
    if (ioctl(S->s.fd, FIONREAD, &waiting) != 0 || waiting <= 0)
        return false;
    if (S->in.n == 0)
        return fill(S) == IO_DONE;
    size_t room = S->in.cap > S->in.n + 1 ? S->in.cap - 1 - S->in.n : 0;
    ssize_t r = room > 0 ? read_some(S, S->in.p + S->in.n, room) : 0;
    if (r > 0)
        S->in.n += (size_t)r;
    return room == 0 || r > 0;
}

/* ---- ends that are not QUIT ---- */

/*
 * smtpd_timeout is for each read and each write; with smtpd_per_request_deadline it is for all of a request (what content
 * comes fast enough buys more time, smtpd_request_earned()) and for all of what is answered.
 */
static int64_t deadline(struct smtpd_sess *S, int64_t *whole_ms)
{
    int64_t at = clock_mono_ms() + S->p->smtpd_timeout;
    if (!S->p->smtpd_per_request_deadline)
        return at;
    if (*whole_ms == 0)
        *whole_ms = at;
    return *whole_ms;
}

void smtpd_request_earned(struct smtpd_sess *S, size_t bytes)
{
    int64_t most = clock_mono_ms() + S->p->smtpd_timeout;
    if (S->request_deadline_ms == 0)
        return;
    S->request_deadline_ms += (int64_t)bytes * 1000 / S->p->smtpd_min_data_rate;
    if (S->request_deadline_ms > most)
        S->request_deadline_ms = most;
}

const char *smtpd_state_word(const struct smtpd_sess *S)
{
    if (S->state == SMTPD_CONNECT || (S->last_cmd == CMD_UNKNOWN && S->count[CMD_UNKNOWN].total == 0))
        return "CONNECT";
    if (S->is_after_message)
        return "END-OF-MESSAGE";
    return smtpd_command_name((enum cmd_id)S->last_cmd);
}

/* Postfix 3.10 puts the queue ID or NOQUEUE in front; log readers of Debian 12 count the line only without. */
static void log_bad_end(struct smtpd_sess *S, const char *what)
{
    char size[40] = "";
    if (!S->is_connected)
        return;
    if (S->tx != NULL && (S->state == SMTPD_DATA || S->state == SMTPD_BDAT))
        snprintf(size, sizeof size, " (%llu bytes)", (unsigned long long)S->tx->scan.taken);
    log_line(&S->log, LOG_LV_INFO, "%s after %s%s from %s", what, smtpd_state_word(S), size, S->namaddr);
}

/* A command whose end will not come: DATA and BDAT in the middle of their content. */
static void abandon_command(struct smtpd_sess *S)
{
    unsigned state = S->state == SMTPD_ASK ? S->ask_from : S->state;
    if (state == SMTPD_DATA || (state == SMTPD_BDAT && !S->bdat_skip))
        smtpd_command_done(S, (enum cmd_id)S->pending_cmd, false);
}

static enum sess_wait on_lost(struct smtpd_sess *S)
{
    atomic_fetch_add_explicit(&S->env->counters.lost, 1, memory_order_relaxed);
    abandon_command(S);
    if (S->state != SMTPD_END)
        log_bad_end(S, "lost connection");
    return WAIT_DONE;
}

static enum sess_wait on_timeout(struct smtpd_sess *S)
{
    atomic_fetch_add_explicit(&S->env->counters.timeouts, 1, memory_order_relaxed);
    abandon_command(S);
    if (S->state == SMTPD_END || S->out.n > 0) { /* it does not read either */
        if (S->state != SMTPD_END)
            log_bad_end(S, "timeout");
        return WAIT_DONE;
    }
    log_bad_end(S, "timeout");
    smtpd_reply(S, 421, "4.4.2", "%s Error: timeout exceeded", S->p->myhostname);
    (void)flush_out(S);
    return WAIT_DONE;
}

static enum sess_wait on_shutdown(struct smtpd_sess *S)
{
    abandon_command(S);
    if (S->state != SMTPD_END) {
        smtpd_reply(S, 421, "4.3.2", "%s Service shutting down", S->p->myhostname);
        (void)flush_out(S);
    }
    return WAIT_DONE;
}

/* ---- memory ---- */

bool smtpd_may_hold(struct smtpd_sess *S, size_t bytes)
{
    size_t want = bytes > SESS_FREE_BYTES ? bytes - SESS_FREE_BYTES : 0;
    if (want > S->charged && !spool_memory_take(S->env->spool, want - S->charged))
        return false;
    if (want < S->charged)
        spool_memory_give(S->env->spool, S->charged - want);
    S->charged = want;
    return true;
}

size_t smtpd_envelope_bytes(const struct smtpd_sess *S)
{
    const struct smtpd_tx *tx = S->tx;
    return tx == NULL ? 0 : arena_bytes(tx->msg->arena) + tx->seen_cap * sizeof *tx->seen + tx->carry.cap;
}

/* The session is going to wait for its client. False: not with so much in its hands. */
static bool may_wait(struct smtpd_sess *S)
{
    size_t buffers = S->in.n - S->in_pos + S->out.n + (S->tx != NULL && S->tx->pipe != NULL ? pipe_bytes(S->tx->pipe) : 0);
    /* An envelope that grew too large has what it has; its next recipient is refused. */
    return smtpd_may_hold(S, smtpd_envelope_bytes(S) + buffers) || buffers <= SESS_FREE_BYTES;
}

static enum sess_wait on_no_memory(struct smtpd_sess *S)
{
    abandon_command(S);
    if (S->state != SMTPD_END && S->out.n == 0) {
        smtpd_reply(S, 421, "4.3.1", "%s Error: insufficient memory, try later", S->p->myhostname);
        (void)flush_out(S);
    }
    return WAIT_DONE;
}

/* ---- the step ---- */

static enum sess_wait wait_output(struct smtpd_sess *S)
{
    if (!may_wait(S))
        return on_no_memory(S);
    S->s.deadline_ms = deadline(S, &S->reply_deadline_ms);
    return WAIT_OUTPUT;
}

static enum flow run_state(struct smtpd_sess *S)
{
    switch ((enum smtpd_state)S->state) {
    case SMTPD_CONNECT:
        return smtpd_connect_run(S);
    case SMTPD_COMMAND:
        return smtpd_command_run(S);
    case SMTPD_DATA:
        return smtpd_data_run(S);
    case SMTPD_BDAT:
        return smtpd_bdat_run(S);
    case SMTPD_COMMIT:
        return smtpd_commit_run(S);
    case SMTPD_ASK:
        return smtpd_ask_run(S);
    case SMTPD_UPSTREAM:
        return smtpd_upstream_run(S);
    case SMTPD_END:
        return FLOW_INPUT;
    }
    return FLOW_INPUT;
}

/* Writes what is gathered. WAIT_AGAIN means: go on. */
static enum sess_wait write_replies(struct smtpd_sess *S)
{
    switch (flush_out(S)) {
    case IO_DONE:
        S->reply_deadline_ms = 0;
        return S->state == SMTPD_END ? WAIT_DONE : WAIT_AGAIN;
    case IO_AGAIN:
        return wait_output(S);
    case IO_LOST:
        return on_lost(S);
    }
    return WAIT_DONE;
}

/* A callback was asked for: the step may end with WAIT_CALLBACK only, because anything else could end the session first. */
static bool is_callback_owed(const struct smtpd_sess *S)
{
    return S->state == SMTPD_COMMIT || (S->state == SMTPD_ASK && S->sleep_ms == 0);
}

static enum sess_wait run(struct smtpd_sess *S)
{
    for (int i = 0; i < COMMANDS_PER_STEP || is_callback_owed(S); i++) {
        enum flow f = run_state(S);
        if (f == FLOW_ON && is_callback_owed(S))
            continue;
        if (S->tarpit && f != FLOW_WAIT) {
            S->s.deadline_ms = clock_mono_ms() + S->p->smtpd_error_sleep_time;
            return WAIT_TIMER;
        }
        if (f == FLOW_WAIT)
            return WAIT_CALLBACK;
        if (f == FLOW_SLEEP) {
            S->s.deadline_ms = clock_mono_ms() + S->sleep_ms;
            return WAIT_TIMER;
        }
        if (f == FLOW_ON && S->out.n < OUT_FLUSH_BYTES)
            continue;
        enum sess_wait w = write_replies(S);
        if (w != WAIT_AGAIN)
            return w;
        if (f == FLOW_INPUT) {
            if (!may_wait(S))
                return on_no_memory(S);
            S->s.deadline_ms = S->state == SMTPD_UPSTREAM ? S->request_deadline_ms : deadline(S, &S->request_deadline_ms);
            return WAIT_INPUT;
        }
    }
    return WAIT_AGAIN;
}

static bool has_upstream(const struct smtpd_sess *S)
{
    return *S->p->smtpd_upstream_proxy_protocol != '\0' && S->out_fd < 0;
}

static enum sess_wait smtpd_step(struct sess *base, enum sess_wake why)
{
    struct smtpd_sess *S = (struct smtpd_sess *)base;
    enum sess_wait w;
    S->has_drained = false;
    switch (why) {
    case WAKE_START:
        smtpd_notify_begin(S);
        if (has_upstream(S))
            smtpd_upstream_begin(S);
        else if (!smtpd_connect_begin(S))
            return WAIT_DONE;
        return run(S);
    case WAKE_TIMEOUT:
        if (!S->tarpit && S->state == SMTPD_ASK) {
            S->sleep_ms = 0;
            (void)smtpd_ask_again(S);
            return run(S);
        }
        if (S->state == SMTPD_UPSTREAM) {
            smtpd_upstream_timeout(S);
            return run(S);
        }
        if (!S->tarpit)
            return on_timeout(S);
        S->tarpit = false;
        w = write_replies(S);
        return w == WAIT_AGAIN ? run(S) : w;
    case WAKE_SHUTDOWN:
        return on_shutdown(S);
    case WAKE_CALLBACK:
        return run(S);
    case WAKE_READY:
        break;
    }
    if (S->out.n > 0) {
        w = write_replies(S);
        return w == WAIT_AGAIN ? run(S) : w;
    }
    if (S->state == SMTPD_UPSTREAM)
        return run(S);
    /* also when nothing came: the last turn may have ended (WAIT_AGAIN) with lines left */
    return fill(S) == IO_LOST ? on_lost(S) : run(S);
}

static void smtpd_park(struct sess *base)
{
    struct smtpd_sess *S = (struct smtpd_sess *)base;
    buf_consume(&S->in, S->in_pos);
    S->in_pos = 0;
    buf_shrink(&S->in, 0);
    buf_shrink(&S->out, 0);
    arena_free(&S->scratch);
}

static void smtpd_destroy(struct sess *base)
{
    struct smtpd_sess *S = (struct smtpd_sess *)base;
    smtpd_tx_drop(S);
    spool_memory_give(S->env->spool, S->charged);
    smtpd_notify_end(S);
    smtpd_client_gone(S);
    if (S->is_connected)
        smtpd_log_disconnect(S);
    smtpd_lookup_free(&S->lookup);
    policy_answers_free(&S->answers);
    buf_free(&S->in);
    buf_free(&S->out);
    arena_free(&S->scratch);
    free(S->client_name);
    free(S->reverse_name);
    free(S->namaddr);
    free(S->helo);
    free(S->login);
    free(S->carry);
    smtpd_service_unref(&S->svc);
    free(S);
}

static const struct sess_ops smtpd_ops = { .step = smtpd_step, .park = smtpd_park, .destroy = smtpd_destroy };

/* Five to seven digits, unique among the sessions of a long time. */
static unsigned next_pid(struct smtpd_env *env)
{
    return 10000 + atomic_fetch_add_explicit(&env->next_pid, 1, memory_order_relaxed) % 9990000;
}

struct sess *smtpd_create(struct listener *l, int fd, const struct ip_addr *peer, uint16_t peer_port, void *arg)
{
    struct smtpd_env *env = arg;
    struct smtpd_sess *S = xcalloc(1, sizeof *S);
    S->s.ops = &smtpd_ops;
    S->s.fd = fd;
    S->s.peer = *peer;
    S->s.peer_port = peer_port;
    S->env = env;
    S->svc = smtpd_service_ref(l->arg);
    bool is_stressed = env->is_stressed != NULL && env->is_stressed(env->stress_arg);
    S->t = is_stressed ? &S->svc->stress : &S->svc->normal;
    S->p = S->t->p;
    S->ehlo_discard = S->t->ehlo_discard;
    S->out_fd = -1;
    S->begun_us = clock_wall_us();
    S->last_cmd = CMD_UNKNOWN;
    S->log = (struct log_src){ .log = env->log, .name = S->p->syslog_name, .prog = "smtpd", .pid = next_pid(env) };
    if (is_stressed)
        smtpd_limit_reached(S, SMTPD_LIMIT_STRESS, -1);
    buf_init(&S->in, IN_BUF_DATA_BYTES + 1024);
    buf_init(&S->out, 1u << 20);
    atomic_fetch_add_explicit(&env->counters.sessions, 1, memory_order_relaxed);
    if (!has_upstream(S) && !smtpd_client_may_enter(S, is_stressed)) {
        (void)flush_out(S);
        smtpd_destroy(&S->s);
        return NULL;
    }
    return &S->s;
}
