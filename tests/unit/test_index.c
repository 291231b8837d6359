/* index.db: flush, fetch, recovery through it, and what happens when it is lost */
#include "tests/unit/spool_fixture.h"

#include <sys/stat.h>
#include <sqlite3.h>

#include "queue/index_internal.h"
#include "queue/recover.h"

static void flushed(void *arg, int status)
{
    fixture_done(arg, NULL, status == 0 ? SPOOL_OK : SPOOL_IO);
}

/* Hands one change set over and waits; the status. */
static int flush(struct fixture *f, const struct index_change *c, size_t n, const struct index_mark *k)
{
    lock_take(&f->m);
    unsigned want = f->answered + 1;
    lock_drop(&f->m);
    index_flush(spool_index(f->s), c, n, k, flushed, f);
    assert_true(fixture_wait(f, want));
    return f->last_status;
}

/* Everything the sink has goes into the index, each message due at due_us + its place. */
static void flush_all(struct fixture *f, int64_t due_us, bool on_hold)
{
    struct index_mark k = spool_index_mark(f->s);
    struct index_change *c = xcalloc(f->got_n + 1, sizeof *c);
    struct index_rcpt *r = xcalloc(f->got_n * 4 + 1, sizeof *r);
    size_t rn = 0;
    for (size_t i = 0; i < f->got_n; i++) {
        struct msg *m = f->got[i];
        c[i] = (struct index_change){ .kind = INDEX_UPSERT, .id = m->env.id, .m = m, .is_new = true, .on_hold = on_hold,
                                      .due_us = due_us + (int64_t)i, .rcpts = &r[rn], .rcpt_count = m->env.rcpt_count };
        for (uint32_t q = 0; q < m->env.rcpt_count && rn < f->got_n * 4; q++)
            r[rn++] = (struct index_rcpt){ .rcpt = q, .state = RCPT_BUSY, .is_alone = q == 1, .attempts = 1, .due_us = due_us + (int64_t)i,
                                           .transport = SPAN_LIT("smtp"), .nexthop = i % 2 ? SPAN_LIT("odd") : SPAN_LIT("even"),
                                           .dsn = SPAN_LIT("4.4.1"), .mta = SPAN_LIT("mx"), .reason = SPAN_LIT("timeout") };
    }
    assert_int_equal(flush(f, c, f->got_n, &k), SPOOL_OK);
    free(c);
    free(r);
}

static void send_some(struct fixture *f, int n, uint64_t *ids)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(fixture_send(f, 2, 100, &ids[i]), SPOOL_OK);
}

static int fetch_due(struct fixture *f, int64_t until, struct index_cursor *cur, int limit, struct msg **out)
{
    struct err e = ERR_INIT;
    int n = index_fetch_due(spool_index(f->s), until, cur, limit, out, &e);
    if (n < 0)
        fail_msg("%s", e.text);
    return n;
}

static void due_rows_come_in_order_and_pieces(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[25];
    struct msg *m[10];
    struct index_cursor cur = { INT64_MIN, 0 };
    send_some(f, 25, ids);
    flush_all(f, 1000, false);
    assert_int_equal(index_count(spool_index(f->s)), 25);
    assert_int_equal(index_next_due_us(spool_index(f->s)), 1000);
    int seen = 0, n;
    while ((n = fetch_due(f, 1019, &cur, 10, m)) > 0)
        for (int i = 0; i < n; i++, seen++) {
            assert_true(m[i]->env.id == ids[seen]);
            assert_int_equal(m[i]->env.rcpt_count, 2);
            assert_int_equal(m[i]->env.rcpts[1].state, RCPT_TODO);
            assert_true(m[i]->env.rcpts[1].is_alone && !m[i]->env.rcpts[0].is_alone);
            assert_int_equal(m[i]->env.rcpts[1].attempts, 1);
            assert_int_equal(m[i]->env.rcpts[1].due_us, 1000 + seen);
            assert_true(span_eq(m[i]->env.rcpts[0].last_reason, SPAN_LIT("timeout")));
            assert_null(m[i]->content);
            assert_true(fixture_content_is_right(f, m[i]));
            msg_unref(&m[i]);
        }
    assert_int_equal(seen, 20);
}

static void held_rows_are_not_due(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[3];
    struct msg *m[3];
    struct err e = ERR_INIT;
    bool hold[3];
    struct index_cursor cur = { INT64_MIN, 0 };
    send_some(f, 3, ids);
    flush_all(f, 5, true);
    assert_int_equal(fetch_due(f, INT64_MAX, &cur, 3, m), 0);
    assert_int_equal(index_hold_count(spool_index(f->s)), 3);
    assert_true(index_next_due_us(spool_index(f->s)) == INT64_MAX);
    assert_int_equal(index_list(spool_index(f->s), ids[0], 3, m, hold, &e), 2);
    assert_true(m[0]->env.id == ids[1] && hold[0] && m[1]->env.id == ids[2]);
    msg_unref(&m[0]);
    msg_unref(&m[1]);
    m[0] = index_fetch(spool_index(f->s), ids[2], &hold[0], &e);
    assert_true(m[0] != NULL && hold[0]);
    msg_unref(&m[0]);
    assert_null(index_fetch(spool_index(f->s), 4711, NULL, &e));
}

static void delete_takes_all_rows(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[2];
    send_some(f, 2, ids);
    flush_all(f, 5, false);
    struct index_mark k = spool_index_mark(f->s);
    struct index_change c = { .kind = INDEX_DELETE, .id = ids[0] };
    assert_int_equal(flush(f, &c, 1, &k), SPOOL_OK);
    assert_int_equal(flush(f, &c, 1, &k), SPOOL_OK); /* again: nothing there, nothing wrong */
    assert_int_equal(index_count(spool_index(f->s)), 1);
    sqlite3 *db;
    sqlite3_stmt *st;
    char path[200];
    snprintf(path, sizeof path, "%s/index.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT (SELECT count(*) FROM recipients), (SELECT count(*) FROM attempts),"
                                            " (SELECT count(*) FROM queue), (SELECT count(*) FROM queue_messages),"
                                            " (SELECT messages FROM queue_destinations), (SELECT reason FROM queue_attempts)",
                                        -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(st, 0), 2);
    assert_int_equal(sqlite3_column_int(st, 1), 2);
    assert_int_equal(sqlite3_column_int(st, 2), 2);
    assert_int_equal(sqlite3_column_int(st, 3), 1);
    assert_int_equal(sqlite3_column_int(st, 4), 1);
    assert_string_equal((const char *)sqlite3_column_text(st, 5), "timeout");
    sqlite3_finalize(st);
    sqlite3_close(db);
}

static void make_due_moves_what_it_should(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[10];
    struct msg *m[10];
    struct index_cursor cur = { INT64_MIN, 0 };
    send_some(f, 10, ids);
    flush_all(f, 1000000, false);
    assert_int_equal(fetch_due(f, 100, &cur, 10, m), 0);
    struct span odd = SPAN_LIT("odd");
    unsigned want = f->answered + 1;
    index_make_due(spool_index(f->s), 50, &odd, flushed, f);
    assert_true(fixture_wait(f, want));
    assert_int_equal(fetch_due(f, 100, &cur, 10, m), 5);
    for (int i = 0; i < 5; i++) {
        assert_true(m[i]->env.id == ids[2 * i + 1]);
        assert_int_equal(m[i]->env.rcpts[0].due_us, 50);
        msg_unref(&m[i]);
    }
    index_make_due(spool_index(f->s), 40, NULL, flushed, f);
    assert_true(fixture_wait(f, want + 1));
    cur = (struct index_cursor){ INT64_MIN, 0 };
    assert_int_equal(fetch_due(f, 100, &cur, 10, m), 10);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(m[i]->env.rcpts[1].due_us, 40);
        msg_unref(&m[i]);
    }
}

static void count_pieces(void *arg, int status)
{
    struct fixture *f = arg;
    if (status == 1)
        f->pieces++;
    else
        flushed(f, status);
}

/* A long queue becomes due in pieces; each message once, in order of number. */
static void make_due_goes_in_pieces(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[10];
    struct msg *m[10];
    struct index_cursor cur = { INT64_MIN, 0 };
    struct span odd = SPAN_LIT("odd");
    send_some(f, 10, ids);
    flush_all(f, 1000000, false);
    spool_index(f->s)->due_piece = 3;
    unsigned want = f->answered + 1;
    index_make_due(spool_index(f->s), 50, &odd, count_pieces, f);
    assert_true(fixture_wait(f, want));
    assert_true(f->pieces >= 2);
    assert_int_equal(fetch_due(f, 100, &cur, 10, m), 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(m[i]->env.rcpts[0].due_us, 50);
        msg_unref(&m[i]);
    }
    f->pieces = 0;
    index_make_due(spool_index(f->s), 60, NULL, count_pieces, f);
    assert_true(fixture_wait(f, want + 1));
    assert_int_equal(f->pieces, 1); /* five were left */
    cur = (struct index_cursor){ INT64_MIN, 0 };
    assert_int_equal(fetch_due(f, 100, &cur, 10, m), 10);
    for (int i = 0; i < 10; i++)
        msg_unref(&m[i]);
}

static int64_t index_file_bytes(struct fixture *f)
{
    struct stat st;
    assert_int_equal(stat(spool_index(f->s)->path, &st), 0);
    return st.st_size;
}

/* look_in_ms: when the indexer looks again. */
static void fill_and_empty(struct fixture *f, int64_t look_in_ms)
{
    uint64_t ids[10];
    struct index_change c[10];
    struct err e = ERR_INIT;
    send_some(f, 10, ids);
    flush_all(f, 1000, false); /* from here on the indexer rests; what a long queue was is a table that goes */
    assert_true(index_exec(spool_index(f->s)->writer, "CREATE TABLE was (x); INSERT INTO was VALUES (zeroblob(4000000)); DROP TABLE was;"
                           "PRAGMA wal_checkpoint(TRUNCATE)", &e));
    int64_t full = index_file_bytes(f);
    spool_index(f->s)->shrink_min_pages = 1;
    spool_index(f->s)->shrink_look_ms = clock_mono_ms() + look_in_ms;
    for (int i = 0; i < 10; i++)
        c[i] = (struct index_change){ .kind = INDEX_DELETE, .id = ids[i] };
    struct index_mark k = spool_index_mark(f->s);
    assert_int_equal(flush(f, c, 10, &k), SPOOL_OK);
    assert_true(full > 4000000);
    assert_int_equal(index_count(spool_index(f->s)), 0);
}

/* When a backlog is gone the file becomes small again by itself. */
static void pages_go_back_to_the_disk(void **state)
{
    struct fixture *f = *state;
    fill_and_empty(f, 0);
    assert_true(index_file_bytes(f) < 1000000);
}

/* Also when it was looked at a moment before its end, and nothing is written any more. */
static void pages_go_back_when_nothing_comes(void **state)
{
    struct fixture *f = *state;
    int64_t until_ms = clock_mono_ms() + 20000;
    fill_and_empty(f, 200);
    while (index_file_bytes(f) >= 1000000 && clock_mono_ms() < until_ms)
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    assert_true(index_file_bytes(f) < 1000000);
}

/* ---- restarts ---- */

/*
 * 0 finished before the flush, 1 finished after it, 2 in the index and deferred after it, 3 in the index and one
 * recipient sent after it, 4 in the index and held after it, 5 only in the journal, 6 in the index and nothing since.
 */
static void scripted(struct fixture *f, uint64_t *ids)
{
    send_some(f, 5, ids);
    fixture_result(f, ids[0], 0, OUTCOME_SENT, 0);
    fixture_result(f, ids[0], 1, OUTCOME_SENT, 0);
    struct msg *gone = f->got[0];
    spool_message_done(f->s, gone);
    msg_unref(&f->got[0]);
    memmove(f->got, f->got + 1, --f->got_n * sizeof *f->got);
    assert_int_equal(fixture_send(f, 2, 100, &ids[6]), SPOOL_OK);
    flush_all(f, 77, false);
    fixture_result(f, ids[1], 0, OUTCOME_SENT, 0);
    fixture_result(f, ids[1], 1, OUTCOME_BOUNCED, 0);
    fixture_result(f, ids[2], 1, OUTCOME_DEFERRED, 9999);
    fixture_result(f, ids[3], 0, OUTCOME_SENT, 0);
    assert_int_equal(fixture_admin(f, ADMIN_HOLD, ids[4]), SPOOL_OK);
    assert_int_equal(fixture_send(f, 2, 100, &ids[5]), SPOOL_OK);
}

static void check_scripted(struct fixture *f, const uint64_t *ids, bool rebuilt)
{
    struct err e = ERR_INIT;
    struct index *ix = spool_index(f->s);
    bool hold = false;
    assert_int_equal(index_count(ix), 5);
    for (int i = 0; i < 2; i++)
        assert_null(index_fetch(ix, ids[i], NULL, &e));
    struct msg *m = index_fetch(ix, ids[2], &hold, &e);
    assert_true(m != NULL && m->env.rcpts[1].due_us == 9999 && !hold);
    assert_int_equal(m->env.rcpts[1].attempts, rebuilt ? 1 : 2);
    msg_unref(&m);
    m = index_fetch(ix, ids[3], &hold, &e);
    assert_true(m != NULL && m->env.rcpts[0].state == RCPT_DONE && m->env.rcpts[1].state == RCPT_TODO);
    assert_true(fixture_content_is_right(f, m));
    msg_unref(&m);
    m = index_fetch(ix, ids[4], &hold, &e);
    assert_true(m != NULL && hold);
    msg_unref(&m);
    assert_non_null(m = index_fetch(ix, ids[5], &hold, &e));
    msg_unref(&m);
    assert_non_null(m = index_fetch(ix, ids[6], &hold, &e));
    msg_unref(&m);
}

static void recovery_brings_the_index_up_to_date(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[7];
    scripted(f, ids);
    fixture_restart(f);
    check_scripted(f, ids, false);
    assert_int_equal(f->got_n, 1);
    assert_true(f->got[0]->env.id == ids[5]);
    fixture_restart(f); /* again: the mark has moved, nothing is counted twice */
    assert_int_equal(f->got_n, 0);
    check_scripted(f, ids, false);
}

/* A flush may know more than its mark covers; what replay finds again must not count twice. */
static void a_result_that_the_row_has_already_is_not_counted_again(void **state)
{
    struct fixture *f = *state;
    uint64_t id;
    struct err e = ERR_INIT;
    struct result_token t;
    assert_int_equal(fixture_send(f, 1, 10, &id), SPOOL_OK);
    struct index_mark k = spool_index_mark(f->s);
    struct spool_result r = { .id = id, .attempts = 3, .outcome = OUTCOME_DEFERRED, .due_us = 55 };
    assert_int_equal(spool_result_append(f->s, &r, 1, &t), SPOOL_OK);
    assert_true(spool_index_mark(f->s).results == t.pos); /* not passed before it was applied */
    spool_result_applied(f->s, &t);
    assert_true(spool_index_mark(f->s).results > k.results);
    struct index_rcpt rc = { .attempts = 3, .due_us = 55 };
    struct index_change c = { .id = id, .m = f->got[0], .is_new = true, .due_us = 55, .rcpts = &rc, .rcpt_count = 1 };
    assert_int_equal(flush(f, &c, 1, &k), SPOOL_OK);
    fixture_restart(f);
    struct msg *m = index_fetch(spool_index(f->s), id, NULL, &e);
    assert_non_null(m);
    assert_int_equal(m->env.rcpts[0].attempts, 3);
    assert_int_equal(m->env.rcpts[0].due_us, 55);
    msg_unref(&m);
}

/* Who hands over a part of a message whose rows are gone is told, and hands over all of it. */
static void a_part_of_a_message_without_rows_is_refused(void **state)
{
    struct fixture *f = *state;
    uint64_t id;
    struct err e = ERR_INIT;
    assert_int_equal(fixture_send(f, 3, 10, &id), SPOOL_OK);
    struct index_mark k = spool_index_mark(f->s);
    struct index_rcpt rc[3] = { { .rcpt = 0, .attempts = 2, .due_us = 55 }, { .rcpt = 1, .state = RCPT_DONE, .attempts = 1 },
                                { .rcpt = 2, .addr = SPAN_LIT("else@example.org"), .is_readdressed = true } };
    struct index_change c = { .id = id, .m = f->got[0], .due_us = 55, .rcpts = rc, .rcpt_count = 1 };
    assert_int_not_equal(flush(f, &c, 1, &k), SPOOL_OK);
    assert_null(index_fetch(spool_index(f->s), id, NULL, &e));
    c.is_new = true;
    c.rcpt_count = 3;
    assert_int_equal(flush(f, &c, 1, &k), SPOOL_OK);
    struct msg *m = index_fetch(spool_index(f->s), id, NULL, &e);
    assert_non_null(m);
    assert_int_equal(m->env.rcpts[1].state, RCPT_DONE);
    assert_true(span_eq(m->env.rcpts[2].addr, SPAN_LIT("else@example.org")));
    msg_unref(&m);
}

static void lose_index(struct fixture *f, const char *how)
{
    char a[200], b[210];
    spool_stop(f->s);
    fixture_forget(f);
    spool_close(&f->s);
    snprintf(a, sizeof a, "%s/index.db", f->dir);
    if (strcmp(how, "garbage") == 0) {
        FILE *o = fopen(a, "w");
        fputs("this is not a database, and long enough that nobody takes it for an empty one. ", o);
        fclose(o);
    } else if (strcmp(how, "older") == 0) {
        sqlite3 *db;
        assert_int_equal(sqlite3_open(a, &db), SQLITE_OK);
        sqlite3_exec(db, "UPDATE meta SET value = 0 WHERE key = 'schema_version'", NULL, NULL, NULL);
        sqlite3_close(db);
    } else if (strcmp(how, "marked") == 0) {
        snprintf(b, sizeof b, "%s/index.bad", f->dir);
        fclose(fopen(b, "w"));
    } else {
        unlink(a);
    }
    fixture_start(f);
}

static void a_lost_index_is_made_anew(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[7];
    scripted(f, ids);
    static const char *const how[] = { "deleted", "garbage", "older", "marked" };
    for (size_t i = 0; i < ARRAY_LEN(how); i++) {
        lose_index(f, how[i]);
        check_scripted(f, ids, true);
    }
}

static void checkpoint(struct fixture *f)
{
    struct index_mark k;
    uint64_t bytes;
    struct err e = ERR_INIT;
    if (!checkpoint_write(f->s, NULL, &k, &bytes, &e))
        fail_msg("%s", e.text);
}

static void the_checkpoint_stands_in_for_old_results(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[7];
    scripted(f, ids);
    fixture_restart(f);
    checkpoint(f);
    /* All results so far are in files that the checkpoint covers: without it they would be needed. */
    result_log_release(&f->s->results, result_log_end(&f->s->results));
    uint64_t late;
    assert_int_equal(fixture_send(f, 2, 100, &late), SPOOL_OK);
    fixture_result(f, ids[6], 0, OUTCOME_SENT, 0);
    lose_index(f, "deleted");
    assert_int_equal(index_count(spool_index(f->s)), 6);
    struct err e = ERR_INIT;
    struct msg *m = index_fetch(spool_index(f->s), ids[6], NULL, &e);
    assert_true(m != NULL && m->env.rcpts[0].state == RCPT_DONE && m->env.rcpts[1].state == RCPT_TODO);
    msg_unref(&m);
    assert_non_null(m = index_fetch(spool_index(f->s), late, NULL, &e));
    msg_unref(&m);
    m = index_fetch(spool_index(f->s), ids[3], NULL, &e);
    assert_true(m != NULL && m->env.rcpts[0].state == RCPT_DONE);
    msg_unref(&m);
    assert_null(index_fetch(spool_index(f->s), ids[1], NULL, &e));
}

static void a_damaged_checkpoint_is_not_used(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[7];
    char path[200];
    scripted(f, ids);
    checkpoint(f);
    snprintf(path, sizeof path, "%s/checkpoint", f->dir);
    FILE *o = fopen(path, "r+");
    fseek(o, 60, SEEK_SET);
    fputc('x', o);
    fclose(o);
    lose_index(f, "deleted");
    check_scripted(f, ids, true);
}

static void tools_read_a_spool_without_a_daemon(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[7];
    struct err e = ERR_INIT;
    scripted(f, ids);
    spool_stop(f->s);
    fixture_forget(f);
    spool_close(&f->s);
    f->o.read_only = true;
    fixture_start(f);
    struct msg *m[10];
    bool hold[10];
    int n = index_list(spool_index(f->s), 0, 10, m, hold, &e), held = 0;
    assert_int_equal(n, 4); /* 2, 3, 4, 6 */
    for (int i = 0; i < n; i++) {
        held += hold[i];
        if (m[i]->env.id == ids[3])
            assert_int_equal(m[i]->env.rcpts[0].state, RCPT_DONE);
        msg_unref(&m[i]);
    }
    assert_int_equal(held, 1);
    assert_int_equal(f->got_n, 1); /* 5 */
    assert_true(f->got[0]->env.id == ids[5] && fixture_content_is_right(f, f->got[0]));
    spool_stop(f->s);
    fixture_forget(f);
    spool_close(&f->s);
    f->o.read_only = false;
    fixture_start(f); /* nothing was changed by looking */
    check_scripted(f, ids, false);
}

static void a_segment_that_is_missing_is_reported_not_fatal(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[2];
    struct err e = ERR_INIT;
    send_some(f, 2, ids);
    flush_all(f, 5, false);
    char *path = segments_path(&f->s->journal.segs, f->got[0]->pos.segment);
    spool_stop(f->s);
    fixture_forget(f);
    spool_close(&f->s);
    assert_int_equal(unlink(path), 0);
    free(path);
    fixture_start(f);
    struct msg *m[2];
    struct index_cursor cur = { INT64_MIN, 0 };
    assert_int_equal(fetch_due(f, INT64_MAX, &cur, 2, m), 0);
    assert_null(index_fetch(spool_index(f->s), ids[0], NULL, &e));
    assert_int_equal(fixture_send(f, 1, 10, NULL), SPOOL_OK);
}

/* Delivered, its segment given back, and killed before its row went: the row goes at the start. */
static void a_row_does_not_outlive_its_message(void **state)
{
    struct fixture *f = *state;
    uint64_t id, waits;
    assert_int_equal(fixture_send(f, 2, 100, &id), SPOOL_OK);
    flush_all(f, 5, false);
    char *path = segments_path(&f->s->journal.segs, f->got[0]->pos.segment);
    uint64_t first = f->got[0]->pos.segment;
    while (f->got[f->got_n - 1]->pos.segment == first)
        assert_int_equal(fixture_send(f, 1, 30000, NULL), SPOOL_OK);
    for (size_t i = 0; i < f->got_n; i++) {
        for (uint32_t k = 0; k < f->got[i]->env.rcpt_count; k++)
            assert_int_equal(fixture_result(f, f->got[i]->env.id, k, k ? OUTCOME_BOUNCED : OUTCOME_SENT, 0), SPOOL_OK);
        spool_message_done(f->s, f->got[i]);
    }
    for (int i = 0; i < 500 && access(path, F_OK) == 0; i++)
        usleep(10000);
    assert_int_equal(access(path, F_OK), -1);
    free(path);
    struct msg *m;
    struct index_cursor cur = { INT64_MIN, 0 };
    assert_int_equal(fetch_due(f, INT64_MAX, &cur, 1, &m), 0);
    assert_int_equal(index_passed_over(spool_index(f->s)), 0); /* nothing to try again, or to report */
    assert_int_equal(fixture_send(f, 1, 10, &waits), SPOOL_OK);
    assert_int_equal(index_count(spool_index(f->s)), 1);
    fixture_restart(f);
    assert_int_equal(f->got_n, 1);
    assert_true(f->got[0]->env.id == waits);
    assert_int_equal(index_count(spool_index(f->s)), 1);
    assert_false(index_has(spool_index(f->s), id));
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(due_rows_come_in_order_and_pieces),
        T(held_rows_are_not_due),
        T(delete_takes_all_rows),
        T(a_row_does_not_outlive_its_message),
        T(make_due_moves_what_it_should),
        T(make_due_goes_in_pieces),
        T(pages_go_back_to_the_disk), T(pages_go_back_when_nothing_comes),
        T(recovery_brings_the_index_up_to_date),
        T(a_result_that_the_row_has_already_is_not_counted_again),
        T(a_part_of_a_message_without_rows_is_refused),
        T(a_lost_index_is_made_anew),
        T(the_checkpoint_stands_in_for_old_results),
        T(a_damaged_checkpoint_is_not_used),
        T(tools_read_a_spool_without_a_daemon),
        T(a_segment_that_is_missing_is_reported_not_fatal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
