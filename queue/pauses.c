#include "queue/pauses.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/base/num.h"

#define FILE_BYTES_MAX ((size_t)PAUSES_MAX * (PAUSE_NAME_MAX + 64))

static const char *const kind_names[] = { [PAUSE_DESTINATION] = "destination", [PAUSE_TRANSPORT] = "transport" };

const char *pause_kind_name(enum pause_kind k)
{
    return kind_names[k];
}

void pauses_free(struct pauses *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->v[i].name);
    free(p->v);
    *p = (struct pauses){ .v = NULL };
}

struct pauses pauses_copy(const struct pauses *p)
{
    struct pauses c = { .v = NULL };
    for (size_t i = 0; i < p->n; i++)
        pauses_add(&c, p->v[i].kind, span_cstr(p->v[i].name), p->v[i].since_us);
    return c;
}

const struct pause *pauses_find(const struct pauses *p, enum pause_kind k, struct span name)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].kind == k && span_ieq_cstr(name, p->v[i].name))
            return &p->v[i];
    return NULL;
}

const struct pause *pauses_match(const struct pauses *p, struct span transport, struct span nexthop)
{
    if (p->n == 0)
        return NULL;
    const struct pause *q = pauses_find(p, PAUSE_TRANSPORT, transport);
    return q != NULL ? q : pauses_find(p, PAUSE_DESTINATION, nexthop);
}

void pauses_add(struct pauses *p, enum pause_kind k, struct span name, int64_t since_us)
{
    p->v = xrealloc(p->v, (p->n + 1) * sizeof *p->v);
    p->v[p->n++] = (struct pause){ .kind = k, .since_us = since_us, .name = xstrndup(name.p, name.n) };
}

bool pauses_remove(struct pauses *p, enum pause_kind k, struct span name)
{
    const struct pause *q = pauses_find(p, k, name);
    if (q == NULL)
        return false;
    size_t i = (size_t)(q - p->v);
    free(p->v[i].name);
    memmove(&p->v[i], &p->v[i + 1], (p->n - i - 1) * sizeof *p->v);
    p->n--;
    return true;
}

bool pause_name_is_valid(struct span name)
{
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] < 32 || name.p[i] == 127)
            return false;
    return name.n > 0 && name.n <= PAUSE_NAME_MAX && span_trim(name).n == name.n;
}

static bool read_line(struct pauses *p, struct span line)
{
    struct span word, number;
    int64_t since;
    if (!span_next_token(&line, " ", &word) || !span_next_token(&line, " ", &number) ||
        !num_parse(number, 0, INT64_MAX, &since))
        return false;
    struct span name = span_trim(line);
    for (size_t k = 0; k < ARRAY_LEN(kind_names); k++) {
        if (!span_eq(word, span_cstr(kind_names[k])) || !pause_name_is_valid(name) || p->n >= PAUSES_MAX)
            continue;
        if (pauses_find(p, (enum pause_kind)k, name) == NULL)
            pauses_add(p, (enum pause_kind)k, name, since);
        return true;
    }
    return false;
}

bool pauses_load(struct pauses *p, const char *path, unsigned *bad, struct err *e)
{
    struct buf b = BUF_INIT(FILE_BYTES_MAX);
    struct span rest, line;
    *bad = 0;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return true;
    bool ok = io_read_file(path, &b, e);
    rest = buf_span(&b);
    while (ok && span_next_token(&rest, "\n", &line))
        *bad += !read_line(p, line);
    buf_free(&b);
    return ok;
}

bool pauses_save(const struct pauses *p, const char *path, struct err *e)
{
    char *tmp = xasprintf("%s.new", path), *dir = xstrdup(path), *slash = strrchr(dir, '/');
    struct buf b = BUF_INIT(0);
    for (size_t i = 0; i < p->n; i++)
        buf_printf(&b, "%s %lld %s\n", kind_names[p->v[i].kind], (long long)p->v[i].since_us, p->v[i].name);
    if (slash != NULL)
        *slash = '\0';
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && io_write_all(fd, b.p, b.n) && fsync(fd) == 0 && rename(tmp, path) == 0 &&
              io_sync_dir(slash != NULL ? dir : ".");
    if (!ok)
        err_set_sys(e, errno, "write %s", path);
    io_close(&fd);
    buf_free(&b);
    free(tmp);
    free(dir);
    return ok;
}
