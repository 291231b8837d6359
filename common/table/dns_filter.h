/*
 * dns_filter: smtp_dns_reply_filter, smtpd_dns_reply_filter: records that are to be as if they were not there
 *
 * Purpose    each A, AAAA, MX, TXT and TLSA record is written as "name. ttl IN type [preference] value" and looked up; IGNORE
 *            drops it
 * Source     postconf(5) smtp_dns_reply_filter
 * Threads    any; a table may take its time: not on the dns thread
 * Errors     a table that fails, or another answer than IGNORE, makes the whole answer DNS_TEMPFAIL
 */
#pragma once
#include "common/dns/dns.h"
#include "common/table/maps.h"

struct dns_filter {
    const struct maps *maps;       /* borrowed */
    const struct log_src *log;     /* borrowed; may be NULL */
};
/* A reference to what is left of the answer: DNS_TEMPFAIL when nothing is. */
struct dns_answer *dns_filter_apply(const struct dns_filter *f, struct dns_answer *a) MUST_CHECK;
