/*
 * Journal, result log and large files as check reads them. Files are read piece by piece into memory, not mapped: a sector that
 * cannot be read is then a message with an offset, not a signal.
 *
 * While a daemon runs, a file may be renamed and begun anew under our hands: if its header has changed by the time its scan is
 * over, what was found in it is forgotten. The end of the last segment is being written, so it is not judged.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "queue/check_internal.h"
#include "queue/segment.h"
#include "queue/spool_internal.h"

#define PIECE (1u << 20)
/* A file that claims to be longer is not read as one. */
#define FILE_MAX_BYTES (UINT64_C(8) << 30)

struct check_file {
    char *path, *name; /* owned; name: below the spool directory */
    int fd;
    struct logfile_head head;
    char *p;           /* owned */
    uint64_t n;        /* of it what could be read */
    bool is_last;      /* of its kind */
};

static void file_close(struct check_file *f)
{
    io_close(&f->fd);
    free(f->p);
    free(f->path);
    free(f->name);
    *f = (struct check_file){ .fd = -1 };
}

static bool is_gone(struct check *c, const char *path)
{
    return c->t->is_running && access(path, F_OK) != 0;
}

static bool read_pieces(struct check *c, struct check_file *f, uint64_t size, const char *what)
{
    f->p = malloc(size > 0 ? size : 1);
    if (f->p == NULL) {
        err_set(c->e, "%s: no memory for %llu bytes", f->path, (unsigned long long)size);
        return false;
    }
    while (f->n < size && !check_is_cancelled(c)) {
        size_t n = size - f->n < PIECE ? (size_t)(size - f->n) : PIECE;
        if (!io_pread_all(f->fd, f->p + f->n, n, (off_t)f->n)) {
            check_tell(c, CHECK_K_UNREADABLE, f->name, (int64_t)f->n, 0, "look at the disk; restore the file from a backup",
                       "cannot be read from here: %s", strerror(errno));
            break;
        }
        f->n += n;
        check_progress(c, what, n);
    }
    return true;
}

/* False with *e when the check cannot go on; *ok: it has a valid header and its bytes are here. */
static bool file_open(struct check *c, struct check_file *f, enum logfile_kind k, const char *dir, const char *name, uint64_t generation,
                      bool *ok)
{
    struct stat st;
    *ok = false;
    f->path = xasprintf("%s/%s/%s", c->o->dir, dir, name);
    f->name = xasprintf("%s/%s", dir, name);
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0 || fstat(f->fd, &st) != 0) {
        if (errno != ENOENT || !c->t->is_running)
            check_tell(c, CHECK_K_UNREADABLE, f->name, -1, 0, "look at its permissions and at the disk", "cannot be opened: %s", strerror(errno));
        return true;
    }
    enum logfile_head_status hs = logfile_read_head(f->fd, k, &f->head, NULL);
    if (hs == LOGFILE_HEAD_NEWER) {
        err_set(c->e, "%s was written by a newer version", f->path);
        return false;
    }
    if (hs == LOGFILE_HEAD_OK && f->head.generation > generation)
        return true; /* begun anew, not renamed yet */
    if (hs == LOGFILE_HEAD_BAD || f->head.generation != generation) {
        if (!is_gone(c, f->path))
            check_tell(c, CHECK_K_HEADER, f->name, 0, 0,
                       k == LOGFILE_JOURNAL ? "its messages are not read: restore the file from a backup"
                                            : "deliveries noted in it may be repeated: restore the file from a backup",
                       "has no valid header");
        return true;
    }
    if ((uint64_t)st.st_size > FILE_MAX_BYTES) {
        check_tell(c, CHECK_K_HEADER, f->name, -1, 0, "restore the file from a backup", "is too long to be one of ours");
        return true;
    }
    *ok = true;
    return read_pieces(c, f, (uint64_t)st.st_size, dir);
}

/* Still the file that it was when we began? */
static bool is_same_file(struct check *c, const struct check_file *f, enum logfile_kind k)
{
    struct logfile_head now;
    if (!c->t->is_running)
        return true;
    return logfile_read_head(f->fd, k, &now, NULL) == LOGFILE_HEAD_OK && now.generation == f->head.generation && !is_gone(c, f->path);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Generations of the files NAME.suffix in a directory, rising; owned by the caller. */
static uint64_t *list_generations(struct check *c, const char *sub, const char *suffix, size_t *n)
{
    char *path = xasprintf("%s/%s", c->o->dir, sub);
    DIR *d = opendir(path);
    uint64_t *v = NULL, g;
    size_t cap = 0;
    *n = 0;
    if (d == NULL)
        check_tell(c, CHECK_K_UNREADABLE, sub, -1, 0, "look at its permissions and at the disk", "cannot be opened: %s", strerror(errno));
    for (struct dirent *de; d != NULL && (de = readdir(d)) != NULL;) {
        if (strlen(de->d_name) != 16 + strlen(suffix) || strcmp(de->d_name + 16, suffix) != 0 ||
            !num_parse_hex(span_of(de->d_name, 16), &g))
            continue;
        if (*n == cap) {
            cap = cap ? 2 * cap : 64;
            v = xrealloc(v, cap * sizeof *v);
        }
        v[(*n)++] = g;
    }
    if (d != NULL)
        closedir(d);
    free(path);
    if (*n > 0)
        qsort(v, *n, sizeof *v, by_number);
    return v;
}

static struct frame_scan scan_of(const struct check_file *f)
{
    return (struct frame_scan){ .p = f->p, .n = f->n, .off = LOGFILE_DATA_AT, .generation = f->head.generation, .salt = f->head.salt };
}

/* ---- results ---- */

static void one_result(struct check *c, uint64_t pos, const struct spool_result *r)
{
    c->t->results++;
    if (r->outcome == OUTCOME_DEFERRED)
        return;
    if (pos < c->since.results)
        return; /* the checkpoint has it */
    struct check_msg *m = check_msg_get(c, r->id);
    const struct check_done *d = m->done;
    while (d != NULL && d->rcpt != r->rcpt)
        d = d->next;
    if (d != NULL)
        return;
    struct check_done *mine = arena_alloc(c->arena, sizeof *mine);
    *mine = (struct check_done){ .next = m->done, .rcpt = r->rcpt, .is_before_mark = pos < c->mark.results };
    m->done = mine;
    m->done_n++;
    m->known_n += mine->is_before_mark;
}

static void scan_results(struct check *c, const struct check_file *f)
{
    struct frame_scan sc = scan_of(f);
    struct frame fr;
    uint64_t off;
    for (enum scan_status st; (st = frame_scan_next(&sc, &fr, &off)) != SCAN_END && !check_is_cancelled(c);) {
        struct spool_result r;
        if (st == SCAN_FRAME && fr.kind == REC_RESULT && record_result_decode(frame_meta(&sc, off, &fr), &r))
            one_result(c, f->head.generation * RESULT_FILE_BYTES + off, &r);
        else if (st == SCAN_GAP && is_same_file(c, f, LOGFILE_RESULTS))
            check_tell(c, CHECK_K_DAMAGE, f->name, (int64_t)off, 0, "nothing can be mended: deliveries noted there may be repeated once",
                       "%llu bytes are damaged", (unsigned long long)(sc.off - off));
        else if (st == SCAN_TORN && !(f->is_last && c->t->is_running))
            check_tell(c, CHECK_K_TORN, f->name, (int64_t)off, 0, "", "ends with an unfinished record");
    }
}

bool check_results(struct check *c)
{
    size_t n;
    uint64_t *v = list_generations(c, "results", ".res", &n);
    bool go_on = true;
    /* The checkpoint was removed, and what it covered is not in the result log any more: nothing is known of what is older. */
    if (!c->has_checkpoint && n > 0 && v[0] > 1)
        c->since = c->mark;
    for (size_t i = 0; go_on && i < n && !check_is_cancelled(c); i++) {
        struct check_file f = { .fd = -1, .is_last = i + 1 == n };
        char name[32];
        bool ok;
        snprintf(name, sizeof name, "%016llx.res", (unsigned long long)v[i]);
        go_on = file_open(c, &f, LOGFILE_RESULTS, "results", name, v[i], &ok);
        if (go_on && ok) {
            c->t->result_files++;
            scan_results(c, &f);
        }
        file_close(&f);
    }
    free(v);
    return go_on;
}

/* ---- large files ---- */

static bool large_crc(struct check *c, const char *path, uint64_t *bytes, uint32_t *crc)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *piece = xmalloc(PIECE);
    ssize_t n = fd < 0 ? -1 : 0;
    *bytes = 0;
    *crc = 0;
    while (fd >= 0 && !check_is_cancelled(c) && (n = read(fd, piece, PIECE)) > 0) {
        *crc = crc32c(*crc, piece, (size_t)n);
        *bytes += (uint64_t)n;
        check_progress(c, "large", (uint64_t)n);
    }
    int saved = errno;
    io_close(&fd);
    free(piece);
    errno = saved;
    return n == 0;
}

/* Its file is there as long as the message is queued; whether it must be is known only when it has a row. */
static void check_large(struct check *c, const struct msg *m, bool has_row)
{
    static const char advice[] = "restore the file from a backup, or give the message up: posthousectl queue delete";
    char *path = xasprintf("%s/large/%016llx", c->o->dir, (unsigned long long)m->env.id);
    const char *name = path + strlen(c->o->dir) + 1;
    struct stat st;
    uint64_t bytes;
    uint32_t crc;
    if (stat(path, &st) != 0) {
        check_msg_get(c, m->env.id)->is_lost = true; /* refused or finished; recovery passes over it */
        if (has_row)
            check_doubt(c, CHECK_K_LARGE, name, -1, m->env.id, advice, "cannot be opened: %s; it is the content of message %s",
                        strerror(errno), check_qid(c, m->env.id));
    } else if (!c->is_second) {
        c->t->large_files++;
        if (!large_crc(c, path, &bytes, &crc)) {
            if (!check_is_cancelled(c) && !is_gone(c, path))
                check_tell(c, CHECK_K_UNREADABLE, name, -1, m->env.id, advice, "cannot be read: %s", strerror(errno));
        } else if ((bytes != m->env.content_bytes || crc != m->content_crc) && !is_gone(c, path)) {
            check_tell(c, CHECK_K_LARGE, name, 0, m->env.id, advice, "is not what message %s was: %llu bytes, and its record says %llu%s",
                       check_qid(c, m->env.id), (unsigned long long)bytes, (unsigned long long)m->env.content_bytes,
                       bytes == m->env.content_bytes ? " with another checksum" : "");
        }
    }
    free(path);
}

/* Files of which no record speaks. */
void check_large_dir(struct check *c)
{
    size_t n;
    uint64_t *v = list_generations(c, "large", "", &n);
    char name[32];
    for (size_t i = 0; i < n && !c->t->is_running && !check_is_cancelled(c); i++) {
        struct check_msg *m;
        HASH_FIND(hh, c->msgs, &v[i], sizeof v[i], m);
        snprintf(name, sizeof name, "large/%016llx", (unsigned long long)v[i]);
        if (m == NULL)
            check_tell(c, CHECK_K_STRAY, name, -1, 0, "the next start of posthoused removes it", "belongs to no message");
    }
    free(v);
}

/* ---- journal ---- */

static bool is_cut(const struct check *c, struct journal_pos at)
{
    for (const struct check_cut *k = c->cuts; k != NULL; k = k->next)
        if (k->at.segment == at.segment && at.offset >= k->at.offset)
            return true;
    return false;
}

static void note_message(struct check *c, const struct check_file *f, const struct frame *fr, struct span meta, struct journal_pos at)
{
    uint64_t id;
    uint32_t rcpts;
    struct journal_pos from;
    c->t->messages++;
    if (!record_message_peek(meta, &id, &rcpts, &from)) {
        check_tell(c, CHECK_K_DAMAGE, f->name, (int64_t)at.offset, 0, "restore the file from a backup",
                   "a record has the right checksum, but its contents make no sense");
        return;
    }
    struct check_row *row = check_row_at(c, at);
    if (row != NULL && row->id == id)
        row->is_found = true;
    struct check_msg *m;
    HASH_FIND(hh, c->msgs, &id, sizeof id, m);
    bool is_new = pos_compare(at, c->since.journal) >= 0;
    if (is_new && (fr->flags & RECORD_MOVED) && pos_compare(from, c->since.journal) < 0 &&
        !(m != NULL && (m->in_checkpoint || m->is_found)))
        is_new = false; /* a copy of a message that ended while it was made */
    if (is_new)
        m = check_msg_get(c, id);
    if (m != NULL && (is_new || (m->in_checkpoint && pos_compare(m->pos, at) == 0))) {
        m->is_found = true;
        m->rcpts = rcpts;
        m->pos = at;
    }
    if (fr->content_bytes > 0)
        return;
    struct msg *full = record_message_decode(fr, meta);
    if (full != NULL && full->is_large) {
        (void)check_msg_get(c, id); /* so that its file is no stray */
        check_large(c, full, row != NULL && row->is_found);
    }
    msg_unref(&full);
}

static void note_admin(struct check *c, struct span meta)
{
    struct record_admin a;
    c->t->admins++;
    if (!record_admin_decode(meta, &a))
        return;
    if (a.what == ADMIN_DELETE || a.what == ADMIN_TRASH) /* the trash is emptied without a record */
        check_msg_get(c, a.id)->is_deleted = true;
    else if (a.what == ADMIN_UNDELETE)
        check_msg_get(c, a.id)->is_deleted = false;
}

/* Which messages of the index began in the damaged bytes. */
static void name_rows(struct check *c, const struct check_file *f, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at += FRAME_ALIGN) {
        struct check_row *r = check_row_at(c, (struct journal_pos){ f->head.generation, at });
        if (r == NULL)
            continue;
        r->is_found = true; /* told here, once */
        check_tell(c, CHECK_K_DAMAGE, f->name, (int64_t)at, r->id,
                   "restore the file from a backup, or give the message up: posthousectl queue delete",
                   "the record of message %s is damaged: it cannot be delivered", check_qid(c, r->id));
    }
}

static void damage(struct check *c, const struct check_file *f, uint64_t from, uint64_t to)
{
    if (!is_same_file(c, f, LOGFILE_JOURNAL) || is_cut(c, (struct journal_pos){ f->head.generation, from }))
        return;
    check_tell(c, CHECK_K_DAMAGE, f->name, (int64_t)from, 0, "restore the file from a backup if messages are lost with it; the rest is used",
               "%llu bytes are damaged", (unsigned long long)(to - from));
    name_rows(c, f, from, to);
}

static void scan_segment(struct check *c, const struct check_file *f)
{
    struct frame_scan sc = scan_of(f);
    struct frame fr;
    uint64_t off;
    for (enum scan_status st; (st = frame_scan_next(&sc, &fr, &off)) != SCAN_END && !check_is_cancelled(c);) {
        struct journal_pos at = { f->head.generation, off };
        bool is_end = is_cut(c, at);
        switch (st) {
        case SCAN_FRAME:
            if (is_end) /* flushed or not: nobody was answered for it */
                break;
            if (fr.kind == REC_MESSAGE)
                note_message(c, f, &fr, frame_meta(&sc, off, &fr), at);
            else if (fr.kind == REC_ADMIN)
                note_admin(c, frame_meta(&sc, off, &fr));
            break;
        case SCAN_GAP:
            damage(c, f, off, sc.off);
            break;
        case SCAN_TORN:
            if (!is_end && !(f->is_last && c->t->is_running) && is_same_file(c, f, LOGFILE_JOURNAL))
                check_tell(c, CHECK_K_TORN, f->name, (int64_t)off, 0, "", "ends with an unfinished record, as a power cut leaves it: "
                           "nobody was answered for it");
            break;
        case SCAN_END:
            break;
        }
    }
}

/* A segment's first record may say where an earlier one stopped being valid. */
static void read_note(struct check *c, const struct check_file *f)
{
    struct frame_scan sc = scan_of(f);
    struct frame fr;
    uint64_t off;
    struct journal_pos at;
    if (sc.n < sc.off + FRAME_HEADER_BYTES || !frame_parse(f->p + sc.off, f->head.salt, &fr) || fr.kind != REC_NOTE ||
        frame_scan_next(&sc, &fr, &off) != SCAN_FRAME || !record_note_decode(frame_meta(&sc, off, &fr), &at) || at.segment == 0)
        return;
    struct check_cut *k = arena_alloc(c->arena, sizeof *k);
    *k = (struct check_cut){ .next = c->cuts, .at = at };
    c->cuts = k;
}

/* Only the first frame, which is short. */
static void read_notes(struct check *c)
{
    for (size_t i = 0; i < c->generation_n; i++) {
        struct check_file f = { .fd = -1 };
        f.path = xasprintf("%s/journal/%016llx.jnl", c->o->dir, (unsigned long long)c->generations[i]);
        f.fd = open(f.path, O_RDONLY | O_CLOEXEC);
        f.p = xmalloc(LOGFILE_DATA_AT + 4096);
        if (f.fd >= 0 && logfile_read_head(f.fd, LOGFILE_JOURNAL, &f.head, NULL) == LOGFILE_HEAD_OK) {
            ssize_t n = pread(f.fd, f.p, LOGFILE_DATA_AT + 4096, 0);
            f.n = n > 0 ? (uint64_t)n : 0;
            read_note(c, &f);
        }
        file_close(&f);
    }
}

bool check_journal(struct check *c)
{
    bool go_on = true;
    c->generations = list_generations(c, "journal", ".jnl", &c->generation_n);
    read_notes(c);
    for (size_t i = 0; go_on && i < c->generation_n && !check_is_cancelled(c); i++) {
        struct check_file f = { .fd = -1, .is_last = i + 2 >= c->generation_n }; /* the last may be one that waits for its turn */
        char name[32];
        bool ok;
        snprintf(name, sizeof name, "%016llx.jnl", (unsigned long long)c->generations[i]);
        go_on = file_open(c, &f, LOGFILE_JOURNAL, "journal", name, c->generations[i], &ok);
        if (go_on && ok) {
            c->t->segments++;
            scan_segment(c, &f);
        }
        file_close(&f);
    }
    return go_on;
}
