"""What a random configuration may set: for all listeners (main.cf) and for one (-o). Rows are name, chance, values; a function gets the World."""
import words

BASE = {
    "compatibility_level": "3.6",
    "myhostname": "mx.differ.test", "mydomain": "differ.test", "myorigin": "differ.test", "mydestination": words.LOCAL, "relay_domains": words.RELAY, "virtual_mailbox_domains": words.VMAIL, "virtual_alias_domains": words.ALIAS,
    "mynetworks": "192.0.2.128/25, [2001:db8:1::]/48", "inet_interfaces": "all", "inet_protocols": "all", "smtpd_authorized_xclient_hosts": "127.0.0.0/8", "smtpd_peername_lookup": "no",
    "local_recipient_maps": "inline:{ joe=x, jane=x, root=x, postmaster=x, sales-1=x }", "virtual_mailbox_maps": "inline:{ user@vmail.test=x, other@vmail.test=x, joe@vmail.test=x }",
    "virtual_alias_maps": "inline:{ a@alias.test=user@vmail.test, b@alias.test=x@relay.test, joe@alias.test=joe@local.test }", "relay_recipient_maps": "", "alias_maps": "", "alias_database": "",
    "local_transport": "smtp:[127.0.0.1]:{SINK}", "virtual_transport": "smtp:[127.0.0.1]:{SINK}", "relay_transport": "smtp:[127.0.0.1]:{SINK}", "default_transport": "smtp:[127.0.0.1]:{SINK}",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination", "recipient_delimiter": "+", "local_header_rewrite_clients": "permit_mynetworks",
    "smtpd_error_sleep_time": "0", "smtpd_soft_error_limit": "100", "smtpd_hard_error_limit": "200", "smtpd_client_connection_count_limit": "0",
    "smtpd_client_event_limit_exceptions": "static:all", "in_flow_delay": "0", "biff": "no", "delay_warning_time": "0", "smtpd_forbid_unauth_pipelining": "no", "smtpd_forbid_bare_newline": "no", "smtp_send_xforward_command": "no",
    "smtp_tls_security_level": "none", "smtpd_tls_security_level": "none", "smtp_discard_ehlo_keywords": "chunking", "smtpd_timeout": "20s", "notify_classes": "",
}

DELIMITERS = ["", "+", "-", "+-"]
MAIN = [
    ("recipient_delimiter", .3, DELIMITERS),
    ("local_recipient_maps", .3, ["", lambda w: w.tables.map([("joe", "x"), ("jane", "x"), ("sales", "x"), ("user@local.test", "x")]), "static:all", "fail:down", lambda w: w.tables.map([("joe@local.test", "x"), ("@local.test", "x")]), "regexp:{D}/" + "localre"]),
    ("relay_recipient_maps", .4, [lambda w: w.tables.map([("joe@relay.test", "x"), ("user@relay.test", "x")]), lambda w: w.tables.map([("@relay.test", "x")]), lambda w: w.tables.map([("joe@relay.test", "x"), ("@sub.relay.test", "x")]), "fail:down"]),
    ("virtual_mailbox_maps", .2, [lambda w: w.tables.map([("user@vmail.test", "x"), ("@vmail.test", "y")]), "", lambda w: w.tables.map([("user+foo@vmail.test", "x"), ("joe@vmail.test", "x")]), "fail:down"]),
    ("virtual_alias_maps", .3, [lambda w: w.tables.map([("a@alias.test", "user@vmail.test, joe@local.test"), ("@alias.test", "joe@local.test"), ("joe", "jane@local.test")]), "", lambda w: w.tables.map([("user@vmail.test", "user@relay.test"), ("x@other.test", "joe@relay.test"), ("nobody@local.test", "jane")]),
                                "pcre:{D}/valias", lambda w: w.tables.map([("@other.test", "@relay.test"), ("joe@relay.test", "joe@relay.test"), ("@relay.test", "@sub.relay.test")])]),
    ("canonical_maps", .15, [lambda w: w.tables.map([("joe@local.test", "Joe.Q@differ.test"), ("jane", "jane.d@differ.test"), ("@other.test", "@canon.test")]), "pcre:{D}/canon"]),
    ("sender_canonical_maps", .12, [lambda w: w.tables.map([("a@other.test", "sender@canon.test"), ("@client.test", "masq@canon.test")])]),
    ("recipient_canonical_maps", .12, [lambda w: w.tables.map([("user@vmail.test", "other@vmail.test"), ("x@other.test", "joe@local.test")])]),
    ("canonical_classes", .1, ["envelope_sender", "header_sender, header_recipient", "envelope_sender, envelope_recipient"]),
    ("masquerade_domains", .12, ["differ.test", "relay.test, other.test", "!sub.relay.test, relay.test, test"]),
    ("masquerade_classes", .1, ["envelope_sender, envelope_recipient", "header_recipient, envelope_recipient"]),
    ("masquerade_exceptions", .1, ["joe, root", "postmaster"]),
    ("propagate_unmatched_extensions", .1, ["", "canonical", "virtual", "canonical, virtual, alias, forward, include, generic"]),
    ("append_at_myorigin", .05, ["no"]), ("append_dot_mydomain", .2, ["yes"]), ("swap_bangpath", .15, ["no"]), ("allow_percent_hack", .15, ["no"]),
    ("resolve_dequoted_address", .1, ["no"]), ("resolve_null_domain", .1, ["yes"]), ("resolve_numeric_domain", .1, ["yes"]), ("allow_untrusted_routing", .15, ["yes"]), ("allow_min_user", .1, ["yes"]),
    ("remote_header_rewrite_domain", .15, ["remote.invalid"]), ("local_header_rewrite_clients", .15, ["permit_mynetworks", "static:all", "", "permit_sasl_authenticated, permit_mynetworks", "check_address_map inline:{192.0.2.10=x}"]),
    ("always_add_missing_headers", .15, ["yes"]), ("strict_7bit_headers", .05, ["yes"]), ("strict_8bitmime", .05, ["yes"]), ("strict_8bitmime_body", .05, ["yes"]), ("strict_mime_encoding_domain", .05, ["yes"]), ("disable_mime_input_processing", .08, ["yes"]),
    ("header_checks", .25, ["pcre:{D}/hchecks", "regexp:{D}/hchecks"]), ("body_checks", .2, ["pcre:{D}/bchecks"]), ("mime_header_checks", .1, ["pcre:{D}/mchecks"]), ("nested_header_checks", .1, ["pcre:{D}/hchecks"]),
    ("header_size_limit", .1, ["500", "2000"]), ("body_checks_size_limit", .05, ["20"]), ("header_address_token_limit", .05, ["5"]), ("hopcount_limit", .05, ["2"]), ("mime_nesting_limit", .03, ["1"]), ("mime_boundary_length_limit", .03, ["5"]),
    ("always_bcc", .08, ["archive@relay.test", "archive"]), ("sender_bcc_maps", .08, [lambda w: w.tables.map([("a@other.test", "sbcc@relay.test"), ("@local.test", "sbcc2@relay.test")])]), ("recipient_bcc_maps", .08, [lambda w: w.tables.map([("joe@local.test", "rbcc@relay.test"), ("@vmail.test", "rbcc2@relay.test")])]),
    ("transport_maps", .2, [lambda w: w.tables.map([("other.test", "error:5.1.2 no such place"), (".relay.test", "smtp:[127.0.0.1]:{SINK}")]), lambda w: w.tables.map([("nobody@local.test", "error:mailbox gone"), ("sub.relay.test", "retry:later"), ("user@vmail.test", "smtp:[127.0.0.1]:{SINK}")]), lambda w: w.tables.map([("*", "smtp:[127.0.0.1]:{SINK}"), ("relay.test", "discard:")])]),
    ("relocated_maps", .1, [lambda w: w.tables.map([("nobody@local.test", "nobody@new.test"), ("@nodns.test", "elsewhere"), ("jane@local.test", "5.1.6 jane@new.test")])]),
    ("parent_domain_matches_subdomains", .25, ["", "smtpd_access_maps", "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,qmqpd_authorized_clients,relay_domains,smtpd_access_maps", "relay_domains"]),
    ("relay_domains", .15, ["$mydestination", "relay.test, sub.relay.test, nomx.test", ".relay.test", "inline:{relay.test=x, other.test=x}", "!sub.relay.test, relay.test", "static:x"]),
    ("mydestination", .15, ["$myhostname, localhost.$mydomain, localhost, local.test", "local.test, sub.local.test", "inline:{local.test=x}", "", "pcre:{D}/destre"]),
    ("virtual_alias_domains", .1, ["$virtual_alias_maps", "alias.test, cname.test"]), ("mynetworks", .2, ["127.0.0.0/8", "!192.0.2.130, 192.0.2.0/24", "cidr:{D}/nets", "192.0.2.10, [2001:db8::10]", "192.0.2.128/25 [2001:db8::]/32"]),
    ("empty_address_recipient", .03, ["nullbox"]), ("double_bounce_sender", .03, ["dbl"]), ("undisclosed_recipients_header", .05, ["To: undisclosed-recipients:;"]), ("message_drop_headers", .08, ["bcc, content-length, x-test", "", "resent-bcc, return-path, subject"]),
    ("duplicate_filter_limit", .03, ["1"]), ("enable_original_recipient", .08, ["no"]), ("owner_request_special", .1, ["no"]), ("permit_mx_backup_networks", .2, ["192.0.2.0/24", "127.0.0.1"]), ("proxy_interfaces", .05, ["192.0.2.11"]),
    ("smtpd_sender_login_maps", .4, [lambda w: w.tables.map([("joe@local.test", "joe"), ("a@other.test", "jane, joe"), ("@relay.test", "jane"), ("joe", "joe")]), "pcre:{D}/logins"]),
    ("message_size_limit", .2, ["10000", "0"]), ("smtputf8_enable", .1, ["no"]), ("strict_smtputf8", .08, ["yes"]), ("smtputf8_autodetect_classes", .05, ["all", "bounce"]), ("sender_dependent_default_transport_maps", .06, [lambda w: w.tables.map([("a@other.test", "error:5.7.1 no outside mail")])]),
    ("enable_long_queue_ids", .1, ["yes"]), ("virtual_alias_expansion_limit", .03, ["1"]), ("virtual_alias_address_length_limit", .03, ["30"]), ("respectful_logging", .1, ["yes"]), ("show_user_unknown_table_name", .1, ["no"]), ("receive_override_options", .06, ["no_address_mappings", "no_unknown_recipient_checks", "no_header_body_checks"]),
    ("info_log_address_format", .05, ["internal"]), ("rbl_reply_maps", .15, [lambda w: w.tables.map([("rbl.test", "$rbl_code 5.7.1 custom $rbl_class $rbl_what via $rbl_domain${rbl_reason?; $rbl_reason}")])]), ("nested", 0, [""]),
]
del MAIN[-1]

BOOL = ["yes", "no"]
CODE5, CODE4 = ["550", "554", "553", "450", "521"], ["450", "451", "421", "550"]
LISTENER = [
    ("smtpd_delay_reject", .35, ["no"]), ("smtpd_helo_required", .25, ["yes"]), ("strict_rfc821_envelopes", .2, ["yes"]), ("disable_vrfy_command", .15, ["yes"]), ("smtpd_reject_unlisted_sender", .2, ["yes"]), ("smtpd_reject_unlisted_recipient", .2, ["no"]), ("soft_bounce", .1, ["yes"]),
    ("access_map_reject_code", .1, CODE5), ("access_map_defer_code", .1, CODE4), ("reject_code", .1, CODE5), ("defer_code", .1, CODE4), ("invalid_hostname_reject_code", .1, CODE5), ("maps_rbl_reject_code", .1, CODE5), ("non_fqdn_reject_code", .1, CODE5), ("plaintext_reject_code", .1, CODE4),
    ("relay_domains_reject_code", .1, CODE5), ("unknown_address_reject_code", .1, CODE5), ("unknown_client_reject_code", .1, CODE5), ("unknown_hostname_reject_code", .1, CODE5), ("multi_recipient_bounce_reject_code", .05, CODE5),
    ("unknown_local_recipient_reject_code", .1, CODE5), ("unknown_relay_recipient_reject_code", .1, CODE5), ("unknown_virtual_alias_reject_code", .1, CODE5), ("unknown_virtual_mailbox_reject_code", .1, CODE5),
    ("unknown_address_tempfail_action", .1, ["defer", "defer_if_permit"]), ("unknown_helo_hostname_tempfail_action", .1, ["defer", "defer_if_permit"]), ("reject_tempfail_action", .08, ["defer"]), ("access_map_tempfail", 0, [""]),
    ("smtpd_recipient_limit", .1, ["1", "2"]), ("smtpd_recipient_overshoot_limit", .05, ["1"]), ("smtpd_junk_command_limit", .08, ["1", "3"]), ("smtpd_hard_error_limit", .1, ["1", "2", "4"]), ("smtpd_soft_error_limit", .03, ["1"]), ("line_length_limit", .05, ["600", "1000"]), ("smtpd_per_record_deadline", 0, ["yes"]),
    ("smtpd_null_access_lookup_key", .1, ["nullsender", ""]), ("smtpd_noop_commands", .08, ["foo, help", "vrfy"]), ("smtpd_discard_ehlo_keywords", .12, ["pipelining, dsn", "size, 8bitmime, etrn", "chunking, smtputf8", "silent-discard, vrfy, enhancedstatuscodes"]), ("smtpd_discard_ehlo_keyword_address_maps", .05, ["cidr:{D}/ehloaddr"]),
    ("smtpd_command_filter", .06, ["pcre:{D}/cmdfilter"]), ("smtpd_reject_footer", .1, ["\\c; see http://x.test/$client_address", "contact us \\n second line, $server_name", "4.7.0 for you, $client_name"]), ("smtpd_client_port_logging", .08, ["yes"]),
    ("smtpd_delay_open_until_valid_rcpt", .1, ["no"]), ("smtpd_log_access_permit_actions", .15, ["static:all", "permit_mynetworks, check_sender_access, permit", "permit_auth_destination"]), ("default_rbl_reply", .08, ["$rbl_code Blocked $rbl_class $rbl_what by $rbl_domain$rbl_txt"]), ("smtpd_banner", .1, ["$myhostname ESMTP ready", "$mail_name here"]),
    ("smtpd_etrn_restrictions", 0, [""]), ("smtpd_authorized_verp_clients", .05, ["192.0.2.0/24"]), ("smtpd_forbid_unauth_pipelining", .05, ["yes"]), ("smtpd_forbid_bare_newline", .08, ["normalize", "reject"]), ("message_size_limit", .08, ["12000", "0"]),
    ("smtpd_reject_unlisted", 0, [""]), ("local_header_rewrite_clients", .05, ["static:all"]), ("receive_override_options", .06, ["no_address_mappings", "no_unknown_recipient_checks", "no_header_body_checks", "no_milters"]), ("header_checks", 0, [""]), ("fast_flush_domains", .05, ["", "other.test"]),
    ("smtpd_dns_reply_filter", .03, ["pcre:{D}/dnsfilter"]), ("smtpd_sasl_auth_enable", 0, ["yes"]), ("resolve_null_domain", .03, ["yes"]), ("unverified_recipient_reject_code", 0, [""]), ("default_filter", 0, [""]), ("content_filter", .04, ["smtp:[127.0.0.1]:{SINK}"]),
]
LISTENER = [row for row in LISTENER if row[1] > 0]

FILES = {
    "localre": "/^joe/\tx\n/^jane@/\tx\n", "valias": "/^sales-(.*)@/\tjoe+$1@relay.test\n/^joe@alias\\.test$/\tjoe@local.test\n/^(.*)@alias\\.test$/\t$1@relay.test\n", "canon": "/^(.*)@other\\.test$/\t$1@canon.test\n",
    "hchecks": "/^Subject:.*viagra/\tREJECT no pills\n/^Subject:.*discard-me/\tDISCARD\n/^Subject:.*hold-me/\tHOLD\n/^Subject:.*filter-me/\tFILTER smtp:[127.0.0.1]:{SINK}\n/^Subject: replace-me/\tREPLACE X-Replaced: yes\n/^Subject:.*money/\tPREPEND X-Money: yes\n"
               "/^X-Test: secret/\tIGNORE\n/^X-Test: test/\tWARN test header\n/^X-Test:/\tINFO\n/^Subject:.*reject-me/\t550 5.7.7 go\n/^Reply-To:/\tREDIRECT replies@relay.test\n/^Errors-To:/\tBCC errors@relay.test\n/^Received: from x/\tSTRIP\n/^X-Folded: one.*three/\tREJECT folded\n",
    "bchecks": "/viagra/\tREJECT body pills\n/^discard-me/\tDISCARD body\n/money/\tREPLACE m0ney\n/^secret/\tIGNORE\n/hold-me/\tHOLD\n/test/\tPREPEND X inserted\n/^filter-me/\tWARN body\n/^reject-me/\tREJECT 4.7.1 later\n", "mchecks": "/multipart/\tWARN multi\n/^MIME-Version/\tPREPEND X-Mime: seen\n/8bit/\tREJECT no eight bits\n",
    "destre": "/^local\\.test$/\tx\n", "nets": "192.0.2.128/25\tx\n2001:db8::/32\tx\n", "logins": "/^(joe|jane)@/\t$1\n", "ehloaddr": "192.0.2.0/24\tdsn, size\n", "cmdfilter": "/^HELP/\tNOOP\n/^(MAIL FROM:<[^>]*>) AUTH=.*/\t$1\n/^FOO/\tRSET\n/^noop$/\tQUIT\n",
    "dnsfilter": "/ MX .*mail\\.other/\tIGNORE\n",
}
