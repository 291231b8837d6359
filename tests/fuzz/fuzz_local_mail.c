/*
 * What local users hand in: a maildrop file's first line, a message, its recipients. The header and body must come out with
 * CRLF line ends only and the same however the input is cut; what was decoded must survive encoding and decoding again.
 */
#include <stdint.h>
#include <stdlib.h>

#include "daemon/cmd/header_rcpts.h"
#include "daemon/control/local_content.h"
#include "daemon/control/submission.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool gather(void *arg, struct span bytes)
{
    buf_add_span(arg, bytes);
    return true;
}

static uint32_t convert(struct span text, size_t cut, struct buf *out)
{
    const struct local_content_options o = {
        .received = { "Received: x\r\n", 13 }, .drop_headers = hdr_names_of("bcc, return-path"), .undisclosed = "To: undisclosed:;",
        .sender = { "joe x@y", 7 }, .origin = { "y", 1 }, .full_name = { "J, \"x\"", 6 }, .message_id = { "<1@y>", 5 },
        .date = "Thu, 1 Jan 1970 00:00:00 +0000",
    };
    struct local_content c;
    struct arena *a = arena_new(0);
    local_content_begin(&c, &o, a, gather, out);
    bool ok = local_content_add(&c, span_of(text.p, cut)) && local_content_add(&c, span_from(text, cut));
    if (!ok || !local_content_end(&c))
        abort(); /* inputs are far below the limit of a header */
    arena_free(&a);
    return c.flags;
}

static void check_content(struct span text, size_t cut)
{
    struct buf one = BUF_INIT(0), two = BUF_INIT(0);
    uint32_t flags = convert(text, 0, &one);
    if (convert(text, cut, &two) != flags || !span_eq(buf_span(&one), buf_span(&two)))
        abort();
    if (one.n < 2 || memcmp(one.p + one.n - 2, "\r\n", 2) != 0)
        abort();
    for (size_t i = 0; i < one.n; i++) {
        if (one.p[i] == '\n' && (i == 0 || one.p[i - 1] != '\r'))
            abort();
    }
    buf_free(&one);
    buf_free(&two);
}

static void check_submission(struct span text)
{
    struct arena *a = arena_new(0);
    struct submission s, t;
    struct err e = ERR_INIT;
    json_error_t je;
    json_t *j = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &je);
    if (j != NULL && submission_decode(j, a, &s, &e)) {
        json_t *again = submission_encode(&s);
        if (!submission_decode(again, a, &t, &e) || t.rcpt_count != s.rcpt_count || !span_eq(t.sender, s.sender) ||
            t.content_bytes != s.content_bytes || !span_eq(t.rcpts[0], s.rcpts[0]))
            abort();
        json_decref(again);
    }
    json_decref(j);
    arena_free(&a);
}

static void check_rcpts(struct span text)
{
    struct rcpt_list l = { .arena = arena_new(0) };
    struct err e = ERR_INIT;
    bool ok = rcpts_add_header(&l, text, &e) && rcpts_add_list(&l, text, &e);
    for (size_t i = 0; ok && i < l.n; i++) {
        if (l.items[i].n == 0)
            abort();
    }
    rcpt_list_free(&l);
    arena_free(&l.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    struct span text = span_of((const char *)data + 1, n - 1);
    check_submission(text);
    check_rcpts(text);
    check_content(text, text.n > 0 ? data[0] % text.n : 0);
    return 0;
}
