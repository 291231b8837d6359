/*
 * The queue while no daemon runs: index.db says what was true at its mark, the journal's tail (spool.overlay) what came
 * after. The messages of the tail get rows in temporary tables; temporary views put the two together under the names of
 * the tables, and the views for people are made once more above those, because SQLite looks among temporary things first.
 *
 * The same with a daemon whose index cannot be written, on a full disk for instance: then the tail is what is in its memory.
 */
#include "common/base/mem.h"
#include "queue/index_internal.h"
#include "queue/query_internal.h"
#include "queue/recover.h"

/* Tables that the tail lies over, and the column with the message's number. */
static const struct { const char *name, *id; } tables[] = {
    { "messages", "id" }, { "recipients", "message" }, { "deleted_messages", "id" }, { "deleted_recipients", "message" },
};

struct query_tail {
    struct query *q;
    struct index_conn conn;
    struct index index;      /* only what index_put_msg() and index_trash() use */
};

bool query_tail_put(struct query_tail *t, uint64_t id, struct msg *m, int64_t deleted_us, struct err *e)
{
    struct index *tail = &t->index;
    sqlite3_stmt *st = NULL;
    bool ok = sqlite3_prepare_v2(tail->writer->db, "INSERT OR IGNORE INTO temp.tail_ids VALUES (?1)", -1, &st, NULL) == SQLITE_OK;
    if (ok) {
        sqlite3_bind_int64(st, 1, (int64_t)id);
        ok = sqlite3_step(st) == SQLITE_DONE;
    }
    if (!ok)
        err_set(e, "index.db: %s", sqlite3_errmsg(tail->writer->db));
    sqlite3_finalize(st);
    if (!ok || m == NULL)
        return ok;
    return index_put_msg(tail, m, e) && (deleted_us == 0 || index_trash(tail, id, deleted_us, e));
}

typedef bool fill_fn(void *arg, struct query_tail *t, struct err *e);

static bool put_tail(struct query *q, struct spool *s, fill_fn *fill, void *arg, struct err *e)
{
    struct query_tail t = { .q = q, .conn = { .db = q->db } };
    t.index = (struct index){ .s = s, .log = s->o.log, .writer = &t.conn };
    bool ok = query_run(q, index_schema_temp, e) && query_run(q, "CREATE TEMP TABLE tail_ids (id INTEGER PRIMARY KEY); BEGIN", e) &&
              fill(arg, &t, e);
    for (size_t i = 0; i < IX_STMT_COUNT; i++)
        sqlite3_finalize(t.conn.stmt[i]);
    return ok && query_run(q, "COMMIT", e);
}

static bool fill_from_journal(void *arg, struct query_tail *t, struct err *e)
{
    struct spool *s = arg;
    bool ok = true;
    for (const struct replay_msg *p = s->overlay != NULL ? s->overlay->msgs : NULL; ok && p != NULL; p = p->hh.next) {
        int64_t deleted_us;
        struct msg *m = overlay_message(s, p, &deleted_us, e);
        ok = query_tail_put(t, p->id, m, deleted_us, e);
        msg_unref(&m);
    }
    return ok;
}

static bool lay_over(struct query *q, struct err *e)
{
    bool ok = true;
    for (size_t i = 0; ok && i < ARRAY_LEN(tables); i++) {
        const char *t = tables[i].name;
        char *sql = xasprintf("ALTER TABLE temp.%s RENAME TO tail_%s; CREATE TEMP VIEW %s AS SELECT * FROM main.%s WHERE %s NOT IN"
                              " (SELECT id FROM tail_ids) UNION ALL SELECT * FROM tail_%s", t, t, t, t, tables[i].id, t);
        ok = query_run(q, sql, e);
        free(sql);
    }
    return ok && query_run(q, "DROP TABLE temp.attempts", e);
}

static bool copy_views(struct query *q, struct err *e)
{
    struct buf b = BUF_INIT(0);
    sqlite3_stmt *st = NULL;
    static const char begin[] = "CREATE VIEW ";
    bool ok = sqlite3_prepare_v2(q->db, "SELECT sql FROM main.sqlite_schema WHERE type = 'view'", -1, &st, NULL) == SQLITE_OK;
    while (ok && sqlite3_step(st) == SQLITE_ROW) {
        struct span sql = query_column(st, 0);
        if (!span_starts_with(sql, SPAN_LIT(begin)))
            continue;
        buf_puts(&b, "CREATE TEMP VIEW ");
        buf_add_span(&b, span_from(sql, sizeof begin - 1));
        buf_puts(&b, ";");
    }
    sqlite3_finalize(st);
    ok = ok && query_run(q, buf_cstr(&b), e);
    buf_free(&b);
    return ok;
}

/* path NULL: there is no index. */
static struct query *open_over(const char *path, struct spool *s, fill_fn *fill, void *arg, struct err *e)
{
    struct query *q = query_new(path != NULL ? path : ":memory:", path != NULL, e);
    if (q == NULL)
        return NULL;
    bool ok = query_run(q, "PRAGMA temp_store = MEMORY", e) && (path != NULL || query_run(q, index_schema, e)) &&
              put_tail(q, s, fill, arg, e) && lay_over(q, e) && copy_views(q, e) && query_seal(q, e);
    if (!ok)
        query_close(&q);
    return q;
}

struct query *query_open_spool(struct spool *s, struct err *e)
{
    const char *path = s->index != NULL ? s->index->path : NULL;
    if (path != NULL && (s->overlay == NULL || s->overlay->msgs == NULL))
        return query_open(path, e);
    return open_over(path, s, fill_from_journal, s, e);
}

struct query *query_open_over(const char *index_path, struct spool *s, fill_fn *fill, void *arg, struct err *e)
{
    return open_over(index_path, s, fill, arg, e);
}
