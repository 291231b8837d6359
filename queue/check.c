/*
 * Order: checkpoint, index (one read transaction), result log, journal, comparison; so with a daemon beside us the later ones
 * are newer than the earlier ones, never the reverse. Findings that compare two files are doubts first. While a
 * daemon runs, a round with doubts is followed by others; a doubt is reported when it is there in each of them.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/base/printable.h"
#include "queue/check_internal.h"

#define ROUNDS_MAX 3
#define NAP_MS 100

static const char *const kind_names[] = {
    [CHECK_K_FORMAT] = "format",       [CHECK_K_HEADER] = "header",         [CHECK_K_DAMAGE] = "damage",
    [CHECK_K_TORN] = "unfinished",     [CHECK_K_UNREADABLE] = "unreadable", [CHECK_K_LARGE] = "large-file",
    [CHECK_K_STRAY] = "stray-file",    [CHECK_K_CHECKPOINT] = "checkpoint", [CHECK_K_INDEX] = "index",
    [CHECK_K_NO_RECORD] = "no-record", [CHECK_K_NO_ROW] = "not-indexed",    [CHECK_K_FINISHED] = "finished",
    [CHECK_K_KEPT] = "kept-damage",
};
static_assert(ARRAY_LEN(kind_names) == CHECK_KINDS, "a name for each kind");

const char *check_kind_name(enum check_kind k)
{
    return kind_names[k];
}

bool check_is_cancelled(const struct check *c)
{
    return c->o->cancel != NULL && atomic_load(c->o->cancel);
}

static bool is_note(enum check_kind k)
{
    return k == CHECK_K_TORN || k == CHECK_K_STRAY || k == CHECK_K_KEPT;
}

/* SQLite's words repeat what is in a damaged file, and go over several lines. */
static const char *one_line(struct buf *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->p[i] == '\n')
            b->p[i] = ' ';
    text_make_printable(b->p, b->n);
    return buf_cstr(b);
}

static void report(struct check *c, const struct check_finding *f)
{
    if (f->is_note)
        c->t->notes++;
    else
        c->t->problems++;
    c->o->found(c->o->arg, f);
}

void check_tell(struct check *c, enum check_kind k, const char *file, int64_t offset, uint64_t id, const char *advice,
                const char *fmt, ...)
{
    struct buf b = BUF_INIT(2000);
    if (c->is_second)
        return; /* was told in the first round */
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    struct check_finding f = { .kind = k, .is_note = is_note(k), .file = file, .offset = offset, .id = id,
                               .text = one_line(&b), .advice = advice };
    report(c, &f);
    buf_free(&b);
}

void check_doubt(struct check *c, enum check_kind k, const char *file, int64_t offset, uint64_t id, const char *advice,
                 const char *fmt, ...)
{
    struct buf b = BUF_INIT(2000);
    struct check_doubt *d = arena_alloc(c->arena, sizeof *d);
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    d->f = (struct check_finding){ .kind = k, .is_note = is_note(k), .file = arena_strdup(c->arena, file), .offset = offset, .id = id,
                                   .text = arena_strdup(c->arena, one_line(&b)), .advice = arena_strdup(c->arena, advice) };
    d->next = c->doubts;
    c->doubts = d;
    buf_free(&b);
}

void check_progress(struct check *c, const char *what, uint64_t more)
{
    c->bytes_done += more;
    if (c->o->progress != NULL && !c->is_second)
        c->o->progress(c->o->arg, what, c->bytes_done, c->bytes_all);
}

struct check_msg *check_msg_get(struct check *c, uint64_t id)
{
    struct check_msg *m;
    HASH_FIND(hh, c->msgs, &id, sizeof id, m);
    if (m == NULL) {
        m = arena_alloc(c->arena, sizeof *m);
        m->id = id;
        HASH_ADD(hh, c->msgs, id, sizeof m->id, m);
    }
    return m;
}

const char *check_qid(struct check *c, uint64_t id)
{
    char text[QID_TEXT_MAX];
    qid_format(id, false, text);
    return arena_strdup(c->arena, text);
}

/* ---- what is read first ---- */

static bool look_at_format(struct check *c)
{
    char *path = xasprintf("%s/format", c->o->dir);
    struct buf b = BUF_INIT(256);
    struct err why = ERR_INIT;
    struct span rest, name, number;
    int64_t version;
    bool ok = io_read_file(path, &b, &why);
    rest = buf_span(&b);
    if (!ok) {
        err_set(c->e, "%s: this is no spool, or it cannot be read", why.text);
    } else if (!span_next_token(&rest, " \n", &name) || !span_eq(name, SPAN_LIT("posthouse-spool")) ||
               !span_next_token(&rest, " \n", &number) || !num_parse(number, 1, INT32_MAX, &version)) {
        err_set(c->e, "%s does not say \"posthouse-spool VERSION\": not a spool of this program", path);
        ok = false;
    } else if (version > 1) {
        err_set(c->e, "%s has format %lld, this version reads up to 1: use the program that wrote it", path, (long long)version);
        ok = false;
    }
    buf_free(&b);
    free(path);
    return ok;
}

/* Whether somebody holds the lock: it is taken, shared, and given back at once. */
static void look_at_lock(struct check *c)
{
    char *path = xasprintf("%s/lock", c->o->dir), text[32] = "";
    int64_t pid = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_SH | LOCK_NB) != 0) {
        ssize_t n = pread(fd, text, sizeof text - 1, 0);
        c->t->is_running = true;
        if (n > 0 && num_parse(span_trim(span_of(text, (size_t)n)), 1, INT32_MAX, &pid))
            c->t->pid = (long)pid;
    }
    io_close(&fd);
}

static uint64_t bytes_in(const struct check *c, const char *sub)
{
    char *path = xasprintf("%s/%s", c->o->dir, sub);
    DIR *d = opendir(path);
    uint64_t sum = 0;
    for (struct dirent *de; d != NULL && (de = readdir(d)) != NULL;) {
        struct stat st;
        if (fstatat(dirfd(d), de->d_name, &st, 0) == 0 && S_ISREG(st.st_mode) && strncmp(de->d_name, "spare", 5) != 0)
            sum += (uint64_t)st.st_size;
    }
    if (d != NULL)
        closedir(d);
    free(path);
    return sum;
}

static void look_at_corrupt(struct check *c)
{
    char *path = xasprintf("%s/corrupt", c->o->dir);
    DIR *d = opendir(path);
    unsigned n = 0;
    for (struct dirent *de; d != NULL && (de = readdir(d)) != NULL;)
        n += de->d_name[0] != '.';
    if (d != NULL)
        closedir(d);
    free(path);
    if (n > 0)
        check_tell(c, CHECK_K_KEPT, "corrupt", -1, 0, "look at them and delete them", "%u files with damaged bytes that were found earlier", n);
}

/* ---- rounds ---- */

static void round_begin(struct check *c)
{
    c->arena = arena_new(65536);
    c->doubts = NULL;
    c->cuts = NULL;
    c->msgs = NULL;
    c->mark = c->since = (struct index_mark){ { 0, 0 }, 0 };
    c->bytes_done = 0;
}

static void round_end(struct check *c)
{
    HASH_CLEAR(hh, c->msgs); /* the entries are in the arena */
    arena_free(&c->arena);
    free(c->rows);
    free(c->generations);
    c->rows = NULL;
    c->generations = NULL;
    c->row_n = c->generation_n = 0;
}

static bool one_round(struct check *c)
{
    if (c->is_second) { /* counted once */
        struct check_totals t = *c->t, *real = c->t;
        c->t = &t;
        check_read_checkpoint(c);
        check_open_index(c);
        bool ok = check_results(c) && check_journal(c);
        if (ok)
            check_compare(c);
        check_close_index(c);
        c->t = real;
        return ok;
    }
    check_read_checkpoint(c);
    check_open_index(c);
    bool ok = check_results(c) && check_journal(c);
    if (ok) {
        check_large_dir(c);
        look_at_corrupt(c);
        check_compare(c);
    }
    check_close_index(c);
    return ok;
}

static bool is_same(const struct check_finding *a, const struct check_finding *b)
{
    return a->kind == b->kind && a->id == b->id && a->offset == b->offset && strcmp(a->file, b->file) == 0;
}

/* Waits, looks again, and keeps of `d` what is still so. */
static struct check_doubt *confirm(struct check *c, struct check_doubt *d, bool *ok)
{
    for (int64_t until = clock_mono_ms() + c->o->settle_ms; clock_mono_ms() < until && !check_is_cancelled(c);)
        usleep(NAP_MS * 1000);
    struct check again = { .o = c->o, .t = c->t, .e = c->e, .is_second = true, .bytes_all = c->bytes_all };
    round_begin(&again);
    *ok = one_round(&again);
    struct check_doubt *kept = NULL;
    for (struct check_doubt *next; d != NULL; d = next) {
        next = d->next;
        const struct check_doubt *q = again.doubts;
        while (q != NULL && !is_same(&q->f, &d->f))
            q = q->next;
        if (q != NULL || !*ok) {
            d->next = kept;
            kept = d;
        }
    }
    round_end(&again);
    return kept;
}

static bool check_all(struct check *c)
{
    bool ok = one_round(c);
    struct check_doubt *d = c->doubts;
    for (int i = 1; ok && c->t->is_running && d != NULL && i < ROUNDS_MAX && !check_is_cancelled(c); i++)
        d = confirm(c, d, &ok);
    for (; ok && d != NULL; d = d->next)
        report(c, &d->f);
    return ok;
}

enum check_status check_spool(const struct check_options *o, struct check_totals *t, struct err *e)
{
    struct check c = { .o = o, .t = t, .e = e };
    *t = (struct check_totals){ 0 };
    if (!look_at_format(&c))
        return CHECK_FAILED;
    look_at_lock(&c);
    c.bytes_all = bytes_in(&c, "results") + bytes_in(&c, "journal") + bytes_in(&c, "large");
    round_begin(&c);
    bool ok = check_all(&c);
    round_end(&c);
    if (check_is_cancelled(&c))
        return CHECK_CANCELLED;
    return !ok ? CHECK_FAILED : t->problems > 0 ? CHECK_PROBLEMS : CHECK_CLEAN;
}
