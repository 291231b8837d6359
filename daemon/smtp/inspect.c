/*
 * The pipe is fed the whole content at once, so what it gives on without change are runs of the content itself, but for
 * header fields and lines that it had to put together. A piece that does not end a line is cut at its last line end when
 * something follows, so that whoever looks at lines (content.c) can take one piece after the other.
 */
#include "daemon/smtp/inspect.h"

#include "common/base/mem.h"
#include "daemon/deliver/tables.h"
#include "daemon/smtp/request.h"
#include "policy/checks.h"

struct sink {
    struct inspected *x;
    const char *begin, *end; /* of the stored content */
};

static struct inspect_piece *new_piece(struct inspected *x)
{
    if (x->count == x->cap) {
        x->cap = x->cap ? 2 * x->cap : 8;
        x->pieces = xrealloc(x->pieces, x->cap * sizeof *x->pieces);
    }
    x->pieces[x->count] = (struct inspect_piece){ 0 };
    return &x->pieces[x->count++];
}

static struct inspect_piece *last_piece(struct inspected *x)
{
    return x->count > 0 ? &x->pieces[x->count - 1] : NULL;
}

static void add_made(struct inspected *x, struct span s)
{
    struct inspect_piece *q = last_piece(x);
    if (q == NULL || q->p != NULL) {
        q = new_piece(x);
        q->at = x->made.n;
    }
    buf_add_span(&x->made, s);
    q->n += s.n;
}

/* The line that the last piece ends with goes on with something else: it is copied. */
static void copy_open_line(struct inspected *x)
{
    struct inspect_piece *q = last_piece(x);
    if (q == NULL || q->p == NULL || q->p[q->n - 1] == '\n')
        return;
    struct span all = span_of(q->p, q->n);
    ptrdiff_t lf = span_rfind(all, '\n');
    size_t keep = lf < 0 ? 0 : (size_t)lf + 1;
    q->n = keep;
    if (keep == 0)
        x->count--;
    add_made(x, span_from(all, keep));
}

static void put_cb(void *arg, struct span bytes)
{
    struct sink *k = arg;
    struct inspected *x = k->x;
    struct inspect_piece *q = last_piece(x);
    bool is_stored = bytes.p >= k->begin && bytes.p < k->end;
    x->bytes += bytes.n;
    if (is_stored && q != NULL && q->p != NULL && q->p + q->n == bytes.p) {
        q->n += bytes.n;
        return;
    }
    copy_open_line(x);
    q = last_piece(x);
    bool is_mid_line = q != NULL && q->p == NULL && x->made.p[x->made.n - 1] != '\n';
    if (!is_stored || is_mid_line) {
        add_made(x, bytes);
        return;
    }
    q = new_piece(x);
    *q = (struct inspect_piece){ .p = bytes.p, .n = bytes.n };
}

/* ---- stages ---- */

static bool is_any(const struct client_params *cp)
{
    return *cp->header_checks || *cp->mime_header_checks || *cp->nested_header_checks || *cp->body_checks;
}

static struct checks_run *add_checks(struct smtp_request *r, const struct checks_message *m, struct arena *a, struct pipe_options *o)
{
    struct deliver_tables *t = r->env->tables;
    const struct client_params *cp = r->cp;
    struct checks_tables tables = {
        .prefix = r->is_lmtp ? "lmtp_" : "smtp_",
        .header = deliver_tables_get_bytes(t, cp->header_checks),
        .mime = deliver_tables_get_bytes(t, cp->mime_header_checks),
        .nested = deliver_tables_get_bytes(t, cp->nested_header_checks),
        .body = deliver_tables_get_bytes(t, cp->body_checks),
    };
    return checks_begin_client(&tables, r->p, m, a, &o->stages[o->stage_count++]);
}

/* ---- the content ---- */

/* Where the body begins: behind the empty line that ends the header, or at the end. */
static size_t header_bytes(struct span content)
{
    struct hdr_scan h;
    struct arena *a = arena_new(0);
    size_t at = 0;
    bool is_over = false;
    hdr_scan_init(&h, a);
    while (at < content.n && !is_over) {
        struct span rest = span_from(content, at);
        ptrdiff_t lf = span_find(rest, '\n');
        size_t n = lf < 0 ? rest.n : (size_t)lf + 1;
        struct span line = span_of(rest.p, n);
        while (line.n > 0 && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
            line.n--;
        enum hdr_line kind = hdr_scan_line(&h, line);
        is_over = kind == HDR_LINE_EMPTY || kind == HDR_LINE_BODY;
        at += is_over ? 0 : n;
    }
    arena_free(&a);
    return at;
}

static void run_pipe(struct smtp_request *r, struct inspected *x, struct pipe_options *o, struct arena *a)
{
    struct span content = span_of(r->view.p, r->view.n);
    struct sink k = { .x = x, .begin = content.p, .end = content.p + content.n };
    struct content_pipe p;
    size_t header = header_bytes(content);
    o->put = put_cb;
    o->arg = &k;
    pipe_init(&p, o, a);
    pipe_feed(&p, span_of(content.p, header));
    pipe_end_header(&p);
    pipe_feed(&p, span_from(content, header));
    pipe_end(&p);
    x->content_flags = r->job->msg->env.content_flags | (p.made_8bit ? CONTENT_HAS_8BIT : 0) |
                       (p.made_long_line ? CONTENT_HAS_LONG_LINE : 0) | (p.made_dot_line ? CONTENT_HAS_DOT_LINE : 0);
    pipe_free(&p);
}

bool inspect_content(struct smtp_request *r)
{
    const struct params *p = r->p;
    char qid[QID_TEXT_MAX];
    if (r->inspected != NULL || !is_any(r->cp))
        return true;
    struct arena *a = arena_new(0);
    struct pipe_options o = {
        .header_bytes = (size_t)p->header_size_limit,
        .line_bytes = (size_t)p->line_length_limit,
        .mime = content_mime_limits(r),
        .is_mime = true,
    };
    qid_format(r->job->msg->env.id, p->enable_long_queue_ids, qid);
    struct checks_message m = { .log = &r->log, .queue_id = span_cstr(qid) };
    struct checks_run *checks = add_checks(r, &m, a, &o);
    struct inspected *x = xcalloc(1, sizeof *x);
    run_pipe(r, x, &o, a);
    int code;
    const char *dsn;
    struct span text;
    bool ok = checks_status(checks, &code, &dsn, &text) == CHECKS_OK;
    if (ok)
        r->inspected = x;
    else
        inspect_free(&x);
    checks_end(&checks);
    arena_free(&a);
    return ok;
}

struct span inspect_whole(struct smtp_request *r)
{
    struct inspected *x = r->inspected;
    if (x == NULL)
        return span_of(r->view.p, r->view.n);
    if (x->count == 1)
        return inspected_span(x, 0);
    struct buf all = BUF_INIT(0);
    for (size_t i = 0; i < x->count; i++)
        buf_add_span(&all, inspected_span(x, i));
    buf_free(&x->made);
    x->made = all;
    x->pieces[0] = (struct inspect_piece){ .n = all.n };
    x->count = 1;
    return buf_span(&x->made);
}

void inspect_free(struct inspected **xp)
{
    struct inspected *x = *xp;
    if (x != NULL) {
        buf_free(&x->made);
        free(x->pieces);
    }
    free(x);
    *xp = NULL;
}
