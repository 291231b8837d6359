/* The limits of limits.def: their names, and one way to say that one was reached. */
#include "daemon/smtpd/smtpd_internal.h"

static const struct {
    const char *parameter, *what;
} limits[SMTPD_LIMITS] = {
#define LIMIT(id, parameter, what) [SMTPD_LIMIT_##id] = { parameter, what },
#include "daemon/smtpd/limits.def"
#undef LIMIT
};

void smtpd_limits_init(struct smtpd_env *env)
{
    for (int i = 0; i < SMTPD_LIMITS; i++)
        env->limits[i].parameter = limits[i].parameter;
}

void smtpd_limit_reached(struct smtpd_sess *S, enum smtpd_limit which, int64_t value)
{
    limit_reached(&S->env->limits[which], &S->log, value, limits[which].what);
}
