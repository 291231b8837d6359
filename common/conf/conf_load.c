/*
 * conf_load: reads both files, evaluates the global scope and every service, checks, and hands out the snapshot. All
 * mistakes are gathered before it gives up, so that one run shows them all.
 */
#include <netdb.h>
#include <sys/socket.h>
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/conf/conf_host.h"
#include "common/conf/conf_ignore.h"
#include "common/conf/conf_internal.h"
#include "common/conf/expand.h"

#define FILE_BYTES_MAX (16 * 1024 * 1024)

static _Atomic uint64_t generations; /* counts conf_load() calls; no other meaning */

static bool read_config_file(const char *path, const char *given, struct buf *b, struct conf_report *report)
{
    struct err e = ERR_INIT;
    if (given != NULL) {
        buf_puts(b, given);
        return true;
    }
    if (io_read_file(path, b, &e))
        return true;
    conf_report_add(report, CONF_ERROR, NULL, 0, "%s", e.text);
    return false;
}

static enum conf_service_type type_of(const char *type)
{
    if (strcmp(type, "inet") == 0)
        return SVC_INET;
    if (strcmp(type, "fifo") == 0)
        return SVC_FIFO;
    if (strcmp(type, "pass") == 0)
        return SVC_PASS;
    return strcmp(type, "unix-dgram") == 0 ? SVC_UNIX_DGRAM : SVC_UNIX;
}

static bool is_one_of(const char *s, const char *words)
{
    struct span rest = span_cstr(words), w;
    while (span_next_token(&rest, " ", &w)) {
        if (span_eq(w, span_cstr(s)))
            return true;
    }
    return false;
}

static enum conf_service_role role_of(const char *program, enum conf_service_type type)
{
    if (strcmp(program, "smtpd") == 0 && type == SVC_INET)
        return SVC_LISTENER;
    if (is_one_of(program, "smtpd dnsblog") && (type == SVC_PASS || type == SVC_UNIX))
        return SVC_INTERNAL; /* what postscreen hands to: see front_line() */
    if (is_one_of(program, "smtp lmtp virtual error retry discard") && (type == SVC_UNIX || type == SVC_FIFO))
        return SVC_TRANSPORT;
    if (is_one_of(program, "pickup cleanup qmgr oqmgr nqmgr tlsmgr trivial-rewrite bounce verify flush proxymap showq "
                           "anvil scache postlogd tlsproxy"))
        return SVC_INTERNAL;
    return SVC_UNSUPPORTED;
}

/* A port number or a name that known_tcp_ports or the system knows. */
static bool port_is_known(const struct conf *c, struct span port)
{
    int64_t n;
    char name[64], text[1024];
    struct servent entry, *found = NULL;
    if (num_parse(port, 0, 65535, &n))
        return true;
    struct span rest = span_cstr(c->global->params->known_tcp_ports), item, alias;
    while (span_next_token(&rest, ",", &item)) {
        item = span_trim(item);
        while (span_next_token(&item, "=", &alias)) {
            if (item.n > 0 && span_eq(span_trim(alias), port))
                return true;
        }
    }
    if (port.n == 0 || port.n >= sizeof(name))
        return false;
    memcpy(name, port.p, port.n);
    name[port.n] = '\0';
    return getservbyname_r(name, "tcp", &entry, text, sizeof(text), &found) == 0 && found != NULL;
}

/* "[host:]port", an IPv6 host in brackets. */
static void split_address(struct conf *c, struct conf_service *svc, struct conf_report *report)
{
    struct span name = span_cstr(svc->name), host = span_of(NULL, 0), port = name;
    ptrdiff_t colon = span_rfind(name, ':');
    if (colon >= 0) {
        host = span_of(name.p, (size_t)colon);
        port = span_from(name, (size_t)colon + 1);
    }
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = span_of(host.p + 1, host.n - 2);
    else if (span_find(host, ':') >= 0)
        conf_report_add(report, CONF_ERROR, c->master_file, svc->line,
                        "%s: an IPv6 address must be in brackets, as in [::1]:25", svc->name);
    if (!port_is_known(c, port))
        conf_report_add(report, CONF_ERROR, c->master_file, svc->line,
                        "%s: \"%.*s\" is neither a port number nor a service name that is known", svc->name,
                        SPAN_ARG(port));
    svc->host = host.n ? arena_strndup(c->arena, host.p, host.n) : "";
    svc->port = arena_strndup(c->arena, port.p ? port.p : "", port.n);
}

struct name_search {
    bool found;
};

static void note_service_name_cb(void *arg, struct span name)
{
    struct name_search *s = arg;
    s->found = s->found || span_eq(name, SPAN_LIT("service_name")) || span_eq(name, SPAN_LIT("process_name"));
}

/* main.cf uses a name that differs from service to service. */
static bool values_vary(const struct conf *c)
{
    struct name_search s = { .found = false };
    for (const struct conf_entry *e = conf_dict_first(c->main); e != NULL; e = e->next)
        expand_names(span_cstr(e->value), note_service_name_cb, &s);
    return s.found;
}

struct builder {
    struct conf *c;
    struct conf_report *report;
    struct conf_values *global_stress; /* made when the first listener needs it */
    bool vary;
    const char *sources_of;              /* inet_interfaces of which source4 and source6 were found */
    const char *source4, *source6;
};

static struct conf_values *values_for(struct builder *b, const struct master_line *l, bool stress)
{
    struct conf *c = b->c;
    struct conf_scope scope = { .src = &c->source, .overrides = l->overrides, .service_name = l->name,
                                .process_name = l->column[MASTER_PROGRAM], .stress = stress };
    if (conf_dict_count(l->overrides) > 0 || b->vary)
        return conf_values_make(c, &scope, b->report);
    if (!stress)
        return c->global;
    if (b->global_stress == NULL) {
        scope = c->global->scope;
        scope.stress = true;
        b->global_stress = conf_values_make(c, &scope, b->report);
    }
    return b->global_stress;
}

/*
 * postscreen(8) stands before smtpd: a port with it is served here as smtpd, with the overrides of the "smtpd pass" line
 * that postscreen would have handed its clients to. NULL when l is not such a port.
 */
static const struct master_line *front_line(struct builder *b, const struct master_line *l)
{
    struct conf *c = b->c;
    if (strcmp(l->column[MASTER_PROGRAM], "postscreen") != 0 || type_of(l->type) != SVC_INET)
        return NULL;
    conf_report_add(b->report, CONF_WARNING, c->master_file, l->line,
                    "%s: served as smtpd: the tests of postscreen are not made here (idle clients cost no process)", l->name);
    for (const struct master_line *m = c->lines; m != NULL; m = m->next)
        if (!m->replaced && type_of(m->type) == SVC_PASS && strcmp(m->column[MASTER_PROGRAM], "smtpd") == 0)
            return m;
    return l;
}

/* Names in inet_interfaces are resolved here, once for all transports that have the same list. */
static void find_sources(struct builder *b, struct conf_service *svc)
{
    const char *list = svc->p->inet_interfaces;
    if (b->sources_of != list) {
        struct buf text = BUF_INIT(0);
        b->sources_of = list;
        b->source4 = conf_host_source(list, AF_INET, &text) ? arena_strdup(b->c->arena, buf_cstr(&text)) : "";
        buf_reset(&text);
        b->source6 = conf_host_source(list, AF_INET6, &text) ? arena_strdup(b->c->arena, buf_cstr(&text)) : "";
        buf_free(&text);
    }
    svc->source4 = b->source4;
    svc->source6 = b->source6;
}

static void build_service(struct builder *b, const struct master_line *l, struct conf_service *svc,
                          struct conf_values **values)
{
    struct conf *c = b->c;
    const struct master_line *behind = front_line(b, l);
    const struct master_line *from = behind != NULL ? behind : l;
    struct conf_values *v = values_for(b, from, false);
    int64_t maxproc;

    *values = v;
    svc->name = l->name;
    svc->type = type_of(l->type);
    svc->command = behind != NULL ? "smtpd" : l->column[MASTER_PROGRAM];
    svc->role = role_of(svc->command, svc->type);
    svc->line = l->line;
    svc->is_private = svc->type != SVC_INET && strcmp(l->column[MASTER_PRIVATE], "n") != 0;
    svc->chroot = strcmp(l->column[MASTER_CHROOT], "y") == 0;
    svc->argc = l->argc - l->first_plain;
    svc->argv = l->argv + l->first_plain;
    svc->host = svc->port = svc->source4 = svc->source6 = "";
    svc->p = svc->p_stress = v->params;
    svc->maxproc = num_parse(span_cstr(from->column[MASTER_MAXPROC]), 0, INT32_MAX, &maxproc)
                       ? maxproc : v->params->default_process_limit;
    if (svc->type == SVC_INET)
        split_address(c, svc, b->report);
    if (svc->role == SVC_LISTENER) {
        svc->p_stress = values_for(b, from, true)->params;
        conf_check_listener(c, svc, v, b->report);
    }
    if (svc->role == SVC_TRANSPORT) {
        if (strcmp(svc->command, "smtp") == 0)
            svc->client = v->smtp;
        else if (strcmp(svc->command, "lmtp") == 0)
            svc->client = v->lmtp;
        if (svc->client != NULL)
            find_sources(b, svc);
        conf_transport_limits(c, v, svc->name, &svc->limits, b->report);
    }
}

static void build_services(struct conf *c, struct conf_report *report)
{
    struct builder b = { .c = c, .report = report, .vary = values_vary(c) };
    size_t n = 0;
    for (const struct master_line *l = c->lines; l != NULL; l = l->next)
        n += !l->replaced;
    c->services = arena_alloc(c->arena, (n + 1) * sizeof(*c->services));
    c->service_values = arena_alloc(c->arena, (n + 1) * sizeof(struct conf_values *));
    for (const struct master_line *l = c->lines; l != NULL; l = l->next) {
        if (l->replaced)
            continue;
        build_service(&b, l, &c->services[c->service_count], &c->service_values[c->service_count]);
        c->service_count++;
    }
}

static struct conf *conf_new(const struct conf_options *o)
{
    struct conf *c = xcalloc(1, sizeof(*c));
    struct buf host = BUF_INIT(1024);
    atomic_init(&c->refs, 1);
    c->generation = atomic_fetch_add_explicit(&generations, 1, memory_order_relaxed) + 1;
    c->arena = arena_new(64 * 1024);
    c->index = param_index_new();
    c->main = conf_dict_new(c->arena);
    c->dir = arena_strdup(c->arena, o->dir ? o->dir : "");
    c->main_file = o->dir ? arena_printf(c->arena, "%s/main.cf", o->dir) : "main.cf";
    c->master_file = o->dir ? arena_printf(c->arena, "%s/master.cf", o->dir) : "master.cf";
    conf_host_name(&host);
    c->source = (struct conf_source){
        .main = c->main, .index = c->index,
        .dir = o->dir && !conf_ignored(SPAN_LIT("config_directory")) ? c->dir : NULL,
        .hostname = o->hostname ? arena_strdup(c->arena, o->hostname) : arena_strdup(c->arena, buf_cstr(&host)),
    };
    buf_free(&host);
    return c;
}

static void conf_free(struct conf *c)
{
    conf_values_free_all(&c->values);
    master_cf_free(&c->lines);
    conf_dict_free(&c->main);
    param_index_free(&c->index);
    arena_free(&c->arena);
    free(c);
}

/* Definitions from a command line; the caller has looked at their form. */
static void set_from_options(struct conf *c, const char *const *settings)
{
    struct span name, value;
    for (; settings != NULL && *settings != NULL; settings++) {
        if (conf_split_definition(span_cstr(*settings), &name, &value) == NULL)
            (void)conf_dict_set(c->main, name, value, "-o option", 0);
    }
}

static bool read_files(struct conf *c, const struct conf_options *o, struct conf_report *report)
{
    struct buf main_cf = BUF_INIT(FILE_BYTES_MAX), master_cf = BUF_INIT(FILE_BYTES_MAX);
    bool ok = read_config_file(c->main_file, o->main_cf_text, &main_cf, report);
    ok = read_config_file(c->master_file, o->master_cf_text, &master_cf, report) && ok;
    if (ok) {
        conf_dict_read(c->main, buf_span(&main_cf), c->main_file, report);
        set_from_options(c, o->settings);
        c->lines = master_cf_read(c->arena, buf_span(&master_cf), c->master_file, report);
        c->source.services = c->lines;
    }
    buf_free(&main_cf);
    buf_free(&master_cf);
    return ok;
}

struct conf *conf_load_any(const struct conf_options *o, struct conf_report *report)
{
    struct conf *c = conf_new(o);
    *report = (struct conf_report){ .items = NULL };
    if (!read_files(c, o, report)) {
        conf_free(c);
        return NULL;
    }
    conf_source_compute(&c->source, c->arena, report);
    struct conf_scope scope = { .src = &c->source, .service_name = "", .process_name = "posthoused" };
    c->global = conf_values_make(c, &scope, report);
    build_services(c, report);
    conf_check_global(c, report);
    conf_check_names(c, report);
    return c;
}

struct conf *conf_load(const struct conf_options *o, struct conf_report *report)
{
    struct conf *c = conf_load_any(o, report);
    if (c != NULL && conf_report_has_errors(report))
        conf_unref(&c);
    return c;
}

struct conf *conf_ref(struct conf *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void conf_unref(struct conf **c)
{
    struct conf *old = *c;
    *c = NULL;
    /* acq_rel: the thread that frees sees everything that the others did with the snapshot before they let go. */
    if (old != NULL && atomic_fetch_sub_explicit(&old->refs, 1, memory_order_acq_rel) == 1)
        conf_free(old);
}

uint64_t conf_generation(const struct conf *c)
{
    return c->generation;
}

const char *conf_dir(const struct conf *c)
{
    return c->dir;
}

const struct params *conf_global(const struct conf *c)
{
    return c->global->params;
}

size_t conf_service_count(const struct conf *c)
{
    return c->service_count;
}

const struct conf_service *conf_service(const struct conf *c, size_t i)
{
    return &c->services[i];
}

const struct conf_service *conf_transport(const struct conf *c, struct span name)
{
    for (size_t i = 0; i < c->service_count; i++) {
        if (c->services[i].role == SVC_TRANSPORT && span_eq(name, span_cstr(c->services[i].name)))
            return &c->services[i];
    }
    return NULL;
}

const char *conf_text(const struct conf *c, const struct conf_service *svc, struct span name)
{
    const struct conf_values *v = svc ? c->service_values[svc - c->services] : c->global;
    ptrdiff_t row = param_find(c->index, name);
    if (row >= 0)
        return v->text[row];
    const struct conf_entry *e = conf_dict_get(v->named, name);
    return e ? e->value : NULL;
}

bool conf_is_default(const struct conf *c, struct span name)
{
    ptrdiff_t row = param_find(c->index, name);
    return row >= 0 && strcmp(c->global->text[row], param_row((size_t)row)->def) == 0;
}
