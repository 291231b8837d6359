/* The names of the access language. One row a name; old names are rows of their own. */
#include "policy/restrict_internal.h"

static const struct restriction rows[] = {
    /* generic */
    { "permit", ARG_NONE, RF_ENDS_LIST, step_permit },
    { "reject", ARG_NONE, RF_GUARDS_RELAY | RF_ENDS_LIST, step_reject },
    { "defer", ARG_NONE, RF_GUARDS_RELAY | RF_ENDS_LIST, step_defer },
    { "defer_if_permit", ARG_NONE, RF_GUARDS_RELAY, step_defer_if_permit },
    { "defer_if_reject", ARG_NONE, 0, step_defer_if_reject },
    { "warn_if_reject", ARG_NONE, RF_PREFIX, NULL },
    { "reject_plaintext_session", ARG_NONE, 0, step_reject_plaintext },
    { "reject_unauth_pipelining", ARG_NONE, 0, step_reject_pipelining },
    { "reject_multi_recipient_bounce", ARG_NONE, 0, step_reject_multi_bounce },
    { "sleep", ARG_TIME, 0, step_sleep },
    { "check_policy_service", ARG_SERVICE, 0, step_check_policy_service },
    /* client */
    { "permit_inet_interfaces", ARG_NONE, 0, step_permit_inet_interfaces },
    { "permit_mynetworks", ARG_NONE, 0, step_permit_mynetworks },
    { "permit_sasl_authenticated", ARG_NONE, 0, step_permit_sasl },
    { "permit_tls_all_clientcerts", ARG_NONE, 0, step_permit_all_clientcerts },
    { "permit_tls_clientcerts", ARG_NONE, 0, step_permit_clientcerts },
    { "check_client_access", ARG_TABLE, 0, step_check_client_access },
    { "check_reverse_client_hostname_access", ARG_TABLE, 0, step_check_reverse_access },
    { "check_sasl_access", ARG_TABLE, 0, step_check_sasl_access },
    { "reject_unknown_client_hostname", ARG_NONE, 0, step_reject_unknown_client },
    { "reject_unknown_client", ARG_NONE, 0, step_reject_unknown_client },
    { "reject_unknown_reverse_client_hostname", ARG_NONE, 0, step_reject_unknown_reverse },
    { "permit_naked_ip_address", ARG_NONE, RF_OLD, step_permit_naked_ip },
    { "check_ccert_access", ARG_CERT_TABLE, 0, step_check_ccert_access },
    { "check_client_a_access", ARG_TABLE, 0, step_check_client_a },
    { "check_client_mx_access", ARG_TABLE, 0, step_check_client_mx },
    { "check_client_ns_access", ARG_TABLE, 0, step_check_client_ns },
    { "check_reverse_client_hostname_a_access", ARG_TABLE, 0, step_check_reverse_a },
    { "check_reverse_client_hostname_mx_access", ARG_TABLE, 0, step_check_reverse_mx },
    { "check_reverse_client_hostname_ns_access", ARG_TABLE, 0, step_check_reverse_ns },
    { "reject_unknown_forward_client_hostname", ARG_NONE, 0, step_reject_unknown_forward },
    { "reject_rbl_client", ARG_DNSBL, 0, step_reject_rbl_client },
    { "reject_rhsbl_client", ARG_DNSBL, 0, step_reject_rhsbl_client },
    { "reject_rhsbl_reverse_client", ARG_DNSBL, 0, step_reject_rhsbl_reverse_client },
    { "permit_dnswl_client", ARG_DNSBL, 0, step_permit_dnswl_client },
    { "permit_rhswl_client", ARG_DNSBL, 0, step_permit_rhswl_client },
    { "reject_maps_rbl", ARG_NONE, 0, step_reject_maps_rbl },
    /* helo */
    { "check_helo_access", ARG_TABLE, 0, step_check_helo_access },
    { "reject_invalid_helo_hostname", ARG_NONE, 0, step_reject_invalid_helo },
    { "reject_invalid_hostname", ARG_NONE, 0, step_reject_invalid_helo },
    { "reject_non_fqdn_helo_hostname", ARG_NONE, 0, step_reject_non_fqdn_helo },
    { "reject_non_fqdn_hostname", ARG_NONE, 0, step_reject_non_fqdn_helo },
    { "check_helo_a_access", ARG_TABLE, 0, step_check_helo_a },
    { "check_helo_mx_access", ARG_TABLE, 0, step_check_helo_mx },
    { "check_helo_ns_access", ARG_TABLE, 0, step_check_helo_ns },
    { "reject_unknown_helo_hostname", ARG_NONE, 0, step_reject_unknown_helo },
    { "reject_unknown_hostname", ARG_NONE, 0, step_reject_unknown_helo },
    { "reject_rhsbl_helo", ARG_DNSBL, 0, step_reject_rhsbl_helo },
    /* sender */
    { "check_sender_access", ARG_TABLE, 0, step_check_sender_access },
    { "reject_non_fqdn_sender", ARG_NONE, 0, step_reject_non_fqdn_sender },
    { "reject_unlisted_sender", ARG_NONE, 0, step_reject_unlisted_sender },
    { "check_sender_a_access", ARG_TABLE, 0, step_check_sender_a },
    { "check_sender_mx_access", ARG_TABLE, 0, step_check_sender_mx },
    { "check_sender_ns_access", ARG_TABLE, 0, step_check_sender_ns },
    { "reject_unknown_sender_domain", ARG_NONE, 0, step_reject_unknown_sender_domain },
    { "reject_unknown_address", ARG_NONE, 0, step_reject_unknown_sender_domain },
    { "reject_unverified_sender", ARG_NONE, 0, step_reject_unverified_sender },
    { "reject_rhsbl_sender", ARG_DNSBL, 0, step_reject_rhsbl_sender },
    { "reject_sender_login_mismatch", ARG_NONE, 0, step_reject_login_mismatch },
    { "reject_authenticated_sender_login_mismatch", ARG_NONE, 0, step_reject_auth_login_mismatch },
    { "reject_unauthenticated_sender_login_mismatch", ARG_NONE, 0, step_reject_unauth_login_mismatch },
    { "reject_known_sender_login_mismatch", ARG_NONE, 0, step_reject_known_login_mismatch },
    /* recipient */
    { "check_recipient_access", ARG_TABLE, 0, step_check_recipient_access },
    { "permit_auth_destination", ARG_NONE, 0, step_permit_auth_destination },
    { "reject_unauth_destination", ARG_NONE, RF_GUARDS_RELAY, step_reject_unauth_destination },
    { "defer_unauth_destination", ARG_NONE, RF_GUARDS_RELAY, step_defer_unauth_destination },
    { "check_relay_domains", ARG_NONE, RF_GUARDS_RELAY, step_check_relay_domains },
    { "reject_non_fqdn_recipient", ARG_NONE, 0, step_reject_non_fqdn_recipient },
    { "reject_unlisted_recipient", ARG_NONE, 0, step_reject_unlisted_recipient },
    { "check_recipient_maps", ARG_NONE, 0, step_reject_unlisted_recipient },
    { "check_recipient_a_access", ARG_TABLE, 0, step_check_recipient_a },
    { "check_recipient_mx_access", ARG_TABLE, 0, step_check_recipient_mx },
    { "check_recipient_ns_access", ARG_TABLE, 0, step_check_recipient_ns },
    { "permit_mx_backup", ARG_NONE, 0, step_permit_mx_backup },
    { "reject_unknown_recipient_domain", ARG_NONE, 0, step_reject_unknown_recipient_domain },
    { "reject_unverified_recipient", ARG_NONE, 0, step_reject_unverified_recipient },
    { "reject_rhsbl_recipient", ARG_DNSBL, 0, step_reject_rhsbl_recipient },
    /* etrn */
    { "check_etrn_access", ARG_TABLE, 0, step_check_etrn_access },
};

const struct restriction *restriction_find(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (span_ieq_cstr(name, rows[i].name))
            return &rows[i];
    }
    return NULL;
}

const struct restriction *restriction_row(size_t i)
{
    return i < ARRAY_LEN(rows) ? &rows[i] : NULL;
}
