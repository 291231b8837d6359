/* posthousectl status, reload, stop */
#include "daemon/cmd/posthousectl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/conf/params.h"
#include "common/mail/maildate.h"
#include "daemon/cmd/queue_format.h"

#define STOP_WAIT_MS 120000

static json_int_t number(const json_t *o, const char *group, const char *name)
{
    const json_t *g = group != NULL ? json_object_get(o, group) : o;
    return json_integer_value(json_object_get(g, name));
}

static void uptime_text(int64_t s, char *out, size_t size)
{
    if (s >= 86400)
        snprintf(out, size, "%" PRId64 " d %" PRId64 " h", s / 86400, s % 86400 / 3600);
    else if (s >= 3600)
        snprintf(out, size, "%" PRId64 " h %" PRId64 " min", s / 3600, s % 3600 / 60);
    else
        snprintf(out, size, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
}

static void print_limits(const json_t *s)
{
    const char *limit;
    json_t *times;
    const char *label = "limits reached  ";
    json_object_foreach(json_object_get(s, "limits_reached"), limit, times) {
        printf("%s %s %" JSON_INTEGER_FORMAT " times\n", label, limit, json_integer_value(times));
        label = "                ";
    }
}

static void print_status(const json_t *s)
{
    char date[MAIL_DATE_MAX], up[64];
    mail_date_format(number(s, NULL, "started"), date);
    uptime_text(number(s, NULL, "uptime"), up, sizeof up);
    printf("posthoused %s, process %" JSON_INTEGER_FORMAT ", running for %s (since %s)\n",
           json_string_value(json_object_get(s, "version")), number(s, NULL, "pid"), up, date);
    printf("configuration    %s\n", json_string_value(json_object_get(s, "configuration")));
    printf("spool            %s%s\n", json_string_value(json_object_get(s, "queue_directory")),
           json_is_true(json_object_get(s, "has_room")) ? "" : "  (NO ROOM: mail is refused with 452)");
    printf("queue            %" JSON_INTEGER_FORMAT " active, %" JSON_INTEGER_FORMAT " deferred, %" JSON_INTEGER_FORMAT
           " on hold; %" JSON_INTEGER_FORMAT " in delivery\n", number(s, "queue", "active"), number(s, "queue", "deferred"),
           number(s, "queue", "hold"), number(s, "queue", "in_delivery"));
    if (json_object_get(s, "sessions") != NULL)
        printf("sessions         %" JSON_INTEGER_FORMAT " open, %" JSON_INTEGER_FORMAT " accepted, %" JSON_INTEGER_FORMAT
               " refused; %" JSON_INTEGER_FORMAT " workers, %" JSON_INTEGER_FORMAT " idle\n", number(s, "sessions", "open"),
               number(s, "sessions", "accepted"), number(s, "sessions", "refused"), number(s, "sessions", "workers"),
               number(s, "sessions", "workers_idle"));
    size_t i;
    json_t *j;
    json_array_foreach(json_object_get(s, "paused"), i, j)
        printf("paused           %s %s\n", json_string_value(json_object_get(j, "kind")), json_string_value(json_object_get(j, "name")));
    print_limits(s);
    if (number(s, NULL, "log_lines_dropped") > 0)
        printf("log              %" JSON_INTEGER_FORMAT " lines dropped\n", number(s, NULL, "log_lines_dropped"));
}

static int no_arguments(int argc, char **argv)
{
    if (argc == 1)
        return 0;
    ctl_complain("%s takes no arguments", argv[0]);
    return EX_USAGE;
}

int ctl_answers(struct ctl *ctl, const char *op, void (*fn)(void *arg, const json_t *j), void *arg)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    int status = ctl_open(ctl, false);
    if (status != 0)
        return status;
    status = ctl_request(&ctl->conn, json_pack("{s:s}", "op", op), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&ctl->conn, &is_last, &e);
        if (j == NULL)
            status = EX_TEMPFAIL;
        else if (is_last)
            status = ctl_status_of(j, &e);
        else
            fn(arg, j);
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static void status_cb(void *arg, const json_t *j)
{
    if (*(const bool *)arg)
        queue_show_json(stdout, j);
    else
        print_status(j);
}

int ctl_cmd_status(struct ctl *ctl, int argc, char **argv)
{
    bool as_json = false;
    int c;
    while ((c = getopt(argc, argv, "j")) != -1) {
        if (c != 'j')
            return EX_USAGE;
        as_json = true;
    }
    return ctl_answers(ctl, "status", status_cb, &as_json);
}

static void finding_cb(void *arg, const json_t *j)
{
    (void)arg;
    fprintf(stderr, "%s\n", json_string_value(json_object_get(j, "finding")));
}

int ctl_cmd_reload(struct ctl *ctl, int argc, char **argv)
{
    int status = no_arguments(argc, argv);
    return status != 0 ? status : ctl_answers(ctl, "reload", finding_cb, NULL);
}

/* Until the process is gone. The descriptor is opened before it is asked to stop, so that its number cannot be reused. */
static int wait_gone(int pidfd, pid_t pid)
{
    struct pollfd p = { .fd = pidfd, .events = POLLIN };
    int64_t deadline = clock_mono_ms() + STOP_WAIT_MS;
    if (pidfd < 0) { /* an old kernel */
        while (kill(pid, 0) == 0 || errno == EPERM) {
            if (clock_mono_ms() > deadline)
                return EX_TEMPFAIL;
            usleep(20000);
        }
        return 0;
    }
    while (poll(&p, 1, clock_poll_ms(deadline)) == 0) {
        if (clock_mono_ms() >= deadline)
            return EX_TEMPFAIL;
    }
    return 0;
}

int ctl_cmd_stop(struct ctl *ctl, int argc, char **argv)
{
    int status = no_arguments(argc, argv);
    if (status == 0)
        status = ctl_open(ctl, false);
    if (status != 0)
        return status;
    pid_t pid = ctl->conn.pid;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    status = ctl_simple(ctl, json_pack("{s:s}", "op", "stop"), NULL);
    if (status == 0)
        status = wait_gone(pidfd, pid);
    if (status == EX_TEMPFAIL)
        ctl_complain("process %ld was asked to stop and is still there", (long)pid);
    io_close(&pidfd);
    return status;
}
