/* posthousectl restrictions: the counters of the running daemon, by listener and list. */
#include "daemon/cmd/posthousectl.h"

#include <getopt.h>
#include <string.h>
#include <sysexits.h>

#include "daemon/cmd/queue_format.h"

struct show {
    bool as_json, never_only;
    char service[128], list[128]; /* headings that were printed */
    size_t shown;
};

static json_int_t count(const json_t *j, const char *name)
{
    return json_integer_value(json_object_get(j, name));
}

static json_int_t matches(const json_t *j)
{
    return count(j, "evaluated") - count(j, "none");
}

static void heading(struct show *s, const json_t *j)
{
    const char *service = queue_text(j, "listener"), *list = queue_text(j, "list");
    if (s->shown > 0 && strcmp(service, s->service) == 0 && strcmp(list, s->list) == 0)
        return;
    printf("%s%s: %s\n", s->shown > 0 ? "\n" : "", *service != '\0' ? service : "main.cf", list);
    if (!s->never_only)
        printf("%10s %9s %9s %9s %9s %9s %9s %9s\n", "evaluated", "permit", "reject", "defer", "postponed", "warning", "action", "dunno");
    snprintf(s->service, sizeof s->service, "%s", service);
    snprintf(s->list, sizeof s->list, "%s", list);
}

static void print_row(void *arg, const json_t *j)
{
    static const char *const columns[] = { "permit", "reject", "defer", "postponed", "warning", "action", "dunno" };
    struct show *s = arg;
    const char *argument = queue_text(j, "argument");
    bool never = matches(j) == 0;
    if (s->never_only && !never)
        return;
    if (s->as_json) {
        queue_show_json(stdout, j);
        return;
    }
    heading(s, j);
    s->shown++;
    printf("%10" JSON_INTEGER_FORMAT, count(j, "evaluated"));
    for (size_t i = 0; !s->never_only && i < ARRAY_LEN(columns); i++) {
        json_int_t n = count(j, columns[i]);
        if (n == 0)
            printf(" %9s", "-");
        else
            printf(" %9" JSON_INTEGER_FORMAT, n);
    }
    printf("  %s%s%s%s%s\n", json_is_true(json_object_get(j, "warn_if_reject")) ? "warn_if_reject " : "", queue_text(j, "restriction"),
           *argument != '\0' ? " " : "", argument, never && !s->never_only ? "  (never matched)" : "");
}

int ctl_cmd_restrictions(struct ctl *ctl, int argc, char **argv)
{
    static const struct option longopts[] = { { "never", no_argument, NULL, 'n' }, { 0 } };
    struct show s = { 0 };
    int c;
    while ((c = getopt_long(argc, argv, "j", longopts, NULL)) != -1) {
        if (c != 'j' && c != 'n')
            return EX_USAGE;
        if (c == 'j')
            s.as_json = true;
        else
            s.never_only = true;
    }
    if (optind != argc) {
        ctl_complain("usage: %s [-j] [--never]", argv[0]);
        return EX_USAGE;
    }
    return ctl_answers(ctl, "restrictions", print_row, &s);
}
