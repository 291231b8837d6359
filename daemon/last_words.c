/*
 * A signal handler gets no argument, hence the variables. Under a sanitizer only SIGABRT is caught: the others are its own.
 *
 * Where there is no memory several threads fail at once. The first one speaks; who comes next waits for it, since what a signal
 * does to a thread ends the process. A fault while speaking has its usual effect at once.
 */
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "daemon/last_words.h"

#define WAIT_MS 5000
#define WAIT_STEP_MS 5

static _Atomic(const struct log_src *) speaker;
static atomic_bool is_said;

static const int caught[] = {
    SIGABRT,
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    SIGSEGV, SIGBUS, SIGFPE, SIGILL,
#endif
};

static void on_death(int sig)
{
    static const char *const names[] = { [SIGABRT] = "SIGABRT", [SIGSEGV] = "SIGSEGV", [SIGBUS] = "SIGBUS",
                                         [SIGFPE] = "SIGFPE", [SIGILL] = "SIGILL" };
    static _Thread_local bool speaks;
    const struct log_src *src = atomic_exchange(&speaker, NULL);
    if (src != NULL) {
        speaks = true;
        log_last_words(src, mem_was_exhausted() ? "fatal: out of memory: the process ends; what was accepted is in the queue, ended by "
                                                : "fatal: a fault in the program: the process ends; what was accepted is in the queue, ended by ",
                       names[sig]);
        atomic_store(&is_said, true);
    }
    for (int ms = 0; !speaks && !atomic_load(&is_said) && ms < WAIT_MS; ms += WAIT_STEP_MS)
        nanosleep(&(struct timespec){ .tv_nsec = WAIT_STEP_MS * 1000000 }, NULL);
    signal(sig, SIG_DFL);
}

void last_words_from(const struct log_src *src)
{
    atomic_store(&is_said, src == NULL);
    atomic_store(&speaker, src);
    struct sigaction sa = { .sa_handler = on_death };
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; src != NULL && i < ARRAY_LEN(caught); i++)
        sigaction(caught[i], &sa, NULL);
}
