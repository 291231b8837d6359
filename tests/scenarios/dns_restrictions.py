#!/usr/bin/env python3
"""Restrictions that need DNS, over the whole daemon: the session waits, the worker does not, and nothing is done twice."""
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from dnsstub import DnsStub
from hub import Hub, wait_for

MAIL = b"Subject: s\r\n\r\nhi\r\n"
LISTED = "1.0.0.127.bl.test"
RELAY = "reject_unauth_destination"


def hub_with(stub, **main):
    return Hub({"disable_dns_lookups": "no", "dns_resolver_addresses": stub.address, "mynetworks": "192.0.2.0/24",
                "smtpd_relay_restrictions": RELAY, **main})


def test_listed_client():
    zone = {LISTED: {"A": ["127.0.0.2"], "TXT": ["we know you"]}, "ok.test": {"A": ["127.0.0.1"]}}
    with DnsStub(zone) as stub, hub_with(stub, smtpd_client_restrictions="reject_rbl_client bl.test") as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@ok.test>", 250)
        r = c.cmd("RCPT TO:<user@example.com>", 554)
        assert r.text == ("5.7.1 Service unavailable; Client host [127.0.0.1] blocked using bl.test; we know you"), r
        hub.wait_log(r"NOQUEUE: reject: RCPT from unknown\[127\.0\.0\.1\]: 554 5\.7\.1 Service unavailable; Client host "
                     r"\[127\.0\.0\.1\] blocked using bl\.test; we know you; from=<a@ok\.test> to=<user@example\.com>")
        assert stub.count(LISTED, "A") == 1, "asked ahead and once"


def test_asked_when_the_client_connects():
    with DnsStub({}) as stub, hub_with(stub, smtpd_recipient_restrictions="reject_rbl_client bl.test") as hub:
        with hub.client():
            wait_for("the question", lambda: stub.count(LISTED, "A"))
    with DnsStub({}) as stub, hub_with(stub, mynetworks="127.0.0.0/8", smtpd_recipient_restrictions="permit_mynetworks, reject_rbl_client bl.test") as hub:
        with hub.client() as c:
            c.send_mail("a@ok.test", ["user@example.com"], MAIL)
        assert stub.count(LISTED, "A") == 0, "our own clients are nobody else's business"


def test_refused_at_once():
    zone = {LISTED: {"A": ["127.0.0.2"]}}
    with DnsStub(zone) as stub, hub_with(stub, smtpd_delay_reject="no", smtpd_client_restrictions="reject_rbl_client bl.test") as hub:
        with hub.client(greet=False) as c:
            r = c.reply()
            assert r.code == 554 and "blocked using bl.test" in r.text, r
            c.cmd("HELO x.test", 503)


def test_a_pipeline_waits_in_order():
    zone = {"slow.test": {"DELAY": 0.3, "A": ["127.0.0.1"]}, "bad.test": {"DELAY": 0.3, "TXT": ["x"]}}
    with DnsStub(zone) as stub, hub_with(stub, smtpd_sender_restrictions="reject_unknown_sender_domain",
                                         smtpd_data_restrictions="reject_rbl_client data.test",
                                         smtpd_end_of_data_restrictions="reject_rbl_client end.test") as hub:
        with hub.client() as c:
            c.raw(b"MAIL FROM:<a@slow.test>\r\nRCPT TO:<user@example.com>\r\nRCPT TO:<nosuch@example.com>\r\nDATA\r\n")
            assert [c.reply().code for _ in range(4)] == [250, 250, 550, 354]
            c.raw(MAIL + b".\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<user@example.com>\r\nQUIT\r\n")
            assert [c.reply().code for _ in range(4)] == [250, 250, 450, 221]
        assert len(hub.wait_mails(1)) == 1
        line = hub.wait_log(r"disconnect from unknown\[127\.0\.0\.1\] .*")
        assert re.search(r"ehlo=1 mail=2 rcpt=1/3 data=1 quit=1 commands=6/8", line[-1] if isinstance(line, list) else line), line


def test_chunks_wait_too():
    zone = {"1.0.0.127.data.test": {"DELAY": 0.2, "TXT": ["x"]}, "1.0.0.127.end.test": {"DELAY": 0.2, "TXT": ["x"]}}
    with DnsStub(zone) as stub, hub_with(stub, smtpd_data_restrictions="check_client_mx_access inline:{x=y}, reject_rbl_client data.test",
                                         smtpd_end_of_data_restrictions="reject_rbl_client end.test") as hub, hub.client() as c:
        c.envelope("a@ok.test", ["user@example.com"])
        c.raw(b"BDAT 18 LAST\r\nSubject: s\r\n\r\nhi\r\n")
        assert c.reply().code == 250
        c.envelope("a@ok.test", ["user@example.com"])
        c.raw(b"BDAT 14\r\nSubject: s\r\n\r\nBDAT 4 LAST\r\nhi\r\nNOOP\r\n")
        assert [c.reply().code for _ in range(3)] == [250, 250, 250]
        hub.wait_mails(2)


def test_rates_count_a_command_once():
    zone = {f"s{n}.test": {"DELAY": 0.05, "A": ["127.0.0.1"]} for n in range(4)}
    with DnsStub(zone) as stub, hub_with(stub, smtpd_sender_restrictions="reject_unknown_sender_domain", smtpd_client_message_rate_limit="3",
                                         smtpd_client_event_limit_exceptions="", smtpd_delay_reject="no") as hub, hub.client() as c:
        codes = []
        for n in range(4):
            codes.append(c.cmd(f"MAIL FROM:<a@s{n}.test>").code)
            c.cmd("RSET", 250)
        assert codes == [250, 250, 250, 450], codes


def test_waiting_sessions_hold_no_worker():
    """More sessions wait for one slow answer than there are threads; another client is served meanwhile."""
    zone = {"slow.test": {"DELAY": 1.5, "A": ["127.0.0.1"]}}
    with DnsStub(zone) as stub, hub_with(stub, default_process_limit="5", smtpd_sender_restrictions="reject_unknown_sender_domain") as hub:
        waiting = [hub.client() for _ in range(20)]
        for c in waiting:
            c.cmd("MAIL FROM:<a@slow.test>", 250)
            c.raw(b"RCPT TO:<user@example.com>\r\n")
        with hub.client() as c:
            c.send_mail("a@example.com", ["user@example.com"], MAIL)
        hub.wait_mails(1)
        for c in waiting:
            assert c.reply().code == 250
            c.close()
        assert stub.count("slow.test", "A") + stub.count("slow.test", "MX") <= 4, stub.questions


def test_client_that_leaves_while_waiting():
    zone = {"slow.test": {"DELAY": 0.4, "A": ["127.0.0.1"]}}
    with DnsStub(zone) as stub, hub_with(stub, smtpd_sender_restrictions="reject_unknown_sender_domain, sleep 1") as hub:
        for _ in range(5):
            c = hub.client()
            c.cmd("MAIL FROM:<a@slow.test>", 250)
            c.raw(b"RCPT TO:<user@example.com>\r\n")
            c.close()
        hub.wait_log(r"lost connection after RCPT", count=5)
        with hub.client() as c:
            c.send_mail("a@example.com", ["user@example.com"], MAIL)
        hub.wait_mails(1)


def test_stop_while_sessions_wait():
    zone = {"slow.test": {"DELAY": 0.5, "A": ["127.0.0.1"]}}
    with DnsStub(zone) as stub, hub_with(stub, smtpd_sender_restrictions="reject_unknown_sender_domain",
                                         smtpd_recipient_restrictions="sleep 30") as hub:
        a, b = hub.client(), hub.client()
        a.cmd("MAIL FROM:<a@slow.test>", 250)
        b.cmd("MAIL FROM:<a@example.com>", 250)
        a.raw(b"RCPT TO:<user@example.com>\r\n")
        b.raw(b"RCPT TO:<user@example.com>\r\n")
        time.sleep(0.1)
        hub.stop()


def test_sleep():
    with DnsStub({}) as stub, hub_with(stub, smtpd_recipient_restrictions="sleep 1") as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@ok.test>", 250)
        begin = time.monotonic()
        c.cmd("RCPT TO:<user@example.com>", 250)
        assert time.monotonic() - begin > 0.9


if __name__ == "__main__":
    cases.main(globals())
