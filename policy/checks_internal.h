/* checks_internal: what the files of the checks share. */
#pragma once
#include "common/base/span_set.h"
#include "common/table/maps.h"
#include "policy/checks.h"
#include "policy/policy_internal.h"

#define CHECKS_SHOWN 200 /* bytes of a field or line in the log */
#define CHECKS_SHOWN_CLIENT 60
enum { CHECKS_BODY = PIPE_NESTED + 1, CHECKS_TABLES };

struct content_checks {
    const struct params *p;      /* of the cleanup service */
    const struct maps *maps[CHECKS_TABLES]; /* by pipe_class, and the body's; borrowed. NULL: none */
    const char *prefix;          /* of the parameters' names */
    bool is_client;              /* a delivery agent's: it can only change content and log */
    bool has_body;
    bool is_strict_header, is_strict_body, is_strict_encoding;
};

struct checks_run {
    const struct content_checks *c;
    const struct checks_message *m;
    struct arena *arena;         /* borrowed */
    struct arena *scratch;       /* owned: of one look-up */
    enum checks_status status;
    const char *dsn;
    struct span text;
    struct span_set copies, filters; /* values of BCC and FILTER so far */
    bool is_off;                 /* PASS or an end: tables are not asked any more */
    uint64_t part_bytes;         /* of the body of this part, line ends as one */
    bool had_mime_error[4];      /* enum mime_fault: each is told once */
};

void checks_refuse(struct checks_run *r, const char *dsn, struct span text);

/* ---- checks_mime.c ---- */
void checks_mime_field(struct checks_run *r, const struct pipe_field *f);
void checks_mime_line(struct checks_run *r, const struct content_pipe *p, struct span line);
void checks_mime_part(struct checks_run *r, const struct content_pipe *p, const struct pipe_part *part);
