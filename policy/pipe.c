/*
 * The states:
 *
 *   HEADER     lines of the message's own header; pipe_end_header() says that it is over
 *   SEPARATOR  the empty line behind it
 *   PART       lines of the header of a part or of a message inside; an empty line, a boundary or a line that is no
 *              field ends it
 *   BODY       lines
 *   PASS       a body that no stage wants to see and in which no part can begin
 *
 * `field` holds the lines of one field until the first byte of the next line shows that it is complete. A line of a part's
 * header may turn out to be none: it must be known for a field within FIELD_NAME_MAX bytes, and only then may its end be
 * cut off.
 *
 * In a body only lines that begin with '-' can be boundaries; if no stage wants lines, only these are put together.
 */
#include "policy/pipe.h"

#include "common/base/ascii.h"
#include "common/mail/address.h"

#define FIELD_BYTES 512 /* of a field, to begin with */
#define FIELD_NAME_MAX 1024
#define LINE_LONG 998 /* RFC 5321 4.5.3.1.6 */

enum pipe_state { HEADER, SEPARATOR, PART, BODY, PASS };

void pipe_init(struct content_pipe *p, const struct pipe_options *o, struct arena *a)
{
    *p = (struct content_pipe){ .o = *o, .state = HEADER, .at_line_start = true };
    p->stack.limits = o->mime;
    for (unsigned i = 0; i < o->stage_count; i++) {
        p->wants_lines |= o->stages[i].line != NULL;
        p->wants_parts |= !o->stages[i].own_header_only;
    }
    (void)buf_reserve(&p->field, FIELD_BYTES - 1); /* at once, not by doubling */
    hdr_scan_init(&p->hdr, a);
}

void pipe_free(struct content_pipe *p)
{
    buf_free(&p->field);
    buf_free(&p->text);
    buf_free(&p->out[0]);
    buf_free(&p->out[1]);
    buf_free(&p->content_type);
    buf_free(&p->encoding_text);
    mime_stack_free(&p->stack);
}

size_t pipe_bytes(const struct content_pipe *p)
{
    return p->field.cap + p->text.cap + p->out[0].cap + p->out[1].cap + p->content_type.cap + p->encoding_text.cap + p->stack.names.cap +
           p->stack.cap * sizeof *p->stack.levels;
}

/* ---- writing ---- */

static void put(struct content_pipe *p, struct span s)
{
    if (s.n == 0 || p->is_stopped)
        return;
    p->is_mid_line = s.p[s.n - 1] != '\n';
    p->o.put(p->o.arg, s);
}

/* Text of one or more lines with '\n' between them, of our own making. */
static void put_text(struct content_pipe *p, struct span text)
{
    do {
        ptrdiff_t nl = span_find(text, '\n');
        struct span line = span_of(text.p, nl < 0 ? text.n : (size_t)nl);
        text = span_from(text, nl < 0 ? text.n : (size_t)nl + 1);
        p->made_long_line |= line.n > LINE_LONG;
        p->made_dot_line |= line.n > 0 && *line.p == '.';
        p->made_8bit |= !span_is_ascii(line);
        put(p, line);
        put(p, SPAN_LIT("\r\n"));
    } while (text.n > 0);
}

void pipe_put_line(struct content_pipe *p, struct span text)
{
    if (p->state == HEADER && !span_is_ascii(text))
        p->hdr.has_8bit = true;
    put_text(p, text);
}

static struct span without_end(struct span line)
{
    if (line.n == 0 || line.p[line.n - 1] != '\n')
        return line;
    line.n--;
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

/* ---- stages ---- */

/* Asks the stages; *text becomes what is to be written. */
static enum pipe_answer ask(struct content_pipe *p, struct pipe_field *f, bool is_field, struct span *text)
{
    enum pipe_answer all = p->is_stopped ? PIPE_STOP : PIPE_KEEP;
    for (unsigned i = 0; i < p->o.stage_count && !p->is_stopped; i++) {
        const struct pipe_stage *s = &p->o.stages[i];
        struct buf *out = &p->out[i % 2];
        if (is_field ? s->own_header_only && !f->is_own : s->line == NULL)
            continue;
        buf_reset(out);
        enum pipe_answer got = is_field ? s->field(s->arg, p, f, out) : s->line(s->arg, p, *text, out);
        if (got == PIPE_KEEP)
            continue;
        if (got != PIPE_REPLACE)
            return got;
        all = PIPE_REPLACE;
        *text = buf_span(out);
        if (is_field) {
            f->text = *text;
            f->name_n = hdr_name_length(*text);
            if (f->name_n == 0)
                break;
        }
    }
    return all;
}

static void tell_part(struct content_pipe *p, bool is_too_deep, bool has_empty_line)
{
    struct pipe_part part = { p->type, p->encoding, is_too_deep, has_empty_line };
    for (unsigned i = 0; i < p->o.stage_count && !p->is_stopped; i++) {
        const struct pipe_stage *s = &p->o.stages[i];
        if (s->part != NULL && !s->part(s->arg, p, &part))
            p->is_stopped = true;
    }
}

/* ---- header fields ---- */

static bool is_mime_field(struct span name)
{
    static const char *const names[] = {
        "Content-Description", "Content-Disposition", "Content-ID", "Content-Transfer-Encoding", "Content-Type", "MIME-Version",
    };
    char first = name.n > 0 ? ascii_lower(name.p[0]) : '\0';
    if (first != 'c' && first != 'm')
        return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (span_ieq_cstr(name, names[i]))
            return true;
    return false;
}

static void learn_mime(struct content_pipe *p, struct span text, struct span name)
{
    if (!p->o.is_mime)
        return;
    struct span body = span_from(text, (size_t)span_find(text, ':') + 1);
    if (span_ieq_cstr(name, "Content-Type")) {
        buf_reset(&p->content_type);
        buf_add_span(&p->content_type, body);
        p->type = mime_type_of(body, &p->is_digest);
    } else if (span_ieq_cstr(name, "Content-Transfer-Encoding")) {
        p->encoding = mime_encoding_of(body);
        buf_reset(&p->encoding_text);
        buf_add_span(&p->encoding_text, body);
    }
}

static enum pipe_class class_of(const struct content_pipe *p, struct span name)
{
    bool is_own = p->state == HEADER;
    if (!p->o.is_mime)
        return PIPE_MAIN;
    if (is_mime_field(name) || (!is_own && !p->is_nested))
        return PIPE_MIME;
    return is_own ? PIPE_MAIN : PIPE_NESTED;
}

/* The field as the stages see it. */
static struct span unfolded(struct content_pipe *p, struct span raw)
{
    struct span text = without_end(raw);
    if (memchr(text.p, '\n', text.n) == NULL)
        return text;
    buf_reset(&p->text);
    (void)buf_reserve(&p->text, text.n > FIELD_BYTES ? text.n : FIELD_BYTES - 1);
    while (text.n > 0) {
        ptrdiff_t nl = span_find(text, '\n');
        size_t n = nl < 0 ? text.n : (size_t)nl + 1;
        if (p->text.n > 0)
            buf_putc(&p->text, '\n');
        buf_add_span(&p->text, without_end(span_of(text.p, n)));
        text = span_from(text, n);
    }
    return buf_span(&p->text);
}

static void note_own_field(struct content_pipe *p, struct span text)
{
    while (text.n > 0) {
        ptrdiff_t nl = span_find(text, '\n');
        struct span line = span_of(text.p, nl < 0 ? text.n : (size_t)nl);
        if (line.n > 0)
            (void)hdr_scan_line(&p->hdr, line);
        text = span_from(text, nl < 0 ? text.n : (size_t)nl + 1);
    }
}

/* The lines in `field` are a complete field. */
static void finish_field(struct content_pipe *p)
{
    struct span raw = buf_span(&p->field), text;
    if (raw.n == 0 || p->is_stopped)
        return;
    text = unfolded(p, raw);
    struct pipe_field f = { .text = text, .name_n = hdr_name_length(text), .is_own = p->state == HEADER };
    struct span name = span_of(text.p, f.name_n);
    f.cls = class_of(p, name);
    enum pipe_answer got = PIPE_KEEP;
    if (f.name_n > 0) {
        learn_mime(p, text, name);
        got = ask(p, &f, true, &text);
    }
    if (got == PIPE_STOP)
        p->is_stopped = true;
    if (f.is_own && got != PIPE_DROP && hdr_names_has(&p->o.drop, span_of(f.text.p, f.name_n)))
        got = PIPE_DROP;
    if (f.is_own && got != PIPE_DROP)
        note_own_field(p, text);
    if (got == PIPE_KEEP)
        put(p, raw);
    else if (got == PIPE_REPLACE)
        put_text(p, text);
    buf_reset(&p->field);
    p->line_begin = 0;
}

/* ---- where headers begin and end ---- */

static void begin_header(struct content_pipe *p, enum mime_type default_type, bool is_nested)
{
    p->state = PART;
    p->type = default_type;
    p->encoding = MIME_7BIT;
    p->is_digest = false;
    p->is_nested = is_nested;
    p->is_known_field = false;
    buf_reset(&p->content_type);
}

/* The header of a part is over: what comes next? */
static void enter_body(struct content_pipe *p, bool has_empty_line)
{
    bool is_too_deep = false;
    if (p->type == MIME_MULTIPART)
        is_too_deep = !mime_stack_push(&p->stack, buf_span(&p->content_type), p->is_digest);
    tell_part(p, is_too_deep, has_empty_line);
    if (p->o.is_mime && p->wants_parts && p->type == MIME_MESSAGE)
        begin_header(p, MIME_LEAF, true);
    else
        p->state = p->wants_lines || (p->wants_parts && p->stack.count > 0) ? BODY : PASS;
}

static void pass_boundary(struct content_pipe *p, size_t level, struct span line)
{
    bool is_digest, is_end = mime_stack_pass(&p->stack, level, line, &is_digest);
    if (!is_end) {
        begin_header(p, is_digest ? MIME_MESSAGE : MIME_LEAF, false);
        return;
    }
    p->type = MIME_LEAF;
    p->encoding = MIME_7BIT;
    tell_part(p, false, false);
    p->state = p->wants_lines || p->stack.count > 0 ? BODY : PASS;
}

/* A piece that goes on with a line whose beginning was changed or left out may begin one itself. */
static void keep_body_line(struct content_pipe *p, struct span raw, bool is_beginning)
{
    p->made_dot_line |= !is_beginning && !p->is_mid_line && *raw.p == '.';
    put(p, raw);
}

/* What is before a piece that is left out must not run into the next line, or end the message without a line end. */
static void drop_body_line(struct content_pipe *p, struct span raw)
{
    if (p->is_mid_line && raw.p[raw.n - 1] == '\n')
        put(p, SPAN_LIT("\r\n"));
}

/* Behind the line of a boundary, all of it, something else may begin. */
static void leave_boundary(struct content_pipe *p)
{
    if (p->is_boundary)
        p->state = p->after_boundary;
    p->is_boundary = false;
}

/* A whole body line with its end, or a piece of one. */
static void take_body_line(struct content_pipe *p, struct span raw)
{
    struct span line = without_end(raw), text = line;
    bool is_beginning = p->at_line_start;
    size_t level = p->at_line_start ? mime_stack_find(&p->stack, line) : p->stack.count;
    if (level < p->stack.count) { /* what a closing boundary belongs to is over before it */
        pass_boundary(p, level, line);
        p->after_boundary = p->state;
        p->is_boundary = true;
        p->state = BODY;
    }
    enum pipe_answer got = p->wants_lines ? ask(p, NULL, false, &text) : PIPE_KEEP;
    p->at_line_start = raw.p[raw.n - 1] == '\n';
    if (got == PIPE_STOP)
        p->is_stopped = true;
    else if (got == PIPE_KEEP)
        keep_body_line(p, raw, is_beginning);
    else if (got == PIPE_DROP)
        drop_body_line(p, raw);
    else
        put_text(p, text);
    if (p->at_line_start)
        leave_boundary(p);
}

/* ---- bytes ---- */

static bool is_body_line(const struct content_pipe *p)
{
    struct span line = without_end(buf_span(&p->field));
    return mime_stack_find(&p->stack, line) < p->stack.count || hdr_name_length(line) == 0;
}

/* The line in `field` is, as far as it came, no field of a part's header: the header is over. */
static void end_part_header(struct content_pipe *p, bool is_whole_line)
{
    struct span line = buf_span(&p->field);
    bool is_empty = is_whole_line && without_end(line).n == 0;
    enter_body(p, is_empty);
    if (!is_empty && p->state == PART) { /* a message inside without any header */
        end_part_header(p, is_whole_line);
        return;
    }
    p->at_line_start = is_whole_line || p->state == BODY;
    if (!is_empty && p->state == BODY)
        take_body_line(p, line);
    else
        put(p, line);
    buf_reset(&p->field);
    p->line_begin = 0;
}

/* The last line of `field` is complete: what of it is within `max` bytes of the field stays, with a line end. */
static void cut_header_line(struct content_pipe *p, size_t max)
{
    struct span line = without_end(span_from(buf_span(&p->field), p->line_begin));
    size_t room = max > p->line_begin ? max - p->line_begin : 0;
    if (!p->is_cut && line.n <= room)
        return;
    p->field.n = p->line_begin + (line.n < room ? line.n : room);
    if (room > 0)
        buf_puts(&p->field, "\r\n");
}

/* More of a header line; at most header_bytes of a field are kept. */
static void keep_header_bytes(struct content_pipe *p, struct span piece)
{
    size_t max = p->is_known_field || p->o.header_bytes > FIELD_NAME_MAX ? p->o.header_bytes : FIELD_NAME_MAX;
    size_t room = max + 2 > p->field.n ? max + 2 - p->field.n : 0;
    p->is_cut = p->is_cut || piece.n > room;
    buf_add(&p->field, piece.p, piece.n < room ? piece.n : room);
    if (piece.p[piece.n - 1] == '\n')
        cut_header_line(p, max);
}

/* Takes bytes of a header, at least one. */
static size_t take_header_bytes(struct content_pipe *p, struct span s)
{
    const char *lf = memchr(s.p, '\n', s.n);
    struct span piece = span_of(s.p, lf != NULL ? (size_t)(lf + 1 - s.p) : s.n);
    if (p->at_line_start) {
        if (p->field.n > 0 && !ascii_is_blank(*s.p))
            finish_field(p);
        p->line_begin = p->field.n;
        p->is_known_field = p->state == HEADER || p->line_begin > 0;
        p->is_cut = false;
        p->at_line_start = false;
    }
    if (!p->is_known_field && p->field.n + piece.n > FIELD_NAME_MAX && p->field.n < FIELD_NAME_MAX)
        piece.n = FIELD_NAME_MAX - p->field.n;
    keep_header_bytes(p, piece);
    if (lf != NULL && piece.p + piece.n == lf + 1)
        p->at_line_start = true;
    if (!p->is_known_field && (p->at_line_start || p->field.n >= FIELD_NAME_MAX)) {
        p->is_known_field = !is_body_line(p);
        if (!p->is_known_field)
            end_part_header(p, p->at_line_start);
    }
    return piece.n;
}

/*
 * A line that must be seen whole, or so much of it as is seen at a time. Returns what was taken; what is not complete
 * waits in `field`, with room for the line end.
 */
static size_t gather_body_line(struct content_pipe *p, struct span s)
{
    size_t want = p->o.line_bytes + 2 - p->field.n;
    size_t look = s.n < want ? s.n : want;
    const char *lf = memchr(s.p, '\n', look);
    size_t n = lf != NULL ? (size_t)(lf + 1 - s.p) : look;
    if (p->field.n == 0 && (lf != NULL || look == want)) {
        n = lf != NULL ? n : p->o.line_bytes;
        take_body_line(p, span_of(s.p, n));
        return n;
    }
    buf_add(&p->field, s.p, n);
    if (lf != NULL) {
        take_body_line(p, buf_span(&p->field));
        buf_reset(&p->field);
    } else if (look == want) {
        take_body_line(p, span_of(p->field.p, p->o.line_bytes));
        buf_consume(&p->field, p->o.line_bytes);
    }
    return n;
}

/* Bytes of a body that need no look: up to the end of the line. */
static size_t skip_body_line(struct content_pipe *p, struct span s)
{
    const char *lf = memchr(s.p, '\n', s.n);
    p->at_line_start = lf != NULL;
    return lf != NULL ? (size_t)(lf + 1 - s.p) : s.n;
}

static size_t take_body_bytes(struct content_pipe *p, struct span s)
{
    size_t run = 0;
    while (run < s.n && p->state == BODY) {
        struct span rest = span_from(s, run);
        bool is_gathering = p->field.n > 0 || p->wants_lines || p->is_boundary || (p->at_line_start && *rest.p == '-');
        if (is_gathering) {
            put(p, span_of(s.p, run));
            return run + gather_body_line(p, rest);
        }
        run += skip_body_line(p, rest);
    }
    put(p, span_of(s.p, run));
    return run;
}

/* The line behind the message's own header: it is empty. */
static size_t take_separator(struct content_pipe *p, struct span s)
{
    const char *lf = memchr(s.p, '\n', s.n);
    size_t n = lf != NULL ? (size_t)(lf + 1 - s.p) : s.n;
    put(p, span_of(s.p, n));
    if (lf != NULL) {
        p->at_line_start = true;
        enter_body(p, true);
    }
    return n;
}

static size_t take(struct content_pipe *p, struct span s)
{
    switch ((enum pipe_state)p->state) {
    case HEADER:
    case PART:
        return take_header_bytes(p, s);
    case SEPARATOR:
        return take_separator(p, s);
    case BODY:
        return take_body_bytes(p, s);
    case PASS:
        break;
    }
    put(p, s);
    return s.n;
}

void pipe_feed(struct content_pipe *p, struct span bytes)
{
    while (bytes.n > 0 && !p->is_stopped)
        bytes = span_from(bytes, take(p, bytes));
}

void pipe_end_header(struct content_pipe *p)
{
    if (p->state != HEADER)
        return;
    finish_field(p);
    p->state = SEPARATOR;
}

void pipe_end(struct content_pipe *p)
{
    if (p->is_stopped)
        return;
    pipe_end_header(p);
    if (p->is_boundary) {
        if (p->field.n > 0)
            take_body_line(p, buf_span(&p->field));
        buf_reset(&p->field);
        leave_boundary(p);
    }
    if (p->state == PART && p->is_known_field)
        finish_field(p);
    if (p->state == PART || p->state == SEPARATOR)
        enter_body(p, false);
    if (p->field.n > 0)
        take_body_line(p, buf_span(&p->field));
    buf_reset(&p->field);
}
