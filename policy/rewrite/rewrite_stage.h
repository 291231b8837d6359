/*
 * rewrite_stage: rewriting of header addresses as a stage of the content pipe (policy/pipe.h)
 *
 * Threads    one owner at a time
 * Ownership  the policy is borrowed; rewrite_stage_free() releases the memory for the work on one field
 * Errors     has_failed: a table failed, the pipe was stopped; answer 451
 */
#pragma once
#include "policy/pipe.h"
#include "policy/rewrite/rewrite.h"

struct rewrite_stage {
    const struct policy *policy;
    enum rewrite_origin origin;
    bool has_maps;
    bool has_failed;
    struct arena *scratch; /* owned */
    struct err e;
};

/* NULL with REWRITE_NOBODY: there is nothing to do. */
struct rewrite_stage *rewrite_stage_new(const struct policy *p, enum rewrite_origin origin, bool has_maps);
void rewrite_stage_free(struct rewrite_stage **s);
/* To be put behind the stages that judge a field as it came. */
struct pipe_stage rewrite_stage_of(struct rewrite_stage *s);
