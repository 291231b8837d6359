/*
 * sendmail_options: the command line of sendmail, mailq and newaliases
 *
 * Purpose    accepts what Postfix's sendmail accepts: options that act, and those that are ignored for history's sake
 * Source     posthouse-sendmail(1); reference/wire-formats.md section 17
 * Threads    values
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "queue/msg.h"

enum sendmail_mode {
    SM_DELIVER,     /* -bm, the default */
    SM_LIST,        /* -bp, mailq */
    SM_VERIFY,      /* -bv */
    SM_SMTP,        /* -bs */
    SM_FLUSH,       /* -q */
    SM_FLUSH_ID,    /* -qI; arg */
    SM_FLUSH_SITE,  /* -qR; arg */
    SM_ALIASES,     /* -bi, -I, newaliases; arg: -oA */
    SM_DAEMON,      /* -bd, -bl */
};

struct sendmail_options {
    enum sendmail_mode mode;
    const char *arg;
    const char *conf_dir;   /* NULL: not given */
    const char *sender;     /* NULL: not given */
    const char *full_name;  /* NULL: not given */
    const char *envid;      /* NULL: not given */
    bool extract;           /* -t */
    bool ignore_dots;       /* -i, -oi */
    bool is_8bitmime, is_smtputf8;
    uint8_t notify;         /* NOTIFY_* */
    enum dsn_ret ret;
    char **rcpts;           /* the rest of argv */
    int rcpt_count;
};

/* 0, or an exit status with *e. argv[0]'s base name chooses mailq and newaliases. */
int sendmail_parse(int argc, char **argv, struct sendmail_options *out, struct err *e) MUST_CHECK;
