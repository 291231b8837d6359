/*
 * Metadata of a message, integers big-endian; a string is 4 bytes of length and its bytes:
 *
 *    0  8  id                          40  4  flags (ENV_*)
 *    8  8  arrival, microseconds       44  4  content flags (CONTENT_*)
 *   16  8  moved from: segment         48  4  CRC-32C of a large content
 *   24  8  moved from: offset          52  1  RET   53  1  1: content is in large/   54  2  zero
 *   32  8  bytes of content            56  4  recipients   60  4  zero
 *   64  -  strings: sender, envid, client name, address, port, helo, protocol, SASL user, SASL method, message-id
 *       -  per recipient: 1 byte NOTIFY, strings: address, original address, ORCPT
 *       -  strings, of which the last ones may be missing: original queue ID, content filter
 *       -  zeros
 *
 * A reader takes what it knows and ignores what follows; a change that this cannot carry gets a new record kind.
 */
#include <assert.h>

#include "common/base/crc32c.h"
#include "common/base/mem.h"
#include "queue/record.h"

#define MESSAGE_FIXED 64u
#define MOVED_FROM_AT 16u
#define RCPT_MIN 13u

static void put_u32(char *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}

static void put_u64(char *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, 8);
}

static uint32_t get_u32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}

static uint64_t get_u64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "put_u32 and its kin swap bytes");

static char *put_str(char *p, struct span s)
{
    put_u32(p, (uint32_t)s.n);
    if (s.n > 0)
        memcpy(p + 4, s.p, s.n);
    return p + 4 + s.n;
}

/* A cursor that remembers having run out. */
struct in {
    const char *p;
    size_t n;
    bool bad;
};

static const char *in_take(struct in *i, size_t n)
{
    static const char zeros[8];
    if (i->bad || n > i->n) {
        i->bad = true;
        return zeros;
    }
    const char *p = i->p;
    i->p += n;
    i->n -= n;
    return p;
}

static uint8_t in_u8(struct in *i) { return (uint8_t)*in_take(i, 1); }
static uint32_t in_u32(struct in *i) { return get_u32(in_take(i, 4)); }
static uint64_t in_u64(struct in *i) { return get_u64(in_take(i, 8)); }

static struct span in_str(struct in *i)
{
    uint32_t n = in_u32(i);
    const char *p = in_take(i, n);
    return i->bad ? span_of(NULL, 0) : span_of(p, n);
}

/* ---- frame ---- */

static uint32_t frame_crc(uint32_t meta_crc, const char head[28], uint64_t salt)
{
    char s[8];
    put_u64(s, salt);
    return crc32c(crc32c(meta_crc, head, 28), s, sizeof s);
}

void frame_seal(char out[FRAME_HEADER_BYTES], const struct frame *f, uint32_t meta_crc, uint64_t salt)
{
    frame_mark(out, salt);
    put_u32(out + 4, f->meta_bytes);
    put_u32(out + 8, f->content_bytes);
    out[12] = (char)f->kind;
    out[13] = (char)f->flags;
    out[14] = out[15] = 0;
    put_u64(out + 16, f->generation);
    put_u32(out + 24, f->content_crc);
    put_u32(out + 28, frame_crc(meta_crc, out, salt));
}

void frame_mark(char out[4], uint64_t salt)
{
    put_u32(out, FRAME_MAGIC ^ (uint32_t)(salt >> 32));
}

bool frame_parse(const char in[FRAME_HEADER_BYTES], uint64_t salt, struct frame *f)
{
    if (get_u32(in) != (FRAME_MAGIC ^ (uint32_t)(salt >> 32)) || in[14] != 0 || in[15] != 0)
        return false;
    *f = (struct frame){
        .meta_bytes = get_u32(in + 4),
        .content_bytes = get_u32(in + 8),
        .kind = (uint8_t)in[12],
        .flags = (uint8_t)in[13],
        .generation = get_u64(in + 16),
        .content_crc = get_u32(in + 24),
        .crc = get_u32(in + 28),
    };
    return f->kind >= REC_MESSAGE && f->kind <= REC_NOTE && frame_bytes(f) % FRAME_ALIGN == 0 &&
           (f->content_bytes == 0 || f->kind == REC_MESSAGE);
}

bool frame_meta_is_valid(const char *in, const struct frame *f, uint64_t salt)
{
    return frame_crc(crc32c(0, in + FRAME_HEADER_BYTES, f->meta_bytes), in, salt) == f->crc;
}

static size_t padded(size_t meta, size_t content)
{
    return meta + (FRAME_ALIGN - (meta + content) % FRAME_ALIGN) % FRAME_ALIGN;
}

/* Room for header and n bytes of metadata, its padding zeroed. */
static char *record_room(size_t n, size_t content, uint32_t *bytes)
{
    size_t all = padded(n, content);
    char *p = xmalloc(FRAME_HEADER_BYTES + all);
    memset(p + FRAME_HEADER_BYTES + n, 0, all - n);
    *bytes = (uint32_t)(FRAME_HEADER_BYTES + all);
    return p;
}

/* ---- message ---- */

/* How many of the strings behind the recipients are written: those up to the last that is not empty. */
static unsigned more_strings(const struct envelope *e)
{
    return e->filter.n > 0 ? 2 : e->orig_id.n > 0 ? 1 : 0;
}

char *record_message(const struct msg *m, uint32_t content_bytes, uint32_t *bytes)
{
    const struct envelope *e = &m->env;
    const struct span s[] = { e->sender, e->envid, e->client_name, e->client_addr, e->client_port,
                              e->helo, e->proto, e->sasl_user, e->sasl_method, e->message_id };
    size_t n = MESSAGE_FIXED;
    for (size_t i = 0; i < ARRAY_LEN(s); i++)
        n += 4 + s[i].n;
    n += more_strings(e) > 0 ? 4 + e->orig_id.n : 0;
    n += more_strings(e) > 1 ? 4 + e->filter.n : 0;
    for (uint32_t i = 0; i < e->rcpt_count; i++)
        n += RCPT_MIN + e->rcpts[i].addr.n + e->rcpts[i].orig.n + e->rcpts[i].orcpt.n;
    char *rec = record_room(n, content_bytes, bytes), *p = rec + FRAME_HEADER_BYTES;
    memset(p, 0, MESSAGE_FIXED);
    put_u64(p, e->id);
    put_u64(p + 8, (uint64_t)e->arrival_us);
    put_u64(p + 32, e->content_bytes);
    put_u32(p + 40, e->flags);
    put_u32(p + 44, e->content_flags);
    put_u32(p + 48, m->is_large ? m->content_crc : 0);
    p[52] = (char)e->ret;
    p[53] = m->is_large;
    put_u32(p + 56, e->rcpt_count);
    p += MESSAGE_FIXED;
    for (size_t i = 0; i < ARRAY_LEN(s); i++)
        p = put_str(p, s[i]);
    for (uint32_t i = 0; i < e->rcpt_count; i++) {
        *p++ = (char)e->rcpts[i].notify;
        p = put_str(p, e->rcpts[i].addr);
        p = put_str(p, e->rcpts[i].orig);
        p = put_str(p, e->rcpts[i].orcpt);
    }
    if (more_strings(e) > 0)
        p = put_str(p, e->orig_id);
    if (more_strings(e) > 1)
        put_str(p, e->filter);
    return rec;
}

static void decode_fixed(struct msg *m, const char *p)
{
    struct envelope *e = &m->env;
    e->id = get_u64(p);
    e->arrival_us = (int64_t)get_u64(p + 8);
    e->content_bytes = get_u64(p + 32);
    e->flags = get_u32(p + 40);
    e->content_flags = get_u32(p + 44);
    e->ret = (uint8_t)p[52] <= DSN_RET_HDRS ? (enum dsn_ret)p[52] : DSN_RET_UNSET;
    m->is_large = p[53] != 0;
}

struct msg *record_message_decode(const struct frame *f, struct span meta)
{
    if (f->kind != REC_MESSAGE || meta.n < MESSAGE_FIXED)
        return NULL;
    struct msg *m = msg_new();
    struct envelope *e = &m->env;
    decode_fixed(m, meta.p);
    m->content_crc = m->is_large ? get_u32(meta.p + 48) : f->content_crc;
    m->content_checked = true;
    m->content_offset = FRAME_HEADER_BYTES + f->meta_bytes;
    uint32_t rcpts = get_u32(meta.p + 56);
    struct in in = { .p = arena_strndup(m->arena, meta.p, meta.n) + MESSAGE_FIXED, .n = meta.n - MESSAGE_FIXED };
    struct span *const s[] = { &e->sender, &e->envid, &e->client_name, &e->client_addr, &e->client_port,
                               &e->helo, &e->proto, &e->sasl_user, &e->sasl_method, &e->message_id };
    for (size_t i = 0; i < ARRAY_LEN(s); i++)
        *s[i] = in_str(&in);
    if (rcpts > in.n / RCPT_MIN || (!m->is_large && e->content_bytes != f->content_bytes))
        in.bad = true;
    for (uint32_t i = 0; i < rcpts && !in.bad; i++) {
        struct msg_rcpt *r = msg_add_rcpt(m);
        r->notify = in_u8(&in);
        r->addr = in_str(&in);
        r->orig = in_str(&in);
        r->orcpt = in_str(&in);
    }
    if (!in.bad && in.n > 4) /* not only padding */
        e->orig_id = in_str(&in);
    if (!in.bad && in.n > 4)
        e->filter = in_str(&in);
    if (in.bad)
        msg_unref(&m);
    else
        msg_pack(m);
    return m;
}

bool record_message_peek(struct span meta, uint64_t *id, uint32_t *rcpt_count, struct journal_pos *moved_from)
{
    if (meta.n < MESSAGE_FIXED)
        return false;
    *id = get_u64(meta.p);
    *rcpt_count = get_u32(meta.p + 56);
    moved_from->segment = get_u64(meta.p + MOVED_FROM_AT);
    moved_from->offset = get_u64(meta.p + MOVED_FROM_AT + 8);
    return true;
}

void record_message_set_moved(char *meta, struct journal_pos from)
{
    put_u64(meta + MOVED_FROM_AT, from.segment);
    put_u64(meta + MOVED_FROM_AT + 8, from.offset);
}

/* ---- the small ones ---- */

/* 8 id, 8 time, 1 what, 3 zero, string detail */
char *record_admin(const struct record_admin *a, uint32_t *bytes)
{
    char *rec = record_room(20 + 4 + a->detail.n, 0, bytes), *p = rec + FRAME_HEADER_BYTES;
    put_u64(p, a->id);
    put_u64(p + 8, (uint64_t)a->when_us);
    memset(p + 16, 0, 4);
    p[16] = (char)a->what;
    put_str(p + 20, a->detail);
    return rec;
}

bool record_admin_decode(struct span meta, struct record_admin *a)
{
    struct in in = { meta.p, meta.n, false };
    a->id = in_u64(&in);
    a->when_us = (int64_t)in_u64(&in);
    a->what = in_u8(&in);
    in_take(&in, 3);
    a->detail = in_str(&in);
    return !in.bad;
}

/* 8 id, 8 time, 8 due, 4 recipient, 1 outcome, 1 zero, 2 attempts, strings dsn, mta, reason */
void record_result(struct buf *b, const struct spool_result *r)
{
    size_t n = 32 + 12 + r->dsn.n + r->mta.n + r->reason.n, all = padded(n, 0);
    if (!buf_reserve(b, FRAME_HEADER_BYTES + all))
        return;
    char *p = b->p + b->n + FRAME_HEADER_BYTES;
    memset(p + n, 0, all - n);
    put_u64(p, r->id);
    put_u64(p + 8, (uint64_t)r->when_us);
    put_u64(p + 16, (uint64_t)r->due_us);
    put_u32(p + 24, r->rcpt);
    put_u32(p + 28, (uint32_t)r->outcome << 24 | r->attempts);
    put_str(put_str(put_str(p + 32, r->dsn), r->mta), r->reason);
    b->n += FRAME_HEADER_BYTES + all;
}

bool record_result_decode(struct span meta, struct spool_result *r)
{
    struct in in = { meta.p, meta.n, false };
    r->id = in_u64(&in);
    r->when_us = (int64_t)in_u64(&in);
    r->due_us = (int64_t)in_u64(&in);
    r->rcpt = in_u32(&in);
    uint32_t outcome = in_u32(&in);
    r->attempts = (uint16_t)outcome;
    outcome >>= 24;
    r->dsn = in_str(&in);
    r->mta = in_str(&in);
    r->reason = in_str(&in);
    r->outcome = (enum outcome)outcome;
    return !in.bad && outcome <= OUTCOME_EXPIRED;
}

char *record_note(struct journal_pos valid_end, uint32_t *bytes)
{
    char *rec = record_room(16, 0, bytes);
    put_u64(rec + FRAME_HEADER_BYTES, valid_end.segment);
    put_u64(rec + FRAME_HEADER_BYTES + 8, valid_end.offset);
    return rec;
}

bool record_note_decode(struct span meta, struct journal_pos *valid_end)
{
    struct in in = { meta.p, meta.n, false };
    valid_end->segment = in_u64(&in);
    valid_end->offset = in_u64(&in);
    return !in.bad;
}
