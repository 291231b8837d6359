#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/io.h"
#include "tests/unit/smtpd_fixture.h"

static const char stock_main[] =
    "myhostname = mx.example.com\n"
    "mail_name = Posthouse\n"
    "mynetworks = 10.0.0.0/8\n"
    "mydestination = example.com\n"
    "local_recipient_maps = inline:{ joe=x, jane=x, postmaster=x }\n"
    "alias_maps =\n"
    "relay_domains = relay.example\n"
    "virtual_alias_domains = alias.example\n"
    "virtual_alias_maps = inline:{ {list@alias.example=joe@example.com, jane@example.com, joe@relay.example} }\n"
    "smtpd_peername_lookup = yes\n"
    "local_header_rewrite_clients =\n";

static const char stock_master[] =
    "smtp inet n - n - - smtpd\n"
    "smtp unix - - n - - smtp\n"
    "relay unix - - n - - smtp\n"
    "lmtp unix - - n - - lmtp\n"
    "virtual unix - n n - - virtual\n"
    "local unix - n n - - local\n"
    "error unix - - n - - error\n"
    "retry unix - - n - - error\n";

/* ---- the spool ---- */

struct spool {
    struct fake_spool f;
};

struct content_writer {
    struct fake_spool *f;
    struct buf b;
};

struct qid_source *spool_qids(struct spool *s) { return &s->f.qids; }

bool spool_has_room(struct spool *s, uint64_t need_bytes)
{
    return !s->f.is_full && need_bytes < UINT64_C(1) << 50;
}

bool spool_memory_take(struct spool *s, size_t n)
{
    if (n > s->f.memory - s->f.memory_used)
        return false;
    s->f.memory_used += n;
    return true;
}

void spool_memory_give(struct spool *s, size_t n)
{
    s->f.memory_used -= n;
}

struct content_writer *content_begin(struct spool *s, uint64_t id)
{
    struct content_writer *w = xcalloc(1, sizeof *w);
    (void)id;
    w->f = &s->f;
    s->f.begun++;
    buf_init(&w->b, 0);
    return w;
}

bool content_is_file(const struct content_writer *w)
{
    (void)w;
    return false;
}

enum spool_status content_append(struct content_writer *w, struct span bytes)
{
    if (w->f->append == SPOOL_OK)
        buf_add_span(&w->b, bytes);
    return w->f->append;
}

uint64_t content_bytes(const struct content_writer *w) { return w->b.n; }

void content_abort(struct content_writer **w)
{
    if (*w == NULL)
        return;
    (*w)->f->ended++;
    buf_free(&(*w)->b);
    free(*w);
    *w = NULL;
}

enum spool_status content_finish(struct content_writer **w, struct msg *m)
{
    struct fake_spool *f = (*w)->f;
    (void)m;
    buf_free(&f->content);
    f->content = (*w)->b;
    buf_init(&(*w)->b, 0);
    content_abort(w);
    return f->finish;
}

/* What was finished last: that is what is copied for the members of a list. */
bool content_acquire(struct spool *s, struct msg *m, struct content_view *v, struct err *e)
{
    (void)m;
    (void)e;
    *v = (struct content_view){ .p = s->f.content.p, .n = s->f.content.n };
    return true;
}

void content_release(struct content_view *v)
{
    (void)v;
}

static void committed(struct fake_spool *f, struct msg *m)
{
    msg_unref(&f->last);
    f->last = msg_ref(m);
    f->messages += f->commit == SPOOL_OK;
    m->done_cb(m->done_arg, m, (int)f->commit);
    msg_unref(&m);
}

void spool_submit(struct spool *s, struct msg *m)
{
    if (s->f.hold_commit)
        s->f.held = m;
    else
        committed(&s->f, m);
}

void spool_submit_all(struct spool *s, struct msg **v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        spool_submit(s, v[i]);
}

void spool_msg_drop(struct spool *s, struct msg **m)
{
    (void)s;
    msg_unref(m);
}

/* msg.c gives memory back to the pool of the real spool; the messages here have none. */
void content_pool_uncharge(struct content_pool *p, size_t n);
void content_pool_uncharge(struct content_pool *p, size_t n)
{
    (void)p;
    (void)n;
}

/* ---- the reactor ---- */

static void resume(struct sess *s)
{
    struct fixture *f = (struct fixture *)s->reactor;
    atomic_store(&f->resumed, true);
}

static void read_replies(struct fixture *f)
{
    char b[4096];
    ssize_t n;
    while ((n = recv(f->client, b, sizeof b, MSG_DONTWAIT)) > 0)
        buf_add(&f->got, b, (size_t)n);
}

static void step(struct fixture *f, enum sess_wake why)
{
    f->want = f->s->ops->step(f->s, why);
    if (f->want == WAIT_INPUT)
        f->s->ops->park(f->s);
    if (f->want != WAIT_DONE)
        return;
    read_replies(f);
    close(f->s->fd);
    f->s->ops->destroy(f->s);
    f->s = NULL;
    f->is_open = false;
}

static bool is_readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, 0) > 0;
}

void fixture_run(struct fixture *f)
{
    while (f->is_open) {
        read_replies(f);
        switch (f->want) {
        case WAIT_INPUT:
            if (!is_readable(f->s->fd))
                return;
            step(f, WAKE_READY);
            break;
        case WAIT_OUTPUT:
        case WAIT_AGAIN:
            step(f, WAKE_READY);
            break;
        case WAIT_CALLBACK:
            if (!atomic_exchange(&f->resumed, false))
                return;
            step(f, WAKE_CALLBACK);
            break;
        case WAIT_TIMER:
            f->timers++;
            step(f, WAKE_TIMEOUT);
            break;
        case WAIT_DONE:
            return;
        }
    }
}

void fixture_await(struct fixture *f)
{
    int64_t until = clock_mono_ms() + 10000;
    while (f->is_open && f->want == WAIT_CALLBACK && clock_mono_ms() < until) {
        usleep(1000);
        fixture_run(f);
    }
}

void fixture_open(struct fixture *f, const char *peer)
{
    int fd[2];
    struct ip_addr ip;
    fixture_close(f);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    assert_true(ip_parse(span_cstr(peer ? peer : "127.0.0.1"), &ip));
    f->client = fd[0];
    f->s = smtpd_create(&f->listener, fd[1], &ip, 4711, &f->env);
    f->s->reactor = (struct reactor *)f;
    f->is_open = true;
    f->timers = 0;
    buf_reset(&f->got);
    step(f, WAKE_START);
    fixture_run(f);
}

void fixture_send(struct fixture *f, struct span bytes)
{
    while (bytes.n > 0 && f->is_open) {
        ssize_t n = send(f->client, bytes.p, bytes.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            bytes = span_from(bytes, (size_t)n);
        fixture_run(f);
    }
}

void fixture_hang_up(struct fixture *f)
{
    shutdown(f->client, SHUT_WR);
    fixture_run(f);
}

void fixture_close(struct fixture *f)
{
    if (f->client < 0)
        return;
    if (f->is_open)
        fixture_hang_up(f);
    if (f->is_open) {
        close(f->s->fd);
        f->s->ops->destroy(f->s);
    }
    f->is_open = false;
    close(f->client);
    f->client = -1;
}

void fixture_commit(struct fixture *f)
{
    struct msg *m = f->spool->held;
    f->spool->held = NULL;
    committed(f->spool, m);
    fixture_run(f);
}

void fixture_time_out(struct fixture *f)
{
    clock_advance_for_test(f->s->deadline_ms - clock_mono_ms(), 0);
    step(f, WAKE_TIMEOUT);
    fixture_run(f);
}

const char *fixture_said(struct fixture *f)
{
    static struct buf kept; /* of one test at a time */
    read_replies(f);
    buf_free(&kept);
    kept = f->got;
    buf_init(&f->got, 0);
    return buf_cstr(&kept);
}

char *fixture_log(struct fixture *f)
{
    struct buf b = BUF_INIT(0), out = BUF_INIT(0);
    log_flush(f->env.log);
    assert_true(io_read_file(f->log_path, &b, NULL));
    struct span rest = buf_span(&b), line;
    while (span_next_token(&rest, "\n", &line)) {
        ptrdiff_t at = 0;
        for (size_t i = 0; at == 0 && i + 3 < line.n; i++)
            if (memcmp(line.p + i, "]: ", 3) == 0)
                at = (ptrdiff_t)i + 3;
        buf_add_span(&out, span_from(line, (size_t)at));
        buf_putc(&out, '\n');
    }
    buf_free(&b);
    return buf_detach(&out);
}

/* ---- setting up ---- */

struct fixture *fixture_new(const char *main_cf)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    struct err e = ERR_INIT;
    char *text = xasprintf("%s%s", stock_main, main_cf);
    struct conf_options o = { .main_cf_text = text, .master_cf_text = stock_master };
    f->client = -1;
    f->conf = conf_load(&o, &f->report);
    free(text);
    struct policy_options po = { .conf = f->conf, .report = &f->report };
    f->policy = f->conf ? policy_compile(&po) : NULL;
    if (f->policy == NULL)
        fail_msg("configuration: %s", f->report.count ? f->report.items[f->report.count - 1].text : "?");
    f->service = smtpd_service_new(conf_service(f->conf, 0), f->policy, &e);
    if (f->service == NULL)
        fail_msg("service: %s", e.text);
    snprintf(f->log_path, sizeof f->log_path, "/tmp/smtpd-test-%d-%p", (int)getpid(), (void *)f);
    struct log_options lo = { .dest = LOG_TO_FILE, .path = f->log_path };
    f->env.log = log_open(&lo, &e);
    assert_non_null(f->env.log);
    assert_int_equal(log_start(f->env.log), 0);
    struct spool *s = xcalloc(1, sizeof *s);
    f->spool = &s->f;
    s->f.memory = SIZE_MAX / 2;
    f->env.spool = s;
    smtpd_limits_init(&f->env);
    f->env.clients = client_counts_new(CLIENT_COUNT_MAX);
    f->env.resume = resume;
    f->listener = (struct listener){ .service = conf_service(f->conf, 0), .conf = f->conf, .arg = f->service, .fd = -1 };
    return f;
}

void fixture_free(struct fixture **fp)
{
    struct fixture *f = *fp;
    fixture_close(f);
    smtpd_service_unref(&f->service);
    policy_unref(&f->policy);
    conf_unref(&f->conf);
    conf_report_free(&f->report);
    log_close(&f->env.log);
    unlink(f->log_path);
    client_counts_free(&f->env.clients);
    msg_unref(&f->spool->last);
    buf_free(&f->spool->content);
    assert_int_equal(f->spool->begun, f->spool->ended); /* no writer is left behind */
    free(f->env.spool);
    buf_free(&f->got);
    free(f);
    *fp = NULL;
}
