#include "daemon/cmd/exported_mail.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/mail/headers.h"

#define FIELD "X-Posthouse-Envelope:"

/* Every line of the JSON text becomes a line of the field. */
void exported_mail_put_envelope(struct buf *out, const json_t *envelope)
{
    char *text = json_dumps(envelope, JSON_INDENT(1) | JSON_ENSURE_ASCII);
    struct span rest = span_cstr(text), line;
    buf_puts(out, FIELD);
    while (span_next_token(&rest, "\n", &line))
        buf_printf(out, " %.*s\r\n", SPAN_ARG(line));
    free(text);
}

bool exported_mail_check(struct span text, struct err *e)
{
    struct arena *a = arena_new(0);
    struct hdr_scan h;
    struct span rest = text;
    size_t number = 0;
    bool ok = text.n > 0, is_done = false;
    hdr_scan_init(&h, a);
    if (!ok)
        err_set(e, "it is empty");
    while (ok && !is_done && rest.n > 0) {
        ptrdiff_t end = span_find(rest, '\n');
        struct span line = span_of(rest.p, end < 0 ? rest.n : (size_t)end);
        rest = end < 0 ? span_of(NULL, 0) : span_from(rest, (size_t)end + 1);
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        number++;
        if (number == 1 && span_starts_with(line, SPAN_LIT("From "))) {
            err_set(e, "it is a mailbox (its first line begins with \"From \"): split it into messages first");
            ok = false;
            break;
        }
        enum hdr_line k = hdr_scan_line(&h, line);
        is_done = k == HDR_LINE_EMPTY;
        if (k == HDR_LINE_BODY || (number == 1 && k != HDR_LINE_FIELD)) {
            err_set(e, "it is not a mail message: line %zu is not a header field", number);
            ok = false;
        }
    }
    arena_free(&a);
    return ok;
}

json_t *exported_mail_take_envelope(struct span *text, struct err *e)
{
    struct buf b = BUF_INIT(0);
    json_error_t je;
    if (!span_istarts_with(*text, SPAN_LIT(FIELD)))
        return NULL;
    struct span rest = span_from(*text, strlen(FIELD));
    do {
        ptrdiff_t end = span_find(rest, '\n');
        size_t n = end < 0 ? rest.n : (size_t)end + 1;
        buf_add(&b, rest.p, n);
        rest = span_from(rest, n);
    } while (rest.n > 0 && (rest.p[0] == ' ' || rest.p[0] == '\t'));
    json_t *j = json_loadb(b.p, b.n, JSON_REJECT_DUPLICATES, &je);
    if (j == NULL)
        err_set(e, "its " FIELD " field is not JSON: %s", je.text);
    else
        *text = rest;
    buf_free(&b);
    return j;
}

void exported_mail_to_crlf(struct span text, bool is_lf, struct buf *out)
{
    if (!is_lf) {
        buf_add_span(out, text);
        return;
    }
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\n' && (i == 0 || text.p[i - 1] != '\r'))
            buf_putc(out, '\r');
        buf_putc(out, text.p[i]);
    }
}
