/*
 * Who wants to see the content of a message as it comes in: rewriting of addresses in the header, header and body checks.
 * When nobody does there is no pipe, and content goes from the scanner straight to the spool.
 */
#include "daemon/smtpd/smtpd_internal.h"

/* The stages in the order in which they see a field: first who judges it as it came, then who changes it. */
static void add_stages(struct smtpd_sess *S, struct pipe_options *o)
{
    (void)S;
    (void)o;
}

void smtpd_inspect_begin(struct smtpd_sess *S, void (*put)(void *arg, struct span bytes))
{
    const struct params *p = S->p;
    struct pipe_options o = {
        .header_bytes = (size_t)p->header_size_limit,
        .line_bytes = (size_t)p->line_length_limit,
        .mime = { .boundary_bytes = (size_t)p->mime_boundary_length_limit, .nesting = (size_t)p->mime_nesting_limit },
        .is_mime = !p->disable_mime_input_processing,
        .drop = p->message_drop_headers,
        .put = put,
        .arg = S,
    };
    add_stages(S, &o);
    if (o.stage_count == 0)
        return;
    S->tx->pipe = xcalloc(1, sizeof *S->tx->pipe);
    pipe_init(S->tx->pipe, &o, S->tx->msg->arena);
}

void smtpd_inspect_free(struct smtpd_tx *tx)
{
    if (tx->pipe == NULL)
        return;
    pipe_free(tx->pipe);
    free(tx->pipe);
    tx->pipe = NULL;
}
