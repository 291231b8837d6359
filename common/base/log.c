/*
 * The ring is two plain buffers that swap: callers append entries (header and text) to the one in front under
 * the lock, the thread takes it whole and formats outside the lock. The time stamp is formatted once a second by
 * the thread. While lines come the thread wakes every LINGER_MS by itself, so that a caller pays for a wake-up
 * only after a pause.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/lock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/printable.h"

#define RING_BYTES (1u << 20)
#define LINGER_MS 5
#define KEEP_BYTES (16u << 10) /* of each buffer after a burst */
#define TAG_MAX 96

struct entry {
    int64_t time_s;
    uint32_t text_len;
    uint32_t pid;
    uint8_t level;
    uint8_t tag_len;
};

struct log {
    struct lock m;
    struct cond wake;      /* predicate: stopping, or front not empty */
    struct cond drained;   /* predicate: front empty and not writing */
    struct buf front;      /* guarded by m */
    uint64_t dropped;      /* guarded by m */
    uint64_t dropped_told; /* log thread only */
    bool asleep;           /* guarded by m */
    bool writing;          /* guarded by m */
    bool reopening;        /* guarded by m: the thread begins no batch */
    uint64_t batches;      /* guarded by m: written so far */
    bool stopping;         /* guarded by m */
    bool running;          /* main thread only */
    atomic_bool debug;
    pthread_t thread;
    struct buf back;       /* log thread only */
    struct buf out;        /* log thread only */
    int fd;                /* guarded by m for change; log thread reads it under m per batch */
    enum log_dest dest;    /* as fd */
    int facility;          /* as fd */
    char host[256];        /* immutable */
    int64_t stamp_s;       /* log thread only */
    char stamp[32];
};

static const int severity[] = { 7, 6, 4, 3, 2 };

static int open_syslog(struct err *e)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    snprintf(sa.sun_path, sizeof sa.sun_path, "/dev/log");
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        err_set_sys(e, errno, "socket for syslog");
        return -1;
    }
    /* A missing log daemon is no reason not to carry mail: the connection is tried again later. */
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0) { /* retried in write_syslog() */ }
    return fd;
}

/* A file that is made here gets exactly these permissions, whatever the umask. */
static int open_file(const char *path, unsigned mode, struct err *e)
{
    int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC;
    int fd = open(path, flags | O_EXCL, 0600);
    bool is_new = fd >= 0;
    if (!is_new && errno == EEXIST)
        fd = open(path, flags, 0600);
    if (fd < 0 || (is_new && fchmod(fd, mode != 0 ? mode : 0600) != 0)) {
        err_set_sys(e, errno, "open log file %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static int open_dest(const struct log_options *o, struct err *e)
{
    switch (o->dest) {
    case LOG_TO_STDERR:
        return STDERR_FILENO;
    case LOG_TO_SYSLOG:
        return open_syslog(e);
    case LOG_TO_FILE:
        return open_file(o->path, o->mode, e);
    }
    return -1;
}

struct log *log_open(const struct log_options *o, struct err *e)
{
    int fd = open_dest(o, e);
    if (fd < 0)
        return NULL;
    struct log *l = xcalloc(1, sizeof *l);
    tzset(); /* so that no thread is the first one, and makes the names of zones that others read */
    lock_init(&l->m, LOCK_LOG_RING);
    cond_init(&l->wake);
    cond_init(&l->drained);
    buf_init(&l->front, RING_BYTES);
    buf_init(&l->back, RING_BYTES);
    buf_init(&l->out, 0);
    l->fd = fd;
    l->dest = o->dest;
    l->facility = o->facility ? o->facility : 2;
    atomic_init(&l->debug, o->debug);
    if (gethostname(l->host, sizeof l->host - 1) != 0)
        snprintf(l->host, sizeof l->host, "localhost");
    l->host[strcspn(l->host, ".")] = '\0';
    l->asleep = true;
    return l;
}

static void put_stamp(struct log *l, int64_t now_s)
{
    if (l->stamp_s == now_s && l->stamp[0] != '\0')
        return;
    static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    struct tm tm;
    time_t t = (time_t)now_s;
    localtime_r(&t, &tm);
    snprintf(l->stamp, sizeof l->stamp, "%s %2d %02d:%02d:%02d", months[tm.tm_mon], tm.tm_mday, tm.tm_hour,
             tm.tm_min, tm.tm_sec);
    l->stamp_s = now_s;
}

static void send_syslog(struct log *l, struct span line)
{
    if (send(l->fd, line.p, line.n, MSG_NOSIGNAL) >= 0)
        return;
    if (errno == ENOTCONN || errno == ECONNREFUSED || errno == ECONNRESET || errno == EDESTADDRREQ) {
        int fd = open_syslog(NULL);
        if (fd >= 0) {
            close(l->fd);
            l->fd = fd;
            if (send(l->fd, line.p, line.n, MSG_NOSIGNAL) >= 0)
                return;
        }
    }
}

static void format_entry(struct log *l, const struct entry *h, const char *tag, const char *text)
{
    put_stamp(l, h->time_s);
    if (l->dest == LOG_TO_SYSLOG) {
        buf_reset(&l->out);
        buf_printf(&l->out, "<%d>%s ", l->facility * 8 + severity[h->level], l->stamp);
    } else {
        buf_puts(&l->out, l->stamp);
        buf_putc(&l->out, ' ');
        buf_puts(&l->out, l->host);
        buf_putc(&l->out, ' ');
    }
    buf_add(&l->out, tag, h->tag_len);
    buf_putc(&l->out, '[');
    buf_put_uint(&l->out, h->pid);
    buf_puts(&l->out, "]: ");
    buf_add(&l->out, text, h->text_len);
    if (l->dest == LOG_TO_SYSLOG)
        send_syslog(l, buf_span(&l->out));
    else
        buf_putc(&l->out, '\n');
}

static void write_batch(struct log *l)
{
    buf_reset(&l->out);
    for (size_t off = 0; off < l->back.n;) {
        struct entry h;
        memcpy(&h, l->back.p + off, sizeof h);
        const char *tag = l->back.p + off + sizeof h;
        format_entry(l, &h, tag, tag + h.tag_len);
        off += sizeof h + h.tag_len + h.text_len;
    }
    if (l->dest != LOG_TO_SYSLOG && l->out.n > 0 && !io_write_all(l->fd, l->out.p, l->out.n)) {
        /* Nowhere to complain but the place that just failed; the next batch may do better. */
    }
    buf_reset(&l->back);
}

/* Only when there is a pause: buffers that shrink and grow again with every batch leave holes all over the heap. */
static void give_back(struct log *l) REQUIRES(&l->m)
{
    buf_shrink(&l->front, KEEP_BYTES);
    buf_shrink(&l->back, KEEP_BYTES);
    buf_shrink(&l->out, KEEP_BYTES);
}

static void tell_dropped(struct log *l, uint64_t dropped)
{
    if (dropped == l->dropped_told)
        return;
    struct entry h = { .time_s = clock_wall_s(), .level = LOG_LV_WARNING, .pid = (uint32_t)getpid() };
    char text[120];
    static const char tag[] = "posthouse/log";
    h.text_len = (uint32_t)snprintf(text, sizeof text, "warning: %llu log lines dropped: the log destination is slow",
                                    (unsigned long long)(dropped - l->dropped_told));
    h.tag_len = sizeof tag - 1;
    buf_add(&l->back, &h, sizeof h);
    buf_add(&l->back, tag, h.tag_len);
    buf_add(&l->back, text, h.text_len);
    l->dropped_told = dropped;
}

static void *log_thread(void *arg)
{
    struct log *l = arg;
    lock_take(&l->m);
    for (;;) {
        if (l->front.n == 0) {
            cond_broadcast(&l->drained);
            if (l->stopping)
                break;
            give_back(l);
            l->asleep = true;
            while (l->front.n == 0 && !l->stopping)
                cond_wait(&l->wake, &l->m);
            l->asleep = false;
            if (l->front.n == 0)
                continue;
        }
        while (l->reopening)
            cond_wait(&l->wake, &l->m);
        struct buf t = l->front;
        l->front = l->back;
        l->back = t;
        uint64_t dropped = l->dropped;
        l->writing = true;
        lock_drop(&l->m);
        tell_dropped(l, dropped);
        write_batch(l);
        lock_take(&l->m);
        l->writing = false;
        l->batches++;
        cond_broadcast(&l->drained);
        if (!l->stopping && l->front.n < RING_BYTES / 2)
            cond_wait_until(&l->wake, &l->m, clock_mono_ms() + LINGER_MS);
    }
    lock_drop(&l->m);
    return NULL;
}

int log_start(struct log *l)
{
    int rc = thread_start(&l->thread, "log", 256 * 1024, log_thread, l);
    l->running = rc == 0;
    return rc;
}

bool log_flush(struct log *l)
{
    bool ok = true;
    if (l == NULL || !l->running)
        return true;
    int64_t deadline_ms = clock_mono_ms() + LOG_STUCK_MS;
    lock_take(&l->m);
    uint64_t seen = l->batches;
    while (ok && (l->front.n > 0 || l->writing)) {
        cond_signal(&l->wake);
        ok = cond_wait_until(&l->drained, &l->m, deadline_ms) || l->batches != seen;
        if (l->batches != seen) {
            seen = l->batches;
            deadline_ms = clock_mono_ms() + LOG_STUCK_MS;
        }
    }
    lock_drop(&l->m);
    return ok;
}

bool log_reopen(struct log *l, const struct log_options *o, struct err *e)
{
    int fd = open_dest(o, e);
    if (fd < 0)
        return false;
    int64_t deadline_ms = clock_mono_ms() + LOG_STUCK_MS;
    lock_take(&l->m);
    l->reopening = true;
    while (l->writing && cond_wait_until(&l->drained, &l->m, deadline_ms)) { } /* the thread uses fd outside the lock only while writing */
    l->reopening = false;
    cond_signal(&l->wake);
    if (l->writing) {
        lock_drop(&l->m);
        if (fd != STDERR_FILENO)
            close(fd);
        err_set(e, "log: the old destination takes no lines");
        return false;
    }
    int old = l->fd;
    l->fd = fd;
    l->dest = o->dest;
    l->facility = o->facility ? o->facility : 2;
    atomic_store(&l->debug, o->debug);
    lock_drop(&l->m);
    if (old != STDERR_FILENO)
        close(old);
    return true;
}

void log_close(struct log **lp)
{
    struct log *l = *lp;
    if (l == NULL)
        return;
    if (!l->running) {
        l->back = l->front;
        write_batch(l);
        buf_init(&l->front, 0);
    } else {
        lock_take(&l->m);
        l->stopping = true;
        cond_signal(&l->wake);
        lock_drop(&l->m);
        pthread_join(l->thread, NULL);
    }
    if (l->fd != STDERR_FILENO)
        close(l->fd);
    buf_free(&l->front);
    buf_free(&l->back);
    buf_free(&l->out);
    cond_destroy(&l->wake);
    cond_destroy(&l->drained);
    lock_destroy(&l->m);
    free(l);
    *lp = NULL;
}

uint64_t log_dropped(struct log *l)
{
    lock_take(&l->m);
    uint64_t n = l->dropped;
    lock_drop(&l->m);
    return n;
}

static size_t put_tag(const struct log_src *src, char tag[TAG_MAX])
{
    size_t a = strlen(src->name), b = src->prog ? strlen(src->prog) : 0;
    if (a + b + 2 > TAG_MAX)
        a = 0, b = b > TAG_MAX - 2 ? TAG_MAX - 2 : b;
    memcpy(tag, src->name, a);
    if (b == 0)
        return a;
    tag[a] = '/';
    memcpy(tag + a + 1, src->prog, b);
    return a + 1 + b;
}

void log_text(const struct log_src *src, enum log_level lv, struct span text)
{
    static const char *const prefix[] = { "", "", "warning: ", "error: ", "fatal: " };
    struct log *l = src != NULL ? src->log : NULL;
    char tag[TAG_MAX];
    if (l == NULL || (lv == LOG_LV_DEBUG && !atomic_load_explicit(&l->debug, memory_order_relaxed)))
        return;
    size_t pre = strlen(prefix[lv]);
    if (text.n > LOG_TEXT_MAX)
        text.n = LOG_TEXT_MAX;
    struct entry h = { .time_s = clock_wall_s(), .level = (uint8_t)lv, .pid = src->pid };
    h.tag_len = (uint8_t)put_tag(src, tag);
    h.text_len = (uint32_t)(pre + text.n);
    lock_take(&l->m);
    size_t before = l->front.n;
    if (!buf_reserve(&l->front, sizeof h + h.tag_len + h.text_len)) {
        l->front.overflow = false;
        l->dropped++;
    } else {
        buf_add(&l->front, &h, sizeof h);
        buf_add(&l->front, tag, h.tag_len);
        buf_add(&l->front, prefix[lv], pre);
        buf_add(&l->front, text.p, text.n);
        text_make_printable(l->front.p + l->front.n - text.n, text.n);
    }
    bool wake = l->asleep || (before < RING_BYTES / 2 && l->front.n >= RING_BYTES / 2);
    if (wake) {
        l->asleep = false;
        cond_signal(&l->wake);
    }
    lock_drop(&l->m);
}

void log_vline(const struct log_src *src, enum log_level lv, const char *fmt, va_list ap)
{
    char text[LOG_TEXT_MAX + 1];
    if (src == NULL || src->log == NULL ||
        (lv == LOG_LV_DEBUG && !atomic_load_explicit(&src->log->debug, memory_order_relaxed)))
        return;
    int n = vsnprintf(text, sizeof text, fmt, ap);
    if (n < 0)
        return;
    log_text(src, lv, span_of(text, (size_t)n > LOG_TEXT_MAX ? LOG_TEXT_MAX : (size_t)n));
}

void log_line(const struct log_src *src, enum log_level lv, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_vline(src, lv, fmt, ap);
    va_end(ap);
}

void log_last_words(const struct log_src *src, const char *text, const char *more)
{
    struct log *l = src->log;
    char pid[16], tag[TAG_MAX + 1];
    size_t at = sizeof pid;
    unsigned n = src->pid;
    do
        pid[--at] = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    tag[put_tag(src, tag)] = '\0';
    struct span s = span_of(pid + at, sizeof pid - at);
    const char *const parts[] = { l->stamp[0] != '\0' ? l->stamp : "Jan  1 00:00:00", " ", l->host, " ", tag, "[" };
    char line[1024];
    struct buf b = { .p = line, .cap = sizeof line, .max = sizeof line - 1 }; /* never grows */
    if (l->dest == LOG_TO_SYSLOG) {
        buf_puts(&b, "<18>"); /* mail.crit */
        buf_puts(&b, parts[0]);
        buf_putc(&b, ' ');
    } else {
        for (size_t i = 0; i < 4; i++)
            buf_puts(&b, parts[i]);
    }
    buf_puts(&b, parts[4]);
    buf_puts(&b, parts[5]);
    buf_add_span(&b, s);
    buf_puts(&b, "]: ");
    buf_puts(&b, text);
    buf_puts(&b, more);
    if (l->dest != LOG_TO_SYSLOG)
        buf_putc(&b, '\n');
    ssize_t sent = l->dest == LOG_TO_SYSLOG ? send(l->fd, line, b.n, MSG_NOSIGNAL) : write(l->fd, line, b.n);
    (void)sent; /* nobody is left who could act */
}

bool log_once_a_minute(_Atomic int64_t *last_ms, _Atomic uint64_t *count, uint64_t *suppressed)
{
    int64_t now = clock_mono_ms();
    int64_t last = atomic_load(last_ms);
    if ((last != 0 && now - last < 60000) || !atomic_compare_exchange_strong(last_ms, &last, now)) {
        atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
        return false;
    }
    *suppressed = atomic_exchange(count, 0);
    return true;
}

int log_facility_number(const char *name)
{
    static const char *const names[] = { "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news",
                                         "uucp", "cron", "authpriv", "ftp" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    if (strlen(name) == 6 && memcmp(name, "local", 5) == 0 && name[5] >= '0' && name[5] <= '7')
        return 16 + name[5] - '0';
    return -1;
}
