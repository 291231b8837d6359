/* rewrite_internal: the compiled rewriting rules, for the files of this folder, their tests and policy/route_expand.c. */
#pragma once
#include "policy/policy_internal.h"
#include "policy/rewrite/rewrite.h"

struct masquerade_rule {
    struct span domain;      /* without '!' */
    bool is_kept;            /* "!": what is below it stays as it is */
};

struct rewriter {
    struct maps *canonical, *sender_canonical, *recipient_canonical, *sender_bcc, *recipient_bcc;
    bool uses_canonical[REWRITE_CLASSES], uses_own[REWRITE_CLASSES], uses_masquerade[REWRITE_CLASSES];
    struct masquerade_rule *masquerade;
    size_t masquerade_count;
    struct match_list *masquerade_exceptions;
    bool passes_extension;   /* propagate_unmatched_extensions has canonical */
    struct span always_bcc;
};

/* local_clients.c */
void rewrite_compile_clients(struct compiler *c, struct policy_service *s);

/* plain_list.c */
/* Addresses of words and dots alone, each in a domain with a dot, with or without a phrase of words and <>: completion
 * leaves them as they are. False means only that it is not seen at a glance. */
bool rewrite_list_is_plain(struct span list) MUST_CHECK;

/* rewrite.c */
/* A table or masquerading may change addresses of this class. */
bool rewrite_is_mapped(const struct rewriter *w, enum rewrite_class cls);
void rewrite_compile(struct compiler *c);
/* The steps behind completion; *addr in external form is changed in place. */
enum lookup rewrite_map_external(const struct policy *p, enum rewrite_class cls, struct span *addr, struct arena *a,
                                 const struct rewrite_trace *t, struct err *e) MUST_CHECK;

/* rewrite_map.c */
/*
 * One look-up: the addresses that `m` has for addr (external form), each completed and with the extension that the key did
 * not have (when passes_extension); external form, in the arena.
 */
enum lookup rewrite_lookup(const struct policy *p, const struct maps *m, bool passes_extension, struct span addr, struct arena *a,
                           struct span **out, size_t *count, struct err *e) MUST_CHECK;
/* The value alone, by the same keys, external form first and then as it is without quotes. */
enum lookup rewrite_lookup_value(const struct policy *p, const struct maps *m, struct span addr, struct arena *a,
                                 struct span *value, struct span *ext, struct err *e) MUST_CHECK;
/* The addresses of a table's value. */
void rewrite_parse_list(const struct policy *p, struct span value, struct arena *a, struct span **out, size_t *count);
/* From one to one, again until nothing changes; *addr in external form. FOUND: done (changed or not). */
enum lookup rewrite_one_to_one(const struct policy *p, const struct maps *m, const char *parameter, bool passes_extension,
                               struct span *addr, struct arena *a, const struct rewrite_trace *t, struct err *e) MUST_CHECK;

/* masquerade.c */
enum lookup masquerade(const struct policy *p, struct span *addr, struct arena *a, struct err *e) MUST_CHECK;
