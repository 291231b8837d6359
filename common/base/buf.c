#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/mem.h"

/*
 * Who has set no maximum does not ask whether an append went well: half a command would be sent. And a process that does not
 * even get this much can do nothing useful.
 */
#define SMALL_BYTES 65536u

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = BUF_INIT(max_bytes);
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = BUF_INIT(b->max);
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    b->overflow = false;
}

void buf_shrink(struct buf *b, size_t keep)
{
    size_t want = b->n > keep ? b->n : keep;
    if (b->cap <= want)
        return;
    if (want == 0) {
        free(b->p);
        b->p = NULL;
        b->cap = 0;
        return;
    }
    char *q = realloc(b->p, want);
    if (q != NULL) {
        b->p = q;
        b->cap = want;
    }
}

static size_t buf_limit(const struct buf *b)
{
    return b->max ? b->max : SIZE_MAX / 2;
}

bool buf_reserve(struct buf *b, size_t n)
{
    size_t need;
    if (b->overflow)
        return false;
    if (__builtin_add_overflow(b->n, n, &need) || need > buf_limit(b)) {
        b->overflow = true;
        return false;
    }
    if (need < b->cap) /* one byte stays free for buf_cstr() */
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap <= need)
        cap *= 2;
    if (cap > buf_limit(b) + 1)
        cap = buf_limit(b) + 1;
    char *q = realloc(b->p, cap);
    if (q == NULL && (b->max == 0 || cap <= SMALL_BYTES))
        mem_exhausted();
    if (q == NULL) {
        b->overflow = true;
        return false;
    }
    b->p = q;
    b->cap = cap;
    return true;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
    if (n == 0 || !buf_reserve(b, n))
        return;
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

void buf_add_span(struct buf *b, struct span s)
{
    buf_add(b, s.p, s.n);
}

void buf_putc(struct buf *b, char c)
{
    if (b->n + 1 < b->cap && !b->overflow) {
        b->p[b->n++] = c;
        return;
    }
    buf_add(b, &c, 1);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    char small[256];
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    if (n < 0) {
        b->overflow = true;
    } else if ((size_t)n < sizeof small) {
        buf_add(b, small, (size_t)n);
    } else if (buf_reserve(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_put_uint(struct buf *b, uint64_t v)
{
    char tmp[20];
    size_t i = sizeof tmp;
    do {
        tmp[--i] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    buf_add(b, tmp + i, sizeof tmp - i);
}

void buf_put_u32be(struct buf *b, uint32_t v)
{
    const unsigned char c[4] = { (unsigned char)(v >> 24), (unsigned char)(v >> 16),
                                 (unsigned char)(v >> 8), (unsigned char)v };
    buf_add(b, c, sizeof c);
}

void buf_put_u64be(struct buf *b, uint64_t v)
{
    buf_put_u32be(b, (uint32_t)(v >> 32));
    buf_put_u32be(b, (uint32_t)v);
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->n) {
        b->n = 0;
        return;
    }
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}

const char *buf_cstr(struct buf *b)
{
    if (b->cap == 0)
        return "";
    b->p[b->n] = '\0';
    return b->p;
}

char *buf_detach(struct buf *b)
{
    if (b->cap == 0)
        return xstrdup("");
    b->p[b->n] = '\0';
    char *p = b->p;
    *b = BUF_INIT(b->max);
    return p;
}
