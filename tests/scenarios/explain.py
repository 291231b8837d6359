#!/usr/bin/env python3
"""posthousectl explain and restrictions: the answer to "why?", and which rules never match."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from dnsstub import DnsStub
from hub import Hub, wait_for
from policyserver import PolicyServer

MAIL = b"Subject: s\r\n\r\nhi\r\n"


def explain(hub, *args):
    return json.loads(hub.ctl("explain", "-j", *args).stdout)


def last(answer):
    return answer["stages"][-1]


def events(answer, kind):
    return [e for s in answer["stages"] for e in s["events"] if e["kind"] == kind]


def test_the_key_that_decided():
    with Hub({"smtpd_client_restrictions": "check_client_access inline:{ 192.0.2=DUNNO }",
              "smtpd_sender_restrictions": "check_sender_access inline:{ bad.example=REJECT }, reject_non_fqdn_sender"}, start=False) as hub:
        a = explain(hub, "--client", "192.0.2.7", "--name", "c.example", "--helo", "c.example", "--from", "u@bad.example", "--to", "user@example.com")
        assert last(a)["verdict"] == "reject" and last(a)["reply"] == "554 5.7.1 <u@bad.example>: Sender address rejected: Access denied", a
        assert [e["name"] for e in events(a, "list")] == ["smtpd_client_restrictions", "smtpd_sender_restrictions"]
        assert [(e["name"], e["outcome"]) for e in events(a, "restriction")] == [("check_client_access", "dunno"), ("check_sender_access", "reject")]
        found = [(e["key"], e["value"]) for e in events(a, "lookup") if e["got"] == "found"]
        assert found == [("192.0.2", "DUNNO"), ("bad.example", "REJECT")], found
        assert a["routes"] == [], "refused mail goes nowhere"
        text = hub.ctl("explain", "--client", "192.0.2.7", "--name", "c.example", "--from", "u@bad.example", "--to", "user@example.com").stdout
        assert "check_sender_access inline:{ bad.example=REJECT }  -> reject" in text and '"REJECT"' in text, text


def test_who_is_encrypted_and_who_is_logged_in():
    with Hub({"smtpd_sasl_auth_enable": "yes", "smtpd_client_restrictions": "reject_plaintext_session",
              "smtpd_relay_restrictions": "permit_sasl_authenticated, reject"}, start=False) as hub:
        ask = ("--client", "198.51.100.7", "--from", "u@x.test", "--to", "user@example.com")
        for more, verdict, reply in (((), "defer", "450 4.7.1 Session encryption is required"),
                                     (("--tls",), "reject", "554 5.7.1 <user@example.com>: Recipient address rejected: Access denied"),
                                     (("--tls", "--sasl", "joe"), "ok", None)):
            a = explain(hub, *ask, *more)
            stage = next(s for s in a["stages"] if s["events"])
            assert stage["verdict"] == verdict and stage.get("reply") == reply, (more, stage)


def test_dns_and_what_is_postponed():
    zone = {"7.2.0.192.in-addr.arpa": {"PTR": ["c.test"]}, "c.test": {"A": ["192.0.2.7"]}, "wait.test": "SERVFAIL",
            "7.2.0.192.bl.test": {"A": ["127.0.0.2"], "TXT": ["seen"]}}
    with DnsStub(zone) as stub, Hub({"disable_dns_lookups": "no", "smtpd_peername_lookup": "yes", "dns_resolver_addresses": stub.address,
                                     "smtpd_sender_restrictions": "reject_unknown_sender_domain, warn_if_reject reject_rbl_client bl.test",
                                     "smtpd_relay_restrictions": "reject_unauth_destination"}, start=False) as hub:
        a = explain(hub, "--client", "192.0.2.7", "--from", "u@wait.test", "--to", "user@example.com")
        assert a["client"]["name"] == "c.test", a["client"]
        assert last(a)["verdict"] == "defer" and last(a)["reply"].startswith("450 4.1.8"), last(a)
        assert [e["name"] for e in events(a, "postponed")] == ["defer_if_permit"]
        assert any("blocked using bl.test; seen" in e["value"] for e in events(a, "note")), events(a, "note")
        assert ("7.2.0.192.bl.test", "A", "127.0.0.2") in [(e["name"], e["type"], e["value"]) for e in events(a, "dns")]
        assert "nothing rejects: defer_if_permit takes effect" in [e["value"] for e in events(a, "remark")]


def test_where_mail_goes():
    zone = {"far.test": {"MX": [(10, "mx1.far.test"), (20, "mx2.far.test")]}, "mx1.far.test": {"A": ["192.0.2.11"]}, "mx2.far.test": {"A": ["192.0.2.12"]}}
    with DnsStub(zone) as stub, Hub({"disable_dns_lookups": "no", "dns_resolver_addresses": stub.address, "virtual_alias_domains": "alias.test",
                                     "virtual_alias_maps": "inline:{ { a@alias.test = user@example.com, b@far.test } }"}, start=False) as hub:
        a = explain(hub, "--client", "127.0.0.1", "--from", "u@x.test", "--to", "a@alias.test")
        one, two = a["routes"][0]["destinations"]
        assert (one["recipient"], one["class"], one["transport"]) == ("user@example.com", "virtual mailbox", "virtual"), one
        assert (two["recipient"], two["class"], two["transport"]) == ("b@far.test", "default", "smtp"), two
        hop, = two["hops"]
        assert hop["mx"] and [(s["preference"], s["host"], s["address"], s["port"]) for s in hop["servers"]] == [
            (10, "mx1.far.test", "192.0.2.11", 25), (20, "mx2.far.test", "192.0.2.12", 25)], hop
        assert two["tls"]["level"] == "none"
        assert any(e["got"] == "found" and e["key"] == "a@alias.test" for e in a["routes"][0]["lookups"])


REWRITING = {
    "myorigin": "here.test", "mydestination": "here.test", "recipient_delimiter": "+", "local_recipient_maps": "",
    "mydomain": "dom.test", "append_dot_mydomain": "yes", "default_transport": "discard:", "relay_transport": "discard:",
    "canonical_maps": "inline:{ old@far.test=a@alias.test }", "masquerade_domains": "mask.test",
    "virtual_alias_domains": "alias.test", "virtual_alias_maps": "inline:{ { a@alias.test = b@far.test, root } }",
    "alias_maps": "inline:{ { root=joe, list@far.test }, { owner-root=me } }",
    "recipient_bcc_maps": "inline:{ @alias.test=archive@far.test }", "sender_bcc_maps": "inline:{ u@mask.test=watch@far.test }",
    "always_bcc": "all@far.test",
}


def steps(one):
    return [(s["step"], s["from"], s["to"]) for s in one["rewriting"]]


def test_each_step_of_rewriting():
    with Hub(REWRITING, start=False) as hub:
        ask = ["--client", "127.0.0.1", "--from", "u@h.mask.test", "--to", "old+x@far.test"]
        a = explain(hub, *ask)
        assert steps(a["sender"]) == [("masquerade_domains", "u@h.mask.test", "u@mask.test")] and a["sender"]["result"] == "u@mask.test", a["sender"]
        first, *copies = a["routes"]
        assert steps(first) == [
            ("canonical_maps", "old+x@far.test", "a+x@alias.test"), ("virtual_alias_maps", "a+x@alias.test", "b+x@far.test"),
            ("virtual_alias_maps", "a+x@alias.test", "root+x@here.test"), ("alias_maps", "root+x@here.test", "joe@here.test"),
            ("alias_maps", "root+x@here.test", "list@far.test")], first
        canonical, *virtual, joe, _ = first["rewriting"]
        assert (canonical["table"], canonical["key"]) == (REWRITING["canonical_maps"], "old@far.test"), canonical
        assert [(v["key"], v["extension"], v["extension_kept"]) for v in virtual] == 2 * [("a@alias.test", "+x", True)], virtual
        assert (joe["key"], joe["extension"], joe["extension_kept"]) == ("root", "+x", False), joe
        assert [(d["recipient"], d["class"], d.get("list_owner")) for d in first["destinations"]] == [
            ("b+x@far.test", "default", None), ("joe@here.test", "local", "owner-root@here.test"),
            ("list@far.test", "default", "owner-root@here.test")], first["destinations"]
        assert [(c["recipient"], c["because"]) for c in copies] == [
            ("archive@far.test", "recipient_bcc_maps"), ("watch@far.test", "sender_bcc_maps"), ("all@far.test", "always_bcc")], copies
        assert copies[0]["rewriting"][0]["key"] == "@alias.test" and copies[1]["rewriting"][0]["key"] == "u@mask.test", copies
        text = hub.ctl("explain", *ask).stdout
        assert "canonical_maps: <old+x@far.test> becomes <a+x@alias.test> (inline:{ old@far.test=a@alias.test } old@far.test), extension +x kept" in text, text
        assert "route of <all@far.test> (always_bcc)" in text and "with the sender <owner-root@here.test>" in text, text


def test_completion_is_told():
    with Hub(dict(REWRITING, canonical_maps="", virtual_alias_maps="", alias_maps="", always_bcc=""), start=False) as hub:
        a = explain(hub, "--client", "127.0.0.1", "--from", "joe", "--to", "joe%far", "--to", "far.test!joe", "--to", "jane")
        assert steps(a["sender"]) == [("append_at_myorigin", "joe", "joe@here.test")]
        assert [steps(r) for r in a["routes"]] == [
            [("allow_percent_hack", "joe%far", "joe@far"), ("append_dot_mydomain", "joe@far", "joe@far.dom.test")],
            [("swap_bangpath", "far.test!joe", "joe@far.test")], [("append_at_myorigin", "jane", "jane@here.test")]], a["routes"]
        hub.main["receive_override_options"] = "no_address_mappings"
        hub.write_conf()
        a = explain(hub, "--client", "127.0.0.1", "--from", "u@h.mask.test", "--to", "old@far.test")
        assert steps(a["sender"]) == [] and len(a["routes"]) == 1 and any("no_address_mappings" in n for n in a["notes"]), a


def test_actions_are_followed():
    table = "inline:{ {f@far.test=FILTER smtp:[127.0.0.9]:25}, {h@far.test=HOLD}, {r@far.test=REDIRECT joe@here.test}, {b@far.test=BCC joe@here.test}, {d@far.test=DISCARD} }"
    with Hub({**REWRITING, "always_bcc": "", "smtpd_recipient_restrictions": f"check_recipient_access {table}", "content_filter": "smtp:[127.0.0.8]:25"},
             start=False) as hub:
        def ask(who):
            return explain(hub, "--client", "127.0.0.1", "--from", "u@x.test", "--to", f"{who}@far.test")
        to, = ask("f")["routes"][0]["destinations"]
        assert (to["transport"], to["nexthop"], to["filter"]) == ("smtp", "[127.0.0.9]:25", "smtp:[127.0.0.9]:25"), to
        to, = ask("x")["routes"][0]["destinations"]
        assert (to["nexthop"], to["filter"]) == ("[127.0.0.8]:25", "smtp:[127.0.0.8]:25"), to
        route, = ask("r")["routes"]
        assert (route["recipient"], route["because"], route["destinations"][0]["class"]) == ("joe@here.test", "REDIRECT", "local"), route
        assert [(r["recipient"], r.get("because")) for r in ask("b")["routes"]] == [("b@far.test", None), ("joe@here.test", "BCC")]
        assert any("HOLD" in n for n in ask("h")["notes"])
        a = ask("d")
        assert a["routes"] == [] and any("DISCARD" in n for n in a["notes"]), a


def test_stages_of_their_own():
    with Hub({"smtpd_delay_reject": "no", "smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname", "soft_bounce": "yes",
              "smtpd_data_restrictions": "check_sender_access inline:{ {x@x.test=521 go away} }", "smtpd_etrn_restrictions": "permit_mynetworks, reject"},
             start=False) as hub:
        a = explain(hub, "--client", "192.0.2.7", "--helo", "short", "--to", "user@example.com")
        assert [s["command"] for s in a["stages"]] == ["connect", "EHLO short"] and last(a)["reply"].startswith("404 4.5.2"), a["stages"]
        a = explain(hub, "--client", "192.0.2.7", "--from", "x@x.test", "--to", "user@example.com", "--data")
        assert last(a)["command"] == "DATA" and last(a)["verdict"] == "disconnect", last(a)
        a = explain(hub, "--client", "192.0.2.7", "--etrn", "x.test")
        assert last(a)["command"] == "ETRN x.test" and last(a)["verdict"] == "reject"
        assert explain(hub, "--client", "127.0.0.1", "--etrn", "x.test")["stages"][-1]["verdict"] == "ok"


def test_services_are_asked_only_on_demand():
    with PolicyServer(lambda a: "REJECT no " + a["sender"]) as server:
        with Hub({"smtpd_sender_restrictions": "reject_unverified_sender",
                  "smtpd_recipient_restrictions": f"check_policy_service {server.address}"}, start=False) as hub:
            ask = ["--client", "127.0.0.1", "--from", "u@x.test", "--to", "user@example.com"]
            a = explain(hub, *ask)
            assert last(a)["verdict"] == "ok" and any("was not asked" in n for n in a["notes"]), a["notes"]
            assert any(n.startswith("address verification was not asked") for n in a["notes"]), a["notes"]
            assert server.requests == []
            a = explain(hub, *ask, "--ask-services")
            assert last(a)["reply"].endswith("Recipient address rejected: no u@x.test"), last(a)
            assert len(server.requests) == 1


def test_from_the_log():
    with Hub({"smtpd_sender_restrictions": "check_sender_access inline:{ bad.example=REJECT }"}) as hub:
        with hub.client() as c:
            c.cmd("EHLO who.example", 250)
            c.cmd("MAIL FROM:<u@bad.example>", 250)
            c.cmd("RCPT TO:<user@example.com>", 554)
        session = hub.wait_log(r"smtpd\[(\d+)\]: NOQUEUE: reject")[0]
        a = explain(hub, "--from-log", session)
        assert last(a)["command"] == "RCPT TO:<user@example.com>" and last(a)["verdict"] == "reject", a
        assert a["client"]["helo"] == "who.example" and a["client"]["address"] == "127.0.0.1"
        with hub.client() as c:
            c.send_mail("ok@good.example", ["user@example.com"], MAIL)
        hub.wait_mails(1)
        qid = hub.wait_log(r"smtpd\[\d+\]: (\w+): client=")[0]
        hub.wait_log(rf"{qid}: to=<user@example.com>")
        a = explain(hub, "--from-log", qid)
        assert last(a)["command"] == "RCPT TO:<user@example.com>" and last(a)["verdict"] == "ok", a
        assert a["routes"][0]["destinations"][0]["transport"] == "virtual"
        r = hub.ctl("explain", "--from-log", "NOSUCHID", check=False)
        assert r.returncode == 65 and "says nothing of a client" in r.stderr, r


def rows(hub, *args):
    return [json.loads(line) for line in hub.ctl("restrictions", "-j", *args).stdout.splitlines()]


def test_counters():
    with Hub({"smtpd_sender_restrictions": "check_sender_access inline:{ bad.example=REJECT, so.example=DUNNO }, warn_if_reject reject_non_fqdn_sender",
              "smtpd_recipient_restrictions": "permit_mynetworks, reject"}) as hub:
        def once(sender, code):
            with hub.client() as c:
                c.cmd(f"MAIL FROM:<{sender}>", 250)
                c.cmd("RCPT TO:<user@example.com>", code)
        for sender, code in [("u@bad.example", 554), ("u@so.example", 250), ("u@x.example", 250), ("short@short", 250)]:
            once(sender, code)

        def row(name):
            r, = [r for r in rows(hub) if r["restriction"] == name and r["list"] != "smtpd_relay_restrictions"]
            return r
        table = row("check_sender_access")
        assert (table["evaluated"], table["reject"], table["dunno"], table["none"]) == (4, 1, 1, 2), table
        warn = row("reject_non_fqdn_sender")
        assert (warn["evaluated"], warn["warning"], warn["none"]) == (3, 1, 2), warn
        assert (row("permit_mynetworks")["permit"], row("reject")["evaluated"]) == (3, 0)
        text = hub.ctl("restrictions").stdout
        assert re.search(r"reject  \(never matched\)", text) and "permit_mynetworks  (never" not in text, text
        assert "reject" in [r["restriction"] for r in rows(hub, "--never")]
        assert "permit_mynetworks" not in [r["restriction"] for r in rows(hub, "--never")]
        # a reload keeps the counters of the lists that stayed the same
        hub.main["smtpd_recipient_restrictions"] = "permit_mynetworks, defer"
        hub.write_conf()
        hub.reload()
        assert row("check_sender_access")["evaluated"] == 4 and row("permit_mynetworks")["evaluated"] == 0
        once("u@bad.example", 554)
        assert row("check_sender_access")["reject"] == 2


def test_a_command_that_waits_counts_once():
    zone = {"1.0.0.127.bl.test": {"DELAY": 0.2, "A": ["127.0.0.2"]}}
    with DnsStub(zone) as stub, Hub({"disable_dns_lookups": "no", "dns_resolver_addresses": stub.address, "mynetworks": "192.0.2.0/24",
                                     "smtpd_client_restrictions": "permit_sasl_authenticated, reject_rbl_client bl.test"}) as hub:
        with hub.client() as c:
            c.cmd("MAIL FROM:<u@x.test>", 250)
            c.cmd("RCPT TO:<user@example.com>", 554)
        got = {r["restriction"]: r for r in rows(hub) if r["list"] == "smtpd_client_restrictions"}
        assert got["permit_sasl_authenticated"]["evaluated"] == 1 and got["reject_rbl_client"]["reject"] == 1, got


if __name__ == "__main__":
    cases.main(globals())
