/*
 * Lines are found with memchr() and passed on in runs as long as nothing in them has to change, so that a message of
 * plain CRLF lines is one or two put() calls per buffer. A run ends where a dot is removed, a bare LF becomes CRLF or
 * something is inserted.
 *
 * Which bytes stay behind when the input stops inside a line: in the header all of the line (its kind must be known
 * before it is passed on); in the body ".", ".\r" at the start of a line (may be the end of data), and a last '\r' (may be
 * half a line end).
 */
#include "common/base/ascii.h"
#include "common/mail/address.h"
#include "daemon/smtpd/content.h"
#include "queue/msg.h"

#define LOOK_MAX (CONTENT_HEADER_LINE_MAX - 2) /* a piece of a line may lack a dot before it and a CR behind it */

typedef unsigned char vec __attribute__((vector_size(16)));

bool content_has_8bit(const char *p, size_t n)
{
    vec a = { 0 }, b = { 0 };
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        vec x, y;
        memcpy(&x, p + i, 16);
        memcpy(&y, p + i + 16, 16);
        a |= x;
        b |= y;
    }
    a |= b;
    uint64_t two[2];
    memcpy(two, &a, 16);
    uint64_t all = two[0] | two[1];
    for (; i < n; i++)
        all |= (unsigned char)p[i];
    return (all & UINT64_C(0x8080808080808080)) != 0;
}

void content_scan_init(struct content_scan *c, const struct content_options *o, struct arena *a)
{
    *c = (struct content_scan){ .o = *o, .in_header = true, .prev_crlf = true, .is_first_line = true };
    hdr_scan_init(&c->hdr, a);
    if (o->strip != NULL) /* what follows a stripped character may be a dot, and then begins the line */
        c->flags |= CONTENT_HAS_DOT_LINE;
}

/* Line ends are none of the characters that are looked for, as if the lines had been given without them. */
static bool is_line_end(struct span s, size_t i)
{
    return s.p[i] == '\n' || (s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] == '\n');
}

static void put_filtered(struct content_scan *c, struct span s)
{
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char ch = (unsigned char)s.p[i];
        if (is_line_end(s, i))
            continue;
        if (c->o.reject != NULL && c->o.reject[ch])
            c->saw_rejected = true;
        if (c->o.strip != NULL && c->o.strip[ch]) {
            if (i > from)
                c->o.put(c->o.arg, span_of(s.p + from, i - from));
            from = i + 1;
        }
    }
    if (s.n > from)
        c->o.put(c->o.arg, span_of(s.p + from, s.n - from));
}

static void put(struct content_scan *c, const char *p, size_t n)
{
    if (n == 0)
        return;
    if ((c->flags & CONTENT_HAS_8BIT) == 0 && content_has_8bit(p, n))
        c->flags |= CONTENT_HAS_8BIT;
    if ((c->flags & CONTENT_HAS_NUL) == 0 && memchr(p, '\0', n) != NULL)
        c->flags |= CONTENT_HAS_NUL;
    if (UNLIKELY(c->o.strip != NULL || c->o.reject != NULL))
        put_filtered(c, span_of(p, n));
    else
        c->o.put(c->o.arg, span_of(p, n));
}

static void put_crlf(struct content_scan *c)
{
    c->o.put(c->o.arg, SPAN_LIT("\r\n"));
}

static void end_header(struct content_scan *c)
{
    c->in_header = false;
    if (c->hdr.has_8bit)
        c->flags |= CONTENT_HAS_8BIT_HEADER;
    c->o.header_end(c->o.arg);
}

/* A line that came from a mailbox file: "From joe Sat Nov 21". It must not end the header. */
static bool is_mailbox_line(struct span line)
{
    size_t i = 0;
    while (i < line.n && (line.p[i] == '>' || line.p[i] == ' '))
        i++;
    return span_starts_with(span_from(line, i), SPAN_LIT("From "));
}

static bool is_dropped(const struct content_scan *c, struct span line)
{
    return c->o.drop.letters != 0 && hdr_names_has(&c->o.drop, span_of(line.p, hdr_name_length(line)));
}

static void note_length(struct content_scan *c, size_t n)
{
    c->line_n += n;
    if (c->line_n > 998)
        c->flags |= CONTENT_HAS_LONG_LINE;
}

/*
 * Looks at a header line that has not been passed on; *run is where the bytes not yet passed on begin, line at `line.p`. What kind
 * of line it is its first LOOK_MAX bytes say: more may not have come.
 */
static void look_at_header(struct content_scan *c, struct span all, const char **run)
{
    static const struct span mailbox_field = { "Mailbox-Line: ", 14 };
    struct span line = span_of(all.p, all.n < LOOK_MAX ? all.n : LOOK_MAX);
    bool first = c->is_first_line;
    c->is_first_line = false;
    if (first && is_mailbox_line(line)) {
        put(c, *run, (size_t)(line.p - *run));
        *run = line.p;
        c->o.put(c->o.arg, mailbox_field);
        note_length(c, mailbox_field.n);
        c->hdr.has_8bit = c->hdr.has_8bit || !span_is_ascii(all);
        return;
    }
    enum hdr_line kind = hdr_scan_line(&c->hdr, line);
    if (kind == HDR_LINE_FIELD && (c->is_dropping = is_dropped(c, line))) {
        put(c, *run, (size_t)(line.p - *run));
        *run = line.p;
    }
    if (UNLIKELY(kind == HDR_LINE_FIELD && line.p[c->hdr.name_n] != ':') && !c->is_dropping) { /* "Name : value" */
        put(c, *run, (size_t)(line.p + c->hdr.name_n - *run));
        *run = line.p + span_find(line, ':');
    }
    if (kind == HDR_LINE_FIELD || kind == HDR_LINE_FOLDED) {
        c->hdr.has_8bit = c->hdr.has_8bit || content_has_8bit(all.p + line.n, all.n - line.n);
        return;
    }
    put(c, *run, (size_t)(line.p - *run));
    *run = line.p;
    end_header(c);
    if (kind == HDR_LINE_BODY)
        put_crlf(c);
}

/* Every CR of a line (its own line end not included) is a stray one. */
static void mend_stray_cr(struct content_scan *c, char *p, size_t n)
{
    char *cr;
    while (n > 0 && (cr = memchr(p, '\r', n)) != NULL) {
        if (c->o.keep_stray_cr)
            c->flags |= CONTENT_HAS_BARE_CR;
        else
            *cr = ' ';
        n -= (size_t)(cr + 1 - p);
        p = cr + 1;
    }
}

/* More of a header line of which look_at_header() has seen the beginning. */
static void note_rest_of_header_line(struct content_scan *c, const char *p, size_t n)
{
    if (c->in_header && c->mid_line && !c->hdr.has_8bit)
        c->hdr.has_8bit = content_has_8bit(p, n);
}

/* A line from p to its LF at lf. Returns true at the end of data. */
static bool take_line(struct content_scan *c, char *p, char *lf, const char **run)
{
    bool crlf = lf > p && lf[-1] == '\r';
    char *end = crlf ? lf - 1 : lf; /* of the line's text */
    if (!c->mid_line && c->o.dots && p < end && *p == '.') {
        bool alone = end == p + 1;
        if (alone && (!c->o.standard_end_only || (crlf && c->prev_crlf))) {
            put(c, *run, (size_t)(p - *run));
            *run = lf + 1;
            return true;
        }
        put(c, *run, (size_t)(p - *run));
        *run = ++p;
    }
    c->prev_crlf = crlf;
    if (!c->mid_line) {
        c->line_n = 0;
        if (p < end && *p == '.')
            c->flags |= CONTENT_HAS_DOT_LINE;
    }
    mend_stray_cr(c, p, (size_t)(end - p));
    note_rest_of_header_line(c, p, (size_t)(end - p));
    if (c->in_header && !c->mid_line)
        look_at_header(c, span_of(p, (size_t)(end - p)), run);
    note_length(c, (size_t)(end - p));
    c->mid_line = false;
    c->saw_bare_lf |= !crlf;
    if (UNLIKELY(c->in_header && c->is_dropping)) {
        *run = lf + 1;
    } else if (UNLIKELY(!crlf)) {
        put(c, *run, (size_t)(end - *run));
        put_crlf(c);
        *run = lf + 1;
    }
    return false;
}

/* The start of a line whose end has not come. Returns how much of it may be passed on now. */
static size_t take_part(struct content_scan *c, char *p, size_t n, const char **run)
{
    if (n == 0 || (n == 1 && *p == '\r'))
        return 0;
    if (!c->mid_line && c->in_header && n < CONTENT_HEADER_LINE_MAX)
        return 0;
    if (!c->mid_line && c->o.dots && *p == '.' && (n == 1 || (n == 2 && p[1] == '\r')))
        return 0;
    size_t taken = n;
    if (p[n - 1] == '\r')
        taken--, n--;
    if (!c->mid_line) {
        if (c->o.dots && *p == '.') {
            put(c, *run, (size_t)(p - *run));
            *run = ++p;
            n--;
        }
        c->line_n = 0;
        if (*p == '.')
            c->flags |= CONTENT_HAS_DOT_LINE;
    }
    mend_stray_cr(c, p, n);
    note_rest_of_header_line(c, p, n);
    if (c->in_header && !c->mid_line)
        look_at_header(c, span_of(p, n), run);
    note_length(c, n);
    c->mid_line = true;
    if (c->in_header && c->is_dropping)
        *run = p + n;
    return taken;
}

size_t content_scan_feed(struct content_scan *c, char *p, size_t n, bool *ended)
{
    char *at = p, *end = p + n;
    const char *run = p;
    *ended = false;
    while (at < end) {
        char *lf = memchr(at, '\n', (size_t)(end - at));
        if (lf == NULL) {
            at += take_part(c, at, (size_t)(end - at), &run);
            break;
        }
        *ended = take_line(c, at, lf, &run);
        at = lf + 1;
        if (*ended)
            break;
    }
    if (at > run)
        put(c, run, (size_t)(at - run));
    c->taken += (size_t)(at - p);
    if (*ended && c->in_header)
        end_header(c);
    return (size_t)(at - p);
}

void content_scan_finish(struct content_scan *c, char *p, size_t n)
{
    if (n > 0) {
        bool ended;
        size_t used = content_scan_feed(c, p, n, &ended);
        p += used;
        n -= used;
    }
    if (n > 0 && p[n - 1] == '\r') { /* a line end of which the LF never came */
        p[n - 1] = ' ';
        if (n == 1 && !c->mid_line)
            n = 0;
        c->taken++;
    }
    if (n > 0) { /* the last line had no end */
        const char *run = p;
        c->taken += n;
        mend_stray_cr(c, p, n);
        if (!c->mid_line && *p == '.')
            c->flags |= CONTENT_HAS_DOT_LINE;
        if (!c->mid_line)
            c->line_n = 0;
        note_rest_of_header_line(c, p, n);
        if (c->in_header && !c->mid_line)
            look_at_header(c, span_of(p, n), &run);
        note_length(c, n);
        if (!c->in_header || !c->is_dropping)
            put(c, run, (size_t)(p + n - run));
        c->mid_line = true;
    }
    if (c->mid_line) {
        c->mid_line = false;
        if (!c->in_header || !c->is_dropping)
            put_crlf(c);
        c->taken += 2;
    }
    if (c->in_header)
        end_header(c);
}
