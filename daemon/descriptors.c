#include "daemon/descriptors.h"

#include <sys/resource.h>

#include "common/dns/dns.h"
#include "daemon/smtp/conn_cache.h"

#define OTHERS        96 /* journal, index, log, epoll, listeners, control clients, tables */
#define PER_DELIVERY  2  /* the connection or Maildir file, and a large message's content */

static uint64_t reserve(unsigned delivery_threads)
{
    return OTHERS + (uint64_t)PER_DELIVERY * delivery_threads + CONN_CACHE_MAX + DNS_INFLIGHT_MAX;
}

/* A session needs its socket; one in four may be receiving a large message, which is a file. */
static uint64_t wanted(unsigned session_limit, unsigned delivery_threads)
{
    return session_limit + session_limit / 4 + reserve(delivery_threads);
}

unsigned descriptors_sessions(uint64_t allowed, unsigned session_limit, unsigned delivery_threads)
{
    uint64_t others = reserve(delivery_threads);
    if (allowed >= wanted(session_limit, delivery_threads))
        return session_limit;
    uint64_t rest = allowed > 2 * others ? (allowed - others) * 4 / 5 : allowed * 2 / 5;
    if (rest < 1)
        rest = 1;
    return rest < session_limit ? (unsigned)rest : session_limit;
}

unsigned descriptors_prepare(unsigned session_limit, unsigned delivery_threads, const struct log_src *log)
{
    struct rlimit rl;
    uint64_t want = wanted(session_limit, delivery_threads);
    if (getrlimit(RLIMIT_NOFILE, &rl) != 0)
        return session_limit;
    if (rl.rlim_cur < want) {
        struct rlimit more = { .rlim_cur = want, .rlim_max = rl.rlim_max < want ? want : rl.rlim_max };
        if (setrlimit(RLIMIT_NOFILE, &more) == 0) {
            rl = more;
        } else {
            more = (struct rlimit){ .rlim_cur = rl.rlim_max < want ? rl.rlim_max : want, .rlim_max = rl.rlim_max };
            if (setrlimit(RLIMIT_NOFILE, &more) == 0)
                rl = more;
        }
    }
    unsigned sessions = descriptors_sessions(rl.rlim_cur, session_limit, delivery_threads);
    if (sessions < session_limit)
        log_warn(log, "session_limit: %u sessions instead of %u: %llu descriptors are allowed (RLIMIT_NOFILE), %llu are wanted",
                 sessions, session_limit, (unsigned long long)rl.rlim_cur, (unsigned long long)want);
    return sessions;
}
