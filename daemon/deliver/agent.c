/* The agents by the program name in master.cf. */
#include "daemon/deliver.h"

static const struct {
    const char *command;
    deliver_fn *fn;
} agents[] = {
    { "smtp", deliver_smtp },       { "lmtp", deliver_smtp },   { "virtual", deliver_virtual },
    { "error", deliver_error },     { "retry", deliver_retry }, { "discard", deliver_discard },
};

deliver_fn *deliver_agent(const char *command)
{
    for (size_t i = 0; i < ARRAY_LEN(agents); i++)
        if (strcmp(agents[i].command, command) == 0)
            return agents[i].fn;
    return NULL;
}
