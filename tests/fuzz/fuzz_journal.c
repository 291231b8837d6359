/*
 * Journal and result log replay on bytes from anywhere: the decoders directly, and the search for frames in a file that is
 * put together from the input (valid frames with the input as metadata, and bytes of the input between them).
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/crc32c.h"
#include "common/base/mem.h"
#include "queue/logfile.h"
#include "queue/record.h"

#define GENERATION 3
#define SALT UINT64_C(0x0123456789abcdef)

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static bool is_same(const struct msg *a, const struct msg *b)
{
    const struct envelope *x = &a->env, *y = &b->env;
    const struct { struct span a, b; } s[] = {
        { x->sender, y->sender }, { x->envid, y->envid }, { x->client_name, y->client_name }, { x->client_addr, y->client_addr },
        { x->client_port, y->client_port }, { x->helo, y->helo }, { x->proto, y->proto }, { x->sasl_user, y->sasl_user },
        { x->sasl_method, y->sasl_method }, { x->message_id, y->message_id }, { x->orig_id, y->orig_id }, { x->filter, y->filter },
    };
    bool same = x->id == y->id && x->arrival_us == y->arrival_us && x->content_bytes == y->content_bytes && x->flags == y->flags &&
                x->content_flags == y->content_flags && x->ret == y->ret && x->rcpt_count == y->rcpt_count && a->is_large == b->is_large;
    for (size_t i = 0; i < sizeof s / sizeof s[0]; i++)
        same = same && span_eq(s[i].a, s[i].b);
    for (uint32_t i = 0; same && i < x->rcpt_count; i++)
        same = x->rcpts[i].notify == y->rcpts[i].notify && span_eq(x->rcpts[i].addr, y->rcpts[i].addr) &&
               span_eq(x->rcpts[i].orig, y->rcpts[i].orig) && span_eq(x->rcpts[i].orcpt, y->rcpts[i].orcpt);
    return same;
}

/* The metadata without its padding: what comes behind the last string begins there. */
static size_t real_length(const struct msg *m)
{
    const struct envelope *e = &m->env;
    const struct span s[] = { e->sender, e->envid, e->client_name, e->client_addr, e->client_port, e->helo, e->proto, e->sasl_user,
                              e->sasl_method, e->message_id, e->orig_id, e->filter };
    size_t n = 64;
    for (size_t i = 0; i < sizeof s / sizeof s[0]; i++)
        n += 4 + s[i].n;
    for (uint32_t i = 0; i < e->rcpt_count; i++)
        n += 13 + e->rcpts[i].addr.n + e->rcpts[i].orig.n + e->rcpts[i].orcpt.n;
    return n;
}

/* Strings that a newer program writes behind those that are known, whatever they are, change nothing of what is read. */
static void decode_newer(struct msg *m, uint32_t content, struct span tail)
{
    struct buf meta = BUF_INIT(1 << 20);
    uint32_t bytes;
    if (m->env.filter.n == 0)
        m->env.filter = SPAN_LIT("smtp:[127.0.0.1]:10025");
    char *rec = record_message(m, content, &bytes);
    size_t n = real_length(m);
    assert(FRAME_HEADER_BYTES + n <= bytes && bytes - FRAME_HEADER_BYTES - n < FRAME_ALIGN);
    buf_add(&meta, rec + FRAME_HEADER_BYTES, n);
    buf_add_span(&meta, tail);
    if (buf_ok(&meta)) {
        struct frame f = { .meta_bytes = (uint32_t)meta.n, .content_bytes = content, .kind = REC_MESSAGE };
        struct msg *again = record_message_decode(&f, buf_span(&meta));
        assert(again != NULL && is_same(m, again));
        msg_unref(&again);
    }
    buf_free(&meta);
    free(rec);
}

static void decode(uint8_t kind, struct span meta, uint32_t content)
{
    struct frame f = { .meta_bytes = (uint32_t)meta.n, .content_bytes = content, .kind = kind };
    struct spool_result r;
    struct record_admin a;
    struct journal_pos pos;
    uint64_t id;
    uint32_t rcpts;
    switch (kind) {
    case REC_MESSAGE: {
        struct msg *m = record_message_decode(&f, meta);
        if (m != NULL) { /* what was decoded must encode and decode to the same */
            uint32_t bytes;
            char *rec = record_message(m, content, &bytes);
            struct frame g = { .meta_bytes = bytes - FRAME_HEADER_BYTES, .content_bytes = content, .kind = kind };
            struct msg *again = record_message_decode(&g, span_of(rec + FRAME_HEADER_BYTES, g.meta_bytes));
            assert(again != NULL && is_same(m, again));
            msg_unref(&again);
            free(rec);
            decode_newer(m, content, span_of(meta.p, meta.n < 40 ? meta.n : 40));
        }
        msg_unref(&m);
        if (record_message_peek(meta, &id, &rcpts, &pos) && meta.n >= 64) {
            char *copy = xmalloc(meta.n);
            memcpy(copy, meta.p, meta.n);
            record_message_set_moved(copy, pos);
            assert(memcmp(copy, meta.p, meta.n) == 0);
            free(copy);
        }
        break;
    }
    case REC_ADMIN:
        if (record_admin_decode(meta, &a) && a.detail.n > 0)
            assert(a.detail.p >= meta.p && a.detail.p + a.detail.n <= meta.p + meta.n);
        break;
    case REC_RESULT:
        if (record_result_decode(meta, &r)) {
            struct buf b = BUF_INIT(1 << 20);
            struct spool_result again;
            assert(r.reason.n == 0 || (r.reason.p >= meta.p && r.reason.p + r.reason.n <= meta.p + meta.n));
            record_result(&b, &r);
            assert(record_result_decode(span_from(buf_span(&b), FRAME_HEADER_BYTES), &again) && again.id == r.id && again.due_us == r.due_us &&
                   again.when_us == r.when_us && again.rcpt == r.rcpt && again.outcome == r.outcome && again.attempts == r.attempts &&
                   span_eq(again.dsn, r.dsn) && span_eq(again.mta, r.mta) && span_eq(again.reason, r.reason));
            buf_free(&b);
        }
        break;
    default:
        if (!record_note_decode(meta, &pos))
            assert(meta.n < 16);
    }
}

/* The input is a row of pieces: 1 byte what, 1 byte length (times 8), bytes. Returns how many valid frames were put in. */
static unsigned build(struct buf *b, const uint8_t *p, size_t n)
{
    unsigned frames = 0;
    while (n >= 2) {
        uint8_t what = p[0];
        size_t take = (size_t)p[1] * 8;
        p += 2;
        n -= 2;
        if (take > n)
            take = n & ~(size_t)7;
        if (what < 128) {
            buf_add(b, p, take);
        } else if (buf_reserve(b, FRAME_HEADER_BYTES + take)) {
            struct frame f = { .meta_bytes = (uint32_t)take, .kind = (uint8_t)(1 + what % 4), .generation = GENERATION };
            char *at = b->p + b->n;
            memcpy(at + FRAME_HEADER_BYTES, p, take);
            frame_seal(at, &f, crc32c(0, p, take), SALT);
            b->n += FRAME_HEADER_BYTES + take;
            frames++;
        }
        p += take;
        n -= take;
    }
    return frames;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    decode((uint8_t)(1 + p[0] % 4), span_of((const char *)p + 2, n - 2), p[1]);

    struct buf b = BUF_INIT(1 << 20);
    unsigned frames = build(&b, p, n), found = 0;
    struct frame_scan sc = { .p = b.p, .n = b.n, .generation = GENERATION, .salt = SALT };
    struct frame f;
    uint64_t off, last = 0;
    for (enum scan_status st; (st = frame_scan_next(&sc, &f, &off)) != SCAN_END;) {
        assert(off >= last && sc.off > off && sc.off <= sc.n);
        last = sc.off;
        if (st == SCAN_FRAME) {
            assert(off + frame_bytes(&f) == sc.off);
            decode(f.kind, frame_meta(&sc, off, &f), f.content_bytes);
            found++;
        }
    }
    assert(found >= frames); /* whatever lies between them, none is missed */
    buf_free(&b);
    return 0;
}
