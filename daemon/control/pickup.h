/*
 * pickup: takes what sendmail left in maildrop/ while the daemon was down
 *
 * Purpose    looks at start, whenever a file appears, and once a minute; submits each file and removes it so that a
 *            message is neither lost nor doubled, whenever the process is killed
 * Source     pickup(8), maildrop directory of Postfix for the meaning; file format in submission.h
 * Threads    pickup_committed(): committer. new/start/stop/free: main. One thread of its own does the rest.
 * Ownership  borrows what is in the options until pickup_stop()
 * Errors     a file that is no submission, or whose user may not submit, goes to corrupt/; one that cannot be taken now
 *            stays for the next round
 *
 * Exactly once: a file is first renamed to maildrop/active/ID, ID being the number that its message will have. The message is
 * committed, and pickup_committed(), which stands between spool and scheduler (spool_sink), unlinks the file BEFORE
 * the scheduler hears of the message. So while the file is there, the message has not been delivered. After a kill:
 *   - before the flush: the file is still in active/, the message is not in the journal: taken again;
 *   - after the flush, before the unlink: recovery finds the message; pickup_committed() or pickup_recover() unlinks the file
 *     before it is delivered;
 *   - after the unlink: nothing is left to do.
 * Unlinks are not flushed: after a power cut a file may be back, and is then taken again if the message has been
 * delivered and forgotten meanwhile (DESIGN "The spool": a power cut may repeat, never lose).
 */
#pragma once
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "daemon/control/local_submit.h"
#include "queue/sched.h"

#define PICKUP_ROUND_MS 60000

struct pickup_options {
    const char *queue_dir;     /* queue_directory; borrowed during pickup_new() */
    const char *setgid_group;  /* group that may write into maildrop/; without such a group everybody may */
    struct local_env env;
    struct sched *sched;
};

struct pickup;

/* As root, before it becomes uid: makes maildrop/ that user's and the group's, which that user alone could not. */
bool pickup_make_maildrop(const char *queue_dir, const char *setgid_group, uid_t uid, gid_t gid, struct err *e) MUST_CHECK;
/* Makes maildrop/, maildrop/active/ and corrupt/ when they are missing. Before spool_start(). */
struct pickup *pickup_new(const struct pickup_options *o, struct err *e) MUST_CHECK;
/* struct spool_sink.committed, arg a struct pickup: passes every message on to sched_committed(). */
void pickup_committed(void *arg, struct msg *m);
/*
 * Between spool_start() and sched_start(): unlinks the files whose messages recovery has found, those too that it left in the
 * index and gave to nobody. Later they might be delivered and forgotten.
 */
void pickup_recover(struct pickup *p);
/* After the scheduler has started. Returns errno. */
int pickup_start(struct pickup *p) MUST_CHECK;
/* Ends the thread after the file that it is at; before spool_stop(). pickup_committed() still works. NULL is fine. */
void pickup_stop(struct pickup *p);
void pickup_free(struct pickup **p);
