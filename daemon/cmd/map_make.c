/* posthousectl map: databases from texts; -i and -d */
#include <errno.h>
#include <grp.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "daemon/cmd/cmd_map.h"
#include "daemon/cmd/map_file.h"

#define SOURCE_MAX ((UINT64_C(1) << 32) - 2)

static int fail(const struct err *e, int status)
{
    ctl_complain("%s", e->text);
    return status;
}

/* As postmap: root writes a file beside somebody's source as that somebody. */
static bool become_owner(const struct stat *source, struct err *e)
{
    if (geteuid() != 0 || source->st_uid == 0)
        return true;
    if (setgroups(0, NULL) == 0 && setegid(source->st_gid) == 0 && seteuid(source->st_uid) == 0)
        return true;
    err_set_sys(e, errno, "cannot become user %lu, who owns the source (-o: stay root)", (unsigned long)source->st_uid);
    return false;
}

static bool become_root_again(struct err *e)
{
    if (getuid() != 0 || geteuid() == 0 || (seteuid(0) == 0 && setegid(0) == 0))
        return true;
    err_set_sys(e, errno, "cannot become root again");
    return false;
}

/* What a new file takes from the source, or from the database that it replaces. */
static mode_t mode_of(const struct map_options *o, const struct stat *like)
{
    return o->plain_mode || like == NULL ? 0644 : 0600 | (like->st_mode & 0044);
}

static bool is_text_type(struct span type)
{
    static const char *const names[] = { "hash", "btree", "texthash", "dbm", "sdbm" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (span_ieq_cstr(type, names[i]))
            return true;
    }
    return false;
}

static int cannot_make(struct span type)
{
    ctl_complain("maps of type \"%.*s\" are not made from a text; lmdb, cdb and sqlite are, hash and btree are read as they are "
                 "written", SPAN_ARG(type));
    return EX_USAGE;
}

static int write_database(const struct map_options *o, const struct map_type *t, const char *path, mode_t mode,
                          const struct map_rows *r)
{
    struct err e = ERR_INIT;
    bool with_nul = o->nul < 0 ? t->has_nul : o->nul == 1;
    return map_file_write(t, path, mode, with_nul, r, &e) ? 0 : fail(&e, EX_CANTCREAT);
}

/* t NULL: the text is the table; what is wrong with it is told, and that is all. */
static int make_one(const struct map_options *o, const struct map_type *t, const char *path)
{
    struct err e = ERR_INIT;
    struct stat st;
    struct buf text = BUF_INIT(SOURCE_MAX);
    struct map_rows r;
    if (stat(path, &st) != 0) {
        err_set_sys(&e, errno, "%s", path);
        return fail(&e, EX_NOINPUT);
    }
    if (!o->keep_owner && !become_owner(&st, &e))
        return fail(&e, EX_OSERR);
    map_rows_init(&r, &o->rows);
    int status = 0;
    if (!io_read_file(path, &text, &e) || !map_rows_add_text(&r, &text, path, &e))
        status = fail(&e, EX_NOINPUT);
    else if (t != NULL)
        status = write_database(o, t, path, mode_of(o, &st), &r);
    map_rows_free(&r);
    buf_free(&text);
    if (!become_root_again(&e))
        return fail(&e, EX_OSERR);
    return status;
}

/* -i: rows from standard input join those that are there. */
static int add_one(const struct map_options *o, const struct map_type *t, const char *path)
{
    struct err e = ERR_INIT;
    struct buf text = BUF_INIT(SOURCE_MAX);
    struct map_rows r;
    struct stat st;
    char chunk[65536];
    size_t n;
    int fd = -1, status = 0;
    map_rows_init(&r, &o->rows);
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
        buf_add(&text, chunk, n);
    if (ferror(stdin) || !buf_ok(&text)) {
        err_set_sys(&e, ferror(stdin) ? errno : EFBIG, "standard input");
        status = fail(&e, EX_IOERR);
    } else if (!map_file_read(t, path, &r, &fd, &e) || !map_rows_add_text(&r, &text, "standard input", &e)) {
        status = fail(&e, EX_IOERR);
    } else {
        bool is_there = fd >= 0 && fstat(fd, &st) == 0;
        status = write_database(o, t, path, mode_of(o, is_there ? &st : NULL), &r);
    }
    io_close(&fd);
    map_rows_free(&r);
    buf_free(&text);
    return status;
}

int map_make(const struct map_options *o, char **maps, int count)
{
    int status = 0;
    for (int i = 0; status == 0 && i < count; i++) {
        struct span file, type = map_spec(o, maps[i], &file);
        const struct map_type *t = map_type_find(type);
        char *path = xstrndup(file.p, file.n);
        if (t == NULL && (!is_text_type(type) || o->incremental))
            status = cannot_make(type);
        else
            status = o->incremental ? add_one(o, t, path) : make_one(o, t, path);
        free(path);
    }
    return status;
}

/* ---- removing ---- */

/* The keys to remove: one, or the lines of standard input. */
static void read_keys(const struct map_options *o, struct map_rows *keys)
{
    struct buf folded = BUF_INIT(SOURCE_MAX);
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    if (strcmp(o->remove, "-") != 0) {
        if (map_rows_key(keys, span_cstr(o->remove), &folded))
            (void)map_rows_add(keys, buf_span(&folded), span_of(NULL, 0), false);
    }
    while (strcmp(o->remove, "-") == 0 && (n = getline(&line, &room, stdin)) >= 0) {
        struct span key = span_of(line, n > 0 && line[n - 1] == '\n' ? (size_t)n - 1 : (size_t)n);
        if (map_rows_key(keys, key, &folded))
            (void)map_rows_add(keys, buf_span(&folded), span_of(NULL, 0), false);
    }
    free(line);
    buf_free(&folded);
}

static int remove_from(const struct map_options *o, const struct map_type *t, const char *path, const struct map_rows *keys,
                       bool *found)
{
    struct err e = ERR_INIT;
    struct map_rows old, kept;
    struct stat st;
    int fd = -1, status = 0;
    map_rows_init(&old, &o->rows);
    map_rows_init(&kept, &o->rows);
    if (!map_file_read(t, path, &old, &fd, &e)) {
        status = fail(&e, EX_IOERR);
    } else if (fd < 0) {
        err_set_sys(&e, ENOENT, "%s%s", path, t->suffix);
        status = fail(&e, EX_NOINPUT);
    }
    for (uint32_t i = 0; status == 0 && i < old.map.count; i++) {
        struct span key = strmap_key(&old.map, &old.map.rows[i]);
        if (strmap_get(&keys->map, key) == NULL)
            (void)map_rows_add(&kept, key, strmap_value(&old.map, &old.map.rows[i]), false);
    }
    if (status == 0 && kept.map.count < old.map.count) {
        *found = true;
        status = write_database(o, t, path, mode_of(o, fstat(fd, &st) == 0 ? &st : NULL), &kept);
    }
    io_close(&fd);
    map_rows_free(&old);
    map_rows_free(&kept);
    return status;
}

int map_remove(const struct map_options *o, char **maps, int count)
{
    struct map_rows keys;
    bool found = false;
    int status = 0;
    map_rows_init(&keys, &o->rows);
    read_keys(o, &keys);
    for (int i = 0; status == 0 && i < count; i++) {
        struct span file, type = map_spec(o, maps[i], &file);
        const struct map_type *t = map_type_find(type);
        char *path = xstrndup(file.p, file.n);
        status = t != NULL ? remove_from(o, t, path, &keys, &found) : cannot_make(type);
        free(path);
    }
    map_rows_free(&keys);
    return status != 0 ? status : found ? 0 : 1;
}
