#!/usr/bin/env python3
"""Parameters of the SMTP and LMTP clients, under both names: each is changed once and seen to work."""
import os
import re
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from dnsstub import DnsStub
from hub import MASTER, Hub, wait_for
from sink import HANG, Sink

MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nhi\r\n"
KEEP = {"smtp_connection_cache_destinations": "127.0.0.1", "lmtp_connection_cache_destinations": "127.0.0.1",
        "default_destination_concurrency_limit": "1", "initial_destination_concurrency": "1"}
PROTOCOLS = [("smtp", False), ("lmtp:inet", True)]


def send(hub, *rcpts, sender="user@example.com", rcpt_args=""):
    with hub.client() as c:
        qid = c.send_mail(sender, rcpts or ["u@r.example"], MAIL, rcpt_args=rcpt_args)
        c.quit()
    return qid


def result(hub, qid):
    """status and reason of the first attempt"""
    return hub.wait_log(rf"{qid}: to=<\S+>, .*dsn=\S+, status=(\w+) \((.*)\)$")[0]


def each(main, host="127.0.0.1"):
    """A next hop and a hub for either protocol."""
    for scheme, lmtp in PROTOCOLS:
        at = f"[{host}]"
        with Sink(lmtp=lmtp, host=host) as sink, Hub({"inet_protocols": "all", **main},
                                                     routes={"r.example": f"{scheme}:{at}:{sink.port}"}) as hub:
            yield hub, sink


def test_bind_address():
    for hub, sink in each({"smtp_bind_address": "127.0.0.7", "lmtp_bind_address": "127.0.0.7"}):
        sink.on["MAIL"] = lambda s, a: "450 " + s.sock.getpeername()[0]
        assert "said: 450 127.0.0.7" in result(hub, send(hub))[1]


def test_bind_address6_and_enforce():
    if not os.path.exists("/proc/net/if_inet6"):
        raise cases.Skip("no IPv6 here")
    not_ours = {"smtp_bind_address6": "2001:db8::7", "lmtp_bind_address6": "2001:db8::7"}
    for hub, sink in each(not_ours, host="::1"):
        assert result(hub, send(hub))[0] == "sent"
        hub.wait_log(r"warning: cannot bind.*2001:db8::7")
    for hub, sink in each({**not_ours, "smtp_bind_address_enforce": "yes", "lmtp_bind_address_enforce": "yes"}, host="::1"):
        status, reason = result(hub, send(hub))
        assert status == "deferred" and "cannot bind" in reason and not sink.sessions, reason


def test_connect_timeout():
    """A port whose queue of connections is full does not answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = []
        for _ in range(3):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", port))
            waiting.append(s)
        for scheme, _ in PROTOCOLS:
            with Hub({"smtp_connect_timeout": "1s", "lmtp_connect_timeout": "1s"}, routes={
                    "r.example": f"{scheme}:[127.0.0.1]:{port}"}) as hub:
                begin = time.monotonic()
                status, reason = result(hub, send(hub))
                assert status == "deferred" and "timed out" in reason, reason
                assert 0.9 <= time.monotonic() - begin < 6
        for s in waiting:
            s.close()


def test_tcp_port():
    for scheme, lmtp in PROTOCOLS:
        with Sink(lmtp=lmtp) as sink, Hub({"smtp_tcp_port": sink.port, "lmtp_tcp_port": sink.port},
                                          routes={"r.example": f"{scheme}:[127.0.0.1]"}) as hub:
            assert result(hub, send(hub))[0] == "sent"


def test_fallback_relay():
    with Sink() as dead:
        port = dead.port
    for scheme, lmtp in PROTOCOLS:
        with Sink(lmtp=lmtp) as sink, Hub({"smtp_fallback_relay": f"[127.0.0.1]:{sink.port}",
                                           "lmtp_fallback_relay": f"[127.0.0.1]:{sink.port}"},
                                          routes={"r.example": f"{scheme}:[127.0.0.1]:{port}"}) as hub:
            assert result(hub, send(hub))[0] == "sent" and sink.mails


def connections_of(hub, sink, pause):
    for i in range(3):
        qid = send(hub)
        hub.wait_log(rf"{qid}: removed")
        time.sleep(pause)  # what this is about is the passing of time
    return len(sink.sessions)


def test_how_long_connections_are_kept():
    for hub, sink in each({**KEEP, "smtp_connection_cache_time_limit": "60s", "lmtp_connection_cache_time_limit": "60s"}):
        assert connections_of(hub, sink, 0.3) == 1
    for hub, sink in each({**KEEP, "smtp_connection_cache_time_limit": "0s", "lmtp_connection_cache_time_limit": "0s"}):
        assert connections_of(hub, sink, 0) == 3
    for hub, sink in each({**KEEP, "smtp_connection_cache_time_limit": "60s", "lmtp_connection_cache_time_limit": "60s",
                           "smtp_connection_reuse_time_limit": "0s", "lmtp_connection_reuse_time_limit": "0s"}):
        assert connections_of(hub, sink, 0) == 3


def test_connections_kept_on_demand():
    """What is kept although no list names the destination: the second connection within the time limit."""
    once = {"default_destination_concurrency_limit": "1", "initial_destination_concurrency": "1",
            "smtp_connection_cache_time_limit": "60s", "lmtp_connection_cache_time_limit": "60s"}
    for hub, sink in each({**once, "smtp_connection_cache_on_demand": "yes", "lmtp_connection_cache_on_demand": "yes"}):
        assert connections_of(hub, sink, 0) == 2
    for hub, sink in each({**once, "smtp_connection_cache_on_demand": "no", "lmtp_connection_cache_on_demand": "no"}):
        assert connections_of(hub, sink, 0) == 3


def test_rset_timeout():
    """A kept connection that does not answer RSET is given up for a new one."""
    for hub, sink in each({**KEEP, "smtp_connection_cache_time_limit": "60s", "lmtp_connection_cache_time_limit": "60s",
                           "smtp_rset_timeout": "1s", "lmtp_rset_timeout": "1s"}):
        sink.on["RSET"] = lambda s, a: HANG
        sink.on["RCPT"] = lambda s, a: "450 4.2.1 later" if "bad@" in a else None
        assert result(hub, send(hub, "bad@r.example"))[0] == "deferred"  # leaves a transaction open
        send(hub)
        wait_for("the second", lambda: len(sink.mails) == 1, 8)
        assert len(sink.sessions) == 2 and "RSET" in sink.sessions[0].commands


def test_assume_final():
    """Success reported by a server that does not know DSN: the last stop, or not."""
    for setting, action in (("no", b"relayed"), ("yes", b"delivered")):
        with Sink(lmtp=True, keywords=["PIPELINING"]) as sink, Hub({"lmtp_assume_final": setting}, routes={
                "r.example": f"lmtp:inet:[127.0.0.1]:{sink.port}"}) as hub:
            send(hub, rcpt_args=" NOTIFY=SUCCESS")
            report = hub.wait_mails(1)[0]
            assert b"\nAction: " + action + b"\n" in report, report


def test_pix_workarounds():
    for hub, sink in each({"smtp_pix_workaround_threshold_time": "0s", "lmtp_pix_workaround_threshold_time": "0s",
                           "smtp_pix_workaround_delay_time": "1s", "lmtp_pix_workaround_delay_time": "1s",
                           "smtp_pix_workarounds": "delay_dotcrlf", "lmtp_pix_workarounds": "delay_dotcrlf",
                           "smtp_pix_workaround_maps": "inline:{ 192.0.2.1=none }", "lmtp_pix_workaround_maps": "inline:{ 192.0.2.1=none }"}):
        sink.on["CONNECT"] = lambda s, a: "220 ********2*****0*****"
        begin = time.monotonic()
        assert result(hub, send(hub))[0] == "sent"
        assert 0.95 <= time.monotonic() - begin < 9.5  # the default is ten seconds
        hub.wait_log(r"enabling PIX workarounds: delay_dotcrlf for 127\.0\.0\.1\[127\.0\.0\.1\]")
    for setting in ({"smtp_pix_workaround_maps": "inline:{ 127.0.0.1=none }", "lmtp_pix_workaround_maps": "inline:{ 127.0.0.1=none }",
                     "smtp_pix_workaround_threshold_time": "0s", "lmtp_pix_workaround_threshold_time": "0s"}, {}):
        for hub, sink in each(setting):
            sink.on["CONNECT"] = lambda s, a: "220 ********2*****0*****"
            assert result(hub, send(hub))[0] == "sent"
            assert "workarounds: d" not in hub.log()


def test_deadline_of_a_whole_message():
    """A peer that takes a byte now and then keeps each write alive, but not the deadline."""
    ways = {"lenient": ("no", "100000000", "sent"), "strict": ("yes", "100000000", "deferred"), "patient": ("yes", "10000", "sent")}
    names = {"smtp": ("smtp_per_request_deadline", "smtp_min_data_rate", "smtp_data_xfer_timeout"),
             "lmtp": ("lmtp_per_request_deadline", "lmtp_min_data_rate", "lmtp_data_xfer_timeout")}
    master = MASTER + "".join(
        f"{way}-{p} unix - - n - - {p} -o {on}={deadline} -o {least}={rate} -o {limit}=1s\n"
        for way, (deadline, rate, _) in ways.items() for p, (on, least, limit) in names.items())
    with Sink() as server, Sink(lmtp=True) as store:
        routes = {f"{way}-{p}.example": f"{way}-{p}:{at}" for way in ways for p, at in
                  (("smtp", f"[127.0.0.1]:{server.port}"), ("lmtp", f"inet:[127.0.0.1]:{store.port}"))}
        server.on["DATA"] = store.on["DATA"] = lambda s, a: slow_down(s)
        with Hub(master=master, routes=routes) as hub, hub.client() as c:
            body = b"Subject: x\r\n\r\n" + (b"x" * 998 + b"\r\n") * 6000
            qids = {domain: c.send_mail("user@example.com", [f"u@{domain}"], body) for domain in routes}
            for domain, qid in qids.items():
                assert result(hub, qid)[0] == ways[domain.split("-")[0]][2], domain


def slow_down(session):
    """From here on about a megabyte a second."""
    session.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    plain = type(session).recv

    def recv():
        time.sleep(0.05)
        plain(session)
    session.recv = recv


def test_source_address_of_a_virtual_host():
    """inet_interfaces that names one address: mail comes from there. It is none of this machine here, so binding fails."""
    only = {"inet_interfaces": "192.0.2.7"}
    for main, tried in ((only, "192.0.2.7"), ({"inet_interfaces": "192.0.2.7, 127.0.0.1"}, None), ({"inet_interfaces": "127.0.0.1"}, None),
                        ({**only, "smtp_bind_address": "127.0.0.7", "lmtp_bind_address": "127.0.0.7"}, None),
                        ({**only, "smtp_bind_address_enforce": "yes", "lmtp_bind_address_enforce": "yes"}, "192.0.2.7")):
        for hub, sink in each(main):
            assert result(hub, send(hub))[0] == "sent"
            assert ("cannot bind" in hub.log()) == (tried is not None), hub.log()
            if tried:
                hub.wait_log(rf"warning: cannot bind.*{tried}")
    if os.path.exists("/proc/net/if_inet6"):
        for hub, sink in each({"inet_interfaces": "127.0.0.1, 2001:db8::7"}, host="::1"):
            assert result(hub, send(hub))[0] == "sent"
            hub.wait_log(r"warning: cannot bind.*2001:db8::7")


def said(hub, mark, prog, peer, text):
    return len(re.findall(rf"{prog}\[\d+\]: {mark} {re.escape(peer)}: {text}", hub.log()))


def test_debug_peers():
    """What is said to and by a peer in debug_peer_list is logged: a client by name or address, a server also by next hop."""
    zone = {"r.example": {"MX": [(10, "mx.r2.example")]}, "mx.r2.example": {"A": ["127.0.0.1"]}}
    with Sink() as sink, DnsStub(zone) as stub:
        server = f"mx.r2.example[127.0.0.1]:{sink.port}"
        for peers, level, from_client, to_server in (
                ("127.0.0.0/8", None, 1, 1), ("127.0.0.0/8", "1", 1, 1), ("127.0.0.0/8", "0", 0, 0), (None, None, 0, 0),
                ("localhost", None, 1, 0), ("r.example", None, 0, 1), ("r2.example", None, 0, 1)):
            with Hub({"disable_dns_lookups": "no", "dns_resolver_addresses": stub.address, "smtpd_peername_lookup": "yes",
                      "debug_peer_list": peers, "debug_peer_level": level}, routes={"r.example": f"smtp:r.example:{sink.port}"}) as hub:
                assert result(hub, send(hub))[0] == "sent"
                hub.wait_log("disconnect from")
                who = "localhost[127.0.0.1]"
                for mark, text in (("<", r"MAIL FROM:<user@example\.com>"), (">", r"250 2\.1\.0 Ok"), (">", "220 hub")):
                    assert said(hub, mark, "smtpd", who, text) == from_client, (peers, level, mark, text, hub.log())
                for mark, text in ((">", r"MAIL FROM:<user@example\.com>"), ("<", r"250 2\.1\.0 Ok"), ("<", "220 sink")):
                    assert said(hub, mark, "(?:smtp|relay)", server, text) == to_server, (peers, level, mark, text, hub.log())
                assert said(hub, "=", "smtpd", who, r"\[\d+ bytes of content") == (from_client and level is None), (level, hub.log())
                assert not re.search(r"[<>] .*: (hi|Subject: s)", hub.log())


def test_debug_peers_over_a_kept_connection():
    for hub, sink in each({**KEEP, "smtp_connection_cache_time_limit": "60s", "lmtp_connection_cache_time_limit": "60s",
                           "debug_peer_list": "127.0.0.1"}):
        for _ in range(2):
            hub.wait_log(rf"{send(hub)}: removed")
        assert len(sink.sessions) == 1
        assert said(hub, ">", "l?s?mtp", f"127.0.0.1[127.0.0.1]:{sink.port}", r"MAIL FROM:<user@example\.com>") == 2, hub.log()
        assert said(hub, "=", "l?s?mtp", f"127.0.0.1[127.0.0.1]:{sink.port}", r"\[connection kept with") == 1, hub.log()


def test_dns_resolver_options():
    """A short host name, completed as resolver(5) does it."""
    with Sink() as sink, Sink(lmtp=True) as store:
        zone = {"near.sub.example": {"A": ["127.0.0.1"]}, "far.example": {"A": ["127.0.0.1"]}}
        with DnsStub(zone) as stub:
            for options, sent in (("", []), ("res_defnames", ["near"]), ("res_dnsrch", ["near", "far"])):
                routes = {f"{name}-{scheme}.example": f"{scheme}{inet}:[{name}]:{port}" for name in ("near", "far")
                          for scheme, inet, port in (("smtp", "", sink.port), ("lmtp", ":inet", store.port))}
                with Hub({"disable_dns_lookups": "no", "dns_resolver_addresses": stub.address,
                          "smtp_dns_resolver_options": options, "lmtp_dns_resolver_options": options}, routes=routes,
                         env={"LOCALDOMAIN": "sub.example example"}) as hub:
                    for domain in routes:
                        want = "sent" if domain.split("-")[0] in sent else "bounced"
                        assert result(hub, send(hub, f"u@{domain}"))[0] == want, (options, domain)


def test_cname_overrides_servername():
    """The name of the server in the log: as it was asked for, or where the CNAME leads."""
    zone = {"alias.example": {"CNAME": "host.example"}, "host.example": {"A": ["127.0.0.1"]}}
    master = MASTER + "".join(f"{way}-{name[:4]} unix - - n - - {name[:4]} -o {name}={way}\n" for way in ("yes", "no")
                              for name in ("smtp_cname_overrides_servername", "lmtp_cname_overrides_servername"))
    with Sink() as server, Sink(lmtp=True) as store, DnsStub(zone) as stub:
        routes = {f"{way}-{p}.example": f"{way}-{p}:{at}" for way in ("yes", "no") for p, at in
                  (("smtp", f"[alias.example]:{server.port}"), ("lmtp", f"inet:[alias.example]:{store.port}"))}
        with Hub({"disable_dns_lookups": "no", "dns_resolver_addresses": stub.address}, master=master, routes=routes) as hub:
            for domain in routes:
                name = "host" if domain.startswith("yes") else "alias"
                hub.wait_log(rf"{send(hub, f'u@{domain}')}: to=<u@{domain}>, relay={name}\.example\[127\.0\.0\.1\]:\d+, .*status=sent")


if __name__ == "__main__":
    cases.main(globals())
