#!/usr/bin/env python3
"""What surrounds the daemon goes wrong: the clock jumps, no more threads, dead resolvers, next hops that fail in the middle,
reloads and restarts under load."""
import contextlib
import errno
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "faults"))
import cases
from client import Client
from faults import FaultHub, Shim, uses_sanitizer
from hub import MASTER, Hub, wait_for
from sink import CLOSE, HANG, Sink

MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nhi\r\n"
HOUR, DAY, YEAR = 3600, 86400, 365 * 86400
QUICK = {"minimal_backoff_time": "1s", "maximal_backoff_time": "1s", "queue_run_delay": "1s",
         "smtp_destination_concurrency_failed_cohort_limit": "1000"}


def numbered(n):
    return b"From: a@example.org\r\nX-Number: %d\r\n\r\nx\r\n" % n


def number(data):
    return int(re.search(rb"X-Number: (\d+)", data).group(1))


class FaultyWorld:
    """A FaultHub and its shim."""

    def __init__(self, main=None, start=True, **kw):
        self.dir = tempfile.TemporaryDirectory(prefix="posthouse-shim-")
        os.chmod(self.dir.name, 0o755)
        self.hub = FaultHub(Shim(self.dir.name), main=main, start=start, **kw)

    def __enter__(self):
        return self.hub.__enter__()

    def __exit__(self, *exc):
        self.hub.__exit__(*exc)
        self.dir.cleanup()


# ---- the clock ----

def test_the_clock_jumps():
    """Hours and years, both ways: queue IDs stay unique, retries go on, nothing is returned because of the jump."""
    with Sink() as sink:
        refuse = threading.Event()
        refuse.set()
        sink.on["RCPT"] = lambda s, a: "450 4.2.1 later" if refuse.is_set() else None
        with FaultyWorld(dict(QUICK, maximal_queue_lifetime="5d", bounce_queue_lifetime="5d", delay_warning_time="4h",
                              index_flush_interval="100ms"),
                         routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
            ids, n = [], 0
            for shift in (0, HOUR, -3 * HOUR, 8 * DAY, -8 * DAY, 3 * YEAR, -2 * YEAR, 0):
                hub.block.clock(shift)
                time.sleep(0.3)  # the scheduler may notice, or the message may be first: both are right
                n += 1
                with hub.client() as c:
                    ids.append(c.send_mail("user@example.com", ["x@r.example"], numbered(n)))
                hub.wait_log(rf"{ids[-1]}: to=<x@r.example>.*status=deferred")
                tries = len(re.findall(r"status=deferred", hub.log()))
                wait_for("retries at this time", lambda t=tries: len(re.findall(r"status=deferred", hub.log())) > t)
            assert len(set(ids)) == len(ids)
            refuse.clear()
            wait_for("delivery of all", lambda: len(sink.mails) == n, 20)
            assert sorted(number(m["data"]) for m in sink.mails) == list(range(1, n + 1))
            assert not re.search(r"status=(expired|bounced)", hub.log())
            assert hub.mails() == [], "nobody is told that mail was returned or is late"
            wait_for("an empty queue", lambda: not hub.queue())


def test_a_start_after_the_clock_was_set_back():
    """What was queued in the future is tried, and new messages get new numbers."""
    with Sink() as sink:
        dead = sink.port
    with FaultyWorld(dict(QUICK, maximal_backoff_time="4000s", minimal_backoff_time="300s"),
                     routes={"r.example": f"smtp:[127.0.0.1]:{dead}"}) as hub:
        hub.block.clock(YEAR)
        with hub.client() as c:
            ids = [c.send_mail("user@example.com", ["x@r.example"], numbered(n)) for n in range(1, 4)]
        wait_for("deferrals", lambda: len(re.findall("status=deferred", hub.log())) >= 3)
        hub.stop()
        hub.block.clock(0)
        with Sink() as sink:
            hub.route({"r.example": f"smtp:[127.0.0.1]:{sink.port}"})
            hub.write_conf()
            hub.start()
            with hub.client() as c:
                new = [c.send_mail("user@example.com", ["x@r.example"], numbered(n)) for n in range(4, 7)]
            assert not set(ids) & set(new)
            wait_for("all", lambda: sorted(number(m["data"]) for m in sink.mails) == [1, 2, 3, 4, 5, 6])
        assert hub.mails() == []


# ---- threads ----

def test_no_more_threads():
    """Those that run do the work; it is logged; a control client is told."""
    with Sink() as sink, FaultyWorld({"error_notice_recipient": "other@example.com"},
                                     routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        with hub.client() as c:
            c.send_mail("user@example.com", ["x@r.example", "user@example.com"], numbered(0))
        wait_for("the first", lambda: sink.mails)
        hub.block.order("thread", "ON", errno.EAGAIN, n=1)
        clients = [hub.client() for _ in range(20)]
        for n, c in enumerate(clients, 1):
            c.send_mail("user@example.com", ["x@r.example", "user@example.com"], numbered(n))
            c.close()
        wait_for("all of it", lambda: len(sink.mails) == 21 and len(hub.mails()) == 21)
        hub.wait_log(r"error: cannot start a \w+ thread \(\d+ running\): Resource temporarily unavailable")
        assert hub.ctl("queue", "list", check=False).returncode != 0
        hub.block.heal()
        wait_for("the queue to be seen", lambda: hub.ctl("queue", "list", check=False).returncode == 0)


# ---- memory ----

def test_no_memory_for_an_answer():
    """Each allocation of the answer to a control client fails in turn: the client never waits for a line that does not come, and
    is never told that all is well without it."""
    if uses_sanitizer():
        raise cases.Skip("a sanitizer has its own allocator")
    with FaultyWorld() as hub:
        hub.block.order("alloc", "NOTE")
        hub.ctl("queue", "flush")
        ways = [way for way, (_, at) in hub.block.ways().items() if any(a.startswith("libjansson") for a in at)]
        assert len(ways) > 5, ways
        for way in ways:
            if hub.proc is None:
                hub.start()
            hub.block.order("alloc", "STACK", errno.ENOMEM, way=way)
            r = hub.ctl("queue", "flush", check=False)
            if hub.block.hit_count("alloc") == 0:
                continue
            assert r.returncode != 0, (hub.block.hits(), r.stdout)
            status = hub.proc.wait(timeout=30)
            hub.proc = None
            assert status == -signal.SIGABRT and "out of memory" in hub.log(), (hub.block.hits(), status, hub.errors())
        assert hub.block.hits(), "nothing failed"
        hub.block.heal()
        if hub.proc is None:
            hub.start()
        hub.ctl("queue", "flush")


def ask_as_refused(hub):
    """The codes of the replies to two RCPTs that tables refuse; those before the connection ended."""
    codes = []
    with contextlib.suppress(ConnectionError, EOFError), hub.client(timeout=30) as c:
        c.cmd("EHLO client.example.org", 250)
        c.cmd("MAIL FROM:<user@example.com>", 250)
        for who in ("user", "other"):
            codes.append(c.cmd(f"RCPT TO:<{who}@example.com>").code)
    return codes


def test_no_memory_opens_no_door():
    """A library that looks for a pattern has no memory: the recipient is refused for now, it is never let in."""
    if uses_sanitizer():
        raise cases.Skip("a sanitizer has its own allocator")
    with FaultyWorld(start=False) as hub:
        (hub.dir / "etc" / "regexp").write_text("/^user@/ REJECT no\n")
        (hub.dir / "etc" / "pcre").write_text("/^other@/ REJECT no\n")
        hub.main["smtpd_recipient_restrictions"] = ", ".join(f"check_recipient_access {t}:{hub.dir}/etc/{t}" for t in ("regexp", "pcre"))
        hub.write_conf()
        hub.start()
        assert ask_as_refused(hub) == [554, 554]  # what is made at first use is there
        failed = set()
        for _ in range(20):  # a way is told by all that led to it: it need not come again
            hub.block.order("alloc", "NOTE")
            assert ask_as_refused(hub) == [554, 554]
            for way, (_, at) in hub.block.ways().items():
                if not at or not at[0].startswith("lib"):
                    continue
                hub.block.order("alloc", "STACK", errno.ENOMEM, way=way)
                codes, hits = ask_as_refused(hub), hub.block.hit_count("alloc")
                assert sorted(codes) == [451, 554] if hits == 1 else codes == [554, 554] and hits == 0, (hits, codes, hub.block.hits())
                if hits == 1:
                    failed.add(at[0].split("+")[0])
            if len(failed) >= 2:
                break
        assert len(failed) >= 2, failed  # that of regexec() and that of pcre2
        hub.block.heal()
        assert ask_as_refused(hub) == [554, 554]


def cpu_seconds(hub):
    fields = open(f"/proc/{hub.proc.pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_no_descriptor_for_a_connection():
    """accept() fails for a while: no loop, no loss; then clients are served."""
    with FaultyWorld() as hub:
        hub.block.order("descriptor", "ON", errno.EMFILE, n=1)
        waiting = [hub.client(greet=False) for _ in range(5)]
        hub.wait_log(r"warning: accept: Too many open files")
        before, calls = cpu_seconds(hub), hub.block.count("descriptor")
        time.sleep(1)  # what it costs to wait is what this is about
        assert cpu_seconds(hub) - before < 0.25
        assert hub.block.count("descriptor") - calls < 10
        hub.block.heal()
        for c in waiting:
            assert c.reply().code == 220
            c.close()


# ---- name servers ----

def test_dead_resolvers_hold_up_no_stop():
    """Clients wait for their PTR, deliveries for their MX, and nobody answers: SIGTERM is obeyed at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{hole.getsockname()[1]}"
        with Hub({"dns_resolver_addresses": where, "dns_timeout": "30s", "disable_dns_lookups": "no", "smtpd_peername_lookup": "yes",
                  "relay_domains": "r.example", "smtp_host_lookup": "dns"}) as hub:
            qids = []
            for n in range(3):
                hub.sendmail("-f", "user@example.com", f"x{n}@r.example", stdin=MAIL)
            clients = [hub.client(greet=False) for _ in range(5)]
            wait_for("questions", lambda: hole.recvfrom(512)[0])
            begin = time.monotonic()
            hub.stop()
            took = time.monotonic() - begin
            assert took < 4, f"the stop took {took:.1f} s"
            for c in clients:
                c.close()
            assert len(hub.queue()) == 3, qids


# ---- next hops ----

def test_a_next_hop_that_ends_in_the_middle():
    """In the data, in a reply, at QUIT: deferred and repeated where nothing was promised, sent where the 250 came."""
    quick = {f"smtp_{n}_timeout": "1s" for n in ("helo", "mail", "rcpt", "data_init", "data_xfer", "quit", "connect")}
    with Sink() as sink, Hub(dict(QUICK, **quick), routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        seen = []

        def cut_data(session, _arg):
            if len(seen) >= 2:
                return None
            seen.append(session)
            session.say("354 go ahead")
            session.sock.recv(1000)  # some of it
            if len(seen) == 2:
                sink.stopping.wait(3)  # and then it sleeps: the buffers fill, the client gives up
            return CLOSE
        sink.on["DATA"] = cut_data
        with hub.client() as c:
            qid = c.send_mail("user@example.com", ["x@r.example"], MAIL + (b"y" * 70 + b"\r\n") * 125_000)  # more than a socket's buffers take
        hub.wait_log(rf"{qid}: .*dsn=4\.4\.2, status=deferred \((lost connection|conversation) with .* while sending message body", 1)
        wait_for("the third try", lambda: len(sink.mails) == 1, 60)
        sink.on = {"END": lambda s, m: CLOSE if s.sock.sendall(b"250-half a re") else None}
        for stage, hook in (("QUIT", lambda s, a: CLOSE), ("QUIT", lambda s, a: HANG)):
            sink.on = {stage: hook}
            before = len(sink.mails)
            with hub.client() as c:
                qid = c.send_mail("user@example.com", ["x@r.example"], MAIL)
            hub.wait_log(rf"{qid}: .*status=sent")
            assert len(sink.mails) == before + 1
        wait_for("an empty queue", lambda: not hub.queue())
        assert hub.mails() == []


def test_a_greeting_that_never_ends():
    """A next hop that drips bytes is given up in the time that one command has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip():
            try:
                sock, _ = server.accept()
                with sock:
                    while not over.wait(0.1):
                        sock.sendall(b"220-still here\r\n")
            except OSError:
                pass
        threading.Thread(target=drip, daemon=True).start()
        with Hub(dict(QUICK, smtp_connect_timeout="2s", smtp_helo_timeout="2s", smtp_per_request_deadline="yes",
                      minimal_backoff_time="300s", maximal_backoff_time="300s"),
                 routes={"r.example": f"smtp:[127.0.0.1]:{server.getsockname()[1]}"}) as hub:
            with hub.client() as c:
                qid = c.send_mail("user@example.com", ["x@r.example"], MAIL)
            hub.wait_log(rf"{qid}: .*status=deferred", 1, 20)
        over.set()


# ---- reload and restart under load ----

class Load:
    """Clients that count what is answered 250, and how long nobody answered."""

    def __init__(self, hub, clients=4, rcpt="x@r.example"):
        self.hub, self.rcpt = hub, rcpt
        self.lock, self.over = threading.Lock(), threading.Event()
        self.n, self.accepted, self.broken, self.times = 0, [], [], []
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def run(self):
        while not self.over.is_set():
            try:
                with Client("127.0.0.1", self.hub.port, timeout=20) as c:
                    for _ in range(10):
                        with self.lock:
                            self.n += 1
                            n = self.n
                        c.send_mail("user@example.com", [self.rcpt], numbered(n))
                        with self.lock:
                            self.accepted.append(n)
                            self.times.append(time.monotonic())
                    c.quit()
            except (OSError, EOFError, AssertionError, ValueError) as e:
                self.broken.append(repr(e))
                self.over.wait(0.01)

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(30)


def test_reload_under_load_with_good_and_broken_files():
    with Sink() as sink, Hub({"smtpd_client_connection_count_limit": "0"}, routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        load = Load(hub)
        good = dict(hub.main)
        for i in range(12):
            broken = i % 3 == 2
            hub.main = dict(good, smtpd_banner=f"number {i}")
            hub.master = MASTER
            if broken and i % 2:
                hub.main["message_size_limit"] = "lots"
            elif broken:
                hub.master = MASTER + "half a line\n"
            hub.write_conf()
            before = len(load.accepted)
            text = hub.reload()
            assert ("reload failed" in text) == broken, (i, text)
            wait_for("mail to be accepted", lambda b=before: len(load.accepted) > b + 10)
        load.stop()
        assert not load.broken, load.broken[:3]
        wait_for("all of it", lambda: len(sink.mails) >= len(load.accepted))
        assert sorted(number(m["data"]) for m in sink.mails) == sorted(load.accepted)


def test_restart_under_load():
    """What `systemctl restart` does, for instance with a new binary: nothing accepted is lost or repeated, refusals are short."""
    with Sink() as sink, Hub({"smtpd_client_connection_count_limit": "0"}, routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        hub.stop()
        hub.master = MASTER.replace("127.0.0.1:0 ", f"127.0.0.1:{port} ")
        hub.write_conf()
        hub.start()
        load = Load(hub)
        gaps = []
        for _ in range(3):
            before = len(load.accepted)
            wait_for("some load", lambda b=before: len(load.accepted) > b + 50)
            begin = time.monotonic()
            hub.proc.send_signal(signal.SIGTERM)
            assert hub.proc.wait(30) == 0
            hub.proc = None
            hub.start()
            wait_for("mail to be accepted again", lambda t=begin: load.times[-1] > t)
            gaps.append(next(t for t in reversed(load.times)) - begin)
        load.stop()
        wait_for("an empty queue", lambda: not hub.queue())
        got = sorted(number(m["data"]) for m in sink.mails)
        assert len(got) == len(set(got)), "delivered twice"
        assert set(load.accepted) <= set(got), "lost"
        assert max(gaps) < 10, gaps
        assert all(re.search("EOFError|Connection|421|Reset|Broken pipe", b) for b in load.broken), load.broken[:5]


if __name__ == "__main__":
    cases.main(globals())
