/*
 * posthoused: options, going to the background, and the loop that waits for signals
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "daemon/daemon.h"
#include "daemon/last_words.h"
#include "daemon/notify.h"
#include "daemon/trim.h"
#include "daemon/trim_watch.h"

/* glibc would give each of the first 8 threads a processor an arena of its own; memory freed in one is not used by others. */
#define MALLOC_ARENAS 2
/* Fixed: left to itself glibc raises both limits after the first large buffer and then keeps megabytes for the next one. */
#define MALLOC_LARGE_BYTES (64 * 1024)
#define SETTLE_MS 100      /* after the start, and each time four times as long, up to SETTLED_MS */
#define SETTLED_MS 2000

static void usage(FILE *to)
{
    fputs("usage: posthoused [-c DIR] [-f]\n"
          "  -c DIR     read DIR/main.cf and DIR/master.cf (default: " POSTHOUSE_CONFDIR ")\n"
          "  -f         stay in the foreground\n"
          "  --version  print the version and exit\n"
          "  --help     print this text and exit\n"
          "See posthoused(8); posthousectl(8) talks to a running daemon.\n", to);
}

/* Exit status to leave with at once, or -1 to go on. */
static int parse_options(int argc, char **argv, struct daemon *d)
{
    static const struct option longopts[] = {
        { "version", no_argument, NULL, 'V' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    int c;
    while ((c = getopt_long(argc, argv, "c:f", longopts, NULL)) != -1) {
        switch (c) {
        case 'c':
            d->conf_dir = optarg;
            break;
        case 'f':
            d->in_foreground = true;
            break;
        case 'V':
            puts("posthoused " PACKAGE_VERSION);
            return EX_OK;
        case 'h':
            usage(stdout);
            return EX_OK;
        default:
            usage(stderr);
            return EX_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "posthoused: unexpected argument \"%s\"\n", argv[optind]);
        usage(stderr);
        return EX_USAGE;
    }
    return -1;
}

/*
 * Into the background: the child goes on in a session of its own; the parent waits for one byte, which the child sends
 * when it serves, and exits with its status. Returns the descriptor to send the byte to.
 */
static int detach(void)
{
    int p[2];
    if (pipe2(p, O_CLOEXEC) != 0) {
        perror("posthoused: pipe");
        exit(EX_OSERR);
    }
    pid_t pid = fork();
    if (pid < 0) {
        perror("posthoused: fork");
        exit(EX_OSERR);
    }
    if (pid > 0) {
        unsigned char status = EX_SOFTWARE;
        close(p[1]);
        while (read(p[0], &status, 1) < 0 && errno == EINTR) { }
        _exit(status);
    }
    close(p[0]);
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        close(null);
    }
    return p[1];
}

static void tell_parent(int *fd, int status)
{
    unsigned char byte = (unsigned char)status;
    if (*fd < 0)
        return;
    if (write(*fd, &byte, 1) != 1) { /* the parent is gone: nobody waits */ }
    io_close(fd);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        close(null);
    }
}

static void log_listener(void *arg, const char *service, const struct ip_addr *a, uint16_t port)
{
    struct daemon *d = arg;
    char text[IP_TEXT_MAX];
    log_info(&d->src, "listening on [%s] port %u (service %s)", ip_print(a, text), port, service);
}

/* One finding as a line for people. */
static void put_finding(struct buf *b, const struct conf_finding *f)
{
    buf_puts(b, f->severity == CONF_ERROR ? "error: " : "warning: ");
    if (f->file != NULL)
        buf_printf(b, "%s, line %d: ", f->file, f->line);
    buf_puts(b, f->text);
    buf_putc(b, '\n');
}

static void do_reload(struct daemon *d)
{
    struct conf_report report = { 0 };
    struct err e = ERR_INIT;
    struct buf text = BUF_INIT(65536);
    notify_manager("RELOADING=1");
    daemon_reload_begins(d);
    bool ok = daemon_reload(d, &report, &e);
    for (size_t i = 0; i < report.count; i++) {
        const struct conf_finding *f = &report.items[i];
        if (f->severity == CONF_NOTE)
            continue;
        enum log_level level = f->severity == CONF_ERROR ? LOG_LV_ERROR : LOG_LV_WARNING;
        if (f->file != NULL)
            log_line(&d->src, level, "%s, line %d: %s", f->file, f->line, f->text);
        else
            log_line(&d->src, level, "%s", f->text);
        put_finding(&text, f);
    }
    if (ok) {
        log_info(&d->src, "reload -- version " PACKAGE_VERSION ", configuration %s", d->conf_dir);
        daemon_tell_idle_settings(d);
        listeners_each(d->listeners, log_listener, d);
        trim_memory(NULL);
    } else {
        log_error(&d->src, "reload failed: %s", e.text);
        buf_printf(&text, "%s\n", e.text);
    }
    conf_report_free(&report);
    daemon_reload_over(d, ok, &text);
    buf_free(&text);
    notify_manager("READY=1");
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* Returns when it is time to stop. */
static void wait_for_orders(struct daemon *d, int sigfd, const struct trim_constants *constants)
{
    struct trim_watch trim = { 0 };
    int64_t settle_ms = SETTLE_MS, settle_at_ms = clock_mono_ms() + SETTLE_MS;
    for (;;) {
        struct pollfd p[2] = { { .fd = sigfd, .events = POLLIN }, { .fd = d->order_pipe[0], .events = POLLIN } };
        struct signalfd_siginfo si;
        char order = 0;
        int64_t status_ms = daemon_look_at_clients(d);
        int64_t longest_ms = settle_ms < SETTLED_MS ? settle_ms : TRIM_LOOK_MS;
        int ready = poll(p, 2, (int)(status_ms < longest_ms ? status_ms : longest_ms));
        if (settle_ms < SETTLED_MS && clock_mono_ms() >= settle_at_ms) {
            trim_memory(constants); /* the threads have done more of their first work, which is not done again */
            settle_ms *= 4;
            settle_at_ms = clock_mono_ms() + settle_ms;
        }
        trim_watch_look(&trim);
        if (ready <= 0)
            continue;
        if (p[0].revents && read(sigfd, &si, sizeof si) == sizeof si) {
            if (si.ssi_signo == SIGHUP) {
                do_reload(d);
                continue;
            }
            log_info(&d->src, "terminating on signal %u", si.ssi_signo);
            return;
        }
        if (p[1].revents && read(d->order_pipe[0], &order, 1) == 1) {
            if (order == 'h') {
                do_reload(d);
                continue;
            }
            log_info(&d->src, "terminating on request");
            return;
        }
    }
}

static int run(struct daemon *d, int parent, const struct trim_constants *constants)
{
    struct err e = ERR_INIT;
    int sigfd = open_signals();
    if (sigfd < 0 || pipe2(d->order_pipe, O_CLOEXEC) != 0) {
        perror("posthoused: signalfd");
        tell_parent(&parent, EX_OSERR);
        return EX_OSERR;
    }
    bool ok = daemon_prepare(d, &e) && daemon_start(d, &e);
    if (!ok) {
        fprintf(stderr, "posthoused: fatal: %s\n", e.text);
        if (d->log != NULL)
            log_fatal(&d->src, "%s", e.text);
        daemon_stop(d);
        last_words_from(NULL);
        if (log_flush(d->log))
            log_close(&d->log);
        tell_parent(&parent, e.sys == EADDRINUSE ? EX_UNAVAILABLE : EX_CONFIG);
        return e.sys == EADDRINUSE ? EX_UNAVAILABLE : EX_CONFIG;
    }
    log_info(&d->src, "daemon started -- version " PACKAGE_VERSION ", configuration %s", d->conf_dir);
    listeners_each(d->listeners, log_listener, d);
    notify_manager("READY=1");
    tell_parent(&parent, EX_OK);
    trim_memory(constants);
    wait_for_orders(d, sigfd, constants);
    notify_manager("STOPPING=1");
    bool clean = daemon_stop(d);
    log_info(&d->src, "stopped");
    /* Threads still use what would be freed, or nobody reads the log: the journal is the truth, leave at once. */
    if (!log_flush(d->log) || !clean)
        _exit(EX_OK);
    last_words_from(NULL);
    log_close(&d->log);
    io_close(&sigfd);
    return EX_OK;
}

int main(int argc, char **argv)
{
    static struct daemon d;
    struct trim_constants constants;
    int parent = -1;
    trim_find_constants(&constants);
    umask(077);
    mallopt(M_ARENA_MAX, MALLOC_ARENAS);
    mallopt(M_MMAP_THRESHOLD, MALLOC_LARGE_BYTES);
    mallopt(M_TRIM_THRESHOLD, MALLOC_LARGE_BYTES);
    json_set_alloc_funcs(xmalloc, free); /* an answer that lacks a member, or its "ok", is worse than none */
    d.conf_dir = POSTHOUSE_CONFDIR;
    d.started_us = clock_wall_us();
    lock_init(&d.m, LOCK_CONF_CURRENT);
    cond_init(&d.reload_done);
    buf_init(&d.reload_text, 65536);
    int status = parse_options(argc, argv, &d);
    if (status >= 0)
        return status;
    if (!daemon_configure(&d))
        return EX_CONFIG;
    if (!d.in_foreground)
        parent = detach();
    return run(&d, parent, &constants);
}
