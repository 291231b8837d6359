#include "daemon/probe.h"

#include "common/base/clock.h"
#include "common/conf/conf.h"
#include "common/mail/address.h"
#include "policy/route.h"
#include "queue/msg.h"
#include "queue/spool.h"

/* One probe under way. */
struct probe {
    struct job_probe hook;
    struct deliver_env *env;
    struct policy *policy;      /* counted */
    struct arena *arena;
    struct span sender;
    struct verify_result *out;
    bool is_reported;
};

static void say(struct probe *x, enum verify_status status, struct span text)
{
    x->out->status = status;
    snprintf(x->out->text, sizeof x->out->text, "%.*s", SPAN_ARG(text));
}

static const char *const status_words[] = { [VERIFY_OK] = "deliverable", [VERIFY_DEFER] = "undeliverable", [VERIFY_BOUNCE] = "undeliverable" };

static enum verify_status status_of(enum outcome o)
{
    return o == OUTCOME_SENT ? VERIFY_OK : o == OUTCOME_DEFERRED ? VERIFY_DEFER : VERIFY_BOUNCE;
}

/* An agent may report the same job twice only by mistake: the first word counts. */
static void reported_cb(struct job *j, const struct delivery_result *r)
{
    struct probe *x = j->probe->arg;
    if (x->is_reported)
        return;
    x->is_reported = true;
    say(x, status_of(r->outcome), r->reason);
    sched_log_probe(x->env->sched, j, r, status_words[x->out->status]);
}

/* A message without content. */
static struct msg *make_message(struct probe *x, struct span address, const struct route *route)
{
    struct msg *m = msg_new();
    struct envelope *env = &m->env;
    env->id = qid_new(spool_qids(x->env->spool));
    env->arrival_us = clock_wall_us();
    env->sender = arena_dup_span(m->arena, x->sender);
    env->flags = span_is_ascii(route->recipient) && span_is_ascii(x->sender) ? 0 : ENV_SMTPUTF8;
    env->client_name = env->client_addr = env->client_port = env->helo = env->proto = env->sasl_user = env->sasl_method = env->message_id =
        env->envid = SPAN_LIT("");
    struct msg_rcpt *r = msg_add_rcpt(m);
    r->addr = arena_dup_span(m->arena, route->recipient);
    r->orig = arena_dup_span(m->arena, address);
    r->orcpt = SPAN_LIT("");
    r->notify = NOTIFY_NEVER;
    r->route.transport = arena_dup_span(m->arena, route->transport);
    r->route.nexthop = arena_dup_span(m->arena, route->nexthop);
    return m;
}

static void ask_agent(struct probe *x, struct span address, const struct route *route)
{
    struct conf *c = policy_conf(x->policy);
    const struct conf_service *svc = conf_transport(c, route->transport);
    deliver_fn *agent = svc != NULL ? deliver_agent(svc->command) : NULL;
    if (agent == NULL) {
        log_warn(x->env->log, "address verification: no usable transport \"%.*s\" in master.cf", SPAN_ARG(route->transport));
        say(x, VERIFY_DEFER, SPAN_LIT("mail transport unavailable"));
        return;
    }
    struct msg *m = make_message(x, address, route);
    struct job_rcpt rcpt = { .index = 0 };
    x->hook = (struct job_probe){ .report = reported_cb, .arg = x };
    struct job j = { .msg = m, .conf = c, .transport = svc, .nexthop = m->env.rcpts[0].route.nexthop, .rcpt_count = 1, .rcpts = &rcpt,
                     .active_us = clock_wall_us(), .probe = &x->hook };
    j.taken_us = j.active_us;
    agent(x->env, &j);
    msg_unref(&m);
}

/* What virtual aliases make of it; one that stands for several people is good. */
static bool expand(struct probe *x, struct span *address)
{
    struct span *to = NULL;
    size_t n = 0;
    struct err e = ERR_INIT;
    if (route_expand(x->policy, *address, x->arena, &to, &n, &e) == LOOKUP_TEMPFAIL) {
        say(x, VERIFY_DEFER, span_cstr(e.text));
        return false;
    }
    if (n > 1) {
        say(x, VERIFY_OK, SPAN_LIT("aliased to multiple recipients"));
        return false;
    }
    *address = n == 1 ? to[0] : *address;
    return true;
}

void probe_run(void *arg, struct span address, struct verify_result *out)
{
    struct prober *q = arg;
    struct probe x = { .env = q->env, .policy = q->policy(q->arg), .arena = arena_new(0), .out = out };
    struct route route;
    struct err e = ERR_INIT;
    struct span to = address;
    x.sender = verify_sender(conf_global(policy_conf(x.policy)), clock_wall_s(), x.arena);
    say(&x, VERIFY_DEFER, SPAN_LIT("the probe had no result"));
    if (!expand(&x, &to))
        goto out;
    if (route_resolve_probe(x.policy, x.sender, to, x.arena, &route, &e) != LOOKUP_FOUND)
        say(&x, VERIFY_DEFER, span_cstr(e.text));
    else if (route.is_bad_address)
        say(&x, VERIFY_BOUNCE, SPAN_LIT("bad address syntax"));
    else
        ask_agent(&x, address, &route);
out:
    arena_free(&x.arena);
    policy_unref(&x.policy);
}
