/*
 * The envelope sender of probes. With address_verify_sender_ttl its local part ends in a number that grows with time
 * (base 31, letters without vowels), so that lists of it become worthless.
 */
#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/mail/address.h"
#include "policy/verify.h"

static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZ";

static struct span made(const struct params *p, int64_t epoch, char *out, size_t size)
{
    struct span all = span_cstr(p->address_verify_sender), local, domain;
    char tail[16];
    size_t at = sizeof tail;
    if (all.n == 0 || span_eq(all, SPAN_LIT("<>")))
        return SPAN_LIT("");
    if (!addr_split(all, &local, &domain)) {
        local = all;
        domain = span_cstr(p->myorigin);
    }
    if (p->address_verify_sender_ttl >= 1000)
        for (uint64_t n = (uint64_t)epoch; at > 0 && (n > 0 || at == sizeof tail); n /= sizeof digits - 1)
            tail[--at] = digits[n % (sizeof digits - 1)];
    int n = snprintf(out, size, "%.*s%.*s@%.*s", SPAN_ARG(local), (int)(sizeof tail - at), tail + at, SPAN_ARG(domain));
    return n > 0 && (size_t)n < size ? span_of(out, (size_t)n) : SPAN_LIT("");
}

static int64_t epoch_of(const struct params *p, int64_t now_s)
{
    int64_t ttl = p->address_verify_sender_ttl / 1000;
    return ttl > 0 ? now_s / ttl : 0;
}

struct span verify_sender(const struct params *p, int64_t now_s, struct arena *a)
{
    char buf[600];
    return arena_dup_span(a, made(p, epoch_of(p, now_s), buf, sizeof buf));
}

bool verify_is_sender(const struct params *p, struct span address)
{
    char buf[600];
    struct span all = span_cstr(p->address_verify_sender), local, domain;
    if (address.n == 0 || all.n == 0)
        return false;
    if (!addr_split(all, &local, &domain))
        local = all;
    if (address.n < local.n || !span_ieq(span_of(address.p, local.n), local)) /* nearly every address ends here */
        return false;
    int64_t epoch = epoch_of(p, clock_wall_s());
    for (int64_t e = epoch; e >= 0 && e >= epoch - 1; e--)
        if (span_ieq(made(p, e, buf, sizeof buf), address))
            return true;
    return false;
}

struct span verify_plain_sender(const struct params *p, struct span address, struct arena *a)
{
    struct span all = span_cstr(p->address_verify_sender), local, domain;
    if (p->address_verify_sender_ttl < 1000 || !verify_is_sender(p, address))
        return address;
    if (addr_split(all, &local, &domain))
        return arena_dup_span(a, all);
    return span_cstr(arena_printf(a, "%.*s@%s", SPAN_ARG(all), p->myorigin));
}
