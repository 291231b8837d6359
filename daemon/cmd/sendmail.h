/*
 * sendmail: what its modes share
 *
 * Source     posthouse-sendmail(1), mailq(1)
 * Threads    one
 */
#pragma once
#include "common/base/attrs.h"
#include "common/conf/conf.h"
#include "daemon/cmd/sendmail_options.h"

struct sendmail {
    struct sendmail_options o;
    const char *name;          /* for messages */
    const char *conf_dir;
    struct conf *conf;         /* counted */
    const struct params *p;
};

/* Tells on standard error. Returns status. */
int sendmail_fail(const struct sendmail *sm, int status, const char *fmt, ...) PRINTF_FMT(3, 4);
/* Each an exit status. */
int sendmail_deliver(struct sendmail *sm); /* sendmail_deliver.c */
int sendmail_list(struct sendmail *sm);    /* sendmail_queue.c */
int sendmail_flush(struct sendmail *sm);
int sendmail_verify(struct sendmail *sm);  /* sendmail_verify.c */
int sendmail_smtp(struct sendmail *sm);    /* sendmail_smtp.c */
int sendmail_smtp_down(struct sendmail *sm); /* sendmail_smtp_down.c */
int sendmail_aliases(struct sendmail *sm); /* sendmail_aliases.c */
