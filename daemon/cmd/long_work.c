/* The line ends with an erase sequence, so a shorter one leaves nothing of a longer one behind. */
#include "daemon/cmd/long_work.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"

#define TERMINAL_MS 200
#define VERBOSE_MS 2000
#define ERASE "\r\033[K"

void long_work_begin(struct long_work *w, bool is_verbose)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    *w = (struct long_work){ .fd = -1, .is_terminal = isatty(STDERR_FILENO) == 1, .is_verbose = is_verbose };
    /* Without it the signals end the program at once, which is safe too. */
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) == 0)
        w->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

void long_work_end(struct long_work *w)
{
    if (w->has_line)
        fputs(ERASE, stderr);
    w->has_line = false;
    io_close(&w->fd);
}

bool long_work_is_interrupted(struct long_work *w)
{
    struct signalfd_siginfo si;
    if (!w->is_interrupted && w->fd >= 0 && read(w->fd, &si, sizeof si) == (ssize_t)sizeof si)
        w->is_interrupted = true;
    return w->is_interrupted;
}

void long_work_tell(struct long_work *w, const char *fmt, ...)
{
    int64_t now = clock_mono_ms();
    if ((!w->is_terminal && !w->is_verbose) || now < w->next_ms)
        return;
    w->next_ms = now + (w->is_terminal ? TERMINAL_MS : VERBOSE_MS);
    va_list ap;
    va_start(ap, fmt);
    if (w->is_terminal)
        fputs(ERASE, stderr);
    vfprintf(stderr, fmt, ap);
    if (!w->is_terminal)
        fputc('\n', stderr);
    va_end(ap);
    w->has_line = w->is_terminal;
    fflush(stderr);
}

void long_work_tell_part(struct long_work *w, const char *what, uint64_t done, uint64_t total)
{
    if (total == 0)
        long_work_tell(w, "%s ...", what);
    else
        long_work_tell(w, "%s: %.0f %%", what, 100.0 * (double)done / (double)total);
}

void long_work_bytes(uint64_t n, char *out, size_t size)
{
    static const char *const units[] = { "bytes", "kB", "MB", "GB", "TB" };
    double v = (double)n;
    size_t i = 0;
    while (v >= 1000 && i + 1 < sizeof units / sizeof units[0]) {
        v /= 1000;
        i++;
    }
    snprintf(out, size, i == 0 ? "%.0f %s" : "%.1f %s", v, units[i]);
}
