#!/usr/bin/env python3
"""A power cut: what was answered 250 is there after it.

The spool and the mailboxes lie on ext4 on a loop device. While clients send, everything stops at a random moment: the daemon is
frozen, the file system shut down without a flush of its log, the daemon killed, the device mounted and the daemon started
again. In one cut of four the daemon goes on for a moment with a disk that takes nothing more: what it acknowledges then
counts too.
$POSTHOUSE_CUTS (default 4) says how often, $POSTHOUSE_SEED repeats one.

A power cut may repeat deliveries, but only those of the last seconds: the result log is flushed four times a second.
"""
import os
import random
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from crashload import CrashHub, Load, check_maildir, check_nothing_lost, maildir_numbers
from hub import wait_for
from loopdisk import LoopDisk
from witness import Witness

CUTS = int(os.environ.get("POSTHOUSE_CUTS", "4"))
SEED = int(os.environ.get("POSTHOUSE_SEED", str(random.randrange(1 << 30))))
LAST_SECONDS = 5  # results are flushed within a quarter of one; the rest is for a machine that has much to do


def cut_power(hub, disk, goes_on):
    """Returns when it was, and when the daemon was gone."""
    if not goes_on:
        hub.proc.send_signal(signal.SIGSTOP)
    at = time.monotonic()
    disk.cut()
    if goes_on:
        time.sleep(0.1)  # the daemon meets the dead disk: this is what the case is about
    hub.kill()
    dead = time.monotonic()
    disk.remount()
    return at, dead


def check_repeats(answers, cuts):
    """Counts what was delivered again; fails when the first delivery was long before a cut."""
    last, again = {}, 0
    for a in answers:
        before = last.get(a.number)
        last[a.number] = a
        if before is None:
            continue
        again += 1
        near = [at for at, dead in cuts if before.at <= dead <= a.at and at - before.at < LAST_SECONDS]
        assert near or before.end == "gone", f"message {a.number} delivered at {before.at}, again at {a.at}; power cuts: {cuts}"
    return again, last


def test_nothing_acknowledged_is_lost():
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory(prefix="posthouse-crash-") as extra:
        os.chmod(extra, 0o755)
        with LoopDisk(extra, 256 + 30 * CUTS) as disk, Witness(f"{extra}/smtp") as smtp, Witness(f"{extra}/lmtp", lmtp=True) as lmtp, \
                CrashHub(smtp, lmtp, start=False) as hub:
            hub.put_on(disk)
            hub.start()
            run_cuts(rng, disk, hub, smtp, lmtp, f"{extra}/later")


def run_cuts(rng, disk, hub, smtp, lmtp, later_file):
    print(f"seed {SEED}, {CUTS} power cuts", flush=True)
    load, cuts = Load(hub, large_every=41, later_every=5), []
    for i in range(CUTS):
        before = len(load.accepted)
        time.sleep(rng.uniform(0.02, 2.5))  # the random moment is what this test is about
        cuts.append(cut_power(hub, disk, rng.random() < 0.25))
        hub.start()
        wait_for("mail to be accepted again", lambda: len(load.accepted) > before)
        if (i + 1) % 20 == 0:
            print(f"{i + 1} cuts, {len(load.accepted)} acknowledged", flush=True)
    load.stop()
    later = hub.drain(later_file)
    smtp.close(), lmtp.close()
    again, places = {}, {"Maildir": maildir_numbers(hub)}
    again["later"], places["later"] = check_repeats(later, cuts)
    again["SMTP"], places["SMTP"] = check_repeats(smtp.answers(), cuts)
    again["LMTP"], places["LMTP"] = check_repeats(lmtp.answers(), cuts)
    check_nothing_lost(load, places)
    check_maildir(places["Maildir"])
    print(f"{len(load.accepted)} acknowledged, none lost in {CUTS} power cuts; of the last seconds before them delivered again:"
          f" {again}", flush=True)
    assert len(load.accepted) > CUTS


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the mount must go, whatever happens
    cases.main(globals())
