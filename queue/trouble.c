/* What goes wrong with the disk is logged, at most once a minute of a kind, and told to whoever asked for it. */
#include <stdarg.h>
#include <stdio.h>

#include "queue/spool_internal.h"

static void log_told(struct spool *s, const char *text, uint64_t before)
{
    if (before > 0)
        log_error(s->o.log, "%s (and %llu more since the last one that was logged)", text, (unsigned long long)before);
    else
        log_error(s->o.log, "%s", text);
}

void spool_tell(struct spool *s, enum spool_trouble what, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    uint64_t before;
    if (log_once_a_minute(&s->told[what].said_ms, &s->told[what].unsaid, &before))
        log_told(s, text, before);
    if (s->o.trouble != NULL)
        s->o.trouble(s->o.trouble_arg, what, text);
}
