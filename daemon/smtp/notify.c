/*
 * notify_classes for deliveries: what was said for one job, and which errors the postmaster is told of.
 *
 *   protocol   a reply that cannot be read, has a code that the stage does not allow, or blames our command: 500 to 509, 555
 *   data       the content or a table cannot be read
 *
 * debug_peer_list uses the same transcript to log each line as it is said.
 *
 * The transcript belongs to the request. A connection writes into it while the request has it, and is told so by
 * notify_adopt(); one that is kept begins the next job's transcript in the middle.
 */
#include "common/base/mem.h"
#include "common/net/dest.h"
#include "daemon/deliver/tables.h"
#include "daemon/smtp/request.h"
#include "queue/own_mail.h"

#define CLASSES_HERE (NOTIFY_BIT(NOTIFY_CLASS_PROTOCOL) | NOTIFY_BIT(NOTIFY_CLASS_DATA))

void notify_begin(struct smtp_request *r)
{
    if (r->env->notice == NULL || own_mail_is_double_bounce(r->p, r->job->msg->env.sender)) /* a notice never causes another */
        return;
    r->notify_classes = notify_mask(r->p->notify_classes) & CLASSES_HERE;
    if (r->notify_classes == 0)
        return;
    r->transcript = xmalloc(sizeof *r->transcript);
    transcript_init(r->transcript);
}

/* By next hop, by name, or by address. */
static bool is_debug_peer(const struct smtp_request *r)
{
    const struct match_list *l = deliver_tables_list(r->env->tables, "debug_peer_list", r->p->debug_peer_list,
                                                     list_has_word(r->p->parent_domain_matches_subdomains,
                                                                   SPAN_LIT("debug_peer_list")));
    struct ip_addr addr;
    struct span text = span_cstr(r->conn->addr);
    struct dest d;
    struct err e = ERR_INIT;
    if (!ip_parse(text, &addr)) /* a unix socket */
        addr.family = IP_NONE;
    return match_list_host(l, span_cstr(r->conn->host), &addr, text, &e) == LOOKUP_FOUND ||
           (dest_parse(r->job->nexthop, &d, &e) && !d.is_unix &&
            match_list_host(l, d.host, &(struct ip_addr){ .family = IP_NONE }, SPAN_LIT(""), &e) == LOOKUP_FOUND);
}

static void debug_adopt(struct smtp_request *r)
{
    bool on = r->p->debug_peer_level > 0 && *r->p->debug_peer_list != '\0' && r->env->tables != NULL && is_debug_peer(r);
    if (on && r->transcript == NULL) {
        r->transcript = xmalloc(sizeof *r->transcript);
        transcript_init(r->transcript);
    }
    if (r->transcript != NULL)
        transcript_echo(r->transcript, on ? &r->log : NULL, r->conn->relay, r->p->debug_peer_level);
}

void notify_adopt(struct smtp_request *r)
{
    if (r->conn == NULL)
        return;
    debug_adopt(r);
    r->conn->transcript = r->transcript;
    if (r->transcript != NULL)
        transcript_note(r->transcript, "[connection %s %.90s]", r->conn->use_count > 0 ? "kept with" : "to", r->conn->relay);
}

void notify_error(struct smtp_request *r, enum notify_class c)
{
    r->notify_errors |= NOTIFY_BIT(c) & r->notify_classes;
    if (r->notify_errors != 0 && r->conn != NULL)
        snprintf(r->notify_about, sizeof r->notify_about, "%s", r->conn->namaddr);
}

void notify_code(struct smtp_request *r, int code)
{
    if (code < 400 || (code >= 500 && code < 510) || code == 555)
        notify_error(r, NOTIFY_CLASS_PROTOCOL);
}

static void post(struct smtp_request *r)
{
    struct buf b = BUF_INIT(NOTICE_TEXT_MAX);
    char subject[400], id[QID_TEXT_MAX + 1];
    bool is_protocol = (r->notify_errors & NOTIFY_BIT(NOTIFY_CLASS_PROTOCOL)) != 0;
    const char *about = *r->notify_about ? r->notify_about : "this system";
    id[qid_format(r->job->msg->env.id, r->p->enable_long_queue_ids, id)] = '\0';
    snprintf(subject, sizeof subject, "%s client: errors from %.300s", r->is_lmtp ? "LMTP" : "SMTP", about);
    buf_printf(&b, "%s\n\nServer:    %s\nMessage:   %s\nTransport: %s\nFailure:   %.*s\n\n"
                   "This was said (In: by the server, Out: by this system):\n\n",
               is_protocol ? "A server broke the protocol, or says that this system did."
                           : "A message or a table that a delivery needs could not be read.",
               about, id, r->job->transport->name, SPAN_ARG(buf_span(&r->fail.reason)));
    transcript_print(r->transcript, &b);
    struct notice x = { .cls = is_protocol ? NOTIFY_CLASS_PROTOCOL : NOTIFY_CLASS_DATA, .about = span_cstr(about),
                        .to = r->p->error_notice_recipient, .subject = subject, .text = buf_span(&b) };
    r->env->notice(r->env->notices, &x);
    buf_free(&b);
}

void notify_end(struct smtp_request *r)
{
    if (r->transcript == NULL)
        return;
    if (r->notify_errors != 0)
        post(r);
    if (r->conn != NULL)
        r->conn->transcript = NULL;
    transcript_free(r->transcript);
    free(r->transcript);
}
