/*
 * submit: hands a message to the running daemon, or leaves it in maildrop/ for the next start
 *
 * Purpose    returns only when the message is durable, or says why it is not
 * Source     daemon/control/README.md, daemon/control/submission.h; postdrop(1) for the meaning
 * Threads    one
 *
 * The daemon takes a message only after its last byte. So when the connection fails before that, or the daemon says no for now,
 * the file is the other way and nothing can be doubled. When it fails after the last byte and before the answer, nobody here
 * can know: the caller gets EX_TEMPFAIL, as an SMTP client would keep the message.
 */
#pragma once
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "daemon/cmd/mail_input.h"
#include "daemon/control/submission.h"

/*
 * 0, or an exit status with *e. Sets s->content_bytes. queue_dir: queue_directory. *queue_id (may be NULL): owned text, or
 * NULL when the message waits in maildrop/, where it has none yet.
 */
int submit_message(const char *queue_dir, struct submission *s, struct mail_input *in, char **queue_id, struct err *e) MUST_CHECK;
/* The two ways, for tests. submit_to_daemon() returns SUBMIT_USE_FILE when the file is to be used. */
#define SUBMIT_USE_FILE (-1)
int submit_to_daemon(const char *queue_dir, const struct submission *s, struct mail_input *in, char **queue_id, struct err *e) MUST_CHECK;
int submit_to_maildrop(const char *queue_dir, const struct submission *s, struct mail_input *in, struct err *e) MUST_CHECK;
