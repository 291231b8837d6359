#!/usr/bin/env python3
"""Hostile clients beside normal traffic.

One posthoused, a well-behaved client that sends a steady trickle of messages, a next hop that remembers them, and beside them
one attack after the other (attacks.py). After each: the process is the same one, every message of the well-behaved client
that was answered 250 is at the next hop exactly once and none was refused, memory stayed below what the parameters allow
and came back, descriptors and sessions came back. Limits that were reached are in the log with the parameter's name, at
most once a minute, and counted in `posthousectl status`.

The short form (./run-tests) has short limits and asserts no latency; POSTHOUSE_HOSTILE=long (make hostile) runs each attack for
half a minute, with the limits an administrator gets by default, and wants the 99th percentile of the well-behaved
client's transactions below a second.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
import cases
from dnsstub import DnsStub
from hub import BUILD, Hub, wait_for
from sink import Sink

LONG = os.environ.get("POSTHOUSE_HOSTILE") == "long"
SEED = os.environ.get("POSTHOUSE_SEED", "1")
MB = 1 << 20
BUDGET = 8 * MB if not LONG else 256 * MB   # spool_memory_limit
SESSION_BYTES = 4096                        # beside its content and its envelope, which are the budget's
FIXED_BYTES = 24 * MB                       # workers with 64 KiB in their hands, log ring, caches, the queue, malloc
LEFT_BYTES = 16 * MB                        # what may be left over the start when all attackers have gone
LEFT_FDS = 8 + 16                           # connections to the next hops; descriptors of flushes side by side, where the disk is slow
RATE = 40 if LONG else 20                   # messages a second of the well-behaved client
HANG_S = 60                                 # nothing here takes that long unless it hangs


def instrumented():
    """Sanitizers have their own ideas of memory."""
    with open(BUILD / "posthoused", "rb") as f:
        text = f.read()
    return b"__asan_init" in text or b"__tsan_init" in text


class Beside:
    """A program that runs beside an attack: the well-behaved client, or who measures the machine."""

    def __init__(self, name, *args):
        self.name = name
        self.proc = subprocess.Popen([sys.executable, str(HERE / name), *map(str, args)], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)

    def end(self):
        out, _ = self.proc.communicate(timeout=HANG_S * 2)
        assert self.proc.returncode == 0, f"{self.name}: status {self.proc.returncode}"
        return [json.loads(line) for line in out.splitlines()]


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))] if values else None


class World:
    """The daemon and its next hops, for several attacks in a row."""

    def __init__(self, main=None):
        self.good = Sink()
        self.seven = Sink(keywords=["PIPELINING", "SIZE 50000000", "ENHANCEDSTATUSCODES"])
        settings = {
            "mynetworks": "127.255.255.254/32",  # nobody is exempt from limits
            "spool_memory_limit": str(BUDGET),
            "maximal_queue_lifetime": "0",       # what comes back is not kept
            "smtpd_client_connection_count_limit": "50",
            "session_limit": "11500" if LONG else "3000",
        }
        if not LONG:  # so that a few seconds show what minutes would
            settings.update({"smtpd_timeout": "4s", "smtpd_error_sleep_time": "0"})
        settings.update(main or {})
        self.hub = Hub(settings, start=False, routes={
            "good.example": f"smtp:[127.0.0.1]:{self.good.port}", "seven.example": f"smtp:[127.0.0.1]:{self.seven.port}",
            "flood.example": "discard:thrown away",
            "evil.example.org": "discard:thrown away"})  # what comes back; the machine's resolver is not what this is about
        self.hub.start()
        self.pid = self.hub.proc.pid
        self.begin = time.monotonic()
        self.tokens = []
        self.measured = not instrumented()

    def __enter__(self):
        with self.hub.client() as c:  # once round, so that what is made at first use is there
            c.send_mail("a@example.org", ["first@good.example"], b"Subject: first\r\n\r\nx\r\n")
        wait_for("the first message", lambda: self.good.mails)
        self.settled()
        self.base = self.rss()
        self.base_fds = self.fds()
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.hub.close(failed=kind is not None)
        finally:
            self.good.close()
            self.seven.close()

    # ---- looking at the daemon ----
    def limits(self):
        return self.status()["limits_reached"]

    def check_limits(self, *names):
        """These limits were reached: they are counted, and in the log with their names, at most once a minute."""
        counted = self.limits()
        minutes = (time.monotonic() - self.begin) / 60
        for name in names:
            assert counted.get(name, 0) > 0, f"{name} is not among the limits that were reached: {counted}"
        for name in counted:
            lines = len(self.hub.wait_log(rf"\]: warning: {name}( \(\d+\))? reached: "))
            assert lines <= minutes + 1, f"{name} was reached {counted[name]} times, and that is in {lines} lines of the log"

    def rss(self):
        return int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def pss(self):
        text = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M)[1]) * 1024

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def status(self):
        return self.hub.request("status")[0]

    def is_alive(self):
        assert self.hub.proc.poll() is None, f"posthoused ended by itself with status {self.hub.proc.returncode}"
        return True

    def settled(self):
        def quiet():
            self.is_alive()
            s = self.status()
            return s["sessions"]["open"] == 0 and s["queue"]["active"] == 0 and s["queue"]["in_delivery"] == 0
        wait_for("sessions and deliveries to end", quiet, HANG_S)

    # ---- one attack ----
    def attack(self, name, seconds, size, sessions=None):
        """Runs it beside the trickle; returns what it reported. `sessions`: how many it can have open."""
        victim = Beside("trickle.py", self.hub.port, RATE)
        machine = Beside("machine.py", self.hub.dir) if LONG else None
        begin_refused = self.status()["sessions"]["refused"]
        peak = 0
        with subprocess.Popen([sys.executable, str(HERE / "attacks.py"), name, str(self.hub.port), str(seconds), str(size), SEED],
                              stdout=subprocess.PIPE, text=True) as proc:
            deadline = time.monotonic() + seconds + HANG_S
            while proc.poll() is None:
                self.is_alive()
                peak = max(peak, self.rss())
                if time.monotonic() > deadline:
                    proc.kill()
                    raise AssertionError(f"{name}: the attacker hangs")
                time.sleep(0.05)
            out = proc.stdout.read()
            assert proc.returncode == 0, f"attacks.py {name}: status {proc.returncode}"
        said = json.loads(out.splitlines()[-1])
        sent = victim.end()
        waits = machine.end() if machine else []
        self.is_alive()
        p99 = self.check_trickle(name, sent, waits)
        said.update(p99_ms=p99, machine_p99_ms=percentile([x["ms"] for x in waits], 99), rss_peak_mb=round(peak / MB, 1))
        self.check_memory(name, peak, sessions or size)
        self.check_descriptors(name)
        said["refused"] = self.status()["sessions"]["refused"] - begin_refused
        print(f"    {name}: {len(sent)} messages, 50 % {percentile([x['ms'] for x in sent], 50):.1f} ms, 99 % {p99:.1f} ms; memory "
              f"{self.base / MB:.1f} -> {peak / MB:.1f} -> {self.rss() / MB:.1f} MB; {json.dumps(said)}", flush=True)
        return said

    def check_trickle(self, name, sent, waits):
        assert sent, f"{name}: the well-behaved client sent nothing"
        failed = [x for x in sent if "why" in x]
        assert not failed, f"{name}: the well-behaved client was not served: {failed[:3]}, {len(failed)} of {len(sent)}"
        self.tokens += [x["token"] for x in sent]
        p99 = percentile([x["ms"] for x in sent], 99)
        if LONG:
            own = percentile([x["ms"] for x in waits], 99)
            assert p99 < max(1000, own), f"{name}: 99 % of the well-behaved client's transactions took {p99} ms, the machine's own are {own} ms"
        return p99

    def check_memory(self, name, peak, sessions):
        limit = self.base + BUDGET + sessions * SESSION_BYTES + FIXED_BYTES
        if not self.measured:
            return
        assert peak <= limit, f"{name}: {peak / MB:.0f} MB, the parameters allow {limit / MB:.0f} MB"
        self.settled()
        wait_for(f"{name}: memory to come back below {(self.base + LEFT_BYTES) / MB:.0f} MB",
                 lambda: self.rss() <= self.base + LEFT_BYTES, HANG_S)

    def check_descriptors(self, name):
        wait_for(f"{name}: descriptors to come back to {self.base_fds}", lambda: self.fds() <= self.base_fds + LEFT_FDS, HANG_S)
        wait_for(f"{name}: sessions to end", lambda: self.status()["sessions"]["open"] == 0, HANG_S)

    def check_arrivals(self):
        """Every message of the well-behaved client is at the next hop exactly once."""
        def arrived():
            return len(self.good.mails) > len(self.tokens)
        wait_for("all messages of the well-behaved client", arrived, HANG_S)
        self.settled()
        seen = [re.search(rb"^Subject: (\S+)", m["data"], re.M)[1].decode() for m in self.good.mails]
        seen.remove("first")
        assert sorted(seen) == sorted(self.tokens), (len(seen), len(set(seen)), len(self.tokens))


def test_attacks():
    failed = []
    with World() as w:
        for name, seconds, size in ATTACKS:
            try:
                w.attack(name, seconds, size, SESSIONS.get(name))
            except AssertionError as why:
                w.is_alive()
                print(f"    FAILED: {why}", flush=True)
                failed.append(str(why))
        w.check_arrivals()
        w.check_limits("smtpd_client_connection_count_limit", "smtpd_recipient_limit", "line_length_limit", "message_size_limit",
                       "smtpd_hard_error_limit", *([] if LONG else ["spool_memory_limit"]))
        assert not failed, "; ".join(failed)


def test_deadlines():
    """With smtpd_per_request_deadline nobody stays by sending a byte now and then; without it that is allowed."""
    seconds = 30 if LONG else 9
    with World({"smtpd_timeout": "2s", "smtpd_per_request_deadline": "yes"}) as w:
        said = w.attack("slow", seconds, 500)
        assert said.get("cut off") == 500, said
        w.check_arrivals()


def test_one_client_takes_only_its_share():
    """session_limit is larger than what one client may have: others get in, also while nobody answers for the client's name."""
    main = {"session_limit": "150", "smtpd_peername_lookup": "yes", "dns_timeout": "4s", "disable_dns_lookups": "no"}
    for lookups in ("answered", "unanswered"):
        zone = {"*.in-addr.arpa": "DROP" if lookups == "unanswered" else "NXDOMAIN"}
        with DnsStub(zone) as stub, World(dict(main, dns_resolver_addresses=stub.address)) as w:
            said = w.attack("hoard_one", 10 if LONG else 2, 400)
            assert said["connections"] > 150 and said["refused"] == 0, said
            w.check_arrivals()
            w.check_limits("smtpd_client_connection_count_limit")


def test_overload():
    """Nine tenths of session_limit in use: who comes now gets the settings for stress, who is there keeps what it has."""
    with World({"session_limit": "40", "smtpd_client_connection_count_limit": "0", "smtpd_timeout": None}) as w:
        early = [w.hub.client() for _ in range(37)]
        late = w.hub.client()
        late.cmd("BOGUS", 500)  # smtpd_hard_error_limit is 1 now
        late.ends_with(421)
        for i in range(3):
            early[0].cmd("BOGUS", 500)
        early[0].cmd("NOOP", 250)
        w.check_limits("stress")
        more = [w.hub.client() for _ in range(3)]
        with w.hub.client(greet=False) as c:  # no room at all
            assert c.ends_with(421).text == "4.3.2 All server ports are busy"
        w.check_limits("stress", "session_limit")
        for c in early + more:
            c.close()

        def welcome():
            with w.hub.client(greet=False) as c:
                return c.reply().code == 220
        wait_for("room for another session", welcome)


def test_ten_thousand_idle():
    """All greeted within 5 s, the daemon below 100 MB, and a newcomer's message accepted within 50 ms (long form)."""
    if not LONG:
        raise cases.Skip("only in the long form (make hostile)")
    with World({"session_limit": "11000"}) as w:
        with subprocess.Popen([sys.executable, str(HERE / "attacks.py"), "idle", str(w.hub.port), "30", "10000"],
                              stdout=subprocess.PIPE, text=True) as proc:
            greeted_s = json.loads(proc.stdout.readline())["greeted_s"]
            took = []
            for i in range(200):
                begin = time.monotonic()
                with w.hub.client() as c:
                    c.send_mail("well@behaved.example", ["someone@good.example"], f"Subject: n{i}\r\n\r\nx\r\n".encode())
                took.append((time.monotonic() - begin) * 1000)
                w.tokens.append(f"n{i}")
            rss, pss, fds = w.rss(), w.pss(), w.fds()
            said = json.loads(proc.stdout.read())
        print(f"    10,000 idle: greeted in {greeted_s:.2f} s, {said}; memory {rss / MB:.1f} MB (proportional {pss / MB:.1f}), {fds} "
              f"descriptors; 200 newcomers' messages: 50 % {percentile(took, 50):.1f} ms, 99 % {percentile(took, 99):.1f} ms, "
              f"longest {max(took):.1f} ms", flush=True)
        assert said["greeted"] == 10000 and greeted_s < 5, said
        assert not w.measured or rss < 100 * 1000 * 1000, rss
        assert percentile(took, 95) < 50, sorted(took)[-20:]
        w.check_descriptors("idle")
        w.check_arrivals()


#          attack, seconds and size of the short form
SHORT = [("idle", 1.5, 1000), ("slow", 6, 500), ("endless", 1, 40), ("flood_one", 1, 1), ("flood_many", 1, 1), ("hoard_one", 1, 200),
         ("rcpts_one", 1, 3000), ("rcpts_many", 2, 60), ("mime", 1, 4), ("big", 3, 200), ("noise", 1, 30), ("vanish", 1, 30),
         ("pipelined", 1, 30), ("bdat", 1, 30), ("nul", 1, 20), ("tls_auth", 1, 20)]
FULL = [("idle", 30, 10000), ("slow", 60, 500), ("endless", 30, 200), ("flood_one", 30, 1), ("flood_many", 30, 1), ("hoard_one", 30, 2000),
        ("rcpts_one", 30, 100000), ("rcpts_many", 40, 100), ("mime", 20, 100), ("big", 60, 200), ("noise", 30, 200),
        ("vanish", 30, 200), ("pipelined", 30, 200), ("bdat", 30, 200), ("nul", 20, 100), ("tls_auth", 20, 100)]
ATTACKS = FULL if LONG else SHORT
SESSIONS = {"rcpts_one": 1, "flood_one": 500, "flood_many": 500}

if __name__ == "__main__":
    cases.main(globals())
