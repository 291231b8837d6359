/* posthousectl tables: what the running daemon counted of its lookup tables */
#include "daemon/cmd/posthousectl.h"

#include <getopt.h>
#include <sysexits.h>

#include "daemon/cmd/queue_format.h"

struct show {
    bool as_json;
    size_t shown;
};

static json_int_t count(const json_t *j, const char *name)
{
    return json_integer_value(json_object_get(j, name));
}

static void print_row(void *arg, const json_t *j)
{
    struct show *s = arg;
    if (s->as_json) {
        queue_show_json(stdout, j);
        return;
    }
    if (s->shown++ == 0)
        printf("%10s %10s %10s %8s %8s %8s  %s\n", "lookups", "found", "not found", "failed", "cached", "ms each", "table");
    printf("%10" JSON_INTEGER_FORMAT " %10" JSON_INTEGER_FORMAT " %10" JSON_INTEGER_FORMAT " %8" JSON_INTEGER_FORMAT, count(j, "lookups"),
           count(j, "found"), count(j, "not_found"), count(j, "failed"));
    json_int_t asked = count(j, "lookups") - count(j, "cached");
    if (json_object_get(j, "cached") == NULL)
        printf(" %8s %8s", "-", "-");
    else
        printf(" %8" JSON_INTEGER_FORMAT " %8.1f", count(j, "cached"), asked > 0 ? (double)count(j, "asked_ms") / (double)asked : 0.0);
    printf("  %s\n", queue_text(j, "table"));
}

int ctl_cmd_tables(struct ctl *ctl, int argc, char **argv)
{
    struct show s = { .shown = 0 };
    int c;
    while ((c = getopt(argc, argv, "j")) != -1) {
        if (c != 'j')
            return EX_USAGE;
        s.as_json = true;
    }
    if (optind != argc) {
        ctl_complain("usage: %s [-j]", argv[0]);
        return EX_USAGE;
    }
    return ctl_answers(ctl, "tables", print_row, &s);
}
