/* posthousectl verify list, forget, probe: what is known of addresses */
#include "daemon/cmd/posthousectl.h"

#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>

#include "common/mail/maildate.h"

static int usage(void)
{
    ctl_complain("usage: verify list [-j] | verify forget ADDRESS... | verify forget --all | verify probe ADDRESS...");
    return EX_USAGE;
}

static void print_item(void *arg, const json_t *j)
{
    const bool *as_json = arg;
    char date[MAIL_DATE_MAX];
    if (*as_json) {
        json_dumpf(j, stdout, 0);
        putchar('\n');
        return;
    }
    mail_date_format(json_integer_value(json_object_get(j, "updated")), date);
    printf("%-40s %-13s %s  %s%s\n", json_string_value(json_object_get(j, "address")), json_string_value(json_object_get(j, "status")), date,
           json_string_value(json_object_get(j, "text")), json_is_true(json_object_get(j, "probing")) ? " (being verified)" : "");
}

/* One request for an address, NULL: all. */
static int request(struct ctl *ctl, const char *op, const char *address, json_t **last)
{
    json_t *r = address != NULL ? json_pack("{s:s, s:s}", "op", op, "address", address) : json_pack("{s:s}", "op", op);
    if (r == NULL) {
        ctl_complain("\"%s\" is not valid UTF-8", address != NULL ? address : "");
        return EX_DATAERR;
    }
    return ctl_simple(ctl, r, last);
}

static int probe(struct ctl *ctl, const char *address)
{
    json_t *last = NULL;
    int status = request(ctl, "verify-probe", address, &last);
    if (status == 0) {
        const char *word = json_string_value(json_object_get(last, "status"));
        printf("%s: %s (%s)\n", address, word, json_string_value(json_object_get(last, "text")));
        status = strcmp(word, "deliverable") == 0 ? 0 : strcmp(word, "undeliverable") == 0 ? EX_NOUSER : EX_TEMPFAIL;
    }
    json_decref(last);
    return status;
}

int ctl_cmd_verify(struct ctl *ctl, int argc, char **argv)
{
    static const struct option longopts[] = { { "all", no_argument, NULL, 'a' }, { "json", no_argument, NULL, 'j' }, { 0 } };
    bool all = false, as_json = false;
    int c, status = 0;
    while ((c = getopt_long(argc, argv, "j", longopts, NULL)) != -1) {
        if (c != 'a' && c != 'j')
            return usage();
        *(c == 'a' ? &all : &as_json) = true;
    }
    const char *verb = optind < argc ? argv[optind++] : "";
    bool is_probe = strcmp(verb, "probe") == 0;
    if (strcmp(verb, "list") == 0 && optind == argc && !all)
        return ctl_answers(ctl, "verify-list", print_item, &as_json);
    if ((strcmp(verb, "forget") != 0 && !is_probe) || as_json || (all && is_probe) || (optind == argc) != all)
        return usage();
    if (all)
        return request(ctl, "verify-forget", NULL, NULL);
    for (; optind < argc; optind++) {
        int one = is_probe ? probe(ctl, argv[optind]) : request(ctl, "verify-forget", argv[optind], NULL);
        status = one != 0 ? one : status;
    }
    return status;
}
