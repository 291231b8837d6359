/*
 * Policy needs what is not here: DNS answers, or a pause. The session waits, and the command (or the greeting, or the end
 * of a message) is done again from its beginning with the answers at hand. Until policy has its verdict such a command
 * changes nothing that counts; what does count (rates, transcript) looks at is_rerun.
 */
#include "daemon/smtpd/smtpd_internal.h"
#include "policy/answers.h"

struct policy_answers *smtpd_answers_new(struct smtpd_env *env)
{
    struct policy_answers *a = policy_answers_new(env->dns);
    policy_answers_set_verifier(a, env->verifier);
    return a;
}

static void answered(void *arg)
{
    smtpd_handoff_answer(arg);
}

void smtpd_ask(struct smtpd_sess *S)
{
    S->is_asking = false;
    S->ask_from = S->state;
    smtpd_set_state(S, SMTPD_ASK);
    if (S->state != SMTPD_ASK)
        return; /* the session is over */
    S->sleep_ms = policy_answers_take_sleep_ms(S->answers);
    if (S->sleep_ms > 0)
        return;
    smtpd_handoff_begin(S);
    policy_answers_ask(S->answers, answered, S);
}

enum flow smtpd_ask_run(struct smtpd_sess *S)
{
    if (S->sleep_ms > 0)
        return FLOW_SLEEP;
    if (!smtpd_handoff_is_here(S))
        return FLOW_WAIT;
    return smtpd_ask_again(S);
}

enum flow smtpd_ask_again(struct smtpd_sess *S)
{
    smtpd_set_state(S, S->ask_from == SMTPD_CONNECT ? SMTPD_COMMAND : (enum smtpd_state)S->ask_from);
    switch ((enum smtpd_state)S->ask_from) {
    case SMTPD_CONNECT:
        smtpd_greet(S);
        break;
    case SMTPD_DATA:
    case SMTPD_BDAT:
        return smtpd_message_judge(S);
    default:
        S->is_rerun = true;
        break;
    }
    return FLOW_ON;
}
