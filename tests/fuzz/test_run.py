#!/usr/bin/env python3
"""tests/fuzz/run and the record it keeps, with programs in the place of the targets."""
import datetime
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import cases

HEAD = "target\tcpu_seconds\truns\tlast_finding"
SAYS = """#!/bin/bash
case $* in *-timeout=0*) exit %d ;; esac
echo '#2 INITED cov: 10 ft: 12 corp: 1/1b'
echo '#70 NEW cov: 20 ft: 22 corp: 3/9b'
%s
echo 'stat::number_of_executed_units: 70'
echo "artifact_prefix='./x.'; Test unit written to ./x.timeout-00ff"
exit %d
"""
BURN = "while read -r user system < <(cut -d' ' -f14,15 /proc/$$/stat) && [ $((user + system)) -lt 120 ]; do for i in {1..9999}; do :; done; done"


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def play(targets, before):
    """What run prints and its exit status, and the lines of the record behind it; TARGETS: name -> program."""
    with tempfile.TemporaryDirectory() as d:
        programs = pathlib.Path(d, "tests", "fuzz")
        programs.mkdir(parents=True)
        for name, text in targets.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        record = pathlib.Path(d, "record.tsv")
        record.write_text("\n".join([HEAD] + before) + "\n")
        r = subprocess.run([os.path.join(HERE, "run"), d], capture_output=True, text=True, timeout=60, env=dict(os.environ, FUZZ_RECORD=str(record)))
        assert r.stderr == "", r
        lines = record.read_text().splitlines()
        assert lines[0] == HEAD and sorted(os.listdir(d)) == ["fuzz-work", "record.tsv", "tests"], (lines, os.listdir(d))
        return r.stdout, r.returncode, lines[1:]


def test_time_and_runs_add_up():
    said, status, lines = play({"fuzz_a": SAYS % (0, BURN, 0)}, ["fuzz_a\t3600\t1000000\t2026-01-31", "fuzz_b\t7\t8\t-"])
    assert status == 0 and said.startswith("fuzz_a: ok, 70 runs, coverage 10 -> 20"), said
    name, seconds, runs, last = lines[0].split("\t")
    assert (name, runs, last) == ("fuzz_a", "1000070", "2026-01-31") and 3601 <= int(seconds) <= 3620, lines
    assert lines[1:] == ["fuzz_b\t7\t8\t-"], lines


def test_a_finding_begins_again():
    begun = today()
    said, status, lines = play({"fuzz_a": SAYS % (0, "", 77), "fuzz_b": SAYS % (0, "", 0)}, ["fuzz_a\t3600\t99\t-", "fuzz_b\t5\t9\t-"])
    assert status == 1 and "fuzz_a: FINDING" in said and "fuzz_b: ok" in said, said
    assert lines[0] in (f"fuzz_a\t0\t0\t{begun}", f"fuzz_a\t0\t0\t{today()}") and lines[1:] == ["fuzz_b\t5\t79\t-"], lines


def test_a_new_target_gets_a_line():
    _, status, lines = play({"fuzz_new": SAYS % (0, "", 0)}, ["fuzz_a\t1\t2\t-"])
    assert status == 0 and lines == ["fuzz_a\t1\t2\t-", "fuzz_new\t0\t70\t-"], lines


def test_told_to_stop_is_no_finding():
    _, status, lines = play({"fuzz_a": SAYS % (0, "", 72)}, ["fuzz_a\t1\t2\t-"])
    assert status == 0 and lines == ["fuzz_a\t1\t72\t-"], lines


def test_late_because_the_machine_was_busy():
    _, status, lines = play({"fuzz_a": SAYS % (0, "", 70), "fuzz_b": SAYS % (152, "", 70)}, ["fuzz_a\t1\t2\t-", "fuzz_b\t1\t2\t-"])
    assert status == 1 and lines[0] == "fuzz_a\t1\t72\t-" and lines[1].startswith("fuzz_b\t0\t0\t20"), lines


if __name__ == "__main__":
    cases.main(globals())
