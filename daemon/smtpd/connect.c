/*
 * The beginning of a session: who is it, may it come, and the banner.
 *
 * The client's name: the first name of its PTR, or of /etc/hosts, which is not verified further (whoever writes that
 * file owns this machine). A PTR name must have the client's address among its own, else the verified name is
 * "unknown" and only reverse_name has it. 127.0.0.1 and ::1 are "localhost" also without /etc/hosts. The PTR is asked
 * when the connection comes, the banner waits for the answers.
 */
#include <sys/socket.h>

#include "common/base/clock.h"
#include "daemon/smtpd/smtpd_internal.h"
#include "policy/answers.h"

enum lookup_stage { LOOKUP_PTR, LOOKUP_FORWARD, LOOKUP_DONE };

struct connect_lookup {
    enum lookup_stage stage;
    struct dns_answer *answer; /* counted; set by the callback before the handoff */
};

void smtpd_lookup_free(struct connect_lookup **l)
{
    if (*l == NULL)
        return;
    dns_answer_unref(&(*l)->answer);
    free(*l);
    *l = NULL;
}

static void answer_cb(void *arg, struct dns_answer *ans)
{
    struct smtpd_sess *S = arg;
    S->lookup->answer = ans;
    smtpd_handoff_answer(S);
}

static void ask(struct smtpd_sess *S, enum lookup_stage stage, struct span name, enum dns_type type)
{
    dns_answer_unref(&S->lookup->answer);
    S->lookup->stage = stage;
    smtpd_handoff_begin(S);
    dns_query(S->env->dns, name, type, answer_cb, S);
}

void smtpd_set_name(struct smtpd_sess *S, const char *verified, const char *reverse)
{
    char addr[IP_TEXT_MAX];
    struct buf b = BUF_INIT(0);
    buf_reserve(&b, strlen(verified) + IP_TEXT_MAX);
    buf_puts(&b, verified);
    buf_putc(&b, '[');
    buf_puts(&b, ip_print(&S->s.peer, addr));
    buf_putc(&b, ']');
    if (S->p->smtpd_client_port_logging) {
        buf_putc(&b, ':');
        if (S->s.peer_port == 0)
            buf_puts(&b, "unknown");
        else
            buf_put_uint(&b, S->s.peer_port);
    }
    buf_putc(&b, '\0');
    free(S->client_name);
    free(S->reverse_name);
    free(S->namaddr);
    S->client_name = xstrdup(verified);
    S->reverse_name = xstrdup(reverse);
    S->namaddr = b.p;
}

/* Names from DNS go into headers and logs: host names only, and none that looks like an address. */
static bool is_usable_name(const char *name)
{
    struct ip_addr ip;
    return addr_domain_is_valid(span_cstr(name), false, false) && !ip_parse(span_cstr(name), &ip);
}

static bool has_address(const struct dns_answer *a, const struct ip_addr *want)
{
    for (size_t i = 0; a->status == DNS_OK && i < a->count; i++) {
        struct ip_addr got = a->rr[i].type == DNS_A ? ip_from_v4(a->rr[i].a) : ip_from_v6(a->rr[i].aaaa);
        if (ip_eq(&got, want))
            return true;
    }
    return false;
}

static void warn_mismatch(struct smtpd_sess *S, const struct dns_answer *a)
{
    char addr[IP_TEXT_MAX];
    bool failed = a->status != DNS_OK;
    log_line(&S->log, LOG_LV_WARNING, "hostname %s does not resolve to address %s%s%s", S->reverse_name,
             ip_print(&S->s.peer, addr), failed ? ": " : "", failed ? a->why : "");
}

/* The answer of a stage is here: the next stage, or the name is known. */
static void take_answer(struct smtpd_sess *S)
{
    const struct dns_answer *a = S->lookup->answer;
    S->is_name_tempfail = a->status == DNS_TEMPFAIL;
    if (S->lookup->stage == LOOKUP_PTR) {
        S->is_reverse_tempfail = a->status == DNS_TEMPFAIL;
        const char *name = a->status == DNS_OK && a->count > 0 ? a->rr[0].name : NULL;
        if (name != NULL && is_usable_name(name)) {
            smtpd_set_name(S, "unknown", name);
            ask(S, LOOKUP_FORWARD, span_cstr(S->reverse_name), S->s.peer.family == IP_V4 ? DNS_A : DNS_AAAA);
            return;
        }
    } else if (has_address(a, &S->s.peer)) {
        char *name = xstrdup(S->reverse_name);
        smtpd_set_name(S, name, name);
        free(name);
    } else {
        warn_mismatch(S, a);
    }
    S->lookup->stage = LOOKUP_DONE;
}

/* ---- banner ---- */

static void welcome(struct smtpd_sess *S)
{
    struct policy_client c;
    if (!smtpd_client_check(S))
        return;
    if (S->p->smtpd_forbid_unauth_pipelining && smtpd_has_early_input(S)) {
        smtpd_log_pipelining(S, smtpd_state_word(S));
        smtpd_reply(S, 554, "5.5.0", "Error: SMTP protocol synchronization");
        smtpd_end_session(S);
        return;
    }
    smtpd_policy_client(S, &c);
    policy_ask_ahead(S->svc->policy, S->svc->svc, &c, S->env->dns);
    smtpd_greet(S);
}

static void greet(struct smtpd_sess *S)
{
    smtpd_log_connect(S);
    smtpd_debug_begin(S);
    smtpd_set_state(S, SMTPD_COMMAND);
    welcome(S);
}

void smtpd_greet_anew(struct smtpd_sess *S)
{
    S->wants_greeting = false;
    if (smtpd_client_may_enter(S, S->t == &S->svc->stress))
        welcome(S);
}

void smtpd_greet(struct smtpd_sess *S)
{
    struct policy_client c;
    smtpd_policy_client(S, &c);
    if (smtpd_policy_ok(S, STAGE_CONNECT, smtpd_state_word(S), &c, SPAN_LIT("")))
        smtpd_reply(S, 220, "", "%s", S->p->smtpd_banner);
    else if (!S->is_asking)
        S->access_denied = true;
    if (S->is_asking) {
        smtpd_ask(S);
        S->ask_from = SMTPD_CONNECT;
    } else {
        policy_answers_clear(S->answers);
    }
}

enum flow smtpd_connect_run(struct smtpd_sess *S)
{
    while (S->lookup != NULL && S->lookup->stage != LOOKUP_DONE) {
        if (!smtpd_handoff_is_here(S))
            return FLOW_WAIT;
        take_answer(S);
    }
    smtpd_lookup_free(&S->lookup);
    greet(S);
    return FLOW_ON;
}

/* Names that need no question: none wanted, /etc/hosts, loopback. */
static const char *known_name(const struct smtpd_sess *S)
{
    if (S->out_fd >= 0)
        return "localhost";
    if (!S->p->smtpd_peername_lookup)
        return "unknown";
    const char *name = hosts_file_name(S->svc->hosts, &S->s.peer);
    if (name != NULL)
        return name;
    struct ip_addr one;
    const char *loop = S->s.peer.family == IP_V4 ? "127.0.0.1" : "::1";
    if (ip_parse(span_cstr(loop), &one) && ip_eq(&one, &S->s.peer))
        return "localhost";
    return S->env->dns == NULL ? "unknown" : NULL;
}

void smtpd_know_server(struct smtpd_sess *S)
{
    struct sockaddr_storage ss;
    socklen_t n = sizeof ss;
    if (S->is_server_known)
        return;
    S->is_server_known = true;
    if (getsockname(S->s.fd, (struct sockaddr *)&ss, &n) != 0 ||
        !ip_from_sockaddr((struct sockaddr *)&ss, &S->server_addr, &S->server_port))
        S->server_port = 0;
}

bool smtpd_connect_begin(struct smtpd_sess *S)
{
    const char *name = known_name(S);
    smtpd_set_name(S, name ? name : "unknown", name ? name : "unknown");
    if (smtpd_client_may_wait(S) && name == NULL) {
        struct sockaddr_storage ss;
        char reverse[128];
        if (ip_to_sockaddr(&S->s.peer, 0, &ss) == 0)
            return false;
        dns_reverse_name(&ss, reverse, sizeof reverse);
        S->lookup = xcalloc(1, sizeof *S->lookup);
        ask(S, LOOKUP_PTR, span_cstr(reverse), DNS_PTR);
    }
    return true;
}
