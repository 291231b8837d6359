#!/usr/bin/env python3
"""The n-th write, flush, open, rename, allocation fails, for each n of a scripted run.

The script starts on a spool with history (a killed daemon's: mail deferred, held, in files of its own), receives small and large
messages, delivers, defers and bounces them, gives orders to the queue, stops, starts again. It is run once for each call
that a run makes (class by class: `SWEEPS`), with that call failing, and then the daemon is started without faults. Each time:
what was answered 250 is delivered, once (again only where the record of the delivery was what failed); refusals are 4xx;
nothing hangs; what failed is named in the log, file and error.

    nth.py              a sample, for ./run-tests
    nth.py --long       every n ($POSTHOUSE_FAULT_JOBS at a time); --only SWEEP[:N] one sweep, or one run of it
"""
import argparse
import collections
import concurrent.futures
import errno
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import faults
from faults import Block, FaultHub, Shim, uses_sanitizer
import cases
from client import Client
from hub import wait_for
from sink import Sink

SEED = int(os.environ.get("POSTHOUSE_SEED", str(random.randrange(1 << 30))))
SAMPLE = int(os.environ.get("POSTHOUSE_FAULTS", "3"))  # runs of each sweep in the short form
JOBS = int(os.environ.get("POSTHOUSE_FAULT_JOBS", str(2 * (os.cpu_count() or 1))))
HANG_S = 40

# name: class, order, error
SWEEPS = {
    "write-eio": ("write", "ONCE", errno.EIO),
    "write-short": ("write", "SHORT", 0),
    "flush-eio": ("flush", "ONCE", errno.EIO),
    "read-eio": ("read", "ONCE", errno.EIO),
    "open-eio": ("open", "ONCE", errno.EIO),
    "open-emfile": ("open", "ONCE", errno.EMFILE),
    "name-eio": ("name", "ONCE", errno.EIO),
    "space-enospc": ("space", "ONCE", errno.ENOSPC),
    "map-enomem": ("map", "ONCE", errno.ENOMEM),
    "stat-eio": ("stat", "ONCE", errno.EIO),
    "descriptor-emfile": ("descriptor", "ONCE", errno.EMFILE),
    "thread-eagain": ("thread", "ONCE", errno.EAGAIN),
    "disk-full": (("write", "space"), "ON", errno.ENOSPC),
    "read-only": (("write", "space", "flush", "name"), "ON", errno.EROFS),
    "flush-on": ("flush", "ON", errno.EIO),
    "alloc": ("alloc", "STACK", errno.ENOMEM),
    "alloc-on": ("alloc", "ON", errno.ENOMEM),
}
MOST = {"alloc-on": 200}  # runs in the long form, chosen by the seed: a run has ten thousand allocations

MAIN = {
    "index_flush_interval": "100ms", "journal_segment_size": "1M", "spool_message_buffer_limit": "16K",
    "minimal_backoff_time": "300s", "maximal_backoff_time": "300s", "smtpd_client_connection_count_limit": "0",
    "delivery_threads": "8", "default_process_limit": "8", "error_notice_recipient": "other@example.com",
    "notify_classes": "resource, software", "smtp_destination_concurrency_failed_cohort_limit": "1000",
}
# The C library's look-up of users and hosts asserts that it got its memory (glibc 2.36, nss_database.c).
LIBRARY_GAVE_UP = re.compile(r"^\S+: nss_\w+\.c:\d+: \w+: Assertion", re.M)

LINKER_GAVE_UP = "cannot allocate memory for thread-local data: ABORT"


def library_fell(hits):
    """The same look-up takes its state without looking whether there is one (nss_database_check_reload_and_get)."""
    return any(cls == "alloc" and len(way) > 4 and all(at.startswith("libc.so") for at in way[:4]) for cls, *_, way in hits)


USER, SMTP, LATER, REFUSED = "user@example.com", "x@r.example", "later@r.example", "refused@r.example"


def message(n, size=300):
    return f"From: a@example.org\r\nSubject: s\r\nX-Number: {n}\r\n\r\n".encode() + (b"y" * 70 + b"\r\n") * (size // 72)


def numbers(contents):
    return collections.Counter(int(re.search(rb"^X-Number: (\d+)", data, re.M).group(1)) for data in contents
                               if b"X-Number: " in data)


class NextHop(Sink):
    """Defers later@ until it is healed, refuses refused@ for good."""

    def __init__(self):
        super().__init__()
        self.is_healed = False
        self.on["RCPT"] = self.rcpt

    def rcpt(self, _session, arg):
        if LATER in arg and not self.is_healed:
            return "450 4.2.1 later"
        return "550 5.1.1 no such user" if REFUSED in arg else None


class Template:
    """A spool with history, made once: {number: recipients} of what is in it, and the queue IDs."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory) / "template"
        self.dir.mkdir()
        os.chmod(self.dir, 0o755)
        self.mail = {1: [LATER], 2: [LATER], 3: [LATER], 4: [USER], 5: [LATER], 6: [LATER, SMTP]}
        self.ids = {}
        from hub import Hub
        with NextHop() as hop, Hub(MAIN, directory=self.dir, routes={"r.example": f"smtp:[127.0.0.1]:{hop.port}"}, start=False) as hub:
            hub.main["defer_transports"] = "virtual"
            hub.write_conf()
            hub.start()
            with hub.client() as c:
                for n, rcpts in self.mail.items():
                    self.ids[n] = c.send_mail("user@example.com", rcpts, message(n, 40000 if n == 3 else 300))
                    if n == 3:
                        wait_for("rows in the index", lambda: (hub.dir / "spool" / "index.db-wal").stat().st_size > 40000)
            hub.ctl("queue", "hold", self.ids[4])
            wait_for("what was sent to be deferred", lambda: len(re.findall("status=deferred", hub.log())) >= 5)
            wait_for("what is not deferred, and the note of it", lambda: len(hop.mails) == 1 and "status=sent" in hub.log())
            hub.kill()
        self.delivered = collections.Counter({6: 1})


class Trouble(AssertionError):
    pass


class Run:
    """One run of the script with one fault."""

    def __init__(self, shim, template, sweep, n=0, way=0, count_only=False):
        self.shim, self.template, self.sweep, self.n, self.way = shim, template, sweep, n, way
        self.count_only = count_only
        self.cls, self.kind, self.error = SWEEPS[sweep]
        self.classes = [self.cls] if isinstance(self.cls, str) else list(self.cls)
        self.accepted, self.deleted, self.perhaps_deleted = dict(template.mail), set(), set()
        self.refusals, self.ends, self.repeats = [], 0, {}
        self.ways, self.hits, self.counts = {}, [], {}

    def name(self):
        return f"{self.sweep}:{self.n}" + (f" way {self.way:x}" if self.way else "")

    def arm(self, hub):
        for cls in self.classes:
            if self.count_only and self.kind == "STACK":
                hub.block.order(cls, "NOTE")
            elif not self.count_only:
                hub.block.order(cls, self.kind, self.error, self.n, self.way)

    # ---- the script ----
    def start(self, hub):
        """The daemon may give up at its start: it says why, and the service manager tries again."""
        for attempt in range(4):
            try:
                hub.start()
                return
            except AssertionError:
                if hub.proc.poll() is None:
                    raise
                self.ended(hub, starting=True)
                if self.kind == "ON" and attempt == 1:
                    hub.block.heal()
        raise Trouble("the daemon does not start")

    def ended(self, hub, starting=False):
        """The process is gone: only in a way that says why."""
        status = hub.proc.wait()
        hub.proc = None
        self.ends += 1
        if status == -signal.SIGSEGV and starting and library_fell(hub.block.hits()):
            return
        if status == 127 and self.cls == "alloc" and LINKER_GAVE_UP in hub.errors():
            return
        if status == -signal.SIGABRT and self.cls == "alloc":
            if "out of memory" not in (hub.errors() if starting else hub.log()) and not LIBRARY_GAVE_UP.search(hub.errors()):
                raise Trouble("aborted without a word in the log")
            hub.excuse(LIBRARY_GAVE_UP)
        elif not (starting and status > 0 and ("fatal: " in hub.log() or "posthoused: " in hub.errors())):
            raise Trouble(f"ended with status {status}")

    def alive(self, hub):
        if hub.proc is None or hub.proc.poll() is not None:
            if hub.proc is not None:
                self.ended(hub)
            self.start(hub)

    def send(self, hub, n, rcpts, size=300):
        self.alive(hub)
        try:
            with Client("127.0.0.1", hub.port, timeout=HANG_S, greet=False) as c:
                for line in [None, "EHLO client.example.org", "MAIL FROM:<user@example.com>", *[f"RCPT TO:<{r}>" for r in rcpts], "DATA"]:
                    r = c.reply() if line is None else c.cmd(line)
                    if r.code >= 400:
                        return self.refused(n, line, r)
                c.raw(message(n, size) + b".\r\n")
                r = c.reply()
                if r.code != 250:
                    return self.refused(n, "end of data", r)
                self.accepted[n] = rcpts
                c.raw(b"QUIT\r\n")
                c.reply()
        except TimeoutError:
            raise Trouble(f"message {n}: no answer within {HANG_S} s") from None
        except (OSError, EOFError):
            if hub.proc.poll() is None and self.cls not in ("descriptor", "alloc"):
                wait_for("the daemon to end, as it closed a connection without a word", lambda: hub.proc.poll() is not None, 5)

    def refused(self, n, line, reply):
        self.refusals.append((n, line, reply.code))
        if reply.code >= 500 or reply.code not in (421, 451, 452):
            raise Trouble(f"message {n}: {line}: {reply}")

    def order(self, hub, *words):
        self.alive(hub)
        try:
            r = hub.ctl("queue", *words, check=False)
        except subprocess.TimeoutExpired as e:
            raise Trouble(f"queue {words}: no answer after {e.timeout:.0f} s") from None
        if r.returncode != 0 and not r.stderr.strip():
            raise Trouble(f"queue {words}: status {r.returncode} without a word")
        return r.returncode == 0

    def stop(self, hub):
        if hub.proc is None:
            return
        if hub.proc.poll() is not None:
            return self.ended(hub)
        hub.proc.send_signal(signal.SIGTERM)
        try:
            hub.proc.wait(timeout=HANG_S)
        except Exception:
            raise Trouble(f"SIGTERM: still there after {HANG_S} s") from None
        if hub.proc.returncode != 0:
            return self.ended(hub)
        hub.proc = None

    def is_delivered(self, hub, hop):
        box, sent = numbers(hub.mails()), numbers(m["data"] for m in hop.mails)
        later = [n for n, rcpts in self.accepted.items() if n > 6 and
                 ((USER in rcpts and not box[n]) or (SMTP in rcpts and not sent[n]) or (REFUSED in rcpts and not box[n]))]
        return not later

    def settle(self, hub, hop):
        """Until what can be delivered is, or for a moment."""
        until = time.monotonic() + (1.0 if self.kind == "ON" else 1.5)
        while hub.proc is not None and hub.proc.poll() is None and time.monotonic() < until and not self.is_delivered(hub, hop):
            time.sleep(0.01)

    def script(self, hub, hop):
        ids = self.template.ids
        self.arm(hub)
        self.start(hub)
        self.send(hub, 10, [USER, SMTP])
        self.send(hub, 11, [USER, SMTP], 40000)
        self.send(hub, 12, [REFUSED])
        self.send(hub, 13, [LATER, SMTP])
        self.send(hub, 14, [f"x{i}@r.example" for i in range(5)] + [SMTP])
        self.settle(hub, hop)
        self.order(hub, "hold", ids[1])
        self.order(hub, "release", ids[4])
        if self.order(hub, "delete", ids[2]):
            self.deleted.add(2)
        elif self.cls == "alloc" or "flush" in self.classes:
            self.perhaps_deleted.add(2)  # the answer is what there was no memory for; a record whose flush failed is found at the next start
        self.order(hub, "requeue", ids[5])
        self.order(hub, "flush")
        self.send(hub, 15, [USER, LATER], 40000)
        self.settle(hub, hop)
        time.sleep(0.3)  # the index catches up
        self.stop(hub)
        self.start(hub)
        self.send(hub, 16, [USER, SMTP])
        self.settle(hub, hop)
        self.stop(hub)
        self.counts = {cls: hub.block.count(cls) for cls in faults.CLASSES}
        self.hits = hub.block.hits()
        self.ways = hub.block.ways() if self.count_only else {}
        hub.block.heal()

    # ---- afterwards ----
    def drain(self, hub, hop):
        hop.is_healed = True
        hub.without_shim()
        hub.main.update({"minimal_backoff_time": "1s", "maximal_backoff_time": "1s", "queue_run_delay": "1s"})
        hub.write_conf()
        hub.start()
        for m in hub.queue():
            if m.get("queue_name", m.get("queue")) == "hold":
                hub.ctl("queue", "release", m["queue_id"])
        hub.ctl("queue", "flush")
        wait_for("the queue to drain", lambda: not hub.queue(), 30)
        hub.stop()

    def check(self, hub, hop):
        box, sent = numbers(hub.mails()), collections.Counter()
        for m in hop.mails:
            for n in numbers([m["data"]]):
                for r in m["rcpts"]:
                    sent[n, r] += 1
        for n, rcpts in self.accepted.items():
            for r in rcpts:
                if n == 6 and r == SMTP:
                    continue  # before
                got = box[n] if r in (USER, REFUSED) else sent[n, r]
                if n in self.deleted | self.perhaps_deleted and got == 0:
                    continue
                if n in self.deleted:
                    raise Trouble(f"message {n} was deleted, and is delivered to {r}")
                if got == 0:
                    raise Trouble(f"message {n} was answered 250 and is not delivered to {r}")
                if got > 1:
                    self.repeats[n, r] = got
        if sent[6, SMTP]:
            self.repeats[6, SMTP] = 1 + sent[6, SMTP]
        self.check_repeats(hub)

    def check_repeats(self, hub):
        """Only where the note of the delivery was what failed, or the process ended in between."""
        if not self.repeats:
            return
        log = hub.log()
        if self.ends == 0 and not re.search(r"result log: write failed|delivered again|may be repeated|not noted", log):
            raise Trouble(f"delivered more than once: {self.repeats}")

    def check_log(self, hub):
        if self.cls == "alloc":
            return  # an allocation that something else can stand in for needs no word; an end has been looked at
        said = hub.log() + hub.errors()
        for cls, call, error, _thread, path, way in self.hits:
            if is_silent(cls, call, error, path):
                continue
            if not names_error(said, cls, error):
                raise Trouble(f"{call} of {path} failed with {os.strerror(error)} and the log does not say so")

    def stacks(self, hub):
        """Where each thread of a daemon that hangs is, if there is a debugger."""
        if hub.proc is None or hub.proc.poll() is not None or shutil.which("gdb") is None:
            return ""
        try:
            return subprocess.run(["gdb", "-p", str(hub.proc.pid), "-batch", "-ex", "thread apply all bt 24"], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, errors="replace", timeout=60).stdout
        except subprocess.TimeoutExpired:
            return "(the debugger took too long)"

    def report(self, hub, e):
        """One line; log, and stacks of a process that still runs, go to a file when $POSTHOUSE_FAULT_LOGS names a directory for it."""
        where, logs = "", os.environ.get("POSTHOUSE_FAULT_LOGS")
        text = f"{hub.errors()}\n{hub.log()}"
        if logs:
            text += "\n" + self.stacks(hub)
        if logs:
            where = str(pathlib.Path(logs) / f"{self.sweep}-{self.n}")
            pathlib.Path(where).write_text(f"{e}\n" + "\n".join(map(str, self.hits)) + f"\n{text}")
        hit = "; ".join(f"{h[1]} {h[4]} [{h[3]}]" for h in self.hits[:2])
        return f"{self.name()}: {type(e).__name__}: {e}; failed: {hit}; {where or text[-3000:]}"

    def run(self):
        with NextHop() as hop:
            base = tempfile.mkdtemp(prefix="posthouse-test-")
            hub = FaultHub(self.shim, main=MAIN, directory=base, routes={"r.example": f"smtp:[127.0.0.1]:{hop.port}"})
            failed = True
            try:
                faults.copy_tree(self.template.dir / "spool", hub.dir / "spool")
                self.script(hub, hop)
                self.drain(hub, hop)
                self.check(hub, hop)
                self.check_log(hub)
                failed = False
                return None
            except (AssertionError, OSError, EOFError) as e:
                if not self.hits:
                    self.hits = hub.block.hits()
                return self.report(hub, e)
            finally:
                if hub.proc is not None:
                    hub.proc.kill()
                    hub.proc.wait()
                hub.block.close()
                if not (failed and os.environ.get("POSTHOUSE_KEEP")):
                    faults.remove(hub.dir)


def names_error(said, cls, error):
    words = [re.escape(os.strerror(error)), errno.errorcode.get(error, "-")]
    if cls == "alloc":
        words = ["memory", "NOMEM", "4\\.3\\.0", "Insufficient", "Resource temporarily unavailable"]
    words += ["disk I/O error", "database or disk is full", "unable to open database", "readonly database"]  # SQLite's
    return re.search("|".join(words), said) is not None


# What may fail without a word, because nothing is worse for it: (class, call, pattern of the path).
SILENT = [
    ("stat", "(stat|lstat|fstat|access)", "."),            # a question: what follows from the wrong answer is seen
    ("read", "pread", r"\.(jnl|res)$"),                    # the header of such a file has a copy behind it; other reads are tried again
    ("read", "pread", r"/large/"),                         # a probe of many pages is repeated page by page
    ("flush", "fdatasync", r"/spool$"),                    # SQLite, after making the -wal file: it begins empty at the next start
    ("open", "open", r"/spool$"),                          # the same
    ("open", "open", r"/results/spare$"),                  # what an earlier process left ready: another one is made
    ("open", "open|create", r"/index\.db(-wal)?$"),        # SQLite, which opens it for reading then; writing says more
    ("name", "unlink", r"/index\.db-(wal|shm)$"),          # SQLite, when it closes
    ("name", "unlink", r"/public/(submit|showq)$|/control$"),      # the next start clears it away
    ("write", "pwrite", r"/index\.db$"),                   # checkpoint at the end: the -wal file stays
    ("space", "ftruncate", r"/index\.db"),                 # the same
    ("read", "pread", r"/index\.db(-wal)?$"),              # SQLite logs what fails a statement; else it goes on without
    ("flush", "fdatasync", r"/index\.db$"),                # the same
]


def is_silent(cls, call, error, path):
    return error == 0 or any(c == cls and re.fullmatch(k, call) and re.search(p, path) for c, k, p in SILENT)


class Sweeper:
    def __init__(self, directory):
        self.shim = Shim(directory)
        self.template = Template(directory)
        self.base = {}

    def baseline(self, sweep):
        """A run without a fault: how many calls of each class it makes, and by which ways where that is what is asked."""
        by_ways = SWEEPS[sweep][1] == "STACK"
        if by_ways not in self.base:
            run = Run(self.shim, self.template, sweep, count_only=True)
            wrong = run.run()
            assert wrong is None, f"without a fault: {wrong}"
            self.base[by_ways] = run
        return self.base[by_ways]

    def runs(self, sweep, sample=None, rng=None):
        base = self.baseline(sweep)
        cls, kind, _ = SWEEPS[sweep]
        if kind == "STACK":
            ways = sorted(base.ways)
            ways = ways if sample is None else rng.sample(ways, min(sample, len(ways)))
            return [Run(self.shim, self.template, sweep, i, way) for i, way in enumerate(ways)]
        total = max(base.counts[c] for c in ([cls] if isinstance(cls, str) else cls))
        sample = MOST.get(sweep) if sample is None else sample
        chosen = range(1, total + 1) if sample is None else sorted(rng.sample(range(1, total + 1), min(sample, total)))
        return [Run(self.shim, self.template, sweep, n) for n in chosen]


def perform(runs_by_sweep, jobs):
    """All of them side by side; what a sweep came to is told when its last run is over."""
    all_wrong = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        said_by_run = {run: pool.submit(run.run) for runs in runs_by_sweep.values() for run in runs}
        for sweep, runs in runs_by_sweep.items():
            wrong, stats = [], collections.Counter()
            for run in runs:
                said = said_by_run[run].result()
                stats["runs"] += 1
                stats["hit"] += bool(run.hits)
                stats["refusals"] += len(run.refusals)
                stats["ended"] += run.ends
                stats["repeats"] += sum(run.repeats.values()) - len(run.repeats)
                if said:
                    wrong.append(said)
                    print(f"FAILED {said}", flush=True)
            print(f"{sweep}: {len(wrong)} failed of {stats['runs']} runs; {stats['hit']} had their fault, {stats['refusals']} refusals, "
                  f"{stats['ended']} ends, {stats['repeats']} deliveries repeated", flush=True)
            all_wrong += wrong
    return all_wrong


def sweeps_here():
    return [s for s in SWEEPS if not (SWEEPS[s][0] == "alloc" and uses_sanitizer())]


def test_a_sample_of_faults():
    rng = random.Random(SEED)
    print(f"seed {SEED}", flush=True)
    with tempfile.TemporaryDirectory(prefix="posthouse-faults-") as d:
        os.chmod(d, 0o755)
        sweeper = Sweeper(d)
        wrong = perform({sweep: sweeper.runs(sweep, SAMPLE, rng) for sweep in sweeps_here()}, JOBS)
        assert not wrong, f"{len(wrong)} runs failed: {[w.split(';')[0] for w in wrong]}"


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--long", action="store_true")
    args.add_argument("--only", action="append")
    args.add_argument("--sample", type=int)
    args.add_argument("cases", nargs="*")
    o = args.parse_args()
    if not o.long and not o.only:
        sys.argv = [sys.argv[0], *o.cases]
        cases.main(globals())
    with tempfile.TemporaryDirectory(prefix="posthouse-faults-") as d:
        os.chmod(d, 0o755)
        sweeper, wrong = Sweeper(d), []
        rng = random.Random(SEED)
        for one in o.only or sweeps_here():
            sweep, _, n = one.partition(":")
            runs = sweeper.runs(sweep, o.sample, rng)
            if n:
                runs = [r for r in runs if r.n == int(n)]
            wrong += perform({sweep: runs}, JOBS)
    print(f"{len(wrong)} runs failed", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
