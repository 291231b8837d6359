/*
 * How many messages a second the spool commits: submitters that each wait for their answer before they send the next,
 * as SMTP sessions do. Usage: spool_bench [directory [seconds [bytes]]]
 */
#include <ftw.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "queue/spool.h"
#include "queue/spool_internal.h"

#define THREADS_MAX 4

struct bench {
    struct spool *s;
    size_t bytes;
    struct lock m;
    struct cond go;
    unsigned idle;        /* sessions that have been answered and may send again */
    uint64_t answered, failed;
    bool stop;
    char *content;
};

static void committed(void *arg UNUSED, struct msg *m UNUSED) {}

static void answered(void *arg, struct msg *m, int status)
{
    struct bench *b = arg;
    /* Delivered at once: the space is used again. */
    spool_message_done(b->s, m);
    lock_take(&b->m);
    b->answered++;
    b->failed += status != SPOOL_OK;
    if (b->idle++ == 0 || b->stop)
        cond_signal(&b->go);
    lock_drop(&b->m);
}

static struct msg *make(struct bench *b)
{
    struct msg *m = msg_new();
    m->env.id = qid_new(spool_qids(b->s));
    m->env.arrival_us = clock_wall_us();
    m->env.sender = SPAN_LIT("sender@example.com");
    m->env.client_name = SPAN_LIT("client.example.com");
    m->env.client_addr = SPAN_LIT("192.0.2.1");
    m->env.helo = SPAN_LIT("client.example.com");
    struct msg_rcpt *r = msg_add_rcpt(m);
    r->addr = r->orig = SPAN_LIT("recipient@example.net");
    struct content_writer *w = content_begin(b->s, m->env.id);
    if (content_append(w, span_of(b->content, b->bytes)) != SPOOL_OK || content_finish(&w, m) != SPOOL_OK)
        abort();
    m->done_cb = answered;
    m->done_arg = b;
    return m;
}

static void *submitter(void *arg)
{
    struct bench *b = arg;
    lock_take(&b->m);
    while (!b->stop) {
        while (b->idle == 0 && !b->stop)
            cond_wait(&b->go, &b->m);
        unsigned n = b->idle;
        b->idle = 0;
        lock_drop(&b->m);
        while (n-- > 0)
            spool_submit(b->s, make(b));
        lock_take(&b->m);
    }
    lock_drop(&b->m);
    return NULL;
}

static double cpu_s(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void run(struct bench *b, unsigned sessions, int64_t seconds)
{
    pthread_t t;
    b->idle = sessions;
    b->stop = false;
    if (thread_start(&t, "submitter", 0, submitter, b) != 0)
        abort();
    usleep(500000); /* the first segments are zeroed */
    lock_take(&b->m);
    uint64_t n = b->answered;
    lock_drop(&b->m);
    uint64_t flushes = atomic_load(&b->s->journal.flushes);
    int64_t began = clock_mono_ms();
    double cpu = cpu_s();
    usleep((useconds_t)(seconds * 1000000));
    lock_take(&b->m);
    n = b->answered - n;
    b->stop = true;
    cond_broadcast(&b->go);
    lock_drop(&b->m);
    double elapsed = (double)(clock_mono_ms() - began) / 1000;
    cpu = cpu_s() - cpu;
    flushes = atomic_load(&b->s->journal.flushes) - flushes;
    pthread_join(t, NULL);
    lock_take(&b->m);
    while (b->idle < sessions)
        cond_wait(&b->go, &b->m);
    lock_drop(&b->m);
    printf("%4u sessions: %8.0f commits/s, %6.1f a flush, %5.1f us CPU each, %llu failed\n", sessions,
           (double)n / elapsed, flushes ? (double)n / (double)flushes : 0.0, cpu * 1e6 / (double)(n ? n : 1),
           (unsigned long long)b->failed);
}

static int rm(const char *path, const struct stat *st UNUSED, int type UNUSED, struct FTW *f UNUSED)
{
    return remove(path);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct log_src log = { .name = "bench" };
    struct err e = ERR_INIT;
    struct bench b = { .bytes = 2048 };
    int64_t seconds = 3, bytes = 2048;
    char *dir = xasprintf("%s/spool-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if ((argc > 2 && !num_parse(span_cstr(argv[2]), 1, 600, &seconds)) ||
        (argc > 3 && !num_parse(span_cstr(argv[3]), 1, 1 << 20, &bytes)) || mkdtemp(dir) == NULL) {
        fprintf(stderr, "usage: spool_bench [directory [seconds [bytes]]]\n");
        return 2;
    }
    b.bytes = (size_t)bytes;
    b.content = xcalloc(1, b.bytes);
    struct spool_options o = { .dir = dir, .segment_bytes = 64 << 20, .buffer_limit_bytes = 256 << 10, .memory_limit_bytes = 256 << 20,
                               .index_flush_ms = 1000, .create = true, .log = &log };
    struct spool_sink sink = { committed, &b };
    lock_init(&b.m, LOCK_RUN_QUEUE);
    cond_init(&b.go);
    if (spool_open(&o, &b.s, &e) != SPOOL_OPEN_OK || !spool_start(b.s, &sink, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    static const unsigned sessions[] = { 1, 10, 100 };
    for (size_t i = 0; i < ARRAY_LEN(sessions); i++)
        run(&b, sessions[i], seconds);
    spool_stop(b.s);
    spool_close(&b.s);
    nftw(dir, rm, 16, FTW_DEPTH | FTW_PHYS);
    free(dir);
    free(b.content);
    return b.failed != 0;
}
