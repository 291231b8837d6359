/*
 * Address lists and their rewriting: no input may break them, nothing is lost when a field is written again, every line of it is
 * folded as it must be, and an expansion that succeeds has a recipient.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/conf/conf_report.h"
#include "policy/rewrite/addr_list.h"
#include "policy/rewrite/rewrite_internal.h"
#include "tests/fuzz/fuzz.h"

static struct policy *the_policy(void)
{
    static struct policy *p; /* made once */
    struct conf_report report = { 0 };
    if (p != NULL)
        return p;
    struct conf_options o = {
        .dir = "/nonexistent", .hostname = "hub.example.com",
        .main_cf_text = "myhostname = hub.example.com\nmyorigin = o.example\nmydomain = m.example\nappend_dot_mydomain = yes\nrecipient_delimiter = +\n"
                        "canonical_maps = inline:{{a@x=b@y.example},{@z=@y.example},{q@x=\"a b\"@y.example}}\nmasquerade_domains = example.org\n"
                        "virtual_alias_maps = inline:{{v@x=w@y.example u@y.example},{l@x=l@x}}\nalias_maps =\nalias_database =\nheader_address_token_limit = 200\n",
        .master_cf_text = "smtp unix - - n - - smtp\n",
    };
    struct conf *c = conf_load(&o, &report);
    CHECK(c != NULL);
    struct policy_options po = { .conf = c, .report = &report };
    p = policy_compile(&po);
    CHECK(p != NULL);
    conf_unref(&c);
    conf_report_free(&report);
    return p;
}

/* Every line but the first begins with white space, no line is empty, nothing ends with a line end. */
static void check_folding(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        CHECK(s.p[i] != '\n' || (i + 1 < s.n && (s.p[i + 1] == ' ' || s.p[i + 1] == '\t')));
}

/* Every letter and digit that was there is still there; source routes, which are taken out, have a colon. */
static void check_nothing_is_lost(struct span before, struct span after)
{
    size_t n[256] = { 0 };
    if (span_find(before, ':') >= 0)
        return;
    for (size_t i = 0; i < after.n; i++)
        n[(unsigned char)after.p[i]]++;
    for (size_t i = 0; i < before.n; i++)
        CHECK(!ascii_is_alnum(before.p[i]) || n[(unsigned char)before.p[i]]-- > 0);
}

static void fuzz_header(const struct policy *p, struct span text, struct arena *a, bool has_maps)
{
    struct span once;
    struct err e = ERR_INIT;
    char *field = arena_alloc(a, text.n + 5);
    memcpy(field, "To: ", 4);
    memcpy(field + 4, text.p, text.n);
    struct span in = span_of(field, text.n + 4);
    if (rewrite_header(p, REWRITE_LOCAL, has_maps, in, 2, a, &once, NULL, &e) != LOOKUP_FOUND)
        return;
    bool is_folded_well = true; /* the pipe gives fields that are; a comment may hold what the input had */
    for (size_t i = 0; i < in.n; i++)
        is_folded_well = is_folded_well && (in.p[i] != '\n' || (i + 1 < in.n && (in.p[i + 1] == ' ' || in.p[i + 1] == '\t'))) && in.p[i] != '\r';
    if (is_folded_well)
        check_folding(once);
    struct addr_list l;
    addr_list_parse(text, 200, a, &l);
    if (!has_maps && !l.is_cut)
        check_nothing_is_lost(text, span_from(once, 4));
}

static void fuzz_envelope(const struct policy *p, struct span in, struct arena *a)
{
    struct span out, again;
    struct err e = ERR_INIT;
    struct route_targets t;
    CHECK(rewrite_envelope(p, REWRITE_ENV_SENDER, true, in, a, &out, NULL, &e) == LOOKUP_FOUND);
    CHECK(rewrite_envelope(p, REWRITE_ENV_RCPT, false, in, a, &out, NULL, &e) == LOOKUP_FOUND);
    CHECK(rewrite_envelope(p, REWRITE_ENV_RCPT, false, out, a, &again, NULL, &e) == LOOKUP_FOUND);
    CHECK(route_expand_to(p, out, a, &t, NULL, &e) != LOOKUP_FOUND || t.count > 0); /* a recipient must not be lost */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1 || n > 20000)
        return 0;
    const struct policy *p = the_policy();
    struct arena *a = arena_new(0);
    struct span text = span_of((const char *)data + 1, n - 1);
    struct addr_list l;
    addr_list_parse(text, data[0] & 4 ? 50 : 0, a, &l);
    if (data[0] & 1)
        fuzz_envelope(p, text, a);
    else
        fuzz_header(p, text, a, data[0] & 2);
    arena_free(&a);
    return 0;
}
