#!/usr/bin/env python3
"""kill -9 at random moments under load: what was answered 250 is delivered, and what was delivered again is explained.

Clients send numbered messages, each to a Maildir and to an SMTP and an LMTP next hop, some to one that is away until the
end, and note every 250. The daemon is killed
and started again KILLS times ($POSTHOUSE_KILLS, default 20; the seed is printed and can be given as $POSTHOUSE_SEED).
At the end the queue must drain, and every noted message must be at each of its places. Each delivery that was made
again must be explained by evidence (lib/repeats.py): its answer came too late to be read, or to be written down. A
Maildir never gets a second one.
"""
import os
import random
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from crashload import CrashHub, Load, check_maildir, check_nothing_lost, maildir_numbers
from hub import wait_for
from repeats import Kill, Repeats
from resultlog import SENT, ResultLog
from witness import Witness

KILLS = int(os.environ.get("POSTHOUSE_KILLS", "20"))
SEED = int(os.environ.get("POSTHOUSE_SEED", str(random.randrange(1 << 30))))
REPEATS_MAX = 10  # a kill: with some thousand deliveries a second that is some milliseconds from answer to result


def kill_and_restart(hub, results):
    at = time.monotonic()
    hub.kill()
    kill = Kill(at, time.monotonic(), {(r.id, r.rcpt) for r in results.news() if r.outcome == SENT})
    hub.start()
    return kill


def test_nothing_acknowledged_is_lost():
    rng = random.Random(SEED)
    print(f"seed {SEED}, {KILLS} kills", flush=True)
    with tempfile.TemporaryDirectory(prefix="posthouse-crash-") as extra, Witness(f"{extra}/smtp") as smtp, \
            Witness(f"{extra}/lmtp", lmtp=True) as lmtp, CrashHub(smtp, lmtp) as hub:
        results, kills, load = ResultLog(hub.dir / "spool"), [], Load(hub, large_every=49, later_every=20)
        for i in range(KILLS):
            before = len(load.accepted)
            time.sleep(rng.uniform(0.01, 0.6))  # the random moment is what this test is about
            kills.append(kill_and_restart(hub, results))
            wait_for("mail to be accepted again", lambda: len(load.accepted) > before)
            if (i + 1) % 100 == 0:
                print(f"{i + 1} kills, {len(load.accepted)} acknowledged", flush=True)
        load.stop()
        later = hub.drain(f"{extra}/later")
        smtp.close(), lmtp.close()
        repeats = Repeats(kills)
        places = {"SMTP": repeats.add("SMTP", 1, smtp.answers()), "LMTP": repeats.add("LMTP", 2, lmtp.answers()),
                  "later": repeats.add("later", 3, later), "Maildir": maildir_numbers(hub)}
        check_nothing_lost(load, places)
        print(f"{len(load.accepted)} acknowledged, none lost; delivered again:\n{repeats.summary()}", flush=True)
        assert not repeats.unexplained, "\n".join(repeats.unexplained[:20])
        assert repeats.answered <= REPEATS_MAX * KILLS, "too many: results are written too long after their answers"
        check_maildir(places["Maildir"])
        assert len(load.accepted) > KILLS


if __name__ == "__main__":
    cases.main(globals())
