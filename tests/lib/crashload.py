"""What the crash tests share: a load of numbered messages to several places, and what must be true of them in the end.

Each message goes to a Maildir (recipient 0) and to an SMTP and an LMTP next hop (recipients 1 and 2; witness.py). Some go
to a fourth place too, which is not there until drain(): they are the backlog, which fills the index, keeps segments alive and has
them compacted.

$POSTHOUSE_FLUSH_MS makes flushes so slow, as those of many disks are: then they run side by side (queue/journal_flights.c).
"""
import collections
import os
import random
import re
import tempfile
import threading
import time

import shims
from client import Client
from hub import Hub, wait_for
from witness import Witness

CLIENTS = 4
RCPTS = ["user@example.com", "r@smtp.example", "r@lmtp.example"]
LATER = "r@later.example"
LATER_PORT = 2525
FLUSH_MS = float(os.environ.get("POSTHOUSE_FLUSH_MS", "0"))


def lonely_address():
    """A loopback address of our own: at a free port of 127.0.0.1 the next hop of some other test may soon be listening, and take
    our mail."""
    return f"127.{random.randrange(64, 250)}.{random.randrange(1, 250)}.{random.randrange(1, 250)}"


class Load:
    """CLIENTS threads that send until told to stop; they take a dead daemon in their stride. One message in `large_every` is
    large enough for a file of its own, one in `later_every` is among the backlog."""

    def __init__(self, hub, large_every, later_every):
        self.hub = hub
        self.large_every = large_every
        self.later_every = later_every
        self.accepted = set()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.counter = 0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(CLIENTS)]
        for t in self.threads:
            t.start()

    def next_number(self):
        with self.lock:
            self.counter += 1
            return self.counter

    def run(self):
        while not self.stopping.is_set():
            try:
                with Client("127.0.0.1", self.hub.port, timeout=20) as c:
                    for _ in range(20):
                        if self.stopping.is_set():
                            return
                        n = self.next_number()
                        size = 300000 if n % self.large_every == 0 else 200
                        body = f"From: a@example.org\r\nSubject: number {n}\r\nX-Number: {n}\r\n\r\n".encode()
                        rcpts = RCPTS if n % self.later_every else RCPTS + [LATER]
                        c.send_mail("a@example.org", rcpts, body + (b"x" * 70 + b"\r\n") * (size // 72 + 1))
                        with self.lock:
                            self.accepted.add(n)
            except (OSError, EOFError, ValueError, AssertionError):
                time.sleep(0.005)  # dead or dying: try again

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(timeout=60)


def maildir_numbers(hub):
    found, new = collections.Counter(), hub.dir / "mail" / "user" / "new"
    for path in new.iterdir() if new.is_dir() else ():
        with open(path, "rb") as f:
            found[int(re.search(rb"^X-Number: (\d+)", f.read(4096), re.M).group(1))] += 1
    return found


class CrashHub(Hub):
    """With the places that the messages go to, and a small spool so that everything in it happens soon."""

    def __init__(self, smtp, lmtp, main=None, start=True):
        self.later_host = lonely_address()
        super().__init__(dict({
            "minimal_backoff_time": "300s", "maximal_backoff_time": "300s", "queue_run_delay": "1s",
            "index_flush_interval": "100ms", "journal_segment_size": "1M", "smtpd_client_connection_count_limit": "0",
        }, **(main or {})), routes={
            "smtp.example": f"smtp:[127.0.0.1]:{smtp.port}", "lmtp.example": f"lmtp:inet:[127.0.0.1]:{lmtp.port}",
            "later.example": f"smtp:[{self.later_host}]:{LATER_PORT}",
        }, start=False)
        if FLUSH_MS:
            self.shims = tempfile.TemporaryDirectory(prefix="posthouse-shim-")
            self.env.update({"LD_PRELOAD": str(shims.build("shim_flush", self.shims.name)), "SHIM_FLUSH_US": str(int(FLUSH_MS * 1000))})
        if start:
            self.start()

    def put_on(self, disk):
        """Queue and mailboxes on a disk whose power can be cut. Before the start."""
        self.main["queue_directory"] = str(disk.path / "spool")
        (self.dir / "mail").rmdir()
        (disk.path / "mail").mkdir()
        (self.dir / "mail").symlink_to(disk.path / "mail")
        self.write_conf()

    def drain(self, answers_file):
        """Opens the place that was not there, waits for an empty queue and stops; returns what came there."""
        self.wait_log("daemon started")
        with Witness(answers_file, host=self.later_host, port=LATER_PORT) as later:
            self.ctl("queue", "flush")
            left = self.queue()
            while left:
                before = len(left)
                try:
                    left = wait_for("fewer messages in the queue", lambda: [m for m in [self.queue()] if len(m) < before], 120)[0]
                except AssertionError as e:
                    raise AssertionError(f"{e}; {before} are left, the first: {left[:3]}") from None
            self.stop()  # ends the conversations, so that the next hops write down their last answers
            later.close()
            return later.answers()


def check_nothing_lost(load, places):
    """`places`: name and what has the numbers of the messages that got there; "later" of those that were to go there."""
    for place, found in places.items():
        accepted = load.accepted if place != "later" else {n for n in load.accepted if n % load.later_every == 0}
        lost = sorted(n for n in accepted if n not in found)
        assert not lost, f"{place}: {len(lost)} of {len(accepted)} acknowledged messages are missing: {lost[:20]}"


def check_maildir(found):
    twice = [n for n, count in found.items() if count > 1]
    assert not twice, f"a Maildir delivery can tell that it took place before: {twice[:20]}"
