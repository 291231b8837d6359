/*
 * master.cf alone: what is read keeps to the file's lines, and a snapshot that loads has whole services. Each line is one
 * service or one finding; none appears from nowhere.
 */
#include "tests/fuzz/fuzz.h"

#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/conf/conf_report.h"
#include "common/conf/master_cf.h"
#include "common/conf/params.h"

static size_t check_lines(struct span text)
{
    struct conf_report r = { .items = NULL };
    struct arena *a = arena_new(0);
    struct master_line *list = master_cf_read(a, text, "master.cf", &r);
    int last = 0, lines = 1;
    size_t services = 0;
    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    for (const struct master_line *l = list; l != NULL; l = l->next) {
        CHECK(l->line > last && l->line <= lines);
        last = l->line;
        CHECK(l->name[0] != '\0' && l->type[0] != '\0' && l->column[MASTER_PROGRAM][0] != '\0');
        for (size_t i = 0; i < l->argc; i++)
            CHECK(l->argv[i] != NULL);
        CHECK(l->argv[l->argc] == NULL && l->first_plain <= l->argc);
        services += !l->replaced;
    }
    for (size_t i = 0; i < r.count; i++)
        CHECK(r.items[i].line <= lines && r.items[i].text[0] != '\0' && strchr(r.items[i].text, '\n') == NULL);
    master_cf_free(&list);
    conf_report_free(&r);
    arena_free(&a);
    return services;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n > 16384)
        return 0;
    char *text = xstrndup((const char *)data, n);
    size_t services = check_lines(span_cstr(text));
    struct conf_options o = { .main_cf_text = "myhostname = a.example\n", .master_cf_text = text, .hostname = "a.example" };
    struct conf_report r;
    struct conf *c = conf_load(&o, &r);
    CHECK(c != NULL || r.count > 0);
    if (c != NULL) {
        CHECK(conf_service_count(c) <= services);
        for (size_t i = 0; i < conf_service_count(c); i++) {
            const struct conf_service *s = conf_service(c, i);
            CHECK(s->p != NULL && s->p_stress != NULL && s->name[0] != '\0' && s->maxproc >= 0);
            CHECK(s->role != SVC_TRANSPORT || s->limits.destination_recipient_limit >= 0);
            if (s->role == SVC_TRANSPORT)
                CHECK(conf_transport(c, span_cstr(s->name)) != NULL);
        }
        conf_unref(&c);
    }
    conf_report_free(&r);
    free(text);
    return 0;
}
