/*
 * posthousectl queue cat
 *
 * The content as a file on this machine has it: lines end with LF. As JSON it is a text, or base64 where it is not UTF-8.
 */
#include "daemon/cmd/posthousectl.h"

#include <sysexits.h>

#include "common/base/base64.h"
#include "common/base/mem.h"
#include "daemon/cmd/queue_format.h"
#include "daemon/cmd/queue_offline.h"
#include "daemon/cmd/select_options.h"

struct cat {
    struct buf *keep;  /* borrowed; NULL: standard output */
    bool held_cr;
};

static void cat_byte(struct cat *c, char b)
{
    if (c->keep != NULL)
        buf_putc(c->keep, b);
    else
        putchar_unlocked(b);
}

static void cat_bytes(struct cat *c, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (c->held_cr && s.p[i] != '\n')
            cat_byte(c, '\r');
        c->held_cr = s.p[i] == '\r';
        if (!c->held_cr)
            cat_byte(c, s.p[i]);
    }
}

static bool cat_cb(void *arg, struct span s)
{
    cat_bytes(arg, s);
    return true;
}

static bool receive(struct ctl_conn *conn, uint64_t left, struct cat *c, struct err *e)
{
    struct span s;
    while (left > 0) {
        if (stream_read_some(conn->s, &s) != STREAM_OK || s.n > left) {
            err_set(e, "lost the connection to posthoused within the message");
            return false;
        }
        cat_bytes(c, s);
        left -= s.n;
    }
    return true;
}

static int cat_online(struct ctl *ctl, const char *id, struct cat *c, struct err *e)
{
    json_t *last = NULL;
    int status = EX_TEMPFAIL;
    if (ctl_request(&ctl->conn, json_pack("{s:s, s:s}", "op", "queue-cat", "id", id), e))
        status = ctl_finish(&ctl->conn, &last, e);
    if (status == 0 && !receive(&ctl->conn, (uint64_t)json_integer_value(json_object_get(last, "content_bytes")), c, e))
        status = EX_TEMPFAIL;
    json_decref(last);
    return status;
}

static void print_json(const char *id, struct buf *content)
{
    struct span s = buf_span(content);
    json_t *o = json_pack("{s:s}", "queue_id", id), *text = json_stringn(s.n > 0 ? s.p : "", s.n);
    if (text != NULL) {
        json_object_set_new(o, "content", text);
    } else {
        struct buf b = BUF_INIT(0);
        base64_encode(s, &b);
        json_object_set_new(o, "content_base64", json_string(buf_cstr(&b)));
        buf_free(&b);
    }
    queue_show_json(stdout, o);
    json_decref(o);
}

static int cat_one(struct ctl *ctl, struct queue_offline *off, const char *id, bool as_json)
{
    struct err e = ERR_INIT;
    struct buf content = BUF_INIT(0);
    struct cat c = { .keep = as_json ? &content : NULL };
    int status = off != NULL ? queue_offline_cat(off, id, cat_cb, &c, &e) : cat_online(ctl, id, &c, &e);
    if (c.held_cr)
        cat_byte(&c, '\r');
    if (status != 0)
        ctl_complain("%s", e.text);
    else if (as_json)
        print_json(id, &content);
    buf_free(&content);
    return status;
}

/* Several are parted as head(1) and tail(1) part files. */
static int cat_all(struct ctl *ctl, struct queue_offline *off, const json_t *ids, bool as_json)
{
    size_t i, shown = 0;
    json_t *id;
    int worst = 0;
    json_array_foreach(ids, i, id) {
        if (!as_json && json_array_size(ids) > 1)
            printf("%s==> %s <==\n", i > 0 ? "\n" : "", json_string_value(id));
        int status = cat_one(ctl, off, json_string_value(id), as_json);
        shown += status == 0;
        worst = status > 1 ? status : worst;
        if (status > 1 || ferror(stdout))
            break;
    }
    return worst == 0 && shown == 0 ? 1 : worst;
}

int ctl_queue_cmd_cat(struct ctl *ctl, int argc, char **argv)
{
    struct queue_offline *off = NULL;
    struct select_args a;
    if (select_args_parse(&a, argc, argv, SEL_JSON, 0) != 0 || select_args_is_empty(&a)) {
        ctl_complain("usage: queue cat [-j] ID... | - | ALL | SELECTION");
        select_args_free(&a);
        return EX_USAGE;
    }
    select_args_read_stdin(&a);
    int status = ctl_queue_open(ctl, &off);
    json_t *ids = status == 0 ? ctl_queue_ids(ctl, off, &a, &status) : NULL;
    if (ids != NULL)
        status = cat_all(ctl, off, ids, a.json);
    json_decref(ids);
    queue_offline_close(&off);
    select_args_free(&a);
    return status;
}
