/*
 * verify: is there somebody at an address? What probes found, kept and shared
 *
 * Purpose    the verification cache of all sessions, and the probes that fill it: one at a time for an address, however many
 *            sessions wait for it. What a probe does is the owner's business (verifier_options.probe).
 * Source     ADDRESS_VERIFICATION_README and verify(8) of Postfix for the meaning; postconf(5) address_verify_*
 * Threads    verifier_peek(), verifier_ask(), verifier_each(), verifier_forget(): any, none of them waits or touches the disk.
 *            One thread of its own keeps time and the file; probe threads are started on demand. All begin with the first
 *            question: a site that does not verify has none.
 * Locks      VERIFY (56): all of it; never held while probing, writing or calling back
 * Ownership  results are copies
 * Limits     VERIFY_ENTRIES_MAX results (the oldest go), address_verify_pending_request_limit addresses that wait for their
 *            probe, VERIFY_THREADS probes at a time, VERIFY_PER_DOMAIN of them for one domain
 */
#pragma once
#include "common/base/attrs.h"
#include "common/base/limit.h"
#include "common/base/log.h"
#include "common/base/span.h"
#include "common/conf/params.h"

#define VERIFY_ENTRIES_MAX 100000
#define VERIFY_THREADS     20
#define VERIFY_PER_DOMAIN  5
#define VERIFY_TEXT_MAX    1000

enum verify_status {
    VERIFY_OK,
    VERIFY_DEFER,   /* the probe could not find out */
    VERIFY_BOUNCE,  /* nobody is there */
    VERIFY_TODO,    /* not known yet */
};
struct verify_result {
    enum verify_status status;
    char text[VERIFY_TEXT_MAX]; /* what the probe was told */
};

struct policy;
struct verifier;
struct verifier_options {
    struct policy *(*policy)(void *arg); /* the snapshot of now, one reference */
    /* Finds out about one address; on a probe thread, may take minutes. */
    void (*probe)(void *arg, struct span address, struct verify_result *out);
    void *arg;
    const struct log_src *log;           /* borrowed */
};
struct verifier *verifier_new(const struct verifier_options *o);
/* No new probes; who waits is answered, and who asks from now on at once. */
void verifier_halt(struct verifier *v);
/* verifier_halt(); who waits is answered VERIFY_TODO; the file is up to date. Waits for probes until the deadline; true when all ended. */
bool verifier_stop(struct verifier *v, int64_t deadline_ms) MUST_CHECK;
void verifier_free(struct verifier **v);

typedef void verify_cb(void *arg, const struct verify_result *r);
/* What is known, if anything; begins to refresh it when it is due. p: main.cf's. */
bool verifier_peek(struct verifier *v, const struct params *p, struct span address, struct verify_result *out);
/*
 * The same, and probes when nothing is known. cb is called once: at the latest after wait_ms, with VERIFY_TODO then; perhaps
 * before this returns. It must not block.
 */
void verifier_ask(struct verifier *v, const struct params *p, struct span address, int64_t wait_ms, verify_cb *cb, void *arg);

struct verify_item {
    struct span address;
    const struct verify_result *result;
    int64_t updated_s;   /* wall clock */
    bool is_probing;
};
/* Every result, the newest first; fn is called with no lock held, on copies. Stops when fn returns false. */
void verifier_each(struct verifier *v, bool (*fn)(void *arg, const struct verify_item *i), void *arg);
/* Forgets an address; how many were forgotten. An empty one: all. */
size_t verifier_forget(struct verifier *v, struct span address);
/* Reads the file, if that was not done yet; waits for it. */
void verifier_load(struct verifier *v);
const struct limit *verifier_limit(const struct verifier *v);

/* The envelope sender of probes at that time (address_verify_sender with its changing part); in the arena. */
struct arena;
struct span verify_sender(const struct params *p, int64_t now_s, struct arena *a);
/* The address is one of ours that probes have, or had until lately. */
bool verify_is_sender(const struct params *p, struct span address);
/* Without its changing part, if the address is such a one. */
struct span verify_plain_sender(const struct params *p, struct span address, struct arena *a);
