#include "daemon/cmd/map_rows.h"

#include "common/base/ascii.h"
#include "common/base/base64.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/table/fold.h"
#include "common/table/source.h"
#include "daemon/cmd/posthousectl.h"

#define BYTES_MAX ((UINT64_C(1) << 32) - 1)
#define VALUE_MAX (64u << 20)

void map_rows_init(struct map_rows *r, const struct map_rows_options *o)
{
    *r = (struct map_rows){ .bytes = BUF_INIT(BYTES_MAX), .o = *o };
    strmap_init(&r->map, NULL);
}

void map_rows_free(struct map_rows *r)
{
    strmap_free(&r->map);
    buf_free(&r->bytes);
}

bool map_rows_add(struct map_rows *r, struct span key, struct span value, bool replace)
{
    size_t at = r->bytes.n;
    buf_add_span(&r->bytes, key);
    buf_add_span(&r->bytes, value);
    if (!buf_ok(&r->bytes)) {
        ctl_complain("the map is larger than 4 GB");
        exit(1);
    }
    r->map.base = r->bytes.p;
    if (strmap_add(&r->map, span_of(r->bytes.p + at, key.n), span_of(r->bytes.p + at + key.n, value.n), replace))
        return true;
    if (!replace)
        r->bytes.n = at;
    return false;
}

bool map_rows_key(const struct map_rows *r, struct span key, struct buf *out)
{
    buf_reset(out);
    if (r->o.keep_case || r->o.is_bytes) {
        buf_add_span(out, key);
        if (!r->o.keep_case)
            ascii_lower_buf(out->p, out->n);
        return r->o.is_bytes || fold_is_utf8(key);
    }
    if (!buf_reserve(out, key.n * FOLD_GROWTH + 1))
        return false;
    ptrdiff_t n = fold_utf8(key, out->p);
    out->n = n > 0 ? (size_t)n : 0;
    return n >= 0;
}

/* The content of the named files, newlines between them, in base64. */
static bool read_files(struct span names, struct buf *out, struct err *e)
{
    struct buf all = BUF_INIT(VALUE_MAX);
    struct span name;
    bool ok = true;
    while (ok && span_next_token(&names, " \t\r\n,", &name)) {
        char *path = xstrndup(name.p, name.n);
        if (all.n > 0)
            buf_putc(&all, '\n');
        ok = io_read_file(path, &all, e);
        free(path);
    }
    if (ok)
        base64_encode(buf_span(&all), out);
    buf_free(&all);
    return ok;
}

static void warn(struct map_rows *r, const char *name, int line, const char *text)
{
    r->warnings++;
    ctl_complain("warning: %s, line %d: %s", name, line, text);
}

static bool add_row(struct map_rows *r, const struct source_row *row, const char *name, struct buf *key, struct err *e)
{
    struct span value = row->value;
    struct buf content = BUF_INIT(2 * VALUE_MAX);
    if (row->warning != NULL)
        warn(r, name, row->line, row->warning);
    if (r->o.is_files) {
        if (!read_files(value, &content, e)) {
            err_prefix(e, "%s, line %d", name, row->line);
            return false;
        }
        value = buf_span(&content);
    }
    if (!map_rows_key(r, row->key, key)) {
        warn(r, name, row->line, "the key is not valid UTF-8; ignored");
    } else if (!r->o.is_bytes && !fold_is_utf8(value)) {
        warn(r, name, row->line, "the value is not valid UTF-8; ignored");
    } else if (!map_rows_add(r, buf_span(key), value, r->o.replace) && !r->o.replace && !r->o.ignore) {
        char text[200];
        snprintf(text, sizeof text, "duplicate entry \"%.*s\"; the first one counts", (int)(key->n > 100 ? 100 : key->n), key->p);
        warn(r, name, row->line, text);
    }
    buf_free(&content);
    return true;
}

bool map_rows_add_text(struct map_rows *r, struct buf *text, const char *name, struct err *e)
{
    struct source s = { .lines = lines_of(text->p, text->n), .is_aliases = r->o.is_aliases };
    struct source_row row;
    struct buf key = BUF_INIT(BYTES_MAX);
    bool ok = true;
    while (ok && source_next(&s, &row)) {
        if (row.why != NULL) {
            char why[200];
            snprintf(why, sizeof why, "%s; ignored", row.why);
            warn(r, name, row.line, why);
        } else {
            ok = add_row(r, &row, name, &key, e);
        }
    }
    buf_free(&key);
    return ok;
}
