/* Messages that are committed together: wherever it ends, all of them are there or none. */
#include "tests/unit/spool_fixture.h"
#include "tests/unit/spool_shim.h"

#define GROUPS 10
#define MEMBERS_MAX 6

struct groups {
    uint64_t ids[GROUPS][MEMBERS_MAX];
    unsigned n[GROUPS];
};

/* Submits n messages of `bytes` each; the status, which must be that of each. */
static int send_together(struct fixture *f, unsigned n, size_t bytes, uint64_t *ids)
{
    struct msg *v[MEMBERS_MAX];
    for (unsigned i = 0; i < n; i++) {
        v[i] = fixture_msg(f, 1 + i % 2, bytes);
        assert_non_null(v[i]);
        ids[i] = v[i]->env.id;
    }
    lock_take(&f->m);
    unsigned before = f->answered, ok = f->ok;
    lock_drop(&f->m);
    spool_submit_all(f->s, v, n);
    assert_true(fixture_wait(f, before + n));
    assert_true(f->ok == ok || f->ok == ok + n);
    return f->last_status;
}

/* Small ones, ones that fill a segment more than once, and with files of their own. */
static void script(struct fixture *f, struct shim *sh, struct groups *g)
{
    for (unsigned i = 0; i < GROUPS; i++) {
        g->n[i] = 2 + i % (MEMBERS_MAX - 1);
        size_t bytes = i == 4 ? 30000 : i == 7 ? 40000 : i * 977;
        assert_int_equal(send_together(f, g->n[i], bytes, g->ids[i]), SPOOL_OK);
        for (unsigned k = 0; k < g->n[i]; k++)
            shim_note(sh, SHIM_ACK, g->ids[i][k]);
        assert_int_equal(fixture_send(f, 1, 10, NULL), SPOOL_OK);
    }
}

static bool is_acked(const struct shim *sh, size_t cut, uint64_t id)
{
    for (size_t i = 0; i < cut; i++)
        if (sh->op[i].kind == SHIM_ACK && sh->op[i].id == id)
            return true;
    return false;
}

/* seed 0: a kill, as far as it had come; else a power cut, after which what was answered must be there. */
static void check_cut(const struct shim *sh, const struct groups *g, size_t cut, size_t bytes, uint64_t seed)
{
    struct fixture x;
    fixture_init_for_files(&x);
    shim_rebuild(sh, cut, bytes, seed, x.dir);
    fixture_start(&x);
    for (unsigned i = 0; i < GROUPS; i++) {
        unsigned there = 0;
        for (unsigned k = 0; k < g->n[i]; k++)
            there += fixture_how_often(&x, g->ids[i][k]);
        bool must = is_acked(sh, cut, g->ids[i][g->n[i] - 1]);
        if ((must || (there > 0 && seed == 0)) && there != g->n[i])
            fail_msg("cut before call %zu of %zu, %zu bytes in, seed %llu: %u of %u are there", cut, sh->n, bytes, (unsigned long long)seed,
                     there, g->n[i]);
        for (unsigned k = 0; there > 0 && k < g->n[i]; k++)
            if (fixture_how_often(&x, g->ids[i][k]) > 0 && !fixture_content_is_right(&x, fixture_find(&x, g->ids[i][k])))
                fail_msg("cut before call %zu, %zu bytes in: content", cut, bytes);
    }
    if (bytes % 3 == 0) {
        assert_int_equal(fixture_send(&x, 1, 100, NULL), SPOOL_OK);
        fixture_restart(&x); /* what was passed over stays so */
    }
    for (unsigned i = 0; seed == 0 && i < GROUPS; i++) {
        unsigned there = 0;
        for (unsigned k = 0; k < g->n[i]; k++)
            there += fixture_how_often(&x, g->ids[i][k]);
        assert_true(there == 0 || there == g->n[i]);
    }
    fixture_free(&x);
}

/* A write of messages that are more than one. */
static bool is_group(const struct shim_op *op)
{
    return op->kind == SHIM_WRITE && op->n > FRAME_HEADER_BYTES && op->off >= LOGFILE_DATA_AT && op->data[12] == REC_MESSAGE &&
           (op->data[13] & RECORD_MORE);
}

static void wherever_it_is_cut(void **state)
{
    struct fixture *f = *state;
    struct shim sh;
    struct groups g = { 0 };
    shim_init(&sh, f->dir, true);
    f->o.io = &sh.io;
    fixture_start(f);
    script(f, &sh, &g);
    fixture_forget(f);
    spool_stop(f->s);
    spool_close(&f->s);
    uint64_t seed = 88172645463325252;
    unsigned cuts = 0;
    int64_t until = clock_mono_ms() + 20000; /* slow machines see fewer of the cuts */
    for (size_t cut = 0; cut <= sh.n && clock_mono_ms() < until; cut++) {
        if (cut < sh.n && !is_group(&sh.op[cut]))
            continue;
        check_cut(&sh, &g, cut, 0, shim_random(&seed));
        for (unsigned k = 0; cut < sh.n && k < 4; k++, cuts++)
            check_cut(&sh, &g, cut, shim_random(&seed) % sh.op[cut].n, 0);
    }
    print_message("%u cuts of %zu calls\n", cuts, sh.n);
    assert_true(cuts >= 4);
    shim_free(&sh);
}

static void what_no_segment_holds_gets_one(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[MEMBERS_MAX];
    fixture_start(f);
    assert_int_equal(fixture_send(f, 1, 10000, NULL), SPOOL_OK);
    assert_int_equal(send_together(f, MEMBERS_MAX, 15000, ids), SPOOL_OK);
    for (unsigned i = 1; i < MEMBERS_MAX; i++)
        assert_int_equal(fixture_find(f, ids[i])->pos.segment, fixture_find(f, ids[0])->pos.segment);
    fixture_restart(f);
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        assert_int_equal(fixture_how_often(f, ids[i]), 1);
        assert_true(fixture_content_is_right(f, fixture_find(f, ids[i])));
    }
}

/* The n-th call of the commit fails. */
static void refused_together(void **state)
{
    struct fixture *f = *state;
    struct shim sh;
    uint64_t ids[MEMBERS_MAX], after[MEMBERS_MAX];
    shim_init(&sh, f->dir, false);
    f->o.io = &sh.io;
    fixture_start(f);
    for (unsigned n = 1; n <= 2; n++) {
        int status = SPOOL_OK;
        for (int i = 0; i < 50 && status == SPOOL_OK; i++) { /* the call may be one of the keeper's */
            lock_take(&sh.m);
            sh.fail_errno = EIO;
            sh.fail_at = sh.calls + n;
            lock_drop(&sh.m);
            status = send_together(f, 4, 500, ids);
        }
        assert_int_equal(status, SPOOL_IO);
        lock_take(&sh.m);
        sh.fail_at = 0;
        lock_drop(&sh.m);
        assert_int_equal(send_together(f, 3, 500, after), SPOOL_OK);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(fixture_how_often(f, ids[i]), 0);
    }
    f->o.io = NULL;
    fixture_restart(f);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(fixture_how_often(f, ids[i]), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(fixture_how_often(f, after[i]), 1);
    shim_free(&sh);
}

/* A damaged one among them costs itself only. */
static void damage_costs_one(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[3];
    fixture_start(f);
    assert_int_equal(send_together(f, 3, 500, ids), SPOOL_OK);
    struct journal_pos pos = fixture_find(f, ids[1])->pos;
    char *path = segments_path(&f->s->journal.segs, pos.segment), c = 0x55;
    spool_stop(f->s);
    fixture_forget(f);
    spool_close(&f->s);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(pwrite(fd, &c, 1, (off_t)pos.offset + 40) == 1);
    close(fd);
    free(path);
    char index[200];
    snprintf(index, sizeof index, "%s/index.db", f->dir);
    unlink(index);
    fixture_start(f);
    assert_int_equal(fixture_how_often(f, ids[0]), 1);
    assert_int_equal(fixture_how_often(f, ids[1]), 0);
    assert_int_equal(fixture_how_often(f, ids[2]), 1);
}

/* What is taken back before the commit leaves no file. */
static void dropped_before_the_commit(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct msg *m = fixture_msg(f, 1, 50000);
    assert_true(m->is_large);
    char *path = spool_large_path(f->s, m->env.id);
    assert_int_equal(access(path, F_OK), 0);
    spool_msg_drop(f->s, &m);
    assert_null(m);
    assert_int_not_equal(access(path, F_OK), 0);
    free(path);
    m = fixture_msg(f, 1, 10);
    spool_msg_drop(f->s, &m);
    spool_msg_drop(f->s, &m);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup_small, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(wherever_it_is_cut),
        T(what_no_segment_holds_gets_one),
        T(refused_together),
        T(damage_costs_one),
        T(dropped_before_the_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
