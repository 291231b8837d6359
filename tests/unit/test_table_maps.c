/* Which keys are tried, in which order, for addresses and domains. */
#include "tests/unit/unit.h"
#include "common/base/mem.h"
#include "common/table/maps.h"

struct kase {
    const char *name;
    const char *maps;
    const char *delimiters;
    unsigned forms;
    const char *address;
    const char *value;  /* NULL: none; "!": temporary failure */
    const char *ext;    /* NULL: not looked at */
};

static const struct kase address_cases[] = {
    { "exact", "inline:{u@d=1}", "", 0, "u@d", "1", "" },
    { "case", "inline:{u@d=1}", "", 0, "U@D", "1", "" },
    { "whole before stripped", "inline:{u+x@d=1,u@d=2}", "+", 0, "u+x@d", "1", "" },
    { "stripped", "inline:{u@d=2}", "+", 0, "u+x@d", "2", "+x" },
    { "no delimiter", "inline:{u@d=2}", "", 0, "u+x@d", NULL, NULL },
    { "set of delimiters", "inline:{u@d=2}", "-+", 0, "u-x+y@d", "2", "-x+y" },
    { "delimiter first is no extension", "inline:{@d=2}", "+", MAPS_AT_DOMAIN, "+x@d", "2", "" },
    { "owner-", "inline:{owner@d=2}", "-", 0, "owner-list@d", NULL, NULL },
    { "-request", "inline:{list@d=2}", "-", 0, "list-request@d", NULL, NULL },
    { "local part only when asked", "inline:{u=3}", "", 0, "u@d", NULL, NULL },
    { "local part", "inline:{u=3}", "", MAPS_LOCAL_PART, "u@d", "3", "" },
    { "local part with extension", "inline:{u+x=3,u=4}", "+", MAPS_LOCAL_PART, "u+x@d", "3", "" },
    { "local part stripped", "inline:{u=4}", "+", MAPS_LOCAL_PART, "u+x@d", "4", "+x" },
    { "@domain", "inline:{@d=5}", "+", MAPS_AT_DOMAIN, "u+x@d", "5", "+x" },
    { "local part before @domain", "inline:{u=4,@d=5}", "", MAPS_AT_DOMAIN | MAPS_LOCAL_PART, "u@d", "4", "" },
    { "domain and parent", "inline:{e.f=6}", "", MAPS_DOMAIN | MAPS_PARENT, "u@d.e.f", "6", NULL },
    { "dot parent", "inline:{.e.f=6}", "", MAPS_DOMAIN | MAPS_DOT_PARENT, "u@d.e.f", "6", NULL },
    { "dot parent is not the domain", "inline:{.d.e.f=6}", "", MAPS_DOMAIN | MAPS_DOT_PARENT, "u@d.e.f", NULL, NULL },
    { "user@", "inline:{u@=7}", "+", MAPS_USER_AT, "u+x@d", "7", NULL },
    { "domain before user@", "inline:{u@=7,d=8}", "", MAPS_USER_AT | MAPS_DOMAIN, "u@d", "8", NULL },
    { "key before table", "inline:{@d=1},inline:{u@d=2}", "", MAPS_AT_DOMAIN, "u@d", "2", NULL },
    { "table order", "inline:{u@d=1},inline:{u@d=2}", "", 0, "u@d", "1", NULL },
    { "patterns see whole addresses only", "regexp:{{/^u@d$/ 1},{/^u$/ 2},{/^@d$/ 3}}", "+",
      MAPS_AT_DOMAIN | MAPS_LOCAL_PART, "u+x@d", NULL, NULL },
    { "pattern", "regexp:{{/^(.*)@d$/ <$1>}}", "+", 0, "u+x@d", "<u+x>", "" },
    { "failure", "inline:{a=b},fail:x", "", 0, "u@d", "!", NULL },
    { "found before failure", "inline:{u@d=1},fail:x", "", 0, "u@d", "1", NULL },
    { "no domain", "inline:{u=1}", "+", MAPS_AT_DOMAIN, "u+x", "1", "+x" },
    { "empty list", "", "", MAPS_AT_DOMAIN, "u@d", NULL, NULL },
};

static void run_address(struct table_registry *r, const struct kase *k)
{
    struct arena *a = arena_new(0);
    struct span v = { NULL, 0 }, ext = SPAN_LIT("unset");
    struct maps *m = maps_open(r, span_cstr(k->maps), NULL, NULL, NULL, NULL);
    struct maps_addr addr = maps_addr_of(span_cstr(k->address), k->delimiters, true);
    enum lookup got = maps_lookup_address(m, &addr, k->forms, a, &v, &ext, NULL);
    enum lookup want = k->value == NULL ? LOOKUP_NONE : *k->value == '!' ? LOOKUP_TEMPFAIL : LOOKUP_FOUND;
    if (got != want || (want == LOOKUP_FOUND && !span_eq(v, span_cstr(k->value))))
        fail_msg("%s: %d \"%.*s\"", k->name, got, SPAN_ARG(v));
    if (want == LOOKUP_FOUND && k->ext != NULL && !span_eq(ext, span_cstr(k->ext)))
        fail_msg("%s: extension \"%.*s\"", k->name, SPAN_ARG(ext));
    maps_close(&m);
    arena_free(&a);
}

static void test_address_keys(void **state)
{
    (void)state;
    struct table_registry *r = table_registry_new(NULL);
    for (size_t i = 0; i < ARRAY_LEN(address_cases); i++)
        run_address(r, &address_cases[i]);
    table_registry_unref(&r);
}

/* A key longer than the buffer on the stack is still a key. */
static void test_long_keys(void **state)
{
    (void)state;
    struct table_registry *r = table_registry_new(NULL);
    char local[901];
    memset(local, 'x', 900);
    local[900] = '\0';
    char *list = xasprintf("inline:{%s@d=1}", local);
    char *address = xasprintf("%s+ext@D", local);
    struct maps *m = maps_open(r, span_cstr(list), NULL, NULL, NULL, NULL);
    struct maps_addr addr = maps_addr_of(span_cstr(address), "+", true);
    assert_int_equal(maps_lookup_address(m, &addr, 0, NULL, NULL, NULL, NULL), LOOKUP_FOUND);
    maps_close(&m);
    free(list);
    free(address);
    table_registry_unref(&r);
}

struct problem {
    enum table_status status;
    unsigned count;
};

static void note_problem(void *arg, struct span spec, enum table_status status, const struct err *e)
{
    struct problem *p = arg;
    (void)spec;
    (void)e;
    p->status = status;
    p->count++;
}

static void test_problems_are_told(void **state)
{
    (void)state;
    struct table_registry *r = table_registry_new(NULL);
    struct problem p = { TABLE_OK, 0 };
    struct maps *m = maps_open(r, SPAN_LIT("inline:{a=b}, hash:/nonexistent, bogus:x"), NULL, note_problem, NULL, &p);
    assert_int_equal(p.count, 2);
    assert_int_equal(p.status, TABLE_BAD);
    assert_false(maps_is_empty(m));
    maps_close(&m);
    table_registry_unref(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_keys),
        cmocka_unit_test(test_long_keys),
        cmocka_unit_test(test_problems_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
