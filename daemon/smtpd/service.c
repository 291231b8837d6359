/* What a listener's sessions need of the configuration in ready form. Built once per snapshot, immutable, counted. */
#include <errno.h>
#include <regex.h>

#include "daemon/smtpd/content.h"
#include "daemon/smtpd/smtpd_internal.h"

struct smtpd_pattern {
    regex_t re;
};

static const char *const ehlo_names[EHLO_KEYWORDS] = {
    [EHLO_PIPELINING] = "PIPELINING", [EHLO_SIZE] = "SIZE", [EHLO_VRFY] = "VRFY", [EHLO_ETRN] = "ETRN",
    [EHLO_STARTTLS] = "STARTTLS", [EHLO_AUTH] = "AUTH", [EHLO_XCLIENT] = "XCLIENT",
    [EHLO_XFORWARD] = "XFORWARD", [EHLO_ENHANCEDSTATUSCODES] = "ENHANCEDSTATUSCODES",
    [EHLO_8BITMIME] = "8BITMIME", [EHLO_DSN] = "DSN", [EHLO_SMTPUTF8] = "SMTPUTF8", [EHLO_CHUNKING] = "CHUNKING",
};

unsigned smtpd_ehlo_keywords_parse(const char *list)
{
    unsigned mask = 0;
    struct span rest = span_cstr(list), item;
    bool braced;
    while (conf_list_next(&rest, &item, &braced))
        for (int k = 0; k < EHLO_KEYWORDS; k++)
            if (span_ieq_cstr(item, ehlo_names[k]))
                mask |= 1u << k;
    if (smtpd_word_in_list(list, SPAN_LIT("silent-discard")))
        mask |= EHLO_SILENT;
    return mask;
}

const char *smtpd_ehlo_keyword_name(enum ehlo_keyword k)
{
    return ehlo_names[k];
}

bool smtpd_word_in_list(const char *list, struct span word)
{
    struct span rest = span_cstr(list), item;
    bool braced;
    while (conf_list_next(&rest, &item, &braced))
        if (span_ieq(item, word))
            return true;
    return false;
}

static int octal_value(const char *p, int *used)
{
    int v = 0;
    for (*used = 0; *used < 3 && p[*used] >= '0' && p[*used] <= '7'; (*used)++)
        v = v * 8 + p[*used] - '0';
    return v;
}

/* Characters with C escapes (postconf(5) message_strip_characters) into a set; false when it is empty. */
static bool parse_characters(const char *text, bool set[256])
{
    static const char from[] = "abfnrtv\\", to[] = "\a\b\f\n\r\t\v\\";
    bool any = false;
    for (const char *p = text; *p != '\0'; any = true) {
        int used = 1;
        unsigned char c = (unsigned char)*p;
        if (c == '\\' && p[1] != '\0') {
            p++;
            const char *f = strchr(from, *p);
            if (f != NULL)
                c = (unsigned char)to[f - from];
            else if (*p >= '0' && *p <= '7')
                c = (unsigned char)octal_value(p, &used);
            else
                c = (unsigned char)*p;
        }
        p += used;
        set[c] = true;
    }
    return any;
}

static void texts_init(struct smtpd_texts *t, const struct params *p)
{
    t->p = p;
    t->ehlo_discard = smtpd_ehlo_keywords_parse(p->smtpd_discard_ehlo_keywords);
    t->has_strip = parse_characters(p->message_strip_characters, t->strip);
    t->has_reject = parse_characters(p->message_reject_characters, t->reject);
    t->drop = hdr_names_of(p->message_drop_headers);
    t->notify_classes = smtpd_notify_classes(p);
    t->has_reject_filter = *p->smtpd_reject_filter_maps != '\0';
    t->has_footer = *p->smtpd_reject_footer != '\0' || *p->smtpd_reject_footer_maps != '\0';
}

/* "/pattern/flags" at the start of a rule. Flag i toggles case, which is ignored by default (regexp_table(5)). */
static bool add_pattern(struct smtpd_service *v, struct span rule, struct err *e)
{
    int flags = REG_EXTENDED | REG_NOSUB | REG_ICASE;
    rule = span_trim(rule);
    size_t end = 1;
    while (end < rule.n && rule.p[end] != rule.p[0])
        end += rule.p[end] == '\\' ? 2 : 1;
    if (rule.n < 2 || end >= rule.n) {
        err_set(e, "smtpd_forbidden_commands: regexp rule \"%.*s\": no closing delimiter", SPAN_ARG(rule));
        return false;
    }
    for (size_t i = end + 1; i < rule.n && !ascii_is_space(rule.p[i]); i++) {
        if (rule.p[i] == 'i')
            flags ^= REG_ICASE;
        else if (rule.p[i] == 'x')
            flags ^= REG_EXTENDED;
    }
    char *text = arena_strndup(v->arena, rule.p + 1, end - 1);
    v->forbidden = xrealloc(v->forbidden, (v->forbidden_count + 1) * sizeof *v->forbidden);
    int rc = regcomp(&v->forbidden[v->forbidden_count].re, text, flags);
    if (rc != 0) {
        char why[128];
        regerror(rc, &v->forbidden[v->forbidden_count].re, why, sizeof why);
        err_set(e, "smtpd_forbidden_commands: regexp \"%s\": %s", text, why);
        return false;
    }
    v->forbidden_count++;
    return true;
}

/* Items are command words, or "regexp:{ {/re/ text} ... }". */
static bool parse_forbidden(struct smtpd_service *v, struct err *e)
{
    struct span rest = span_cstr(v->normal.p->smtpd_forbidden_commands), item, rule;
    bool braced;
    while (conf_list_next(&rest, &item, &braced)) {
        if (!span_istarts_with(item, SPAN_LIT("regexp:{")) || item.p[item.n - 1] != '}')
            continue;
        struct span rules = span_of(item.p + 8, item.n - 9);
        while (conf_list_next(&rules, &rule, &braced))
            if (!add_pattern(v, rule, e))
                return false;
    }
    return true;
}

bool smtpd_service_is_forbidden(const struct smtpd_service *v, struct span line)
{
    char text[256];
    size_t n = line.n < sizeof text - 1 ? line.n : sizeof text - 1;
    if (v->forbidden_count == 0)
        return false;
    if (n > 0)
        memcpy(text, line.p, n);
    text[n] = '\0';
    errno = 0;
    for (size_t i = 0; i < v->forbidden_count; i++)
        if (regexec(&v->forbidden[i].re, text, 0, NULL, 0) == 0)
            return true;
    if (errno == ENOMEM) /* glibc calls that "no match" */
        mem_exhausted();
    return false;
}

/* Listeners keep their number over reloads: it comes from the name, so that clients are still counted. */
static uint32_t number_of(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return h;
}

static void table_problem(void *arg, struct span spec, enum table_status status, const struct err *e)
{
    struct err *out = arg;
    if (status != TABLE_OK && out->text[0] == '\0')
        err_set(out, "%.*s: %s", SPAN_ARG(spec), e->text);
}

static unsigned no_flags(void *arg, struct span spec)
{
    (void)arg;
    (void)spec;
    return 0;
}

static struct maps *open_maps(struct smtpd_service *v, const char *parameter, const char *list, struct err *e)
{
    struct table_notes nobody = { NULL, NULL };
    struct err why = ERR_INIT;
    struct maps *m = maps_open(policy_tables(v->policy), span_cstr(list), no_flags, table_problem, &nobody, &why);
    if (why.text[0] != '\0')
        err_set(e, "%s: %s", parameter, why.text);
    return m;
}

/* A table that cannot be opened here would fail every EHLO or command: that is told at start, not to clients. */
static bool open_tables(struct smtpd_service *v, struct err *e)
{
    const struct params *p = v->normal.p;
    struct err why = ERR_INIT;
    v->discard_maps = open_maps(v, "smtpd_discard_ehlo_keyword_address_maps", p->smtpd_discard_ehlo_keyword_address_maps, &why);
    v->command_filter = open_maps(v, "smtpd_command_filter", p->smtpd_command_filter, &why);
    v->footer_maps = open_maps(v, "smtpd_reject_footer_maps", p->smtpd_reject_footer_maps, &why);
    v->reject_filter_maps = open_maps(v, "smtpd_reject_filter_maps", p->smtpd_reject_filter_maps, &why);
    if (why.text[0] != '\0' && e != NULL)
        *e = why;
    return why.text[0] == '\0';
}

static void wanted_protocols(struct smtpd_service *v)
{
    struct span rest = span_cstr(v->normal.p->inet_protocols), item;
    bool braced;
    while (conf_list_next(&rest, &item, &braced)) {
        v->has_v4 |= span_ieq_cstr(item, "ipv4") || span_ieq_cstr(item, "all");
        v->has_v6 |= span_ieq_cstr(item, "ipv6") || span_ieq_cstr(item, "all");
    }
}

struct smtpd_service *smtpd_service_new(const struct conf_service *svc, struct policy *policy, struct err *e)
{
    struct smtpd_service *v = xcalloc(1, sizeof *v);
    atomic_init(&v->refs, 1);
    v->svc = svc;
    v->number = number_of(svc->name);
    v->policy = policy_ref(policy);
    v->conf = conf_ref(policy_conf(policy));
    v->arena = arena_new(0);
    texts_init(&v->normal, svc->p);
    texts_init(&v->stress, svc->p_stress);
    wanted_protocols(v);
    if (!smtpd_word_in_list(svc->p->receive_override_options, SPAN_LIT("no_header_body_checks")))
        v->checks = policy_content_checks(policy, svc);
    v->hosts = hosts_file_load("/etc/hosts");
    if (!parse_forbidden(v, e) || !open_tables(v, e))
        smtpd_service_unref(&v);
    return v;
}

struct smtpd_service *smtpd_service_ref(struct smtpd_service *v)
{
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

void smtpd_service_unref(struct smtpd_service **vp)
{
    struct smtpd_service *v = *vp;
    *vp = NULL;
    if (v == NULL || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < v->forbidden_count; i++)
        regfree(&v->forbidden[i].re);
    free(v->forbidden);
    maps_close(&v->discard_maps);
    maps_close(&v->command_filter);
    maps_close(&v->footer_maps);
    maps_close(&v->reject_filter_maps);
    hosts_file_free(&v->hosts);
    arena_free(&v->arena);
    policy_unref(&v->policy);
    conf_unref(&v->conf);
    free(v);
}
