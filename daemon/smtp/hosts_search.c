/*
 * smtp_dns_resolver_options: the names that stand for a short one. The domains are those that resolver(5) would append:
 * of the environment's LOCALDOMAIN, else of the last `domain` or `search` line of /etc/resolv.conf, else what follows the
 * first dot of the system's name.
 */
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/io.h"
#include "daemon/smtp/hosts_internal.h"

#define RESOLV_CONF_MAX 65536
#define BLANK " \t"

static void put_resolv_conf(struct buf *out)
{
    struct buf text = BUF_INIT(RESOLV_CONF_MAX);
    struct err e = ERR_INIT;
    struct span rest, line, word;
    if (!io_read_file("/etc/resolv.conf", &text, &e))
        buf_reset(&text);
    rest = buf_span(&text);
    while (span_next_token(&rest, "\r\n", &line)) {
        if (!span_next_token(&line, BLANK, &word) || !(span_eq(word, SPAN_LIT("search")) || span_eq(word, SPAN_LIT("domain"))))
            continue;
        buf_reset(out);
        buf_add_span(out, line);
    }
    buf_free(&text);
}

static void put_system_domain(struct buf *out)
{
    char name[256];
    const char *dot;
    if (gethostname(name, sizeof name) != 0)
        return;
    name[sizeof name - 1] = '\0';
    dot = strchr(name, '.');
    if (dot != NULL)
        buf_puts(out, dot + 1);
}

size_t hosts_search_names(const struct hosts_options *o, struct arena *a, const char *name, const char *out[static HOSTS_SEARCH_MAX])
{
    struct buf domains = BUF_INIT(RESOLV_CONF_MAX);
    bool is_short = strchr(name, '.') == NULL;
    size_t n = 0;
    if (!is_short || !(o->search_domains || o->append_domain))
        out[n++] = name;
    if (!o->search_domains && !(is_short && o->append_domain))
        return n;
    const char *env = getenv("LOCALDOMAIN");
    if (env != NULL)
        buf_puts(&domains, env);
    else
        put_resolv_conf(&domains);
    if (env == NULL && domains.n == 0)
        put_system_domain(&domains);
    struct span rest = buf_span(&domains), domain;
    while (n + 1 < HOSTS_SEARCH_MAX && span_next_token(&rest, BLANK, &domain)) {
        if (span_eq(domain, SPAN_LIT(".")))
            continue;
        out[n++] = arena_printf(a, "%s.%.*s", name, SPAN_ARG(domain));
        if (!o->search_domains)
            break;
    }
    if (is_short)
        out[n++] = name;
    buf_free(&domains);
    return n;
}
