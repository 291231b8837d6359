/*
 * Answers are JSON lines. Each write moves the deadline, so a client may take its time as long as it keeps reading.
 */
#include "daemon/control/control_internal.h"

#include "common/base/clock.h"
#include "common/base/mem.h"

bool ctl_send(struct ctl_client *cl, json_t *obj)
{
    char *text = json_dumps(obj, 0);
    json_decref(obj);
    if (text == NULL)
        mem_exhausted();
    stream_set_deadline(cl->s, clock_mono_ms() + CTL_IO_MS);
    stream_puts(cl->s, text);
    stream_puts(cl->s, "\n");
    free(text);
    cl->is_broken = cl->is_broken || stream_status(cl->s) != STREAM_OK;
    return !cl->is_broken;
}

bool ctl_flush(struct ctl_client *cl)
{
    stream_set_deadline(cl->s, clock_mono_ms() + CTL_IO_MS);
    cl->is_broken = cl->is_broken || stream_flush(cl->s) != STREAM_OK;
    return !cl->is_broken;
}

bool ctl_ok(struct ctl_client *cl, json_t *extra)
{
    json_t *o = json_object();
    json_object_set_new(o, "ok", json_true());
    if (extra != NULL) {
        json_object_update(o, extra);
        json_decref(extra);
    }
    return ctl_send(cl, o) && ctl_flush(cl);
}

bool ctl_fail(struct ctl_client *cl, int status, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *p = text; n > 0 && *p != '\0'; p++) {
        if (*p & 0x80)
            *p = '?';
    }
    json_t *o = json_object();
    json_object_set_new(o, "ok", json_false());
    json_object_set_new(o, "error", json_string(n < 0 ? "?" : text));
    json_object_set_new(o, "status", json_integer(status));
    return ctl_send(cl, o) && ctl_flush(cl);
}
