/*
 * posthousectl: options, and the table of subcommands
 *
 * Exit status: 0 done; 1 nothing found (no such queue id, nothing wrong to report); 64 usage; 65 bad data; 69 the daemon does
 * not run; 74 input or output; 75 try again; 77 not permitted; 78 configuration (sysexits.h).
 */
#include "daemon/cmd/posthousectl.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/conf/conf_internal.h"
#include "common/conf/params.h"
#include "daemon/ctl_conf.h"

static void usage(FILE *to)
{
    fputs("usage: posthousectl [-c DIR] COMMAND ...\n"
          "  queue list [-j] [ID... | - | SELECTION]  what is queued (mailq)\n"
          "  queue show [-j] ID... | - | SELECTION  envelope, state and history of every recipient\n"
          "  queue cat [-j] ID... | - | SELECTION  the message itself\n"
          "  queue flush [-j] [-n] [ID... | - | -s NEXTHOP | SELECTION]  try now\n"
          "  queue hold|release|delete|requeue|expire [-j] [-n] ID... | - | ALL | SELECTION\n"
          "  queue readdress [-j] [-n] OLD NEW [ID... | SELECTION]\n"
          "  queue deleted [-j] [SELECTION]; queue undelete ID... | ALL | SELECTION\n"
          "  queue export [-j] DIRECTORY ID... | ALL | SELECTION   a file each, with its envelope\n"
          "  queue import [-j] [-n] [--sender A] [--recipient A]... [-t] FILE...\n"
          "  queue sql [-j] [--time-limit SECONDS] 'SELECT ...' | -   (posthouse-index(5))\n"
          "  queue stats [-j] [--top N]   by destination, sender domain, reason and age; rates\n"
          "  queue pause [-j] [--destination NEXTHOP | --transport NAME]\n"
          "  queue resume [-j] --destination NEXTHOP | --transport NAME | --all\n"
          "  queue check [-j] [-v]        verify the spool's files and compare them\n"
          "  queue compact [-j] [-v]      give disk space back now\n"
          "  queue rebuild [-j] [-v] [--at-start]  make the index anew from the journal\n"
          "  explain [-j] --client ADDRESS [--helo N] [--from A] [--to A]... | --from-log ID   what would become of it, and why\n"
          "  tables [-j]                  how often each lookup table was asked, and with what outcome\n"
          "  restrictions [-j] [--never]  how often each restriction was evaluated and matched\n"
          "  verify list [-j] | forget ADDRESS... | forget --all | probe ADDRESS...   address verification\n"
          "  status [-j]                  what the daemon is doing\n"
          "  reload                       read the configuration again\n"
          "  stop                         stop the daemon and wait until it is gone\n"
          "  check [-v]                   is anything wrong with the configuration?\n"
          "  conf ...                     show and change parameters (as postconf)\n"
          "  map -q KEY|- | -s | -d KEY | [-i] type:file ...   ask, list, change, make tables (as postmap)\n"
          "  -c DIR     configuration directory (default: " POSTHOUSE_CONFDIR ")\n"
          "  --version, --help\n"
          "See posthousectl(8).\n", to);
}

void ctl_complain(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("posthousectl: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

const struct conf *ctl_config(struct ctl *ctl)
{
    struct conf_report report = { 0 };
    struct conf_options o = { .dir = ctl->dir };
    if (ctl->conf != NULL)
        return ctl->conf;
    ctl->conf = conf_load_any(&o, &report);
    for (size_t i = 0; ctl->conf == NULL && i < report.count; i++) {
        if (report.items[i].severity == CONF_ERROR)
            ctl_complain("%s: %s", report.items[i].file ? report.items[i].file : ctl->dir, report.items[i].text);
    }
    conf_report_free(&report);
    return ctl->conf;
}

int ctl_open(struct ctl *ctl, bool quiet_down)
{
    struct err e = ERR_INIT;
    const struct conf *c = ctl_config(ctl);
    if (c == NULL)
        return EX_CONFIG;
    if (ctl->conn.s != NULL)
        return 0;
    enum ctl_connect st = ctl_connect(conf_global(c)->control_socket, &ctl->conn, &e);
    if (st == CTL_CONNECT_OK)
        return 0;
    if (st != CTL_CONNECT_DOWN || !quiet_down)
        ctl_complain("%s", e.text);
    switch (st) {
    case CTL_CONNECT_DENIED:
        return EX_NOPERM;
    case CTL_CONNECT_DOWN:
        return EX_UNAVAILABLE;
    case CTL_CONNECT_OK:
    case CTL_CONNECT_FAILED:
        break;
    }
    return EX_IOERR;
}

int ctl_simple(struct ctl *ctl, json_t *request, json_t **last)
{
    struct err e = ERR_INIT;
    json_t *answer = NULL;
    int status = ctl_open(ctl, false);
    if (status != 0) {
        json_decref(request);
        return status;
    }
    status = ctl_request(&ctl->conn, request, &e) ? ctl_finish(&ctl->conn, &answer, &e) : EX_TEMPFAIL;
    if (status != 0)
        ctl_complain("%s", e.text);
    if (last != NULL)
        *last = answer;
    else
        json_decref(answer);
    return status;
}

static int cmd_conf(struct ctl *ctl, int argc, char **argv)
{
    return ctl_conf(ctl->dir, argc, argv);
}

static const struct {
    const char *name;
    ctl_subcommand *run;
} subcommands[] = {
    { "queue", ctl_cmd_queue },   { "status", ctl_cmd_status }, { "reload", ctl_cmd_reload },
    { "stop", ctl_cmd_stop },     { "check", ctl_cmd_check },   { "conf", cmd_conf },
    { "explain", ctl_cmd_explain }, { "restrictions", ctl_cmd_restrictions }, { "tables", ctl_cmd_tables },
    { "map", ctl_cmd_map },       { "verify", ctl_cmd_verify },
};

/* What was printed must have arrived. Who has seen enough, as head(1), need not hear of it. */
static int ended(int status)
{
    bool was_bad = ferror(stdout) != 0;
    errno = 0;
    if ((fflush(stdout) == 0 && !was_bad) || status != 0)
        return status;
    struct pollfd p = { .fd = STDOUT_FILENO };
    bool is_closed = poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
    if (!is_closed)
        ctl_complain("standard output: %s", errno != 0 ? strerror(errno) : "not everything could be written");
    return EX_IOERR;
}

static int end(struct ctl *ctl, int status)
{
    if (ctl->conn.s != NULL)
        ctl_disconnect(&ctl->conn);
    conf_unref(&ctl->conf);
    return status;
}

static int run_command(struct ctl *ctl, int argc, char **argv)
{
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++) {
        if (strcmp(argv[0], subcommands[i].name) != 0)
            continue;
        optind = 0; /* glibc: begin again, with the subcommand's own options */
        return ended(subcommands[i].run(ctl, argc, argv));
    }
    ctl_complain("unknown command \"%s\"", argv[0]);
    usage(stderr);
    return EX_USAGE;
}

int main(int argc, char **argv)
{
    static const struct option longopts[] = {
        { "version", no_argument, NULL, 'V' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    struct ctl ctl = { .dir = POSTHOUSE_CONFDIR };
    int c;
    signal(SIGPIPE, SIG_IGN);
    json_set_alloc_funcs(xmalloc, free);
    if (ctl_is_map_name(argv[0])) {
        const char *dir = getenv("MAIL_CONFIG");
        ctl.dir = dir != NULL && *dir != '\0' ? dir : ctl.dir;
        return end(&ctl, ended(ctl_cmd_map(&ctl, argc, argv)));
    }
    while ((c = getopt_long(argc, argv, "+c:", longopts, NULL)) != -1) {
        switch (c) {
        case 'c':
            ctl.dir = optarg;
            break;
        case 'V':
            puts("posthousectl " PACKAGE_VERSION);
            return EX_OK;
        case 'h':
            usage(stdout);
            return EX_OK;
        default:
            usage(stderr);
            return EX_USAGE;
        }
    }
    if (optind >= argc) {
        usage(stderr);
        return EX_USAGE;
    }
    return end(&ctl, run_command(&ctl, argc - optind, argv + optind));
}
