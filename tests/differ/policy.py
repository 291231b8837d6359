"""Random configurations. A world is {"main": {}, "files": {}, "listeners": [{"set": {}, "talks": [talk...]}]}: one pair of servers with
one listener for each policy. "{D}" is the directory of the tables, "{SINK}" the next hop's port.
"""
import addresses
import settings
import tables
import talk
import words

STEPS = {
    "client": ["permit_mynetworks", "permit_sasl_authenticated", "reject_unknown_client_hostname", "reject_unknown_reverse_client_hostname",
               "reject_unknown_client", "permit_tls_clientcerts", "permit_tls_all_clientcerts", "permit_naked_ip_address",
               "reject_rbl_client rbl.test", "reject_rbl_client rbl.test=127.0.0.2", "reject_rbl_client rbl.test=127.0.0.[3..9;100]", "reject_rhsbl_client rhsbl.test", "reject_rhsbl_reverse_client rhsbl.test",
               "permit_dnswl_client wl.test", "permit_dnswl_client wl.test=127.0.[5;6].2", "permit_rhswl_client wl.test",
               "check_client_access {hosts}", "check_client_access {hosts}", "check_reverse_client_hostname_access {hosts}", "check_client_a_access {hosts}", "check_client_mx_access {hosts}", "check_client_ns_access {hosts}",
               "check_reverse_client_hostname_mx_access {hosts}", "check_reverse_client_hostname_a_access {hosts}", "check_reverse_client_hostname_ns_access {hosts}", "check_sasl_access {logins}"],
    "helo": ["reject_invalid_helo_hostname", "reject_non_fqdn_helo_hostname", "reject_unknown_helo_hostname", "reject_invalid_hostname", "reject_non_fqdn_hostname", "reject_unknown_hostname", "reject_rhsbl_helo rhsbl.test",
             "check_helo_access {hosts}", "check_helo_access {hosts}", "check_helo_a_access {hosts}", "check_helo_mx_access {hosts}", "check_helo_ns_access {hosts}"],
    "sender": ["reject_non_fqdn_sender", "reject_unknown_sender_domain", "reject_unknown_address", "reject_unlisted_sender", "reject_rhsbl_sender rhsbl.test", "reject_sender_login_mismatch", "reject_authenticated_sender_login_mismatch",
               "reject_unauthenticated_sender_login_mismatch", "reject_known_sender_login_mismatch", "check_sender_access {mails}", "check_sender_access {mails}", "check_sender_access {mails}",
               "check_sender_a_access {hosts}", "check_sender_mx_access {hosts}", "check_sender_ns_access {hosts}"],
    "recipient": ["permit_auth_destination", "permit_mx_backup", "reject_unauth_destination", "defer_unauth_destination", "reject_non_fqdn_recipient", "reject_unknown_recipient_domain", "reject_unlisted_recipient",
                  "reject_rhsbl_recipient rhsbl.test", "check_relay_domains", "check_recipient_maps", "check_recipient_access {mails}", "check_recipient_access {mails}", "check_recipient_access {mails}",
                  "check_recipient_a_access {hosts}", "check_recipient_mx_access {hosts}", "check_recipient_ns_access {hosts}"],
    "generic": ["permit", "reject", "defer", "defer_if_permit", "defer_if_reject", "warn_if_reject {next}", "reject_multi_recipient_bounce", "reject_plaintext_session", "reject_unauth_pipelining", "class1", "class2"],
    "etrn": ["check_etrn_access {hosts}"],
}
LISTS = {"client": ["client"], "helo": ["client", "helo"], "sender": ["client", "helo", "sender", "sender"], "relay": ["client", "recipient"], "recipient": ["client", "helo", "sender", "recipient", "recipient", "recipient"],
         "data": ["client", "helo", "sender", "recipient"], "end_of_data": ["client", "helo", "sender", "recipient"], "etrn": ["client", "helo", "etrn", "etrn"]}
DEAD = ("check_relay_domains",)  # gone since 3.? : see README


class World:
    def __init__(self, r):
        self.r = r
        self.files = {}
        self.tables = tables.Tables(r, self.files)

    def step(self, kinds, depth=0):
        r = self.r
        kind = "generic" if r.random() < 0.15 else r.choice(kinds)
        text = r.choice([s for s in STEPS[kind] if not s.startswith(DEAD)])
        if depth and text.startswith("class"):
            text = "reject_unlisted_recipient"
        if "{next}" in text:
            text = text.replace("{next}", self.step([k for k in kinds], depth + 1))
            return text
        for what in ("hosts", "mails", "logins"):
            if "{" + what + "}" in text:
                text = text.replace("{" + what + "}", self.tables.access(what))
        return text

    def list(self, name, few=4):
        r = self.r
        steps = [self.step(LISTS[name]) for _ in range(r.randrange(1, few + 1))]
        # what stands behind an unconditional end is never reached
        for i, s in enumerate(steps):
            if s in ("permit", "reject", "defer") or s == "warn_if_reject permit":
                steps = steps[:i + 1] if r.random() < 0.5 else steps[:i] + ["reject_non_fqdn_recipient"] if name != "etrn" else steps[:i + 1]
                break
        return ", ".join(steps)

    def listener(self):
        r, out = self.r, {}
        for name in ("client", "helo", "sender", "recipient", "data", "end_of_data", "etrn"):
            if r.random() < {"client": .4, "helo": .4, "sender": .5, "recipient": .6, "data": .15, "end_of_data": .15, "etrn": .1}[name]:
                out[f"smtpd_{name}_restrictions"] = self.list(name)
        if r.random() < 0.3:
            out["smtpd_relay_restrictions"] = r.choice(["permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination", "reject_unauth_destination", "permit_mynetworks, permit_mx_backup, reject_unauth_destination",
                                                        "permit_auth_destination, reject", "check_recipient_access " + self.tables.access("mails") + ", reject_unauth_destination", "permit_sasl_authenticated, reject_unauth_destination",
                                                        "reject_unlisted_recipient, reject_unauth_destination", "warn_if_reject reject_unauth_destination, permit_mynetworks, defer_unauth_destination"])
        for name, chance, values in settings.LISTENER:
            if r.random() < chance:
                v = r.choice(values)
                out[name] = v(self) if callable(v) else v
        return out


def world(r, number, listeners=10, talks=6):
    w = World(r)
    w.files.update(settings.FILES)
    main = dict(settings.BASE)
    for name, chance, values in settings.MAIN:
        if r.random() < chance:
            v = r.choice(values)
            main[name] = v(w) if callable(v) else v
    main["class1"] = w.list("recipient", 2).replace("class1", "permit_mynetworks").replace("class2", "permit_mynetworks")
    main["class2"] = w.list("sender", 2).replace("class1", "reject_non_fqdn_sender").replace("class2", "permit_mynetworks")
    main["smtpd_restriction_classes"] = "class1, class2"
    out = []
    for n in range(listeners):
        out.append({"set": w.listener(), "talks": [talk.talk(r, f"s{number}-{n}-{i}") for i in range(talks)]})
    return {"main": main, "files": w.files, "listeners": out}
