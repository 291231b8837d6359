/*
 * The index and the checkpoint as check reads them, and the comparison with what results and journal said.
 *
 * What must have a row: a message with a valid record before the index's mark that the checkpoint has, or that came after the
 * checkpoint, whose recipients are not all done, and that nobody deleted. What must have none: one whose recipients
 * are all done by results before the mark. A message that ended before the checkpoint has neither row nor result, and its
 * record may still be in the journal: of it nothing is expected.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/check_internal.h"
#include "queue/index_internal.h"

#define CHECKPOINT_HEAD 48
#define CHECKPOINT_MSG 32
#define CHECKPOINT_RCPT 16
#define CHECKPOINT_VERSION 2
enum { CP_DELETED = 8, CP_READDRESSED = 1 }; /* flags of a message, of a recipient */

static const char rebuild[] = "posthousectl queue rebuild";

/* ---- checkpoint ---- */

/* Returns how many of them have an address of their own behind. */
static uint32_t read_rcpts(struct check *c, struct check_msg *m, const char *p, uint32_t n)
{
    uint32_t readdressed = 0;
    for (uint32_t i = 0; i < n; i++, p += CHECKPOINT_RCPT) {
        readdressed += (p[5] & CP_READDRESSED) != 0;
        if (p[4] != RCPT_DONE)
            continue;
        struct check_done *d = arena_alloc(c->arena, sizeof *d);
        *d = (struct check_done){ .next = m->done, .rcpt = (uint32_t)be_read(p, 4), .is_before_mark = true };
        m->done = d;
        m->done_n++;
        m->known_n++;
    }
    return readdressed;
}

/* Where the message at p ends; NULL when it does not fit. */
static const char *read_message(struct check *c, const char *p, const char *end)
{
    if (end - p < CHECKPOINT_MSG)
        return NULL;
    struct check_msg *m = check_msg_get(c, be_read(p, 8));
    m->in_checkpoint = true;
    m->pos = (struct journal_pos){ be_read(p + 8, 8), be_read(p + 16, 8) };
    m->is_deleted = (be_read(p + 24, 4) & CP_DELETED) != 0;
    uint64_t n = be_read(p + 28, 4);
    p += CHECKPOINT_MSG;
    if (n > (uint64_t)(end - p) / CHECKPOINT_RCPT)
        return NULL;
    uint32_t readdressed = read_rcpts(c, m, p, (uint32_t)n);
    p += n * CHECKPOINT_RCPT;
    if (m->is_deleted) {
        if (end - p < 8)
            return NULL;
        p += 8;
    }
    for (; readdressed > 0; readdressed--) {
        if (end - p < 4 || be_read(p, 4) > (size_t)(end - p - 4))
            return NULL;
        p += 4 + be_read(p, 4);
    }
    return p;
}

static bool read_messages(struct check *c, const char *p, const char *end, uint64_t count)
{
    for (uint64_t i = 0; i < count && p != NULL; i++)
        p = read_message(c, p, end);
    return p == end;
}

void check_read_checkpoint(struct check *c)
{
    char *path = xasprintf("%s/checkpoint", c->o->dir);
    struct buf b = BUF_INIT(0);
    struct err why = ERR_INIT;
    if (access(path, F_OK) == 0) {
        if (!io_read_file(path, &b, &why)) {
            check_tell(c, CHECK_K_UNREADABLE, "checkpoint", -1, 0, "the next one replaces it", "%s", why.text);
        } else if (b.n < CHECKPOINT_HEAD + 4 || memcmp(b.p, "PHchkp1\n", 8) != 0 || be_read(b.p + 8, 4) > CHECKPOINT_VERSION ||
                   be_read(b.p + b.n - 4, 4) != crc32c(0, b.p, b.n - 4) ||
                   !read_messages(c, b.p + CHECKPOINT_HEAD, b.p + b.n - 4, be_read(b.p + 40, 8))) {
            check_tell(c, CHECK_K_CHECKPOINT, "checkpoint", 0, 0,
                       "keep index.db, there is no backup of it until the next checkpoint is written",
                       "its checksum is wrong, or it is not a checkpoint");
        } else {
            c->has_checkpoint = true;
            c->since = (struct index_mark){ { be_read(b.p + 16, 8), be_read(b.p + 24, 8) }, be_read(b.p + 32, 8) };
        }
    }
    buf_free(&b);
    free(path);
}

/* ---- index ---- */

static bool meta_number(struct check *c, const char *key, uint64_t *out)
{
    sqlite3_stmt *st = NULL;
    bool ok = sqlite3_prepare_v2(c->db, "SELECT value FROM meta WHERE key = ?1", -1, &st, NULL) == SQLITE_OK &&
              sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW;
    if (ok)
        *out = (uint64_t)sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return ok;
}

static void index_problem(struct check *c, const char *what)
{
    check_tell(c, CHECK_K_INDEX, "index.db", -1, 0, rebuild, "%s%s%s", what, c->db != NULL ? ": " : "",
               c->db != NULL ? sqlite3_errmsg(c->db) : "");
    c->has_index = false;
}

/* Structure and order of the B-trees; SQLite's own words. */
static bool is_sound(struct check *c)
{
    sqlite3_stmt *st = NULL;
    bool ok = true;
    if (c->is_second)
        return true;
    if (c->o->progress != NULL)
        c->o->progress(c->o->arg, "index.db", 0, 0);
    if (sqlite3_prepare_v2(c->db, "PRAGMA quick_check(20)", -1, &st, NULL) != SQLITE_OK) {
        index_problem(c, "cannot be checked");
        return false;
    }
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && !check_is_cancelled(c)) {
        const char *text = (const char *)sqlite3_column_text(st, 0);
        if (text == NULL || strcmp(text, "ok") == 0)
            continue;
        check_tell(c, CHECK_K_INDEX, "index.db", -1, 0, rebuild, "%s", text);
        ok = false;
    }
    if (rc != SQLITE_DONE && rc != SQLITE_ROW) {
        index_problem(c, "cannot be read");
        ok = false;
    }
    sqlite3_finalize(st);
    return ok;
}

static int by_place(const void *a, const void *b)
{
    return pos_compare(((const struct check_row *)a)->pos, ((const struct check_row *)b)->pos);
}

static bool read_rows(struct check *c)
{
    sqlite3_stmt *st = NULL;
    size_t cap = 0;
    int rc = sqlite3_prepare_v2(c->db, "SELECT id, segment, offset, size, is_large, rcpt_count FROM messages UNION ALL"
                                       " SELECT id, segment, offset, size, is_large, rcpt_count FROM deleted_messages", -1, &st, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc != SQLITE_ROW)
            break;
        if (c->row_n == cap) {
            cap = cap ? 2 * cap : 1024;
            c->rows = xrealloc(c->rows, cap * sizeof *c->rows);
        }
        c->rows[c->row_n++] = (struct check_row){
            .id = (uint64_t)sqlite3_column_int64(st, 0),
            .pos = { (uint64_t)sqlite3_column_int64(st, 1), (uint64_t)sqlite3_column_int64(st, 2) },
            .size = (uint64_t)sqlite3_column_int64(st, 3), .is_large = sqlite3_column_int(st, 4) != 0,
            .rcpts = (uint32_t)sqlite3_column_int64(st, 5),
        };
    }
    sqlite3_finalize(st);
    if (rc != SQLITE_DONE) {
        index_problem(c, "its messages cannot be read");
        return false;
    }
    if (c->row_n > 0)
        qsort(c->rows, c->row_n, sizeof *c->rows, by_place);
    c->t->rows = c->row_n;
    return true;
}

/* Everything in one read transaction, which stays open for the comparison. */
static bool read_index(struct check *c)
{
    uint64_t version = 0;
    if (sqlite3_exec(c->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK || !meta_number(c, "schema_version", &version)) {
        index_problem(c, "is no index of this program");
        return false;
    }
    if (version != INDEX_SCHEMA_VERSION) {
        check_tell(c, CHECK_K_INDEX, "index.db", -1, 0, rebuild, "has schema version %llu, this program reads %d",
                   (unsigned long long)version, INDEX_SCHEMA_VERSION);
        return false;
    }
    if (!meta_number(c, "mark_segment", &c->mark.journal.segment) ||
        !meta_number(c, "mark_offset", &c->mark.journal.offset) || !meta_number(c, "mark_results", &c->mark.results)) {
        index_problem(c, "does not say up to where it covers the journal");
        return false;
    }
    return is_sound(c) && read_rows(c);
}

void check_open_index(struct check *c)
{
    char *path = xasprintf("%s/index.db", c->o->dir), *bad = xasprintf("%s/index.bad", c->o->dir);
    c->has_index = access(path, F_OK) == 0;
    if (!c->has_index) {
        check_tell(c, CHECK_K_INDEX, "index.db", -1, 0, "the next start of posthoused, or posthousectl queue rebuild, makes it",
                   "does not exist");
    } else if (sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        index_problem(c, "cannot be opened");
    } else {
        sqlite3_busy_timeout(c->db, 10000);
        if (access(bad, F_OK) == 0)
            check_tell(c, CHECK_K_INDEX, "index.bad", -1, 0, "restart posthoused, which makes a new index, or posthousectl queue rebuild",
                       "index.db was found damaged in use, or a new one was asked for");
        c->has_index = read_index(c);
    }
    free(path);
    free(bad);
}

void check_close_index(struct check *c)
{
    sqlite3_close_v2(c->db);
    c->db = NULL;
}

struct check_row *check_row_at(struct check *c, struct journal_pos pos)
{
    struct check_row key = { .pos = pos };
    return c->row_n > 0 ? bsearch(&key, c->rows, c->row_n, sizeof *c->rows, by_place) : NULL;
}

/* ---- comparison ---- */

static bool has_segment(const struct check *c, uint64_t generation)
{
    for (size_t i = 0; i < c->generation_n; i++)
        if (c->generations[i] == generation)
            return true;
    return false;
}

static void compare_rows(struct check *c)
{
    char file[64];
    for (size_t i = 0; i < c->row_n;) {
        const struct check_row *r = &c->rows[i];
        size_t n = 1;
        snprintf(file, sizeof file, "journal/%016llx.jnl", (unsigned long long)r->pos.segment);
        if (r->is_found) {
            i++;
            continue;
        }
        if (has_segment(c, r->pos.segment)) {
            check_doubt(c, CHECK_K_NO_RECORD, file, (int64_t)r->pos.offset, r->id,
                        "restore the file from a backup, or give the message up: posthousectl queue delete",
                        "there is no valid record of message %s, which the index has here: it cannot be delivered", check_qid(c, r->id));
        } else {
            while (i + n < c->row_n && c->rows[i + n].pos.segment == r->pos.segment)
                n++;
            check_doubt(c, CHECK_K_NO_RECORD, file, -1, n == 1 ? r->id : 0, "put the file back and restart posthoused",
                        "is missing; %zu message%s of the index lie%s in it", n, n == 1 ? "" : "s", n == 1 ? "s" : "");
        }
        i += n;
    }
}

struct row_state {
    sqlite3_stmt *has, *has_deleted, *rcpt;
};

static bool has_row(sqlite3_stmt *st, uint64_t id)
{
    sqlite3_bind_int64(st, 1, (int64_t)id);
    bool yes = sqlite3_step(st) == SQLITE_ROW;
    sqlite3_reset(st);
    return yes;
}

static bool is_row_done(struct row_state *rs, uint64_t id, uint32_t rcpt)
{
    sqlite3_bind_int64(rs->rcpt, 1, (int64_t)id);
    sqlite3_bind_int64(rs->rcpt, 2, rcpt);
    bool done = sqlite3_step(rs->rcpt) != SQLITE_ROW || sqlite3_column_int(rs->rcpt, 0) == RCPT_DONE;
    sqlite3_reset(rs->rcpt);
    return done;
}

static void compare_message(struct check *c, struct row_state *rs, const struct check_msg *m)
{
    bool row = has_row(rs->has, m->id);
    bool is_before = m->is_found && pos_compare(m->pos, c->mark.journal) < 0;
    if (!row && is_before && !m->is_deleted && !m->is_lost && m->done_n < m->rcpts && !has_row(rs->has_deleted, m->id)) {
        char file[64];
        snprintf(file, sizeof file, "journal/%016llx.jnl", (unsigned long long)m->pos.segment);
        check_doubt(c, CHECK_K_NO_ROW, file, (int64_t)m->pos.offset, m->id, rebuild,
                    "message %s is queued, but the index does not have it: it would not be tried again", check_qid(c, m->id));
    }
    if (row && m->is_found && m->rcpts > 0 && m->known_n >= m->rcpts) {
        check_doubt(c, CHECK_K_FINISHED, "index.db", -1, m->id, rebuild,
                    "message %s is finished, but the index still has it", check_qid(c, m->id));
        return;
    }
    for (const struct check_done *d = row ? m->done : NULL; d != NULL; d = d->next)
        if (d->is_before_mark && !is_row_done(rs, m->id, d->rcpt))
            check_doubt(c, CHECK_K_FINISHED, "index.db", -1, m->id, rebuild,
                        "recipient %u of message %s is done, but the index still waits for it", d->rcpt + 1, check_qid(c, m->id));
}

void check_compare(struct check *c)
{
    struct row_state rs = { NULL, NULL, NULL };
    struct check_msg *m, *next;
    if (!c->has_index || check_is_cancelled(c))
        return;
    compare_rows(c);
    if (sqlite3_prepare_v2(c->db, "SELECT 1 FROM messages WHERE id = ?1", -1, &rs.has, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(c->db, "SELECT 1 FROM deleted_messages WHERE id = ?1", -1, &rs.has_deleted, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(c->db, "SELECT state FROM recipients WHERE message = ?1 AND rcpt = ?2", -1, &rs.rcpt, NULL) == SQLITE_OK) {
        HASH_ITER(hh, c->msgs, m, next)
            compare_message(c, &rs, m);
    } else {
        index_problem(c, "cannot be read");
    }
    sqlite3_finalize(rs.has);
    sqlite3_finalize(rs.has_deleted);
    sqlite3_finalize(rs.rcpt);
}
