/*
 * The journal under faults: cut anywhere, each call failing, damaged and recycled bytes, many threads, kill -9.
 * The rule everywhere: what was answered 250 and is not finished is there once; what is finished is not there.
 */
#include "tests/unit/spool_fixture.h"
#include "tests/unit/spool_shim.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>

#include "queue/index_internal.h"

static unsigned files_in(struct fixture *f, const char *sub)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", f->dir, sub);
    DIR *d = opendir(path);
    unsigned n = 0;
    for (struct dirent *de; d != NULL && (de = readdir(d)) != NULL;)
        n += de->d_name[0] != '.';
    if (d != NULL)
        closedir(d);
    return n;
}

/* ---- cut anywhere ---- */

static void finish(struct fixture *f, struct shim *sh, uint64_t id)
{
    struct msg *m = fixture_find(f, id);
    shim_note(sh, SHIM_ENDING, id);
    for (uint32_t i = 0; i < m->env.rcpt_count; i++)
        assert_int_equal(fixture_result(f, id, i, OUTCOME_SENT, 0), SPOOL_OK);
    shim_note(sh, SHIM_END, id);
    spool_message_done(f->s, m);
}

/* Sends, delivers, holds; enough for several segments and for their use again. */
static void script(struct fixture *f, struct shim *sh)
{
    uint64_t last[3] = { 0, 0, 0 };
    for (int i = 0; i < 24; i++) {
        uint64_t id;
        size_t n = i % 8 == 7 ? 60000 : (size_t)(i * 977 % 9000);
        assert_int_equal(fixture_send(f, 1 + (uint32_t)i % 2, n, &id), SPOOL_OK);
        shim_note(sh, SHIM_ACK, id);
        if (last[2] != 0 && i % 5 != 0)
            finish(f, sh, last[2]);
        if (i % 6 == 5)
            assert_int_equal(fixture_admin(f, ADMIN_HOLD, id), SPOOL_OK);
        last[2] = last[1];
        last[1] = last[0];
        last[0] = id;
    }
}

static void check_cut(const struct shim *sh, size_t cut, size_t bytes, uint64_t seed)
{
    struct fixture g;
    fixture_init_for_files(&g);
    shim_rebuild(sh, cut, bytes, seed, g.dir);
    fixture_start(&g);
    char where[100];
    snprintf(where, sizeof where, "cut before call %zu of %zu, %zu bytes in, seed %llu", cut, sh->n, bytes, (unsigned long long)seed);
    for (size_t i = 0; i < cut; i++) {
        if (sh->op[i].kind != SHIM_ACK)
            continue;
        uint64_t id = sh->op[i].id;
        bool ended = false, may_end = false;
        for (size_t k = i; k < cut && !ended; k++) {
            may_end = may_end || (sh->op[k].kind == SHIM_ENDING && sh->op[k].id == id);
            ended = sh->op[k].kind == SHIM_END && sh->op[k].id == id;
        }
        unsigned n = fixture_how_often(&g, id);
        if (n > 1 || (!may_end && n == 0) || (ended && n == 1 && seed == 0))
            fail_msg("%s: message %llX is there %u times, %s", where, (unsigned long long)id, n, ended ? "finished" : "not finished");
        if (n == 1 && !ended && !fixture_content_is_right(&g, fixture_find(&g, id)))
            fail_msg("%s: content of %llX", where, (unsigned long long)id);
    }
    for (size_t i = 0; i < g.got_n; i++)
        if (fixture_how_often(&g, g.got[i]->env.id) != 1)
            fail_msg("%s: %llX comes twice", where, (unsigned long long)g.got[i]->env.id);
    /* And it goes on from there. */
    assert_int_equal(fixture_send(&g, 1, 100, NULL), SPOOL_OK);
    fixture_free(&g);
}

static void whatever_is_cut_the_answered_ones_are_there(void **state)
{
    struct fixture *f = *state;
    struct shim sh;
    shim_init(&sh, f->dir, true);
    f->o.io = &sh.io;
    fixture_start(f);
    script(f, &sh);
    fixture_forget(f);
    spool_stop(f->s);
    spool_close(&f->s);
    uint64_t seed = 88172645463325252;
    unsigned cuts = 0;
    int64_t until = clock_mono_ms() + 25000; /* slow machines see fewer of the cuts */
    for (size_t cut = 0; cut <= sh.n && clock_mono_ms() < until; cut++) {
        bool interesting = cut == sh.n || sh.op[cut].kind != SHIM_WRITE || sh.op[cut].n < 1 << 15;
        if (!interesting)
            continue; /* zeros, a piece among many */
        check_cut(&sh, cut, 0, 0);
        check_cut(&sh, cut, 0, shim_random(&seed));
        cuts += 2;
        if (cut < sh.n && sh.op[cut].kind == SHIM_WRITE && cut % 4 == 0) {
            check_cut(&sh, cut, shim_random(&seed) % sh.op[cut].n, 0);
            check_cut(&sh, cut, shim_random(&seed) % sh.op[cut].n, shim_random(&seed));
            cuts += 2;
        }
    }
    print_message("%u cuts of %zu calls\n", cuts, sh.n);
    shim_free(&sh);
}

/* ---- each call fails ---- */

/* Returns false when the run had fewer calls than n. */
static bool fail_nth(unsigned n, int err, bool on)
{
    struct fixture f;
    struct shim sh;
    uint64_t acked[16];
    unsigned acks = 0, refused = 0;
    struct err e = ERR_INIT;
    fixture_init(&f);
    f.o.segment_bytes = 1 << 16;
    shim_init(&sh, f.dir, false);
    sh.fail_at = n;
    sh.fail_on = on;
    sh.fail_errno = err;
    f.o.io = &sh.io;
    struct spool_sink sink = { fixture_committed, &f };
    bool started = spool_open(&f.o, &f.s, &e) == SPOOL_OPEN_OK && spool_start(f.s, &sink, &e);
    for (int i = 0; started && i < 12; i++) {
        uint64_t id;
        int st = fixture_send(&f, 1, i == 6 ? 40000 : 5000, &id);
        if (st == SPOOL_OK)
            acked[acks++] = id;
        else
            refused++;
        if (st == SPOOL_OK && i % 3 == 0 && fixture_result(&f, id, 0, OUTCOME_SENT, 0) == SPOOL_OK) {
            spool_message_done(f.s, fixture_find(&f, id));
            acks--;
        }
    }
    if (f.s != NULL)
        spool_stop(f.s);
    fixture_forget(&f);
    spool_close(&f.s);
    if (!on && refused > 1)
        fail_msg("call %u failed (%d) once, and %u messages were refused", n, err, refused);
    f.o.io = NULL;
    fixture_start(&f);
    for (unsigned i = 0; i < acks; i++)
        if (fixture_how_often(&f, acked[i]) != 1)
            fail_msg("call %u failed (%d): an answered message is there %u times", n, err, fixture_how_often(&f, acked[i]));
    assert_int_equal(fixture_send(&f, 1, 5000, NULL), SPOOL_OK);
    fixture_free(&f);
    bool reached = sh.failed;
    shim_free(&sh);
    return reached;
}

static void any_call_may_fail(void **state)
{
    (void)state;
    int64_t until = clock_mono_ms() + 25000;
    unsigned n = 1;
    while (clock_mono_ms() < until && fail_nth(n, n % 2 ? EIO : ENOSPC, false))
        n++;
    print_message("%u calls failed, one at a time\n", n - 1);
    assert_true(n > 20);
    for (n = 1; n < 60 && clock_mono_ms() < until + 10000; n += 7)
        fail_nth(n, EIO, true);
}

/* Waits until the keeper has nothing to do, so that the next calls are the committer's. */
static void let_keeper_finish(struct fixture *f)
{
    bool ready = false;
    for (int i = 0; i < 300 && !ready; i++) {
        usleep(10000);
        lock_take(&f->s->journal.segs.m);
        ready = f->s->journal.segs.prepared != NULL;
        lock_drop(&f->s->journal.segs.m);
    }
    usleep(50000);
}

static void fail_from(struct shim *sh, unsigned after, int err, bool on)
{
    lock_take(&sh->m);
    sh->fail_errno = err;
    sh->fail_on = on;
    sh->fail_at = sh->calls + after;
    lock_drop(&sh->m);
}

static void a_refused_message_stays_away_and_the_disk_may_recover(void **state)
{
    struct fixture *f = *state;
    struct shim sh;
    uint64_t a, b, c;
    shim_init(&sh, f->dir, false);
    f->o.io = &sh.io;
    fixture_start(f);
    assert_int_equal(fixture_send(f, 1, 100, &a), SPOOL_OK);
    let_keeper_finish(f);
    fail_from(&sh, 1, ENOSPC, true);
    assert_int_equal(fixture_send(f, 1, 100, &b), SPOOL_FULL);
    assert_false(spool_has_room(f->s, 1));
    fail_from(&sh, 0, 0, false);
    for (int i = 0; i < 500 && !spool_has_room(f->s, 1); i++)
        usleep(10000); /* the keeper tries again every second */
    assert_true(spool_has_room(f->s, 1));
    assert_int_equal(fixture_send(f, 1, 100, &c), SPOOL_OK);
    f->o.io = NULL;
    fixture_restart(f);
    assert_int_equal(fixture_how_often(f, a), 1);
    assert_int_equal(fixture_how_often(f, b), 0);
    assert_int_equal(fixture_how_often(f, c), 1);
    shim_free(&sh);
}

static void a_refused_record_that_reached_the_disk_is_cut_off(void **state)
{
    struct fixture *f = *state;
    struct shim sh;
    uint64_t a, b, c;
    shim_init(&sh, f->dir, false);
    f->o.io = &sh.io;
    fixture_start(f);
    assert_int_equal(fixture_send(f, 1, 100, &a), SPOOL_OK);
    let_keeper_finish(f);
    fail_from(&sh, 2, EIO, false); /* the write succeeds, the flush does not */
    assert_int_equal(fixture_send(f, 1, 100, &b), SPOOL_IO);
    assert_int_equal(fixture_send(f, 1, 100, &c), SPOOL_OK);
    f->o.io = NULL;
    fixture_restart(f);
    assert_int_equal(fixture_how_often(f, a), 1);
    assert_int_equal(fixture_how_often(f, b), 0);
    assert_int_equal(fixture_how_often(f, c), 1);
    shim_free(&sh);
}

/* Flushes of files of the result log. */
static unsigned flushes_of_results(struct shim *sh)
{
    unsigned n = 0;
    lock_take(&sh->m);
    for (size_t i = 0; i < sh->n; i++)
        for (int k = 0; sh->op[i].kind == SHIM_FLUSH && k < sh->name_n; k++)
            n += sh->names[k].name != NULL && sh->names[k].file == sh->op[i].file && strstr(sh->names[k].name, ".res") != NULL;
    lock_drop(&sh->m);
    return n;
}

static void results_are_flushed_behind_and_only_they(void **state)
{
    struct fixture *f = *state;
    struct shim sh;
    uint64_t id[2];
    shim_init(&sh, f->dir, true);
    f->o.io = &sh.io;
    fixture_start(f);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fixture_send(f, 1, 100, &id[i]), SPOOL_OK);
    let_keeper_finish(f);
    for (int i = 0; i < 2; i++) {
        unsigned before = flushes_of_results(&sh);
        usleep(600000); /* nothing to do: nothing is done, however long this takes */
        assert_int_equal(flushes_of_results(&sh), before);
        assert_int_equal(fixture_result(f, id[i], 0, OUTCOME_DEFERRED, 55), SPOOL_OK);
        for (int64_t until = clock_mono_ms() + 20000; flushes_of_results(&sh) == before && clock_mono_ms() < until;)
            usleep(10000);
        assert_int_equal(flushes_of_results(&sh), before + 1);
    }
    f->o.io = NULL;
    fixture_restart(f);
    shim_free(&sh);
}

/* ---- damage ---- */

static void spoil(struct fixture *f, struct journal_pos pos, int64_t by)
{
    char *path = segments_path(&f->s->journal.segs, pos.segment);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char c;
    assert_true(pread(fd, &c, 1, (off_t)pos.offset + by) == 1);
    c ^= 0x55;
    assert_true(pwrite(fd, &c, 1, (off_t)pos.offset + by) == 1);
    close(fd);
    free(path);
}

static void damage_costs_one_message(void **state)
{
    struct fixture *f = *state;
    static const int64_t where[] = { 2 /* mark */, 5 /* length */, 20 /* generation */, 40 /* envelope */, 500 /* content */ };
    for (size_t w = 0; w < ARRAY_LEN(where); w++) {
        uint64_t ids[5];
        fixture_start(f);
        for (int i = 0; i < 5; i++)
            assert_int_equal(fixture_send(f, 1, 1000, &ids[i]), SPOOL_OK);
        struct journal_pos pos = fixture_find(f, ids[2])->pos;
        spoil(f, pos, where[w]);
        unsigned before = files_in(f, "corrupt");
        fixture_restart(f);
        for (int i = 0; i < 5; i++)
            if (fixture_how_often(f, ids[i]) != (i != 2))
                fail_msg("damage at %lld: message %d is there %u times", (long long)where[w], i, fixture_how_often(f, ids[i]));
        assert_int_equal(files_in(f, "corrupt"), before + 1);
        spool_stop(f->s);
        fixture_forget(f);
        spool_close(&f->s);
    }
}

static void a_damaged_header_has_a_copy(void **state)
{
    struct fixture *f = *state;
    uint64_t id;
    fixture_start(f);
    assert_int_equal(fixture_send(f, 1, 1000, &id), SPOOL_OK);
    struct journal_pos pos = fixture_find(f, id)->pos;
    spoil(f, (struct journal_pos){ pos.segment, 0 }, 17);
    fixture_restart(f);
    assert_int_equal(fixture_how_often(f, id), 1);
    spoil(f, (struct journal_pos){ pos.segment, 0 }, 4096 + 17);
    spool_stop(f->s);
    fixture_forget(f);
    spool_close(&f->s);
    fixture_start(f); /* both gone: said in the log, the file is left, the rest works */
    char *path = segments_path(&f->s->journal.segs, pos.segment);
    assert_int_equal(access(path, F_OK), 0);
    free(path);
    assert_int_equal(fixture_send(f, 1, 1000, &id), SPOOL_OK);
}

static void old_bytes_of_recycled_segments_stay_dead(void **state)
{
    struct fixture *f = *state;
    uint64_t kept[200];
    unsigned n = 0;
    fixture_start(f);
    for (int i = 0; i < 200; i++) {
        uint64_t id;
        assert_int_equal(fixture_send(f, 1, 3000, &id), SPOOL_OK);
        if (i >= 195) {
            kept[n++] = id;
            continue;
        }
        fixture_result(f, id, 0, OUTCOME_SENT, 0);
        spool_message_done(f->s, fixture_find(f, id));
    }
    lock_take(&f->s->journal.segs.m);
    uint64_t generations = f->s->journal.segs.next_generation;
    lock_drop(&f->s->journal.segs.m);
    assert_true(generations > 8);
    assert_true(files_in(f, "journal") <= 8);
    fixture_restart(f);
    assert_int_equal(f->got_n, n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(fixture_how_often(f, kept[i]), 1);
}

/* ---- compaction ---- */

static void flushed(void *arg, int status)
{
    fixture_done(arg, NULL, status == 0 ? SPOOL_OK : SPOOL_IO);
}

static void index_all(struct fixture *f)
{
    struct index_mark k = spool_index_mark(f->s);
    struct index_change *c = xcalloc(f->got_n + 1, sizeof *c);
    for (size_t i = 0; i < f->got_n; i++)
        c[i] = (struct index_change){ .kind = INDEX_UPSERT, .id = f->got[i]->env.id, .m = f->got[i], .is_new = true };
    lock_take(&f->m);
    unsigned want = f->answered + 1;
    lock_drop(&f->m);
    index_flush(spool_index(f->s), c, f->got_n, &k, flushed, f);
    assert_true(fixture_wait(f, want));
    free(c);
}

static void compaction_keeps_what_is_alive(void **state)
{
    struct fixture *f = *state;
    uint64_t kept[20];
    unsigned n = 0;
    fixture_start(f);
    for (int i = 0; i < 300; i++) {
        uint64_t id;
        assert_int_equal(fixture_send(f, 1, 3000, &id), SPOOL_OK);
        if (i % 30 == 3) {
            kept[n++] = id;
            continue;
        }
        fixture_result(f, id, 0, OUTCOME_SENT, 0);
        struct msg *m = fixture_find(f, id);
        spool_message_done(f->s, m);
        for (size_t k = 0; k < f->got_n; k++)
            if (f->got[k] == m) {
                msg_unref(&f->got[k]);
                f->got[k] = f->got[--f->got_n];
            }
    }
    assert_int_equal(f->got_n, n);
    index_all(f);
    uint64_t moved = 0;
    for (int i = 0; i < 1000 && moved < n - 3; i++) {
        usleep(10000);
        lock_take(&f->s->journal.segs.m);
        moved = f->s->journal.segs.moved_count;
        lock_drop(&f->s->journal.segs.m);
    }
    assert_true(moved >= n - 3);
    struct err e = ERR_INIT;
    for (size_t i = 0; i < f->got_n; i++) { /* their position is now wrong, and they are found all the same */
        content_drop(f->s, f->got[i]);
        assert_true(fixture_content_is_right(f, f->got[i]));
        struct msg *m = index_fetch(spool_index(f->s), f->got[i]->env.id, NULL, &e);
        assert_true(m != NULL && fixture_content_is_right(f, m));
        msg_unref(&m);
    }
    /* One ends after it was moved. */
    fixture_result(f, f->got[0]->env.id, 0, OUTCOME_SENT, 0);
    uint64_t gone = f->got[0]->env.id;
    spool_message_done(f->s, f->got[0]);
    for (int again = 0; again < 3; again++) {
        if (again == 2) { /* from the journal alone */
            char path[200];
            spool_stop(f->s);
            fixture_forget(f);
            spool_close(&f->s);
            snprintf(path, sizeof path, "%s/index.db", f->dir);
            unlink(path);
            fixture_start(f);
        } else {
            fixture_restart(f);
        }
        assert_int_equal(index_count(spool_index(f->s)), n - 1);
        for (unsigned i = 0; i < n; i++) {
            struct msg *m = index_fetch(spool_index(f->s), kept[i], NULL, &e);
            if ((m == NULL) != (kept[i] == gone))
                fail_msg("restart %d: message %u %s", again, i, m == NULL ? "is lost" : "is back");
            if (m != NULL && !fixture_content_is_right(f, m))
                fail_msg("restart %d: content of message %u", again, i);
            msg_unref(&m);
        }
    }
}

/* ---- many threads ---- */

#define SENDERS 8
#define EACH 100

struct sender {
    struct fixture *f;
    unsigned waiting;
    uint64_t ids[EACH];
    bool finish[EACH];
    bool ok;
};

static void sender_done(void *arg, struct msg *m, int status)
{
    struct sender *s = arg;
    (void)m;
    lock_take(&s->f->m);
    s->waiting--;
    s->ok = s->ok && status == SPOOL_OK;
    cond_broadcast(&s->f->changed);
    lock_drop(&s->f->m);
}

static void *sender(void *arg)
{
    struct sender *s = arg;
    struct fixture *f = s->f;
    s->ok = true;
    for (int i = 0; i < EACH; i++) {
        struct msg *m = fixture_msg(f, 1, (size_t)(i * 37 % 3000)), *mine = msg_ref(m);
        s->ids[i] = m->env.id;
        m->done_cb = sender_done;
        m->done_arg = s;
        lock_take(&f->m);
        s->waiting++;
        lock_drop(&f->m);
        spool_submit(f->s, m);
        lock_take(&f->m);
        while (s->waiting > 0)
            cond_wait(&f->changed, &f->m);
        lock_drop(&f->m);
        struct content_view v;
        s->ok = s->ok && content_acquire(f->s, mine, &v, NULL) && v.n == mine->env.content_bytes;
        content_drop(f->s, mine);
        content_release(&v);
        s->finish[i] = i % 4 != 0;
        if (s->finish[i]) {
            s->ok = s->ok && fixture_result(f, mine->env.id, 0, OUTCOME_SENT, 0) == SPOOL_OK;
            spool_message_done(f->s, mine);
        }
        msg_unref(&mine);
    }
    return NULL;
}

static void many_threads_at_once(void **state)
{
    struct fixture *f = *state;
    struct sender s[SENDERS];
    pthread_t t[SENDERS];
    f->discard = true;
    fixture_start(f);
    struct index_mark k = spool_index_mark(f->s); /* before the first message: it covers none of them */
    for (int i = 0; i < SENDERS; i++) {
        s[i] = (struct sender){ .f = f };
        assert_int_equal(thread_start(&t[i], "sender", 0, sender, &s[i]), 0);
    }
    for (int i = 0; i < 20; i++) {
        index_flush(spool_index(f->s), NULL, 0, &k, NULL, NULL);
        usleep(2000);
    }
    for (int i = 0; i < SENDERS; i++)
        pthread_join(t[i], NULL);
    f->discard = false;
    for (int i = 0; i < SENDERS; i++)
        assert_true(s[i].ok);
    fixture_restart(f);
    assert_int_equal(f->got_n, SENDERS * EACH / 4);
    for (int i = 0; i < SENDERS; i++)
        for (int q = 0; q < EACH; q++)
            if (fixture_how_often(f, s[i].ids[q]) != !s[i].finish[q])
                fail_msg("sender %d message %d: %u times", i, q, fixture_how_often(f, s[i].ids[q]));
}

/* ---- kill -9 ---- */

struct report {
    uint64_t id;
    uint64_t is_end;
};

static void tell(int fd, uint64_t id, bool is_end)
{
    struct report r = { id, is_end };
    if (write(fd, &r, sizeof r) != (ssize_t)sizeof r)
        _exit(3);
}

struct child_sender {
    struct fixture *f;
    int fd;
};

/* On the child's committer; its test thread waits meanwhile. */
static void child_done(void *arg, struct msg *m, int status)
{
    struct child_sender *c = arg;
    if (status == SPOOL_OK)
        tell(c->fd, m->env.id, false);
    fixture_done(c->f, m, status);
}

static NORETURN void child(struct fixture *f, int fd)
{
    struct child_sender c = { f, fd };
    fixture_start(f);
    for (unsigned i = 1;; i++) {
        struct msg *m = fixture_msg(f, 1, (size_t)(i * 71 % 6000)), *mine = msg_ref(m);
        m->done_cb = child_done;
        m->done_arg = &c;
        spool_submit(f->s, m);
        if (!fixture_wait(f, i))
            _exit(4);
        if (i % 3 != 0) {
            if (fixture_result(f, mine->env.id, 0, OUTCOME_SENT, 0) != SPOOL_OK)
                _exit(5);
            tell(fd, mine->env.id, true);
            spool_message_done(f->s, mine);
        }
        msg_unref(&mine);
    }
}

struct ids {
    uint64_t *v;
    size_t n;
};

static void ids_add(struct ids *x, uint64_t id)
{
    x->v = xrealloc(x->v, (x->n + 1) * sizeof *x->v);
    x->v[x->n++] = id;
}

static bool ids_have(const struct ids *x, uint64_t id)
{
    for (size_t i = 0; i < x->n; i++)
        if (x->v[i] == id)
            return true;
    return false;
}

/* Listens until the child has said `enough` or is dead; returns how much it said. */
static size_t listen_to(int fd, size_t enough, struct ids *answered, struct ids *ended)
{
    struct report r;
    size_t n = 0;
    while (n < enough && read(fd, &r, sizeof r) == (ssize_t)sizeof r) {
        ids_add(r.is_end ? ended : answered, r.id);
        n++;
    }
    return n;
}

static void check_after_kill(struct fixture *f, int round, const struct ids *answered, struct ids *ended)
{
    struct err e = ERR_INIT;
    for (size_t i = 0; i < answered->n; i++) {
        uint64_t id = answered->v[i];
        struct msg *m = index_fetch(spool_index(f->s), id, NULL, &e);
        bool is_over = ids_have(ended, id);
        if (m != NULL && is_over)
            fail_msg("round %d: message %zu is back", round, i);
        if (m == NULL && !is_over) {
            if (i != answered->n - 1)
                fail_msg("round %d: message %zu of %zu is lost", round, i, answered->n);
            ids_add(ended, id); /* killed between its result and saying so */
        }
        if (m != NULL && !fixture_content_is_right(f, m))
            fail_msg("round %d: content of message %zu", round, i);
        msg_unref(&m);
    }
}

static void killed_at_random_moments(void **state)
{
    struct fixture *f = *state;
    struct ids answered = { NULL, 0 }, ended = { NULL, 0 };
    uint64_t seed = 4711;
    for (int round = 0; round < 8; round++) {
        int p[2], st;
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        f->answered = 0;
        pid_t pid = fork();
        if (pid == 0) {
            close(p[0]);
            child(f, p[1]);
        }
        close(p[1]);
        listen_to(p[0], 20 + shim_random(&seed) % 300, &answered, &ended);
        usleep((useconds_t)(shim_random(&seed) % 3000));
        kill(pid, SIGKILL);
        waitpid(pid, &st, 0);
        if (!WIFSIGNALED(st))
            fail_msg("the child ended by itself: %d", st);
        listen_to(p[0], SIZE_MAX, &answered, &ended); /* said before it died */
        close(p[0]);
        fixture_start(f);
        check_after_kill(f, round, &answered, &ended);
        spool_stop(f->s);
        fixture_forget(f);
        spool_close(&f->s);
    }
    assert_true(answered.n > 100 && ended.n > 50);
    free(answered.v);
    free(ended.v);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup_small, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(whatever_is_cut_the_answered_ones_are_there),
        T(any_call_may_fail),
        T(a_refused_message_stays_away_and_the_disk_may_recover),
        T(a_refused_record_that_reached_the_disk_is_cut_off),
        T(results_are_flushed_behind_and_only_they),
        T(damage_costs_one_message),
        T(a_damaged_header_has_a_copy),
        T(old_bytes_of_recycled_segments_stay_dead),
        T(compaction_keeps_what_is_alive),
        T(many_threads_at_once),
        T(killed_at_random_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
