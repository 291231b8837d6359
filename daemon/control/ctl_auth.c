/*
 * Who may ask for what. Over control_socket the file mode has decided already; the peer's uid is checked all the same. Over
 * public/submit an ordinary user needs to be in the list of the right he uses; a user without a login name matches
 * only patterns that match everybody ("unknown" stands for him).
 */
#include "daemon/control/control_internal.h"

#include "common/conf/params.h"
#include "daemon/control/user_list.h"

bool ctl_user_may_submit(struct conf *c, uid_t uid, const struct log_src *log, struct err *e)
{
    return uid == 0 ||
           user_is_listed(c, "authorized_submit_users", conf_global(c)->authorized_submit_users, uid, log, e);
}

bool ctl_is_allowed(struct ctl_client *cl, enum ctl_right right, struct err *e)
{
    const struct control_options *o = &cl->c->o;
    if (cl->peer.is_owner)
        return true;
    if (right == RIGHT_OWNER) {
        err_set(e, "only root and the owner of the mail system may do this");
        return false;
    }
    struct conf *c = o->conf(o->arg);
    const struct params *p = conf_global(c);
    bool ok = false;
    switch (right) {
    case RIGHT_MAILQ:
        ok = user_is_listed(c, "authorized_mailq_users", p->authorized_mailq_users, cl->peer.uid, o->log, e);
        break;
    case RIGHT_FLUSH:
        ok = user_is_listed(c, "authorized_flush_users", p->authorized_flush_users, cl->peer.uid, o->log, e);
        break;
    case RIGHT_SUBMIT:
        ok = ctl_user_may_submit(c, cl->peer.uid, o->log, e);
        break;
    case RIGHT_OWNER:
        break;
    }
    conf_unref(&c);
    return ok;
}
