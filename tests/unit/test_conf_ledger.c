/* The tables agree with what the manual pages say (tests/conf/ledger.tsv), and the sample configurations load. */
#include <dirent.h>
#include "tests/unit/unit.h"
#include "common/base/ascii.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/conf/conf_internal.h"

static const char *source_dir(void)
{
    const char *dir = getenv("srcdir");
    return dir ? dir : ".";
}

static void read_test_file(const char *name, struct buf *b)
{
    struct err e = ERR_INIT;
    char *path = xasprintf("%s/tests/conf/%s", source_dir(), name);
    if (!io_read_file(path, b, &e))
        fail_msg("%s", e.text);
    free(path);
}

struct ledger_row {
    struct span name, type, def, pages;
};

static bool next_row(struct span *rest, struct ledger_row *row)
{
    struct span line, *col[] = { &row->name, &row->type, &row->def, &row->pages };
    if (!span_next_token(rest, "\n", &line))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(col); i++) {
        ptrdiff_t tab = span_find(line, '\t');
        *col[i] = span_of(line.p, tab < 0 ? line.n : (size_t)tab);
        line = span_from(line, tab < 0 ? line.n : (size_t)tab + 1);
    }
    return true;
}

/* Defaults that the ledger describes in words; the table has the text or the program computes it. */
static bool is_described(struct span def)
{
    static const char *const words[] = {
        "build-time", "read-only", "obsolete", "see REQUIRETLS", "from gethostname", "from mynetworks_style",
        "GnuTLS priority", ">=TLSv1 (Postfix)",
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (span_starts_with(def, span_cstr(words[i])))
            return true;
    }
    return false;
}

static bool kind_agrees(const struct param_row *row, const struct ledger_row *l)
{
    bool text = row->kind != PARAM_BOOL && row->kind != PARAM_INT && row->kind != PARAM_TIME && row->kind != PARAM_BYTES;
    if (span_eq(l->name, SPAN_LIT("smtpd_relay_before_recipient_restrictions")))
        return row->kind == PARAM_BOOL; /* named like a list, but it is a switch */
    if (span_eq(l->name, SPAN_LIT("tls_dane_digest_agility")))
        return row->kind == PARAM_ENUM; /* on, off or maybe */
    if (span_eq(l->name, SPAN_LIT("lmtp_tcp_port")))
        return row->kind == PARAM_STR; /* a service name is possible too */
    if (span_eq(l->type, SPAN_LIT("boolean")))
        return row->kind == PARAM_BOOL;
    if (span_eq(l->type, SPAN_LIT("integer")))
        return row->kind == PARAM_INT;
    if (span_eq(l->type, SPAN_LIT("time")))
        return row->kind == PARAM_TIME;
    if (span_eq(l->type, SPAN_LIT("tables")))
        return row->kind == PARAM_TABLES;
    if (span_eq(l->type, SPAN_LIT("restrictions")))
        return row->kind == PARAM_RESTR;
    if (span_eq(l->type, SPAN_LIT("read-only")))
        return row->status == PARAM_STATUS_READ_ONLY;
    if (span_eq(l->type, SPAN_LIT("stress-dependent")))
        return strstr(row->def, "stress") != NULL;
    /* "string" also stands for a transport's number, and for a time with stress in it */
    return text || row->suffix != NULL || strstr(row->def, "stress") != NULL;
}

static void expect_expansion(const struct conf *c, bool stress, struct span def, const struct param_row *row)
{
    struct conf_scope s = c->global->scope;
    struct buf want = BUF_INIT(0), got = BUF_INIT(0);
    struct err e = ERR_INIT;
    char *text = xstrndup(def.p, def.n);
    s.stress = stress;
    if (row->kind == PARAM_RAW)
        buf_puts(&want, text);
    else if (!conf_scope_expand_text(&s, text, &want, &e))
        fail_msg("%s: %s", row->name, e.text);
    if (!conf_scope_expand(&s, span_cstr(row->name), &got, &e))
        fail_msg("%s: %s", row->name, e.text);
    if (strcmp(buf_cstr(&want), buf_cstr(&got)) != 0)
        fail_msg("%s: the table gives \"%s\", the ledger \"%s\"", row->name, buf_cstr(&got), buf_cstr(&want));
    buf_free(&want);
    buf_free(&got);
    free(text);
}

static void check_default(const struct conf *c, const struct param_row *row, const struct ledger_row *l)
{
    static const struct span normal = SPAN_LIT("normal: "), overload = SPAN_LIT(", overload: ");
    if (is_described(l->def))
        return;
    if (span_eq(l->def, SPAN_LIT("empty"))) {
        expect_expansion(c, false, span_of("", 0), row);
    } else if (span_starts_with(l->def, normal)) {
        ptrdiff_t comma = span_find(l->def, ',');
        expect_expansion(c, false, span_of(l->def.p + normal.n, (size_t)comma - normal.n), row);
        expect_expansion(c, true, span_from(l->def, (size_t)comma + overload.n), row);
    } else if (span_starts_with(l->def, SPAN_LIT("shutdown (3.11)"))) {
        expect_expansion(c, false, SPAN_LIT("shutdown"), row);
    } else {
        expect_expansion(c, false, l->def, row);
    }
}

static const struct param_row *find_row(const struct conf *c, struct span name)
{
    ptrdiff_t i = param_find(c->index, name);
    if (i >= 0)
        return param_row((size_t)i);
    const struct param_row *row = param_transport_row(name, SPAN_LIT("transport"));
    return row ? row : param_transport_row(name, SPAN_LIT("smtp"));
}

static void test_tables_agree_with_ledger(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    struct conf_options o = { .main_cf_text = "", .master_cf_text = "", .hostname = "mail.example.org" };
    struct conf_report r;
    struct conf *c = conf_load_any(&o, &r);
    struct ledger_row l;
    size_t count = 0;

    read_test_file("ledger.tsv", &b);
    struct span rest = buf_span(&b);
    assert_true(next_row(&rest, &l)); /* heading */
    for (; next_row(&rest, &l); count++) {
        const struct param_row *row = find_row(c, l.name);
        if (row == NULL)
            fail_msg("%.*s is in the ledger, but in no table", SPAN_ARG(l.name));
        if (!kind_agrees(row, &l))
            fail_msg("%s: kind %s, the ledger says %.*s", row->name, param_kind_name(row->kind), SPAN_ARG(l.type));
        check_default(c, row, &l);
        if (row->doc[0] == '\0')
            fail_msg("%s has no documentation", row->name);
    }
    assert_int_equal(count, 396);
    buf_free(&b);
    conf_unref(&c);
    conf_report_free(&r);
}

/* Every smtp_X of the ledger has its lmtp_X, but for those that postconf(5) has for SMTP only. */
static void test_lmtp_mirrors(void **state)
{
    (void)state;
    struct param_index *ix = param_index_new();
    for (size_t i = 0; i + 1 < param_count(); i++) {
        const struct param_row *row = param_row(i);
        if (row->home == PARAM_HOME_SMTP && row->name != NULL && param_row(i + 1)->name == NULL &&
            strcmp(row->name, "smtp_always_send_ehlo") != 0 && strcmp(row->name, "smtp_never_send_ehlo") != 0)
            fail_msg("%s has no lmtp_ mirror", row->name);
    }
    param_index_free(&ix);
}

static const char *severity_name(enum conf_severity s)
{
    switch (s) {
    case CONF_NOTE: return "note";
    case CONF_WARNING: return "warning";
    case CONF_ERROR: return "error";
    }
    return "";
}

/* "FILE LINE SEVERITY text" lines against the report: the same number, in order. */
static void compare_findings(const char *name, const struct conf_report *r, struct span expect)
{
    struct span line, file, number, severity;
    size_t i = 0;
    for (; span_next_token(&expect, "\n", &line); i++) {
        assert_true(span_next_token(&line, " ", &file) && span_next_token(&line, " ", &number) &&
                    span_next_token(&line, " ", &severity));
        char *text = xstrndup(line.p, line.n), *part = text + strspn(text, " ");
        int64_t n = 0;
        assert_true(num_parse(number, 0, 100000, &n));
        if (i >= r->count)
            fail_msg("%s: \"%s\" was not found", name, part);
        const struct conf_finding *f = &r->items[i];
        if (f->line != n || !span_eq(severity, span_cstr(severity_name(f->severity))) || !strstr(f->text, part) ||
            f->file == NULL || !span_iends_with(span_cstr(f->file), file))
            fail_msg("%s: found line %d %s: %s", name, f->line, severity_name(f->severity), f->text);
        free(text);
    }
    if (i < r->count)
        fail_msg("%s: %s:%d: %s", name, r->items[i].file ? r->items[i].file : "", r->items[i].line, r->items[i].text);
}

static void test_samples(void **state)
{
    (void)state;
    char *top = xasprintf("%s/tests/conf", source_dir());
    DIR *d = opendir(top);
    size_t count = 0;
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        struct buf expect = BUF_INIT(0);
        char *dir = xasprintf("%s/%s", top, e->d_name), *main_cf = xasprintf("%s/main.cf", dir),
             *file = xasprintf("%s/expect", dir);
        struct conf_options o = { .dir = dir, .hostname = "mail.example.org" };
        struct conf_report r;
        if (e->d_name[0] != '.' && io_read_file(main_cf, &expect, NULL)) {
            buf_reset(&expect);
            (void)!io_read_file(file, &expect, NULL);
            struct conf *c = conf_load(&o, &r);
            compare_findings(e->d_name, &r, buf_span(&expect));
            assert_non_null(c);
            conf_unref(&c);
            conf_report_free(&r);
            count++;
        }
        buf_free(&expect);
        free(dir);
        free(main_cf);
        free(file);
    }
    closedir(d);
    free(top);
    assert_true(count >= 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_agree_with_ledger),
        cmocka_unit_test(test_lmtp_mirrors),
        cmocka_unit_test(test_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
