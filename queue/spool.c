/*
 * Opening, starting and stopping; the order matters and is written here only.
 *
 *    open    directories, lock, format, headers of segments and result files, index
 *    start   recovery (main thread, nothing else runs), then new files to write to, indexer, committer, keeper
 *    stop    committer (commits what was submitted), indexer (writes what was flushed to it), keeper
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "queue/index_internal.h"
#include "queue/recover.h"
#include "queue/spool_internal.h"

#define FORMAT_NAME "posthouse-spool"
#define FORMAT_VERSION 1
#define ROOM_CHECK_MS 1000
/* An envelope with its recipients and a content must fit a segment of the usual size several times. */
#define CONTENT_SHARE 4

/* Subdirectories: those that only we use are closed to everybody else. */
static const struct {
    const char *name;
    mode_t mode;
} dirs[] = { { "journal", 0700 }, { "results", 0700 }, { "large", 0700 }, { "corrupt", 0700 },
             { "maildrop", 0730 }, { "public", 0710 } };

static char *in_dir(const struct spool *s, const char *name)
{
    return xasprintf("%s/%s", s->o.dir, name);
}

/* ---- open ---- */

static enum spool_open_status check_owner(const char *path, struct err *e)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        err_set_sys(e, errno, "%s", path);
        return SPOOL_OPEN_FAILED;
    }
    if (!S_ISDIR(st.st_mode)) {
        err_set(e, "%s is not a directory", path);
        return SPOOL_OPEN_FAILED;
    }
    if (st.st_uid != geteuid()) {
        err_set(e, "%s is owned by uid %u, but this process runs as uid %u: change mail_owner, or the owner with chown -R",
                path, (unsigned)st.st_uid, (unsigned)geteuid());
        return SPOOL_OPEN_OWNER;
    }
    return SPOOL_OPEN_OK;
}

/* Either will do: a lost `format` is written anew. */
bool spool_is_there(const char *dir)
{
    static const char *const names[] = { "format", "journal" };
    bool is_there = false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path = xasprintf("%s/%s", dir, names[i]);
        is_there = is_there || access(path, F_OK) == 0 || errno != ENOENT;
        free(path);
    }
    return is_there;
}

static enum spool_open_status make_dirs(struct spool *s, struct err *e)
{
    struct stat st;
    if (!s->o.create && !s->o.read_only && !spool_is_there(s->o.dir)) {
        err_set(e, "there is no spool in %s", s->o.dir);
        return SPOOL_OPEN_NONE;
    }
    if (stat(s->o.dir, &st) != 0) {
        if (s->o.read_only) {
            err_set_sys(e, errno, "spool directory %s", s->o.dir);
            return SPOOL_OPEN_NONE;
        }
        char *slash = strrchr(s->o.dir, '/');
        char *parent = slash > s->o.dir ? xstrndup(s->o.dir, (size_t)(slash - s->o.dir)) : NULL;
        bool ok = (parent == NULL || io_make_dirs(parent, 0755)) && (mkdir(s->o.dir, 0700) == 0 || errno == EEXIST);
        if (ok && parent != NULL && !io_sync_dir(parent)) /* may not be ours to open */
            log_warn(s->o.log, "flush of directory %s: %m", parent);
        free(parent);
        if (!ok) {
            err_set_sys(e, errno, "create spool directory %s", s->o.dir);
            return SPOOL_OPEN_FAILED;
        }
    }
    enum spool_open_status k = check_owner(s->o.dir, e);
    for (size_t i = 0; k == SPOOL_OPEN_OK && i < ARRAY_LEN(dirs) && !s->o.read_only; i++) {
        char *path = in_dir(s, dirs[i].name);
        if (mkdir(path, dirs[i].mode) == 0) {
            /* mkdir() obeys the umask; maildrop/ and public/ are meant to be as they say. */
            if (chmod(path, dirs[i].mode) != 0)
                log_warn(s->o.log, "chmod %s: %m", path);
        } else if (errno != EEXIST) {
            err_set_sys(e, errno, "create %s", path);
            k = SPOOL_OPEN_FAILED;
        } else {
            k = check_owner(path, e);
        }
        free(path);
    }
    return k;
}

/* Who holds the lock, as the file says. */
static void say_in_use(const char *dir, int lock_fd, struct err *e)
{
    char text[32] = "";
    ssize_t n = pread(lock_fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    err_set(e, "spool %s is in use by process %s", dir, text[0] ? text : "unknown");
}

bool spool_is_in_use(const char *dir, struct err *e)
{
    char *path = xasprintf("%s/lock", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool in_use = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (in_use)
        say_in_use(dir, fd, e);
    io_close(&fd);
    free(path);
    return in_use;
}

static enum spool_open_status take_lock(struct spool *s, struct err *e)
{
    char *path = in_dir(s, "lock"), text[32] = "";
    enum spool_open_status k = SPOOL_OPEN_OK;
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0) {
        err_set_sys(e, errno, "open %s", path);
        k = SPOOL_OPEN_FAILED;
    } else if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        say_in_use(s->o.dir, s->lock_fd, e);
        io_close(&s->lock_fd);
        k = SPOOL_OPEN_LOCKED;
    } else {
        int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
        /* The pid is for people: the lock is what counts. */
        if (ftruncate(s->lock_fd, 0) != 0 || !io_pwrite_all(s->lock_fd, text, (size_t)n, 0))
            log_warn(s->o.log, "write %s: %m", path);
    }
    free(path);
    return k;
}

static bool write_format(struct spool *s, const char *path, struct err *e)
{
    char text[64], *tmp = in_dir(s, "format.new");
    int n = snprintf(text, sizeof text, FORMAT_NAME " %d\n", FORMAT_VERSION);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && io_write_all(fd, text, (size_t)n) && fsync(fd) == 0 && rename(tmp, path) == 0 &&
              io_sync_dir(s->o.dir);
    if (!ok)
        err_set_sys(e, errno, "write %s", path);
    io_close(&fd);
    free(tmp);
    return ok;
}

static enum spool_open_status check_format(struct spool *s, struct err *e)
{
    char *path = in_dir(s, "format");
    struct buf b = BUF_INIT(256);
    struct err why = ERR_INIT;
    enum spool_open_status k = SPOOL_OPEN_FAILED;
    int64_t version;
    struct span rest, name, number;
    if (access(path, F_OK) != 0 && errno == ENOENT && !s->o.read_only) {
        k = write_format(s, path, e) ? SPOOL_OPEN_OK : SPOOL_OPEN_FAILED;
    } else if (!io_read_file(path, &b, &why)) {
        err_set(e, "%s", why.text);
    } else {
        rest = buf_span(&b);
        if (!span_next_token(&rest, " \n", &name) || !span_eq(name, SPAN_LIT(FORMAT_NAME)) ||
            !span_next_token(&rest, " \n", &number) || !num_parse(number, 1, INT32_MAX, &version)) {
            err_set(e, "%s does not say \"" FORMAT_NAME " VERSION\": not a spool of this program", path);
        } else if (version > FORMAT_VERSION) {
            err_set(e, "spool %s has format %lld, this version reads up to %d: upgrade, or use another queue_directory",
                    s->o.dir, (long long)version, FORMAT_VERSION);
            k = SPOOL_OPEN_NEWER;
        } else {
            k = SPOOL_OPEN_OK;
        }
    }
    buf_free(&b);
    free(path);
    return k;
}

enum spool_open_status spool_look_at_format(const char *dir, struct err *e)
{
    struct spool s = { .o = { .dir = dir, .read_only = true } };
    char *path = in_dir(&s, "format");
    bool readable = access(path, R_OK) == 0;
    free(path);
    return readable ? check_format(&s, e) : SPOOL_OPEN_OK;
}

static enum spool_open_status open_files(struct spool *s, struct err *e)
{
    bool newer = false;
    if (!segments_open(&s->journal.segs, s->o.read_only, &newer, e) ||
        !result_log_open(&s->results, s->o.read_only, &newer, e))
        return newer ? SPOOL_OPEN_NEWER : SPOOL_OPEN_FAILED;
    char *index = in_dir(s, spool_index_name(s));
    bool missing = access(index, F_OK) != 0;
    free(index);
    if (s->o.read_only && missing)
        return SPOOL_OPEN_OK; /* the journal alone has all there is */
    s->index = index_open(s, e);
    return s->index != NULL ? SPOOL_OPEN_OK : SPOOL_OPEN_FAILED;
}

static struct spool *spool_new(const struct spool_options *o)
{
    struct spool *s = xcalloc(1, sizeof *s);
    s->o = *o;
    s->o.dir = xstrdup(o->dir);
    size_t n = strlen(s->o.dir);
    while (n > 1 && s->o.dir[n - 1] == '/')
        ((char *)(uintptr_t)s->o.dir)[--n] = '\0';
    s->io = o->io != NULL ? o->io : &spool_io_system;
    s->lock_fd = -1;
    s->content_limit = o->buffer_limit_bytes < o->segment_bytes / CONTENT_SHARE ? o->buffer_limit_bytes
                                                                               : o->segment_bytes / CONTENT_SHARE;
    s->memory_limit.parameter = "spool_memory_limit";
    content_pool_init(&s->pool, o->memory_limit_bytes);
    char *journal = in_dir(s, "journal"), *results = in_dir(s, "results");
    journal_init(&s->journal, s->io, s->o.log, journal, (uint64_t)o->segment_bytes);
    result_log_init(&s->results, s->io, s->o.log, results);
    free(journal);
    free(results);
    return s;
}

enum spool_open_status spool_open(const struct spool_options *o, struct spool **out, struct err *e)
{
    struct spool *s = spool_new(o);
    enum spool_open_status k = make_dirs(s, e);
    if (k == SPOOL_OPEN_OK && !o->read_only)
        k = take_lock(s, e);
    if (k == SPOOL_OPEN_OK)
        k = check_format(s, e);
    if (k == SPOOL_OPEN_OK)
        k = open_files(s, e);
    if (k != SPOOL_OPEN_OK) {
        spool_close(&s);
        return k;
    }
    *out = s;
    return SPOOL_OPEN_OK;
}

/* ---- start and stop ---- */

static bool start_thread(pthread_t *t, const char *name, void *(*fn)(void *), struct spool *s, struct err *e)
{
    int rc = thread_start(t, name, 512 * 1024, fn, s);
    if (rc != 0)
        err_set_sys(e, rc, "start thread %s", name);
    return rc == 0;
}

/* Says when the line is crossed, in both directions. */
static void watch_minfree(struct spool *s, uint64_t room)
{
    bool below = room < (uint64_t)s->o.minfree_bytes || room == 0;
    if (atomic_exchange(&s->is_below_minfree, below) == below)
        return;
    if (below)
        spool_tell(s, SPOOL_TROUBLE_FULL, "%s: %llu bytes are free and queue_minfree is %lld: new mail is refused with 452, mail already accepted is delivered",
                   s->o.dir, (unsigned long long)room, (long long)s->o.minfree_bytes);
    else
        log_info(s->o.log, "%s: %llu bytes are free: new mail is accepted again", s->o.dir, (unsigned long long)room);
}

/* So that the first question has an answer. */
static void check_room(struct spool *s)
{
    uint64_t room;
    if (s->io->free_bytes(s->io->arg, s->o.dir, &room) != 0) {
        if (!atomic_load(&s->is_below_minfree))
            log_error(s->o.log, "free space of %s: %m", s->o.dir);
        room = 0;
    }
    /* Release pairs with the acquire in spool_has_room(). */
    atomic_store_explicit(&s->free_bytes, room, memory_order_release);
    watch_minfree(s, room);
}

static void stop_committer(struct spool *s)
{
    journal_stop(&s->journal);
    pthread_join(s->committer, NULL);
}

bool spool_start(struct spool *s, const struct spool_sink *sink, struct err *e)
{
    s->sink = *sink;
    atomic_store(&s->room_checked_ms, clock_mono_ms());
    check_room(s);
    if (!s->o.read_only && !result_log_begin(&s->results, e))
        return false;
    if (!spool_recover(s, e))
        return false;
    if (s->o.read_only)
        return true;
    if (!index_start(s->index, e) || !start_thread(&s->committer, "committer", journal_committer, s, e))
        return false;
    if (!start_thread(&s->keeper, "keeper", spool_keeper, s, e)) {
        stop_committer(s);
        return false;
    }
    s->running = true;
    return true;
}

void spool_stop(struct spool *s)
{
    if (!s->running)
        return;
    stop_committer(s);
    index_stop(s->index);
    lock_take(&s->journal.segs.m);
    s->keeper_stopping = true;
    cond_signal(&s->journal.segs.changed);
    lock_drop(&s->journal.segs.m);
    pthread_join(s->keeper, NULL);
    if (!result_log_sync(&s->results))
        log_warn(s->o.log, "flush of the result log at stop failed: deliveries may be repeated after a power cut");
    s->running = false;
}

void spool_close(struct spool **sp)
{
    struct spool *s = *sp;
    *sp = NULL;
    if (s == NULL)
        return;
    spool_stop(s);
    for (struct large_done *d = atomic_load(&s->large_done), *next; d != NULL; d = next) {
        next = d->next;
        free(d);
    }
    index_close(&s->index);
    if (s->overlay != NULL) {
        replay_free(s->overlay);
        free(s->overlay);
    }
    journal_destroy(&s->journal);
    result_log_destroy(&s->results);
    content_pool_destroy(&s->pool);
    io_close(&s->lock_fd);
    free((char *)(uintptr_t)s->o.dir);
    free(s);
}

/* ---- small ones ---- */

struct qid_source *spool_qids(struct spool *s)
{
    return &s->qids;
}

struct index *spool_index(struct spool *s)
{
    return s->index;
}

bool spool_has_room(struct spool *s, uint64_t need_bytes)
{
    int64_t now = clock_mono_ms(), last = atomic_load_explicit(&s->room_checked_ms, memory_order_relaxed);
    if (now - last >= ROOM_CHECK_MS && atomic_compare_exchange_strong(&s->room_checked_ms, &last, now))
        check_room(s);
    uint64_t room = atomic_load_explicit(&s->free_bytes, memory_order_acquire);
    return atomic_load_explicit(&s->journal.trouble, memory_order_relaxed) == SPOOL_OK &&
           room > 0 && room >= (uint64_t)s->o.minfree_bytes && room - (uint64_t)s->o.minfree_bytes >= need_bytes;
}

struct index_mark spool_index_mark(struct spool *s)
{
    struct index_mark k = { .results = result_log_mark(&s->results) };
    lock_take(&s->journal.m);
    k.journal = s->journal.announced;
    /* A message can be delivered before it is announced: its record will be replayed, so its results must be too. */
    if (s->journal.told_results != 0 && s->journal.told_results < k.results)
        k.results = s->journal.told_results;
    lock_drop(&s->journal.m);
    return k;
}

void spool_large_done(struct spool *s, uint64_t id)
{
    struct large_done *d = xmalloc(sizeof *d);
    d->id = id;
    d->next = atomic_load(&s->large_done);
    while (!atomic_compare_exchange_weak(&s->large_done, &d->next, d))
        ;
    keeper_wake(s);
}

void spool_message_done(struct spool *s, struct msg *m)
{
    segments_note_done(&s->journal.segs, m->env.id, m->pos, segment_weight(m->env.content_bytes, m->is_large));
    if (m->is_large)
        spool_large_done(s, m->env.id);
}
