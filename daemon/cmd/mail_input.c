/* See mail_input.h. */
#include "daemon/cmd/mail_input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define PIECE_BYTES 65536

static bool put(struct mail_input *in, const char *p, size_t n)
{
    in->bytes += n;
    if (in->file == NULL && in->head.n + n <= INPUT_MEMORY_MAX) {
        buf_add(&in->head, p, n);
        return true;
    }
    if (in->file == NULL)
        in->file = tmpfile();
    return in->file != NULL && fwrite(p, 1, n, in->file) == n;
}

bool mail_input_add(struct mail_input *in, struct span bytes)
{
    return put(in, bytes.p, bytes.n);
}

bool mail_input_finish(struct mail_input *in)
{
    return in->file == NULL || fflush(in->file) == 0;
}

static bool is_mailbox_from(const char *p, size_t n)
{
    while (n > 0 && *p == '>') {
        p++;
        n--;
    }
    return n >= 5 && memcmp(p, "From ", 5) == 0;
}

enum mail_input_status mail_input_read(struct mail_input *in, FILE *from, bool keep_dots, uint64_t limit_bytes,
                                       struct err *e)
{
    enum mail_input_status status = INPUT_OK;
    char *line = NULL;
    size_t cap = 0;
    ssize_t got;
    bool at_start = true;
    *in = (struct mail_input){ .head = BUF_INIT(0) };
    while (status == INPUT_OK && (got = getline(&line, &cap, from)) >= 0) {
        size_t n = (size_t)got;
        if (n > 0 && line[n - 1] == '\n')
            n--;
        if (n > 0 && line[n - 1] == '\r')
            n--;
        if (!keep_dots && n == 1 && line[0] == '.')
            break;
        if (at_start && is_mailbox_from(line, n))
            continue;
        at_start = false;
        line[n] = '\n'; /* getline() left room: at least its NUL */
        if (!put(in, line, n + 1)) {
            err_set_sys(e, errno, "temporary file");
            status = INPUT_FAILED;
        } else if (limit_bytes > 0 && in->bytes > limit_bytes) {
            err_set(e, "message larger than message_size_limit (%llu bytes)", (unsigned long long)limit_bytes);
            status = INPUT_TOO_BIG;
        }
    }
    if (status == INPUT_OK && ferror(from)) {
        err_set_sys(e, errno, "reading standard input");
        status = INPUT_FAILED;
    }
    if (status == INPUT_OK && !mail_input_finish(in)) {
        err_set_sys(e, errno, "temporary file");
        status = INPUT_FAILED;
    }
    free(line);
    return status;
}

void mail_input_free(struct mail_input *in)
{
    buf_free(&in->head);
    if (in->file != NULL)
        fclose(in->file);
    in->file = NULL;
}

bool mail_input_each(struct mail_input *in, bool (*fn)(void *arg, struct span piece), void *arg)
{
    bool ok = in->head.n == 0 || fn(arg, buf_span(&in->head));
    if (!ok || in->file == NULL)
        return ok;
    char *piece = xmalloc(PIECE_BYTES);
    size_t n;
    rewind(in->file);
    while (ok && (n = fread(piece, 1, PIECE_BYTES, in->file)) > 0)
        ok = fn(arg, span_of(piece, n));
    ok = ok && !ferror(in->file);
    free(piece);
    return ok;
}
