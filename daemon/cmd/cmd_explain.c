/* posthousectl explain: the question, and what it takes to answer it: configuration, tables, resolvers. */
#include "daemon/cmd/posthousectl.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "common/base/num.h"
#include "common/conf/params.h"
#include "common/dns/dns.h"
#include "daemon/cmd/explain.h"
#include "daemon/cmd/queue_format.h"

struct explain_args {
    struct explain_question q;
    const char *from_log, *log_file;
    bool as_json;
};

enum { OPT_CLIENT = 256, OPT_NAME, OPT_REVERSE, OPT_HELO, OPT_FROM, OPT_TO, OPT_SASL, OPT_TLS, OPT_ETRN, OPT_DATA, OPT_SIZE, OPT_LISTENER,
       OPT_ASK, OPT_LOG, OPT_LOG_FILE };

static const struct option longopts[] = {
    { "client", required_argument, NULL, OPT_CLIENT },     { "name", required_argument, NULL, OPT_NAME },
    { "reverse-name", required_argument, NULL, OPT_REVERSE }, { "helo", required_argument, NULL, OPT_HELO },
    { "from", required_argument, NULL, OPT_FROM },         { "to", required_argument, NULL, OPT_TO },
    { "sasl", required_argument, NULL, OPT_SASL },         { "tls", no_argument, NULL, OPT_TLS },
    { "etrn", required_argument, NULL, OPT_ETRN },         { "data", no_argument, NULL, OPT_DATA },
    { "size", required_argument, NULL, OPT_SIZE },         { "listener", required_argument, NULL, OPT_LISTENER },
    { "ask-services", no_argument, NULL, OPT_ASK },        { "from-log", required_argument, NULL, OPT_LOG },
    { "log-file", required_argument, NULL, OPT_LOG_FILE }, { 0 },
};

static int usage(void)
{
    ctl_complain("usage: explain [-j] --client ADDRESS [--name NAME] [--reverse-name NAME] [--helo NAME] [--from A] [--to A]...\n"
                 "         [--sasl USER] [--tls] [--etrn DOMAIN] [--data] [--size BYTES] [--listener SERVICE] [--ask-services]\n"
                 "       explain [-j] --from-log QUEUEID|SESSION [--log-file FILE] [any of the above, instead of what the log says]");
    return EX_USAGE;
}

static bool take_size(const char *text, uint64_t *out)
{
    int64_t n = 0;
    if (!num_parse(span_cstr(text), 0, INT64_MAX, &n))
        return false;
    *out = (uint64_t)n;
    return true;
}

/* "<a@b>" is a@b. */
static const char *bare(char *address)
{
    size_t n = strlen(address);
    if (n < 2 || address[0] != '<' || address[n - 1] != '>')
        return address;
    address[n - 1] = '\0';
    return address + 1;
}

static bool take_option(struct explain_args *a, int c)
{
    struct explain_question *q = &a->q;
    switch (c) {
    case 'j': a->as_json = true; return true;
    case OPT_CLIENT: q->client = optarg; return true;
    case OPT_NAME: q->name = optarg; return true;
    case OPT_REVERSE: q->reverse = optarg; return true;
    case OPT_HELO: q->helo = optarg; return true;
    case OPT_FROM: q->sender = bare(optarg); return true;
    case OPT_TO:
        if (q->rcpt_count == EXPLAIN_RCPTS_MAX)
            return false;
        q->rcpt[q->rcpt_count++] = bare(optarg);
        return true;
    case OPT_SASL: q->sasl_user = optarg; return true;
    case OPT_TLS: q->is_tls = true; return true;
    case OPT_ETRN: q->etrn = optarg; return true;
    case OPT_DATA: q->is_data = true; return true;
    case OPT_SIZE: return take_size(optarg, &q->size_bytes);
    case OPT_LISTENER: q->listener = optarg; return true;
    case OPT_ASK: q->asks_services = true; return true;
    case OPT_LOG: a->from_log = optarg; return true;
    case OPT_LOG_FILE: a->log_file = optarg; return true;
    default: return false;
    }
}

static void override_text(const char **to, const char *from)
{
    if (from != NULL)
        *to = from;
}

/* What the log says, unless the command line says otherwise. */
static bool read_log(struct explain_args *a, const struct params *p, struct arena *arena)
{
    struct explain_question *q = &a->q, *given = arena_alloc(arena, sizeof *given);
    struct err e = ERR_INIT;
    const char *file = a->log_file != NULL ? a->log_file : p->maillog_file;
    *given = *q;
    if (*file == '\0')
        file = "/var/log/mail.log";
    q->rcpt_count = 0;
    if (!explain_from_log(file, a->from_log, arena, q, &e)) {
        ctl_complain("%s", e.text);
        return false;
    }
    override_text(&q->client, given->client);
    override_text(&q->name, given->name);
    override_text(&q->helo, given->helo);
    override_text(&q->sender, given->sender);
    override_text(&q->sasl_user, given->sasl_user);
    if (given->rcpt_count > 0) {
        q->rcpt_count = given->rcpt_count;
        memcpy(q->rcpt, given->rcpt, sizeof q->rcpt);
    }
    return true;
}

static struct policy *compile(struct conf *conf)
{
    struct conf_report report = { 0 };
    struct policy_options o = { .conf = conf, .report = &report };
    struct policy *p = policy_compile(&o);
    for (size_t i = 0; i < report.count; i++)
        if (report.items[i].severity == CONF_ERROR)
            ctl_complain("%s", report.items[i].text);
    conf_report_free(&report);
    return p;
}

static int answer(struct conf *conf, const struct explain_args *a)
{
    struct err e = ERR_INIT;
    const struct params *p = conf_global(conf);
    struct dns_options o = { .resolvers = p->dns_resolver_addresses, .timeout_ms = (int)p->dns_timeout };
    struct policy *policy = compile(conf);
    if (policy == NULL)
        return EX_CONFIG;
    struct dns *dns = dns_start(&o, &e);
    if (dns == NULL)
        ctl_complain("DNS cannot be asked: %s", e.text);
    json_t *j = explain_run(conf, policy, dns, &a->q, &e);
    if (j == NULL)
        ctl_complain("%s", e.text);
    else if (a->as_json)
        queue_show_json(stdout, j);
    else
        explain_print(stdout, j);
    json_decref(j);
    dns_stop(&dns);
    policy_unref(&policy);
    return j != NULL ? EX_OK : EX_DATAERR;
}

int ctl_cmd_explain(struct ctl *ctl, int argc, char **argv)
{
    struct explain_args *a = calloc(1, sizeof *a);
    struct arena *arena = arena_new(0);
    int c, status = EX_OSERR;
    if (a == NULL)
        goto out;
    a->q.is_esmtp = true;
    status = EX_USAGE;
    while ((c = getopt_long(argc, argv, "j", longopts, NULL)) != -1) {
        if (!take_option(a, c)) {
            (void)usage();
            goto out;
        }
    }
    if (optind != argc || (a->q.client == NULL && a->from_log == NULL)) {
        (void)usage();
        goto out;
    }
    status = EX_CONFIG;
    if (ctl_config(ctl) == NULL)
        goto out;
    status = EX_DATAERR;
    if (a->from_log != NULL && !read_log(a, conf_global(ctl->conf), arena))
        goto out;
    status = answer(ctl->conf, a);
out:
    free(a);
    arena_free(&arena);
    return status;
}
