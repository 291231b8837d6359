/*
 * posthousectl check: what the configuration's own checks cannot know: whether tables open, ports can be bound and the spool
 * is ours. Nothing is changed.
 */
#include "daemon/cmd/posthousectl.h"

#include <errno.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/conf/params.h"
#include "common/dns/dns.h"
#include "common/net/dest.h"
#include "common/net/listen.h"
#include "daemon/ctl_conf.h"
#include "daemon/logging.h"
#include "policy/route.h"
#include "queue/spool.h"

struct check {
    struct ctl *ctl;
    struct conf *conf;
    bool verbose;
    int errors;
};

static void problem(struct check *c, const char *fmt, ...) PRINTF_FMT(2, 3);
static void problem(struct check *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("error: ", stdout);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
    c->errors++;
}

static void check_policy(struct check *c)
{
    struct conf_report report = { 0 };
    struct policy_options o = { .conf = c->conf, .report = &report };
    struct policy *p = policy_compile(&o);
    for (size_t i = 0; i < report.count; i++) {
        const struct conf_finding *f = &report.items[i];
        const char *level = f->severity == CONF_ERROR ? "error" : f->severity == CONF_WARNING ? "warning" : "note";
        c->errors += f->severity == CONF_ERROR;
        if (f->severity == CONF_NOTE && !c->verbose)
            continue;
        if (f->file != NULL && f->line > 0)
            printf("%s, line %d: %s: %s\n", f->file, f->line, level, f->text);
        else
            printf("%s%s%s: %s\n", f->file != NULL ? f->file : "", f->file != NULL ? ": " : "", level, f->text);
    }
    conf_report_free(&report);
    policy_unref(&p);
}

static bool has_protocol(const char *list, const char *name)
{
    struct span rest = span_cstr(list), item;
    bool braced;
    while (conf_list_next(&rest, &item, &braced)) {
        if (span_ieq_cstr(item, name) || span_ieq_cstr(item, "all"))
            return true;
    }
    return false;
}

static void check_port(struct check *c, const struct conf_service *s)
{
    struct err e = ERR_INIT;
    struct listen_set set = { 0 };
    uint16_t port;
    const char *hosts = s->host[0] != '\0' ? s->host : s->p->inet_interfaces;
    if (!dest_port(span_cstr(s->port), span_cstr(s->p->known_tcp_ports), &port, &e) ||
        !listen_list(span_cstr(hosts), port, has_protocol(s->p->inet_protocols, "ipv4"),
                     has_protocol(s->p->inet_protocols, "ipv6"), 1, &set, &e))
        problem(c, "master.cf, line %d: service %s: %s", s->line, s->name, e.text);
    listen_set_close(&set);
}

static void check_ports(struct check *c)
{
    c->ctl->conf = conf_ref(c->conf);
    if (ctl_open(c->ctl, true) == 0) {
        puts("note: posthoused is running: whether ports can be bound was not tried");
        return;
    }
    for (size_t i = 0; i < conf_service_count(c->conf); i++) {
        if (conf_service(c->conf, i)->role == SVC_LISTENER)
            check_port(c, conf_service(c->conf, i));
    }
}

/* The user that posthoused will be; false when there is none. */
static bool owner_uid(struct check *c, uid_t *uid)
{
    const char *name = conf_global(c->conf)->mail_owner;
    *uid = geteuid();
    if (*uid != 0)
        return true;
    const struct passwd *pw = getpwnam(name);
    if (pw == NULL)
        problem(c, "mail_owner: there is no user \"%s\"", name);
    else if (pw->pw_uid == 0)
        problem(c, "mail_owner: \"%s\" is the superuser: name an ordinary user", name);
    else
        *uid = pw->pw_uid;
    return pw != NULL && pw->pw_uid != 0;
}

static void check_dir(struct check *c, const char *parameter, const char *path, uid_t uid)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno == ENOENT)
            printf("note: %s: %s does not exist yet, posthoused will make it\n", parameter, path);
        else
            problem(c, "%s: %s: %s", parameter, path, strerror(errno));
    } else if (!S_ISDIR(st.st_mode)) {
        problem(c, "%s: %s is not a directory", parameter, path);
    } else if (st.st_uid != uid) {
        problem(c, "%s: %s is owned by user id %lu, posthoused runs as user id %lu: change mail_owner, or the owner with "
                "chown -R", parameter, path, (unsigned long)st.st_uid, (unsigned long)uid);
    }
}

/* Where the log goes; whether it can be written is seen for the user who asks only. */
static void check_log(struct check *c)
{
    struct log_options lo;
    struct err e = ERR_INIT;
    if (!logging_options(c->conf, false, &lo, &e)) {
        problem(c, "%s", e.text);
    } else if (lo.dest == LOG_TO_FILE) {
        char *dir = xstrdup(lo.path), *slash = strrchr(dir, '/');
        if (slash != NULL)
            slash[slash == dir] = '\0';
        bool there = access(lo.path, F_OK) == 0;
        if (access(there || slash == NULL ? lo.path : dir, W_OK) != 0 && !(slash == NULL && !there))
            problem(c, "maillog_file: %s: %s", lo.path, strerror(errno));
        free(dir);
    }
}

static void check_resolvers(struct check *c)
{
    struct err e = ERR_INIT;
    if (!dns_resolvers_are_good(conf_global(c->conf)->dns_resolver_addresses, &e))
        problem(c, "%s", e.text);
}

static void check_spool(struct check *c)
{
    struct err e = ERR_INIT;
    if (spool_look_at_format(conf_global(c->conf)->queue_directory, &e) != SPOOL_OPEN_OK)
        problem(c, "queue_directory: %s", e.text);
}

static void check_dirs(struct check *c)
{
    const struct params *p = conf_global(c->conf);
    uid_t uid;
    if (!owner_uid(c, &uid))
        return;
    check_dir(c, "queue_directory", p->queue_directory, uid);
    check_dir(c, "data_directory", p->data_directory, uid);
}

int ctl_cmd_check(struct ctl *ctl, int argc, char **argv)
{
    struct check c = { .ctl = ctl, .verbose = argc == 2 && strcmp(argv[1], "-v") == 0 };
    if (argc > 1 && !c.verbose) {
        ctl_complain("usage: %s [-v]", argv[0]);
        return EX_USAGE;
    }
    if (ctl_check_conf(ctl->dir, stdout, c.verbose, &c.conf) != 0)
        return EX_CONFIG;
    check_policy(&c);
    check_ports(&c);
    check_log(&c);
    check_resolvers(&c);
    check_dirs(&c);
    check_spool(&c);
    conf_unref(&c.conf);
    if (c.errors == 0)
        puts("no errors found");
    return c.errors > 0 ? EX_CONFIG : 0;
}
