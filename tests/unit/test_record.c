/* the records of journal and result log: what is encoded comes back, what is damaged does not */
#include "tests/unit/unit.h"

#include "common/base/mem.h"
#include "common/base/attrs.h"
#include "common/base/crc32c.h"
#include "queue/logfile.h"
#include "queue/record.h"

#define SALT UINT64_C(0x1122334455667788)
#define GENERATION 7

static struct msg *sample(uint32_t rcpts)
{
    struct msg *m = msg_new();
    struct envelope *e = &m->env;
    e->id = UINT64_C(1700000000123456);
    e->arrival_us = -5;
    e->sender = SPAN_LIT("a@example.com");
    e->flags = ENV_SMTPUTF8 | ENV_HOLD;
    e->content_flags = CONTENT_HAS_8BIT;
    e->ret = DSN_RET_HDRS;
    e->envid = SPAN_LIT("e\0id");
    e->client_addr = SPAN_LIT("192.0.2.1");
    e->message_id = SPAN_LIT("<x@y>");
    for (uint32_t i = 0; i < rcpts; i++) {
        struct msg_rcpt *r = msg_add_rcpt(m);
        char text[32];
        int n = snprintf(text, sizeof text, "r%u@example.net", i);
        r->addr = arena_dup_span(m->arena, span_of(text, (size_t)n));
        r->notify = (uint8_t)(i % 16);
        r->orcpt = i % 2 ? SPAN_LIT("rfc822;z@z") : span_of(NULL, 0);
    }
    m->content = strdup("hello\r\n");
    e->content_bytes = 7;
    m->content_crc = crc32c(0, m->content, 7);
    m->content_checked = true;
    return m;
}

/* A whole frame in fresh memory. */
static char *whole(const struct msg *m, size_t *n)
{
    uint32_t bytes;
    char *rec = record_message(m, (uint32_t)m->env.content_bytes, &bytes);
    struct frame f = { .meta_bytes = bytes - FRAME_HEADER_BYTES, .content_bytes = (uint32_t)m->env.content_bytes,
                       .kind = REC_MESSAGE, .generation = GENERATION, .content_crc = m->content_crc };
    frame_seal(rec, &f, crc32c(0, rec + FRAME_HEADER_BYTES, f.meta_bytes), SALT);
    rec = realloc(rec, bytes + m->env.content_bytes);
    memcpy(rec + bytes, m->content, m->env.content_bytes);
    *n = bytes + m->env.content_bytes;
    assert_int_equal(*n % FRAME_ALIGN, 0);
    return rec;
}

static struct frame_scan scan_of(const char *p, size_t n)
{
    return (struct frame_scan){ .p = p, .n = n, .generation = GENERATION, .salt = SALT };
}

static bool same_rcpt(const struct msg_rcpt *a, const struct msg_rcpt *b)
{
    return span_eq(a->addr, b->addr) && span_eq(a->orig, b->orig) && span_eq(a->orcpt, b->orcpt) && a->notify == b->notify &&
           span_eq(a->route.transport, b->route.transport) && span_eq(a->route.nexthop, b->route.nexthop) &&
           a->attempts == b->attempts && a->state == b->state && span_eq(a->last_reason, b->last_reason);
}

/* The old arena is freed: the sanitizer sees a span that still points there. */
static void packing_keeps_everything(void **state)
{
    (void)state;
    static const uint32_t counts[] = { 0, 1, 5 };
    for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
        struct msg *m = sample(counts[c]), *want = sample(counts[c]);
        for (uint32_t i = 0; i < counts[c]; i++) {
            struct msg *both[] = { m, want };
            for (size_t k = 0; k < ARRAY_LEN(both); k++) {
                struct msg_rcpt *r = &both[k]->env.rcpts[i];
                r->orig = i == 1 ? SPAN_LIT("other@example.net") : r->addr;
                r->route.transport = arena_dup_span(both[k]->arena, SPAN_LIT("smtp"));
                r->route.nexthop = arena_dup_span(both[k]->arena, i < 3 ? SPAN_LIT("a.example") : SPAN_LIT("b.example"));
                r->attempts = (uint16_t)i;
                r->state = i == 2 ? RCPT_DONE : RCPT_TODO;
                if (i == 4)
                    r->last_reason = arena_dup_span(both[k]->arena, SPAN_LIT("no"));
            }
        }
        msg_pack(m);
        assert_true(span_eq(m->env.sender, want->env.sender));
        assert_true(span_eq(m->env.envid, want->env.envid));
        assert_true(span_eq(m->env.client_addr, want->env.client_addr));
        assert_true(span_eq(m->env.message_id, want->env.message_id));
        assert_int_equal(m->env.rcpt_count, counts[c]);
        for (uint32_t i = 0; i < counts[c]; i++)
            assert_true(same_rcpt(&m->env.rcpts[i], &want->env.rcpts[i]));
        assert_true(arena_bytes(m->arena) <= 256 + counts[c] * 256);
        msg_unref(&m);
        msg_unref(&want);
    }
}

static void message_comes_back(void **state)
{
    (void)state;
    for (uint32_t rcpts = 0; rcpts < 40; rcpts += 3) {
        struct msg *m = sample(rcpts);
        size_t n;
        uint64_t off;
        char *p = whole(m, &n);
        struct frame_scan sc = scan_of(p, n);
        struct frame f;
        assert_int_equal(frame_scan_next(&sc, &f, &off), SCAN_FRAME);
        struct msg *b = record_message_decode(&f, frame_meta(&sc, off, &f));
        assert_non_null(b);
        assert_true(b->env.id == m->env.id && b->env.arrival_us == -5 && b->env.flags == m->env.flags);
        assert_true(b->env.content_flags == CONTENT_HAS_8BIT && b->env.ret == DSN_RET_HDRS);
        assert_true(span_eq(b->env.sender, m->env.sender) && span_eq(b->env.envid, m->env.envid));
        assert_true(span_eq(b->env.client_addr, m->env.client_addr) && span_eq(b->env.message_id, m->env.message_id));
        assert_true(b->env.rcpt_count == rcpts && b->content_offset == n - 7);
        for (uint32_t i = 0; i < rcpts; i++) {
            assert_true(span_eq(b->env.rcpts[i].addr, m->env.rcpts[i].addr));
            assert_true(span_eq(b->env.rcpts[i].orcpt, m->env.rcpts[i].orcpt));
            assert_int_equal(b->env.rcpts[i].notify, i % 16);
        }
        assert_int_equal(frame_scan_next(&sc, &f, &off), SCAN_END);
        msg_unref(&b);
        msg_unref(&m);
        free(p);
    }
}

static void every_changed_bit_is_noticed(void **state)
{
    (void)state;
    struct msg *m = sample(2);
    size_t n;
    char *p = whole(m, &n);
    for (size_t bit = 0; bit < n * 8; bit++) {
        struct frame f;
        uint64_t off;
        p[bit / 8] ^= (char)(1 << bit % 8);
        struct frame_scan sc = scan_of(p, n);
        if (frame_scan_next(&sc, &f, &off) == SCAN_FRAME)
            fail_msg("bit %zu changed and nobody noticed", bit);
        p[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(p);
    msg_unref(&m);
}

static void every_cut_is_torn(void **state)
{
    (void)state;
    struct msg *m = sample(2);
    size_t n;
    char *p = whole(m, &n);
    for (size_t cut = 0; cut < n; cut++) {
        char *part = malloc(cut ? cut : 1); /* so that ASan sees a read beyond */
        memcpy(part, p, cut);
        struct frame_scan sc = scan_of(part, cut);
        struct frame f;
        uint64_t off;
        enum scan_status st = frame_scan_next(&sc, &f, &off);
        if (st != (cut < FRAME_HEADER_BYTES ? SCAN_END : SCAN_TORN))
            fail_msg("cut at %zu: %d", cut, st);
        free(part);
    }
    free(p);
    msg_unref(&m);
}

/* Behind what is no frame the next one is found, whatever of marks lies between: at odd places, cut, or at right ones. */
static void next_frame_is_found_behind_damage(void **state)
{
    (void)state;
    static const struct { size_t gap, mark_at[3]; bool begins; } cases[] = {
        { 8, { 0 }, false }, { 4096, { 0 }, false }, { 4096, { 1, 9, 4091 }, false }, { 4096, { 8, 16, 4088 }, false },
        { 4096, { 13, 4095, 4094 }, false }, { 64, { 0 }, true },
    };
    struct msg *m = sample(2);
    size_t n;
    char *frame = whole(m, &n), mark[4];
    frame_mark(mark, SALT);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t gap = cases[i].gap, bytes = gap + n + 100;
        char *p = xcalloc(1, bytes);
        memcpy(p, frame, n < gap ? n : gap); /* begins as one, and has other bytes behind */
        if (!cases[i].begins)
            memset(p, 0, gap);
        for (size_t k = 0; k < ARRAY_LEN(cases[i].mark_at); k++)
            if (cases[i].mark_at[k] != 0)
                memcpy(p + cases[i].mark_at[k], mark, sizeof mark);
        memcpy(p + gap, frame, n);
        struct frame_scan sc = scan_of(p, bytes);
        struct frame f;
        uint64_t off;
        assert_int_equal(frame_scan_next(&sc, &f, &off), SCAN_GAP);
        assert_true(off == 0 && sc.off == gap);
        assert_int_equal(frame_scan_next(&sc, &f, &off), SCAN_FRAME);
        assert_int_equal(off, gap);
        assert_int_equal(frame_scan_next(&sc, &f, &off), SCAN_END);
        p[gap + n - 1] ^= 1; /* now none is whole */
        sc = scan_of(p, bytes);
        assert_int_equal(frame_scan_next(&sc, &f, &off), SCAN_TORN);
        free(p);
    }
    free(frame);
    msg_unref(&m);
}

static void other_lives_of_the_file_are_not_read(void **state)
{
    (void)state;
    struct msg *m = sample(1);
    size_t n;
    uint64_t off;
    struct frame f;
    char *p = whole(m, &n);
    struct frame_scan older = { .p = p, .n = n, .generation = GENERATION + 1, .salt = SALT };
    assert_int_equal(frame_scan_next(&older, &f, &off), SCAN_END);
    struct frame_scan low = { .p = p, .n = n, .generation = GENERATION, .salt = SALT ^ 1 };
    assert_int_equal(frame_scan_next(&low, &f, &off), SCAN_TORN); /* same mark, other checksum */
    struct frame_scan high = { .p = p, .n = n, .generation = GENERATION, .salt = SALT ^ UINT64_C(1) << 40 };
    assert_int_equal(frame_scan_next(&high, &f, &off), SCAN_END);
    free(p);
    msg_unref(&m);
}

static void damage_in_the_middle_is_stepped_over(void **state)
{
    (void)state;
    struct msg *m = sample(1);
    size_t n;
    char *one = whole(m, &n), *three = malloc(3 * n);
    for (int i = 0; i < 3; i++)
        memcpy(three + (size_t)i * n, one, n);
    three[n + 50] ^= 1;
    struct frame_scan sc = scan_of(three, 3 * n);
    struct frame f;
    uint64_t off;
    assert_int_equal(frame_scan_next(&sc, &f, &off), SCAN_FRAME);
    assert_int_equal(frame_scan_next(&sc, &f, &off), SCAN_GAP);
    assert_true(off == n && sc.off == 2 * n);
    assert_int_equal(frame_scan_next(&sc, &f, &off), SCAN_FRAME);
    assert_true(off == 2 * n);
    assert_int_equal(frame_scan_next(&sc, &f, &off), SCAN_END);
    free(one);
    free(three);
    msg_unref(&m);
}

static void small_records_come_back(void **state)
{
    (void)state;
    struct spool_result in = { .id = 9, .rcpt = 3, .outcome = OUTCOME_BOUNCED, .when_us = 5, .due_us = -1,
                               .dsn = SPAN_LIT("5.1.1"), .mta = SPAN_LIT(""), .reason = SPAN_LIT("no such user") }, out;
    struct buf b = BUF_INIT(0);
    record_result(&b, &in);
    struct span meta = span_from(buf_span(&b), FRAME_HEADER_BYTES);
    assert_int_equal(b.n % FRAME_ALIGN, 0);
    assert_true(record_result_decode(meta, &out));
    assert_true(out.id == 9 && out.rcpt == 3 && out.outcome == OUTCOME_BOUNCED && out.when_us == 5 && out.due_us == -1);
    assert_true(span_eq(out.dsn, in.dsn) && span_eq(out.reason, in.reason) && out.mta.n == 0);
    for (size_t n = 0; n < 32 + 12 + 5 + 12; n++)
        assert_false(record_result_decode(span_of(meta.p, n), &out));
    buf_free(&b);

    struct record_admin a = { .what = ADMIN_HOLD, .id = 77, .when_us = 1, .detail = SPAN_LIT("why") }, a2;
    uint32_t bytes;
    char *rec = record_admin(&a, &bytes);
    assert_true(record_admin_decode(span_of(rec + FRAME_HEADER_BYTES, bytes - FRAME_HEADER_BYTES), &a2));
    assert_true(a2.what == ADMIN_HOLD && a2.id == 77 && span_eq(a2.detail, a.detail));
    free(rec);

    struct journal_pos pos = { 5, 4096 }, pos2;
    rec = record_note(pos, &bytes);
    assert_true(record_note_decode(span_of(rec + FRAME_HEADER_BYTES, bytes - FRAME_HEADER_BYTES), &pos2));
    assert_true(pos2.segment == 5 && pos2.offset == 4096);
    free(rec);
}

static void a_count_that_lies_is_refused(void **state)
{
    (void)state;
    struct msg *m = sample(2);
    uint32_t bytes;
    char *rec = record_message(m, 7, &bytes);
    struct frame f = { .meta_bytes = bytes - FRAME_HEADER_BYTES, .content_bytes = 7, .kind = REC_MESSAGE };
    memset(rec + FRAME_HEADER_BYTES + 56, 0x7f, 4); /* recipients */
    struct msg *b = record_message_decode(&f, span_of(rec + FRAME_HEADER_BYTES, f.meta_bytes));
    assert_null(b);
    free(rec);
    msg_unref(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_keeps_everything),
        cmocka_unit_test(message_comes_back),
        cmocka_unit_test(every_changed_bit_is_noticed),
        cmocka_unit_test(every_cut_is_torn),
        cmocka_unit_test(next_frame_is_found_behind_damage),
        cmocka_unit_test(other_lives_of_the_file_are_not_read),
        cmocka_unit_test(damage_in_the_middle_is_stepped_over),
        cmocka_unit_test(small_records_come_back),
        cmocka_unit_test(a_count_that_lies_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
