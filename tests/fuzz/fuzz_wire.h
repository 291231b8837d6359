/*
 * fuzz_wire: the other end of a connection: says what the input has, in pieces, and hears what is sent
 *
 * Purpose    targets for code that talks over a struct stream: stream_new_layer((struct stream_layer){ &fuzz_wire_ops, &w }, -1)
 * Threads    the fuzzer's only
 */
#pragma once
#include <string.h>
#include <sys/uio.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/span.h"
#include "common/net/stream.h"

struct fuzz_wire {
    struct span in;  /* borrowed; what is not said yet; then the end of the connection */
    size_t piece;    /* most bytes that arrive at a time */
    struct buf out;  /* owned by the target; what was heard */
};

static inline ssize_t fuzz_wire_recv(void *ctx, void *p, size_t n, int64_t deadline_ms UNUSED)
{
    struct fuzz_wire *w = ctx;
    size_t k = w->in.n < n ? w->in.n : n;
    if (k > w->piece)
        k = w->piece;
    if (k > 0)
        memcpy(p, w->in.p, k);
    w->in = span_from(w->in, k);
    return (ssize_t)k;
}

static inline ssize_t fuzz_wire_sendv(void *ctx, const struct iovec *iov, int count, int64_t deadline_ms UNUSED)
{
    struct fuzz_wire *w = ctx;
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        buf_add(&w->out, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    return (ssize_t)n;
}

static inline void fuzz_wire_close(void *ctx UNUSED) { }

static const struct stream_ops fuzz_wire_ops = { .recv = fuzz_wire_recv, .sendv = fuzz_wire_sendv, .close = fuzz_wire_close };
