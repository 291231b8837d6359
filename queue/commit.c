/* spool_commit(): messages are submitted, and the caller waits (spool.h). */
#include <semaphore.h>
#include "common/base/clock.h"
#include "queue/msg.h"
#include "queue/spool.h"

struct waiter {
    sem_t done;
    enum spool_status status; /* of the last answer; all are the same */
};

static void committed_cb(void *arg, struct msg *m UNUSED, int status)
{
    struct waiter *w = arg;
    w->status = (enum spool_status)status;
    sem_post(&w->done);
}

enum spool_status spool_commit(struct spool *s, struct msg **v, size_t n)
{
    struct waiter w = { .status = SPOOL_IO };
    sem_init(&w.done, 0, 0);
    for (size_t i = 0; i < n; i++) {
        v[i]->done_cb = committed_cb;
        v[i]->done_arg = &w;
        v[i]->received_ms = clock_mono_ms();
    }
    spool_submit_all(s, v, n);
    for (size_t i = 0; i < n; i++)
        while (sem_wait(&w.done) != 0) { }
    sem_destroy(&w.done);
    return w.status;
}
