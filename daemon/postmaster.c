#include "daemon/postmaster.h"
#include "common/base/clock.h"
#include "common/mail/maildate.h"

static void post(struct notices *n, enum notify_class cls, const char *about, const char *subject, const char *text,
                 const char *advice)
{
    struct buf b = BUF_INIT(2048);
    char date[MAIL_DATE_MAX];
    buf_puts(&b, "At ");
    buf_add(&b, date, mail_date_format(clock_wall_s(), date));
    buf_printf(&b, " this happened:\n\n    %s\n\n%s\n", text, advice);
    struct notice x = { .cls = cls, .is_own = true, .about = span_cstr(about), .subject = subject, .text = buf_span(&b) };
    notices_post(n, &x);
    buf_free(&b);
}

void postmaster_spool_trouble(void *notices, enum spool_trouble what, const char *text)
{
    switch (what) {
    case SPOOL_TROUBLE_FULL:
        post(notices, NOTIFY_CLASS_RESOURCE, "disk full", "Trouble with the mail queue: no space", text,
             "Clients are told to come again. Mail that was accepted before is kept and\n"
             "delivered. When there is space again, mail is accepted without a restart.");
        return;
    case SPOOL_TROUBLE_IO:
        post(notices, NOTIFY_CLASS_RESOURCE, "disk error", "Trouble with the mail queue: the disk failed", text,
             "What was being received then was refused with a temporary error, so its\n"
             "senders still have it. Nothing that was accepted is lost. A new journal file\n"
             "is used from here on; look at the disk.");
        return;
    case SPOOL_TROUBLE_INDEX:
        post(notices, NOTIFY_CLASS_SOFTWARE, "index", "Trouble with the mail queue: its index", text,
             "The journal has everything that the index had, so no mail is lost.");
        return;
    case SPOOL_TROUBLE_DAMAGE:
        post(notices, NOTIFY_CLASS_SOFTWARE, "journal", "Trouble with the mail queue: a damaged journal", text,
             "What could not be read is kept in the directory corrupt/ of the queue.");
        return;
    case SPOOL_TROUBLES:
        return;
    }
}

void postmaster_resource_trouble(void *notices, const char *what, const char *text)
{
    post(notices, NOTIFY_CLASS_RESOURCE, what, "Trouble with the mail system: a limit of the operating system", text,
         "Raise the limit (LimitNOFILE, LimitNPROC in the unit file), or lower session_limit\n"
         "and delivery_threads.");
}
