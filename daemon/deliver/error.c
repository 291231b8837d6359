/*
 * error(8) and discard(8): no conversation, the next hop is the text.
 *
 * master.cf has both services run the program "error"; the one named "retry" defers, any other bounces.
 */
#include "daemon/deliver.h"
#include "daemon/deliver/dsn_text.h"

static void report_nexthop(struct deliver_env *env, struct job *j, enum outcome outcome, const char *dsn)
{
    char code[12];
    struct delivery_result r = { .outcome = outcome, .relay = SPAN_LIT("none") };
    dsn_text_split(j->nexthop, dsn, code, &r.dsn, &r.reason);
    sched_report_all(env->sched, j, &r);
    sched_finish(env->sched, &j, SITE_NEUTRAL);
}

void deliver_retry(struct deliver_env *env, struct job *j) { report_nexthop(env, j, OUTCOME_DEFERRED, "4.0.0"); }

void deliver_error(struct deliver_env *env, struct job *j)
{
    if (strcmp(j->transport->name, "retry") == 0)
        deliver_retry(env, j);
    else
        report_nexthop(env, j, OUTCOME_BOUNCED, "5.0.0");
}

void deliver_discard(struct deliver_env *env, struct job *j) { report_nexthop(env, j, OUTCOME_SENT, "2.0.0"); }
