/*
 * queue-compact {}: a line now and then with how far it is, the last one with the outcome. Whoever closes the connection ends
 * the compaction; what was moved until then stays.
 */
#include "daemon/control/control_internal.h"

#include <poll.h>
#include <sysexits.h>

#include "queue/spool.h"

#define TELL_MS 500

static json_t *compaction_json(const struct spool_compaction *k)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "segments_left", (json_int_t)k->segments_left, "segments_done",
                     (json_int_t)k->segments_done, "messages", (json_int_t)k->messages, "bytes_copied", (json_int_t)k->bytes_copied,
                     "bytes_before", (json_int_t)k->bytes_before, "bytes_now", (json_int_t)k->bytes_now);
}

/* False when the client is gone: it has closed, or sends what nobody asked for. */
static bool wait_a_little(struct ctl_client *cl)
{
    struct pollfd p = { .fd = stream_fd(cl->s), .events = POLLIN };
    return poll(&p, 1, TELL_MS) == 0;
}

bool ctl_queue_compact(struct ctl_client *cl, json_t *request)
{
    (void)request;
    struct spool *s = cl->c->o.spool;
    if (!spool_compact_start(s))
        return ctl_fail(cl, EX_TEMPFAIL, "a compaction is under way already");
    struct spool_compaction k = spool_compaction(s);
    while (k.state == COMPACTION_WANTED || k.state == COMPACTION_RUNNING) {
        if (!ctl_send(cl, compaction_json(&k)) || !ctl_flush(cl) || !wait_a_little(cl)) {
            spool_compact_cancel(s);
            return false;
        }
        k = spool_compaction(s);
    }
    if (k.state == COMPACTION_DONE)
        return ctl_ok(cl, compaction_json(&k));
    return ctl_fail(cl, k.state == COMPACTION_CANCELLED ? EX_TEMPFAIL : EX_IOERR, "%s",
                    k.state == COMPACTION_CANCELLED ? "the compaction was ended before all was done"
                                                    : "the compaction failed: see the log");
}
