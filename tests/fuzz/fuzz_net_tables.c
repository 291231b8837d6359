/*
 * What servers of tables say, and what their questions are made of. The first byte picks:
 *
 *   S T M   an answer of a socketmap, tcp or memcache server
 *   L       an LDAP URL
 *   others  key, query, result format and result (parts ended by the byte 1): whatever the key, only quoted text of it
 *           stands in the query, and taking the quotes off gives the key back
 */
#include "common/base/mem.h"
#include "common/table/net/ldap_text.h"
#include "common/table/net/net_answer.h"
#include "common/table/table_query.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_socketmap(struct span in)
{
    size_t length = 0;
    bool more = true;
    struct span value = { NULL, 0 };
    struct err e = ERR_INIT;
    if (netstring_length(in, 100000, &length, &more))
        CHECK(length <= 100000 && (more || span_find(in, ':') > 0));
    enum net_answer a = socketmap_answer(in, &value, &e);
    CHECK(a != NET_FOUND || value.n == 0 || (value.p >= in.p && value.p + value.n <= in.p + in.n));
    CHECK((a == NET_TEMPORARY || a == NET_GARBAGE) == (e.text[0] != '\0'));
}

static void read_tcp(struct span in)
{
    struct buf value = BUF_INIT(0), line = BUF_INIT(0), again = BUF_INIT(0);
    struct err e = ERR_INIT;
    enum net_answer a = tcp_table_answer(in, &value, &e);
    CHECK(value.n <= in.n && (a == NET_FOUND || value.n == 0));
    tcp_table_encode(in, &line);
    for (size_t i = 0; i < line.n; i++)
        CHECK(line.p[i] > ' ' && line.p[i] < 127);
    struct buf answer = BUF_INIT(0); /* what we encode we can decode */
    buf_puts(&answer, "200 ");
    buf_add_span(&answer, buf_span(&line));
    CHECK(tcp_table_answer(buf_span(&answer), &again, &e) == NET_FOUND && span_eq(buf_span(&again), in));
    buf_free(&value);
    buf_free(&line);
    buf_free(&again);
    buf_free(&answer);
}

static void read_memcache(struct span in)
{
    size_t length = 0;
    struct err e = ERR_INIT;
    struct span key = in;
    ptrdiff_t blank = span_find(in, ' ');
    if (blank > 0)
        key = span_of(in.p, (size_t)blank);
    if (memcache_answer(in, key, 10240, &length, &e) == NET_FOUND)
        CHECK(length <= 10240);
    if (memcache_key_is_good(key))
        CHECK(memchr(key.p, ' ', key.n) == NULL && memchr(key.p, '\n', key.n) == NULL);
}

static void read_url(struct span in)
{
    struct arena *a = arena_new(0);
    struct ldap_url u;
    if (ldap_url_parse(in, a, &u)) {
        CHECK(strlen(u.base) <= in.n && strlen(u.filter) > 0);
        for (const char *const *n = u.attributes; n != NULL && *n != NULL; n++)
            CHECK(strlen(*n) <= in.n);
    }
    arena_free(&a);
}

/* ---- templates ---- */

/* A part of the key stands between two bytes that nothing else has, each quote in it doubled. */
static bool mark_quote(void *arg, struct span part, struct buf *out, struct err *e)
{
    (void)arg;
    (void)e;
    buf_putc(out, '\x02');
    for (size_t i = 0; i < part.n; i++) {
        if (part.p[i] == '\'')
            buf_putc(out, '\'');
        buf_putc(out, part.p[i]);
    }
    buf_putc(out, '\x03');
    return true;
}

/* Outside the marks there is only text of the template. */
static void check_marks(struct span out, struct span key)
{
    bool inside = false;
    size_t n = 0;
    for (size_t i = 0; i < out.n; i++) {
        if (out.p[i] == '\x02') {
            CHECK(!inside);
            inside = true;
            n = 0;
        } else if (out.p[i] == '\x03') {
            CHECK(inside && n > 0 && n <= key.n);
            inside = false;
        } else if (inside) {
            if (out.p[i] == '\'') {
                CHECK(i + 1 < out.n && out.p[i + 1] == '\'');
                i++;
            }
            n++;
        }
    }
    CHECK(!inside);
}

/* Without \\XX, which is the key again; none of `forbidden` stands there by itself. */
static void check_unquoted(struct span quoted, const char *forbidden, struct span key)
{
    struct buf back = BUF_INIT(0);
    for (size_t i = 0; i < quoted.n; i++) {
        char c = quoted.p[i];
        CHECK((unsigned char)c >= ' ' && strchr(forbidden, c) == NULL);
        if (c == '\\') {
            CHECK(quoted.n - i > 2);
            int high = ascii_hex_value(quoted.p[i + 1]), low = ascii_hex_value(quoted.p[i + 2]);
            CHECK(high >= 0 && low >= 0);
            c = (char)(high * 16 + low);
            i += 2;
        }
        buf_putc(&back, c);
    }
    CHECK(span_eq(buf_span(&back), key));
    buf_free(&back);
}

static void check_ldap_quotes(struct span key)
{
    struct buf filter = BUF_INIT(0), name = BUF_INIT(0);
    ldap_quote_filter(key, &filter);
    ldap_quote_name(key, &name);
    check_unquoted(buf_span(&filter), "*()", key);
    check_unquoted(buf_span(&name), ",+\"<>;=", key);
    buf_free(&filter);
    buf_free(&name);
}

static bool has_marks(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] <= 3 && s.p[i] >= 0)
            return true;
    }
    return false;
}

static void expand(struct span in)
{
    struct span key = fuzz_part(&in), query = fuzz_part(&in), format = fuzz_part(&in);
    struct table_load load = { .spec = "fuzz:", .name = SPAN_LIT("fuzz") };
    struct err e = ERR_INIT;
    if (has_marks(key) || has_marks(query) || has_marks(format) || memchr(in.p ? in.p : "", '\0', in.n) != NULL)
        return;
    check_ldap_quotes(key);
    char *query_text = xstrndup(query.p ? query.p : "", query.n), *format_text = xstrndup(format.p ? format.p : "", format.n);
    struct table_query *q = table_query_new(&load, query_text, format_text, NULL, &e);
    if (q == NULL) {
        CHECK(e.text[0] != '\0');
    } else if (table_query_admits(q, key, &e) == LOOKUP_FOUND) {
        struct buf out = BUF_INIT(1 << 20), result = BUF_INIT(1 << 20);
        if (table_query_expand(q, key, mark_quote, NULL, &out, &e))
            check_marks(buf_span(&out), key);
        if (!table_query_result(q, key, in, &result))
            CHECK(result.n == 0);
        buf_free(&out);
        buf_free(&result);
    }
    table_query_free(&q);
    free(query_text);
    free(format_text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 8192)
        return 0;
    char *copy = xstrndup((const char *)data + 1, size - 1); /* ends where it ends, for the sanitizer */
    struct span in = span_of(copy, size - 1);
    switch (data[0]) {
    case 'S': read_socketmap(in); break;
    case 'T': read_tcp(in); break;
    case 'M': read_memcache(in); break;
    case 'L': read_url(in); break;
    default: expand(in);
    }
    free(copy);
    return 0;
}
