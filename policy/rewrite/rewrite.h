/*
 * rewrite: addresses of envelope and header as the site wants them written
 *
 * Purpose    canonical and masquerading rewriting of senders, recipients and header fields, and who gets a blind copy. Pure:
 *            address in, address out, against one policy snapshot. Who expands recipients is route_expand() (route.h).
 * Source     cleanup(8), canonical(5), ADDRESS_REWRITING_README; postconf(5) canonical_maps and _classes, masquerade_domains,
 *            _classes and _exceptions, propagate_unmatched_extensions, remote_header_rewrite_domain, sender_bcc_maps,
 *            recipient_bcc_maps, always_bcc, header_address_token_limit
 * Threads    any; results in the caller's arena
 * Errors     LOOKUP_TEMPFAIL with *e: a table failed; the message must not be accepted now
 *
 * The steps for one address, in their order: it is completed and brought into the form user@domain (envelope: as a local one);
 * sender_canonical_maps or recipient_canonical_maps; canonical_maps; masquerade_domains.
 */
#pragma once
#include "policy/route.h"

enum rewrite_class { REWRITE_ENV_SENDER, REWRITE_ENV_RCPT, REWRITE_HDR_SENDER, REWRITE_HDR_RCPT, REWRITE_CLASSES };

/*
 * Told of each step that changed something: a parameter, or "source route", "final dot". Where a table gave the result, its
 * look-up is the last that was found (policy_trace_watch). Spans last for the call. NULL: nobody asks.
 */
struct rewrite_trace {
    void (*step)(void *arg, const char *parameter, struct span from, struct span to);
    void *arg;
};

/*
 * cls is one of the envelope; `in` in internal form. The empty sender stays empty; the empty recipient is
 * empty_address_recipient. has_maps false: completion alone (receive_override_options no_address_mappings).
 * FOUND fills *out, which may be `in` itself. NONE does not happen.
 */
enum lookup rewrite_envelope(const struct policy *p, enum rewrite_class cls, bool has_maps, struct span in, struct arena *a,
                             struct span *out, const struct rewrite_trace *t, struct err *e) MUST_CHECK;

/* Whose incomplete header addresses these are. REWRITE_NOBODY: the header is left alone. */
enum rewrite_origin { REWRITE_NOBODY, REWRITE_LOCAL, REWRITE_REMOTE };
/* Of a client that local_header_rewrite_clients does not name: REMOTE or NOBODY. */
enum rewrite_origin rewrite_remote_origin(const struct policy *p);
/* Does local_header_rewrite_clients of this listener name the client? TEMPFAIL: a table failed (logged). */
enum lookup rewrite_is_local_client(const struct policy *p, const struct conf_service *svc, const struct policy_client *c);
/*
 * One whole header field, folded with '\n', without its line end. FOUND: *out (in the arena) is to be written instead, folded
 * the same way. NONE: it stays as it is, byte for byte: its name is none that has addresses, or none was changed.
 */
enum lookup rewrite_header(const struct policy *p, enum rewrite_origin origin, bool has_maps, struct span field, size_t name_n,
                           struct arena *a, struct span *out, const struct rewrite_trace *t, struct err *e) MUST_CHECK;
/* False: at a glance, rewrite_header() has nothing to change in this field. Takes no memory. */
bool rewrite_may_change(const struct policy *p, bool has_maps, struct span field, size_t name_n);

/* Blind copies. sender and recipient as rewritten, before alias expansion. FOUND: *out is the address, rewritten as a recipient. */
enum rewrite_bcc { REWRITE_BCC_ALWAYS, REWRITE_BCC_SENDER, REWRITE_BCC_RCPT };
enum lookup rewrite_bcc(const struct policy *p, enum rewrite_bcc which, struct span address, bool has_maps, struct arena *a,
                        struct span *out, const struct rewrite_trace *t, struct err *e) MUST_CHECK;
bool rewrite_has_bcc(const struct policy *p);
