#include "tests/unit/client_fake.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/num.h"

/* ---- messages, without the queue behind them ---- */

struct msg *msg_new(void)
{
    struct msg *m = xcalloc(1, sizeof *m);
    m->arena = arena_new(0);
    m->refs = 1;
    return m;
}

void msg_unref(struct msg **mp)
{
    arena_free(&(*mp)->arena);
    free(*mp);
    *mp = NULL;
}

size_t qid_format(uint64_t id, bool long_form, char out[QID_TEXT_MAX])
{
    (void)long_form;
    return (size_t)snprintf(out, QID_TEXT_MAX, "%llX", (unsigned long long)id);
}

bool content_acquire(struct spool *s, struct msg *m, struct content_view *v, struct err *e)
{
    (void)s;
    if (m->content == NULL) {
        err_set(e, "no content");
        return false;
    }
    *v = (struct content_view){ .p = m->content, .n = m->env.content_bytes };
    return true;
}

void content_release(struct content_view *v) { *v = (struct content_view){ .p = NULL }; }

/* ---- the scheduler ---- */

struct sched *fake_sched_new(void)
{
    struct sched *s = xcalloc(1, sizeof *s);
    pthread_mutex_init(&s->m, NULL);
    return s;
}

static void job_free(struct job *j)
{
    conf_unref(&j->conf);
    msg_unref(&j->msg);
    free(j->rcpts);
    free(j);
}

void fake_sched_free(struct sched **sp)
{
    for (unsigned i = 0; i < (*sp)->job_count; i++)
        if ((*sp)->jobs[i])
            job_free((*sp)->jobs[i]);
    pthread_mutex_destroy(&(*sp)->m);
    free(*sp);
    *sp = NULL;
}

void fake_add_job(struct sched *s, struct conf *c, const char *transport, const char *nexthop, uint64_t id,
                  const struct fake_mail *mail)
{
    struct job *j = xcalloc(1, sizeof *j);
    struct msg *m = j->msg = msg_new();
    struct span rest = span_cstr(mail->rcpts), addr;
    j->conf = conf_ref(c);
    j->transport = conf_transport(c, span_cstr(transport));
    j->nexthop = arena_dup_span(m->arena, span_cstr(nexthop));
    j->rcpts = xcalloc(FAKE_MAX, sizeof *j->rcpts);
    m->env.id = id;
    m->env.arrival_us = clock_wall_us();
    m->env.sender = span_cstr(mail->sender);
    m->env.flags = mail->flags;
    m->env.content_flags = mail->content_flags;
    m->env.envid = span_cstr(mail->envid);
    m->env.ret = mail->ret;
    m->env.content_bytes = mail->content_n ? mail->content_n : strlen(mail->content);
    m->content = (char *)mail->content;
    m->env.client_name = SPAN_LIT("source.example");
    m->env.client_addr = SPAN_LIT("2001:db8::7");
    m->env.client_port = SPAN_LIT("4321");
    m->env.helo = SPAN_LIT("helo.example");
    m->env.proto = SPAN_LIT("ESMTP");
    m->env.rcpts = arena_alloc(m->arena, FAKE_MAX * sizeof *m->env.rcpts);
    while (span_next_token(&rest, " ", &addr)) {
        struct msg_rcpt *r = &m->env.rcpts[m->env.rcpt_count];
        r->addr = addr;
        r->orig = addr;
        r->notify = mail->notify;
        r->orcpt = span_cstr(mail->orcpt);
        j->rcpts[j->rcpt_count++].index = m->env.rcpt_count++;
    }
    s->jobs[s->job_count++] = j;
}

static struct job *give(struct sched *s, const struct job *hint)
{
    for (unsigned i = 0; i < s->job_count; i++) {
        struct job *j = s->jobs[i];
        if (j == NULL || (hint && (hint->transport != j->transport || !span_eq(hint->nexthop, j->nexthop))))
            continue;
        s->jobs[i] = NULL;
        s->given++;
        return j;
    }
    return NULL;
}

struct job *sched_next(struct sched *s, const struct job *hint)
{
    if (s->on_next)
        s->on_next(s);
    pthread_mutex_lock(&s->m);
    struct job *j = give(s, hint);
    pthread_mutex_unlock(&s->m);
    return j;
}

static void copy(char *out, size_t size, struct span s) { snprintf(out, size, "%.*s", SPAN_ARG(s)); }

static void record(struct sched *s, struct job *j, uint32_t i, const struct delivery_result *r)
{
    struct fake_report *f = &s->reports[s->report_count++];
    if (j->rcpts[i].reported)
        abort(); /* twice */
    j->rcpts[i].reported = true;
    f->id = j->msg->env.id;
    f->rcpt = j->rcpts[i].index;
    f->outcome = r->outcome;
    copy(f->dsn, sizeof f->dsn, r->dsn);
    copy(f->relay, sizeof f->relay, r->relay);
    copy(f->reason, sizeof f->reason, r->reason);
    copy(f->mta, sizeof f->mta, r->remote_mta);
    copy(f->diagnostic, sizeof f->diagnostic, r->diagnostic);
    f->conn_use = r->conn_use;
    f->is_dsn_relayed = r->is_dsn_relayed;
    f->is_final_delivery = r->is_final_delivery;
}

void sched_report(struct sched *s, struct job *j, uint32_t i, const struct delivery_result *r)
{
    pthread_mutex_lock(&s->m);
    record(s, j, i, r);
    pthread_mutex_unlock(&s->m);
}

void sched_report_all(struct sched *s, struct job *j, const struct delivery_result *r)
{
    pthread_mutex_lock(&s->m);
    for (uint32_t i = 0; i < j->rcpt_count; i++)
        if (!j->rcpts[i].reported)
            record(s, j, i, r);
    pthread_mutex_unlock(&s->m);
}

static void finish(struct sched *s, struct job *j, enum site_verdict v)
{
    for (uint32_t i = 0; i < j->rcpt_count; i++)
        s->unreported += !j->rcpts[i].reported;
    s->verdicts[s->finished++] = v;
}

void sched_finish(struct sched *s, struct job **j, enum site_verdict v)
{
    pthread_mutex_lock(&s->m);
    finish(s, *j, v);
    pthread_mutex_unlock(&s->m);
    job_free(*j);
    *j = NULL;
}

struct job *sched_finish_next(struct sched *s, struct job **j, enum site_verdict v)
{
    pthread_mutex_lock(&s->m);
    finish(s, *j, v);
    struct job *next = give(s, *j);
    pthread_mutex_unlock(&s->m);
    job_free(*j);
    *j = NULL;
    return next;
}

const struct fake_report *fake_report_of(struct sched *s, uint64_t id, uint32_t rcpt)
{
    for (unsigned i = 0; i < s->report_count; i++)
        if (s->reports[i].id == id && s->reports[i].rcpt == rcpt)
            return &s->reports[i];
    return NULL;
}

struct conf *fake_conf(const char *main_cf, const char *master)
{
    struct conf_report rep = { .count = 0 };
    char *text = xasprintf("myhostname = client.example\nmydomain = example\ninet_protocols = all\n"
                           "smtp_connect_timeout = 2s\nsmtp_quit_timeout = 1s\nlmtp_quit_timeout = 1s\n%s", main_cf);
    char *services = xasprintf("smtp unix - - n - - smtp\nlmtp unix - - n - - lmtp\nvirtual unix - n n - - virtual\n"
                               "error unix - - n - - error\nretry unix - - n - - error\ndiscard unix - - n - - discard\n%s",
                               master);
    struct conf_options o = { .dir = "/nonexistent", .main_cf_text = text, .master_cf_text = services };
    struct conf *c = conf_load(&o, &rep);
    for (size_t i = 0; c == NULL && i < rep.count; i++)
        fprintf(stderr, "%s: %d: %s\n", rep.items[i].file ? rep.items[i].file : "-", rep.items[i].line, rep.items[i].text);
    conf_report_free(&rep);
    free(text);
    free(services);
    return c;
}

/* ---- the peer ---- */

#define PEER_WAIT_MS 5000

struct peer {
    pthread_t thread;
    char *script;
    int listen_fd, fd;
    unsigned port, connections;
    char in[65536];
    size_t at, n;
    struct buf content;
    int64_t bdat;
    char problem[600];
};

static bool problem(struct peer *p, const char *fmt, ...) PRINTF_FMT(2, 3);
static bool problem(struct peer *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (p->problem[0] == '\0')
        vsnprintf(p->problem, sizeof p->problem, fmt, ap);
    va_end(ap);
    return false;
}

static bool readable(int fd, int ms)
{
    struct pollfd f = { .fd = fd, .events = POLLIN };
    return poll(&f, 1, ms) > 0;
}

/* More input; 0 at the end, -1 when nothing comes. */
static ssize_t more(struct peer *p, int ms)
{
    if (p->at > 0) {
        memmove(p->in, p->in + p->at, p->n - p->at);
        p->n -= p->at;
        p->at = 0;
    }
    if (p->n == sizeof p->in || !readable(p->fd, ms))
        return -1;
    ssize_t got = recv(p->fd, p->in + p->n, sizeof p->in - p->n, 0);
    if (got > 0)
        p->n += (size_t)got;
    return got < 0 ? 0 : got;
}

static bool get_line(struct peer *p, struct span *line)
{
    for (;;) {
        char *lf = p->n > p->at ? memchr(p->in + p->at, '\n', p->n - p->at) : NULL;
        if (lf) {
            size_t n = (size_t)(lf - (p->in + p->at));
            *line = span_of(p->in + p->at, n > 0 && lf[-1] == '\r' ? n - 1 : n);
            p->at += n + 1;
            return true;
        }
        if (more(p, PEER_WAIT_MS) <= 0)
            return false;
    }
}

static bool expect(struct peer *p, struct span want)
{
    struct span line;
    if (!get_line(p, &line))
        return problem(p, "expected \"%.*s\", nothing came", SPAN_ARG(want));
    bool any_rest = want.n > 0 && want.p[want.n - 1] == '*';
    bool ok = any_rest ? span_starts_with(line, span_of(want.p, want.n - 1)) : span_eq(line, want);
    if (!ok)
        return problem(p, "expected \"%.*s\", got \"%.*s\"", SPAN_ARG(want), SPAN_ARG(line));
    struct span rest = line, word;
    if (span_istarts_with(line, SPAN_LIT("BDAT ")) && span_next_token(&rest, " ", &word) && span_next_token(&rest, " ", &word))
        (void)!num_parse(word, 0, INT64_MAX, &p->bdat);
    return true;
}

static bool read_dot(struct peer *p)
{
    struct span line;
    for (;;) {
        if (!get_line(p, &line))
            return problem(p, "content without an end");
        if (span_eq(line, SPAN_LIT(".")))
            return true;
        buf_add_span(&p->content, line);
        buf_puts(&p->content, "\r\n");
    }
}

static bool read_bytes(struct peer *p, int64_t count)
{
    while (count > 0) {
        if (p->at == p->n && more(p, PEER_WAIT_MS) <= 0)
            return problem(p, "%lld bytes of a chunk are missing", (long long)count);
        size_t k = p->n - p->at < (size_t)count ? p->n - p->at : (size_t)count;
        buf_add(&p->content, p->in + p->at, k);
        p->at += k;
        count -= (int64_t)k;
    }
    return true;
}

static void send_bytes(struct peer *p, struct span s, bool with_end)
{
    struct buf b = BUF_INIT(1 << 20);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n) {
            char c = s.p[++i];
            buf_putc(&b, c == 'r' ? '\r' : c == 'n' ? '\n' : c == '0' ? '\0' : c);
        } else {
            buf_putc(&b, s.p[i]);
        }
    }
    if (with_end)
        buf_puts(&b, "\r\n");
    for (size_t at = 0; at < b.n;) {
        ssize_t k = send(p->fd, b.p + at, b.n - at, MSG_NOSIGNAL);
        if (k <= 0)
            break;
        at += (size_t)k;
    }
    buf_free(&b);
}

static bool expect_close(struct peer *p, int ms)
{
    ssize_t got;
    while ((got = more(p, ms)) > 0)
        p->at = p->n;
    return got == 0 ? true : problem(p, "expected the connection to be closed");
}

static void reset_connection(struct peer *p)
{
    struct linger l = { .l_onoff = 1, .l_linger = 0 };
    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

static bool run_step(struct peer *p, struct span step, bool *closed)
{
    struct span arg = span_from(step, 2);
    int64_t n = p->bdat;
    switch (step.p[0]) {
    case 'S':
        send_bytes(p, arg, true);
        return true;
    case 'R':
        send_bytes(p, arg, false);
        return true;
    case 'C':
        return expect(p, arg);
    case 'D':
        return read_dot(p);
    case 'B':
        if (!span_eq(arg, SPAN_LIT("*")) && !num_parse(arg, 0, 1 << 30, &n))
            return problem(p, "bad B");
        return read_bytes(p, n);
    case 'Q':
        return p->at == p->n && !readable(p->fd, 30) ? true : problem(p, "more came than was expected");
    case 'W':
        if (!num_parse(arg, 0, 10000, &n))
            return problem(p, "bad W");
        usleep((useconds_t)n * 1000);
        return true;
    case 'x':
        reset_connection(p);
        *closed = true;
        return true;
    case 'X':
        *closed = true;
        return true;
    case 'E':
    case 'H':
        *closed = true;
        return expect_close(p, PEER_WAIT_MS);
    default:
        return problem(p, "bad script line %.*s", SPAN_ARG(step));
    }
}

static bool run_connection(struct peer *p, struct span *rest)
{
    struct span step;
    bool closed = false, ok = true;
    if (!readable(p->listen_fd, PEER_WAIT_MS))
        return problem(p, "connection %u did not come", p->connections + 1);
    p->fd = accept(p->listen_fd, NULL, NULL);
    p->at = p->n = 0;
    p->connections++;
    while (ok && span_next_token(rest, "\n", &step) && !span_eq(step, SPAN_LIT("---")))
        if (!closed)
            ok = run_step(p, step, &closed);
    close(p->fd);
    return ok;
}

static void *peer_main(void *arg)
{
    struct peer *p = arg;
    struct span rest = span_cstr(p->script);
    while (span_trim(rest).n > 0 && run_connection(p, &rest))
        ;
    return NULL;
}

static struct peer *peer_begin(const char *script, int fd, const struct sockaddr *sa, socklen_t len)
{
    struct peer *p = xcalloc(1, sizeof *p);
    p->script = xstrdup(script);
    buf_init(&p->content, 1 << 28);
    p->listen_fd = fd;
    if (bind(fd, sa, len) != 0 || listen(fd, 16) != 0)
        abort();
    struct sockaddr_storage got;
    len = sizeof got;
    getsockname(fd, (struct sockaddr *)&got, &len);
    if (got.ss_family == AF_INET)
        p->port = ntohs(((struct sockaddr_in *)&got)->sin_port);
    if (pthread_create(&p->thread, NULL, peer_main, p) != 0)
        abort();
    return p;
}

struct peer *peer_start(const char *script)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    return peer_begin(script, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&in, sizeof in);
}

struct peer *peer_start_at(const char *script, uint32_t address, unsigned port)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(address), .sin_port = htons((uint16_t)port) };
    return peer_begin(script, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&in, sizeof in);
}

struct peer *peer_start_unix(const char *script, const char *path)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    unlink(path);
    return peer_begin(script, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&un, sizeof un);
}

unsigned peer_port(const struct peer *p) { return p->port; }

const char *peer_finish(struct peer *p)
{
    if (p->listen_fd >= 0) {
        pthread_join(p->thread, NULL);
        close(p->listen_fd);
        p->listen_fd = -1;
    }
    return p->problem;
}

struct span peer_content(const struct peer *p) { return buf_span(&p->content); }
unsigned peer_connections(const struct peer *p) { return p->connections; }

void peer_free(struct peer **pp)
{
    (void)peer_finish(*pp);
    buf_free(&(*pp)->content);
    free((*pp)->script);
    free(*pp);
    *pp = NULL;
}
