/* The answer of explain_run() for people: one line an event, indented by what it belongs to. */
#include <string.h>

#include "daemon/cmd/explain.h"

#define TABLE_SHOWN 40 /* characters of a table's name; inline tables have long ones */

static const char *text(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s != NULL ? s : "";
}

static bool is(const json_t *o, const char *name, const char *value)
{
    return strcmp(text(o, name), value) == 0;
}

static void print_lookup(FILE *to, const json_t *e, const char *key)
{
    const char *name = text(e, "name");
    bool is_long = strlen(name) > TABLE_SHOWN;
    fprintf(to, "%.*s%s %s: ", TABLE_SHOWN, name, is_long ? "..." : "", text(e, key));
    if (is(e, "got", "found"))
        fprintf(to, "\"%s\"\n", text(e, "value"));
    else if (is(e, "got", "none"))
        fputs("not there\n", to);
    else
        fprintf(to, "FAILED: %s\n", text(e, "value"));
}

static void print_step(FILE *to, const json_t *e)
{
    const char *outcome = text(e, "outcome");
    fprintf(to, "%s%s%s%s", json_is_true(json_object_get(e, "warn_if_reject")) ? "warn_if_reject " : "", text(e, "name"),
            json_object_get(e, "argument") != NULL ? " " : "", text(e, "argument"));
    fprintf(to, strcmp(outcome, "none") == 0 ? "\n" : "  -> %s\n", outcome);
}

static void print_event(FILE *to, const json_t *e)
{
    const char *kind = text(e, "kind");
    bool is_list = strcmp(kind, "list") == 0;
    fprintf(to, "%*s", (is_list ? 2 : 4) + 2 * (int)json_integer_value(json_object_get(e, "depth")), "");
    if (is_list)
        fprintf(to, "%s:\n", text(e, "name"));
    else if (strcmp(kind, "restriction") == 0)
        print_step(to, e);
    else if (strcmp(kind, "lookup") == 0)
        print_lookup(to, e, "key");
    else if (strcmp(kind, "dns") == 0)
        fprintf(to, "DNS %s %s: %s\n", text(e, "type"), text(e, "name"), text(e, "value"));
    else if (strcmp(kind, "service") == 0 && !json_is_true(json_object_get(e, "asked")))
        fprintf(to, "%s: not asked\n", text(e, "name"));
    else if (strcmp(kind, "service") == 0)
        fprintf(to, "policy server %s: %s\n", text(e, "name"), text(e, "value"));
    else if (strcmp(kind, "remark") == 0)
        fprintf(to, "%s\n", text(e, "value"));
    else
        fprintf(to, "%s: %s\n", text(e, "name"), text(e, "value"));
}

static void print_events(FILE *to, const json_t *events)
{
    size_t i;
    json_t *e;
    json_array_foreach(events, i, e)
        print_event(to, e);
}

static void print_stage(FILE *to, const json_t *s)
{
    fprintf(to, "%s\n", text(s, "command"));
    print_events(to, json_object_get(s, "events"));
    if (is(s, "verdict", "ok"))
        fputs("    => accepted\n", to);
    else
        fprintf(to, "    => %s\n", json_object_get(s, "reply") != NULL ? text(s, "reply") : text(s, "verdict"));
}

static void print_hop(FILE *to, const json_t *h)
{
    size_t i;
    json_t *s;
    fprintf(to, "      %s%s", json_is_true(json_object_get(h, "fallback")) ? "fallback " : "", text(h, "nexthop"));
    fprintf(to, "%s%s%s\n", json_is_true(json_object_get(h, "mx")) ? " (MX)" : "", json_object_get(h, "error") != NULL ? ": " : "",
            text(h, "error"));
    json_array_foreach(json_object_get(h, "servers"), i, s) {
        fputs("        ", to);
        if (json_object_get(s, "preference") != NULL)
            fprintf(to, "%" JSON_INTEGER_FORMAT " ", json_integer_value(json_object_get(s, "preference")));
        fprintf(to, "%s[%s]:%" JSON_INTEGER_FORMAT "\n", text(s, "host"), text(s, "address"), json_integer_value(json_object_get(s, "port")));
    }
    if (json_object_get(h, "more_servers") != NULL)
        fprintf(to, "        and %" JSON_INTEGER_FORMAT " more\n", json_integer_value(json_object_get(h, "more_servers")));
}

static void print_destination(FILE *to, const json_t *d)
{
    size_t i;
    json_t *h;
    const json_t *tls = json_object_get(d, "tls");
    fprintf(to, "    <%s>: %s class, transport %s, next hop %s%s\n", text(d, "recipient"), text(d, "class"), text(d, "transport"),
            text(d, "nexthop"), json_is_true(json_object_get(d, "unknown_user")) ? "; NO SUCH USER" : "");
    if (json_object_get(d, "error") != NULL)
        fprintf(to, "      %s\n", text(d, "error"));
    if (json_object_get(d, "filter") != NULL)
        fprintf(to, "      by way of the filter %s\n", text(d, "filter"));
    if (json_object_get(d, "list_owner") != NULL)
        fprintf(to, "      with the sender <%s>, the owner of the list\n", text(d, "list_owner"));
    json_array_foreach(json_object_get(d, "hops"), i, h)
        print_hop(to, h);
    if (tls != NULL)
        fprintf(to, "      TLS: %s (%s)%s%s\n", text(tls, "level"), text(tls, "from"),
                json_object_get(tls, "policy_maps") != NULL ? ", by next hop in " : "", text(tls, "policy_maps"));
}

static void print_step_of(FILE *to, const json_t *s)
{
    const char *table = text(s, "table");
    fprintf(to, "    %s: <%s> becomes <%s>", text(s, "step"), text(s, "from"), text(s, "to"));
    if (*table != '\0')
        fprintf(to, " (%.*s%s %s)", TABLE_SHOWN, table, strlen(table) > TABLE_SHOWN ? "..." : "", text(s, "key"));
    if (json_object_get(s, "extension") != NULL)
        fprintf(to, ", extension %s %s", text(s, "extension"), json_is_true(json_object_get(s, "extension_kept")) ? "kept" : "dropped");
    fputc('\n', to);
}

static void print_rewriting(FILE *to, const json_t *j)
{
    size_t i;
    json_t *s, *e;
    json_array_foreach(json_object_get(j, "rewriting"), i, s)
        print_step_of(to, s);
    json_array_foreach(json_object_get(j, "lookups"), i, e)
        if (!is(e, "got", "none")) /* what is not there is in the JSON form */
            print_event(to, e);
}

static void print_sender(FILE *to, const json_t *j)
{
    if (j == NULL)
        return;
    fprintf(to, "sender <%s>\n", text(j, "address"));
    print_rewriting(to, j);
    fprintf(to, "    <%s>\n", text(j, "result"));
}

static void print_route(FILE *to, const json_t *j)
{
    size_t i;
    json_t *d;
    const char *because = text(j, "because");
    fprintf(to, "route of <%s>%s%s%s\n", text(j, "recipient"), *because != '\0' ? " (" : "", because, *because != '\0' ? ")" : "");
    print_rewriting(to, j);
    json_array_foreach(json_object_get(j, "destinations"), i, d)
        print_destination(to, d);
}

void explain_print(FILE *to, const json_t *a)
{
    size_t i;
    json_t *j;
    const json_t *c = json_object_get(a, "client");
    fprintf(to, "listener %s, client %s[%s]", text(a, "listener"), text(c, "name"), text(c, "address"));
    if (!is(c, "name", text(c, "reverse_name")))
        fprintf(to, ", reverse name %s", text(c, "reverse_name"));
    if (!is(c, "sasl_username", ""))
        fprintf(to, ", logged in as %s", text(c, "sasl_username"));
    fputs(json_is_true(json_object_get(c, "tls")) ? ", encrypted\n" : "\n", to);
    json_array_foreach(json_object_get(a, "stages"), i, j)
        print_stage(to, j);
    print_sender(to, json_object_get(a, "sender"));
    json_array_foreach(json_object_get(a, "routes"), i, j)
        print_route(to, j);
    json_array_foreach(json_object_get(a, "notes"), i, j)
        fprintf(to, "note: %s\n", json_string_value(j));
}
