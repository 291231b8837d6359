/*
 * What the tests of the spool share: a directory of their own, a sink that remembers, submitting and waiting.
 * The callbacks run on the committer, so they only record; the test's thread waits and asserts.
 */
#pragma once
#include "tests/unit/unit.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/attrs.h"
#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "queue/spool.h"
#include "queue/spool_internal.h"

struct fixture {
    char dir[128];
    struct spool_options o;
    struct log_src log;
    struct spool *s;
    struct lock m;            /* LOCK_TEST_A */
    struct cond changed;
    unsigned answered, ok, pieces;
    int last_status;
    struct msg **got;         /* what the sink was given; counted */
    size_t got_n, got_cap;
    bool discard;             /* the sink keeps nothing */
};

static UNUSED int fixture_rm(const char *path, const struct stat *st UNUSED, int type UNUSED, struct FTW *f UNUSED)
{
    return remove(path);
}

static UNUSED void fixture_committed(void *arg, struct msg *m)
{
    struct fixture *f = arg;
    lock_take(&f->m);
    if (!f->discard) {
        if (f->got_n == f->got_cap)
            f->got = xrealloc(f->got, (f->got_cap = f->got_cap ? 2 * f->got_cap : 64) * sizeof *f->got);
        f->got[f->got_n++] = msg_ref(m);
    }
    lock_drop(&f->m);
}

static UNUSED void fixture_done(void *arg, struct msg *m UNUSED, int status)
{
    struct fixture *f = arg;
    lock_take(&f->m);
    f->answered++;
    f->ok += status == SPOOL_OK;
    f->last_status = status;
    cond_broadcast(&f->changed);
    lock_drop(&f->m);
}

static UNUSED void fixture_admin_done(void *arg, int status)
{
    fixture_done(arg, NULL, status);
}

static UNUSED void fixture_init(struct fixture *f)
{
    *f = (struct fixture){ .dir = "" };
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/spoolXXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    f->o = (struct spool_options){ .dir = f->dir, .segment_bytes = 1 << 18, .buffer_limit_bytes = 1 << 15,
                                   .memory_limit_bytes = 64 << 20, .index_flush_ms = 1000, .create = true, .log = &f->log };
    lock_init(&f->m, LOCK_TEST_A);
    cond_init(&f->changed);
}

static UNUSED void fixture_start(struct fixture *f)
{
    struct err e = ERR_INIT;
    struct spool_sink sink = { fixture_committed, f };
    if (spool_open(&f->o, &f->s, &e) != SPOOL_OPEN_OK || !spool_start(f->s, &sink, &e))
        fail_msg("spool does not start: %s", e.text);
}

static UNUSED void fixture_forget(struct fixture *f)
{
    for (size_t i = 0; i < f->got_n; i++)
        msg_unref(&f->got[i]);
    f->got_n = 0;
}

/* Closes the spool; what it had is still in f->got. */
static UNUSED void fixture_stop(struct fixture *f)
{
    spool_stop(f->s);
}

static UNUSED void fixture_restart(struct fixture *f)
{
    spool_stop(f->s);
    fixture_forget(f);
    spool_close(&f->s);
    fixture_start(f);
}

static UNUSED void fixture_free(struct fixture *f)
{
    if (f->s != NULL)
        spool_stop(f->s);
    fixture_forget(f);
    spool_close(&f->s);
    free(f->got);
    nftw(f->dir, fixture_rm, 16, FTW_DEPTH | FTW_PHYS);
    cond_destroy(&f->changed);
    lock_destroy(&f->m);
}

/* A message with `rcpts` recipients and n bytes of content that tell its id. Not yet submitted. */
static UNUSED struct msg *fixture_msg(struct fixture *f, uint32_t rcpts, size_t n)
{
    struct msg *m = msg_new();
    m->env.id = qid_new(spool_qids(f->s));
    m->env.arrival_us = clock_wall_us();
    m->env.sender = SPAN_LIT("sender@example.com");
    for (uint32_t i = 0; i < rcpts; i++) {
        struct msg_rcpt *r = msg_add_rcpt(m);
        char *a = arena_printf(m->arena, "user%u@example.net", i);
        r->addr = r->orig = span_cstr(a);
    }
    struct content_writer *w = content_begin(f->s, m->env.id);
    char line[64];
    for (size_t done = 0; done < n;) {
        int k = snprintf(line, sizeof line, "%016llx %10zu\r\n", (unsigned long long)m->env.id, done);
        size_t take = n - done < (size_t)k ? n - done : (size_t)k;
        if (content_append(w, span_of(line, take)) != SPOOL_OK)
            break;
        done += take;
    }
    if (content_finish(&w, m) != SPOOL_OK) {
        msg_unref(&m);
        return NULL;
    }
    m->done_cb = fixture_done;
    m->done_arg = f;
    return m;
}

static UNUSED bool fixture_content_is_right(struct fixture *f, struct msg *m)
{
    struct content_view v;
    struct err e = ERR_INIT;
    if (!content_acquire(f->s, m, &v, &e)) {
        print_message("%s\n", e.text);
        return false;
    }
    bool ok = v.n == m->env.content_bytes;
    char line[64];
    for (size_t done = 0; ok && done < v.n;) {
        int k = snprintf(line, sizeof line, "%016llx %10zu\r\n", (unsigned long long)m->env.id, done);
        size_t take = v.n - done < (size_t)k ? v.n - done : (size_t)k;
        ok = memcmp(v.p + done, line, take) == 0;
        done += take;
    }
    content_release(&v);
    return ok;
}

/* Waits until `n` answers have come. */
static UNUSED bool fixture_wait(struct fixture *f, unsigned n)
{
    int64_t until = clock_mono_ms() + 20000;
    lock_take(&f->m);
    while (f->answered < n && cond_wait_until(&f->changed, &f->m, until))
        ;
    bool ok = f->answered >= n;
    lock_drop(&f->m);
    return ok;
}

/* Submits and waits; the status, and *id. */
static UNUSED int fixture_send(struct fixture *f, uint32_t rcpts, size_t n, uint64_t *id)
{
    struct msg *m = fixture_msg(f, rcpts, n);
    if (m == NULL)
        return SPOOL_IO;
    if (id != NULL)
        *id = m->env.id;
    lock_take(&f->m);
    unsigned want = f->answered + 1;
    lock_drop(&f->m);
    spool_submit(f->s, m);
    assert_true(fixture_wait(f, want));
    return f->last_status;
}

static UNUSED struct msg *fixture_find(struct fixture *f, uint64_t id)
{
    for (size_t i = 0; i < f->got_n; i++)
        if (f->got[i]->env.id == id)
            return f->got[i];
    return NULL;
}

static UNUSED enum spool_status fixture_result(struct fixture *f, uint64_t id, uint32_t rcpt, enum outcome o, int64_t due_us)
{
    struct result_token t;
    struct spool_result r = { .id = id, .rcpt = rcpt, .outcome = o, .when_us = clock_wall_us(), .due_us = due_us,
                              .dsn = o == OUTCOME_SENT ? SPAN_LIT("2.0.0") : SPAN_LIT("4.4.1"),
                              .mta = SPAN_LIT("mx.example.net"), .reason = SPAN_LIT("because") };
    enum spool_status st = spool_result_append(f->s, &r, 1, &t);
    spool_result_applied(f->s, &t);
    return st;
}

static UNUSED int fixture_admin(struct fixture *f, enum spool_admin what, uint64_t id)
{
    lock_take(&f->m);
    unsigned want = f->answered + 1;
    lock_drop(&f->m);
    spool_admin_submit(f->s, what, id, span_of(NULL, 0), fixture_admin_done, f);
    assert_true(fixture_wait(f, want));
    return f->last_status;
}

/* For cmocka: a new spool, started, in *state. */
static UNUSED int fixture_setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    fixture_init(f);
    fixture_start(f);
    *state = f;
    return 0;
}

/* As fixture_setup(), with small segments and not started. */
static UNUSED int fixture_setup_small(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    fixture_init(f);
    f->o.segment_bytes = 1 << 16;
    *state = f;
    return 0;
}

static UNUSED int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    fixture_free(f);
    free(f);
    return 0;
}

/* How many messages with this ID were recovered or committed. */
static UNUSED unsigned fixture_how_often(struct fixture *f, uint64_t id)
{
    unsigned n = 0;
    for (size_t i = 0; i < f->got_n; i++)
        n += f->got[i]->env.id == id;
    return n;
}

/* Small segments, and directories for files that a test puts there before the start. */
static UNUSED void fixture_init_for_files(struct fixture *f)
{
    static const char *const subs[] = { "journal", "results", "large" };
    fixture_init(f);
    f->o.segment_bytes = 1 << 16;
    for (size_t i = 0; i < ARRAY_LEN(subs); i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s", f->dir, subs[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
}
