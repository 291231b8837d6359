#!/usr/bin/env python3
"""Whatever is asked of a running daemon has no memory at one place, for each place: somebody is told, nobody waits for ever.

nth.py lets one script fail at each of its calls. Here each use (a session with restrictions that ask tables, DNS, a policy server;
a queue command; `sendmail`; an order to the daemon) is made once to see by which ways it takes memory, and then again for each of them,
in one daemon, which is started anew when it has ended for want of memory. Each time: the one who asks has an answer, or a
connection that ended, soon; a failure has a reason; what was answered 250 is delivered.

    uses.py             all ways of all uses (a quarter of an hour); --only USE, --sample N of each
"""
import argparse
import errno
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faults import FaultHub, Shim, uses_sanitizer
from client import Client
from dnsstub import DnsStub
from hub import BUILD, wait_for
from nth import LIBRARY_GAVE_UP, LINKER_GAVE_UP
from policyserver import PolicyServer
from sink import Sink

SEED = int(os.environ.get("POSTHOUSE_SEED", str(random.randrange(1 << 30))))
HANG_S = 40
ZONE = {"r.example": {"A": ["127.0.0.1"]}, "example.com": {"A": ["127.0.0.1"]}, "mx.example": {"MX": [(10, "host.mx.example")]}, "host.mx.example": {"A": ["127.0.0.1"]},
        "1.0.0.127.in-addr.arpa": {"PTR": ["client.mx.example"]}, "client.mx.example": {"A": ["127.0.0.1"]},
        "sender.example": {"A": ["127.0.0.1"]}}


class Trouble(AssertionError):
    pass


def write_tables(etc):
    (etc / "regexp").write_text("/^refused/ REJECT no\n/x/ WARN seen\n")
    (etc / "pcre").write_text("/^(.*)\\+(.*)@/ WARN $1\n")
    (etc / "cidr").write_text("192.0.2.0/24 REJECT\n")
    (etc / "text").write_text("nobody@example.com REJECT\n")
    (etc / "aliases").write_text("list@example.com user@example.com, other@example.com, x@r.example\n")
    (etc / "headers").write_text("/^X-Replace: (.*)/ REPLACE X-Was: $1\n/^X-Bad:/ REJECT bad\n")


class World:
    """A daemon that uses much of what there is."""

    def __init__(self, directory):
        self.sink, self.policy, self.stub = Sink(), PolicyServer(), DnsStub(ZONE, ttl=0, negative_ttl=0)
        self.sink.on["RCPT"] = lambda s, arg: "450 4.2.1 later" if "later" in arg else None
        self.stub.start()
        self.hub = FaultHub(Shim(directory), routes={"r.example": f"smtp:[127.0.0.1]:{self.sink.port}"})
        etc = self.hub.dir / "etc"
        write_tables(etc)
        self.hub.main.update({
            "index_flush_interval": "100ms", "minimal_backoff_time": "600s", "maximal_backoff_time": "600s", "smtpd_peername_lookup": "yes",
            "disable_dns_lookups": "no", "dns_resolver_addresses": self.stub.address, "smtp_tcp_port": str(self.sink.port),
            "spool_message_buffer_limit": "16K", "delivery_threads": "8", "default_process_limit": "8", "queue_undelete_time": "1d",
            "smtpd_client_connection_count_limit": "0", "address_verify_map": "",
            "virtual_alias_domains": "", "virtual_alias_maps": f"texthash:{etc}/aliases", "sender_canonical_maps": f"pcre:{etc}/pcre",
            "header_checks": f"regexp:{etc}/headers", "smtpd_sender_restrictions": "reject_unknown_sender_domain",
            "smtpd_recipient_restrictions": f"check_client_access cidr:{etc}/cidr, check_recipient_access regexp:{etc}/regexp, "
            f"check_recipient_access pcre:{etc}/pcre, check_recipient_access texthash:{etc}/text, reject_unknown_recipient_domain, "
            f"reject_rbl_client list.example, check_policy_service {self.policy.address}, permit_mynetworks, reject"})
        del self.hub.main["sender_canonical_maps"]
        self.hub.write_conf()
        self.sent, self.n, self.held = {}, 0, ""
        self.hub.start()

    def close(self):
        if self.hub.proc is not None and self.hub.proc.poll() is not None:
            self.hub.proc = None
        self.hub.close()
        for x in (self.policy, self.stub):
            x.stop()
        self.sink.close()

    # ---- uses; each returns when it has its answer ----
    def number(self):
        self.n += 1
        return self.n

    def mail(self, rcpts, size=300, header=""):
        n = self.number()
        with Client("127.0.0.1", self.hub.port, timeout=HANG_S, greet=False) as c:
            for line in [None, "EHLO client.mx.example", "MAIL FROM:<someone@sender.example>", *[f"RCPT TO:<{r}>" for r in rcpts], "DATA"]:
                r = c.reply() if line is None else c.cmd(line)
                if r.code >= 400:
                    return
            c.raw(f"From: <someone@sender.example>\r\nX-Number: {n}\r\n{header}\r\n".encode() + b"z" * 70 + b"\r\n" * (size // 2) + b".\r\n")
            if c.reply().code == 250:
                self.sent[n] = rcpts
            c.cmd("QUIT")

    def use_session(self):
        self.mail(["user@example.com", "list@example.com", "x@mx.example"], header="X-Replace: a\r\n")

    def use_large(self):
        self.mail(["x@r.example"], 40000)

    def use_refused(self):
        with Client("127.0.0.1", self.hub.port, timeout=HANG_S, greet=False) as c:
            c.reply()
            for line in ("HELO x", "BOGUS", "VRFY user", "MAIL FROM:<a@none.example>", "MAIL FROM:<a@sender.example> SIZE=1", "RCPT TO:<refused@example.com>",
                         "RCPT TO:<nobody@example.com>", "RCPT TO:<a@none.example>", "RSET", "QUIT"):
                code = c.cmd(line).code
                if line.startswith("RCPT") and code == 250:
                    raise Trouble(f"{line} was accepted")

    def use_deferred(self):
        self.mail(["later@r.example"])

    def use_sendmail(self):
        n = self.number()
        r = self.tool("sendmail", "-C", str(self.hub.dir / "etc"), "-f", "user@example.com", "user@example.com", "x@r.example",
                      stdin=f"Subject: s\nX-Number: {n}\n\nhi\n".encode())
        if r.returncode == 0:
            self.sent[n] = ["user@example.com", "x@r.example"]

    def ctl(self, *args, stdin=None):
        return self.tool("posthousectl", "-c", str(self.hub.dir / "etc"), *args, stdin=stdin)

    def tool(self, name, *args, stdin=None):
        try:
            r = subprocess.run([str(BUILD / name), *args], input=stdin or b"", capture_output=True, timeout=HANG_S, env=self.hub.plain_env)
        except subprocess.TimeoutExpired:
            raise Trouble(f"{name} {' '.join(args[2:])}: no answer after {HANG_S} s") from None
        if r.returncode != 0 and not r.stderr.strip() and not r.stdout.strip():
            raise Trouble(f"{name} {' '.join(args[2:])}: status {r.returncode} without a word")
        return r

    def use_list(self):
        self.ctl("queue", "list", "-j")

    def use_show(self):
        self.ctl("queue", "show", "-j", self.held)

    def use_select(self):
        self.ctl("queue", "list", "--recipient", "later@r.example")

    def use_stats(self):
        self.ctl("queue", "stats", "-j")

    def use_hold(self):
        self.ctl("queue", "hold", self.held)

    def use_release(self):
        self.ctl("queue", "release", self.held)

    def use_readdress(self):
        self.ctl("queue", "readdress", "@r.example", "@r.example", self.held)

    def use_undelete(self):
        self.ctl("queue", "delete", self.held)
        self.ctl("queue", "undelete", self.held)

    def use_requeue(self):
        self.ctl("queue", "requeue", self.held)

    def use_export(self):
        with tempfile.TemporaryDirectory(prefix="posthouse-export-") as d:
            self.ctl("queue", "export", d, self.held)

    def use_import(self):
        n = self.number()
        with tempfile.NamedTemporaryFile(prefix="posthouse-import-", suffix=".eml") as f:
            f.write(f"From: a@sender.example\nX-Number: {n}\n\nx\n".encode())
            f.flush()
            r = self.ctl("queue", "import", "--sender", "a@sender.example", "--recipient", "x@r.example", f.name)
        if r.returncode == 0:
            self.sent[n] = ["x@r.example"]

    def use_pause(self):
        self.ctl("queue", "pause", "--destination", "nobody.example")
        self.ctl("queue", "resume", "--destination", "nobody.example")

    def use_compact(self):
        self.ctl("queue", "compact", "-j")

    def use_status(self):
        self.ctl("status", "-j")

    def use_tables(self):
        self.ctl("tables", "-j")
        self.ctl("restrictions", "-j")

    def use_verify(self):
        self.ctl("verify", "probe", "x@r.example")
        self.ctl("verify", "list", "-j")

    def use_reload(self):
        self.ctl("reload")

    def use_showq(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(HANG_S)
            s.connect(str(self.hub.dir / "spool" / "public" / "showq"))
            while s.recv(65536):
                pass

    # ---- one way ----
    def ended(self, starting=False):
        status = self.hub.proc.wait()
        said = self.hub.log() + self.hub.errors()
        self.hub.proc = None
        if status == 127 and LINKER_GAVE_UP in said:
            return
        if status != -signal.SIGABRT or ("out of memory" not in said and not LIBRARY_GAVE_UP.search(said)):
            raise Trouble(f"the daemon ended with status {status}")
        self.hub.excuse(LIBRARY_GAVE_UP)

    def alive(self):
        if self.hub.proc is not None and self.hub.proc.poll() is not None:
            self.ended()
        if self.hub.proc is None:
            self.hub.start()

    def make(self, use):
        try:
            use()
        except TimeoutError:
            raise Trouble(f"no answer within {HANG_S} s") from None
        except (OSError, EOFError):
            pass  # the connection, or the daemon, ended

    def has_waiting(self):
        """A message that the commands work on; anew when one of them lost it to its fault."""
        found = [m["queue_id"] for m in self.hub.queue() if any("later" in r["address"] for r in m["recipients"])]
        if not found:
            self.mail(["later@r.example"])
            wait_for("a deferred message", lambda: any("later" in r["address"] for m in self.hub.queue() for r in m["recipients"]))
            return self.has_waiting()
        self.held = found[0]
        return None

    def ways_of(self, use):
        self.alive()
        self.has_waiting()
        self.make(use)  # what is made at first use is there
        self.hub.block.order("alloc", "NOTE")
        before = set(self.hub.block.ways())
        self.make(use)
        time.sleep(0.3)  # what follows from it: deliveries, the index
        self.hub.block.heal()
        return [way for way in self.hub.block.ways() if way not in before]

    def fail(self, use, way):
        self.alive()
        self.hub.block.order("alloc", "STACK", errno.ENOMEM, way=way)
        self.make(use)
        until = time.monotonic() + 0.3
        while self.hub.block.hit_count("alloc") == 0 and time.monotonic() < until:
            time.sleep(0.02)
        hit = self.hub.block.hit_count("alloc") > 0
        self.hub.block.heal()
        if hit and self.hub.proc.poll() is None:
            self.ctl("status")  # it still answers
        return hit

    def check_mail(self):
        """All that was answered 250 is delivered; what was to be deferred is not."""
        self.alive()

        def missing():
            sent = {int(m[1]) for data in self.sink.mails for m in [re.search(rb"^X-Number: (\d+)", data["data"], re.M)] if m}
            box = {int(m[1]) for data in self.hub.mails() for m in [re.search(rb"^X-Number: (\d+)", data, re.M)] if m}
            return [n for n, rcpts in self.sent.items() if (any(r.endswith(("@r.example", "@mx.example")) and "later" not in r for r in rcpts) and n not in sent) or
                    ("user@example.com" in rcpts and n not in box)]
        for _ in range(5):  # it may still be about to end
            if self.ctl("queue", "flush").returncode == 0:
                break
            time.sleep(0.3)
            self.alive()
        try:
            wait_for("all mail that was answered 250", lambda: not missing(), 20)
        except AssertionError:
            raise Trouble(f"answered 250 and not delivered: {missing()[:5]}") from None


def run(sample=None, only=None):
    if uses_sanitizer():
        return "a sanitizer has its own allocator: nothing was run"
    rng, failed = random.Random(SEED), []
    with tempfile.TemporaryDirectory(prefix="posthouse-shim-") as d:
        os.chmod(d, 0o755)
        w = World(d)
        done = set()
        try:
            for name in [only] if only else [n[4:] for n in dir(World) if n.startswith("use_")]:
                use = getattr(w, f"use_{name}")
                w.hub.errors_seen()
                ways = [way for way in w.ways_of(use) if way not in done]
                done.update(ways)
                chosen = ways if sample is None else rng.sample(ways, min(sample, len(ways)))
                hits, wrong, begin = 0, 0, time.monotonic()
                for way in chosen:
                    try:
                        hits += w.fail(use, way)
                        w.alive()
                    except Trouble as e:
                        wrong += 1
                        failed.append(f"{name} way {way:x}: {e}; {w.hub.block.hits()[-1:]}")
                        print(f"FAILED {failed[-1]}", flush=True)
                        if w.hub.proc is not None and w.hub.proc.poll() is None:
                            w.hub.kill()
                        w.hub.proc = None
                try:
                    w.check_mail()
                except Trouble as e:
                    wrong += 1
                    failed.append(f"{name}: {e}")
                    print(f"FAILED {failed[-1]}", flush=True)
                    w.sent.clear()
                print(f"{name}: {wrong} failed of {len(chosen)} ways, {hits} had their fault, {time.monotonic() - begin:.0f} s", flush=True)
        finally:
            w.close()
    print(f"{len(failed)} failed, seed {SEED}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    args = argparse.ArgumentParser()
    args.add_argument("--only")
    args.add_argument("--sample", type=int)
    o = args.parse_args()
    sys.exit(run(o.sample, o.only))
