/* A process that ends by a signal of its own making says so, also when several of its threads fail at once. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "daemon/last_words.h"

#define FAILING 4

static int said[2]; /* a pipe */

/* In place of the log's, which is not linked: takes its time, as a slow disk does. */
void log_last_words(const struct log_src *src UNUSED, const char *text, const char *more)
{
    nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000000 }, NULL);
    if (write(said[1], text, strlen(text)) < 0 || write(said[1], more, strlen(more)) < 0 || write(said[1], "\n", 1) < 0)
        _exit(4);
}

static void *exhaust(void *barrier)
{
    pthread_barrier_wait(barrier);
    mem_exhausted();
}

static void *fault(void *barrier)
{
    pthread_barrier_wait(barrier);
    abort();
}

/* The child: so many threads of it do that at the same moment. */
static NORETURN void end_badly(void *(*how)(void *), unsigned threads)
{
    static const struct log_src src = { .prog = "master" };
    static pthread_barrier_t barrier;
    pthread_t t[FAILING];
    if (freopen("/dev/null", "w", stderr) == NULL || pthread_barrier_init(&barrier, NULL, threads) != 0)
        _exit(1);
    last_words_from(&src);
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&t[i], NULL, how, &barrier) != 0)
            _exit(2);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(t[i], NULL);
    _exit(3);
}

static void expect_words(void *(*how)(void *), unsigned threads, const char *words)
{
    char text[1000];
    size_t n = 0;
    int status;
    assert_int_equal(pipe(said), 0);
    pid_t pid = fork();
    if (pid == 0)
        end_badly(how, threads);
    close(said[1]);
    for (ssize_t got; (got = read(said[0], text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = '\0';
    close(said[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_string_equal(text, words); /* one of them speaks */
}

#define NO_MEMORY "fatal: out of memory: the process ends; what was accepted is in the queue, ended by SIGABRT\n"

static void says_why(void **state)
{
    (void)state;
    expect_words(exhaust, 1, NO_MEMORY);
    expect_words(fault, 1, "fatal: a fault in the program: the process ends; what was accepted is in the queue, ended by SIGABRT\n");
}

static void threads_that_fail_together_say_it_once(void **state)
{
    (void)state;
    expect_words(exhaust, FAILING, NO_MEMORY);
}

static void nobody_waits_when_nothing_is_to_be_said(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        static const struct log_src src = { .prog = "master" };
        last_words_from(&src);
        last_words_from(NULL);
        alarm(4); /* it ends by SIGALRM when it waits */
        raise(SIGABRT);
        raise(SIGABRT);
        _exit(3);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_why),
        cmocka_unit_test(threads_that_fail_together_say_it_once),
        cmocka_unit_test(nobody_waits_when_nothing_is_to_be_said),
    };
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    return cmocka_run_group_tests(tests, NULL, NULL);
}
