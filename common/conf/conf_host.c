/* conf_host: what Postfix computes from gethostname() and the interface list. */
#include "common/conf/conf_host.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common/base/ascii.h"
#include "common/conf/conf.h"

void conf_host_name(struct buf *out)
{
    char name[256];
    if (gethostname(name, sizeof(name)) != 0 || name[0] == '\0') {
        buf_puts(out, "localhost");
        return;
    }
    name[sizeof(name) - 1] = '\0';
    buf_puts(out, name);
}

bool conf_is_hostname(struct span name)
{
    size_t label = 0;
    bool numeric = true;
    if (name.n == 0 || name.n > 253)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool edge = i == 0 || name.p[i - 1] == '.' || i + 1 == name.n || name.p[i + 1] == '.';
        if (c == '.') {
            if (label == 0 || i + 1 == name.n)
                return false;
            label = 0;
            numeric = true;
            continue;
        }
        if (!ascii_is_alnum(c) && c != '_' && !ascii_is_8bit(c) && (c != '-' || edge))
            return false;
        numeric = numeric && ascii_is_digit(c);
        if (++label > 63)
            return false;
    }
    return !numeric;
}

#define ITEMS_MAX 100 /* names in inet_interfaces that are looked up */

struct wanted {
    bool all, loopback_only, ip4, ip6;
    struct span list; /* inet_interfaces when it names addresses */
    struct addrinfo *items[ITEMS_MAX]; /* owned: what these resolve to */
    size_t item_count;
};

static bool is_loopback(const struct ifaddrs *ifa)
{
    return (ifa->ifa_flags & IFF_LOOPBACK) != 0;
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return memcmp(&((const struct sockaddr_in *)(const void *)a)->sin_addr,
                      &((const struct sockaddr_in *)(const void *)b)->sin_addr, 4) == 0;
    return memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr, 16) == 0;
}

/* Addresses that an inet_interfaces item (address or name) stands for; NULL when it cannot be resolved. */
static struct addrinfo *resolve_item(struct span item)
{
    char host[256];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    if (item.n > 2 && item.p[0] == '[' && item.p[item.n - 1] == ']')
        item = span_of(item.p + 1, item.n - 2);
    if (item.n == 0 || item.n >= sizeof(host))
        return NULL;
    memcpy(host, item.p, item.n);
    host[item.n] = '\0';
    return getaddrinfo(host, NULL, &hints, &list) == 0 ? list : NULL;
}

static void resolve_items(struct wanted *w)
{
    struct span rest = w->list, item;
    while (!w->all && !w->loopback_only && w->item_count < ITEMS_MAX && conf_list_next(&rest, &item, NULL)) {
        struct addrinfo *list = resolve_item(item);
        if (list != NULL)
            w->items[w->item_count++] = list;
    }
}

static void free_items(struct wanted *w)
{
    while (w->item_count > 0)
        freeaddrinfo(w->items[--w->item_count]);
}

static bool is_wanted(const struct wanted *w, const struct ifaddrs *ifa)
{
    if (ifa->ifa_addr == NULL || ifa->ifa_netmask == NULL || (ifa->ifa_flags & IFF_UP) == 0)
        return false;
    int family = ifa->ifa_addr->sa_family;
    if (!(family == AF_INET && w->ip4) && !(family == AF_INET6 && w->ip6))
        return false;
    if (w->all || (w->loopback_only && is_loopback(ifa)))
        return true;
    for (size_t i = 0; i < w->item_count; i++) {
        for (const struct addrinfo *ai = w->items[i]; ai != NULL; ai = ai->ai_next) {
            if (same_address(ai->ai_addr, ifa->ifa_addr))
                return true;
        }
    }
    return false;
}

static void read_wanted(struct wanted *w, const char *protocols, const char *interfaces)
{
    struct span rest = span_cstr(protocols), item;
    while (conf_list_next(&rest, &item, NULL)) {
        bool all = span_ieq_cstr(item, "all");
        w->ip4 = w->ip4 || all || span_ieq_cstr(item, "ipv4");
        w->ip6 = w->ip6 || all || span_ieq_cstr(item, "ipv6");
    }
    w->list = rest = span_cstr(interfaces);
    while (conf_list_next(&rest, &item, NULL)) {
        w->all = w->all || span_ieq_cstr(item, "all");
        w->loopback_only = w->loopback_only || span_ieq_cstr(item, "loopback-only");
    }
}

static int mask_bits(const unsigned char *mask, int bytes)
{
    int bits = 0;
    for (int i = 0; i < bytes * 8 && (mask[i / 8] & (0x80 >> (i % 8))) != 0; i++)
        bits++;
    return bits;
}

static int class_bits(const unsigned char *addr)
{
    return addr[0] < 128 ? 8 : addr[0] < 192 ? 16 : addr[0] < 224 ? 24 : 32;
}

static int network_bits(const char *style, const unsigned char *addr, const unsigned char *mask, int bytes)
{
    if (strcmp(style, "host") == 0)
        return bytes * 8;
    if (strcmp(style, "class") == 0 && bytes == 4)
        return class_bits(addr);
    return mask_bits(mask, bytes);
}

static void put_network(const char *style, const struct ifaddrs *ifa, struct buf *out)
{
    bool six = ifa->ifa_addr->sa_family == AF_INET6;
    int bytes = six ? 16 : 4;
    unsigned char addr[16], mask[16];
    char text[INET6_ADDRSTRLEN], entry[INET6_ADDRSTRLEN + 16];
    const char *a = (const char *)(const void *)ifa->ifa_addr, *m = (const char *)(const void *)ifa->ifa_netmask;
    size_t at = six ? offsetof(struct sockaddr_in6, sin6_addr) : offsetof(struct sockaddr_in, sin_addr);

    memcpy(addr, a + at, (size_t)bytes);
    memcpy(mask, m + at, (size_t)bytes);
    int bits = network_bits(style, addr, mask, bytes);
    for (int i = 0; i < bytes * 8; i++) {
        if (i >= bits)
            addr[i / 8] &= (unsigned char)~(0x80 >> (i % 8));
    }
    if (inet_ntop(six ? AF_INET6 : AF_INET, addr, text, sizeof(text)) == NULL)
        return;
    if (snprintf(entry, sizeof(entry), six ? "[%s]/%d" : "%s/%d", text, bits) >= (int)sizeof(entry))
        return;
    struct span rest = buf_span(out), item;
    while (span_next_token(&rest, " ", &item)) {
        if (span_eq(item, span_cstr(entry)))
            return;
    }
    if (out->n > 0)
        buf_putc(out, ' ');
    buf_puts(out, entry);
}

bool conf_host_networks(const char *style, const char *protocols, const char *interfaces, struct buf *out,
                        struct err *e)
{
    struct ifaddrs *list = NULL;
    struct wanted w = { .all = false };
    read_wanted(&w, protocols, interfaces);
    if (getifaddrs(&list) != 0) {
        err_set_sys(e, errno, "cannot read the addresses of this machine");
        return false;
    }
    resolve_items(&w);
    for (int six = 0; six < 2; six++) {
        for (const struct ifaddrs *ifa = list; ifa != NULL; ifa = ifa->ifa_next) {
            if (is_wanted(&w, ifa) && (ifa->ifa_addr->sa_family == AF_INET6) == (six == 1))
                put_network(style, ifa, out);
        }
    }
    freeifaddrs(list);
    free_items(&w);
    return true;
}

static bool is_loopback_address(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr) >> 24) == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

bool conf_host_source(const char *interfaces, int family, struct buf *out)
{
    struct wanted w = { .all = false };
    const struct addrinfo *only = NULL;
    char text[INET6_ADDRSTRLEN];
    bool several = false;
    read_wanted(&w, "all", interfaces);
    resolve_items(&w);
    for (size_t i = 0; i < w.item_count; i++) {
        for (const struct addrinfo *a = w.items[i]; a != NULL; a = a->ai_next) {
            if (a->ai_family != family || (only != NULL && same_address(only->ai_addr, a->ai_addr)))
                continue;
            several = several || only != NULL;
            only = a;
        }
    }
    bool found = only != NULL && !several && !is_loopback_address(only->ai_addr) &&
                 getnameinfo(only->ai_addr, only->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0;
    if (found)
        buf_puts(out, text);
    free_items(&w);
    return found;
}
