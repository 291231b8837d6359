/* The right-hand side of an alias is a list separated by commas; what is no command, file or :include: is an address. */
#include "policy/alias_expand.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/io.h"
#include "common/mail/address.h"
#include "policy/rewrite/addr_list.h"
#include "policy/rewrite/rewrite_internal.h"

/* An :include: file that was read. */
struct included {
    struct included *next;
    dev_t dev;
    ino_t ino;
};

struct reading {
    const struct policy *p;
    struct arena *a;
    struct err *e;
    struct span name;   /* of the alias, for messages */
    struct span ext;    /* to be passed on */
    bool passes_alias, passes_include;
    unsigned depth;     /* of :include: files */
    struct included *included; /* in the arena */
    struct alias_members *out;
    size_t cap;
};

/* The next item; quotes and <> are respected. */
static bool next_item(struct span *rest, struct span *out)
{
    size_t i = 0;
    bool quoted = false;
    while (rest->n > 0 && (rest->p[0] == ',' || ascii_is_space(rest->p[0])))
        *rest = span_from(*rest, 1);
    if (rest->n == 0)
        return false;
    for (; i < rest->n; i++) {
        char c = rest->p[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && c == ',')
            break;
    }
    size_t n = i > rest->n ? rest->n : i;
    *out = span_trim(span_of(rest->p, n));
    *rest = span_from(*rest, n);
    return true;
}

static void add_member(struct reading *r, struct span addr)
{
    struct alias_members *m = r->out;
    if (addr.n == 0)
        return;
    if (m->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 8;
        struct span *more = arena_alloc(r->a, r->cap * sizeof *more);
        if (m->count > 0)
            memcpy(more, m->list, m->count * sizeof *more);
        m->list = more;
    }
    m->list[m->count++] = addr;
}

static struct span with_extension(struct arena *a, struct span addr, struct span ext)
{
    struct span local, domain;
    bool has_domain = addr_split(addr, &local, &domain);
    if (ext.n == 0)
        return addr;
    return span_cstr(arena_printf(a, "%.*s%.*s%s%.*s", SPAN_ARG(local), SPAN_ARG(ext), has_domain ? "@" : "", SPAN_ARG(domain)));
}

static void add_addresses(struct reading *r, struct span text)
{
    struct span *list;
    size_t n;
    bool passes = r->depth > 0 ? r->passes_include : r->passes_alias;
    rewrite_parse_list(r->p, text, r->a, &list, &n);
    for (size_t i = 0; i < n; i++) {
        struct span addr = addr_external_to_internal(list[i], r->a);
        add_member(r, passes ? with_extension(r->a, addr, r->ext) : addr);
    }
}

static bool read_list(struct reading *r, struct span text);

/* A file that includes itself, or that two others include, has its members once. */
static bool was_read(struct reading *r, const struct stat *st)
{
    for (const struct included *i = r->included; i != NULL; i = i->next)
        if (i->dev == st->st_dev && i->ino == st->st_ino)
            return true;
    struct included *i = arena_alloc(r->a, sizeof *i);
    *i = (struct included){ .next = r->included, .dev = st->st_dev, .ino = st->st_ino };
    r->included = i;
    return false;
}

static bool refuse_file(struct reading *r, const char *path, const char *why)
{
    err_set(r->e, "alias \"%.*s\": :include:%s %s", SPAN_ARG(r->name), path, why);
    return false;
}

static bool too_large(struct reading *r, const char *path)
{
    err_set(r->e, "alias \"%.*s\": :include:%s is larger than %d bytes", SPAN_ARG(r->name), path, ALIAS_INCLUDE_MAX);
    return false;
}

/* Whoever can write to it decides who gets the mail of others. */
static bool is_trusted(struct reading *r, const char *path, const struct stat *st)
{
    if (!S_ISREG(st->st_mode))
        return refuse_file(r, path, "is not a regular file");
    if ((st->st_mode & S_IWOTH) != 0)
        return refuse_file(r, path, "can be written to by anybody (chmod o-w)");
    if (st->st_size > ALIAS_INCLUDE_MAX)
        return too_large(r, path);
    return true;
}

static bool read_all(struct reading *r, const char *path, int fd, struct buf *b)
{
    for (;;) {
        if (!buf_reserve(b, 65536)) /* it grew: half a list is none */
            return too_large(r, path);
        ssize_t n = read(fd, b->p + b->n, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            err_set_sys(r->e, errno, "alias \"%.*s\": :include:%s", SPAN_ARG(r->name), path);
        if (n <= 0)
            return n == 0;
        b->n += (size_t)n;
    }
}

static bool read_file(struct reading *r, const char *path, struct buf *b)
{
    struct stat st;
    if (*path != '/')
        return refuse_file(r, path, "is not an absolute path");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ok = fd >= 0 && fstat(fd, &st) == 0;
    if (!ok)
        err_set_sys(r->e, errno, "alias \"%.*s\": :include:%s", SPAN_ARG(r->name), path);
    ok = ok && is_trusted(r, path, &st) && (was_read(r, &st) || read_all(r, path, fd, b));
    io_close(&fd);
    return ok;
}

/* A file is read as an alias file's right-hand sides: lines that begin with white space go on, '#' begins a comment line. */
static bool include(struct reading *r, struct span path)
{
    struct buf b = BUF_INIT(ALIAS_INCLUDE_MAX + 65536), line = BUF_INIT(0);
    bool ok = r->depth < ALIAS_INCLUDE_DEPTH;
    if (!ok)
        err_set(r->e, "alias \"%.*s\": more than %d :include: files inside each other", SPAN_ARG(r->name), ALIAS_INCLUDE_DEPTH);
    ok = ok && read_file(r, arena_strndup(r->a, path.p, path.n), &b);
    r->depth++;
    for (struct span rest = buf_span(&b); ok && (rest.n > 0 || line.n > 0);) {
        ptrdiff_t nl = span_find(rest, '\n');
        struct span s = span_of(rest.p, nl < 0 ? rest.n : (size_t)nl);
        bool goes_on = s.n > 0 && ascii_is_blank(s.p[0]);
        if ((!goes_on || rest.n == 0) && line.n > 0) {
            struct span text = arena_dup_span(r->a, buf_span(&line));
            buf_reset(&line);
            ok = read_list(r, text);
        }
        rest = span_from(rest, nl < 0 ? rest.n : (size_t)nl + 1);
        if (span_trim(s).n > 0 && span_trim(s).p[0] != '#')
            buf_add_span(&line, s);
    }
    r->depth--;
    buf_free(&line);
    buf_free(&b);
    return ok;
}

static bool take_item(struct reading *r, struct span item)
{
    struct span inner = item;
    if (inner.n >= 2 && inner.p[0] == '"' && inner.p[inner.n - 1] == '"')
        inner = span_of(inner.p + 1, inner.n - 2);
    if (span_istarts_with(inner, SPAN_LIT(":include:")))
        return include(r, span_trim(span_from(inner, 9)));
    if (span_eq(inner, SPAN_LIT("/dev/null")))
        return true; /* nobody */
    if (inner.n > 0 && (inner.p[0] == '|' || inner.p[0] == '/')) {
        r->out->has_agents = true;
        log_warn(r->p->log, "alias \"%.*s\": delivery to a %s is not done here, ignored: %.*s", SPAN_ARG(r->name),
                 inner.p[0] == '|' ? "command" : "file", SPAN_ARG(inner));
    } else {
        add_addresses(r, item);
    }
    return true;
}

static bool read_list(struct reading *r, struct span text)
{
    struct span item;
    while (next_item(&text, &item))
        if (!take_item(r, item))
            return false;
    return true;
}

/* owner-NAME: the address, or what it stands for when expand_owner_alias says so and that is one address. */
static enum lookup find_owner(struct reading *r, struct span name)
{
    struct span owner = span_cstr(arena_printf(r->a, "owner-%.*s", SPAN_ARG(name))), value, *list;
    size_t n;
    enum lookup got = maps_lookup(r->p->alias_maps, owner, false, r->a, &value, r->e);
    if (got != LOOKUP_FOUND)
        return got;
    rewrite_parse_list(r->p, r->p->p->expand_owner_alias ? value : owner, r->a, &list, &n);
    if (n != 1)
        rewrite_parse_list(r->p, owner, r->a, &list, &n);
    if (n > 0)
        r->out->owner = addr_external_to_internal(list[0], r->a);
    return got;
}

enum lookup alias_expand(const struct policy *p, struct span addr, struct arena *a, struct alias_members *out, struct err *e)
{
    struct resolved to;
    struct span value;
    *out = (struct alias_members){ 0 };
    enum lookup got = route_uses_aliases(p, addr, a, &to, e);
    if (got != LOOKUP_FOUND)
        return got;
    struct maps_addr m = maps_addr_of(to.address, p->p->recipient_delimiter, p->p->owner_request_special);
    struct maps_addr user = { .full = m.local, .local = m.local, .base_n = m.base_n };
    struct reading r = { .p = p, .a = a, .e = e, .name = m.local, .out = out };
    got = maps_lookup_address(p->alias_maps, &user, 0, a, &value, &r.ext, e);
    if (got != LOOKUP_FOUND)
        return got;
    r.passes_alias = policy_list_has(p->p->propagate_unmatched_extensions, "alias");
    r.passes_include = policy_list_has(p->p->propagate_unmatched_extensions, "include");
    if (!read_list(&r, value))
        return LOOKUP_TEMPFAIL;
    return find_owner(&r, span_of(m.local.p, m.local.n - r.ext.n)) == LOOKUP_TEMPFAIL ? LOOKUP_TEMPFAIL : LOOKUP_FOUND;
}
