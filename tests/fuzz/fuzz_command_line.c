/*
 * A command line of sendmail and what it reads from standard input. The first part are the arguments, one a line; the rest
 * is the input. What is accepted holds together, and the message is the lines that were given, each ended by LF.
 */
#include "tests/fuzz/fuzz.h"

#include "common/base/mem.h"
#include "daemon/cmd/mail_input.h"
#include "daemon/cmd/sendmail_options.h"

#define ARGS_MAX 40

static void check_options(struct span text)
{
    char *argv[ARGS_MAX + 2] = { xstrdup("sendmail") };
    int argc = 1;
    struct span line;
    struct sendmail_options o;
    struct err e = ERR_INIT;
    while (argc <= ARGS_MAX && span_next_token(&text, "\n", &line))
        argv[argc++] = xstrndup(line.p, line.n);
    if (sendmail_parse(argc, argv, &o, &e) == 0) {
        CHECK(o.rcpt_count >= 0 && o.rcpt_count < argc && (o.notify & ~15) == 0);
        CHECK((o.mode != SM_FLUSH_ID && o.mode != SM_FLUSH_SITE) || o.arg != NULL);
        for (int i = 0; i < o.rcpt_count; i++)
            CHECK(o.rcpts[i] != NULL);
        CHECK(!(o.notify & NOTIFY_NEVER) || o.notify == NOTIFY_NEVER);
    } else {
        CHECK(e.text[0] != '\0');
    }
    for (int i = 0; i < argc; i++)
        free(argv[i]);
}

static bool gather(void *arg, struct span piece)
{
    buf_add_span(arg, piece);
    return true;
}

static void check_input(struct span text, bool keep_dots)
{
    struct mail_input in;
    struct err e = ERR_INIT;
    struct buf got = BUF_INIT(0);
    FILE *f = text.n > 0 ? fmemopen((void *)text.p, text.n, "r") : NULL;
    if (f == NULL)
        return;
    CHECK(mail_input_read(&in, f, keep_dots, 0, &e) == INPUT_OK);
    CHECK(mail_input_each(&in, gather, &got) && got.n == in.bytes && got.n <= text.n + 1);
    CHECK(got.n == 0 || got.p[got.n - 1] == '\n');
    for (size_t i = 0; !keep_dots && i + 1 < got.n; i++)
        CHECK(got.p[i] != '.' || got.p[i + 1] != '\n' || (i > 0 && got.p[i - 1] != '\n'));
    buf_free(&got);
    mail_input_free(&in);
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span rest = span_of((const char *)data, n), args = fuzz_part(&rest);
    if (n > 16384)
        return 0;
    check_options(args);
    check_input(rest, n & 1);
    return 0;
}
