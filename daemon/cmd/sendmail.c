/*
 * sendmail, mailq, newaliases: options, configuration, and the choice of the mode
 *
 * Exit status (sysexits.h): 0 the message is safe; 64 usage; 65 the message or an address is wrong; 67 who calls has no login
 * name; 69 the daemon does not run or the service is not offered; 75 try again, nothing was lost; 77 not permitted; 78
 * configuration.
 */
#include "daemon/cmd/sendmail.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/conf/conf_internal.h"
#include "common/conf/params.h"

int sendmail_fail(const struct sendmail *sm, int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", sm->name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return status;
}

/* A configuration with errors still says where the spool is: mail must not be lost for it. */
static int load_config(struct sendmail *sm)
{
    struct conf_report report = { 0 };
    const char *env = getenv("MAIL_CONFIG");
    sm->conf_dir = sm->o.conf_dir != NULL ? sm->o.conf_dir : env != NULL && env[0] != '\0' ? env : POSTHOUSE_CONFDIR;
    size_t n = strlen(sm->conf_dir);
    char *dir = NULL;
    if (n > 8 && strcmp(sm->conf_dir + n - 8, "/main.cf") == 0) { /* -C may name the file */
        dir = strdup(sm->conf_dir);
        if (dir == NULL)
            abort();
        dir[n - 8] = '\0';
    }
    struct conf_options o = { .dir = dir != NULL ? dir : sm->conf_dir };
    int status = 0;
    /* Installed set-gid to setgid_group: that right is for the system's own configuration. */
    if (getegid() != getgid() && strcmp(o.dir, POSTHOUSE_CONFDIR) != 0 && setresgid(getgid(), getgid(), getgid()) != 0)
        abort();
    sm->conf = conf_load_any(&o, &report);
    if (sm->conf != NULL) {
        sm->p = conf_global(sm->conf);
    } else {
        status = EX_CONFIG;
        for (size_t i = 0; i < report.count; i++) {
            if (report.items[i].severity == CONF_ERROR)
                sendmail_fail(sm, 0, "%s", report.items[i].text);
        }
    }
    conf_report_free(&report);
    free(dir);
    return status;
}

static int start_daemon(const struct sendmail *sm)
{
    char *const argv[] = { (char *)(uintptr_t)"posthoused", (char *)(uintptr_t)"-c", (char *)(uintptr_t)conf_dir(sm->conf), NULL };
    execv(POSTHOUSE_SBINDIR "/posthoused", argv);
    return sendmail_fail(sm, EX_UNAVAILABLE, "%s: %s", POSTHOUSE_SBINDIR "/posthoused", strerror(errno));
}

static int run(struct sendmail *sm)
{
    switch (sm->o.mode) {
    case SM_DELIVER:
        return sendmail_deliver(sm);
    case SM_LIST:
        return sendmail_list(sm);
    case SM_VERIFY:
        return sendmail_verify(sm);
    case SM_SMTP:
        return sendmail_smtp(sm);
    case SM_FLUSH:
    case SM_FLUSH_ID:
    case SM_FLUSH_SITE:
        return sendmail_flush(sm);
    case SM_ALIASES:
        return sendmail_aliases(sm);
    case SM_DAEMON:
        return start_daemon(sm);
    }
    return EX_SOFTWARE;
}

int main(int argc, char **argv)
{
    struct sendmail sm = { .name = "sendmail" };
    struct err e = ERR_INIT;
    signal(SIGPIPE, SIG_IGN);
    json_set_alloc_funcs(xmalloc, free);
    int status = sendmail_parse(argc, argv, &sm.o, &e);
    if (sm.o.mode == SM_LIST)
        sm.name = "mailq";
    else if (sm.o.mode == SM_ALIASES)
        sm.name = "newaliases";
    if (status != 0)
        return sendmail_fail(&sm, status, "%s", e.text);
    status = load_config(&sm);
    if (status == 0)
        status = run(&sm);
    if (fflush(stdout) != 0 && status == 0)
        status = sendmail_fail(&sm, EX_IOERR, "standard output: %s", strerror(errno));
    conf_unref(&sm.conf);
    return status;
}
