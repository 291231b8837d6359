#!/usr/bin/env python3
"""kill -9 at random moments under load: what was answered 250 is delivered, and what was delivered again is explained.

Clients send numbered messages, each to a Maildir and to an SMTP and an LMTP next hop, and note every 250. The daemon is killed
and started again KILLS times ($POSTHOUSE_KILLS, default 20; the seed is printed and can be given as $POSTHOUSE_SEED).
At the end the queue must drain, and every noted message must be at each of its three places. Each delivery that was made
again must be explained by evidence (lib/repeats.py): its answer came too late to be read, or to be written down. A
Maildir never gets a second one.
"""
import collections
import os
import random
import re
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from client import Client
from hub import Hub, wait_for
from repeats import Kill, Repeats
from resultlog import SENT, ResultLog
from witness import Witness

KILLS = int(os.environ.get("POSTHOUSE_KILLS", "20"))
SEED = int(os.environ.get("POSTHOUSE_SEED", str(random.randrange(1 << 30))))
CLIENTS = 4
REPEATS_MAX = 10  # a kill: with some thousand deliveries a second that is some milliseconds from answer to result
RCPTS = ["user@example.com", "r@smtp.example", "r@lmtp.example"]


class Load:
    """CLIENTS threads that send until told to stop; they take a dead daemon in their stride."""

    def __init__(self, hub):
        self.hub = hub
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
                        size = 200 if n % 50 else 300000  # some go to a file of their own
                        body = f"From: a@example.org\r\nSubject: number {n}\r\nX-Number: {n}\r\n\r\n".encode()
                        c.send_mail("a@example.org", RCPTS, body + b"x" * 70 + b"\r\n" * (size // 72 + 1))
                        with self.lock:
                            self.accepted.add(n)
            except (OSError, EOFError, ValueError, AssertionError):
                time.sleep(0.005)  # dead or dying: try again

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(timeout=60)


def maildir_numbers(hub):
    found = collections.Counter()
    for path in (hub.dir / "mail" / "user" / "new").iterdir():
        with open(path, "rb") as f:
            found[int(re.search(rb"^X-Number: (\d+)", f.read(4096), re.M).group(1))] += 1
    return found


def kill_and_restart(hub, results):
    at = time.monotonic()
    hub.kill()
    kill = Kill(at, time.monotonic(), {(r.id, r.rcpt) for r in results.news() if r.outcome == SENT})
    hub.start()
    return kill


def make_hub(smtp, lmtp):
    return Hub({
        "minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s", "index_flush_interval": "1s",
        "journal_segment_size": "1M", "smtpd_client_connection_count_limit": "0",
    }, routes={"smtp.example": f"smtp:[127.0.0.1]:{smtp.port}", "lmtp.example": f"lmtp:inet:[127.0.0.1]:{lmtp.port}"})


def test_nothing_acknowledged_is_lost():
    rng = random.Random(SEED)
    print(f"seed {SEED}, {KILLS} kills", flush=True)
    with tempfile.TemporaryDirectory(prefix="posthouse-crash-") as extra, Witness(f"{extra}/smtp") as smtp, \
            Witness(f"{extra}/lmtp", lmtp=True) as lmtp, make_hub(smtp, lmtp) as hub:
        results, kills, load = ResultLog(hub.dir / "spool"), [], Load(hub)
        for i in range(KILLS):
            before = len(load.accepted)
            time.sleep(rng.uniform(0.01, 0.6))  # the random moment is what this test is about
            kills.append(kill_and_restart(hub, results))
            wait_for("mail to be accepted again", lambda: len(load.accepted) > before)
            if (i + 1) % 100 == 0:
                print(f"{i + 1} kills, {len(load.accepted)} acknowledged", flush=True)
        load.stop()
        hub.wait_log("daemon started")
        wait_for("the queue to drain", lambda: not hub.queue(), 120)
        hub.stop()  # ends the conversations, so that the next hops write down their last answers
        smtp.close(), lmtp.close()
        repeats = Repeats(kills)
        places = {"SMTP": repeats.add("SMTP", 1, smtp.answers()), "LMTP": repeats.add("LMTP", 2, lmtp.answers()),
                  "Maildir": maildir_numbers(hub)}
        for place, found in places.items():
            lost = sorted(n for n in load.accepted if n not in found)
            assert not lost, f"{place}: {len(lost)} of {len(load.accepted)} acknowledged messages are missing: {lost[:20]}"
        print(f"{len(load.accepted)} acknowledged, none lost; delivered again:\n{repeats.summary()}", flush=True)
        assert not repeats.unexplained, "\n".join(repeats.unexplained[:20])
        assert repeats.answered <= REPEATS_MAX * KILLS, "too many: results are written too long after their answers"
        twice = [n for n, count in places["Maildir"].items() if count > 1]
        assert not twice, f"a Maildir delivery can tell that it took place before the kill: {twice[:20]}"
        assert len(load.accepted) > KILLS


if __name__ == "__main__":
    cases.main(globals())
