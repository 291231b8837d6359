/*
 * A spool whose files were damaged, opened and recovered. The first byte says how it is opened; then come the damages: what,
 * which file, where (3 bytes), and for some a length and bytes. Some damages are given right checksums again, as a wrong program
 * would, so that what lies behind the checksums is read. Whatever happens no message appears that was not there, none
 * appears with other content, and as long as the journal was left alone, or check finds all in order, none is missing.
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>

#include <sys/stat.h>

#include "common/base/crc32c.h"
#include "common/base/io.h"
#include "queue/check.h"
#include "queue/index.h"
#include "queue/recover.h"
#include "tests/unit/spool_fixture.h"

#define FILES_MAX 24
#define MESSAGES  6
#define LIST_MAX  64
#define DAMAGE_REACH 1024 /* bytes behind the used ones that may be hurt; the rest is zero */

enum damage { DAMAGE_XOR, DAMAGE_CUT, DAMAGE_WRITE, DAMAGE_ZERO, DAMAGE_REMOVE, DAMAGE_SEAL_FRAME, DAMAGE_SEAL_HEAD, DAMAGE_SEAL_CHECKPOINT,
              DAMAGES };

struct file {
    char *name;        /* below the spool */
    struct buf bytes;  /* as it was */
    size_t used;       /* of bytes; what lies behind is zero */
    struct buf now;
    bool is_removed;
    bool is_hurt;      /* now differs from bytes */
    struct stat written; /* what lies there is `bytes`, and looked so; st_nlink 0: unknown */
};

struct world {
    struct fixture f;
    struct file files[FILES_MAX];
    size_t count;
    uint64_t ids[MESSAGES];
    bool is_alive[MESSAGES];
    bool is_worn;  /* the spool was opened for writing since it was written */
};

/* ---- the spool as it was ---- */

static void read_dir(struct world *w, const char *below)
{
    char *path = xasprintf("%s%s%s", w->f.dir, *below ? "/" : "", below);
    DIR *d = opendir(path);
    for (const struct dirent *de; d != NULL && (de = readdir(d)) != NULL;) {
        struct stat st;
        char *name = xasprintf("%s%s%s", below, *below ? "/" : "", de->d_name), *full = xasprintf("%s/%s", w->f.dir, name);
        bool is_dot = de->d_name[0] == '.';
        if (!is_dot && stat(full, &st) == 0 && S_ISDIR(st.st_mode)) {
            read_dir(w, name);
        } else if (!is_dot && S_ISREG(st.st_mode)) {
            struct file *x = &w->files[w->count++];
            CHECK(w->count < FILES_MAX);
            *x = (struct file){ .name = xstrdup(name) };
            CHECK(io_read_file(full, &x->bytes, NULL));
            for (x->used = x->bytes.n; x->used > 0 && x->bytes.p[x->used - 1] == 0;)
                x->used--;
        }
        free(name);
        free(full);
    }
    if (d != NULL)
        closedir(d);
    free(path);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static void fill(struct world *w)
{
    struct fixture *f = &w->f;
    struct index_mark mark;
    struct err e = ERR_INIT;
    uint64_t bytes;
    for (int i = 0; i < MESSAGES; i++) {
        CHECK(fixture_send(f, 1 + (uint32_t)i % 3, i == 4 ? 40000 : (size_t)(100 + 50 * i), &w->ids[i]) == SPOOL_OK);
        w->is_alive[i] = true;
    }
    CHECK(fixture_result(f, w->ids[0], 0, OUTCOME_SENT, 0) == SPOOL_OK);
    w->is_alive[0] = false;
    CHECK(fixture_result(f, w->ids[1], 0, OUTCOME_DEFERRED, clock_wall_us() + 1000000) == SPOOL_OK);
    CHECK(fixture_result(f, w->ids[2], 1, OUTCOME_SENT, 0) == SPOOL_OK);
    CHECK(fixture_admin(f, ADMIN_HOLD, w->ids[3]) == SPOOL_OK && fixture_admin(f, ADMIN_REQUEUE, w->ids[1]) == SPOOL_OK);
    CHECK(fixture_admin(f, ADMIN_DELETE, w->ids[5]) == SPOOL_OK);
    w->is_alive[5] = false;
    fixture_restart(f); /* puts what is left into the index */
    fixture_stop(f);
    spool_close(&f->s);
    fixture_start(f);
    CHECK(checkpoint_write(f->s, NULL, &mark, &bytes, &e));
    fixture_restart(f);
    fixture_stop(f);
    fixture_forget(f);
    spool_close(&f->s);
}

static struct world *the_world(void);

static void clean_up(void)
{
    nftw(the_world()->f.dir, fixture_rm, 16, FTW_DEPTH | FTW_PHYS);
}

static struct world *the_world(void)
{
    static struct world *w;
    if (w != NULL)
        return w;
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    w = xcalloc(1, sizeof *w);
    fixture_init(&w->f);
    atexit(clean_up);
    w->f.o.segment_bytes = 1 << 16;
    fixture_start(&w->f);
    fill(w);
    read_dir(w, "");
    qsort(w->files, w->count, sizeof w->files[0], by_name);
    w->is_worn = true;
    return w;
}

/* ---- damage ---- */

static bool is_below(const struct file *x, const char *dir) { return strncmp(x->name, dir, strlen(dir)) == 0; }

static void put_crc(struct buf *b, size_t at, size_t n)
{
    uint32_t crc = __builtin_bswap32(crc32c(0, b->p, n));
    memcpy(b->p + at, &crc, 4);
}

/* The frame that is there or behind gets the checksum of what is in it now. */
static void seal_frame(struct file *x, size_t at)
{
    struct frame f;
    if (x->now.n < LOGFILE_DATA_AT)
        return;
    uint64_t salt = be_read(x->now.p + 24, 8);
    for (at &= ~(size_t)7; at + FRAME_HEADER_BYTES <= x->now.n; at += 8) {
        char *p = x->now.p + at;
        if (!frame_parse(p, salt, &f) || f.meta_bytes > x->now.n - at - FRAME_HEADER_BYTES)
            continue;
        frame_seal(p, &f, crc32c(0, p + FRAME_HEADER_BYTES, f.meta_bytes), salt);
        return;
    }
}

struct outcome_of_damage { bool is_hurt, is_journal_hurt, is_sealed, is_other_hurt, is_in_order; };

static void hurt(struct world *w, struct span *in, struct outcome_of_damage *o)
{
    enum damage what = (enum damage)(fuzz_byte(in) % DAMAGES);
    struct file *x = &w->files[fuzz_byte(in) % w->count];
    size_t at = (size_t)fuzz_byte(in) << 16 | (size_t)fuzz_byte(in) << 8, k;
    at |= fuzz_byte(in);
    at = x->used > 0 ? at % (x->used + 64) : 0;
    if (at >= x->now.n && what != DAMAGE_REMOVE)
        at = x->now.n > 0 ? x->now.n - 1 : 0;
    switch (what) {
    case DAMAGE_XOR:
        if (x->now.n > 0)
            x->now.p[at] ^= (char)(fuzz_byte(in) | 1);
        break;
    case DAMAGE_CUT:
        x->now.n = at;
        break;
    case DAMAGE_WRITE:
        k = fuzz_byte(in) % 32;
        for (; k > 0 && at < x->now.n; k--)
            x->now.p[at++] = (char)fuzz_byte(in);
        break;
    case DAMAGE_ZERO:
        k = x->now.n - at < 512 ? x->now.n - at : 512;
        if (k > 0)
            memset(x->now.p + at, 0, k);
        break;
    case DAMAGE_REMOVE:
        x->is_removed = true;
        break;
    case DAMAGE_SEAL_FRAME:
        seal_frame(x, at);
        o->is_sealed = true;
        break;
    case DAMAGE_SEAL_HEAD:
        for (size_t copy = 0; copy <= 4096 && x->now.n >= copy + 64; copy += 4096) {
            uint32_t crc = __builtin_bswap32(crc32c(0, x->now.p + copy, 60));
            memcpy(x->now.p + copy + 60, &crc, 4);
        }
        o->is_sealed = true;
        break;
    case DAMAGE_SEAL_CHECKPOINT:
        if (x->now.n > 52)
            put_crc(&x->now, x->now.n - 4, x->now.n - 4);
        o->is_sealed = true;
        break;
    case DAMAGES:
        break;
    }
    /* SQLite has no checksums: only what it cannot open at all counts as none. */
    bool is_spare_index = is_below(x, "checkpoint") || (is_below(x, "index.db") && what == DAMAGE_REMOVE && strcmp(x->name, "index.db") == 0);
    x->is_hurt = o->is_hurt = true;
    o->is_journal_hurt |= is_below(x, "journal") || is_below(x, "large");
    o->is_other_hurt |= !is_spare_index && !is_below(x, "results");
}

static void remove_all(const struct world *w)
{
    DIR *d = opendir(w->f.dir);
    CHECK(d != NULL);
    for (const struct dirent *de; (de = readdir(d)) != NULL;) {
        char *path = xasprintf("%s/%s", w->f.dir, de->d_name);
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
            nftw(path, fixture_rm, 16, FTW_DEPTH | FTW_PHYS);
        free(path);
    }
    closedir(d);
}

static void write_file(struct world *w, struct file *x)
{
    char *path = xasprintf("%s/%s", w->f.dir, x->name), *slash = strrchr(path, '/');
    x->written.st_nlink = 0;
    if (x->is_removed) {
        CHECK(unlink(path) == 0 || errno == ENOENT);
    } else {
        *slash = '\0';
        CHECK(io_make_dirs(path, 0700));
        *slash = '/';
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        size_t n = x->used + DAMAGE_REACH < x->now.n ? x->used + DAMAGE_REACH : x->now.n;
        CHECK(fd >= 0 && io_write_all(fd, x->now.p, n) && ftruncate(fd, (off_t)x->now.n) == 0);
        CHECK(x->is_hurt || fstat(fd, &x->written) == 0);
        close(fd);
    }
    free(path);
}

/* Is this file still what write_file() left? */
static bool is_untouched(const struct world *w, const struct file *x)
{
    struct stat st;
    char path[256];
    CHECK(snprintf(path, sizeof path, "%s/%s", w->f.dir, x->name) < (int)sizeof path);
    return x->written.st_nlink > 0 && stat(path, &st) == 0 && st.st_ino == x->written.st_ino && st.st_size == x->written.st_size &&
           st.st_mtim.tv_sec == x->written.st_mtim.tv_sec && st.st_mtim.tv_nsec == x->written.st_mtim.tv_nsec;
}

/* A spool that was only read is not written anew, but for what was hurt. */
static void write_files(struct world *w, bool all)
{
    if (all)
        remove_all(w);
    for (size_t i = 0; i < w->count; i++)
        if (all || w->files[i].is_hurt || w->files[i].is_removed || !is_untouched(w, &w->files[i]))
            write_file(w, &w->files[i]);
}

static size_t count_entries(const struct world *w)
{
    size_t n = 0;
    static const char *const dirs[] = { "", "/journal", "/results", "/large" };
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        char *path = xasprintf("%s%s", w->f.dir, dirs[i]);
        DIR *d = opendir(path);
        while (d != NULL && readdir(d) != NULL)
            n++;
        if (d != NULL)
            closedir(d);
        free(path);
    }
    return n;
}

/* To open a spool for reading changes nothing in it. */
static void check_only_read(const struct world *w, size_t entries)
{
    CHECK(count_entries(w) == entries);
    for (size_t i = 0; i < w->count; i++)
        CHECK(w->files[i].is_hurt || w->files[i].is_removed || is_untouched(w, &w->files[i]));
}

/* ---- what is left ---- */

static int number_of(const struct world *w, uint64_t id)
{
    for (int i = 0; i < MESSAGES; i++)
        if (w->ids[i] == id)
            return i;
    return -1;
}

static void see(struct world *w, struct msg *m, const struct outcome_of_damage *o, bool seen[MESSAGES])
{
    struct content_view v;
    struct err e = ERR_INIT;
    int i = number_of(w, m->env.id);
    if (content_acquire(w->f.s, m, &v, &e)) {
        content_release(&v);
        CHECK(o->is_sealed || fixture_content_is_right(&w->f, m));
    } else {
        CHECK(e.text[0] != '\0' && (o->is_sealed || o->is_journal_hurt || o->is_other_hurt));
    }
    CHECK(i >= 0 || o->is_sealed || o->is_other_hurt);
    if (i >= 0)
        seen[i] = true;
}

static void look(struct world *w, const struct outcome_of_damage *o)
{
    bool seen[MESSAGES] = { false }, hold;
    struct msg *list[LIST_MAX];
    struct err e = ERR_INIT;
    for (size_t i = 0; i < w->f.got_n; i++)
        see(w, w->f.got[i], o, seen);
    struct index *ix = spool_index(w->f.s);
    for (uint64_t after = 0; ix != NULL;) { /* read-only and there is no index: the sink was given everything */
        bool on_hold[LIST_MAX];
        int n = index_list(ix, after, LIST_MAX, list, on_hold, &e);
        CHECK(n <= LIST_MAX);
        for (int i = 0; i < n; i++) {
            CHECK(list[i]->env.id > after);
            after = list[i]->env.id;
            see(w, list[i], o, seen);
            msg_unref(&list[i]);
        }
        if (n < LIST_MAX)
            break;
    }
    for (int i = 0; i < MESSAGES; i++) {
        struct msg *m = ix ? index_fetch(ix, w->ids[i], &hold, &e) : NULL;
        msg_unref(&m);
        CHECK(seen[i] || !w->is_alive[i] || o->is_sealed || (o->is_journal_hurt && !o->is_in_order) || o->is_other_hurt);
    }
}

/* ---- what check says of it ---- */

static void found(void *arg, const struct check_finding *f)
{
    uint64_t *problems = arg;
    *problems += !f->is_note;
    CHECK((unsigned)f->kind < CHECK_KINDS && f->text[0] != '\0' && f->advice != NULL);
    CHECK(!fuzz_has_control(span_cstr(f->text)) && !fuzz_has_control(span_cstr(f->advice)));
    CHECK(f->file == NULL || !fuzz_has_control(span_cstr(f->file)));
}

/* Is all in order? */
static bool check(struct world *w)
{
    uint64_t problems = 0;
    struct check_totals t;
    struct err e = ERR_INIT;
    struct check_options o = { .dir = w->f.dir, .found = found, .arg = &problems };
    enum check_status st = check_spool(&o, &t, &e);
    CHECK(st == CHECK_CLEAN || st == CHECK_PROBLEMS || (st == CHECK_FAILED && e.text[0] != '\0'));
    CHECK(st == CHECK_FAILED || (t.problems == problems && (st == CHECK_PROBLEMS) == (problems > 0)));
    return st == CHECK_CLEAN;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct world *w = the_world();
    struct span in = span_of((const char *)data, n);
    struct outcome_of_damage o = { .is_sealed = false };
    struct err e = ERR_INIT;
    if (n < 1 || n > 200)
        return 0;
    uint8_t how = fuzz_byte(&in);
    for (size_t i = 0; i < w->count; i++) {
        if (w->files[i].is_hurt || w->files[i].now.n == 0) {
            buf_reset(&w->files[i].now);
            buf_add_span(&w->files[i].now, buf_span(&w->files[i].bytes));
        }
        w->files[i].is_removed = w->files[i].is_hurt = false;
    }
    while (in.n >= 5)
        hurt(w, &in, &o);
    write_files(w, w->is_worn);
    w->f.o.read_only = how % 8 != 0; /* the other way takes long */
    w->is_worn = !w->f.o.read_only;
    size_t entries = count_entries(w);
    if (how & 16) {
        o.is_in_order = check(w);
        CHECK(o.is_hurt || o.is_in_order);
    }
    struct spool_sink sink = { fixture_committed, &w->f };
    if (spool_open(&w->f.o, &w->f.s, &e) == SPOOL_OPEN_OK) {
        bool started = spool_start(w->f.s, &sink, &e);
        CHECK(started || e.text[0] != '\0');
        if (started)
            look(w, &o);
        if (started && !w->f.o.read_only && (how & 8)) {
            uint64_t id;
            CHECK(fixture_send(&w->f, 1, 100, &id) == SPOOL_OK || o.is_sealed || o.is_other_hurt || o.is_journal_hurt);
        }
        spool_stop(w->f.s);
        fixture_forget(&w->f);
        spool_close(&w->f.s);
    } else {
        CHECK(e.text[0] != '\0');
    }
    if (w->f.o.read_only)
        check_only_read(w, entries);
    return 0;
}
