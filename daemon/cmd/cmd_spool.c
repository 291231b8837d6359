/*
 * posthousectl queue check, compact, rebuild: the spool's files
 *
 * check reads them, beside a running daemon or without one; rebuild needs that no daemon runs; compact is the running
 * daemon's work, which ends when the connection does.
 */
#include "daemon/cmd/posthousectl.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "daemon/cmd/long_work.h"
#include "daemon/cmd/queue_offline.h"
#include "queue/check.h"
#include "queue/spool.h"

/* -j and -v; false when there is anything else. */
static bool parse_flags(int argc, char **argv, bool *as_json, bool *verbose)
{
    static const struct option longopts[] = {
        { "json", no_argument, NULL, 'j' }, { "verbose", no_argument, NULL, 'v' }, { 0 },
    };
    int c;
    while ((c = getopt_long(argc, argv, "jv", longopts, NULL)) != -1) {
        if (c == 'j' && as_json != NULL)
            *as_json = true;
        else if (c == 'v' && verbose != NULL)
            *verbose = true;
        else
            return false;
    }
    return optind == argc;
}

/* ---- check ---- */

struct check_run {
    struct long_work work;
    bool as_json;
    _Atomic bool cancel;
};

static void found_cb(void *arg, const struct check_finding *f)
{
    struct check_run *r = arg;
    char id[QID_TEXT_MAX] = "";
    if (r->work.has_line)
        fputs("\r\033[K", stderr);
    if (f->id != 0)
        qid_format(f->id, false, id);
    if (r->as_json) {
        json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s}", "severity", f->is_note ? "note" : "error", "kind", check_kind_name(f->kind),
                              "file", f->file, "text", f->text, "advice", f->advice);
        if (o != NULL && f->offset >= 0)
            json_object_set_new(o, "offset", json_integer(f->offset));
        if (o != NULL && id[0] != '\0')
            json_object_set_new(o, "queue_id", json_string(id));
        json_dumpf(o, stdout, 0);
        putchar('\n');
        json_decref(o);
        return;
    }
    printf("%s: %s", f->is_note ? "note" : "error", f->file);
    if (f->offset >= 0)
        printf(", offset %lld", (long long)f->offset);
    printf(": %s", f->text);
    if (f->advice[0] != '\0')
        printf(" (%s)", f->advice);
    putchar('\n');
}

static void check_progress_cb(void *arg, const char *what, uint64_t done, uint64_t total)
{
    struct check_run *r = arg;
    if (long_work_is_interrupted(&r->work))
        atomic_store(&r->cancel, true);
    long_work_tell_part(&r->work, what, done, total);
}

static void print_totals(const struct check_run *r, const struct check_totals *t)
{
    if (r->as_json) {
        json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "segments", (json_int_t)t->segments, "result_files",
                              (json_int_t)t->result_files, "large_files", (json_int_t)t->large_files, "messages",
                              (json_int_t)t->messages, "administrative", (json_int_t)t->admins, "results", (json_int_t)t->results,
                              "rows", (json_int_t)t->rows, "errors", (json_int_t)t->problems, "notes", (json_int_t)t->notes,
                              "daemon_runs", t->is_running);
        json_dumpf(o, stdout, 0);
        putchar('\n');
        json_decref(o);
        return;
    }
    printf("%llu journal segments, %llu result files, %llu large files read: %llu messages, %llu administrative records, %llu results; "
           "%llu messages in the index\n", (unsigned long long)t->segments, (unsigned long long)t->result_files,
           (unsigned long long)t->large_files, (unsigned long long)t->messages, (unsigned long long)t->admins,
           (unsigned long long)t->results, (unsigned long long)t->rows);
    if (t->problems == 0)
        puts("no errors found");
    else
        printf("%llu error%s found\n", (unsigned long long)t->problems, t->problems == 1 ? "" : "s");
}

int ctl_queue_cmd_check(struct ctl *ctl, int argc, char **argv)
{
    struct check_run r = { .as_json = false };
    struct check_totals t;
    struct err e = ERR_INIT;
    bool verbose = false;
    if (!parse_flags(argc, argv, &r.as_json, &verbose)) {
        ctl_complain("usage: queue check [-j] [-v]");
        return EX_USAGE;
    }
    const struct conf *c = ctl_config(ctl);
    if (c == NULL)
        return EX_CONFIG;
    const struct params *p = conf_global(c);
    if (!queue_offline_become_owner(p->queue_directory, &e)) {
        ctl_complain("%s", e.text);
        return EX_NOINPUT;
    }
    struct check_options o = { .dir = p->queue_directory, .settle_ms = 2 * p->index_flush_interval + 1000, .found = found_cb,
                               .progress = check_progress_cb, .arg = &r, .cancel = &r.cancel };
    long_work_begin(&r.work, verbose);
    enum check_status st = check_spool(&o, &t, &e);
    long_work_end(&r.work);
    switch (st) {
    case CHECK_CLEAN:
    case CHECK_PROBLEMS:
        print_totals(&r, &t);
        return st == CHECK_CLEAN ? 0 : EX_DATAERR;
    case CHECK_FAILED:
        ctl_complain("%s", e.text);
        return EX_NOINPUT;
    case CHECK_CANCELLED:
        break;
    }
    ctl_complain("interrupted: not everything was checked");
    return EX_INTERRUPTED;
}

/* ---- rebuild ---- */

static bool rebuild_progress_cb(void *arg, const char *what, uint64_t done, uint64_t total)
{
    struct long_work *w = arg;
    long_work_tell_part(w, what, done, total);
    return !long_work_is_interrupted(w);
}

/* What a running daemon finds at its next start. */
static int rebuild_at_start(const char *dir, bool as_json)
{
    char *path = xasprintf("%s/index.bad", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), status = 0;
    if (fd < 0) {
        ctl_complain("%s: %s", path, strerror(errno));
        status = EX_CANTCREAT;
    } else {
        puts(as_json ? "{\"at_start\": true}" : "the next start of posthoused makes the index anew");
    }
    io_close(&fd);
    free(path);
    return status;
}

static int rebuild_status(enum spool_open_status k)
{
    switch (k) {
    case SPOOL_OPEN_OK:
        return 0;
    case SPOOL_OPEN_LOCKED:
        return EX_TEMPFAIL;
    case SPOOL_OPEN_OWNER:
        return EX_NOPERM;
    case SPOOL_OPEN_NEWER:
        return EX_DATAERR;
    case SPOOL_OPEN_NONE:
        return EX_NOINPUT;
    case SPOOL_OPEN_FAILED:
        break;
    }
    return EX_IOERR;
}

static void print_rebuilt(const struct rebuild_totals *t, const char *dir, bool as_json)
{
    static const char lost[] = "reasons and attempts older than the checkpoint are lost";
    if (as_json) {
        printf("{\"messages\": %lld, \"history\": %s}\n", (long long)t->messages, t->has_history ? "true" : "false");
        return;
    }
    printf("index made anew with %lld message%s", (long long)t->messages, t->messages == 1 ? "" : "s");
    if (t->had_old)
        printf("; the old one is %s/index.db.old\n", dir);
    else
        printf("; there was none: %s\n", lost);
    if (t->had_old && !t->has_history)
        printf("the old one could not be read: %s\n", lost);
}

static int rebuild(const struct params *p, bool verbose, bool as_json)
{
    struct err e = ERR_INIT;
    struct rebuild_totals t;
    struct long_work w;
    struct log_src src = { .name = "posthouse", .prog = "posthousectl" };
    struct spool_options o = {
        .dir = p->queue_directory, .segment_bytes = p->journal_segment_size,
        .buffer_limit_bytes = p->spool_message_buffer_limit, .memory_limit_bytes = p->spool_memory_limit,
        .log = &src, .progress = rebuild_progress_cb, .progress_arg = &w,
    };
    long_work_begin(&w, verbose);
    enum spool_open_status k = spool_rebuild_index(&o, &t, &e);
    long_work_end(&w);
    if (t.is_cancelled) {
        ctl_complain("interrupted: the index is as it was");
        return EX_INTERRUPTED;
    }
    if (k == SPOOL_OPEN_LOCKED)
        ctl_complain("%s: stop posthoused first, or use --at-start", e.text);
    else if (k != SPOOL_OPEN_OK)
        ctl_complain("%s: the index is as it was", e.text);
    else
        print_rebuilt(&t, p->queue_directory, as_json);
    return rebuild_status(k);
}

int ctl_queue_cmd_rebuild(struct ctl *ctl, int argc, char **argv)
{
    static const struct option longopts[] = {
        { "at-start", no_argument, NULL, 'a' }, { "verbose", no_argument, NULL, 'v' }, { 0 },
    };
    struct err e = ERR_INIT;
    bool at_start = false, verbose = false, as_json = false, is_bad = false;
    int c;
    while ((c = getopt_long(argc, argv, "jv", longopts, NULL)) != -1) {
        at_start = at_start || c == 'a';
        verbose = verbose || c == 'v';
        as_json = as_json || c == 'j';
        is_bad = is_bad || c == '?';
    }
    if (is_bad || optind < argc) {
        ctl_complain("usage: queue rebuild [-j] [-v] [--at-start]");
        return EX_USAGE;
    }
    const struct conf *conf = ctl_config(ctl);
    if (conf == NULL)
        return EX_CONFIG;
    const struct params *p = conf_global(conf);
    if (!queue_offline_become_owner(p->queue_directory, &e)) {
        ctl_complain("%s", e.text);
        return EX_NOINPUT;
    }
    if (!spool_is_there(p->queue_directory)) {
        ctl_complain("there is no spool in %s", p->queue_directory);
        return EX_NOINPUT;
    }
    umask(077); /* as the daemon does: addresses are nobody else's business */
    return at_start ? rebuild_at_start(p->queue_directory, as_json) : rebuild(p, verbose, as_json);
}

/* ---- compact ---- */

static json_int_t number(const json_t *o, const char *name)
{
    return json_integer_value(json_object_get(o, name));
}

static void print_compaction(json_t *j, bool as_json)
{
    char before[32], now[32];
    if (as_json) {
        json_t *o = json_copy(j);
        json_object_del(o, "ok");
        json_dumpf(o, stdout, 0);
        putchar('\n');
        json_decref(o);
        return;
    }
    long_work_bytes((uint64_t)number(j, "bytes_before"), before, sizeof before);
    long_work_bytes((uint64_t)number(j, "bytes_now"), now, sizeof now);
    printf("%" JSON_INTEGER_FORMAT " segments emptied, %" JSON_INTEGER_FORMAT " messages moved; journal, results and index took %s "
           "and take %s\n", number(j, "segments_done"), number(j, "messages"), before, now);
}

/* The daemon sends a line now and then; the last one says ok. */
static int follow(struct ctl *ctl, struct long_work *w, bool as_json)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    int status = ctl_request(&ctl->conn, json_pack("{s:s}", "op", "queue-compact"), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&ctl->conn, &is_last, &e);
        if (j == NULL) {
            status = EX_TEMPFAIL;
        } else if (is_last) {
            status = ctl_status_of(j, &e);
            long_work_end(w);
            if (status == 0)
                print_compaction(j, as_json);
        } else if (long_work_is_interrupted(w)) {
            status = EX_INTERRUPTED;
            err_set(&e, "interrupted: what was moved stays moved, and nothing is lost");
        } else {
            long_work_tell(w, "compacting: %" JSON_INTEGER_FORMAT " segments done, %" JSON_INTEGER_FORMAT " to do, %"
                           JSON_INTEGER_FORMAT " messages moved", number(j, "segments_done"), number(j, "segments_left"),
                           number(j, "messages"));
        }
        json_decref(j);
    }
    long_work_end(w);
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

int ctl_queue_cmd_compact(struct ctl *ctl, int argc, char **argv)
{
    struct long_work w;
    bool as_json = false, verbose = false;
    if (!parse_flags(argc, argv, &as_json, &verbose)) {
        ctl_complain("usage: queue compact [-j] [-v]");
        return EX_USAGE;
    }
    int status = ctl_open(ctl, false);
    if (status != 0)
        return status;
    long_work_begin(&w, verbose);
    return follow(ctl, &w, as_json);
}
