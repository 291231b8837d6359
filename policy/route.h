/*
 * route: address classes and where a recipient goes
 *
 * Purpose    one answer per recipient: class, validity, rewritten address, transport and next hop. The SMTP server asks
 *            it at RCPT TO (relay control, recipient validation) and passes the answer on with the message; the
 *            scheduler asks again for recovered mail and after a reload.
 * Source     ADDRESS_CLASS_README, trivial-rewrite(8), transport(5) of Postfix for the meaning; postconf(5)
 * Threads    struct policy is immutable after policy_compile(); tables inside have their own locks. Any thread.
 */
#pragma once
#include "common/base/arena.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/conf/conf.h"
#include "common/net/ipaddr.h"
#include "common/table/table.h"
#include "policy/effect.h"

/* A configuration snapshot compiled for policy: match lists parsed, tables opened, restrictions compiled per listener. */
struct policy;
struct table_registry;

struct policy_options {
    struct conf *conf;             /* the policy takes a reference */
    struct policy *previous;       /* tables that did not change are shared with it; may be NULL */
    struct conf_report *report;    /* findings: tables that cannot be opened, bad restriction names, ... */
    const struct log_src *log;     /* borrowed as long as any policy lives; it may become usable later. NULL: nobody listens */
};
/* NULL when the report got a CONF_ERROR. */
struct policy *policy_compile(const struct policy_options *o) MUST_CHECK;
struct policy *policy_ref(struct policy *p);
void policy_unref(struct policy **p);
struct conf *policy_conf(const struct policy *p);
/* The open tables, shared by all snapshots of the process; valid while p is held. */
struct table_registry *policy_tables(const struct policy *p);


enum route_class { ROUTE_LOCAL, ROUTE_VIRTUAL_ALIAS, ROUTE_VIRTUAL_MAILBOX, ROUTE_RELAY, ROUTE_DEFAULT };

struct route {
    enum route_class cls;
    bool is_unknown_user;          /* in one of our domains, but no such recipient (its *_maps say so) */
    const char *unknown_table;     /* "local", "virtual alias", "virtual mailbox", "relay": for the reject text */
    struct span recipient;         /* address to deliver to */
    struct span transport, nexthop;
    bool is_routed;                /* the local part names a further destination: user%x@, x!user@, "user@x"@ */
    bool is_bad_address;           /* the domain is no domain: 501 5.1.3; transport and next hop are empty */
    bool is_postmaster;            /* a bare <postmaster>: always ours to take (RFC 5321 4.5.1) */
    bool is_mapped;                /* a canonical or virtual alias table knows it: it will be another one */
    const char *validity_error;    /* a *_maps table failed: whether the user exists is not known; else NULL */
};
/* FOUND fills *out (in the arena); TEMPFAIL: a table failed, *e says which. NONE does not happen. */
enum lookup route_resolve(const struct policy *p, struct span sender, struct span recipient, struct arena *a,
                          struct route *out, struct err *e) MUST_CHECK;
/* The same with the recipient maps of one listener (master.cf -o local_recipient_maps= and the like); svc may be NULL. */
enum lookup route_resolve_for(const struct policy *p, const struct conf_service *svc, struct span sender,
                              struct span recipient, struct arena *a, struct route *out, struct err *e) MUST_CHECK;
/* The way alone, for mail that was accepted long ago: whether there is such a user is not asked (is_unknown_user and the like stay false). */
enum lookup route_way(const struct policy *p, struct span sender, struct span recipient, struct arena *a, struct route *out,
                      struct err *e) MUST_CHECK;
/* A table on a server is among those that route_way() or the mapping of addresses asks: the answer may take long. */
bool policy_routing_may_wait(const struct policy *p);
/* Where an address probe for the recipient goes: address_verify_*_transport, _relayhost, _transport_maps and their like. */
enum lookup route_resolve_probe(const struct policy *p, struct span sender, struct span recipient, struct arena *a,
                                struct route *out, struct err *e) MUST_CHECK;
/*
 * The route that a content filter ("transport:nexthop") asks for, which goes before all others. Without a next hop it is
 * default_filter_nexthop or, if that is empty too, the recipient's domain.
 */
void route_filter(const struct policy *p, struct span filter, struct span recipient, struct arena *a, struct span *transport,
                  struct span *nexthop);
/*
 * Virtual alias expansion (virtual_alias_maps) of one recipient with its limits, then aliases(5) for what is local; at least
 * one result (the address itself when nothing matches). Results in the arena. TEMPFAIL: a table failed or a limit was passed.
 */
enum lookup route_expand(const struct policy *p, struct span recipient, struct arena *a, struct span **out, size_t *count,
                         struct err *e) MUST_CHECK;

/* The same, with what more there is to know. */
struct route_target {
    struct span addr;
    struct span sender;    /* member of a mailing list with an owner: the envelope sender it is to get; p NULL: that of the message */
};
struct route_targets {
    struct route_target *list; /* in the arena */
    size_t count;
    bool is_alias_error;   /* TEMPFAIL: in virtual aliases, a table or a limit */
    bool is_virtual;       /* virtual aliases made something else of the address itself */
};
/* Others took the place of addr. */
bool route_targets_is_expanded(const struct route_targets *t, struct span addr);
/* All of them are members of lists with an owner, and addr is such a list itself. */
bool route_targets_is_list(const struct route_targets *t);
struct rewrite_trace; /* rewrite/rewrite.h; may be NULL */
enum lookup route_expand_to(const struct policy *p, struct span recipient, struct arena *a, struct route_targets *out,
                            const struct rewrite_trace *trace, struct err *e) MUST_CHECK;

/* ---- relay control and the restriction language ---- */
/* What is known of a session when a restriction list is evaluated; spans borrowed during the call. */
struct policy_answers;
struct policy_trace;
/* The client's certificate and the session's cipher. Fingerprints as "AB:CD:...". */
struct policy_tls {
    bool has_cert, is_trusted;     /* a certificate came; its chain ends at a CA that smtpd_tls_CAfile trusts */
    struct span cert_name;         /* common name, for texts */
    struct span subject, issuer, fingerprint, pubkey_fingerprint;
    struct span protocol, cipher;
    unsigned keysize;
};
struct policy_client {
    struct ip_addr addr;
    struct span addr_text;         /* without brackets */
    struct span name;              /* verified name or "unknown" */
    struct span reverse_name;
    bool is_name_tempfail, is_reverse_tempfail; /* the names are "unknown" because a server did not answer */
    struct span port;
    struct span helo;
    struct span sender;            /* complete */
    struct span sender_given;      /* as at MAIL FROM, for texts; p == NULL: as sender */
    struct span recipient;         /* as given at RCPT TO */
    const struct route *route;     /* of the recipient, when known */
    struct span sasl_user, sasl_method;
    bool is_esmtp;
    const struct policy_tls *tls;  /* NULL: the session is not encrypted */
    uint64_t size_bytes;
    unsigned rcpt_count;
    struct span queue_id;
    bool is_pipelining_early;      /* sent commands ahead of an answer it had to wait for (reject_unauth_pipelining) */
    /*
     * Owned by the session, zero to begin with, may be NULL: what defer_if_permit of an earlier stage still has to say at
     * RCPT TO when smtpd_delay_reject = no. Each stage overwrites its own part; XCLIENT and STARTTLS zero all.
     */
    struct policy_carry *carry;
    const char *state_word;        /* "RCPT", "END-OF-MESSAGE", ...; for policy servers, as the next ones */
    struct span instance;          /* the same for all commands of one message */
    struct ip_addr server_addr;    /* our end; server_port 0: not known */
    uint16_t server_port;
    bool is_stressed;
    void (*will_block)(void *arg); /* called before the thread waits for a server; may be NULL */
    void *will_block_arg;
    struct policy_trace *trace;    /* who wants to know how the verdict came about (trace.h); NULL: nobody */
    struct policy_answers *answers; /* of this command so far (answers.h); NULL: DNS cannot be asked */
};
/* A postponed answer. */
struct policy_later {
    bool active;
    int code;
    char dsn[12];
    char text[200];
};
struct policy_carry {
    struct policy_later permit[3]; /* after CONNECT, HELO, MAIL */
};
/* Something to be logged that did not decide: `warn_if_reject` ("reject_warning"), INFO, WARN or an action from an access table. */
struct policy_note {
    struct policy_note *next;
    enum policy_effect effect;     /* to be carried out when the verdict is VERDICT_OK */
    struct span value;
    bool is_silent;                /* not to be logged */
    const char *what;              /* "reject_warning", "info", "warn", "hold", ...: the word behind "NOQUEUE: " */
    int code;                      /* reject_warning only */
    struct span dsn, text;
};
enum policy_stage { STAGE_CONNECT, STAGE_HELO, STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_END_OF_DATA, STAGE_ETRN, STAGE_VRFY };
enum verdict {
    VERDICT_OK, VERDICT_REJECT, VERDICT_DEFER, VERDICT_DISCONNECT,
    VERDICT_WAIT, /* something is not known yet: see to policy_client.answers, then check again */
};
struct verdict_reply {
    int code;                      /* 554, 450, ... */
    struct span dsn;               /* "5.7.1" */
    struct span text;              /* without code and dsn, e.g. "<a@b>: Relay access denied" ; in the arena */
    struct policy_note *notes;     /* in the arena, oldest first; also with VERDICT_OK */
};
/* All restriction lists that apply at this stage of this listener, in Postfix's order, honouring smtpd_delay_reject. */
enum verdict policy_check(const struct policy *p, const struct conf_service *listener, enum policy_stage stage,
                          const struct policy_client *c, struct arena *a, struct verdict_reply *out) MUST_CHECK;
/* Does a list of this listener ask policy servers? Then instance and server_addr are worth filling. */
bool policy_asks_servers(const struct policy *p, const struct conf_service *listener);
struct dns;
/* Asks what the lists will want to know of a client that has just connected, without waiting: the DNS lists of addresses. */
void policy_ask_ahead(const struct policy *p, const struct conf_service *listener, const struct policy_client *c, struct dns *dns);
/* Is the address in mynetworks / in a parameter's address list of that listener (e.g. "smtpd_client_event_limit_exceptions")? Tables inside may fail. */
enum lookup policy_match_addr(const struct policy *p, const struct conf_service *svc, const char *parameter,
                              const struct ip_addr *addr, struct span addr_text, struct span name);
/* smtpd_expansion_filter: may a $name bring this character into a reply? Never the end of a line. */
bool policy_may_reply(const struct policy *p, const struct conf_service *svc, char c);
/* fast_flush_domains: may a client have mail for this domain sent now (ETRN)? */
enum lookup policy_is_fast_flush(const struct policy *p, struct span domain, struct err *e);
bool policy_is_mynetworks(const struct policy *p, const struct ip_addr *addr, struct span addr_text);
