#!/usr/bin/env python3
"""kill -9 while mail for lists with owners is committed: each message is at all of its places, or at none.

A message to two lists, each with an owner, and to a user is three messages in the spool. The client sends each until it is
answered 250, so nothing may be missing; and what was not answered may come twice, but then at every place, since it was
committed as a whole. First the daemon is killed before, in the middle of and after the write of such a group and its flush, then
at KILLS random moments ($POSTHOUSE_LIST_KILLS, default 4; $POSTHOUSE_SEED).
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
from steps import KIND, KINDS, build_shim

KILLS = int(os.environ.get("POSTHOUSE_LIST_KILLS", "4"))
SEED = int(os.environ.get("POSTHOUSE_SEED", str(random.randrange(1 << 30))))
PLACES = ["user", "one", "two", "three"]
ALIASES = """\
first: one@example.com, two@example.com
owner-first: keeper@example.com
second: three@example.com
owner-second: other@example.com
"""
RCPTS = ["user@example.com", "first@hub.example.net", "second@hub.example.net"]
STEPS = [f"pwritev together={n}={when}" for n, when in ((1, "before"), (2, "half"), (3, "half"), (4, "half"), (1, "after"))]
STEPS += ["fdatasync segment=3=before", "fdatasync segment=3=after", "fdatasync large=2=after"]


class ListHub(Hub):
    def __init__(self):
        users = " ".join(f"{u}@example.com={u}/" for u in PLACES)
        super().__init__({"virtual_mailbox_maps": f"inline:{{ {users} }}", "mydestination": "hub.example.net",
                          "local_recipient_maps": "$alias_maps", "journal_segment_size": "1M", "index_flush_interval": "100ms",
                          "smtpd_client_connection_count_limit": "0"}, start=False)
        (self.dir / "aliases").write_text(ALIASES)
        self.main["alias_maps"] = f"hash:{self.dir}/aliases"
        self.write_conf()

    def numbers(self, user):
        found, new = collections.Counter(), self.dir / "mail" / user / "new"
        for path in new.iterdir() if new.is_dir() else ():
            with open(path, "rb") as f:
                found[int(re.search(rb"^X-Number: (\d+)", f.read(4096), re.M).group(1))] += 1
        return found

    def check(self, accepted):
        wait_for("an empty queue", lambda: self.queue() == [], 60)
        found = {u: self.numbers(u) for u in PLACES}
        for n in accepted:
            counts = {u: found[u][n] for u in PLACES}
            assert counts["user"] >= 1 and len(set(counts.values())) == 1, f"message {n}: {counts}"
        wait_for("no file to be left", lambda: not list((self.dir / "spool" / "large").iterdir()))


def body(n):
    size = 300000 if n % 3 == 0 else 2000
    return f"From: a@example.org\r\nSubject: number {n}\r\nX-Number: {n}\r\n\r\n".encode() + (b"x" * 70 + b"\r\n") * (size // 72)


def send_until_taken(hub, n):
    """True: at the first try. Only the end of the daemon is a reason to try again."""
    for attempt in range(5):
        try:
            with Client("127.0.0.1", hub.port, timeout=20) as c:
                c.send_mail("a@example.org", RCPTS, body(n))
                return attempt == 0
        except (OSError, EOFError, ValueError, AssertionError):
            hub.proc.wait(20)
            hub.env.pop("SHIM_KILL", None)
            hub.env.pop("LD_PRELOAD", None)
            hub.start()
    raise AssertionError(f"message {n} is not taken")


def test_at_each_step_of_the_commit():
    with tempfile.TemporaryDirectory(prefix="posthouse-shim-") as directory, ListHub() as hub:
        shim, counts, n, killed = build_shim(directory), hub.dir / "counts", 0, 0
        for step in STEPS:
            counts.write_bytes(bytes(KIND.size * KINDS))
            hub.env.update({"LD_PRELOAD": str(shim), "SHIM_KILL_DIR": hub.main["queue_directory"], "SHIM_KILL_COUNTS": str(counts), "SHIM_KILL": step,
                            "SHIM_KILL_HOW": "kill",
                            "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0".lstrip(":")})
            hub.start()
            for _ in range(5):
                n += 1
                killed += not send_until_taken(hub, n)
            if hub.proc.poll() is None:
                hub.stop()
            for name in ("LD_PRELOAD", "SHIM_KILL"):
                hub.env.pop(name, None)
        assert killed >= len(STEPS) - 1, f"only {killed} of {len(STEPS)} ends took place"
        hub.start()
        hub.check(range(1, n + 1))
        assert "messages passed over: others that belong to them were not written" in hub.log()


def test_at_random_moments():
    rng = random.Random(SEED)
    print(f"seed {SEED}, {KILLS} kills", flush=True)
    with ListHub() as hub:
        accepted, stopping, numbers, lock = [], threading.Event(), iter(range(1, 1 << 30)), threading.Lock()

        def client():
            while not stopping.is_set():
                with lock:
                    n = next(numbers)
                while not stopping.is_set():
                    try:
                        with Client("127.0.0.1", hub.port, timeout=20) as c:
                            c.send_mail("a@example.org", RCPTS, body(n))
                        accepted.append(n)
                        break
                    except (OSError, EOFError, ValueError, AssertionError):
                        time.sleep(0.005)  # dead or dying: try again
        hub.start()
        threads = [threading.Thread(target=client, daemon=True) for _ in range(3)]
        for t in threads:
            t.start()
        for _ in range(KILLS):
            before = len(accepted)
            wait_for("mail to be taken", lambda: len(accepted) > before + 5)
            time.sleep(rng.uniform(0, 0.05))  # the random moment is what this test is about
            hub.kill()
            hub.start()
        stopping.set()
        for t in threads:
            t.join(timeout=60)
        hub.check(list(accepted))


if __name__ == "__main__":
    cases.main(globals())
