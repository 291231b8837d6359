/* Address classes, transports and next hops; virtual aliases and aliases(5). */
#include "tests/unit/unit.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/mem.h"
#include "tests/unit/policy_fixture.h"

static const char site[] =
    "mydestination = hub.example.com, example.com, localhost\n"
    "local_transport = lmtp:unix:private/dovecot-lmtp\n"
    "relay_domains = relay.example\n"
    "virtual_alias_domains = alias.example\n"
    "virtual_mailbox_domains = box.example\n"
    "virtual_mailbox_maps = static:yes\n"
    "recipient_delimiter = +\n";

struct kase {
    const char *name, *conf, *sender, *recipient;
    enum route_class cls;
    const char *address, *transport, *nexthop; /* transport "!": temporary failure */
};

static const struct kase cases[] = {
    { "local", "", "s@x", "Joe@Example.com", ROUTE_LOCAL, "Joe@Example.com", "lmtp", "unix:private/dovecot-lmtp" },
    { "bare", "", "s@x", "joe", ROUTE_LOCAL, "joe@hub.example.com", "lmtp", NULL },
    { "bare, completed otherwise", "myorigin = o.example\n", "s@x", "joe", ROUTE_DEFAULT, "joe@o.example", "smtp", "o.example" },
    { "bare, not completed", "append_at_myorigin = no\n" "myorigin = o.example\n", "s@x", "joe", ROUTE_LOCAL, "joe@hub.example.com", "lmtp", NULL },
    { "null recipient", "", "", "", ROUTE_LOCAL, "MAILER-DAEMON@hub.example.com", "lmtp", NULL },
    { "literal", "", "s@x", "joe@[203.0.113.5]", ROUTE_LOCAL, "joe@[203.0.113.5]", "lmtp", NULL },
    { "percent", "", "s@x", "joe%b.example@example.com", ROUTE_DEFAULT, "joe@b.example", "smtp", "b.example" },
    { "virtual mailbox", "", "s@x", "joe@Box.example", ROUTE_VIRTUAL_MAILBOX, "joe@Box.example", "virtual", "box.example" },
    { "virtual mailbox over lmtp", "virtual_transport = lmtp:inet:127.0.0.1:24\n", "s@x", "joe@box.example", ROUTE_VIRTUAL_MAILBOX, NULL, "lmtp", "inet:127.0.0.1:24" },
    { "virtual alias", "", "s@x", "joe@alias.example", ROUTE_VIRTUAL_ALIAS, NULL, "error", "5.1.1 User unknown in virtual alias table" },
    { "relay", "", "s@x", "joe@sub.relay.example", ROUTE_RELAY, NULL, "relay", "sub.relay.example" },
    { "default", "", "s@x", "joe@B.example", ROUTE_DEFAULT, "joe@B.example", "smtp", "b.example" },
    { "relayhost", "relayhost = [mx.isp.example]:587\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "smtp", "[mx.isp.example]:587" },
    { "relayhost is for relay domains too", "relayhost = mx.isp.example\n", "s@x", "joe@relay.example", ROUTE_RELAY, NULL, "relay", "mx.isp.example" },
    { "relayhost is not for us", "relayhost = mx.isp.example\n", "s@x", "joe@box.example", ROUTE_VIRTUAL_MAILBOX, NULL, "virtual", "box.example" },
    { "default_transport with next hop", "relayhost = a.example\ndefault_transport = smtp:[b.example]\n", "s@x", "joe@c.example", ROUTE_DEFAULT, NULL, "smtp", "[b.example]" },
    { "sender's relayhost", "relayhost = a.example\nsender_dependent_relayhost_maps = inline:{s@x=[r.example]}\n", "s@x", "joe@c.example", ROUTE_DEFAULT, NULL, "smtp", "[r.example]" },
    { "sender's domain's relayhost", "sender_dependent_relayhost_maps = inline:{@x=[r.example]}\n", "s@x", "joe@c.example", ROUTE_DEFAULT, NULL, "smtp", "[r.example]" },
    { "null sender's relayhost", "sender_dependent_relayhost_maps = inline:{{<>=[r.example]}}\n", "", "joe@c.example", ROUTE_DEFAULT, NULL, "smtp", "[r.example]" },
    { "null sender's relayhost by another key", "empty_address_relayhost_maps_lookup_key = nobody\nsender_dependent_relayhost_maps = inline:{nobody=[r.example]}\n", "", "joe@c.example", ROUTE_DEFAULT, NULL, "smtp", "[r.example]" },
    { "null sender's transport by another key", "empty_address_default_transport_maps_lookup_key = nobody\nsender_dependent_default_transport_maps = inline:{nobody=retry:later}\n", "", "joe@c.example", ROUTE_DEFAULT, NULL, "retry", "later" },
    { "null recipient is another", "empty_address_recipient = joe\n", "", "", ROUTE_LOCAL, "joe@hub.example.com", "lmtp", NULL },
    { "address as domain", "resolve_numeric_domain = yes\n", "s@x", "joe@192.0.2.5", ROUTE_DEFAULT, "joe@[192.0.2.5]", "smtp", "[192.0.2.5]" },
    { "sender's relayhost DUNNO", "relayhost = a.example\nsender_dependent_relayhost_maps = static:DUNNO\n", "s@x", "joe@c.example", ROUTE_DEFAULT, NULL, "smtp", "a.example" },
    { "sender's transport", "sender_dependent_default_transport_maps = inline:{s@x=retry:later}\n", "s@x", "joe@c.example", ROUTE_DEFAULT, NULL, "retry", "later" },
    { "transport of an address", "transport_maps = inline:{joe@b.example=lmtp:[h]:24,b.example=error:no}\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "lmtp", "[h]:24" },
    { "transport with extension", "transport_maps = inline:{joe@b.example=lmtp:[h]}\n", "s@x", "joe+x@b.example", ROUTE_DEFAULT, "joe+x@b.example", "lmtp", "[h]" },
    { "transport of a domain", "transport_maps = inline:{b.example=lmtp:}\nrelayhost = r.example\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "lmtp", "b.example" },
    { "transport of a parent", "transport_maps = inline:{.b.example=lmtp:[h]}\n", "s@x", "joe@a.b.example", ROUTE_DEFAULT, NULL, "lmtp", "[h]" },
    { "transport of the domain above is not it", "transport_maps = inline:{b.example=lmtp:[h]}\n", "s@x", "joe@a.b.example", ROUTE_DEFAULT, NULL, "smtp", "a.b.example" },
    { "next hop alone", "transport_maps = inline:{b.example=:[h]:26}\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "smtp", "[h]:26" },
    { "colon alone", "transport_maps = inline:{{b.example=:},{*=error:no}}\nrelayhost = r.example\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "smtp", "r.example" },
    { "wildcard", "transport_maps = inline:{*=smtp:[gate]}\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "smtp", "[gate]" },
    { "wildcard for our own", "transport_maps = inline:{*=smtp:[gate]}\n", "s@x", "joe@example.com", ROUTE_LOCAL, NULL, "smtp", "[gate]" },
    { "transport_maps leave virtual aliases alone", "transport_maps = inline:{*=smtp:[gate]}\n", "s@x", "joe@alias.example", ROUTE_VIRTUAL_ALIAS, NULL, "error", NULL },
    { "pattern sees the address", "transport_maps = regexp:{{/^joe@b/ lmtp:[h]},{/^b/ error:no}}\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "lmtp", "[h]" },
    { "error keeps its text", "transport_maps = inline:{{b.example=error:5.7.1 No Mail}}\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "error", "5.7.1 No Mail" },
    { "no local, mailbox_transport", "local_transport = local:$myhostname\nmailbox_transport = lmtp:unix:/Run/lmtp\n", "s@x", "joe@example.com", ROUTE_LOCAL, NULL, "lmtp", "unix:/Run/lmtp" },
    { "no local, by user", "local_transport = local\nmailbox_transport_maps = inline:{joe=lmtp:[h1]}\nmailbox_transport = lmtp:[h2]\n", "s@x", "joe+x@example.com", ROUTE_LOCAL, NULL, "lmtp", "[h1]" },
    { "no local at all", "local_transport = local:$myhostname\n", "s@x", "joe@example.com", ROUTE_LOCAL, NULL, "local", "hub.example.com" },
    { "moved", "relocated_maps = inline:{{joe@b.example=c@d.example}}\n", "s@x", "Joe+x@b.example", ROUTE_DEFAULT, "Joe+x@b.example", "error", "5.1.6 User has moved to c@d.example" },
    { "moved, a domain", "relocated_maps = inline:{{@relay.example=far away}}\n", "s@x", "joe@relay.example", ROUTE_RELAY, NULL, "error", "5.1.6 User has moved to far away" },
    { "moved, a local user", "relocated_maps = inline:{joe=elsewhere}\n", "s@x", "joe@example.com", ROUTE_LOCAL, NULL, "error", "5.1.6 User has moved to elsewhere" },
    { "who has moved is not known", "relocated_maps = fail:x\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "!", NULL },
    { "transport table fails", "transport_maps = fail:x\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "!", NULL },
    { "domain table fails", "virtual_mailbox_domains = fail:x\n", "s@x", "joe@b.example", ROUTE_DEFAULT, NULL, "!", NULL },
    { "own domain needs no other table", "virtual_mailbox_domains = fail:x\n", "s@x", "joe@example.com", ROUTE_LOCAL, NULL, "lmtp", NULL },
};

static void check(const char *name, const char *what, struct span got, const char *want)
{
    if (want != NULL && !span_eq(got, span_cstr(want)))
        fail_msg("%s: %s \"%.*s\", expected \"%s\"", name, what, SPAN_ARG(got), want);
}

static void test_routes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct kase *k = &cases[i];
        char text[2048];
        struct route r;
        struct err e = ERR_INIT;
        snprintf(text, sizeof text, "%s%s", site, k->conf);
        struct fixture *f = fixture_new(text);
        enum lookup got = route_resolve(f->policy, span_cstr(k->sender), span_cstr(k->recipient), f->arena, &r, &e);
        if (strcmp(k->transport, "!") == 0) {
            assert_int_equal(got, LOOKUP_TEMPFAIL);
            assert_true(e.text[0] != '\0');
        } else {
            if (got != LOOKUP_FOUND || r.cls != k->cls)
                fail_msg("%s: answer %d, class %d", k->name, got, r.cls);
            check(k->name, "address", r.recipient, k->address);
            check(k->name, "transport", r.transport, k->transport);
            check(k->name, "next hop", r.nexthop, k->nexthop);
        }
        fixture_free(&f);
    }
}

struct expansion {
    const char *name, *conf, *recipient;
    const char *want; /* results joined with spaces; "!": temporary failure */
};

static const struct expansion expansions[] = {
    { "nothing", "", "Joe@B.example", "Joe@B.example" },
    { "one", "virtual_alias_maps = inline:{joe@alias.example=joe@b.example}\n", "joe@alias.example", "joe@b.example" },
    { "several", "virtual_alias_maps = inline:{{joe@alias.example=a@b.example, c@d.example e}}\n", "JOE@alias.example", "a@b.example c@d.example e@hub.example.com" },
    { "again and again", "virtual_alias_maps = inline:{a@x=b@x,b@x=c@x,c@x=d@x}\n", "a@x", "d@x" },
    { "itself", "virtual_alias_maps = inline:{{a@x=a@x b@x}}\n", "a@x", "a@x b@x" },
    { "a loop", "virtual_alias_maps = inline:{a@x=b@x,b@x=a@x}\n", "a@x", "!" },
    { "extension of a whole domain", "virtual_alias_maps = inline:{@x=@y}\n", "a+e@x", "a+e@y" },
    { "the first result takes the place", "virtual_alias_maps = inline:{{a@x=b@x c@x},{b@x=d@x e@x}}\n", "a@x", "d@x c@x e@x" },
    { "duplicates", "virtual_alias_maps = inline:{{a@x=b@x c@x},{c@x=b@x}}\n", "a@x", "b@x" },
    { "extension", "virtual_alias_maps = inline:{a@x=b@y}\n", "a+e@x", "b+e@y" },
    { "extension kept back", "propagate_unmatched_extensions =\nvirtual_alias_maps = inline:{a@x=b@y}\n", "a+e@x", "b@y" },
    { "list owner", "recipient_delimiter = -\nvirtual_alias_maps = inline:{owner@x=o@y}\n", "owner-list@x", "owner-list@x" },
    { "list owner is none", "recipient_delimiter = -\n" "owner_request_special = no\nvirtual_alias_maps = inline:{owner@x=o@y}\n", "owner-list@x", "o-list@y" },
    { "catch-all", "virtual_alias_maps = inline:{@x=all@y}\n", "a@x", "all@y" },
    { "domain to domain", "virtual_alias_maps = inline:{@x=@y}\n", "a@x", "a@y" },
    { "local part for our domains", "virtual_alias_maps = inline:{info=a@x}\n", "info@example.com", "a@x" },
    { "local part for ours only", "virtual_alias_maps = inline:{info=a@x}\n", "info@b.example", "info@b.example" },
    { "table fails", "virtual_alias_maps = fail:x\n", "a@x", "!" },
    { "too many", "virtual_alias_expansion_limit = 2\nvirtual_alias_maps = inline:{{a@x=b@x c@x d@x}}\n", "a@x", "!" },
    { "not too many", "virtual_alias_expansion_limit = 2\nvirtual_alias_maps = inline:{{a@x=b@x c@x}}\n", "a@x", "b@x c@x" },
    { "too deep", "virtual_alias_recursion_limit = 2\nvirtual_alias_maps = inline:{a@x=b@x,b@x=c@x,c@x=d@x}\n", "a@x", "!" },
    { "too long at once", "virtual_alias_address_length_limit = 20\nvirtual_alias_maps = inline:{a@x=bbbbbbbbbbbbbbbbbbb@x}\n", "a@x", "!" },
    { "not too long", "virtual_alias_address_length_limit = 20\nvirtual_alias_maps = inline:{a@x=bbbbbbbbbbbbbbbbbb@x}\n", "a@x", "bbbbbbbbbbbbbbbbbb@x" },
    { "too long", "virtual_alias_address_length_limit = 20\nvirtual_alias_maps = regexp:{{/^(.*)@x$$/ $$1+aaaaaaaaa@x}}\n", "a@x", "!" },
};

static void expect_expansion(struct fixture *f, const char *name, const char *recipient, const char *want)
{
    struct span *out = NULL;
    size_t n = 0;
    struct err e = ERR_INIT;
    char *joined = arena_strdup(f->arena, "");
    enum lookup got = route_expand(f->policy, span_cstr(recipient), f->arena, &out, &n, &e);
    for (size_t k = 0; got == LOOKUP_FOUND && k < n; k++)
        joined = arena_printf(f->arena, "%s%s%.*s", joined, k ? " " : "", SPAN_ARG(out[k]));
    if (got != LOOKUP_FOUND)
        joined = arena_strdup(f->arena, "!");
    if (strcmp(joined, want) != 0)
        fail_msg("%s: \"%s\", expected \"%s\" (%s)", name, joined, want, e.text);
}

static void test_virtual_aliases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(expansions); i++) {
        char text[2048];
        snprintf(text, sizeof text, "%s%s", site, expansions[i].conf);
        struct fixture *f = fixture_new(text);
        expect_expansion(f, expansions[i].name, expansions[i].recipient, expansions[i].want);
        fixture_free(&f);
    }
}

static const char aliases[] =
    "postmaster: root\nroot: Admin@example.com, ops@b.example\nlist: a, \"Some One\" <b@b.example>,\n  c@c.example\n"
    "loop1: loop2\nloop2: loop1\nself: self, x@b.example\nprog: \"|/bin/vacation joe\"\nmixed: |/bin/x, y@b.example\n"
    "incl: :include:/etc/list\nfile: /var/mail/x\njoe+x: special@b.example\nvirt: v@alias.example\n";

static void test_alias_files(void **state)
{
    (void)state;
    static const struct expansion rows[] = {
        { "two steps", NULL, "postmaster@example.com", "Admin@example.com ops@b.example" },
        { "a list", NULL, "List@localhost", "a@hub.example.com b@b.example c@c.example" },
        { "a loop", NULL, "loop1@example.com", "loop2@hub.example.com" },
        { "itself", NULL, "self@hub.example.com", "self@hub.example.com x@b.example" },
        { "a command is refused", NULL, "prog@example.com", "prog@example.com" },
        { "a command among others", NULL, "mixed@example.com", "y@b.example" },
        { "a file that is not there", NULL, "incl@example.com", "!" },
        { "a file is refused", NULL, "file@example.com", "file@example.com" },
        { "extension in the alias", NULL, "joe+x@example.com", "special@b.example" },
        { "extension stripped", NULL, "root+x@example.com", "Admin@example.com ops@b.example" },
        { "not ours", NULL, "postmaster@b.example", "postmaster@b.example" },
        { "virtual after alias", NULL, "virt@example.com", "w@b.example" },
    };
    char path[] = "/tmp/test_aliases_XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, aliases, sizeof aliases - 1) != (ssize_t)(sizeof aliases - 1))
        fail_msg("cannot write %s", path);
    close(fd);
    char *conf = xasprintf("%slocal_transport = local:$myhostname\nalias_maps = hash:%s\nlocal_recipient_maps = $alias_maps\n"
                           "virtual_alias_maps = inline:{v@alias.example=w@b.example}\n", site, path);
    struct fixture *f = fixture_new(conf);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        expect_expansion(f, rows[i].name, rows[i].recipient, rows[i].want);
    /* the same file serves local_recipient_maps, in the same format */
    assert_string_equal(fixture_rcpt(f, "list@example.com"), "250");
    assert_true(strncmp(fixture_rcpt(f, "nobody@example.com"), "550 5.1.1 ", 10) == 0);
    fixture_free(&f);
    unlink(path);
    free(conf);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Members with the sender that they get: "addr/owner", joined with blanks; "!": temporary failure. */
static const char *targets(struct fixture *f, const char *recipient)
{
    struct route_targets t;
    struct err e = ERR_INIT;
    char *out = arena_strdup(f->arena, "");
    if (route_expand_to(f->policy, span_cstr(recipient), f->arena, &t, NULL, &e) != LOOKUP_FOUND)
        return "!";
    for (size_t i = 0; i < t.count; i++)
        out = arena_printf(f->arena, "%s%s%.*s/%.*s", out, i ? " " : "", SPAN_ARG(t.list[i].addr), SPAN_ARG(t.list[i].sender));
    return out;
}

static void test_lists_and_owners(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_lists_XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *alias_file = xasprintf("%s/aliases", dir), *members = xasprintf("%s/members", dir), *more = xasprintf("%s/more", dir);
    char *round = xasprintf("%s/round", dir);
    char *text = xasprintf("staff: :include:%s, boss@b.example\nowner-staff: Keeper\nother: x@b.example\nowner-other: k1@b.example\n"
                           "nested: staff, z@b.example\nowner-nested: n1, n2\nround: :include:%s\ncmd: \":include:%s\"\nplain: p@b.example\n"
                           "none: /dev/null\nagent: /var/mail/agent\ntwice: :include:%s, :include:%s\nrelative: :include:members\n"
                           "device: :include:/dev/zero\ngone: four@b.example, :include:%s/gone\n", members, round, more, more, more, dir);
    write_file(alias_file, text);
    char *list = xasprintf("# who works here\n one@b.example,\n  two@b.example\n\nThree <three@b.example> (x)\n:include:%s\n", more);
    write_file(members, list);
    write_file(more, "four@b.example\n|/bin/false\n");
    char *self = xasprintf(":include:%s\n", round);
    write_file(round, self);
    char *conf = xasprintf("%slocal_transport = local\nalias_maps = hash:%s\n", site, alias_file);
    struct fixture *f = fixture_new(conf);
    assert_string_equal(targets(f, "plain@example.com"), "p@b.example/");
    assert_string_equal(targets(f, "other@example.com"), "x@b.example/owner-other@hub.example.com");
    assert_string_equal(targets(f, "cmd@example.com"), "four@b.example/");
    assert_string_equal(targets(f, "staff@example.com"), "one@b.example/owner-staff@hub.example.com two@b.example/owner-staff@hub.example.com "
                        "three@b.example/owner-staff@hub.example.com four@b.example/owner-staff@hub.example.com boss@b.example/owner-staff@hub.example.com");
    assert_non_null(strstr(targets(f, "nested@example.com"), "z@b.example/owner-nested@hub.example.com one@b.example/owner-staff@hub.example.com"));
    /* Nobody, and so not a user of that name either. */
    assert_string_equal(targets(f, "round@example.com"), "double-bounce@example.com/");
    assert_string_equal(targets(f, "none@example.com"), "double-bounce@example.com/");
    assert_string_equal(targets(f, "agent@example.com"), "agent@example.com/");
    assert_string_equal(targets(f, "twice@example.com"), "four@b.example/");
    assert_string_equal(targets(f, "relative@example.com"), "!");
    assert_string_equal(targets(f, "device@example.com"), "!");
    assert_string_equal(targets(f, "gone@example.com"), "!");
    write_file(more, "four@b.example\n:include:/dev/null/x\n");
    assert_string_equal(targets(f, "cmd@example.com"), "!");
    write_file(more, "four@b.example\n");
    assert_int_equal(truncate(more, (4 << 20) + 1), 0);
    assert_string_equal(targets(f, "cmd@example.com"), "!");
    write_file(more, "four@b.example\n|/bin/false\n");
    assert_int_equal(chmod(more, 0666), 0);
    assert_string_equal(targets(f, "cmd@example.com"), "!");
    fixture_free(&f);
    char *expanded = xasprintf("%s" "expand_owner_alias = yes\npropagate_unmatched_extensions = alias\n", conf);
    f = fixture_new(expanded);
    assert_string_equal(targets(f, "other@example.com"), "x@b.example/k1@b.example");
    assert_string_equal(targets(f, "plain+e@example.com"), "p+e@b.example/");
    assert_string_equal(targets(f, "nested+e@example.com"), "!");
    fixture_free(&f);
    const char *const files[] = { alias_file, members, more, round };
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        unlink(files[i]);
    rmdir(dir);
    free(alias_file), free(members), free(more), free(round), free(text), free(list), free(self), free(conf), free(expanded);
}

/* Compiled anew beside the old one: tables are shared, the old snapshot goes on working. */
static void test_reload(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("virtual_alias_maps = inline:{a@x=b@x}\n");
    struct policy_options o = { .conf = f->conf, .previous = f->policy, .report = &f->report };
    struct policy *next = policy_compile(&o);
    assert_non_null(next);
    struct policy *old = policy_ref(f->policy);
    policy_unref(&f->policy);
    f->policy = next;
    expect_expansion(f, "new", "a@x", "b@x");
    f->policy = old;
    expect_expansion(f, "old", "a@x", "b@x");
    policy_unref(&next);
    expect_expansion(f, "old again", "a@x", "b@x");
    fixture_free(&f);
}

static void test_named_lists(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("debug_peer_list = 192.0.2.1, example.net\nsmtpd_client_event_limit_exceptions = fail:x\n");
    struct ip_addr ip;
    assert_true(ip_parse(SPAN_LIT("192.0.2.1"), &ip));
    assert_int_equal(policy_match_addr(f->policy, NULL, "debug_peer_list", &ip, SPAN_LIT("192.0.2.1"), SPAN_LIT("unknown")), LOOKUP_FOUND);
    assert_int_equal(policy_match_addr(f->policy, NULL, "smtpd_client_event_limit_exceptions", &ip, SPAN_LIT("192.0.2.1"), SPAN_LIT("x")), LOOKUP_TEMPFAIL);
    assert_false(policy_is_mynetworks(f->policy, &ip, SPAN_LIT("192.0.2.1")));
    assert_true(ip_parse(SPAN_LIT("127.1.2.3"), &ip));
    assert_true(policy_is_mynetworks(f->policy, &ip, SPAN_LIT("127.1.2.3")));
    assert_int_equal(policy_match_addr(f->policy, NULL, "debug_peer_list", &ip, SPAN_LIT("127.1.2.3"), SPAN_LIT("a.Example.net")), LOOKUP_FOUND);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_virtual_aliases),
        cmocka_unit_test(test_alias_files),
        cmocka_unit_test(test_lists_and_owners),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_named_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
