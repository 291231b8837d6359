#!/usr/bin/env python3
"""Address verification: what a probe hears decides, the session waits without a thread, and nothing is delivered."""
import json
import os
import re
import select
import sqlite3
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from client import Client
from hub import MASTER, Hub, wait_for
from sink import HANG, Sink

GOOD = "RCPT TO:<good@relay.example>"


def refuse_bad(session, arg):
    if "bad" in arg:
        return "550 5.1.1 no such user"
    if "later" in arg:
        return "450 4.2.1 try later"
    return None


def hub_with(sink, **main):
    master = main.pop("master", None)
    conf = {"smtpd_recipient_restrictions": "reject_unverified_recipient", "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "address_verify_poll_delay": "1s", **main}
    kw = {"master": master} if master else {}
    hub = Hub(conf, start=False, routes={"relay.example": f"smtp:[127.0.0.1]:{sink.port}"}, **kw)
    hub.write_conf()
    return hub.start()


def watch(sink):
    """Every command that the next hop hears, and the rules above."""
    heard = []
    sink.on["MAIL"] = lambda s, arg: heard.append("MAIL " + arg)
    sink.on["RCPT"] = lambda s, arg: heard.append("RCPT " + arg) or refuse_bad(s, arg)
    sink.on["DATA"] = lambda s, arg: heard.append("DATA")
    return heard


def rcpt(hub, address, sender="a@b.example"):
    with hub.client() as c:
        c.cmd(f"MAIL FROM:<{sender}>", 250)
        return c.cmd(f"RCPT TO:<{address}>")


def probes(heard, address):
    return sum(h.startswith(f"RCPT TO:<{address}>") for h in heard)


def test_a_good_address_is_taken_and_remembered():
    with Sink() as sink:
        heard = watch(sink)
        with hub_with(sink) as hub:
            for _ in range(3):
                assert rcpt(hub, "good@relay.example").code == 250
            assert probes(heard, "good@relay.example") == 1, heard
            assert heard[0].startswith("MAIL FROM:<double-bounce@"), heard
            hub.wait_log(r"smtp\[\d+\]: \w+: to=<good@relay\.example>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:\d+, delay=.*, dsn=2\.1\.5, status=deliverable \(250 2\.1\.5 Ok\)")
            assert "DATA" not in heard and not sink.mails
            assert hub.queue() == []
            with hub.client() as c:
                c.send_mail("a@b.example", ["good@relay.example"], b"Subject: s\r\n\r\nhi\r\n")
            wait_for("the mail itself", lambda: len(sink.mails) == 1)


def test_texts_and_codes():
    with Sink() as sink:
        watch(sink)
        with hub_with(sink, unverified_recipient_reject_code="550") as hub:
            r = rcpt(hub, "bad@relay.example")
            assert r.code == 550 and re.fullmatch(
                r"5\.1\.1 <bad@relay\.example>: Recipient address rejected: undeliverable address: host 127\.0\.0\.1\[127\.0\.0\.1\] "
                r"said: 550 5\.1\.1 no such user \(in reply to RCPT TO command\)", r.text), r
            r = rcpt(hub, "later@relay.example")
            assert r.code == 450 and r.text.startswith("4.1.1 <later@relay.example>: Recipient address rejected: unverified address: host 127.0.0.1"), r
            hub.main.update(unverified_recipient_reject_reason="Address lookup failed", unverified_recipient_reject_code="553",
                            unverified_recipient_defer_code="250")
            hub.write_conf()
            hub.reload()
            r = rcpt(hub, "bad@relay.example")
            assert r.code == 553 and r.text == "5.1.1 <bad@relay.example>: Recipient address rejected: undeliverable address: Address lookup failed", r
            assert rcpt(hub, "later@relay.example").code == 250, "250 means: take it all the same"


def test_reject_code_450_waits_for_the_end_of_the_list():
    with Sink() as sink:
        watch(sink)
        with hub_with(sink, smtpd_recipient_restrictions="reject_unverified_recipient, check_recipient_access inline:{{bad@relay.example=REJECT last}}") as hub:
            assert rcpt(hub, "bad@relay.example").code == 554
            hub.main["unverified_recipient_tempfail_action"] = "defer"
            hub.write_conf()
            hub.reload()
            r = rcpt(hub, "bad@relay.example")
            assert r.code == 450 and r.text.startswith("4.1.1 <bad@relay.example>: Recipient address rejected: unverified address: host 127.0.0.1"), r


def test_sender():
    with Sink() as sink:
        heard = watch(sink)
        with hub_with(sink, smtpd_recipient_restrictions="", smtpd_sender_restrictions="reject_unverified_sender",
                      unverified_sender_reject_code="551") as hub:
            r = rcpt(hub, "user@example.com", sender="bad@relay.example")
            assert r.code == 551 and r.text.startswith("5.1.7 <bad@relay.example>: Sender address rejected: undeliverable address: host"), r
            assert rcpt(hub, "user@example.com", sender="good@relay.example").code == 250
            assert rcpt(hub, "user@example.com", sender="").code == 250
            r = rcpt(hub, "user@example.com", sender="later@relay.example")
            assert r.code == 450 and r.text.startswith("4.1.7 <later@relay.example>: Sender address rejected: unverified address: host"), r
            hub.main.update(unverified_sender_reject_reason="go away", unverified_sender_defer_code="451", unverified_sender_tempfail_action="defer",
                            smtpd_recipient_restrictions="reject")
            hub.write_conf()
            hub.reload()
            r = rcpt(hub, "user@example.com", sender="bad@relay.example")
            assert r.code == 551 and r.text == "5.1.7 <bad@relay.example>: Sender address rejected: undeliverable address: go away", r
            r = rcpt(hub, "user@example.com", sender="later@relay.example")
            assert r.code == 451 and r.text == "4.1.7 <later@relay.example>: Sender address rejected: unverified address: go away", r
        assert len([h for h in heard if h.startswith("RCPT")]) == 3, heard


def test_one_probe_for_many_sessions_and_no_thread_waits():
    """More sessions wait for one slow answer than there are threads; another client is served meanwhile."""
    with Sink() as sink:
        heard = watch(sink)
        slow = sink.on["RCPT"]

        def answer(s, arg):
            time.sleep(1.0)
            return slow(s, arg)
        sink.on["RCPT"] = answer
        with hub_with(sink, default_process_limit="5", address_verify_poll_delay="10s") as hub:
            waiting = [hub.client() for _ in range(20)]
            for c in waiting:
                c.cmd("MAIL FROM:<a@b.example>", 250)
                c.raw(GOOD.encode() + b"\r\n")
            with hub.client() as c:
                begin = time.monotonic()
                c.cmd("NOOP", 250)
                assert time.monotonic() - begin < 0.9
            for c in waiting:
                assert c.reply().code == 250
                c.close()
        assert probes(heard, "good@relay.example") == 1, heard


def test_poll_count_and_delay_bound_the_wait():
    with Sink() as sink:
        release = []
        sink.on["RCPT"] = lambda s, arg: wait_for("the test to go on", lambda: release) and None
        patient = MASTER + "localhost:0 inet n - n - - smtpd\n  -o address_verify_poll_delay=100s\n"
        with hub_with(sink, address_verify_poll_count="2", address_verify_poll_delay="1s", master=patient) as hub:
            ports = [int(p) for p in hub.wait_log(r"listening on \[127\.0\.0\.1\] port (\d+)", 2)]
            first, second = Client("127.0.0.1", ports[1]), Client("127.0.0.1", ports[0])
            for c in (first, second):
                c.cmd("MAIL FROM:<a@b.example>", 250)
            begin = time.monotonic()
            for c in (first, second):
                c.raw(GOOD.encode() + b"\r\n")
            r = second.reply()
            assert time.monotonic() - begin > 0.9
            assert r.code == 450 and r.text == ("4.1.1 <good@relay.example>: Recipient address rejected: unverified address: "
                                                "Address verification in progress"), r
            assert not select.select([first.sock], [], [], 0)[0], "the one with more patience was answered before"
            hub.main["address_verify_poll_count"] = "1"
            hub.write_conf()
            hub.reload()
            begin = time.monotonic()
            assert rcpt(hub, "other@relay.example").code == 450
            assert time.monotonic() - begin < 0.8, "no waiting at all"
            release.append(1)
            assert first.reply().code == 250
            hub.wait_log(r"status=deliverable", count=2)
            wait_for("the result", lambda: rcpt(hub, "good@relay.example").code == 250)


def test_target_data():
    master = Hub(start=False).master + "probe-data unix - - n - - smtp\n  -o smtp_address_verify_target=data\n"
    with Sink() as sink:
        heard = watch(sink)
        data = []
        sink.on["DATA"] = lambda s, arg: data.append(1) or ("550 5.7.1 not with me" if len(data) == 1 else None)
        hub = Hub({"smtpd_recipient_restrictions": "reject_unverified_recipient", "unverified_recipient_reject_code": "550",
                   "address_verify_transport_maps": f"inline:{{ {{ relay.example = probe-data:[127.0.0.1]:{sink.port} }} }}"}, start=False,
                  master=master, routes={"relay.example": "smtp:[127.0.0.1]:1"})
        hub.write_conf()
        with hub.start():
            r = rcpt(hub, "one@relay.example")
            assert r.code == 550 and r.text.endswith("550 5.7.1 not with me (in reply to DATA command)"), r
            assert rcpt(hub, "two@relay.example").code == 250
            hub.wait_log(r"status=deliverable \(354 go ahead\)")
        assert len(data) == 2 and not sink.mails, heard


def test_lmtp_target_data():
    with Sink(lmtp=True) as sink:
        watch(sink)
        sink.on["DATA"] = lambda s, arg: "550 5.7.1 not with me"
        hub = Hub({"smtpd_recipient_restrictions": "reject_unverified_recipient", "unverified_recipient_reject_code": "550",
                   "lmtp_address_verify_target": "data"}, start=False, routes={"relay.example": f"lmtp:[127.0.0.1]:{sink.port}"})
        hub.write_conf()
        with hub.start():
            r = rcpt(hub, "one@relay.example")
            assert r.code == 550 and r.text.endswith("550 5.7.1 not with me (in reply to DATA command)"), r


def test_lmtp_and_maildir_and_alias():
    with Sink(lmtp=True) as sink:
        heard = watch(sink)
        hub = Hub({"smtpd_recipient_restrictions": "reject_unverified_recipient", "unverified_recipient_reject_code": "550",
                   "virtual_alias_maps": "inline:{ many@example.com={user@example.com, other@example.com}, one@example.com=bad@relay.example, odd@example.com=odd@example.com }"},
                  start=False, routes={"relay.example": f"lmtp:[127.0.0.1]:{sink.port}", "err.example": "error:5.1.2 Gone fishing"})
        hub.write_conf()
        with hub.start():
            assert rcpt(hub, "good@relay.example").code == 250
            assert rcpt(hub, "user@example.com").code == 250
            hub.wait_log(r"to=<user@example\.com>, relay=virtual, .* status=deliverable \(delivers to maildir\)")
            assert rcpt(hub, "many@example.com").code == 250
            r = rcpt(hub, "one@example.com")
            assert r.code == 550 and "no such user" in r.text, r
            r = rcpt(hub, "odd@example.com")
            assert r.code == 550 and 'undeliverable address: unknown user: "odd@example.com"' in r.text, r
            assert rcpt(hub, "a@err.example").code == 550
        assert "DATA" not in heard and not hub.mails() and not sink.mails


def test_sender_of_probes():
    with Sink() as sink:
        heard = watch(sink)
        with hub_with(sink, address_verify_sender="<>", address_verify_sender_ttl="1000s") as hub:
            rcpt(hub, "one@relay.example")
            hub.main["address_verify_sender"] = "prober@hub.example.net"
            hub.write_conf()
            hub.reload()
            rcpt(hub, "two@relay.example")
            hub.main["address_verify_sender_ttl"] = "0"
            hub.write_conf()
            hub.reload()
            rcpt(hub, "three@relay.example")
        mails = [h for h in heard if h.startswith("MAIL")]
        assert mails[0].startswith("MAIL FROM:<>"), mails
        assert re.match(r"MAIL FROM:<prober[0-9BCDFGHJKLMNPQRSTVWXYZ]{3,}@hub\.example\.net>", mails[1]), mails
        assert mails[2].startswith("MAIL FROM:<prober@hub.example.net>"), mails


def test_our_own_probes_are_let_in():
    """Two hubs that verify each other's sender must not wait for each other."""
    with Sink() as sink:
        watch(sink)
        with hub_with(sink, smtpd_client_restrictions="reject", smtpd_recipient_restrictions="reject") as hub:
            assert rcpt(hub, "double-bounce@hub.example.net").code == 250
            assert rcpt(hub, "double-bounce@relay.example").code == 554
            assert rcpt(hub, "user@example.com").code == 554


def test_mail_to_our_own_probes_ends_here():
    """What is sent to the changing sender goes to the plain one, and nobody reads the mail of the double-bounce address."""
    with Sink() as sink:
        heard = watch(sink)
        more = {"mydestination": "hub.example.net", "local_recipient_maps": "inline:{ prober=x }", "local_transport": "virtual",
                "virtual_mailbox_maps": "inline:{ user@example.com=user/ prober@hub.example.net=prober/ }"}
        with hub_with(sink, address_verify_sender_ttl="1000s", **more) as hub:
            rcpt(hub, "one@relay.example")
            probe = re.match(r"MAIL FROM:<(double-bounce[^>]+)>", [h for h in heard if h.startswith("MAIL")][0])[1]
            for to in probe, probe.upper(), "double-bounce@hub.example.net":
                with hub.client() as c:
                    qid = c.send_mail("x@relay.example", [to], b"Subject: s\r\n\r\nx\r\n")
                hub.wait_log(rf"{qid}: to=<double-bounce@hub\.example\.net>, .*relay=none, .*dsn=2\.0\.0, status=sent \(undeliverable postmaster notification discarded\)$" if to.islower() else rf"{qid}: to=.*status=sent \(undeliverable")
            hub.main["address_verify_sender"] = "prober"
            hub.write_conf()
            hub.reload()
            rcpt(hub, "two@relay.example")
            probe = re.match(r"MAIL FROM:<(prober[^>]+)>", [h for h in heard if h.startswith("MAIL")][-1])[1]
            assert probe != "prober@hub.example.net"
            with hub.client() as c:
                c.send_mail("x@relay.example", [probe], b"Subject: s\r\n\r\nx\r\n")
            assert len(hub.wait_mails(1, "prober")) == 1


def test_results_outlive_a_restart():
    with Sink() as sink:
        heard = watch(sink)
        with hub_with(sink) as hub:
            assert rcpt(hub, "good@relay.example").code == 250
            assert rcpt(hub, "bad@relay.example").code == 450
            hub.stop()
            rows = sqlite3.connect(hub.dir / "data" / "verify_cache.sqlite").execute("SELECT address, status FROM result ORDER BY address").fetchall()
            assert rows == [("bad@relay.example", 2), ("good@relay.example", 0)], rows
            hub.start()
            assert rcpt(hub, "good@relay.example").code == 250
            r = rcpt(hub, "bad@relay.example")
            assert "no such user" in r.text, r
            assert len([h for h in heard if h.startswith("RCPT")]) == 2, heard
            hub.main["address_verify_map"] = ""
            hub.stop()
            hub.write_conf()
            hub.start()
            assert rcpt(hub, "good@relay.example").code == 250
            assert probes(heard, "good@relay.example") == 2, "without a map nothing is kept"
            hub.stop()
            (hub.dir / "data" / "verify_cache.sqlite").write_bytes(b"this is no database at all" * 100)
            del hub.main["address_verify_map"]
            hub.write_conf()
            hub.start()
            assert rcpt(hub, "good@relay.example").code == 250
            hub.wait_log(r"verify\[\d+\]: warning: .*verify_cache\.sqlite: begun anew")


def test_expiry_and_refresh():
    """Positive results are refreshed behind an answer; expired ones ask again."""
    with Sink() as sink:
        heard = watch(sink)
        with hub_with(sink, address_verify_positive_refresh_time="1s", address_verify_negative_expire_time="1s",
                      address_verify_negative_refresh_time="1s") as hub:
            assert rcpt(hub, "good@relay.example").code == 250
            sink.on["RCPT"] = lambda s, arg: heard.append("RCPT " + arg) or "550 5.1.1 gone"
            wait_for("the refresh", lambda: rcpt(hub, "good@relay.example").code == 250 and probes(heard, "good@relay.example") >= 2)
            assert rcpt(hub, "good@relay.example").code == 250, "a good address stays good until that expires"
            assert rcpt(hub, "other@relay.example").code == 450
            wait_for("another probe", lambda: rcpt(hub, "other@relay.example").code == 450 and probes(heard, "other@relay.example") >= 2)
            hub.main["address_verify_positive_expire_time"] = "1s"
            hub.write_conf()
            hub.reload()
            wait_for("the good one to expire", lambda: rcpt(hub, "good@relay.example").code == 450)


def test_negative_results_need_not_be_kept():
    with Sink() as sink:
        heard = watch(sink)
        with hub_with(sink, address_verify_negative_cache="no") as hub:
            for _ in range(2):
                assert "no such user" in rcpt(hub, "bad@relay.example").text
            assert probes(heard, "bad@relay.example") == 2, heard


def test_cleanup():
    with Sink() as sink:
        watch(sink)
        with hub_with(sink, address_verify_negative_expire_time="1s", address_verify_cache_cleanup_interval="2s") as hub:
            rcpt(hub, "good@relay.example")
            rcpt(hub, "bad@relay.example")
            hub.wait_log(r"verify\[\d+\]: cache \S+ full cleanup: retained=1 dropped=1 entries")


def test_commands():
    with Sink() as sink:
        heard = watch(sink)
        with hub_with(sink) as hub:
            rcpt(hub, "good@relay.example")
            rcpt(hub, "bad@relay.example")
            items = {i["address"]: i for i in map(json.loads, hub.ctl("verify", "list", "-j").stdout.splitlines())}
            assert items["good@relay.example"]["status"] == "deliverable" and items["bad@relay.example"]["status"] == "undeliverable", items
            assert re.search(r"^bad@relay\.example +undeliverable +.* 550 5\.1\.1 no such user", hub.ctl("verify", "list").stdout, re.M)
            hub.ctl("verify", "forget", "bad@relay.example")
            assert hub.ctl("verify", "forget", "bad@relay.example", check=False).returncode == 1
            assert "bad@" not in hub.ctl("verify", "list").stdout
            r = hub.ctl("verify", "probe", "good@relay.example", "later@relay.example", check=False)
            assert r.returncode == 75 and r.stdout.startswith("good@relay.example: deliverable (250 2.1.5 Ok)\nlater@relay.example: deferred ("), r
            assert hub.ctl("verify", "probe", "bad@relay.example", check=False).returncode == 67
            assert probes(heard, "good@relay.example") == 2, heard
            hub.ctl("verify", "forget", "--all")
            assert hub.ctl("verify", "list").stdout == ""
            assert hub.ctl("verify", "forget", check=False).returncode == 64


def test_sendmail_bv():
    with Sink() as sink:
        heard = watch(sink)
        with hub_with(sink) as hub:
            r = hub.sendmail("-bv", "-f", "user@example.com", "good@relay.example", "bad@relay.example")
            assert r.stdout == b"A report will be mailed to <user@example.com>.\n", r
            text = hub.wait_mails(1)[0].decode().replace("\r\n", "\n")
            assert "<good@relay.example>: deliverable\n    250 2.1.5 Ok\n" in text and "<bad@relay.example>: undeliverable\n    host" in text, text
            assert "Return-Path: <>" in text and "Auto-Submitted: auto-generated" in text, text
            assert "DATA" not in heard


def test_pending_limit():
    with Sink() as sink:
        sink.on["RCPT"] = lambda s, arg: HANG
        with hub_with(sink, address_verify_poll_count="1", address_verify_pending_request_limit="2") as hub:
            texts = [rcpt(hub, f"u{n}@relay.example").text for n in range(12)]
            assert any("Too many address verification requests" in t for t in texts), texts
            hub.wait_log(r"address_verify_pending_request_limit \(2\) reached")
            hub.proc.kill()
            hub.proc.wait()
            hub.proc = None


def test_route_of_probes():
    """Each address_verify_X stands in for X: probes find a sink, mail would find nobody."""
    def go(address, routes=None, **main):
        with Sink() as sink:
            heard = watch(sink)
            main = {k: v.replace("SINK", f"[127.0.0.1]:{sink.port}") for k, v in main.items()}
            hub = Hub({"smtpd_recipient_restrictions": "reject_unverified_recipient", "unverified_recipient_reject_code": "550", **main},
                      start=False, routes=routes)
            hub.write_conf()
            with hub.start():
                assert rcpt(hub, address).code == 250, address
            assert probes(heard, address) == 1, (address, heard)
    away = {"relayhost": "[127.0.0.1]:1", "virtual_transport": "error:no", "local_transport": "error:no", "relay_transport": "error:no", "smtpd_reject_unlisted_recipient": "no"}
    go("a@b.example", **away, address_verify_relayhost="SINK")
    go("a@b.example", **away, address_verify_default_transport="relay:SINK")
    go("a@b.example", **away, address_verify_sender_dependent_relayhost_maps="static:SINK")
    go("a@b.example", **away, address_verify_sender_dependent_default_transport_maps="static:smtp:SINK")
    go("a@b.example", **away, address_verify_transport_maps="static:smtp:SINK")
    go("user@example.com", **away, address_verify_virtual_transport="smtp:SINK")
    go("a@r.example", **away, relay_domains="r.example", address_verify_relay_transport="smtp:SINK")
    go("a@local.example", **away, mydestination="local.example", local_recipient_maps="", address_verify_local_transport="smtp:SINK")


if __name__ == "__main__":
    cases.main(globals())
