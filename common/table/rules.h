/*
 * rules: ordered rules of regexp, pcre and cidr tables
 *
 * Purpose    what the files of these three types share: a rule, the table's content, and how the first rule that matches is
 *            found without trying each
 * Source     regexp_table(5), pcre_table(5), cidr_table(5)
 * Threads    immutable once loaded; any thread
 */
#pragma once
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <regex.h>
#include "common/net/ipaddr.h"
#include "common/table/table_internal.h"

#define RULES_GROUPS_MAX 32

enum rule_kind { RULE_RESULT, RULE_IF, RULE_ENDIF };
enum rules_type { RULES_REGEXP, RULES_PCRE, RULES_CIDR };

struct rule {
    enum rule_kind kind;
    bool negated;
    bool has_references;  /* $1 or $$ in the result */
    int line;
    size_t skip_to;       /* RULE_IF: where to go on when it does not match */
    struct span result;   /* in the content's arena */
    union {
        regex_t *regex;   /* owned */
        pcre2_code *pcre; /* owned */
        struct ip_net net;
    };
};

struct rules_content {
    struct table_content base;
    enum rules_type type;
    struct rule *rules;            /* owned; none for cidr, once they are in the index */
    size_t count;
    struct arena *arena;           /* owned */
    struct rules_filter *filter;   /* owned; NULL: every rule is tried */
    struct cidr_index *index;      /* owned; cidr */
    uint32_t groups;               /* pcre: as many are asked for, the whole match included */
};

/* ---- rules_pattern.c: one pattern ---- */

/* "/pattern/flags rest". False with *why when it is not of that form. */
bool rules_split_pattern(struct span s, struct span *pattern, struct span *flags, struct span *rest, const char **why);
/* Fills u->regex (u->pcre). False with why. */
bool rules_compile_regex(struct rule *u, struct span pattern, struct span flags, char *why, size_t why_n);
bool rules_compile_pcre(struct rule *u, struct span pattern, struct span flags, char *why, size_t why_n);
void rules_free_pattern(enum rules_type type, struct rule *u);
/* Are the $ in u->result as they must be? Sets u->has_references. False with why. */
bool rules_check_result(enum rules_type type, struct rule *u, bool may_refer, char *why, size_t why_n);

struct groups {
    int count;                         /* the whole match included */
    size_t from[RULES_GROUPS_MAX], to[RULES_GROUPS_MAX];
};
/* key ends with a NUL. */
enum lookup rules_match_regex(const struct rule *u, struct span key, struct groups *g, struct err *e);
/* m: made by the caller for r->groups pairs. */
enum lookup rules_match_pcre(const struct rule *u, struct span key, pcre2_match_data *m, struct groups *g, struct err *e);
/* Nothing would be left of the result: it takes only what has not matched. */
bool rules_result_is_empty(const struct rule *u, const struct groups *g);
struct span rules_expand_result(const struct rule *u, struct span key, const struct groups *g, struct arena *a);

/* ---- rules_filter.c: which rules cannot match ---- */

struct rules_filter;
/* What a rule's pattern needs to find in a key, learnt while the rules are read. */
struct rules_filter *rules_filter_new(void);
void rules_filter_free(struct rules_filter **f);
/* For each rule in its order; pattern is empty when nothing is known of it. */
void rules_filter_add(struct rules_filter *f, enum rules_type type, struct span pattern, struct span flags);
/* After the last one; frees *f when it would not help. */
void rules_filter_finish(struct rules_filter **f);
/* Words of a bit set over the rules. */
size_t rules_filter_words(const struct rules_filter *f);
/* Sets the bits of the rules that may match. False: nothing can be said of this key, all may. */
bool rules_filter_candidates(const struct rules_filter *f, struct span key, uint64_t *bits);

/* ---- rules_cidr.c: which rule answers an address ---- */

struct cidr_index;
/* Takes over what the rules say; their results stay in the arena. */
struct cidr_index *cidr_index_new(const struct rule *rules, size_t count);
void cidr_index_free(struct cidr_index **x);
/* The result of the first rule that matches; p is NULL when none does. */
struct span cidr_index_find(const struct cidr_index *x, const struct ip_addr *ip);
