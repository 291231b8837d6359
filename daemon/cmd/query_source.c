#include "daemon/cmd/query_source.h"

#include <sysexits.h>

#include "common/base/mem.h"
#include "common/conf/params.h"
#include "daemon/cmd/long_work.h"

static int open_live(struct ctl *ctl, struct query_source *s)
{
    const char *dir = conf_global(ctl->conf)->queue_directory;
    struct err e = ERR_INIT;
    int status = ctl_simple(ctl, json_pack("{s:s}", "op", "queue-sync"), &s->daemon);
    if (status != 0)
        return status;
    const char *old = json_string_value(json_object_get(s->daemon, "sync_error"));
    if (old != NULL)
        ctl_complain("the index could not be brought up to date: %s", old);
    char *path = xasprintf("%s/index.db", dir);
    if (queue_offline_become_owner(dir, &e))
        s->q = query_open(path, &e);
    free(path);
    if (s->q != NULL)
        return 0;
    ctl_complain("%s", e.text);
    return EX_IOERR;
}

static int open_files(struct ctl *ctl, struct query_source *s)
{
    struct err e = ERR_INIT;
    s->off = queue_offline_open(ctl->conf, &e);
    if (s->off != NULL)
        s->q = queue_offline_query(s->off, &e);
    if (s->q == NULL) {
        ctl_complain("posthoused is not running (nobody listens on %s), and the files cannot be read: %s",
                     conf_global(ctl->conf)->control_socket, e.text);
        return EX_NOINPUT;
    }
    ctl_complain("posthoused is not running: reading the files in %s", conf_global(ctl->conf)->queue_directory);
    return 0;
}

int query_source_open(struct ctl *ctl, struct query_source *s)
{
    *s = (struct query_source){ .q = NULL };
    int status = ctl_open(ctl, true);
    status = status == 0 ? open_live(ctl, s) : status == EX_UNAVAILABLE ? open_files(ctl, s) : status;
    if (status != 0)
        query_source_close(s);
    return status;
}

void query_source_close(struct query_source *s)
{
    query_close(&s->q);
    queue_offline_close(&s->off);
    json_decref(s->daemon);
    s->daemon = NULL;
}

int query_source_failed(enum query_status st, const struct err *e)
{
    ctl_complain("%s", e->text);
    switch (st) {
    case QUERY_BAD:
        return EX_DATAERR;
    case QUERY_DENIED:
        return EX_NOPERM;
    case QUERY_TIMEOUT:
        return EX_TEMPFAIL;
    case QUERY_INTERRUPTED:
        return EX_INTERRUPTED;
    case QUERY_ROW:
    case QUERY_OK:
    case QUERY_FAILED:
        break;
    }
    return EX_IOERR;
}
