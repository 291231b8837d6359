/*
 * The socket is blocking, with SO_RCVTIMEO and SO_SNDTIMEO: a wait is then one system call. (Nonblocking with poll()
 * needs three for a reply that is not there yet: recv, poll, recv. Over loopback the CPU time was equal within the
 * noise, 3.4 to 3.6 us a round trip, so the fewer calls decide.) The socket time-out is a tick, not the deadline: it stays at TICK_MS, and when a call returns EAGAIN the deadline
 * decides whether to go on. It is lowered only when less than a tick is left, and raised again when much more is. So a
 * conversation whose deadlines are minutes away pays two setsockopt calls in all.
 *
 * Output is a list of segments; those that are copied say where in `out` they are (the buffer may move), adjacent ones
 * are merged. The list and the buffer have fixed limits; reaching one sends what there is.
 */
#include <errno.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/net/stream.h"

#define TICK_MS       10000
#define SEGMENTS_MAX  64

struct segment {
    const char *borrowed; /* NULL: copied, at `off` of the output buffer */
    size_t off, n;
};

struct stream {
    struct stream_layer top;  /* owned */
    int fd;                   /* closed by the bottom layer */
    int64_t deadline_ms;
    int64_t wait_limit_ms;    /* 0: none */
    enum stream_status status;
    int sys;

    char *in;                 /* owned; NULL while nothing is buffered and the stream was shrunk */
    size_t in_cap, in_at, in_n; /* unread bytes are in[in_at .. in_n) */
    bool skip_line;           /* the rest of an overlong line is still to be passed over */

    struct buf out;
    struct segment seg[SEGMENTS_MAX];
    size_t seg_count, out_bytes;

    uint64_t bytes_in, bytes_out;
};

/* ---- the socket layer ---- */

struct sock {
    int fd;
    int64_t tick_ms[2];  /* what SO_RCVTIMEO and SO_SNDTIMEO are set to; 0: not set */
};

/* Makes a blocking call on the socket end in time; false when the deadline has passed. */
static bool sock_arm(struct sock *k, int which, int64_t deadline_ms)
{
    int64_t want = TICK_MS;
    if (deadline_ms != CLOCK_NEVER) {
        int64_t left = deadline_ms - clock_mono_ms();
        if (left <= 0)
            return false;
        if (left < TICK_MS)
            want = left;
    }
    int64_t have = k->tick_ms[which];
    if (have != 0 && have <= want && (have == want || have >= TICK_MS / 2))
        return true;
    if (setsockopt(k->fd, SOL_SOCKET, which == 0 ? SO_RCVTIMEO : SO_SNDTIMEO,
                   &(struct timeval){ .tv_sec = want / 1000, .tv_usec = want % 1000 * 1000 },
                   sizeof(struct timeval)) == 0)
        k->tick_ms[which] = want;
    return true;
}

static ssize_t sock_recv(void *ctx, void *p, size_t n, int64_t deadline_ms)
{
    struct sock *k = ctx;
    for (;;) {
        if (!sock_arm(k, 0, deadline_ms)) {
            /* What has arrived in time is still taken. */
            ssize_t got = recv(k->fd, p, n, MSG_DONTWAIT);
            if (got < 0 && (errno == EAGAIN || errno == EINTR))
                errno = ETIMEDOUT;
            return got;
        }
        ssize_t got = recv(k->fd, p, n, 0);
        if (got >= 0 || (errno != EAGAIN && errno != EINTR))
            return got;
    }
}

static ssize_t sock_sendv(void *ctx, const struct iovec *iov, int count, int64_t deadline_ms)
{
    struct sock *k = ctx;
    struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count };
    for (;;) {
        if (!sock_arm(k, 1, deadline_ms)) {
            errno = ETIMEDOUT;
            return -1;
        }
        ssize_t sent = sendmsg(k->fd, &m, MSG_NOSIGNAL);
        if (sent >= 0 || (errno != EAGAIN && errno != EINTR))
            return sent;
    }
}

static void sock_close(void *ctx)
{
    struct sock *k = ctx;
    io_close(&k->fd);
    free(k);
}

static const struct stream_ops sock_ops = { .recv = sock_recv, .sendv = sock_sendv, .close = sock_close };

/* ---- life ---- */

struct stream *stream_new_layer(struct stream_layer layer, int fd)
{
    struct stream *s = xcalloc(1, sizeof *s);
    s->top = layer;
    s->fd = fd;
    s->deadline_ms = CLOCK_NEVER;
    buf_init(&s->out, STREAM_OUT_MAX);
    return s;
}

struct stream *stream_new_fd(int fd)
{
    struct sock *k = xcalloc(1, sizeof *k);
    k->fd = fd;
    return stream_new_layer((struct stream_layer){ &sock_ops, k }, fd);
}

void stream_free(struct stream **sp)
{
    struct stream *s = *sp;
    if (!s)
        return;
    s->top.ops->close(s->top.ctx);
    buf_free(&s->out);
    free(s->in);
    free(s);
    *sp = NULL;
}

void stream_set_deadline(struct stream *s, int64_t deadline_ms) { s->deadline_ms = deadline_ms; }
int64_t stream_deadline(const struct stream *s) { return s->deadline_ms; }
void stream_set_wait_limit(struct stream *s, int64_t limit_ms) { s->wait_limit_ms = limit_ms; }

/* When the next call of the layer has to be over. */
static int64_t call_deadline(const struct stream *s)
{
    int64_t at = s->wait_limit_ms > 0 ? clock_mono_ms() + s->wait_limit_ms : CLOCK_NEVER;
    return s->deadline_ms < at ? s->deadline_ms : at;
}
enum stream_status stream_status(const struct stream *s) { return s->status; }
int stream_errno(const struct stream *s) { return s->sys; }
int stream_fd(const struct stream *s) { return s->fd; }
uint64_t stream_bytes_in(const struct stream *s) { return s->bytes_in; }
uint64_t stream_bytes_out(const struct stream *s) { return s->bytes_out; }
struct stream_layer stream_layer(const struct stream *s) { return s->top; }
size_t stream_out_pending(const struct stream *s) { return s->out_bytes; }

static enum stream_status fail(struct stream *s, enum stream_status status, int sys)
{
    if (s->status == STREAM_OK) {
        s->status = status;
        s->sys = sys;
    }
    return s->status;
}

static enum stream_status fail_errno(struct stream *s)
{
    int sys = errno;
    switch (sys) {
    case ETIMEDOUT:
        return fail(s, STREAM_TIMEOUT, sys);
    case ECONNRESET:
    case EPIPE:
        return fail(s, STREAM_CLOSED, sys);
    default:
        return fail(s, STREAM_IO, sys);
    }
}

const char *stream_error_text(const struct stream *s)
{
    switch (s->status) {
    case STREAM_OK:
    case STREAM_TOO_LONG:
        return "no error";
    case STREAM_TIMEOUT:
        return "Connection timed out";
    case STREAM_CLOSED:
        return s->sys == ECONNRESET ? "Connection reset by peer" : "Connection closed by the peer";
    case STREAM_IO:
        break;
    }
    const char *text = strerrordesc_np(s->sys);
    return text ? text : "Input/output error";
}

/* ---- input ---- */

/* Reads more behind the unread bytes. The buffer never holds more than `want_cap` bytes. */
static enum stream_status fill(struct stream *s, size_t want_cap)
{
    if (s->status != STREAM_OK)
        return s->status;
    if (s->in_at > 0) {
        if (s->in_n > s->in_at)
            memmove(s->in, s->in + s->in_at, s->in_n - s->in_at);
        s->in_n -= s->in_at;
        s->in_at = 0;
    }
    if (s->in_n == s->in_cap) {
        size_t cap = s->in_cap ? s->in_cap * 2 : STREAM_IN_BYTES;
        s->in_cap = cap > want_cap && want_cap > s->in_n ? want_cap : cap;
        s->in = xrealloc(s->in, s->in_cap);
    }
    ssize_t got = s->top.ops->recv(s->top.ctx, s->in + s->in_n, s->in_cap - s->in_n, call_deadline(s));
    if (got == 0)
        return fail(s, STREAM_CLOSED, 0);
    if (got < 0)
        return fail_errno(s);
    s->in_n += (size_t)got;
    s->bytes_in += (uint64_t)got;
    return STREAM_OK;
}

/* NULL when all was read. */
static const char *unread(const struct stream *s)
{
    return s->in_n > s->in_at ? s->in + s->in_at : NULL;
}

/* Passes over the rest of a line that was too long. */
static enum stream_status skip_rest(struct stream *s)
{
    while (s->skip_line) {
        const char *at = unread(s);
        const char *lf = at ? memchr(at, '\n', s->in_n - s->in_at) : NULL;
        if (lf) {
            s->in_at += (size_t)(lf - at) + 1;
            s->skip_line = false;
            break;
        }
        s->in_at = s->in_n = 0;
        enum stream_status st = fill(s, STREAM_IN_BYTES);
        if (st != STREAM_OK)
            return st;
    }
    return STREAM_OK;
}

static struct span take(struct stream *s, size_t n, size_t with_end)
{
    struct span r = span_of(s->in + s->in_at, n);
    s->in_at += with_end;
    return r;
}

enum stream_status stream_read_line(struct stream *s, size_t line_max, struct span *line)
{
    enum stream_status st = skip_rest(s);
    size_t seen = 0; /* of the unread bytes, known to hold no LF */
    if (st != STREAM_OK)
        return st;
    for (;;) {
        size_t have = s->in_n - s->in_at;
        const char *at = unread(s);
        const char *lf = have > seen ? memchr(at + seen, '\n', have - seen) : NULL;
        if (lf) {
            size_t n = (size_t)(lf - at), text = n > 0 && lf[-1] == '\r' ? n - 1 : n;
            *line = take(s, text > line_max ? line_max : text, n + 1);
            return text > line_max ? STREAM_TOO_LONG : STREAM_OK;
        }
        if (have > line_max + 1) {
            *line = take(s, line_max, have);
            s->skip_line = true;
            return STREAM_TOO_LONG;
        }
        seen = have;
        st = fill(s, line_max + 2);
        if (st == STREAM_CLOSED && s->sys == 0 && have > 0) {
            *line = take(s, have > line_max ? line_max : have, have);
            return have > line_max ? STREAM_TOO_LONG : STREAM_OK;
        }
        if (st != STREAM_OK)
            return st;
    }
}

enum stream_status stream_read_some(struct stream *s, struct span *out)
{
    enum stream_status st = skip_rest(s);
    if (st == STREAM_OK && s->in_at == s->in_n)
        st = fill(s, STREAM_IN_BYTES);
    if (st == STREAM_OK)
        *out = take(s, s->in_n - s->in_at, s->in_n - s->in_at);
    return st;
}

bool stream_has_line(const struct stream *s)
{
    const char *at = unread(s);
    return !s->skip_line && at && memchr(at, '\n', s->in_n - s->in_at) != NULL;
}

bool stream_has_input(const struct stream *s)
{
    return s->in_n > s->in_at || (s->top.ops->pending && s->top.ops->pending(s->top.ctx));
}

/* ---- output ---- */

static void drop_output(struct stream *s)
{
    buf_reset(&s->out);
    s->seg_count = 0;
    s->out_bytes = 0;
}

/* Takes `n` sent bytes off the front of iov[*at ..]. */
static void advance(struct iovec *iov, int count, int *at, size_t n)
{
    while (*at < count && n >= iov[*at].iov_len) {
        n -= iov[*at].iov_len;
        (*at)++;
    }
    if (n > 0) {
        iov[*at].iov_base = (char *)iov[*at].iov_base + n;
        iov[*at].iov_len -= n;
    }
}

enum stream_status stream_flush(struct stream *s)
{
    struct iovec iov[SEGMENTS_MAX];
    int count = (int)s->seg_count, at = 0;
    for (int i = 0; i < count; i++) {
        const struct segment *g = &s->seg[i];
        const char *p = g->borrowed ? g->borrowed : s->out.p + g->off;
        iov[i] = (struct iovec){ .iov_base = (char *)p, .iov_len = g->n };
    }
    while (at < count && s->status == STREAM_OK) {
        ssize_t sent = s->top.ops->sendv(s->top.ctx, iov + at, count - at, call_deadline(s));
        if (sent < 0) {
            fail_errno(s);
            break;
        }
        s->bytes_out += (uint64_t)sent;
        advance(iov, count, &at, (size_t)sent);
    }
    drop_output(s);
    return s->status;
}

static void add_segment(struct stream *s, struct segment g)
{
    struct segment *last = s->seg_count ? &s->seg[s->seg_count - 1] : NULL;
    s->out_bytes += g.n;
    if (last && !g.borrowed && !last->borrowed) {
        last->n += g.n; /* copied bytes lie one behind the other */
        return;
    }
    s->seg[s->seg_count++] = g;
}

void stream_put(struct stream *s, struct span bytes)
{
    if (s->status != STREAM_OK || bytes.n == 0)
        return;
    /* An error sticks, so the result is seen at the caller's own flush. */
    if (s->seg_count == SEGMENTS_MAX || bytes.n > STREAM_OUT_MAX - s->out.n)
        (void)!stream_flush(s);
    if (bytes.n > STREAM_OUT_MAX) {
        stream_put_borrowed(s, bytes);
        (void)!stream_flush(s);
        return;
    }
    size_t off = s->out.n;
    buf_add_span(&s->out, bytes);
    if (!buf_ok(&s->out)) {
        fail(s, STREAM_IO, ENOMEM);
        return;
    }
    add_segment(s, (struct segment){ .off = off, .n = bytes.n });
}

void stream_puts(struct stream *s, const char *text) { stream_put(s, span_cstr(text)); }

void stream_printf(struct stream *s, const char *fmt, ...)
{
    struct buf b = BUF_INIT(STREAM_OUT_MAX);
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    if (buf_ok(&b))
        stream_put(s, buf_span(&b));
    else
        fail(s, STREAM_IO, EMSGSIZE);
    buf_free(&b);
}

void stream_put_borrowed(struct stream *s, struct span bytes)
{
    if (s->status != STREAM_OK || bytes.n == 0)
        return;
    if (s->seg_count == SEGMENTS_MAX)
        (void)!stream_flush(s);
    add_segment(s, (struct segment){ .borrowed = bytes.p, .n = bytes.n });
}

/* ---- layers and parking ---- */

size_t stream_set_layer(struct stream *s, struct stream_layer layer)
{
    size_t dropped = s->in_n - s->in_at;
    s->top = layer;
    s->in_at = s->in_n = 0;
    s->skip_line = false;
    return dropped;
}

bool stream_is_quiet(struct stream *s)
{
    char c;
    if (s->status != STREAM_OK || stream_has_input(s))
        return false;
    return recv(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

void stream_shrink(struct stream *s)
{
    if (s->in_at == s->in_n) {
        free(s->in);
        s->in = NULL;
        s->in_cap = s->in_at = s->in_n = 0;
    }
    if (s->out_bytes == 0)
        buf_free(&s->out);
    s->out.max = STREAM_OUT_MAX;
}

void stream_interrupt(struct stream *s)
{
    if (s->fd >= 0)
        shutdown(s->fd, SHUT_RDWR);
}
