/* check_policy_service: what a policy server is told of the session, and its answer, which is one of an access table. */
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/base/buf.h"
#include "policy/restrict_internal.h"
#include "policy/service.h"

#define REQUEST_MAX (256 * 1024)

/* A line end in a value would begin an attribute of the client's choice. */
static void put(struct buf *b, const char *name, struct span value)
{
    buf_puts(b, name);
    buf_putc(b, '=');
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        buf_putc(b, c == '\n' || c == '\r' || c == '\0' ? '?' : c);
    }
    buf_putc(b, '\n');
}

static void put_number(struct buf *b, const char *name, uint64_t value)
{
    buf_printf(b, "%s=%llu\n", name, (unsigned long long)value);
}

static void put_server(struct buf *b, const struct policy_client *c)
{
    char text[IP_TEXT_MAX];
    put(b, "server_address", c->server_port != 0 ? span_cstr(ip_print(&c->server_addr, text)) : span_of("", 0));
    if (c->server_port != 0)
        put_number(b, "server_port", c->server_port);
    else
        put(b, "server_port", span_of("", 0));
}

static void put_encryption(struct buf *b, const struct policy_tls *tls)
{
    static const struct policy_tls none;
    const struct policy_tls *t = tls != NULL ? tls : &none;
    put(b, "ccert_subject", t->subject);
    put(b, "ccert_issuer", t->issuer);
    put(b, "ccert_fingerprint", t->fingerprint);
    put(b, "ccert_pubkey_fingerprint", t->pubkey_fingerprint);
    put(b, "encryption_protocol", t->protocol);
    put(b, "encryption_cipher", t->cipher);
    put_number(b, "encryption_keysize", t->keysize);
}

static void fill(struct buf *b, const struct eval *ev, const struct policy_server *server)
{
    const struct policy_client *c = ev->c;
    bool has_message = ev->stage == STAGE_DATA || ev->stage == STAGE_END_OF_DATA;
    bool is_etrn = ev->stage == STAGE_ETRN;
    put(b, "request", SPAN_LIT("smtpd_access_policy"));
    put(b, "protocol_state", span_cstr(c->state_word ? c->state_word : ""));
    put(b, "protocol_name", c->is_esmtp ? SPAN_LIT("ESMTP") : SPAN_LIT("SMTP"));
    put(b, "client_address", c->addr_text);
    put(b, "client_name", c->name);
    put(b, "client_port", c->port);
    put(b, "reverse_client_name", c->reverse_name);
    put_server(b, c);
    put(b, "helo_name", c->helo);
    put(b, "sender", eval_sender_given(ev));
    put(b, "recipient", is_etrn ? span_of("", 0) : c->recipient);
    put_number(b, "recipient_count", has_message ? c->rcpt_count : 0);
    put(b, "queue_id", c->queue_id);
    put(b, "instance", c->instance);
    put_number(b, "size", c->size_bytes);
    put(b, "etrn_domain", is_etrn ? c->recipient : span_of("", 0));
    put(b, "stress", c->is_stressed ? SPAN_LIT("yes") : SPAN_LIT(""));
    put(b, "sasl_method", c->sasl_method);
    put(b, "sasl_username", c->sasl_user);
    put(b, "sasl_sender", span_of("", 0));
    put_encryption(b, c->tls);
    put(b, "policy_context", policy_server_options(server)->policy_context);
    put(b, "compatibility_level", span_cstr(ev->p->p->compatibility_level));
    put(b, "mail_version", span_cstr(ev->p->p->mail_version));
    buf_putc(b, '\n');
}

/* The server's action, or its default one when it cannot be asked. */
static struct span ask(struct eval *ev, struct policy_server *server)
{
    struct buf b = BUF_INIT(REQUEST_MAX);
    struct span action = { NULL, 0 };
    struct err e = ERR_INIT;
    fill(&b, ev, server);
    if (ev->c->will_block != NULL)
        ev->c->will_block(ev->c->will_block_arg);
    bool ok = buf_ok(&b) && policy_server_ask(server, buf_span(&b), ev->a, &action, &e);
    buf_free(&b);
    if (ok)
        return action;
    log_warn(ev->p->log, "%s; using its default action \"%.*s\"", e.text, SPAN_ARG(policy_server_options(server)->default_action));
    return policy_server_options(server)->default_action;
}

/* A server is asked only when nothing in front of it waits, and once for each command. */
STEP_FN(step_check_policy_service)
{
    struct span action;
    struct err none = ERR_INIT;
    if (ev->is_waiting)
        return ANSWER_DUNNO;
    if (ev->c->trace != NULL && !ev->c->trace->asks_services) {
        policy_trace_add(ev->c->trace, EVENT_SERVICE, s->table_name, SPAN_LIT(""), SPAN_LIT(""))->is_skipped = true;
        return ANSWER_DUNNO;
    }
    if (!policy_answers_recall(ev->c->answers, s, &action)) {
        action = ask(ev, s->server);
        policy_answers_remember(ev->c->answers, s, action);
    }
    if (ev->c->trace != NULL)
        policy_trace_add(ev->c->trace, EVENT_SERVICE, s->table_name, SPAN_LIT(""), action);
    return eval_access_answer(ev, s, eval_list_subject(ev), LOOKUP_FOUND, action, &none);
}

bool policy_asks_servers(const struct policy *p, const struct conf_service *listener)
{
    return policy_service(p, listener)->has_servers;
}
