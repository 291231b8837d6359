/*
 * The checks of each cleanup service that a listener or pickup line names. Those of one service are shared by all who
 * name it.
 */
#include "common/base/mem.h"
#include "policy/checks_internal.h"

struct checks_of {
    const struct conf_service *svc;     /* who receives; NULL: main.cf */
    const struct conf_service *cleanup; /* NULL: master.cf has none of that name */
    const struct content_checks *checks; /* NULL: nothing is checked */
};

static const struct conf_service *find_cleanup(const struct conf *conf, const struct conf_service *svc)
{
    const char *name = (svc != NULL ? svc->p : conf_global(conf))->cleanup_service_name;
    for (size_t i = 0; i < conf_service_count(conf); i++) {
        const struct conf_service *s = conf_service(conf, i);
        if (strcmp(s->command, "cleanup") == 0 && strcmp(s->name, name) == 0)
            return s;
    }
    return NULL;
}

static struct maps *open_tables(struct compiler *c, const char *parameter, const char *list)
{
    struct maps *m = compile_maps(c, parameter, span_cstr(list));
    return maps_is_empty(m) ? NULL : m;
}

static const struct content_checks *make(struct compiler *c, const struct conf_service *cleanup)
{
    const struct params *v = cleanup != NULL ? cleanup->p : c->policy->p;
    struct content_checks *k = arena_alloc(c->policy->arena, sizeof *k);
    c->svc = cleanup;
    *k = (struct content_checks){ .p = v, .prefix = "" };
    k->maps[PIPE_MAIN] = open_tables(c, "header_checks", v->header_checks);
    k->maps[PIPE_MIME] = open_tables(c, "mime_header_checks", v->mime_header_checks);
    k->maps[PIPE_NESTED] = open_tables(c, "nested_header_checks", v->nested_header_checks);
    k->maps[CHECKS_BODY] = open_tables(c, "body_checks", v->body_checks);
    c->svc = NULL;
    bool is_mime = !v->disable_mime_input_processing;
    k->is_strict_header = is_mime && (v->strict_7bit_headers || v->strict_8bitmime);
    k->is_strict_body = is_mime && (v->strict_8bitmime_body || v->strict_8bitmime);
    k->is_strict_encoding = is_mime && v->strict_mime_encoding_domain;
    k->has_body = k->maps[CHECKS_BODY] != NULL || k->is_strict_body;
    bool any = k->has_body || k->is_strict_header || k->is_strict_encoding;
    for (int i = 0; i < CHECKS_TABLES; i++)
        any = any || k->maps[i] != NULL;
    return any ? k : NULL;
}

static void add(struct compiler *c, const struct conf_service *svc)
{
    struct policy *p = c->policy;
    struct checks_of *o = &p->checks[p->checks_count];
    *o = (struct checks_of){ .svc = svc, .cleanup = find_cleanup(p->conf, svc) };
    for (size_t i = 0; i < p->checks_count; i++) {
        if (p->checks[i].cleanup == o->cleanup) {
            o->checks = p->checks[i].checks;
            p->checks_count++;
            return;
        }
    }
    o->checks = make(c, o->cleanup);
    p->checks_count++;
}

void checks_compile(struct compiler *c)
{
    struct policy *p = c->policy;
    size_t n = conf_service_count(p->conf);
    p->checks = arena_alloc(p->arena, (n + 1) * sizeof *p->checks);
    add(c, NULL);
    for (size_t i = 0; i < n; i++) {
        const struct conf_service *svc = conf_service(p->conf, i);
        if (svc->role == SVC_LISTENER || strcmp(svc->command, "pickup") == 0)
            add(c, svc);
    }
}

const struct content_checks *policy_content_checks(const struct policy *p, const struct conf_service *svc)
{
    for (size_t i = 1; svc != NULL && i < p->checks_count; i++)
        if (p->checks[i].svc == svc)
            return p->checks[i].checks;
    return p->checks[0].checks;
}
