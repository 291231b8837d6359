/*
 * How many messages a second the spool commits: submitters that each wait for their answer before they send the next,
 * as SMTP sessions do. Usage: spool_bench [directory [seconds [bytes [backlog]]]]
 * With a backlog: that many messages are put into the index as deferred, and the times of a restart and of fetching are shown.
 */
#include <ftw.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "queue/index.h"
#include "queue/recover.h"
#include "queue/spool.h"
#include "queue/spool_internal.h"

#define THREADS_MAX 4

struct bench {
    struct spool *s;
    size_t bytes;
    struct lock m;
    struct cond go;
    unsigned idle;        /* sessions that have been answered and may send again */
    uint64_t answered, failed, flushed;
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

/* Resident memory that is ours (without mapped files), MiB. */
static double anon_mib(void)
{
    struct buf b = BUF_INIT(65536);
    int64_t kib = 0;
    if (io_read_file("/proc/self/status", &b, NULL)) {
        const char *at = strstr(buf_cstr(&b), "RssAnon:");
        kib = at != NULL ? strtol(at + 8, NULL, 10) : 0;
    }
    buf_free(&b);
    return (double)kib / 1024;
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
    printf("%4u sessions: %8.0f commits/s, %6.1f a flush, %5.1f us CPU each, %.0f MiB, %llu failed\n", sessions,
           (double)n / elapsed, flushes ? (double)n / (double)flushes : 0.0, cpu * 1e6 / (double)(n ? n : 1), anon_mib(),
           (unsigned long long)b->failed);
}

static void backlog_flushed(void *arg, int status)
{
    struct bench *b = arg;
    lock_take(&b->m);
    b->failed += status != 0;
    b->flushed++;
    cond_broadcast(&b->go);
    lock_drop(&b->m);
}

static void backlog_answered(void *arg, struct msg *m UNUSED, int status)
{
    struct bench *b = arg;
    lock_take(&b->m);
    b->failed += status != SPOOL_OK;
    b->idle++;
    cond_broadcast(&b->go);
    lock_drop(&b->m);
}

/* One piece of the backlog: committed, then one change set. */
static void backlog_piece(struct bench *b, unsigned n, int64_t due_us)
{
    struct msg **m = xcalloc(n, sizeof(struct msg *));
    struct index_change *c = xcalloc(n, sizeof *c);
    struct index_rcpt *r = xcalloc(n, sizeof *r);
    b->idle = 0;
    for (unsigned i = 0; i < n; i++) {
        m[i] = msg_ref(make(b));
        struct msg *given = m[i];
        given->done_cb = backlog_answered;
        spool_submit(b->s, given);
    }
    lock_take(&b->m);
    while (b->idle < n)
        cond_wait(&b->go, &b->m);
    uint64_t want = b->flushed + 1;
    lock_drop(&b->m);
    struct index_mark k = spool_index_mark(b->s);
    for (unsigned i = 0; i < n; i++) {
        r[i] = (struct index_rcpt){ .attempts = 1, .due_us = due_us + i, .transport = SPAN_LIT("smtp"), .nexthop = SPAN_LIT("example.net"),
                                    .dsn = SPAN_LIT("4.4.1"), .reason = SPAN_LIT("connect to example.net: Connection timed out") };
        c[i] = (struct index_change){ .id = m[i]->env.id, .m = m[i], .is_new = true, .due_us = due_us + i, .rcpts = &r[i], .rcpt_count = 1 };
    }
    index_flush(spool_index(b->s), c, n, &k, backlog_flushed, b);
    lock_take(&b->m);
    while (b->flushed < want)
        cond_wait(&b->go, &b->m);
    lock_drop(&b->m);
    for (unsigned i = 0; i < n; i++)
        msg_unref(&m[i]);
    free(m);
    free(c);
    free(r);
}

static void backlog(struct bench *b, const struct spool_options *o, const struct spool_sink *sink, int64_t n)
{
    struct err e = ERR_INIT;
    double cpu = cpu_s();
    int64_t began = clock_mono_ms();
    for (int64_t i = 0; i < n; i += 10000)
        backlog_piece(b, 10000, 1000000 + i);
    printf("backlog of %lld: %lld ms, %.1f us CPU each, %.0f MiB\n", (long long)n, (long long)(clock_mono_ms() - began),
           (cpu_s() - cpu) * 1e6 / (double)n, anon_mib());
    spool_stop(b->s);
    spool_close(&b->s);
    began = clock_mono_ms();
    if (spool_open(o, &b->s, &e) != SPOOL_OPEN_OK || !spool_start(b->s, sink, &e))
        abort();
    printf("restart: %lld ms, %lld messages, %.0f MiB\n", (long long)(clock_mono_ms() - began),
           (long long)index_count(spool_index(b->s)), anon_mib());
    struct index_cursor cur = { INT64_MIN, 0 };
    struct msg *m[1000];
    int64_t fetched = 0;
    int k;
    began = clock_mono_ms();
    cpu = cpu_s();
    while ((k = index_fetch_due(spool_index(b->s), INT64_MAX, &cur, 1000, m, &e)) > 0)
        for (int i = 0; i < k; i++, fetched++)
            msg_unref(&m[i]);
    printf("fetched %lld: %lld ms, %.1f us CPU each, %.0f MiB\n", (long long)fetched, (long long)(clock_mono_ms() - began),
           (cpu_s() - cpu) * 1e6 / (double)fetched, anon_mib());
    began = clock_mono_ms();
    struct index_mark mark;
    uint64_t bytes;
    if (!checkpoint_write(b->s, NULL, &mark, &bytes, &e))
        abort();
    printf("checkpoint: %lld ms, %llu bytes\n", (long long)(clock_mono_ms() - began), (unsigned long long)bytes);
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
    int64_t seconds = 3, bytes = 2048, waiting = 0;
    char *dir = xasprintf("%s/spool-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if ((argc > 2 && !num_parse(span_cstr(argv[2]), 1, 600, &seconds)) ||
        (argc > 3 && !num_parse(span_cstr(argv[3]), 1, 1 << 20, &bytes)) ||
        (argc > 4 && !num_parse(span_cstr(argv[4]), 0, 10000000, &waiting)) || mkdtemp(dir) == NULL) {
        fprintf(stderr, "usage: spool_bench [directory [seconds [bytes [backlog]]]]\n");
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
    if (waiting > 0)
        backlog(&b, &o, &sink, waiting);
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
