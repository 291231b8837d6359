#!/usr/bin/env python3
"""kill -9 at random moments under load: what was answered 250 is delivered.

Clients send numbered messages, each to a Maildir and to an SMTP and an LMTP next hop, and note every 250. The daemon is killed
and started again KILLS times ($POSTHOUSE_KILLS, default 20; the seed is printed and can be given as $POSTHOUSE_SEED).
At the end the queue must drain, and every noted message must be at each of its three places. Deliveries that happened
twice are counted: a next hop that has answered while the daemon died before it could write that down.
"""
import collections
import os
import random
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from client import Client
from hub import Hub, wait_for
from sink import Sink

KILLS = int(os.environ.get("POSTHOUSE_KILLS", "20"))
SEED = int(os.environ.get("POSTHOUSE_SEED", str(random.randrange(1 << 30))))
CLIENTS = 4
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
                        size = 200 if n % 10 else 300000  # some go to a file of their own
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


def numbers(contents):
    found = collections.Counter()
    for data in contents:
        found[int(re.search(rb"^X-Number: (\d+)", data, re.M).group(1))] += 1
    return found


def test_nothing_acknowledged_is_lost():
    rng = random.Random(SEED)
    print(f"seed {SEED}, {KILLS} kills", flush=True)
    with Sink() as smtp, Sink(lmtp=True) as lmtp, Hub(start=False) as hub:
        hub.main.update({
            "relay_domains": "smtp.example lmtp.example",
            "transport_maps": f"inline:{{ {{ smtp.example = smtp:[127.0.0.1]:{smtp.port} }}"
                              f" {{ lmtp.example = lmtp:inet:[127.0.0.1]:{lmtp.port} }} }}",
            "minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s",
            "index_flush_interval": "1s",
            "journal_segment_size": "1M", "smtpd_client_connection_count_limit": "0",
        })
        hub.write_conf()
        hub.start()
        load = Load(hub)
        for _ in range(KILLS):
            before = len(load.accepted)
            time.sleep(rng.uniform(0.01, 0.6))  # the random moment is what this test is about
            hub.kill()
            hub.start()
            wait_for("mail to be accepted again", lambda: len(load.accepted) > before)
        load.stop()
        hub.wait_log("daemon started")
        wait_for("the queue to drain", lambda: not hub.queue(), 120)
        places = {"Maildir": numbers(hub.mails()), "SMTP": numbers(m["data"] for m in smtp.mails),
                  "LMTP": numbers(m["data"] for m in lmtp.mails)}
        accepted = load.accepted
        twice = {}
        for place, found in places.items():
            lost = sorted(n for n in accepted if not found[n])
            assert not lost, f"{place}: {len(lost)} of {len(accepted)} acknowledged messages are missing: {lost[:20]}"
            twice[place] = sum(c - 1 for c in found.values())
        print(f"{len(accepted)} acknowledged, none lost; delivered again: {twice}", flush=True)
        assert twice["Maildir"] == 0, "a Maildir delivery can tell that it took place before the kill"
        assert len(accepted) > KILLS
        hub.stop()


if __name__ == "__main__":
    cases.main(globals())
