/*
 * dns_responder: an authoritative name server in a thread, for unit tests
 *
 * Purpose    answers from a table of records in zone-file text, over UDP and TCP on 127.0.0.1, and misbehaves on demand
 * Threads    its own; responder_start/stop and the counters from the test's thread
 *
 * A row is a record ("example.org. 300 IN MX 10 mail.example.org.") or a directive with an absolute name:
 *   "!servfail NAME"  "!refused NAME"  "!formerr NAME"   that code
 *   "!drop NAME"      no answer          "!drop1 NAME"   no answer to the first question
 *   "!tc NAME"        truncated by UDP, whole by TCP
 *   "!wrongid NAME"   first a forged answer with another id, then the right one
 *   "!wrongname NAME" first an answer to another question, then the right one
 *   "!garbage NAME"   header and question right, the rest not
 *   "!noedns NAME"    FORMERR when the question carries EDNS
 *   "!ad NAME"        sets AD
 *   "!flood NAME"     by UDP, nothing but forged answers
 *   "!delay NAME MS"  answers late
 * The name "*" in a directive means all names. Names without records get NXDOMAIN, names with other types NODATA; both with a SOA (minimum 60).
 */
#pragma once
#include <stdint.h>

struct responder;
struct responder *responder_start(const char *const *rows, uint16_t *port);
void responder_stop(struct responder **r);
/* Questions seen (UDP and TCP), and of them those by TCP. */
unsigned responder_questions(struct responder *r);
unsigned responder_tcp(struct responder *r);
/* Starts dns on this responder alone; 200 ms a try, 2 tries. */
struct dns;
struct dns *responder_dns(struct responder *r);
/* The same with another time-out for each of the two tries. */
struct dns *responder_dns_patient(struct responder *r, int timeout_ms);

/* A cmocka fixture: the two started in *state, for these rows. */
struct responder_state {
    struct responder *r;
    struct dns *d;
};
int responder_setup(void **state, const char *const *rows);
int responder_teardown(void **state);
