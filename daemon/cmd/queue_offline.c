/*
 * The scheduler is made but never started: recovery gives it what the journal has, the rest it reads from the index.
 */
#include "daemon/cmd/queue_offline.h"

#include <errno.h>
#include <grp.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "daemon/control/envelope_json.h"
#include "daemon/control/queue_json.h"
#include "queue/query.h"
#include "queue/sched.h"

struct queue_offline {
    struct conf *conf;      /* borrowed */
    struct spool *spool;
    struct sched *sched;
    struct query *query;    /* owned; opened when first needed */
    struct log_src log;     /* without a log: nothing is written */
};

static int no_route(void *arg UNUSED, struct conf *c UNUSED, struct span sender UNUSED, struct span filter UNUSED, struct msg_rcpt *r UNUSED,
                    struct arena *a UNUSED, struct span *dsn, struct span *why)
{
    *dsn = SPAN_LIT("4.3.0");
    *why = SPAN_LIT("");
    return -1;
}

static void no_wake(void *arg UNUSED, unsigned count UNUSED)
{
}

static bool open_spool(struct queue_offline *q, struct err *e)
{
    const struct params *p = conf_global(q->conf);
    struct spool_options o = {
        .dir = p->queue_directory, .segment_bytes = p->journal_segment_size,
        .buffer_limit_bytes = p->spool_message_buffer_limit, .memory_limit_bytes = p->spool_memory_limit,
        .read_only = true, .log = &q->log,
    };
    return spool_open(&o, &q->spool, e) == SPOOL_OPEN_OK;
}

/*
 * Root becomes the owner of the spool, for good: SQLite makes files beside index.db even for reading, and the daemon could not
 * open them if they were root's.
 */
bool queue_offline_become_owner(const char *dir, struct err *e)
{
    struct stat st;
    if (stat(dir, &st) != 0) {
        err_set_sys(e, errno, "%s", dir);
        return false;
    }
    if (geteuid() != 0 || st.st_uid == 0)
        return true;
    if (setgroups(0, NULL) == 0 && setresgid(st.st_gid, st.st_gid, st.st_gid) == 0 &&
        setresuid(st.st_uid, st.st_uid, st.st_uid) == 0)
        return true;
    err_set_sys(e, errno, "becoming the owner of %s (user id %lu)", dir, (unsigned long)st.st_uid);
    return false;
}

struct queue_offline *queue_offline_open(struct conf *c, struct err *e)
{
    if (!queue_offline_become_owner(conf_global(c)->queue_directory, e))
        return NULL;
    struct queue_offline *q = xcalloc(1, sizeof *q);
    q->conf = c;
    q->log = (struct log_src){ .name = "posthouse", .prog = "posthousectl" };
    if (open_spool(q, e)) {
        char *pauses_path = xasprintf("%s/paused", conf_global(c)->queue_directory);
        struct sched_options so = { .spool = q->spool, .conf = c, .log = &q->log, .resolve = no_route, .wake = no_wake,
                                    .pauses_path = pauses_path };
        q->sched = sched_new(&so, e);
        free(pauses_path);
        struct spool_sink sink = { .committed = sched_committed, .arg = q->sched };
        if (q->sched != NULL && spool_start(q->spool, &sink, e))
            return q;
    }
    queue_offline_close(&q);
    return NULL;
}

struct query *queue_offline_query(struct queue_offline *q, struct err *e)
{
    return query_open_spool(q->spool, e);
}

void queue_offline_close(struct queue_offline **qp)
{
    struct queue_offline *q = *qp;
    *qp = NULL;
    if (q == NULL)
        return;
    query_close(&q->query);
    sched_free(&q->sched);
    spool_close(&q->spool);
    free(q);
}

struct list_run {
    bool (*fn)(void *arg, json_t *m);
    void *arg;
    bool long_ids;
};

static bool list_one(void *arg, struct msg *m, enum sched_where w)
{
    struct list_run *run = arg;
    json_t *j = queue_json(m, w, run->long_ids, false);
    bool more = run->fn(run->arg, j);
    json_decref(j);
    return more;
}

void queue_offline_list(struct queue_offline *q, bool (*fn)(void *arg, json_t *m), void *arg)
{
    struct list_run run = { .fn = fn, .arg = arg, .long_ids = conf_global(q->conf)->enable_long_queue_ids };
    sched_list(q->sched, list_one, &run);
}

json_t *queue_offline_find(struct queue_offline *q, const char *id_text, bool detail)
{
    uint64_t id;
    enum sched_where w;
    if (!qid_parse(span_cstr(id_text), &id))
        return NULL;
    struct err e = ERR_INIT;
    struct msg *m = sched_find(q->sched, id, &w);
    if (m == NULL)
        return NULL;
    json_t *j = queue_json(m, w, conf_global(q->conf)->enable_long_queue_ids, detail);
    if (!detail) {
        msg_unref(&m);
        return j;
    }
    struct sched_wait *wait = xcalloc(m->env.rcpt_count + 1, sizeof *wait);
    sched_explain(q->sched, m, w, wait);
    queue_json_add_waits(j, m, wait);
    if (q->query == NULL)
        q->query = query_open_spool(q->spool, &e);
    if (q->query != NULL) /* else only the history is missing */
        queue_json_add_history(j, m, q->query);
    free(wait);
    msg_unref(&m);
    return j;
}

/* The statement of a selection; NULL with *status and *e. Nothing is active. */
static sqlite3_stmt *prepare(struct queue_offline *q, json_t *select, enum selection_of of, const char *columns, int *status, struct err *e)
{
    struct selection *s = selection_new();
    sqlite3_stmt *st = NULL;
    *status = EX_USAGE;
    if (queue_json_selection(s, select, e)) {
        *status = EX_IOERR;
        if (q->query == NULL)
            q->query = query_open_spool(q->spool, e);
        if (q->query != NULL && selection_set_active(q->query, NULL, 0, e)) {
            enum query_status k = selection_prepare(s, q->query, of, columns, clock_wall_us(), &st, e);
            *status = k == QUERY_OK ? 0 : k == QUERY_BAD ? EX_DATAERR : k == QUERY_DENIED ? EX_NOPERM : EX_IOERR;
        }
    }
    selection_free(&s);
    return st;
}

json_t *queue_offline_select(struct queue_offline *q, json_t *select, int *status, struct err *e)
{
    json_t *ids = json_array();
    enum query_status k = QUERY_FAILED;
    sqlite3_stmt *st = prepare(q, select, SELECT_QUEUE, "m.id", status, e);
    while (st != NULL && (k = query_step(q->query, st, e)) == QUERY_ROW) {
        char text[QID_TEXT_MAX];
        qid_format((uint64_t)sqlite3_column_int64(st, 0), conf_global(q->conf)->enable_long_queue_ids, text);
        json_array_append_new(ids, json_string(text));
    }
    if (st != NULL && k != QUERY_OK)
        *status = EX_IOERR;
    sqlite3_finalize(st);
    if (*status == 0)
        return ids;
    json_decref(ids);
    return NULL;
}

int queue_offline_deleted(struct queue_offline *q, json_t *select, bool (*fn)(void *arg, json_t *m), void *arg, struct err *e)
{
    const struct params *p = conf_global(q->conf);
    int status;
    enum query_status k = QUERY_FAILED;
    sqlite3_stmt *st = prepare(q, select, SELECT_DELETED, DELETED_COLUMNS, &status, e);
    bool more = true;
    while (st != NULL && more && (k = query_step(q->query, st, e)) == QUERY_ROW) {
        json_t *j = queue_deleted_json(st, p->enable_long_queue_ids, p->queue_undelete_time / 1000);
        more = fn(arg, j);
        json_decref(j);
    }
    if (st != NULL && k != QUERY_OK && more)
        status = EX_IOERR;
    sqlite3_finalize(st);
    return status;
}

int queue_offline_cat(struct queue_offline *q, const char *id_text, bool (*fn)(void *arg, struct span bytes), void *arg,
                      struct err *e)
{
    uint64_t id;
    struct content_view v;
    struct msg *m = qid_parse(span_cstr(id_text), &id) ? sched_ref(q->sched, id) : NULL;
    int status = 0;
    if (m == NULL) {
        err_set(e, "no message with queue id %s", id_text);
        return 1;
    }
    if (content_acquire(q->spool, m, &v, e)) {
        fn(arg, span_of(v.p, v.n));
        content_release(&v);
    } else {
        status = EX_IOERR;
    }
    msg_unref(&m);
    return status;
}

json_t *queue_offline_envelope(struct queue_offline *q, const char *id_text)
{
    uint64_t id;
    enum sched_where w;
    struct msg *m = qid_parse(span_cstr(id_text), &id) ? sched_find(q->sched, id, &w) : NULL;
    json_t *j = m != NULL ? envelope_encode(m, w == SCHED_HOLD, conf_global(q->conf)->enable_long_queue_ids) : NULL;
    msg_unref(&m);
    return j;
}
