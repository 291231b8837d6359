/*
 * client_fake: what the delivery agents stand on, for their unit tests
 *
 * Purpose    a scheduler that hands out prepared jobs and records the reports; content from memory; and a peer that speaks
 *            a scripted dialogue on a loopback port
 * Threads    the scheduler: any (one mutex); the peer: a thread of its own that records what went wrong
 */
#pragma once
#include <pthread.h>
#include "daemon/deliver.h"

#define FAKE_MAX 512

struct fake_report {
    uint64_t id;
    uint32_t rcpt;            /* index into the envelope */
    enum outcome outcome;
    char dsn[16], relay[300], reason[1000], mta[300], diagnostic[1000];
    unsigned conn_use;
    bool is_dsn_relayed, is_final_delivery;
};

struct sched {
    pthread_mutex_t m;
    struct job *jobs[FAKE_MAX];
    unsigned job_count, given;
    struct fake_report reports[FAKE_MAX];
    unsigned report_count;
    unsigned finished;
    enum site_verdict verdicts[FAKE_MAX];
    int unreported;           /* recipients that were not reported when their job was finished */
    void (*on_next)(struct sched *s); /* before each sched_next(), no lock held; may be NULL */
};

struct sched *fake_sched_new(void);
void fake_sched_free(struct sched **s);

/* Content for messages: the text with its flags; borrowed. */
struct fake_mail {
    const char *sender;
    const char *rcpts;        /* separated by blanks */
    const char *content;
    size_t content_n;         /* 0: strlen */
    uint32_t content_flags, flags;
    const char *envid, *orcpt;
    enum dsn_ret ret;
    uint8_t notify;
};
/* Adds a job for all recipients of the mail; transport by name from the snapshot. With s->m held once threads run. */
void fake_add_job(struct sched *s, struct conf *c, const char *transport, const char *nexthop, uint64_t id,
                  const struct fake_mail *m);
/* A snapshot with this main.cf text behind a small standard one; master.cf has smtp, lmtp, virtual, error, retry, discard, and `master`. */
struct conf *fake_conf(const char *main_cf, const char *master);
/* "" for no reports yet. One line a report: "RCPT-ADDR-INDEX outcome dsn (reason) relay" */
const struct fake_report *fake_report_of(struct sched *s, uint64_t id, uint32_t rcpt);

/*
 * A script, one step a line, connections separated by "---":
 *   S text      send the line with CRLF
 *   R text      send the bytes without a line end (\r \n \0 understood)
 *   C text      expect this line; a '*' at the end matches any rest
 *   D           read content up to the lone dot, keep it
 *   B n         read n bytes, keep them (n may be *: the number of the last "C BDAT *")
 *   Q           nothing more may have come within 30 ms
 *   X           close now;   x  reset now (RST)
 *   E           expect the peer's close
 *   H           hang until the peer closes
 *   W ms        wait, reading nothing
 */
struct peer;
struct peer *peer_start(const char *script);
/* On another loopback address (host order); port 0: any. */
struct peer *peer_start_at(const char *script, uint32_t address, unsigned port);
/* The same on a unix socket. */
struct peer *peer_start_unix(const char *script, const char *path);
unsigned peer_port(const struct peer *p);
/* Waits for the end of the script and gives "" or what went wrong; the text is static to the peer. */
const char *peer_finish(struct peer *p);
/* All content kept, one after the other. */
struct span peer_content(const struct peer *p);
unsigned peer_connections(const struct peer *p);
void peer_free(struct peer **p);
