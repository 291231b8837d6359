/*
 * What stays as it is goes out as runs of the content; only changed lines are written to a page, which is given away
 * whenever it fills. A header is looked at to its end before any of it is sent, because only then it is known whether its
 * Content-Transfer-Encoding fields stay. They are dropped, and the new one comes last, where smtp(8) puts it.
 *
 * Quoted-printable, a line at a time: '=', controls, 8-bit bytes, and blanks at the end of a line become =XX. Lines have at
 * most 76 characters. A changed line never begins with "--", nor one after a soft break with '-', so that no boundary arises
 * that was not there; and a changed header always ends with an empty line, so that encoded text cannot become a field.
 */
#include "daemon/smtp/downgrade.h"

#define QP_LINE 76
#define PAGE    4096

struct downgrading {
    struct mime mime;
    downgrade_put_fn *put;
    void *ctx;
    const char *run, *run_end; /* of the content, unchanged and not yet put */
    size_t n;                  /* of the page; only while the run is empty */
    char page[PAGE];
};

enum downgrade_need downgrade_need_of(struct span content, struct mime_limits limits)
{
    enum downgrade_need need = DOWNGRADE_NONE;
    struct mime m;
    struct mime_piece piece;
    mime_init(&m, content, limits);
    while (mime_next(&m, &piece))
        if (piece.kind == MIME_HEADER_END && mime_is_8bit(&m))
            need = DOWNGRADE_NEEDED;
    if (m.is_too_deep)
        need = DOWNGRADE_TOO_DEEP;
    mime_free(&m);
    return need;
}

/* ---- output ---- */

static void give_page(struct downgrading *d)
{
    if (d->n > 0)
        d->put(d->ctx, span_of(d->page, d->n), false);
    d->n = 0;
}

static void give_run(struct downgrading *d)
{
    if (d->run_end > d->run)
        d->put(d->ctx, span_of(d->run, (size_t)(d->run_end - d->run)), true);
    d->run = d->run_end = NULL;
}

static void keep(struct downgrading *d, struct span text)
{
    if (text.n == 0)
        return;
    if (d->n > 0 && text.n <= QP_LINE && d->n + text.n <= PAGE) {
        memcpy(d->page + d->n, text.p, text.n); /* short lines between changed ones */
        d->n += text.n;
        return;
    }
    give_page(d);
    if (d->run_end != text.p) {
        give_run(d);
        d->run = text.p;
    }
    d->run_end = text.p + text.n;
}

/* Room for one more line of quoted-printable, or a header field. */
static char *begin_line(struct downgrading *d)
{
    give_run(d);
    if (d->n + 2 * QP_LINE > PAGE)
        give_page(d);
    return d->page + d->n;
}

static void add_line(struct downgrading *d, struct span line)
{
    memcpy(begin_line(d), line.p, line.n);
    d->n += line.n;
}

/* ---- quoted-printable ---- */

static bool is_plain(char c) { return (c > ' ' && c < 127 && c != '=') || c == ' ' || c == '\t'; }

static bool is_plain_line(struct span text)
{
    if (text.n > QP_LINE)
        return false;
    for (size_t i = 0; i < text.n; i++)
        if (!is_plain(text.p[i]))
            return false;
    return text.n == 0 || (text.p[text.n - 1] != ' ' && text.p[text.n - 1] != '\t');
}

static size_t put_hex(char *out, char c)
{
    static const char digits[] = "0123456789ABCDEF";
    out[0] = '=';
    out[1] = digits[(unsigned char)c >> 4];
    out[2] = digits[(unsigned char)c & 15];
    return 3;
}

/* One line of the output from the text: at most QP_LINE characters, the last of which is '=' when the text goes on. */
static size_t put_part(char *out, struct span *text, bool is_first)
{
    size_t n = 0, i = 0;
    for (; i < text->n; i++) {
        char c = text->p[i];
        bool is_last = i + 1 == text->n;
        bool is_dashes = n == 0 && c == '-' && (!is_first || (!is_last && text->p[i + 1] == '-'));
        bool hex = !is_plain(c) || (is_last && (c == ' ' || c == '\t')) || is_dashes;
        if (n + (hex ? 3 : 1) > (is_last ? QP_LINE : QP_LINE - 1))
            break;
        if (hex)
            n += put_hex(out + n, c);
        else
            out[n++] = c;
    }
    *text = span_from(*text, i);
    if (text->n > 0)
        out[n++] = '=';
    return n;
}

static void encode_line(struct downgrading *d, struct span line)
{
    struct span text = line, end = span_of(line.p + line.n, 0);
    if (text.n > 0 && text.p[text.n - 1] == '\n') {
        text.n--;
        if (text.n > 0 && text.p[text.n - 1] == '\r')
            text.n--;
        end = SPAN_LIT("\r\n");
    }
    if (is_plain_line(text)) {
        keep(d, line);
        return;
    }
    for (bool is_first = true; text.n > 0; is_first = false) {
        char *out = begin_line(d);
        size_t n = put_part(out, &text, is_first);
        struct span eol = text.n > 0 ? SPAN_LIT("\r\n") : end;
        memcpy(out + n, eol.p, eol.n);
        d->n += n + eol.n;
    }
}

/* ---- headers ---- */

/* The header goes on without its old fields of that name. */
static void put_header(struct downgrading *d, struct span header, struct span end)
{
    struct span label = d->mime.type == MIME_LEAF ? SPAN_LIT("Content-Transfer-Encoding: quoted-printable\r\n")
                                                  : SPAN_LIT("Content-Transfer-Encoding: 7bit\r\n");
    struct mime m;
    struct mime_piece piece;
    bool has_eol = header.n == 0 || header.p[header.n - 1] == '\n';
    mime_init(&m, header, d->mime.stack.limits);
    while (mime_next(&m, &piece) && piece.kind == MIME_FIELD)
        if (!mime_is_field(piece.text, "Content-Transfer-Encoding"))
            keep(d, piece.text);
    mime_free(&m);
    if (!has_eol)
        add_line(d, SPAN_LIT("\r\n"));
    add_line(d, label);
    if (end.n > 0)
        keep(d, end);
    else
        add_line(d, SPAN_LIT("\r\n"));
}

void downgrade(struct span content, struct mime_limits limits, downgrade_put_fn *put, void *ctx)
{
    struct downgrading d = { .put = put, .ctx = ctx };
    struct mime_piece piece;
    struct span header = span_of(NULL, 0);
    mime_init(&d.mime, content, limits);
    while (mime_next(&d.mime, &piece)) {
        bool change = mime_is_8bit(&d.mime);
        switch (piece.kind) {
        case MIME_FIELD:
            header = span_of(header.n > 0 ? header.p : piece.text.p, header.n + piece.text.n);
            break;
        case MIME_HEADER_END:
            if (change) {
                put_header(&d, header, piece.text);
            } else {
                keep(&d, header);
                keep(&d, piece.text);
            }
            header = span_of(NULL, 0);
            break;
        case MIME_BODY:
            if (change && d.mime.type == MIME_LEAF)
                encode_line(&d, piece.text);
            else
                keep(&d, piece.text);
            break;
        case MIME_BOUNDARY:
            keep(&d, piece.text);
            break;
        }
    }
    give_page(&d);
    give_run(&d);
    mime_free(&d.mime);
}
