/*
 * probe: finds out whether mail for an address would be taken, without delivering any
 *
 * Purpose    joins policy/verify.h (what is known of addresses) with the delivery agents: virtual aliases and route as for
 *            mail from address_verify_sender, then the agent of the transport with a job that asks only
 * Source     ADDRESS_VERIFICATION_README of Postfix; postconf(5) address_verify_*
 * Threads    probe threads of the verifier
 */
#pragma once
#include "daemon/deliver.h"
#include "policy/verify.h"

struct prober {
    struct deliver_env *env;              /* borrowed */
    struct policy *(*policy)(void *arg);  /* the snapshot of now, one reference */
    void *arg;
};
/* verifier_options.probe; arg: a struct prober. */
void probe_run(void *arg, struct span address, struct verify_result *out);
