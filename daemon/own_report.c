#include "daemon/own_report.h"

#include "common/base/mem.h"
#include "daemon/daemon.h"
#include "daemon/own_inspect.h"
#include "queue/bounce.h"

enum spool_status own_report_cb(void *arg, struct msg *original, const struct mail_expanded *list, struct msg **out)
{
    struct daemon *d = arg;
    struct policy *p = daemon_policy(d);
    struct log_src log = d->src;
    log.prog = "bounce";
    struct bounce_options o = { .spool = d->spool, .conf = policy_conf(p), .log = &log, .own = own_policy_of(d) };
    size_t n = 0;
    for (const struct mail_expanded *x = list; x != NULL; x = x->next)
        n++;
    struct bounce_rcpt *r = xcalloc(n + 1, sizeof *r);
    n = 0;
    for (const struct mail_expanded *x = list; x != NULL; x = x->next)
        r[n++] = (struct bounce_rcpt){ .to = &x->rcpt, .outcome = OUTCOME_SENT, .action = x->is_final ? "delivered" : "expanded",
                                       .dsn = SPAN_LIT("2.0.0"), .reason = SPAN_LIT("alias expanded") };
    enum spool_status st = bounce_expanded(&o, original, r, n, out);
    free(r);
    policy_unref(&p);
    return st;
}
