#!/usr/bin/env python3
"""smtpd_upstream_proxy_protocol: the PROXY protocol of HAProxy, versions 1 and 2."""
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 2525\r\n"
MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nhi\r\n"


def v2(command=0x21, family=0x11, addresses=None, tlvs=b"", src="192.0.2.1"):
    if addresses is None:
        kind = socket.AF_INET if family == 0x11 else socket.AF_INET6
        dst = "192.0.2.2" if family == 0x11 else "2001:db8::2"
        addresses = socket.inet_pton(kind, src) + socket.inet_pton(kind, dst) + struct.pack("!HH", 1234, 2525)
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses) + len(tlvs)) + addresses + tlvs


def hub_for(main=None):
    return Hub(dict({"smtpd_upstream_proxy_protocol": "haproxy", "inet_protocols": "ipv4, ipv6", "mynetworks": "10.0.0.0/8",
                     "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination"}, **(main or {})))


def opened(hub, header, pause_s=0):
    c = hub.client(greet=False)
    for piece in [header] if pause_s == 0 else [bytes([b]) for b in header]:
        c.raw(piece)
        time.sleep(pause_s)
    return c


def expect(hub, header, code, **kw):
    with opened(hub, header, **kw) as c:
        r = c.reply()
        assert r.code == code, f"{header[:60]!r}: {r}, expected {code}"
        if code == 421:
            assert r.text == "4.3.0 hub.example.net Server local error" and c.is_closed(), r
        return r


def test_client_is_the_one_that_is_named():
    with hub_for({"smtpd_client_port_logging": "yes"}) as hub:
        with opened(hub, V1) as c:
            assert c.reply().code == 220
            c.cmd("EHLO client.example", 250)
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<x@far.example>", 554)
            c.cmd("RSET", 250)
            c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_log(r"connect from unknown\[192\.0\.2\.1\]:1234$")
        assert b"(unknown [192.0.2.1])" in hub.wait_mails(1)[0]
        with opened(hub, v2(family=0x21, src="2001:db8::1")) as c:
            assert c.reply().code == 220
        hub.wait_log(r"connect from unknown\[2001:db8::1\]:1234$")
        with opened(hub, b"PROXY TCP4 10.1.2.3 192.0.2.2 1234 2525\r\n") as c:
            assert c.reply().code == 220
            c.cmd("EHLO client.example", 250)
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<x@far.example>", 250)


def test_restrictions_at_connect_see_the_client():
    with hub_for({"smtpd_delay_reject": "no", "smtpd_client_restrictions": "check_client_access inline:{192.0.2.1=REJECT}"}) as hub:
        expect(hub, V1, 554)
        expect(hub, v2(), 554)
        expect(hub, v2(src="192.0.2.3"), 220)


def test_headers():
    """As Postfix 3.7, but that it wants all of a header in one packet, no more than 536 bytes of it, and permits 192.0.02.1."""
    with hub_for() as hub:
        for header, code in (
                (b"PROXY TCP6 2001:db8::1 2001:db8::2 1234 25\r\n", 220), (b"PROXY TCP4 192.0.2.1 192.0.2.2 0 25\r\n", 220),
                (b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 25\n", 220), (b"PROXY TCP4 192.0.02.1 192.0.2.2 1234 25\r\n", 421),
                (b"PROXY TCP4 192.0.2.1 192.0.2.2 01234 25\r\n", 421), (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 25\r\n", 421),
                (b"PROXY TCP4 2001:db8::1 192.0.2.2 1234 25\r\n", 421), (b"PROXY UNKNOWN\r\n", 421),
                (b"PROXY TCP4 192.0.2.1\r\n", 421), (b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n", 421), (b"EHLO x\r\n", 421),
                (b"\r\n\r\n\0\r\nQUIX", 421), (v2(0x20), 220), (v2(0x20, 0, b""), 220), (v2(0x31), 421), (v2(0x22), 421),
                (v2(family=0x12, addresses=b"a" * 12), 421), (v2(family=0x31, addresses=b"a" * 216), 421),
                (v2(addresses=b"a" * 8), 421), (v2(tlvs=b"\x04\0\x03abc"), 220), (v2(tlvs=b"\x04\xff\x03abc"), 220),
                (v2(tlvs=b"x" * 65000), 220)):
            expect(hub, header, code)
    with hub_for({"inet_protocols": "ipv4"}) as hub:
        expect(hub, v2(family=0x21, src="2001:db8::1"), 421)
        hub.wait_log("warning: haproxy read: inet_protocols")


def test_byte_by_byte():
    with hub_for() as hub:
        expect(hub, V1, 220, pause_s=0.002)
        expect(hub, v2(tlvs=b"\x04\0\x03abc"), 220, pause_s=0.002)


def test_time_limit_is_for_all_of_the_header():
    with hub_for({"smtpd_upstream_proxy_timeout": "1s"}) as hub:
        begin = time.monotonic()
        with opened(hub, b"") as c:
            assert c.reply().code == 421
        assert 0.9 < time.monotonic() - begin < 4.5  # the default is 5 s
        begin = time.monotonic()
        with opened(hub, b"PROX") as c:
            for byte in b"Y TCP":
                time.sleep(0.3)
                try:
                    c.raw(bytes([byte]))
                except OSError:
                    break
            assert c.reply().code == 421
        assert time.monotonic() - begin < 8
        hub.wait_log("warning: haproxy read: timeout error", count=2)


def test_lost_before_the_end():
    with hub_for() as hub:
        opened(hub, V1[:20]).close()
        hub.wait_log("haproxy read: the connection from unknown.* is lost")
        expect(hub, V1, 220)


def test_talk_behind_the_header_is_early():
    with hub_for({"smtpd_forbid_unauth_pipelining": "yes"}) as hub:
        expect(hub, V1 + b"EHLO x\r\n", 554)
        expect(hub, v2() + b"EHLO x\r\n", 554)
        hub.wait_log(r"improper command pipelining after CONNECT from unknown\[192\.0\.2\.1\]: EHLO x", count=2)


def test_trusted_networks():
    with hub_for({"proxy_protocol_trusted_networks": "192.0.2.0/24"}) as hub:
        expect(hub, V1, 421)
        hub.wait_log("not in proxy_protocol_trusted_networks")
    with hub_for({"proxy_protocol_trusted_networks": "127.0.0.0/8"}) as hub:
        expect(hub, V1, 220)


def test_probes():
    with hub_for({"proxy_protocol_probe_networks": "127.0.0.1"}) as hub:
        expect(hub, V1, 220)
        hub.wait_log(r"connect from unknown\[192\.0\.2\.1\]")
        expect(hub, b"PROXY UNKNOWN\r\n", 220)
        expect(hub, v2(family=0, addresses=b""), 220)
        with opened(hub, b"") as c:  # a check that waits for the banner
            assert c.reply().code == 220
            c.cmd("EHLO x", 250)
            c.cmd("QUIT", 221)
        hub.wait_log(r"connect from unknown\[127\.0\.0\.1\]", count=3)
        with opened(hub, b"PROXY TC") as c:
            assert c.reply().code == 421
    with hub_for({"proxy_protocol_probe_networks": "192.0.2.0/24", "smtpd_upstream_proxy_timeout": "1s"}) as hub:
        expect(hub, b"", 421)


def test_limits_count_the_client_not_the_proxy():
    with hub_for({"smtpd_client_connection_count_limit": "2", "smtpd_client_event_limit_exceptions": ""}) as hub:
        held = [opened(hub, f"PROXY TCP4 192.0.2.{i // 2} 192.0.2.99 1 25\r\n".encode()) for i in range(8)]
        assert [c.reply().code for c in held] == [220] * 8
        with opened(hub, b"PROXY TCP4 192.0.2.1 192.0.2.99 1 25\r\n") as c:
            assert c.reply().text == "4.7.0 hub.example.net Error: too many connections from 192.0.2.1"
        for c in held:
            c.close()


def test_only_that_listener():
    with hub_for({"smtpd_upstream_proxy_protocol": ""}) as hub, hub.client(helo=None) as c:
        c.cmd("PROXY TCP4 192.0.2.1 192.0.2.2 1234 25", 500)


if __name__ == "__main__":
    cases.main(globals())
