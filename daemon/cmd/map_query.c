/* posthousectl map -q and -s */
#include <errno.h>
#include <jansson.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/ascii.h"
#include "common/base/base64.h"
#include "common/base/mem.h"
#include "common/mail/mime.h"
#include "daemon/cmd/cmd_map.h"

#define MESSAGE_MAX   (UINT64_C(256) << 20)
#define VALUE_MAX     (64u << 20)

struct asking {
    const struct map_options *o;
    struct table_registry *registry;
    struct table **tables;   /* owned */
    int count;
    struct arena *arena;     /* for values; owned */
    bool found;
    int status;              /* not 0: a table failed */
    bool shows_key;
};

static void note(void *arg, bool is_error, const char *file, int line, const char *text)
{
    (void)arg;
    const char *level = is_error ? "" : "warning: ";
    if (line > 0)
        ctl_complain("%s%s, line %d: %s", level, file, line, text);
    else
        ctl_complain("%s%s: %s", level, file, text);
}

static unsigned table_flags(const struct map_options *o)
{
    return (o->rows.is_aliases ? TABLE_ALIASES : 0) | (o->rows.is_bytes ? TABLE_BYTES : 0) | (o->rows.keep_case ? TABLE_KEEP_CASE : 0);
}

static void begin(struct asking *x, const struct map_options *o, char **maps, int count)
{
    struct table_notes notes = { .fn = note };
    *x = (struct asking){ .o = o, .registry = table_registry_new(NULL), .count = count, .arena = arena_new(0) };
    if (o->conf != NULL)
        table_registry_use_conf(x->registry, o->conf);
    x->tables = xcalloc((size_t)count, sizeof *x->tables);
    for (int i = 0; i < count; i++) {
        struct span file, type = map_spec(o, maps[i], &file);
        char *spec = xasprintf("%.*s:%.*s", SPAN_ARG(type), SPAN_ARG(file));
        enum table_status st;
        struct err e = ERR_INIT;
        x->tables[i] = table_open(x->registry, span_cstr(spec), table_flags(o), &notes, &st, &e);
        if (st != TABLE_OK) {
            ctl_complain("%s", e.text);
            x->status = st == TABLE_BAD ? EX_CONFIG : EX_TEMPFAIL;
        }
        free(spec);
    }
}

static int end(struct asking *x)
{
    for (int i = 0; i < x->count; i++)
        table_close(&x->tables[i]);
    free(x->tables);
    table_registry_unref(&x->registry);
    arena_free(&x->arena);
    return x->status != 0 ? x->status : x->found ? 0 : 1;
}

static void print_json(struct span key, struct span value)
{
    json_t *row = json_pack("{s:s%, s:s%}", "key", key.p != NULL ? key.p : "", key.n, "value", value.p, value.n);
    if (row == NULL) { /* no UTF-8 */
        ctl_complain("\"%.*s\" or its value is not valid UTF-8 and cannot be written as JSON", SPAN_ARG(key));
        return;
    }
    json_dumpf(row, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(row);
}

static void print_row(struct asking *x, struct span key, struct span value)
{
    struct buf raw = BUF_INIT(VALUE_MAX);
    if (x->o->rows.is_files) {
        if (!base64_decode(value, &raw)) {
            ctl_complain("the value of \"%.*s\" is not base64", SPAN_ARG(key));
            x->status = EX_DATAERR;
            buf_free(&raw);
            return;
        }
        value = buf_span(&raw);
    }
    if (x->o->json) {
        print_json(key, value);
    } else {
        if (x->shows_key) {
            fwrite(key.p, 1, key.n, stdout);
            putchar('\t');
        }
        fwrite(value.p, 1, value.n, stdout);
        putchar('\n');
    }
    buf_free(&raw);
}

/* The first table that has the key answers. False when one failed. */
static bool ask(struct asking *x, struct span key)
{
    for (int i = 0; i < x->count; i++) {
        struct err e = ERR_INIT;
        struct span value = { NULL, 0 };
        enum lookup got = table_lookup(x->tables[i], key, x->arena, &value, &e);
        if (got == LOOKUP_TEMPFAIL) {
            if (x->status == 0)
                ctl_complain("%s", e.text);
            x->status = EX_TEMPFAIL;
            return false;
        }
        if (got == LOOKUP_FOUND) {
            print_row(x, key, value);
            x->found = true;
            arena_reset(x->arena);
            return true;
        }
    }
    return true;
}

static void ask_lines(struct asking *x)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    while ((n = getline(&line, &room, stdin)) >= 0) {
        size_t len = (size_t)n;
        if (len > 0 && line[len - 1] == '\n')
            len--;
        if (!ask(x, span_of(line, len)))
            break;
    }
    free(line);
}

static struct span without_line_end(struct span s)
{
    if (s.n > 0 && s.p[s.n - 1] == '\n')
        s.n--;
    if (s.n > 0 && s.p[s.n - 1] == '\r')
        s.n--;
    return s;
}

/* Several lines keep the line ends between them, as bare LF. */
static struct span unix_lines(struct span s, struct buf *room)
{
    buf_reset(room);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '\r' || i + 1 == s.n || s.p[i + 1] != '\n')
            buf_putc(room, s.p[i]);
    }
    return buf_span(room);
}

/*
 * Without -m the header is the main one and everything behind it is body. With -m the headers of parts and of attached
 * messages are header too. The end of a header is an empty line of the body, even where the message has none.
 */
static void ask_message(struct asking *x, struct span message)
{
    const struct map_options *o = x->o;
    struct mime m;
    struct mime_piece piece;
    struct buf room = BUF_INIT(MESSAGE_MAX);
    bool in_main = true, go_on = true;
    mime_init(&m, message, (struct mime_limits){ .boundary_bytes = 2048, .nesting = 100 });
    while (go_on && mime_next(&m, &piece)) {
        struct span text = without_line_end(piece.text);
        bool as_header = piece.kind == MIME_FIELD && (in_main || o->mime);
        if (piece.kind == MIME_HEADER_END && in_main) {
            in_main = false;
            if (!o->mime && !o->body)
                break;
        }
        if (as_header ? o->header : o->body)
            go_on = ask(x, unix_lines(text, &room));
    }
    buf_free(&room);
    mime_free(&m);
}

static bool read_message(struct buf *b)
{
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
        buf_add(b, chunk, n);
    return !ferror(stdin) && buf_ok(b);
}

int map_query(const struct map_options *o, char **maps, int count)
{
    struct asking x;
    struct buf message = BUF_INIT(MESSAGE_MAX);
    begin(&x, o, maps, count);
    x.shows_key = strcmp(o->query, "-") == 0;
    if (x.status != 0) {
        (void)!end(&x);
        return x.status;
    }
    if (!x.shows_key) {
        ask(&x, span_cstr(o->query));
    } else if (!o->header && !o->body) {
        ask_lines(&x);
    } else if (read_message(&message)) {
        ask_message(&x, buf_span(&message));
    } else {
        ctl_complain("standard input: %s", ferror(stdin) ? strerror(errno) : "the message is too large");
        x.status = EX_IOERR;
    }
    buf_free(&message);
    return end(&x);
}

static bool list_row(void *arg, struct span key, struct span value)
{
    print_row(arg, key, value);
    return true;
}

int map_list(const struct map_options *o, char **maps, int count)
{
    struct asking x;
    begin(&x, o, maps, count);
    x.shows_key = true;
    for (int i = 0; i < count && x.status == 0; i++) {
        struct err e = ERR_INIT;
        if (!table_each(x.tables[i], list_row, &x, &e)) {
            ctl_complain("%s", e.text);
            x.status = EX_UNAVAILABLE;
        }
    }
    x.found = true;
    return end(&x);
}
