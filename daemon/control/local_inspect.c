/* The stages see a field in the order in which they are added: first who judges it as it came, then who changes it. */
#include "daemon/control/local_inspect.h"

void local_inspect_init(struct local_inspect *i, const struct params *p, struct policy *policy, struct msg *m)
{
    (void)policy;
    (void)m;
    *i = (struct local_inspect){ .o = {
        .header_bytes = (size_t)p->header_size_limit,
        .line_bytes = (size_t)p->line_length_limit,
        .mime = { .boundary_bytes = (size_t)p->mime_boundary_length_limit, .nesting = (size_t)p->mime_nesting_limit },
        .is_mime = !p->disable_mime_input_processing,
        .drop = p->message_drop_headers,
    } };
}
