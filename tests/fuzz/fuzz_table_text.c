/*
 * Text and databases of lookup tables, and what is found in them afterwards. The first byte picks the format; every line's first word is
 * asked for, so that offsets that point nowhere are seen.
 */
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/table/table_config.h"
#include "common/table/table_query.h"
#include "tests/fuzz/fuzz.h"

static void ask_all(const struct table_content *c, struct span text)
{
    struct arena *a = arena_new(0);
    struct span line, word;
    for (int i = 0; i < 50 && span_next_token(&text, "\n", &line); i++) {
        struct span value = { NULL, 0 };
        struct err e = ERR_INIT;
        if (!span_next_token(&line, " \t:", &word))
            continue;
        if (c->ops->find(c, word, a, &value, &e) == LOOKUP_FOUND)
            (void)span_rfind(value, '\0');
        (void)!c->ops->find(c, word, NULL, NULL, &e);
    }
    arena_free(&a);
}

/* The C library's regcomp() takes time and memory without bound for repetitions of repetitions: not ours to find. */
static bool is_costly_regexp(const uint8_t *data, size_t size)
{
    int repeats = 0;
    for (size_t i = 0; i < size; i++)
        repeats += data[i] == '*' || data[i] == '+' || data[i] == '?' || data[i] == '{';
    return data[0] == 'R' && repeats > 6;
}

/* What is listed is found. */
static bool find_row(void *arg, struct span key, struct span value)
{
    const struct table_content *c = arg;
    struct arena *a = arena_new(0);
    struct span found = { NULL, 0 };
    CHECK(c->ops->find(c, key, a, &found, NULL) == LOOKUP_FOUND);
    CHECK(span_eq(found, value));
    arena_free(&a);
    return true;
}

static bool quote(void *arg, struct span part, struct buf *out, struct err *e)
{
    (void)arg;
    (void)e;
    buf_add_span(out, part);
    return true;
}

/* The first line is the query, the second the result format, the others are keys and results. */
static void try_query(const struct table_load *in, struct span text)
{
    struct span query = { NULL, 0 }, format = { NULL, 0 }, key;
    struct err e = ERR_INIT;
    if (!span_next_token(&text, "\n", &query) || !span_next_token(&text, "\n", &format))
        return;
    char *q = xstrndup(query.p, query.n), *f = xstrndup(format.p, format.n);
    struct table_query *t = table_query_new(in, q, f, NULL, &e);
    for (int i = 0; t != NULL && i < 50 && span_next_token(&text, "\n", &key); i++) {
        struct buf out = BUF_INIT(4096);
        if (table_query_admits(t, key, &e) == LOOKUP_FOUND)
            (void)!table_query_expand(t, key, quote, NULL, &out, &e);
        buf_reset(&out);
        (void)table_query_result(t, key, text, &out);
        (void)table_query_result(t, key, key, &out);
        buf_free(&out);
    }
    table_query_free(&t);
    free(q);
    free(f);
}

/* No input may open a database or a table: the database is one that is not there, and there is no list of domains. */
static bool sqlite_load(struct table_load *in, struct table_content **c, struct err *e)
{
    struct buf text = BUF_INIT(0);
    struct span s = buf_span(in->text);
    if (s.n > 0 && (memmem(s.p, s.n, "dbpath", 6) != NULL || memmem(s.p, s.n, "domain", 6) != NULL))
        return false;
    buf_puts(&text, "dbpath = /nonexistent/x\n");
    buf_add_span(&text, buf_span(in->text));
    in->text = &text;
    bool ok = table_sqlite_load(in, c, e);
    buf_free(&text);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > (data[0] == 'L' || data[0] == 'D' ? 65536 : 4096) || is_costly_regexp(data, size))
        return 0;
    struct buf text = BUF_INIT(0);
    struct err e = ERR_INIT;
    struct table_content *c = NULL;
    struct table_registry *registry = table_registry_new(NULL);
    struct table_load in = { .registry = registry, .spec = "fuzz:", .name = SPAN_LIT("fuzz"), .text = &text };
    buf_add(&text, data + 1, size - 1);
    bool ok = false;
    switch (data[0]) {
    case 'A':
        in.flags = TABLE_ALIASES;
        ok = table_text_load(&in, &c, &e);
        break;
    case 'R':
        ok = table_regexp_load(&in, &c, &e);
        break;
    case 'P':
        ok = table_pcre_load(&in, &c, &e);
        break;
    case 'C':
        ok = table_cidr_load(&in, &c, &e);
        break;
    case 'L':
        in.is_database = true;
        ok = table_lmdb_load(&in, &c, &e);
        break;
    case 'D':
        in.is_database = true;
        ok = table_cdb_load(&in, &c, &e);
        break;
    case 'S':
        ok = sqlite_load(&in, &c, &e);
        break;
    case 'Q':
        try_query(&in, span_of((const char *)data + 1, size - 1));
        break;
    case 'b':
        in.flags = TABLE_BYTES;
        ok = table_text_load(&in, &c, &e);
        break;
    default:
        in.strict = data[0] & 1;
        ok = table_text_load(&in, &c, &e);
    }
    if (ok) {
        ask_all(c, span_of((const char *)data + 1, size - 1));
        if (c->ops->each != NULL)
            (void)!c->ops->each(c, find_row, c, &e);
        c->ops->free(c);
    }
    buf_free(&text);
    table_registry_unref(&registry);
    return 0;
}
