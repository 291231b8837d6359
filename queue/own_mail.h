/*
 * own_mail: what all messages that this system writes itself have in common
 *
 * Purpose    envelope, identifiers and first header lines of notifications (bounce.h) and notices (notice.h), and the test
 *            by which they are known again, so that one never causes another
 * Source     RFC 5321 4.5.5, 6.1; RFC 3834 (Auto-Submitted); postconf(5) double_bounce_sender, myorigin
 * Threads    any
 */
#pragma once
#include "common/base/buf.h"
#include "common/conf/params.h"
#include "queue/spool.h"

struct own_mail {
    const struct params *p;    /* borrowed */
    uint64_t id;
    int64_t now_us;
    struct span from, to;      /* envelope, internal form; in the message's arena */
    struct span message_id;    /* with <>; in the message's arena */
};

/* A message from `from` (empty: the null sender) without recipient and content, and what its text needs. */
struct msg *own_mail_new(struct own_mail *o, const struct params *p, struct spool *s, struct span from, struct span to);
/* Received to Message-Id; the MIME lines are the caller's. 8-bit bytes of the recipient are kept when is_utf8. */
void own_mail_put_header(struct buf *b, const struct own_mail *o, const char *subject, bool is_utf8);
#define OWN_MAIL_ADDRESS_SHOWN 900 /* bytes: a line has at most 998, and an address that the world has at most 256 */
/* An address in external form, cleaned; the end of an endless one is left out. */
void own_mail_put_address(struct buf *b, struct span internal, bool is_utf8);
/* One byte of text from outside: no control bytes, and 8-bit only where the form allows it. */
char own_mail_clean(char c, bool is_utf8);
/* An address as configured; without a domain it is completed with myorigin. */
struct span own_mail_address(struct arena *a, const char *name, const struct params *p);
/* Mail from our double-bounce address never causes another notification, whatever domain it was completed with. */
bool own_mail_is_double_bounce(const struct params *p, struct span sender);
/* The "message-id=" line that log readers expect of every message. */
void own_mail_log(const struct log_src *log, const struct own_mail *o);
