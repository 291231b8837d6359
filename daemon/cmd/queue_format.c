/*
 * Columns of the listing: id with its suffix, size, arrival, sender; recipients under the sender; a reason, where it differs
 * from the one before, right-aligned above the recipients that it concerns.
 */
#include "daemon/cmd/queue_format.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "common/base/attrs.h"
#include "common/base/mem.h"
#include "common/base/printable.h"
#include "common/mail/maildate.h"

#define REASON_COLUMN 76

const char *queue_text(const json_t *o, const char *name)
{
    json_t *j = json_object_get(o, name);
    const char *s = json_string_value(j);
    if (s == NULL)
        return "";
    if (!text_is_printable(span_cstr(s))) {
        char *copy = xstrdup(s);
        text_make_printable(copy, strlen(copy));
        json_string_set(j, copy);
        free(copy);
        s = json_string_value(j);
    }
    return s;
}

static int64_t number_of(const json_t *o, const char *name)
{
    return json_integer_value(json_object_get(o, name));
}

/* "Tue Nov 14 22:13:20 2023", as asctime() writes it, in local time. */
static void arrival_text(int64_t s, char *out, size_t size)
{
    time_t t = (time_t)s;
    struct tm tm;
    out[0] = '\0';
    if (localtime_r(&t, &tm) != NULL) {
        static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
        static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
        snprintf(out, size, "%s %s %2d %02d:%02d:%02d %d", days[tm.tm_wday], months[tm.tm_mon], tm.tm_mday, tm.tm_hour,
                 tm.tm_min, tm.tm_sec, tm.tm_year + 1900);
    }
}

static void heading(const struct queue_list *l)
{
    if (l->long_ids)
        fprintf(l->out, "%-17s %8s %-19s %s\n", "----Queue ID-----", "--Size--", "---Arrival Time----",
                "--Sender/Recipient------");
    else
        fprintf(l->out, "%-11s %7s %-20s %s\n", "-Queue ID-", "--Size--", "----Arrival Time----",
                "-Sender/Recipient-------");
}

static void print_recipients(const struct queue_list *l, const json_t *m)
{
    const char *last = "";
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(m, "recipients"), i, r) {
        const char *reason = queue_text(r, "delay_reason");
        if (reason[0] != '\0' && strcmp(reason, last) != 0) {
            size_t n = strlen(reason);
            fprintf(l->out, "%*s(%s)\n", n < REASON_COLUMN ? (int)(REASON_COLUMN - n) : 0, "", reason);
        }
        last = reason;
        if (l->long_ids)
            fprintf(l->out, "%-17s %8s %-19s %s\n", "", "", "", queue_text(r, "address"));
        else
            fprintf(l->out, "%-11s %7s %-20s %s\n", "", "", "", queue_text(r, "address"));
    }
}

void queue_list_add(struct queue_list *l, const json_t *m)
{
    const char *where = queue_text(m, "queue_name");
    char id[80], when[64];
    if (l->as_json) {
        queue_show_json(l->out, m);
        l->count++;
        return;
    }
    if (l->count++ == 0)
        heading(l);
    else
        fputc('\n', l->out);
    snprintf(id, sizeof id, "%s%s", queue_text(m, "queue_id"),
             json_is_true(json_object_get(m, "forced_expire")) ? "#" :
             strcmp(where, "active") == 0 ? "*" : strcmp(where, "hold") == 0 ? "!" : "");
    arrival_text(number_of(m, "arrival_time"), when, sizeof when);
    if (l->long_ids)
        fprintf(l->out, "%-17s %8" PRId64 " %19.19s %s\n", id, number_of(m, "message_size"), when, queue_text(m, "sender"));
    else
        fprintf(l->out, "%-11s %7" PRId64 " %20.20s %s\n", id, number_of(m, "message_size"), when, queue_text(m, "sender"));
    print_recipients(l, m);
    l->bytes += (uint64_t)number_of(m, "message_size");
}

void queue_list_end(struct queue_list *l)
{
    if (l->as_json)
        return;
    if (l->count == 0)
        fputs("Mail queue is empty\n", l->out);
    else
        fprintf(l->out, "\n-- %" PRIu64 " Kbytes in %" PRIu64 " Request%s.\n", l->bytes / 1024, l->count,
                l->count == 1 ? "" : "s");
}

/* ---- one message ---- */

void queue_show_json(FILE *out, const json_t *m)
{
    char *text = json_dumps(m, 0);
    fprintf(out, "%s\n", text != NULL ? text : "{}");
    free(text);
}

static void field(FILE *out, const char *indent, const char *name, const char *value)
{
    if (value[0] != '\0')
        fprintf(out, "%s%-*s %s\n", indent, 16 - (int)strlen(indent), name, value);
}

static void words(FILE *out, const char *indent, const char *name, const json_t *list)
{
    size_t i;
    json_t *w;
    if (json_array_size(list) == 0)
        return;
    fprintf(out, "%s%-*s", indent, 16 - (int)strlen(indent), name);
    json_array_foreach(list, i, w)
        fprintf(out, " %s", json_string_value(w));
    fputc('\n', out);
}

static void show_due(FILE *out, const json_t *r, int64_t now_s)
{
    char date[MAIL_DATE_MAX];
    int64_t due = number_of(r, "next_due");
    if (json_object_get(r, "next_due") == NULL)
        return;
    if (due <= now_s) {
        field(out, "    ", "Next attempt:", "now");
        return;
    }
    mail_date_format(due, date);
    fprintf(out, "    %-12s %s (in %" PRId64 " s)\n", "Next attempt:", date, due - now_s);
}

/* Why it is not being delivered now; what is done has said so already. */
static void show_wait(FILE *out, const json_t *r)
{
    char date[MAIL_DATE_MAX];
    if (strcmp(queue_text(r, "wait"), "done") == 0 || queue_text(r, "wait")[0] == '\0')
        return;
    field(out, "    ", "Waits:", queue_text(r, "wait_reason"));
    if (json_object_get(r, "wait_until") != NULL && strcmp(queue_text(r, "wait"), "back-off") != 0) {
        mail_date_format(number_of(r, "wait_until"), date);
        field(out, "    ", "Until:", date);
    }
}

static void show_history(FILE *out, const json_t *r)
{
    size_t i;
    json_t *a;
    json_array_foreach(json_object_get(r, "history"), i, a) {
        char date[MAIL_DATE_MAX], head[32];
        const char *host = queue_text(a, "host");
        mail_date_format(number_of(a, "time"), date);
        snprintf(head, sizeof head, "Attempt %" PRId64 ":", number_of(a, "attempt"));
        fprintf(out, "    %-12s %s%s%s, %s %s\n", head, date, host[0] != '\0' ? ", " : "", host, queue_text(a, "dsn"), queue_text(a, "reply"));
    }
}

static void show_recipient(FILE *out, const json_t *r, int64_t now_s)
{
    char route[1200];
    field(out, "", "Recipient:", queue_text(r, "address"));
    field(out, "    ", "Original:", queue_text(r, "orig_address"));
    fprintf(out, "    %-12s %s, %" PRId64 " attempt%s\n", "State:", queue_text(r, "state"), number_of(r, "attempts"),
            number_of(r, "attempts") == 1 ? "" : "s");
    show_due(out, r, now_s);
    if (queue_text(r, "transport")[0] != '\0') {
        snprintf(route, sizeof route, "%s:%s", queue_text(r, "transport"), queue_text(r, "nexthop"));
        field(out, "    ", "Route:", route);
    }
    show_wait(out, r);
    field(out, "    ", "Last status:", queue_text(r, "last_dsn"));
    field(out, "    ", "Last host:", queue_text(r, "last_host"));
    field(out, "    ", "Reason:", queue_text(r, "delay_reason"));
    field(out, "    ", "ORCPT:", queue_text(r, "orcpt"));
    words(out, "    ", "Notify:", json_object_get(r, "notify"));
    show_history(out, r);
}

static void show_client(FILE *out, const json_t *m)
{
    const char *addr = queue_text(m, "client_address"), *port = queue_text(m, "client_port");
    char text[1200];
    if (addr[0] == '\0')
        return;
    snprintf(text, sizeof text, "%s[%s]%s%s", queue_text(m, "client_name"), addr, port[0] != '\0' ? ":" : "", port);
    field(out, "", "Client:", text);
    field(out, "", "HELO:", queue_text(m, "helo"));
    field(out, "", "Protocol:", queue_text(m, "protocol"));
    field(out, "", "SASL user:", queue_text(m, "sasl_username"));
}

void queue_show_text(FILE *out, const json_t *m, int64_t now_s)
{
    char date[MAIL_DATE_MAX];
    size_t i;
    json_t *r;
    mail_date_format(number_of(m, "arrival_time"), date);
    field(out, "", "Queue ID:", queue_text(m, "queue_id"));
    field(out, "", "Queue:", queue_text(m, "queue_name"));
    field(out, "", "Arrived:", date);
    fprintf(out, "%-16s %" PRId64 " bytes\n", "Size:", number_of(m, "message_size"));
    field(out, "", "Sender:", queue_text(m, "sender"));
    field(out, "", "Message-ID:", queue_text(m, "message_id"));
    show_client(out, m);
    field(out, "", "Envelope ID:", queue_text(m, "envelope_id"));
    field(out, "", "Return:", queue_text(m, "return"));
    words(out, "", "Flags:", json_object_get(m, "flags"));
    json_array_foreach(json_object_get(m, "recipients"), i, r)
        show_recipient(out, r, now_s);
}
