/* common/net/stream over socket pairs, and over a layer that counts calls. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/net/stream.h"

static struct stream *pair(int *peer)
{
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    *peer = fd[1];
    struct stream *s = stream_new_fd(fd[0]);
    stream_set_deadline(s, clock_mono_ms() + 5000);
    return s;
}

static void say(int fd, const char *text)
{
    assert_true(io_write_all(fd, text, strlen(text)));
}

static void expect_line(struct stream *s, size_t max, enum stream_status want, const char *text)
{
    struct span line = { NULL, 0 };
    enum stream_status st = stream_read_line(s, max, &line);
    if (st != want || (text && !span_eq(line, span_cstr(text))))
        fail_msg("status %d (%s), line \"%.*s\", wanted \"%s\"", st, stream_error_text(s), SPAN_ARG(line),
                 text ? text : "");
}

static void lines_come_apart_at_every_byte(void **state)
{
    (void)state;
    static const char text[] = "220 one\r\n\r\n250-two\n250 th\rree\r\nlast";
    for (size_t split = 1; split < sizeof text - 1; split++) {
        int peer;
        struct stream *s = pair(&peer);
        struct span some;
        assert_true(io_write_all(peer, text, split));
        assert_int_equal(stream_read_some(s, &some), STREAM_OK); /* forces the split */
        assert_int_equal(some.n, split);
        stream_free(&s);
        io_close(&peer);

        s = pair(&peer);
        assert_true(io_write_all(peer, text, split));
        for (struct pollfd p = { .fd = stream_fd(s), .events = POLLIN }; poll(&p, 1, 1000) == 1 && p.revents == 0;)
            continue;
        bool had_line = memchr(text, '\n', split) != NULL;
        if (had_line)
            expect_line(s, 100, STREAM_OK, "220 one");
        assert_true(io_write_all(peer, text + split, sizeof text - 1 - split));
        io_close(&peer);
        if (!had_line)
            expect_line(s, 100, STREAM_OK, "220 one");
        expect_line(s, 100, STREAM_OK, "");
        expect_line(s, 100, STREAM_OK, "250-two");
        expect_line(s, 100, STREAM_OK, "250 th\rree");
        expect_line(s, 100, STREAM_OK, "last");
        expect_line(s, 100, STREAM_CLOSED, NULL);
        expect_line(s, 100, STREAM_CLOSED, NULL);
        assert_int_equal(stream_bytes_in(s), sizeof text - 1);
        stream_free(&s);
    }
}

static void overlong_lines_are_cut_and_skipped(void **state)
{
    (void)state;
    static const struct { const char *name, *in; size_t max; const char *line; bool cut; } cases[] = {
        { "exactly", "12345678\r\n", 8, "12345678", false },
        { "exactly with LF", "12345678\n", 8, "12345678", false },
        { "one over", "123456789\r\n", 8, "12345678", true },
        { "CR is the one over", "12345678\rx\n", 8, "12345678", true },
        { "far over", "12345678901234567890123456789012345678901234567890\r\n", 8, "12345678", true },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int peer;
        struct stream *s = pair(&peer);
        say(peer, cases[i].in);
        say(peer, "next\r\n");
        struct span line = { NULL, 0 };
        enum stream_status st = stream_read_line(s, cases[i].max, &line);
        if (st != (cases[i].cut ? STREAM_TOO_LONG : STREAM_OK) || !span_eq(line, span_cstr(cases[i].line)))
            fail_msg("%s: status %d, \"%.*s\"", cases[i].name, st, SPAN_ARG(line));
        expect_line(s, cases[i].max, STREAM_OK, "next");
        assert_int_equal(stream_status(s), STREAM_OK);
        stream_free(&s);
        io_close(&peer);
    }
}

/* A line much longer than the buffer, arriving in pieces, costs no memory beyond the limit. */
static void endless_line_is_bounded(void **state)
{
    (void)state;
    int peer;
    struct stream *s = pair(&peer);
    char chunk[1000];
    struct span line;
    memset(chunk, 'a', sizeof chunk);
    assert_true(io_write_all(peer, chunk, sizeof chunk));
    assert_int_equal(stream_read_line(s, 512, &line), STREAM_TOO_LONG);
    assert_int_equal(line.n, 512);
    for (int i = 0; i < 20; i++)
        assert_true(io_write_all(peer, chunk, sizeof chunk));
    say(peer, "\r\n250 ok\r\n");
    assert_false(stream_has_line(s));
    expect_line(s, 512, STREAM_OK, "250 ok");
    stream_free(&s);
    io_close(&peer);
}

static void deadline_ends_a_read_and_sticks(void **state)
{
    (void)state;
    int peer;
    struct stream *s = pair(&peer);
    int64_t t0 = clock_mono_ms();
    stream_set_deadline(s, t0 + 80);
    expect_line(s, 100, STREAM_TIMEOUT, NULL);
    int64_t took = clock_mono_ms() - t0;
    if (took < 79 || took > 2000)
        fail_msg("took %lld ms", (long long)took);
    assert_string_equal(stream_error_text(s), "Connection timed out");
    say(peer, "late\r\n");
    expect_line(s, 100, STREAM_TIMEOUT, NULL);
    stream_puts(s, "QUIT\r\n");
    assert_int_equal(stream_flush(s), STREAM_TIMEOUT);
    stream_free(&s);
    io_close(&peer);
}

static void what_arrived_before_the_deadline_is_read_after_it(void **state)
{
    (void)state;
    int peer;
    struct stream *s = pair(&peer);
    say(peer, "250 ok\r\n");
    stream_set_deadline(s, clock_mono_ms() - 1);
    expect_line(s, 100, STREAM_OK, "250 ok");
    stream_free(&s);
    io_close(&peer);
}

static void write_deadline_when_nobody_reads(void **state)
{
    (void)state;
    int peer;
    struct stream *s = pair(&peer);
    size_t n = 8 << 20;
    char *big = xcalloc(1, n);
    stream_set_deadline(s, clock_mono_ms() + 100);
    stream_put_borrowed(s, span_of(big, n));
    assert_int_equal(stream_flush(s), STREAM_TIMEOUT);
    assert_true(stream_bytes_out(s) < n);
    assert_int_equal(stream_out_pending(s), 0);
    free(big);
    stream_free(&s);
    io_close(&peer);
}

static void closed_peer_is_told_apart(void **state)
{
    (void)state;
    int peer;
    struct stream *s = pair(&peer);
    assert_true(stream_is_quiet(s));
    say(peer, "421 bye\r\n");
    assert_false(stream_is_quiet(s));
    io_close(&peer);
    expect_line(s, 100, STREAM_OK, "421 bye");
    assert_false(stream_is_quiet(s));
    stream_puts(s, "QUIT\r\n");
    assert_int_equal(stream_flush(s), STREAM_CLOSED); /* EPIPE, and no signal */
    stream_free(&s);
}

static void *interrupter(void *arg)
{
    usleep(30000);
    stream_interrupt(arg);
    return NULL;
}

static void interrupt_wakes_a_reader(void **state)
{
    (void)state;
    int peer;
    struct stream *s = pair(&peer);
    pthread_t t;
    stream_set_deadline(s, CLOCK_NEVER);
    assert_int_equal(pthread_create(&t, NULL, interrupter, s), 0);
    expect_line(s, 100, STREAM_CLOSED, NULL);
    pthread_join(t, NULL);
    stream_free(&s);
    io_close(&peer);
}

/* A layer that takes at most `step` bytes a call and remembers them. */
struct fake {
    struct buf got;
    size_t step, calls, fail_at;
    bool closed;
};

static ssize_t fake_sendv(void *ctx, const struct iovec *iov, int count, int64_t deadline_ms)
{
    struct fake *f = ctx;
    size_t left = f->step, before = f->got.n;
    (void)deadline_ms;
    if (++f->calls == f->fail_at) {
        errno = ECONNRESET;
        return -1;
    }
    for (int i = 0; i < count && left > 0; i++) {
        size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;
        buf_add(&f->got, iov[i].iov_base, n);
        left -= n;
    }
    return (ssize_t)(f->got.n - before);
}

static ssize_t fake_recv(void *ctx, void *p, size_t n, int64_t deadline_ms)
{
    (void)ctx, (void)p, (void)n, (void)deadline_ms;
    return 0;
}

static void fake_close(void *ctx) { ((struct fake *)ctx)->closed = true; }

static const struct stream_ops fake_ops = { .recv = fake_recv, .sendv = fake_sendv, .close = fake_close };

static void output_is_gathered_in_order(void **state)
{
    (void)state;
    static const size_t steps[] = { 1, 2, 3, 7, 100, SIZE_MAX };
    static const char body[] = "Subject: x\r\n\r\nbody\r\n";
    static const char want[] = "MAIL FROM:<a@b>\r\nDATA 20\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n";
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct fake f = { .step = steps[i] };
        struct stream *s = stream_new_layer((struct stream_layer){ &fake_ops, &f }, -1);
        stream_puts(s, "MAIL FROM:");
        stream_puts(s, "<a@b>\r\n");
        stream_printf(s, "DATA %d\r\n", 20);
        stream_put_borrowed(s, SPAN_LIT(body));
        stream_puts(s, ".\r\n");
        stream_puts(s, "QUIT\r\n");
        assert_int_equal(stream_out_pending(s), sizeof want - 1);
        assert_int_equal(f.calls, 0);
        assert_int_equal(stream_flush(s), STREAM_OK);
        assert_true(span_eq(buf_span(&f.got), SPAN_LIT(want)));
        if (steps[i] == SIZE_MAX)
            assert_int_equal(f.calls, 1);
        stream_free(&s);
        assert_true(f.closed);
        buf_free(&f.got);
    }
}

static void many_segments_and_large_copies_pass_through(void **state)
{
    (void)state;
    struct fake f = { .step = SIZE_MAX };
    struct stream *s = stream_new_layer((struct stream_layer){ &fake_ops, &f }, -1);
    struct buf want = BUF_INIT(0);
    char *large = xcalloc(1, STREAM_OUT_MAX * 2);
    memset(large, 'L', STREAM_OUT_MAX * 2);
    for (int i = 0; i < 500; i++) {
        stream_puts(s, "c");
        stream_put_borrowed(s, SPAN_LIT("B"));
        buf_puts(&want, "cB");
    }
    stream_put(s, span_of(large, STREAM_OUT_MAX * 2));
    buf_add(&want, large, STREAM_OUT_MAX * 2);
    for (int i = 0; i < 40; i++) {
        stream_put(s, span_of(large, 4000));
        buf_add(&want, large, 4000);
    }
    assert_int_equal(stream_flush(s), STREAM_OK);
    assert_true(span_eq(buf_span(&f.got), buf_span(&want)));
    assert_int_equal(stream_bytes_out(s), want.n);
    stream_free(&s);
    buf_free(&f.got);
    buf_free(&want);
    free(large);
}

static void a_failed_write_sticks(void **state)
{
    (void)state;
    struct fake f = { .step = 3, .fail_at = 2 };
    struct stream *s = stream_new_layer((struct stream_layer){ &fake_ops, &f }, -1);
    stream_puts(s, "NOOP\r\n");
    assert_int_equal(stream_flush(s), STREAM_CLOSED);
    stream_puts(s, "more");
    assert_int_equal(stream_out_pending(s), 0);
    assert_int_equal(stream_flush(s), STREAM_CLOSED);
    assert_int_equal(f.calls, 2);
    assert_string_equal(stream_error_text(s), "Connection reset by peer");
    stream_free(&s);
    buf_free(&f.got);
}

static void changing_the_layer_drops_early_plaintext(void **state)
{
    (void)state;
    int peer;
    struct stream *s = pair(&peer);
    say(peer, "220 go\r\n250 injected\r\n");
    expect_line(s, 100, STREAM_OK, "220 go");
    assert_true(stream_has_line(s));
    struct stream_layer l = stream_layer(s);
    assert_int_equal(stream_set_layer(s, l), strlen("250 injected\r\n"));
    assert_false(stream_has_input(s));
    stream_shrink(s);
    say(peer, "250 real\r\n");
    expect_line(s, 100, STREAM_OK, "250 real");
    stream_free(&s);
    io_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_apart_at_every_byte),
        cmocka_unit_test(overlong_lines_are_cut_and_skipped),
        cmocka_unit_test(endless_line_is_bounded),
        cmocka_unit_test(deadline_ends_a_read_and_sticks),
        cmocka_unit_test(what_arrived_before_the_deadline_is_read_after_it),
        cmocka_unit_test(write_deadline_when_nobody_reads),
        cmocka_unit_test(closed_peer_is_told_apart),
        cmocka_unit_test(interrupt_wakes_a_reader),
        cmocka_unit_test(output_is_gathered_in_order),
        cmocka_unit_test(many_segments_and_large_copies_pass_through),
        cmocka_unit_test(a_failed_write_sticks),
        cmocka_unit_test(changing_the_layer_drops_early_plaintext),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
