/*
 * MIME structure and the conversion to 7 bits. The first byte picks the limits. The pieces must be the content; the converted
 * message must need no conversion and have the same parts.
 */
#include <stdlib.h>

#include "daemon/smtp/downgrade.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct shape {
    size_t bytes, boundaries, headers, eight_bit;
    bool is_too_deep;
};

static struct shape shape_of(struct span content, struct mime_limits limits)
{
    struct shape s = { .bytes = 0 };
    struct mime m;
    struct mime_piece piece;
    mime_init(&m, content, limits);
    while (mime_next(&m, &piece)) {
        if (piece.text.n > 0 && piece.text.p != content.p + s.bytes)
            abort();
        s.bytes += piece.text.n;
        s.boundaries += piece.kind == MIME_BOUNDARY;
        s.headers += piece.kind == MIME_HEADER_END;
        s.eight_bit += piece.kind == MIME_HEADER_END && mime_is_8bit(&m);
    }
    if (s.bytes != content.n)
        abort();
    s.is_too_deep = m.is_too_deep;
    mime_free(&m);
    return s;
}

static void put(void *ctx, struct span run, bool is_borrowed)
{
    struct buf *b = ctx;
    (void)is_borrowed;
    if (b->n > 0 && b->p[b->n - 1] != '\n' && !span_starts_with(run, SPAN_LIT("\r\n")))
        abort();
    buf_add_span(b, run);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf out = BUF_INIT(0);
    if (size < 1)
        return 0;
    struct mime_limits limits = { data[0] & 1 ? 3 : 2048, data[0] & 2 ? 1 : 100 };
    struct span content = span_of((const char *)data + 1, size - 1);
    struct shape before = shape_of(content, limits);
    downgrade(content, limits, put, &out);
    struct shape after = shape_of(buf_span(&out), limits);
    if (before.boundaries != after.boundaries || before.headers != after.headers || after.eight_bit > 0)
        abort();
    if (before.eight_bit == 0 && !span_eq(content, buf_span(&out)))
        abort();
    if ((downgrade_need_of(content, limits) == DOWNGRADE_NEEDED) != (before.eight_bit > 0 && !before.is_too_deep))
        abort();
    buf_free(&out);
    return 0;
}
