/*
 * conf_check: mistakes that show only when values are seen together
 *
 * Relay control: of smtpd_relay_restrictions and smtpd_recipient_restrictions at least one must reach a restriction
 * that refuses relaying. What stands behind an unconditional permit is never reached and does not count; a restriction
 * behind warn_if_reject does not count either. Restriction classes are followed.
 */
#include "common/base/ascii.h"
#include "common/conf/conf_host.h"
#include "common/conf/conf_internal.h"
#include "common/conf/expand.h"

#define CLASS_DEPTH_MAX 10

static const char *const relay_controls[] = {
    "reject_unauth_destination", "defer_unauth_destination", "reject", "defer", "defer_if_permit",
    "check_relay_domains",
};

static bool is_relay_control(struct span item)
{
    for (size_t i = 0; i < ARRAY_LEN(relay_controls); i++) {
        if (span_ieq_cstr(item, relay_controls[i]))
            return true;
    }
    return false;
}

static bool list_has(const char *list, struct span item)
{
    struct span rest = span_cstr(list), s;
    while (conf_list_next(&rest, &s, NULL)) {
        if (span_ieq(s, item))
            return true;
    }
    return false;
}

static bool protects_relay(const struct conf_values *v, struct span list, int depth)
{
    struct span item;
    bool braced, after_warn = false;
    while (conf_list_next(&list, &item, &braced)) {
        bool skip = after_warn;
        after_warn = span_ieq_cstr(item, "warn_if_reject");
        if (skip || after_warn || braced)
            continue;
        if (is_relay_control(item))
            return true;
        if (span_ieq_cstr(item, "permit"))
            return false;
        if (depth < CLASS_DEPTH_MAX && list_has(v->params->smtpd_restriction_classes, item)) {
            const struct conf_entry *class = conf_dict_get(v->named, item);
            if (class != NULL && protects_relay(v, span_cstr(class->value), depth + 1))
                return true;
        }
    }
    return false;
}

void conf_check_listener(const struct conf *c, const struct conf_service *svc, const struct conf_values *v,
                         struct conf_report *report)
{
    if (protects_relay(v, span_cstr(v->params->smtpd_relay_restrictions), 0) ||
        protects_relay(v, span_cstr(v->params->smtpd_recipient_restrictions), 0))
        return;
    conf_report_add(report, CONF_ERROR, c->master_file, svc->line,
                    "service %s would relay mail for anyone: smtpd_relay_restrictions or smtpd_recipient_restrictions "
                    "must contain reject_unauth_destination, defer_unauth_destination, reject, defer, defer_if_permit "
                    "or check_relay_domains, and not behind an unconditional permit",
                    svc->name);
}

static void report_value(const struct conf *c, struct conf_report *report, const char *name, const char *value,
                         const char *what)
{
    const struct conf_entry *e = conf_dict_get(c->main, span_cstr(name));
    conf_report_add(report, CONF_ERROR, e ? e->file : NULL, e ? e->line : 0, "%s = %s: %s", name, value, what);
}

/* relayhost without brackets and port. */
static struct span host_part(struct span s)
{
    if (s.n > 0 && s.p[0] == '[') {
        ptrdiff_t end = span_find(s, ']');
        return end < 0 ? s : span_of(s.p + 1, (size_t)end - 1);
    }
    ptrdiff_t colon = span_find(s, ':');
    return colon < 0 ? s : span_of(s.p, (size_t)colon);
}

static void check_relayhost(const struct conf *c, struct conf_report *report)
{
    const struct params *p = c->global->params;
    struct span rest = span_cstr(p->relayhost), item;
    while (conf_list_next(&rest, &item, NULL)) {
        if (span_ieq_cstr(item, p->myhostname)) {
            report_value(c, report, "relayhost", p->relayhost,
                         "it is this host itself (myhostname): mail would go round in a circle");
        } else if (span_ieq_cstr(host_part(item), p->myhostname)) {
            const struct conf_entry *e = conf_dict_get(c->main, SPAN_LIT("relayhost"));
            conf_report_add(report, CONF_WARNING, e ? e->file : NULL, e ? e->line : 0,
                            "relayhost = %s: it is this host itself; another port or address must answer there",
                            p->relayhost);
        }
    }
}

static void check_protocols(const struct conf *c, struct conf_report *report)
{
    const struct params *p = c->global->params;
    struct span rest = span_cstr(p->inet_protocols), item;
    bool any = false;
    while (conf_list_next(&rest, &item, NULL)) {
        any = true;
        if (!span_ieq_cstr(item, "all") && !span_ieq_cstr(item, "ipv4") && !span_ieq_cstr(item, "ipv6"))
            report_value(c, report, "inet_protocols", p->inet_protocols, "expected all, ipv4, ipv6 or a list of these");
    }
    if (!any)
        report_value(c, report, "inet_protocols", p->inet_protocols, "it must not be empty");
}

void conf_check_global(const struct conf *c, struct conf_report *report)
{
    const struct params *p = c->global->params;
    if (p->myhostname[0] != '\0' && !conf_is_hostname(span_cstr(p->myhostname)))
        report_value(c, report, "myhostname", p->myhostname, "expected a host name such as mail.example.org");
    if (p->mydomain[0] != '\0' && !conf_is_hostname(span_cstr(p->mydomain)))
        report_value(c, report, "mydomain", p->mydomain, "expected a domain name such as example.org");
    check_relayhost(c, report);
    check_protocols(c, report);
    if (p->minimal_backoff_time > p->maximal_backoff_time)
        conf_report_add(report, CONF_WARNING, NULL, 0,
                        "minimal_backoff_time is more than maximal_backoff_time; the larger one is used for both");
}
