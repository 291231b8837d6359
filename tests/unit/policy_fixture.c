#include "tests/unit/unit.h"
#include "common/base/mem.h"
#include "tests/unit/policy_fixture.h"

#include "policy/answers.h"

static const char stock_main[] =
    "myhostname = hub.example.com\n"
    "mynetworks = 127.0.0.0/8 [::1]/128 198.51.100.0/24\n"
    "inet_interfaces = 127.0.0.1, [::1], 203.0.113.5\n"
    "alias_maps =\n"
    "local_recipient_maps =\n";

static const char stock_master[] =
    "smtp inet n - n - - smtpd\n"
    "smtp unix - - n - - smtp\n"
    "relay unix - - n - - smtp\n"
    "lmtp unix - - n - - lmtp\n"
    "virtual unix - n n - - virtual\n"
    "error unix - - n - - error\n"
    "retry unix - - n - - error\n"
    "discard unix - - n - - discard\n"
    "local unix - n n - - local\n";

static struct span notes_text;

struct fixture *fixture_new_master(const char *main_cf, const char *master_cf)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    char *text = xasprintf("%s%s", stock_main, main_cf);
    struct conf_options o = { .main_cf_text = text, .master_cf_text = master_cf };
    f->arena = arena_new(0);
    f->conf = conf_load(&o, &f->report);
    free(text);
    if (f->conf == NULL)
        return f;
    struct policy_options po = { .conf = f->conf, .report = &f->report };
    f->policy = policy_compile(&po);
    return f;
}

struct fixture *fixture_new(const char *main_cf)
{
    struct fixture *f = fixture_new_master(main_cf, stock_master);
    for (size_t i = 0; f->policy == NULL && i < f->report.count; i++) {
        if (f->report.items[i].severity == CONF_ERROR)
            fail_msg("policy: %s", f->report.items[i].text);
    }
    return f;
}

void fixture_free(struct fixture **fp)
{
    struct fixture *f = *fp;
    if (f == NULL)
        return;
    policy_unref(&f->policy);
    conf_unref(&f->conf);
    conf_report_free(&f->report);
    arena_free(&f->arena);
    free(f);
    *fp = NULL;
}

const struct conf_finding *fixture_finding(const struct fixture *f, const char *text)
{
    for (size_t i = 0; i < f->report.count; i++) {
        if (strstr(f->report.items[i].text, text) != NULL)
            return &f->report.items[i];
    }
    return NULL;
}

const char *fixture_check(struct fixture *f, const struct rcpt_case *rc)
{
    struct policy_client c = {
        .addr_text = span_cstr(rc->client ? rc->client : "192.0.2.9"),
        .name = span_cstr(rc->client_name ? rc->client_name : "unknown"),
        .reverse_name = span_cstr(rc->reverse_name ? rc->reverse_name : rc->client_name ? rc->client_name : "unknown"),
        .tls = rc->tls,
        .rcpt_count = rc->rcpt_count,
        .helo = span_cstr(rc->helo ? rc->helo : "client.example.net"),
        .sender = span_cstr(rc->sender ? rc->sender : "someone@elsewhere.example"),
        .sender_given = rc->sender_given ? span_cstr(rc->sender_given) : span_of(NULL, 0),
        .recipient = span_cstr(rc->recipient ? rc->recipient : ""),
        .sasl_user = span_cstr(rc->sasl_user ? rc->sasl_user : ""),
        .carry = rc->carry,
    };
    struct verdict_reply out;
    if (!ip_parse(c.addr_text, &c.addr))
        fail_msg("bad client address");
    enum policy_stage stage = rc->stage == STAGE_CONNECT && rc->recipient != NULL ? STAGE_RCPT : rc->stage;
    const struct conf_service *svc = rc->listener ? rc->listener : conf_service(f->conf, 0);
    enum verdict v;
    f->waits = f->slept_ms = 0;
    c.answers = policy_answers_new(f->dns);
    while ((v = policy_check(f->policy, svc, stage, &c, f->arena, &out)) == VERDICT_WAIT) {
        int64_t ms = policy_answers_take_sleep_ms(c.answers);
        f->slept_ms += (unsigned)ms;
        f->waits += ms == 0;
        if (ms == 0)
            policy_answers_wait(c.answers);
        if (f->waits > 20)
            fail_msg("the evaluation never ends");
    }
    policy_answers_free(&c.answers);
    notes_text = span_of("", 0);
    for (const struct policy_note *n = out.notes; n != NULL; n = n->next)
        notes_text = span_cstr(arena_printf(f->arena, "%.*s%s: %.*s\n", SPAN_ARG(notes_text), n->what, SPAN_ARG(n->text)));
    if (v == VERDICT_OK)
        return "250";
    return arena_printf(f->arena, "%d %.*s %.*s", out.code, SPAN_ARG(out.dsn), SPAN_ARG(out.text));
}

const char *fixture_rcpt(struct fixture *f, const char *recipient)
{
    return fixture_check(f, &(struct rcpt_case){ .recipient = recipient });
}

const char *fixture_notes(const struct fixture *f)
{
    (void)f;
    return notes_text.n ? notes_text.p : "";
}
