#include <stdarg.h>

#include "common/base/err.h"

void err_set(struct err *e, const char *fmt, ...)
{
    if (e == NULL)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    e->sys = 0;
    e->is_logged = false;
}

void err_set_sys(struct err *e, int sys, const char *fmt, ...)
{
    if (e == NULL)
        return;
    char why[128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    e->sys = sys;
    e->is_logged = false;
    if (n >= 0 && (size_t)n < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - (size_t)n, ": %s", strerror_r(sys, why, sizeof why));
}

void err_prefix(struct err *e, const char *fmt, ...)
{
    if (e == NULL)
        return;
    char old[sizeof e->text];
    memcpy(old, e->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n + 3 > sizeof e->text)
        return;
    size_t room = sizeof e->text - (size_t)n - 3, len = strlen(old);
    memcpy(e->text + n, ": ", 2);
    memcpy(e->text + n + 2, old, len < room ? len : room);
    e->text[(size_t)n + 2 + (len < room ? len : room)] = '\0';
}
