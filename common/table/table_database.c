/*
 * lmdb (little-endian, offsets in bytes). A file is pages of one size. Every page begins with
 *     0  number of the page (8)    8  pad (2)    10  flags (2): 1 branch, 2 leaf, 4 overflow, 8 meta
 *    12  end of the offsets (2)   14  begin of the nodes (2); on an overflow page 12 is its count of pages (4)
 *    16  offsets of the nodes in the page (2 each)
 * Pages 0 and 1 are meta: at 16 magic (4), 20 version (4), 24 address (8), 32 map size (8), then two databases of 48 bytes
 * at 40 and 88, at 136 the last page (8), at 144 the transaction (8). The meta with the higher transaction counts. A database:
 *     0  pad (4; in the first one the page size)   4  flags (2)   6  depth (2)   8  counts of pages (3 x 8)   32  rows (8)
 *    40  root page (8), all ones when empty
 * A node: 0 low (2), 2 high (2), 4 flags (2), 6 key length (2), 8 key, then in a leaf the value. Leaf: low and high are the
 * value's length; with flag 1 the value is the number (8) of an overflow page that has it. Branch: low, high and flags are
 * the child's number.
 *
 * cdb: 256 pairs (position, slots) of 4 bytes each, then records (key length, value length, key, value) up to the first
 * hash table, which is where the smallest position points.
 */
#include <endian.h>
#include <stdint.h>

#include "common/table/table_database.h"

#define LMDB_MAGIC    UINT32_C(0xBEEFC0DE)
#define LMDB_VERSION  1
#define LMDB_HEADER   16
#define LMDB_META     152   /* bytes of a meta page that matter */
#define LMDB_BRANCH   1
#define LMDB_LEAF     2
#define LMDB_OVERFLOW 4
#define LMDB_BIGDATA  1
#define LMDB_DUPS     6     /* node flags of tables in tables and of several values for a key */
#define LMDB_DEPTH    32
#define LMDB_NO_PAGE  UINT64_MAX
#define CDB_HEAD      2048

static uint16_t u16(const char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return le16toh(v);
}

static uint32_t u32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static uint64_t u64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

static struct span without_nul(struct span s)
{
    if (s.n > 0 && s.p[s.n - 1] == '\0')
        s.n--;
    return s;
}

struct lmdb {
    struct span file;
    uint32_t page_bytes;
    uint64_t pages;         /* in the file */
    uint64_t visits;        /* pages that may still be looked at: damaged trees have circles */
    table_database_row_fn *fn;
    void *arg;
    bool is_done;           /* fn wants no more */
    struct err *e;
};

static bool damaged(struct lmdb *d, uint64_t page, const char *what)
{
    err_set(d->e, "damaged database: page %llu: %s", (unsigned long long)page, what);
    return false;
}

static const char *page_at(struct lmdb *d, uint64_t number)
{
    if (number >= d->pages || d->visits == 0)
        return NULL;
    d->visits--;
    return d->file.p + number * d->page_bytes;
}

static bool overflow_value(struct lmdb *d, uint64_t number, size_t n, struct span *out)
{
    const char *p = page_at(d, number);
    if (p == NULL || !(u16(p + 10) & LMDB_OVERFLOW))
        return false;
    if (d->file.n - (size_t)(p - d->file.p) < LMDB_HEADER + n)
        return false;
    *out = span_of(p + LMDB_HEADER, n);
    return true;
}

static bool leaf_node(struct lmdb *d, uint64_t number, const char *node, size_t room)
{
    size_t key_n = u16(node + 6), value_n = u16(node) | (size_t)u16(node + 2) << 16;
    unsigned flags = u16(node + 4);
    struct span value;
    if (flags & LMDB_DUPS)
        return damaged(d, number, "a table of another kind: several values for one key");
    if (room < 8 + key_n)
        return damaged(d, number, "a key beyond its page");
    const char *data = node + 8 + key_n;
    size_t left = room - 8 - key_n;
    if (!(flags & LMDB_BIGDATA)) {
        if (left < value_n)
            return damaged(d, number, "a value beyond its page");
        value = span_of(data, value_n);
    } else if (left < 8 || !overflow_value(d, u64(data), value_n, &value)) {
        return damaged(d, number, "a long value that is not there");
    }
    d->is_done = !d->fn(d->arg, without_nul(span_of(node + 8, key_n)), without_nul(value));
    return true;
}

static bool walk(struct lmdb *d, uint64_t number, int depth)
{
    const char *page = page_at(d, number);
    if (page == NULL || depth > LMDB_DEPTH)
        return damaged(d, number, "not in the file (cut off?)");
    unsigned flags = u16(page + 10);
    size_t end = u16(page + 12);
    if (!(flags & (LMDB_BRANCH | LMDB_LEAF)) || end < LMDB_HEADER || end > d->page_bytes)
        return damaged(d, number, "neither branch nor leaf");
    for (size_t at = LMDB_HEADER; at + 2 <= end && !d->is_done; at += 2) {
        size_t from = u16(page + at);
        if (from < end || from + 8 > d->page_bytes)
            return damaged(d, number, "a row beyond its page");
        const char *node = page + from;
        if (flags & LMDB_LEAF) {
            if (!leaf_node(d, number, node, d->page_bytes - from))
                return false;
        } else {
            uint64_t child = u16(node) | (uint64_t)u16(node + 2) << 16 | (uint64_t)u16(node + 4) << 32;
            if (!walk(d, child, depth + 1))
                return false;
        }
    }
    return true;
}

static bool is_meta(const char *p)
{
    return u32(p + 16) == LMDB_MAGIC && u32(p + 20) == LMDB_VERSION;
}

bool table_database_lmdb(struct span file, table_database_row_fn *fn, void *arg, struct err *e)
{
    struct lmdb d = { .file = file, .fn = fn, .arg = arg, .e = e };
    if (file.n < LMDB_META || !is_meta(file.p)) {
        err_set(e, "not a database of type lmdb");
        return false;
    }
    d.page_bytes = u32(file.p + 40);
    if (d.page_bytes < 256 || d.page_bytes > 65536 || (d.page_bytes & (d.page_bytes - 1)) != 0
        || file.n < (size_t)d.page_bytes + LMDB_META) {
        err_set(e, "damaged database: cut off, or its page size is wrong");
        return false;
    }
    d.pages = d.visits = file.n / d.page_bytes;
    const char *meta = file.p, *other = file.p + d.page_bytes;
    if (is_meta(other) && u64(other + 144) > u64(meta + 144))
        meta = other;
    uint64_t root = u64(meta + 88 + 40);
    return root == LMDB_NO_PAGE || walk(&d, root, 1);
}

bool table_database_cdb(struct span file, table_database_row_fn *fn, void *arg, struct err *e)
{
    if (file.n < CDB_HEAD) {
        err_set(e, "not a database of type cdb");
        return false;
    }
    size_t end = file.n;
    for (size_t i = 0; i < 256; i++) {
        size_t at = u32(file.p + i * 8), slots = u32(file.p + i * 8 + 4);
        if (at < CDB_HEAD || at > file.n || slots > (file.n - at) / 8) {
            err_set(e, "not a database of type cdb, or cut off");
            return false;
        }
        end = at < end ? at : end;
    }
    for (size_t at = CDB_HEAD; at < end;) {
        if (end - at < 8 || end - at - 8 < (size_t)u32(file.p + at) + u32(file.p + at + 4)) {
            err_set(e, "damaged database: a row at byte %zu goes beyond its end", at);
            return false;
        }
        size_t key_n = u32(file.p + at), value_n = u32(file.p + at + 4);
        const char *key = file.p + at + 8;
        if (!fn(arg, without_nul(span_of(key, key_n)), without_nul(span_of(key + key_n, value_n))))
            return true;
        at += 8 + key_n + value_n;
    }
    return true;
}
