#include <unistd.h>

#include "common/conf/params.h"
#include "daemon/logging.h"

static bool has_allowed_prefix(const struct params *p)
{
    struct span rest = span_cstr(p->maillog_file_prefixes), item;
    bool braced;
    while (conf_list_next(&rest, &item, &braced))
        if (span_starts_with(span_cstr(p->maillog_file), item))
            return true;
    return false;
}

/* Octal, as chmod(1) writes it. */
static bool parse_mode(const char *text, unsigned *mode)
{
    unsigned v = 0;
    if (*text == '\0')
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '7' || v > 07777 / 8)
            return false;
        v = v * 8 + (unsigned)(*text - '0');
    }
    *mode = v;
    return true;
}

bool logging_options(struct conf *c, bool in_foreground, struct log_options *out, struct err *e)
{
    const struct params *p = conf_global(c);
    *out = (struct log_options){ .dest = LOG_TO_SYSLOG, .facility = log_facility_number(p->syslog_facility) };
    if (out->facility < 0) {
        err_set(e, "main.cf: syslog_facility = %s: no such facility; expected mail, daemon, local0 to local7, ...",
                p->syslog_facility);
        return false;
    }
    if (p->maillog_file[0] != '\0') {
        if (!has_allowed_prefix(p)) {
            err_set(e, "main.cf: maillog_file = %s: not below any of maillog_file_prefixes (%s)", p->maillog_file,
                    p->maillog_file_prefixes);
            return false;
        }
        if (!parse_mode(p->maillog_file_permissions, &out->mode)) {
            err_set(e, "main.cf: maillog_file_permissions = %s: expected an octal mode such as 0640",
                    p->maillog_file_permissions);
            return false;
        }
        out->dest = LOG_TO_FILE;
        out->path = p->maillog_file;
    } else if (in_foreground && access("/dev/log", F_OK) != 0) {
        out->dest = LOG_TO_STDERR;
    }
    return true;
}
