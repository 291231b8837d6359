/*
 * posthousectl queue export, import: see exported_mail.h for what is in the files
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
#include "daemon/cmd/exported_mail.h"
#include "daemon/cmd/header_rcpts.h"
#include "daemon/cmd/queue_offline.h"
#include "daemon/cmd/select_options.h"
#include "daemon/cmd/submit.h"
#include "daemon/control/envelope_json.h"
#include "daemon/control/queue_json.h"

#define FILE_MAX_BYTES (UINT64_C(1) << 30)

/* Takes the reference. */
static void print_object(json_t *o)
{
    json_dumpf(o, stdout, 0);
    putchar('\n');
    json_decref(o);
}

/* ---- export ---- */

struct out {
    int fd;
    bool ok;
};

static bool out_bytes(void *arg, struct span s)
{
    struct out *o = arg;
    o->ok = o->ok && io_write_all(o->fd, s.p, s.n);
    return o->ok;
}

static void out_envelope(struct out *o, const json_t *envelope)
{
    struct buf b = BUF_INIT(0);
    exported_mail_put_envelope(&b, envelope);
    out_bytes(o, buf_span(&b));
    buf_free(&b);
}

static int export_online(struct ctl *ctl, const char *id, struct out *o, struct err *e)
{
    json_t *last = NULL;
    int status = EX_TEMPFAIL;
    if (ctl_request(&ctl->conn, json_pack("{s:s, s:s}", "op", "queue-export", "id", id), e))
        status = ctl_finish(&ctl->conn, &last, e);
    if (status == 0) {
        out_envelope(o, json_object_get(last, "envelope"));
        uint64_t left = (uint64_t)json_integer_value(json_object_get(last, "content_bytes"));
        struct span s;
        while (status == 0 && left > 0) {
            if (stream_read_some(ctl->conn.s, &s) != STREAM_OK || s.n > left) {
                err_set(e, "lost the connection to posthoused within the message");
                status = EX_TEMPFAIL;
                break;
            }
            out_bytes(o, s);
            left -= s.n;
        }
    }
    json_decref(last);
    return status;
}

static int export_offline(struct queue_offline *off, const char *id, struct out *o, struct err *e)
{
    json_t *envelope = queue_offline_envelope(off, id);
    if (envelope == NULL) {
        err_set(e, "no message with queue id %.64s", id);
        return 1;
    }
    out_envelope(o, envelope);
    json_decref(envelope);
    return queue_offline_cat(off, id, out_bytes, o, e);
}

/* Under a name of its own until it is whole. */
static int export_file(struct ctl *ctl, struct queue_offline *off, const char *dir, const char *id, bool as_json)
{
    char *path = xasprintf("%s/%s.eml", dir, id), *tmp = xasprintf("%s.part", path);
    struct err e = ERR_INIT;
    struct out o = { .fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), .ok = true };
    int status = EX_CANTCREAT;
    if (o.fd < 0) {
        err_set_sys(&e, errno, "%s", tmp);
    } else {
        status = off != NULL ? export_offline(off, id, &o, &e) : export_online(ctl, id, &o, &e);
        if (status == 0 && (!o.ok || fsync(o.fd) != 0 || rename(tmp, path) != 0)) {
            err_set_sys(&e, errno, "%s", path);
            status = EX_IOERR;
        }
        io_close(&o.fd);
    }
    if (status == 0 && as_json) {
        print_object(json_pack("{s:s, s:o}", "queue_id", id, "file", queue_json_text(span_cstr(path))));
    } else if (status == 0) {
        puts(path);
    } else {
        unlink(tmp);
        ctl_complain("%s", e.text);
    }
    free(path);
    free(tmp);
    return status;
}

static int export_all(struct ctl *ctl, struct queue_offline *off, const char *dir, const json_t *ids, bool as_json)
{
    size_t i, done = 0;
    json_t *id;
    int status = 0, worst = 0;
    json_array_foreach(ids, i, id) {
        const char *text = json_string_value(id);
        if (strchr(text, '/') != NULL || text[0] == '.') {
            ctl_complain("no message with queue id %.64s", text);
            status = 1;
        } else {
            status = export_file(ctl, off, dir, text, as_json);
        }
        done += status == 0;
        worst = status > 1 ? status : worst;
        if (status == EX_TEMPFAIL || status == EX_CANTCREAT || status == EX_IOERR)
            break;
    }
    if (done > 0 && !io_sync_dir(dir)) { /* what comes next is often to delete them from the queue */
        ctl_complain("%s: %s", dir, strerror(errno));
        worst = EX_IOERR;
    }
    fprintf(stderr, "%zu message%s exported\n", done, done == 1 ? "" : "s");
    return worst != 0 ? worst : done == 0 ? 1 : 0;
}

/* Root reads the files as the owner of the spool, and writes as that user too (queue_offline.h). */
static bool may_write(const char *dir, bool was_root)
{
    if (!was_root || geteuid() == 0 || access(dir, W_OK | X_OK) == 0)
        return true;
    ctl_complain("%s: while posthoused is down, messages are exported as the owner of the spool (user id %lu), who may not write there",
                 dir, (unsigned long)geteuid());
    return false;
}

int ctl_queue_cmd_export(struct ctl *ctl, int argc, char **argv)
{
    static const char usage[] = "usage: queue export [-j] DIRECTORY ID... | - | ALL | SELECTION";
    struct queue_offline *off = NULL;
    struct select_args a;
    struct stat st;
    int status = EX_USAGE;
    bool was_root = geteuid() == 0;
    if (select_args_parse(&a, argc, argv, SEL_JSON, 1) != 0) {
        ctl_complain("%s", usage);
        return EX_USAGE;
    }
    const char *dir = optind > 0 && optind - 1 < argc ? argv[optind - 1] : NULL;
    bool is_empty = select_args_is_empty(&a);
    select_args_read_stdin(&a);
    if (dir == NULL || is_empty) {
        ctl_complain("%s", usage);
    } else if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
        ctl_complain("%s: %s", dir, errno == 0 ? strerror(ENOTDIR) : strerror(errno));
        status = EX_CANTCREAT;
    } else if ((status = ctl_queue_open(ctl, &off)) == 0) {
        json_t *ids = ctl_queue_ids(ctl, off, &a, &status);
        if (ids != NULL && off != NULL && !may_write(dir, was_root))
            status = EX_CANTCREAT;
        else if (ids != NULL)
            status = export_all(ctl, off, dir, ids, a.json);
        json_decref(ids);
    }
    queue_offline_close(&off);
    select_args_free(&a);
    return status;
}

/* ---- import ---- */

struct import_run {
    struct ctl *ctl;
    struct rcpt_list rcpts;  /* --recipient */
    struct span sender;
    bool has_sender, from_header;
    bool as_json, dry_run;   /* dry_run: all is looked at, nothing handed in */
};

/* Where it went; id NULL: it waits in maildrop/, or nothing was done. */
static void print_imported(const struct import_run *r, const char *path, const char *id)
{
    if (r->as_json) {
        json_t *o = json_pack("{s:o, s:s}", "file", queue_json_text(span_cstr(path)), "result", r->dry_run ? "selected" : "done");
        if (id != NULL)
            json_object_set_new(o, "queue_id", json_string(id));
        print_object(o);
    } else if (id != NULL) {
        puts(id);
    } else {
        printf("%s: %s\n", path, r->dry_run ? "would be imported" : "waits in maildrop/ for posthoused");
    }
}

static int import_exact(struct ctl *ctl, json_t *envelope, struct span content, json_t **last, struct err *e)
{
    json_t *request = json_pack("{s:s, s:O, s:I}", "op", "queue-import", "envelope", envelope, "content_bytes", (json_int_t)content.n);
    if (!ctl_request(&ctl->conn, request, e))
        return EX_TEMPFAIL;
    stream_put_borrowed(ctl->conn.s, content);
    if (stream_flush(ctl->conn.s) != STREAM_OK) { /* refused before all was sent: the answer says why */ }
    return ctl_finish(&ctl->conn, last, e);
}

/* As the daemon would look at it. */
static bool is_good_envelope(const json_t *envelope, struct err *e)
{
    struct msg *m = msg_new();
    bool ok = envelope_decode(envelope, m, e);
    msg_unref(&m);
    return ok;
}

static int import_enveloped(struct import_run *r, const char *path, json_t *envelope, struct span text, bool is_lf, struct err *e)
{
    struct buf content = BUF_INIT(2 * FILE_MAX_BYTES);
    json_t *last = NULL;
    int status = ctl_open(r->ctl, true);
    if (status == EX_UNAVAILABLE)
        err_set(e, "posthoused is not running: a message with its envelope can only be imported by it");
    if (status == 0 && r->dry_run) {
        status = is_good_envelope(envelope, e) ? 0 : EX_DATAERR;
    } else if (status == 0) {
        exported_mail_to_crlf(text, is_lf, &content);
        status = import_exact(r->ctl, envelope, buf_span(&content), &last, e);
        /* The daemon ends the connection after a refusal. */
        if (status != 0)
            ctl_disconnect(&r->ctl->conn);
    }
    if (status == 0)
        print_imported(r, path, json_string_value(json_object_get(last, "queue_id")));
    json_decref(last);
    buf_free(&content);
    return status;
}

/* As sendmail would: to the daemon, or into maildrop/. */
static int import_plain(struct import_run *r, const char *path, struct span text, struct err *e)
{
    struct mail_input in = { .file = NULL };
    struct rcpt_list found = { .arena = r->rcpts.arena };
    const struct params *p = conf_global(r->ctl->conf);
    FILE *f = fopen(path, "re");
    int status = f == NULL ? EX_NOINPUT : mail_input_read(&in, f, true, FILE_MAX_BYTES, e) == INPUT_OK ? 0 : EX_IOERR;
    if (f == NULL)
        err_set_sys(e, errno, "cannot be read");
    else
        fclose(f);
    struct submission s = { .sender = r->sender, .rcpts = r->rcpts.items, .rcpt_count = r->rcpts.n };
    if (status == 0 && r->from_header) {
        (void)text;
        status = rcpts_add_header(&found, buf_span(&in.head), e) ? 0 : EX_DATAERR;
        s.rcpts = found.items;
        s.rcpt_count = found.n;
    }
    if (status == 0 && s.rcpt_count == 0) {
        err_set(e, "it has no envelope: say to whom it goes with --recipient, or -t for the addresses in its header");
        status = EX_DATAERR;
    }
    char *id = NULL;
    if (status == 0 && !r->dry_run)
        status = submit_message(p->queue_directory, &s, &in, &id, e);
    if (status == 0)
        print_imported(r, path, id);
    free(id);
    mail_input_free(&in);
    rcpt_list_free(&found);
    return status;
}

static int import_file(struct import_run *r, const char *path)
{
    struct buf b = BUF_INIT(FILE_MAX_BYTES);
    struct err e = ERR_INIT;
    json_t *envelope = NULL;
    int status = EX_DATAERR;
    if (!io_read_file(path, &b, &e)) {
        ctl_complain("%s", e.text);
        buf_free(&b);
        return EX_NOINPUT;
    }
    struct span text = buf_span(&b);
    ptrdiff_t eol = span_find(text, '\n');
    bool is_lf = eol > 0 && text.p[eol - 1] != '\r';
    if (exported_mail_check(text, &e)) {
        envelope = exported_mail_take_envelope(&text, &e);
        if (envelope != NULL)
            status = exported_mail_check(text, &e) ? import_enveloped(r, path, envelope, text, is_lf, &e) : EX_DATAERR;
        else if (e.text[0] == '\0')
            status = import_plain(r, path, text, &e);
    }
    if (status != 0)
        ctl_complain("%s: %s", path, e.text[0] != '\0' ? e.text : "was not imported");
    json_decref(envelope);
    buf_free(&b);
    return status;
}

static bool parse(struct import_run *r, int argc, char **argv)
{
    static const struct option longopts[] = {
        { "sender", required_argument, NULL, 'f' }, { "recipient", required_argument, NULL, 'r' },
        { "dry-run", no_argument, NULL, 'n' }, { 0 },
    };
    struct err e = ERR_INIT;
    int c;
    while ((c = getopt_long(argc, argv, "f:jnr:t", longopts, NULL)) != -1) {
        if (c == 'f') {
            r->sender = span_cstr(strcmp(optarg, "<>") == 0 ? "" : optarg);
            r->has_sender = true;
        } else if (c == 't') {
            r->from_header = true;
        } else if (c == 'j') {
            r->as_json = true;
        } else if (c == 'n') {
            r->dry_run = true;
        } else if (c != 'r') {
            return false;
        } else if (!rcpts_add_list(&r->rcpts, span_cstr(optarg), &e)) {
            ctl_complain("%s", e.text);
            return false;
        }
    }
    return optind < argc && !(r->from_header && r->rcpts.n > 0);
}

int ctl_queue_cmd_import(struct ctl *ctl, int argc, char **argv)
{
    struct import_run r = { .ctl = ctl, .rcpts = { .arena = arena_new(0) } };
    int status = 0, done = 0, worst = 0;
    if (!parse(&r, argc, argv)) {
        ctl_complain("usage: queue import [-j] [-n] [--sender ADDRESS] [--recipient ADDRESS]... [-t] FILE...");
        worst = EX_USAGE;
    } else if (ctl_config(ctl) == NULL) {
        worst = EX_CONFIG;
    } else {
        for (int i = optind; i < argc; i++) {
            status = import_file(&r, argv[i]);
            done += status == 0;
            worst = status != 0 ? status : worst;
        }
        fprintf(stderr, "%d message%s %simported\n", done, done == 1 ? "" : "s", r.dry_run ? "would be " : "");
    }
    rcpt_list_free(&r.rcpts);
    arena_free(&r.rcpts.arena);
    return worst;
}
