#!/usr/bin/env python3
"""kill -9, or a power cut, at every step: before, in the middle of and after each write, flush, rename and removal of the spool and
each statement of its index.

A scripted run fills segments, has them used again, compacted, checkpointed and recovered. It is made once to count the steps
of each kind (lib/shim_kill.c), then once for each step that is chosen: there the daemon ends. After one end of three the
index is removed too, so that it must be made anew. After the next start every message that was answered 250 must be delivered,
bounced or queued, and what the operator was told is done must be done.

    POSTHOUSE_STEPS       how many kills: 12, of as many kinds as possible; 0: all steps, at most 15 of one kind
    POSTHOUSE_STEP_CUTS   how many power cuts: 4; 0: all steps, at most 5 of one kind
    POSTHOUSE_JOBS        how many runs at a time: 2
    POSTHOUSE_INDEX_LOST  the share of ends that lose the index: 0.33
    POSTHOUSE_SEED        repeats a choice
    POSTHOUSE_STEP        a single step: "pwritev results=3=half"
"""
import collections
import concurrent.futures
import contextlib
import os
import pathlib
import random
import re
import signal
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
import shims
from client import Client
from crashload import LATER, CrashHub, maildir_numbers
from hub import wait_for
from loopdisk import LoopDisk
from witness import Witness

STEPS = int(os.environ.get("POSTHOUSE_STEPS", "12"))
SEED = int(os.environ.get("POSTHOUSE_SEED", str(random.randrange(1 << 30))))
INDEX_LOST = float(os.environ.get("POSTHOUSE_INDEX_LOST", "0.33"))
JOBS = int(os.environ.get("POSTHOUSE_JOBS", "2"))
CUTS = int(os.environ.get("POSTHOUSE_STEP_CUTS", "4"))
# Is refused by the next hop, so a notice goes to the sender, who is here.
BOUNCES, SENDER = "no@smtp.example", "other@example.com"
KIND = struct.Struct("56sII")
KINDS = 96
# Else the run is not what it is for.
MUST_HAPPEN = {
    "compaction": "pwritev copy", "a segment given back": "rename segment-to-spare", "a segment used again": "rename spare-to-segment",
    "a checkpoint": "rename checkpoint-to-checkpoint", "a large file removed": "unlink large",
    "an administrative record": "pwritev admin", "a result": "pwritev results", "an index transaction": "exec COMMIT",
}

Step = collections.namedtuple("Step", "kind n when")


class Died(Exception):
    """The daemon has been killed where it was told to."""


class StepHub(CrashHub):
    def __init__(self, shim, step, disk, smtp, lmtp):
        self.shim = shim
        self.step = step
        self.disk = disk  # whose power is cut instead of a kill; None otherwise
        super().__init__(smtp, lmtp, start=False)
        if disk:
            self.put_on(disk)
        self.counts_file = self.dir / "counts"
        self.counts_file.write_bytes(bytes(KIND.size * KINDS))

    def arm(self):
        self.env.update({"LD_PRELOAD": str(self.shim), "SHIM_KILL_DIR": self.main["queue_directory"],
                         "SHIM_KILL_HOW": "stop" if self.disk else "kill",
                         "SHIM_KILL_COUNTS": str(self.counts_file),
                         "SHIM_KILL": f"{self.step.kind}={self.step.n}={self.step.when}" if self.step else "",
                         "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0".lstrip(":")})

    def disarm(self):
        for name in [n for n in self.env if n == "LD_PRELOAD" or n.startswith("SHIM_KILL")]:
            del self.env[name]

    def ctl(self, *args, **kw):
        env, self.env = self.env, dict(os.environ)  # only the daemon is to be killed
        try:
            return super().ctl(*args, **kw)
        finally:
            self.env = env

    def counts(self):
        data = self.counts_file.read_bytes()
        rows = [KIND.unpack_from(data, i * KIND.size) for i in range(KINDS)]
        return {name.rstrip(b"\0").decode(): n for name, state, n in rows if state == 2}

    def spawn(self):
        super().spawn()
        if self.disk:
            threading.Thread(target=self.watch, args=(self.proc,), daemon=True).start()

    def watch(self, proc):
        """Cuts the power when the daemon freezes at its step."""
        while proc.poll() is None:
            try:
                state = pathlib.Path(f"/proc/{proc.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except (OSError, IndexError):
                return
            if state == "T":  # not "t": the leak checker stops a process that ends
                self.disk.cut()
                proc.kill()
                return
            time.sleep(0.003)

    def end_suddenly(self):
        if self.disk:
            self.proc.send_signal(signal.SIGSTOP)
            self.proc.wait(20)
            self.proc = None
            self.disk.remount()
        else:
            self.kill()

    def is_dead(self):
        return self.proc is None or self.proc.poll() is not None


class Run:
    """The scripted run. What it was told is in `accepted` (number to places), `held`, `released` and `deleted` (queue IDs)."""

    def __init__(self, hub):
        self.hub = hub
        self.accepted = {}
        self.ids = {}
        self.held, self.released, self.deleted = set(), set(), set()
        self.asked = collections.defaultdict(set)
        self.number = 0

    def send(self, client, size, rcpts, sender="a@example.org"):
        self.number += 1
        body = f"From: a@example.org\r\nSubject: number {self.number}\r\nX-Number: {self.number}\r\n\r\n".encode()
        qid = client.send_mail(sender, rcpts, body + (b"x" * 70 + b"\r\n") * (size // 72 + 1))
        self.accepted[self.number] = rcpts
        self.ids[self.number] = qid
        return qid

    def order(self, what, qid, done):
        self.asked[what].add(qid)
        if self.hub.ctl("queue", what, qid, check=False).returncode == 0:
            done.add(qid)
        elif self.hub.is_dead():
            raise Died
        else:
            raise AssertionError(f"queue {what} {qid} was refused")

    def fill(self, rounds):
        with Client("127.0.0.1", self.hub.port, timeout=20) as c:
            for i in range(rounds):
                for _ in range(3):
                    self.send(c, 240000, ["user@example.com"])
                qid = self.send(c, 500, ["user@example.com", "r@smtp.example", LATER])
                self.order("hold", qid, self.held)
                if i % 2 == 0:
                    self.order("release", qid, self.released)
            self.send(c, 400000, ["user@example.com", "r@smtp.example"])
            self.send(c, 400000, ["user@example.com", LATER])
            self.send(c, 500, ["user@example.com", BOUNCES], SENDER)
            self.order("delete", self.send(c, 500, [LATER]), self.deleted)

    def wait_kinds(self, *kinds):
        """Until each has happened (or the daemon was killed in it)."""
        def there():
            if self.hub.is_dead():
                raise Died
            counts = self.hub.counts()
            return all(counts.get(k) for k in kinds)
        wait_for(f"steps of {kinds}", there)

    def play(self):
        """True when it came to its end."""
        try:
            self.hub.start()
            self.fill(14)
            self.wait_kinds("rename segment-to-spare", "pwritev copy", "unlink large", "step index")
            with Client("127.0.0.1", self.hub.port, timeout=20) as c:
                for _ in range(6):  # into what was given back
                    self.send(c, 240000, ["user@example.com"])
            self.hub.end_suddenly()
            self.hub.start()  # recovery
            self.fill(1)
            self.wait_kinds("create checkpoint", "rename checkpoint-to-checkpoint")
            self.hub.proc.send_signal(signal.SIGTERM)
            if self.hub.proc.wait(60) != 0:
                raise Died
            return True
        except (OSError, EOFError, ValueError, AssertionError, Died) as why:
            self.why = why
            if not self.hub.is_dead() and not self.wait_dead():
                raise
            return False

    def wait_dead(self):
        try:
            return wait_for("the end of the daemon", self.hub.is_dead, 5)
        except AssertionError:
            return False

    def check(self, smtp, extra):
        """After the next start: nothing lost, and what was ordered is so."""
        hub = self.hub
        hub.disarm()
        hub.proc = None
        if hub.disk:
            hub.disk.remount()
        if loses_index(hub.step):
            for path in pathlib.Path(hub.main["queue_directory"]).glob("index.db*"):
                path.unlink()
        hub.start()
        queued = {m["queue_id"]: m for m in hub.queue()}
        for qid in self.held - self.asked["release"]:
            assert queued[qid]["queue_name"] == "hold", f"{qid} was put on hold and is not: {queued[qid]}"
        for qid in self.released:
            assert queued[qid]["queue_name"] != "hold", f"{qid} was released and is on hold"
        gone = self.deleted & queued.keys()
        assert not gone, f"deleted and still there: {gone}"
        for qid, m in queued.items():
            if m["queue_name"] == "hold":
                hub.ctl("queue", "release", qid)
        answers = {"r@smtp.example": smtp, LATER: hub.drain(f"{extra}/later")}
        smtp.close()
        found = {place: collections.Counter(a.number for a in (w.answers() if place != LATER else w))
                 for place, w in answers.items()}
        found["user@example.com"] = maildir_numbers(hub)
        notices = b"".join(hub.mails(SENDER.partition("@")[0]))
        found[BOUNCES] = collections.Counter(int(n) for n in re.findall(rb"^X-Number: (\d+)", notices, re.M))
        for n, rcpts in self.accepted.items():
            for rcpt in rcpts:
                if not found[rcpt][n]:  # a deletion that was under way may have been done
                    about = "\n".join(line for line in hub.log().splitlines() if self.ids[n] in line)
                    assert self.ids[n] in self.asked["delete"], f"message {n} ({self.ids[n]}) to {rcpt} is lost:\n{about}"
        twice = [n for n, c in found["user@example.com"].items() if c > 1]
        assert not twice, f"twice in the Maildir: {twice}"
        again = sum(c - 1 for c in found["r@smtp.example"].values())
        assert again <= 1 or hub.disk, f"{again} SMTP deliveries repeated; at most the one that was under way may be"


def loses_index(step):
    """After one end of three the index is made anew, from checkpoint, journal and result log."""
    return step is not None and random.Random(f"{SEED} {step}").random() < INDEX_LOST


def one_run(shim, step, has_disk):
    """Returns (the counts of steps, whether the daemon was killed). Fails when something was lost."""
    with contextlib.ExitStack() as stack:
        extra = stack.enter_context(tempfile.TemporaryDirectory(prefix="posthouse-crash-"))
        os.chmod(extra, 0o755)
        smtp = stack.enter_context(Witness(f"{extra}/smtp"))
        lmtp = stack.enter_context(Witness(f"{extra}/lmtp", lmtp=True))
        disk = stack.enter_context(LoopDisk(extra, 256)) if has_disk else None
        hub = stack.enter_context(StepHub(shim, step, disk, smtp, lmtp))
        hub.arm()
        run = Run(hub)
        try:
            finished = run.play()
            counts = hub.counts()
            run.check(smtp, extra)
        except BaseException as e:
            hub.show()
            raise AssertionError(f"{'power cut' if disk else 'killed'} at {step}{', index removed' if loses_index(step) else ''}: {e}") from e
        assert finished or step, f"the run did not come to its end: {run.why}"
        return counts, not finished


def choose(counts, rng, wanted, of_one_kind):
    """Of each kind some or all, and all its moments."""
    steps = []
    for kind, count in sorted(counts.items()):
        moments = ["before", "after"] + (["half"] if kind.startswith(("pwrite", "write")) else [])
        of = range(1, count + 1) if count <= of_one_kind else sorted(rng.sample(range(1, count + 1), of_one_kind))
        steps.append([Step(kind, n, when) for n in of for when in moments])
    if single := os.environ.get("POSTHOUSE_STEP"):
        kind, n, when = single.rsplit("=", 2)
        return [Step(kind, int(n), when)]
    if wanted == 0:
        return [s for of_kind in steps for s in of_kind]
    for of_kind in steps:
        rng.shuffle(of_kind)
    rng.shuffle(steps)
    return [of_kind[i] for i in range(max(map(len, steps))) for of_kind in steps if i < len(of_kind)][:wanted]


def build_shim(directory):
    if sys.maxsize < 2**32:
        raise cases.Skip("the shim is made for 64-bit systems")
    return shims.build("shim_kill", directory)


def go_through(wanted, of_one_kind, has_disk):
    rng = random.Random(SEED)
    word = "power cuts" if has_disk else "kills"
    with tempfile.TemporaryDirectory(prefix="posthouse-shim-") as directory:
        shim = build_shim(directory)
        counts, _ = one_run(shim, None, has_disk)
        for what, kind in MUST_HAPPEN.items():
            assert counts.get(kind), f"the scripted run has no {what}: {counts}"
        steps = choose(counts, rng, wanted, of_one_kind)
        print(f"seed {SEED}; {sum(counts.values())} steps of {len(counts)} kinds in a run; {word} at {len(steps)} of them", flush=True)
        ended, begun = collections.Counter(), time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            try:
                runs = pool.map(lambda step: one_run(shim, step, has_disk), steps)
                for i, (step, (_, was_ended)) in enumerate(zip(steps, runs)):
                    ended[step.kind] += was_ended
                    if (i + 1) % 50 == 0:
                        print(f"{i + 1} of {len(steps)} runs, {time.monotonic() - begun:.0f} s", flush=True)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        for kind in sorted({s.kind for s in steps}):
            print(f"  {kind}: {ended[kind]} {word}, of {counts[kind]} steps")
        print(f"{word} at {ended.total()} of {len(steps)} steps (the others did not come), nothing lost", flush=True)
        assert ended.total() >= len(steps) // 2


def test_kill_at_every_step():
    go_through(STEPS, 15, False)


def test_power_cut_at_every_step():
    go_through(CUTS, 5, True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # mounts must go, whatever happens
    cases.main(globals())
