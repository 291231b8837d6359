/*
 * What the tests of the control sockets and of maildrop/ share: a real spool and configuration in a directory of their own, and a
 * scheduler that only remembers what it was given. Included once by a test: it defines the scheduler's functions.
 */
#pragma once
#include "tests/unit/unit.h"

#include <dirent.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "daemon/cmd/submit.h"
#include "daemon/control/control.h"
#include "daemon/control/pickup.h"
#include "queue/sched.h"

#define GOT_MAX 64
#define WAIT_MS 10000

/* The scheduler of these tests. */
struct sched {
    struct lock m;           /* LOCK_TEST_A */
    struct msg *got[GOT_MAX];
    unsigned n;
    uint64_t pretend_id;     /* sched_find() says that this one is queued */
    enum sched_cmd_status admin_status;
    enum spool_admin admin_what;
    unsigned admins, flushes;
    char site[64];
};

struct fixture {
    char dir[128], spool_dir[160], socket[160];
    struct conf *conf;
    struct spool *spool;
    struct sched sched;
    struct pickup *pickup;
    struct log_src log;
    unsigned stops, reloads;
};

/* ---- the scheduler ---- */

void sched_committed(void *arg, struct msg *m)
{
    struct sched *s = arg;
    lock_take(&s->m);
    if (s->n < GOT_MAX)
        s->got[s->n++] = msg_ref(m);
    lock_drop(&s->m);
}

static struct msg *find_locked(struct sched *s, uint64_t id)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (s->got[i]->env.id == id)
            return msg_ref(s->got[i]);
    }
    return NULL;
}

struct msg *sched_find(struct sched *s, uint64_t id, enum sched_where *w)
{
    lock_take(&s->m);
    struct msg *m = find_locked(s, id);
    if (m == NULL && id == s->pretend_id) {
        m = msg_new();
        m->env.id = id;
    }
    *w = SCHED_DEFERRED;
    lock_drop(&s->m);
    return m;
}

struct msg *sched_ref(struct sched *s, uint64_t id)
{
    lock_take(&s->m);
    struct msg *m = find_locked(s, id);
    lock_drop(&s->m);
    return m;
}

void sched_list(struct sched *s, bool (*fn)(void *arg, struct msg *m, enum sched_where w), void *arg)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (!fn(arg, s->got[i], SCHED_DEFERRED))
            return;
    }
}

struct sched_counts sched_counts(struct sched *s)
{
    return (struct sched_counts){ .deferred = s->n };
}

void sched_change(struct sched *s, const struct sched_change *c, const uint64_t *ids, size_t n, enum sched_cmd_status *out, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++) {
        enum sched_where w;
        struct msg *m = sched_find(s, ids[i], &w);
        s->admin_what = c->what;
        s->admins++;
        out[i] = m != NULL ? s->admin_status : SCHED_CMD_NOT_FOUND;
        msg_unref(&m);
    }
}

enum sched_cmd_status sched_admin(struct sched *s, enum spool_admin what, uint64_t id, struct err *e)
{
    struct sched_change c = { .what = what };
    enum sched_cmd_status status;
    sched_change(s, &c, &id, 1, &status, e);
    return status;
}

enum sched_cmd_status sched_pause(struct sched *s, enum pause_kind k, struct span name, struct err *e)
{
    (void)s, (void)k, (void)name, (void)e;
    return SCHED_CMD_BUSY;
}

enum sched_cmd_status sched_resume(struct sched *s, enum pause_kind k, struct span name, struct err *e)
{
    (void)s, (void)k, (void)name, (void)e;
    return SCHED_CMD_NOT_FOUND;
}

void sched_each_pause(struct sched *s, void (*fn)(void *arg, const struct pause *p), void *arg)
{
    (void)s, (void)fn, (void)arg;
}

void sched_explain(struct sched *s, const struct msg *m, enum sched_where where, struct sched_wait *out)
{
    (void)s, (void)where;
    for (uint32_t i = 0; i < m->env.rcpt_count; i++)
        out[i] = (struct sched_wait){ .why = "back-off", .text = "because" };
}

uint64_t *sched_active_ids(struct sched *s, size_t *n)
{
    (void)s;
    *n = 0;
    return xcalloc(1, sizeof(uint64_t));
}

bool sched_index_sync(struct sched *s UNUSED, struct err *e UNUSED)
{
    return true;
}

int64_t sched_rates(struct sched *s UNUSED, int64_t window_ms UNUSED, uint64_t out[RATE_COUNT])
{
    memset(out, 0, RATE_COUNT * sizeof *out);
    return 0;
}

void sched_each_in_memory(struct sched *s UNUSED, bool (*fn)(void *arg, uint64_t id, struct msg *m, int64_t deleted_us) UNUSED,
                          void *arg UNUSED)
{
}

void sched_flush_all(struct sched *s)
{
    s->flushes++;
}

void sched_flush_nexthop(struct sched *s, struct span nexthop)
{
    snprintf(s->site, sizeof s->site, "%.*s", SPAN_ARG(nexthop));
}

void sched_flush_many(struct sched *s, const uint64_t *ids, size_t n, enum sched_cmd_status *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = sched_flush_id(s, ids[i]);
}

enum sched_cmd_status sched_flush_id(struct sched *s, uint64_t id)
{
    enum sched_where w;
    struct msg *m = sched_find(s, id, &w);
    bool found = m != NULL;
    msg_unref(&m);
    return found ? SCHED_CMD_OK : SCHED_CMD_NOT_FOUND;
}

/* ---- the rest of a daemon ---- */

static struct conf *fixture_conf(void *arg)
{
    struct fixture *f = arg;
    return conf_ref(f->conf);
}

static int remove_cb(const char *path, const struct stat *st, int type, struct FTW *w)
{
    (void)st;
    (void)type;
    (void)w;
    return remove(path);
}

/* A daemon's life up to where mail can come: as lifecycle.c does it. */
static void fixture_begin_life(struct fixture *f)
{
    struct err e = ERR_INIT;
    struct spool_options o = { .dir = f->spool_dir, .segment_bytes = 1 << 20, .buffer_limit_bytes = 1 << 16,
                               .memory_limit_bytes = 64 << 20, .index_flush_ms = 1000, .create = true, .log = &f->log };
    if (spool_open(&o, &f->spool, &e) != SPOOL_OPEN_OK)
        fail_msg("%s", e.text);
    struct pickup_options po = { .queue_dir = f->spool_dir, .setgid_group = "no-such-group", .sched = &f->sched,
                                 .env = { .spool = f->spool, .log = &f->log, .conf = fixture_conf, .arg = f } };
    f->pickup = pickup_new(&po, &e);
    if (f->pickup == NULL)
        fail_msg("%s", e.text);
}

static void fixture_start_spool(struct fixture *f, bool with_pickup)
{
    struct err e = ERR_INIT;
    struct spool_sink sink = { .committed = sched_committed, .arg = &f->sched };
    if (with_pickup)
        sink = (struct spool_sink){ .committed = pickup_committed, .arg = f->pickup };
    if (!spool_start(f->spool, &sink, &e))
        fail_msg("%s", e.text);
}

static void fixture_forget(struct fixture *f)
{
    for (unsigned i = 0; i < f->sched.n; i++)
        msg_unref(&f->sched.got[i]);
    f->sched.n = 0;
}

static void fixture_end_life(struct fixture *f)
{
    pickup_stop(f->pickup);
    spool_stop(f->spool);
    fixture_forget(f);
    pickup_free(&f->pickup);
    spool_close(&f->spool);
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    struct conf_report report = { 0 };
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/ctlXXXXXX", tmp != NULL && strlen(tmp) < 32 ? tmp : "/tmp"); /* a socket's path is short */
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->spool_dir, sizeof f->spool_dir, "%s/spool", f->dir);
    snprintf(f->socket, sizeof f->socket, "%s/control", f->dir);
    char *main_cf = xasprintf("myhostname = hub.example.net\nmyorigin = example.net\nqueue_directory = %s\n"
                              "data_directory = %s\nmessage_size_limit = 200000\nmydestination =\ninet_protocols = ipv4\n"
                              "mynetworks = 127.0.0.1\n", f->spool_dir, f->dir);
    struct conf_options o = { .dir = f->dir, .main_cf_text = main_cf, .master_cf_text = "smtp unix - - n - - smtp\n" };
    f->conf = conf_load(&o, &report);
    for (size_t i = 0; f->conf == NULL && i < report.count; i++)
        print_message("%s\n", report.items[i].text);
    assert_non_null(f->conf);
    conf_report_free(&report);
    free(main_cf);
    f->log = (struct log_src){ .name = "test", .prog = "master" };
    f->sched.admin_status = SCHED_CMD_OK;
    lock_init(&f->sched.m, LOCK_TEST_A);
    fixture_begin_life(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->spool != NULL)
        fixture_end_life(f);
    conf_unref(&f->conf);
    lock_destroy(&f->sched.m);
    nftw(f->dir, remove_cb, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* ---- looking ---- */

static unsigned got_count(struct fixture *f)
{
    lock_take(&f->sched.m);
    unsigned n = f->sched.n;
    lock_drop(&f->sched.m);
    return n;
}

static UNUSED void wait_got(struct fixture *f, unsigned n)
{
    int64_t deadline = clock_mono_ms() + WAIT_MS;
    while (got_count(f) < n) {
        if (clock_mono_ms() > deadline)
            fail_msg("%u messages after %d ms, wanted %u", got_count(f), WAIT_MS, n);
        usleep(2000);
    }
}

/* Files of a directory below the spool, those that begin with '.' too; a name of one of them in *name. */
static unsigned count_files(struct fixture *f, const char *below, char name[256])
{
    char *path = xasprintf("%s/%s", f->spool_dir, below);
    DIR *d = opendir(path);
    unsigned n = 0;
    const struct dirent *de;
    assert_non_null(d);
    while ((de = readdir(d)) != NULL) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 || strcmp(de->d_name, "active") == 0)
            continue;
        if (name != NULL)
            snprintf(name, 256, "%s", de->d_name);
        n++;
    }
    closedir(d);
    free(path);
    return n;
}

static UNUSED void wait_files(struct fixture *f, const char *below, unsigned n)
{
    int64_t deadline = clock_mono_ms() + WAIT_MS;
    while (count_files(f, below, NULL) != n) {
        if (clock_mono_ms() > deadline)
            fail_msg("%u files in %s after %d ms, wanted %u", count_files(f, below, NULL), below, WAIT_MS, n);
        usleep(2000);
    }
}

/* A message as sendmail would hand it in; the caller frees with mail_input_free(). */
static struct submission sample(struct mail_input *in, const char *text)
{
    static struct span rcpts[] = { { "bob", 3 }, { "alice@example.org", 17 } };
    *in = (struct mail_input){ .head = BUF_INIT(0) };
    buf_puts(&in->head, text);
    in->bytes = in->head.n;
    return (struct submission){ .sender = SPAN_LIT("joe"), .rcpts = rcpts, .rcpt_count = 2, .content_bytes = in->bytes };
}

static UNUSED void drop_one(struct fixture *f)
{
    struct mail_input in;
    struct err e = ERR_INIT;
    struct submission s = sample(&in, "Subject: x\n\nhello\n");
    if (submit_to_maildrop(f->spool_dir, &s, &in, &e) != 0)
        fail_msg("%s", e.text);
    mail_input_free(&in);
}
