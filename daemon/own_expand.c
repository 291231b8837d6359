#include "daemon/own_expand.h"
#include "daemon/daemon.h"
#include "policy/rewrite/rewrite.h"

bool own_expand_cb(void *arg, struct span rcpt, struct arena *a, struct span **out, size_t *count, struct err *e)
{
    struct policy *p = daemon_policy(arg);
    struct span addr;
    bool ok = rewrite_envelope(p, REWRITE_ENV_RCPT, true, rcpt, a, &addr, NULL, e) != LOOKUP_TEMPFAIL &&
              route_expand(p, addr, a, out, count, e) != LOOKUP_TEMPFAIL;
    policy_unref(&p);
    return ok;
}
