/*
 * A signal handler gets no argument, hence the one variable. Under a sanitizer only SIGABRT is caught: the others are its own.
 */
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "common/base/mem.h"
#include "daemon/last_words.h"

static _Atomic(const struct log_src *) speaker;

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
    const struct log_src *src = atomic_exchange(&speaker, NULL);
    if (src == NULL)
        return;
    log_last_words(src, mem_was_exhausted() ? "fatal: out of memory: the process ends; what was accepted is in the queue, ended by "
                                            : "fatal: a fault in the program: the process ends; what was accepted is in the queue, ended by ",
                   names[sig]);
}

void last_words_from(const struct log_src *src)
{
    atomic_store(&speaker, src);
    struct sigaction sa = { .sa_handler = on_death, .sa_flags = (int)SA_RESETHAND };
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; src != NULL && i < ARRAY_LEN(caught); i++)
        sigaction(caught[i], &sa, NULL);
}
