/* Lists of names, domains, networks: order, negation, files, tables, three answers. */
#include "tests/unit/unit.h"
#include <stdlib.h>
#include <unistd.h>
#include "common/base/mem.h"
#include "common/table/match_list.h"

enum { YES = LOOKUP_FOUND, NO = LOOKUP_NONE, FAIL = LOOKUP_TEMPFAIL };

struct query {
    const char *name, *addr;
    int want;
};

struct kase {
    const char *name, *list; /* %s: a file with `file` in it */
    enum match_kind kind;
    bool parents;
    const char *file;
    unsigned problems;
    struct query q[8];
};

static const struct kase cases[] = {
    { "names", "a.example, B.example localhost", MATCH_NAMES, false, NULL, 0,
      { { "A.Example", NULL, YES }, { "b.example", NULL, YES }, { "x.a.example", NULL, NO }, { "", NULL, NO } } },
    { "empty", "", MATCH_NAMES, false, NULL, 0, { { "a", NULL, NO } } },
    { "negation, first match wins", "!x.a, a, !static:all, b", MATCH_DOMAINS, true, NULL, 0,
      { { "x.a", NULL, NO }, { "y.a", NULL, YES }, { "y.x.a", NULL, NO }, { "b", NULL, NO } } },
    { "parents", "a.example", MATCH_DOMAINS, true, NULL, 0,
      { { "a.example", NULL, YES }, { "x.y.a.example", NULL, YES }, { "xa.example", NULL, NO }, { "example", NULL, NO } } },
    { "dots", "a.example .b.example", MATCH_DOMAINS, false, NULL, 0,
      { { "a.example", NULL, YES }, { "x.a.example", NULL, NO }, { "b.example", NULL, NO }, { "x.b.example", NULL, YES } } },
    { "all", "static:all", MATCH_DOMAINS, false, NULL, 0, { { "anything", NULL, YES } } },
    { "table", "inline:{a=1,.b=2}", MATCH_DOMAINS, false, NULL, 0,
      { { "A", NULL, YES }, { "x.b", NULL, YES }, { "x.a", NULL, NO } } },
    { "table with parents", "inline:{a=1}", MATCH_DOMAINS, true, NULL, 0, { { "x.a", NULL, YES } } },
    { "names know no parents in tables", "inline:{a=1}", MATCH_NAMES, true, NULL, 0, { { "x.a", NULL, NO } } },
    { "failing table", "a, fail:x, b", MATCH_NAMES, false, NULL, 0,
      { { "a", NULL, YES }, { "b", NULL, FAIL }, { "c", NULL, FAIL } } },
    { "networks", "192.0.2.0/24, !10.0.0.1 10.0.0.0/8 [2001:db8::]/32 [::1]", MATCH_HOSTS, true, NULL, 0,
      { { "unknown", "192.0.2.200", YES }, { "unknown", "192.0.3.1", NO }, { "", "10.0.0.1", NO }, { "", "10.0.0.2", YES },
        { "", "2001:db8:ffff::1", YES }, { "", "2001:db9::1", NO }, { "", "::1", YES }, { "", "::ffff:192.0.2.1", YES } } },
    { "hosts by name and address", "mail.example 192.0.2.1 inline:{198.51.100.1=x}", MATCH_HOSTS, true, NULL, 0,
      { { "mail.example", "203.0.113.1", YES }, { "a.mail.example", "203.0.113.1", YES }, { "x", "192.0.2.1", YES },
        { "x", "198.51.100.1", YES }, { "x", "198.51.100.2", NO } } },
    { "everything", "0.0.0.0/0 [::]/0", MATCH_HOSTS, true, NULL, 0, { { "", "1.2.3.4", YES }, { "", "::2", YES } } },
    { "file", "%s x.example", MATCH_DOMAINS, true, "# comment\na.example b.example\n!c.d.example\nd.example\n", 0,
      { { "a.example", NULL, YES }, { "b.example", NULL, YES }, { "c.d.example", NULL, NO }, { "e.d.example", NULL, YES },
        { "x.example", NULL, YES } } },
    { "negated file", "!%s, static:all", MATCH_DOMAINS, true, "a.example\n", 0,
      { { "a.example", NULL, NO }, { "b.example", NULL, YES } } },
    { "no file", "a, /nonexistent/list", MATCH_NAMES, false, NULL, 1, { { "a", NULL, YES }, { "b", NULL, FAIL } } },
    { "host bits", "10.0.0.1/8", MATCH_HOSTS, true, NULL, 1, { { "", "10.0.0.1", FAIL } } },
    { "bare IPv6", "2001:db8::/32", MATCH_HOSTS, true, NULL, 1, { { "", "2001:db8::1", FAIL } } },
    { "lone exclamation mark", "! ,a", MATCH_NAMES, false, NULL, 1, { { "a", NULL, FAIL } } },
};

static void count_problem(void *arg, enum table_status status, const char *text)
{
    unsigned *n = arg;
    (void)status;
    (void)text;
    ++*n;
}

static char *make_file(const char *content)
{
    char *path = xstrdup("/tmp/test_match_XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, content, strlen(content)) != (ssize_t)strlen(content))
        fail_msg("cannot write %s", path);
    close(fd);
    return path;
}

static void run_case(struct table_registry *r, const struct kase *k)
{
    unsigned problems = 0;
    char *path = k->file != NULL ? make_file(k->file) : NULL;
    const char *mark = strstr(k->list, "%s");
    char *list = mark ? xasprintf("%.*s%s%s", (int)(mark - k->list), k->list, path, mark + 2) : xstrdup(k->list);
    struct match_options o = { .registry = r, .list = span_cstr(list), .kind = k->kind, .parents = k->parents,
                               .title = k->name, .problem = count_problem, .arg = &problems };
    struct match_list *l = match_list_compile(&o);
    if (problems != k->problems)
        fail_msg("%s: %u problems", k->name, problems);
    for (size_t i = 0; i < ARRAY_LEN(k->q) && k->q[i].name != NULL; i++) {
        const struct query *q = &k->q[i];
        struct ip_addr ip = { .family = IP_NONE };
        struct err e = ERR_INIT;
        enum lookup got;
        if (q->addr != NULL && !ip_parse(span_cstr(q->addr), &ip))
            fail_msg("bad address %s", q->addr);
        if (q->addr != NULL)
            got = match_list_host(l, span_cstr(q->name), &ip, span_cstr(q->addr), &e);
        else
            got = match_list_name(l, span_cstr(q->name), &e);
        if ((int)got != q->want || (got == LOOKUP_TEMPFAIL && strstr(e.text, k->name) == NULL))
            fail_msg("%s: \"%s\" %s: answers %d, expected %d (%s)", k->name, q->name, q->addr ? q->addr : "", got, q->want, e.text);
    }
    match_list_free(&l);
    if (path != NULL)
        unlink(path);
    free(path);
    free(list);
}

static void test_lists(void **state)
{
    (void)state;
    struct table_registry *r = table_registry_new(NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        run_case(r, &cases[i]);
    table_registry_unref(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_lists) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
