#!/usr/bin/env python3
"""Postfix's own postqueue reads our queue through public/showq; unpacked from Debian's package, never installed."""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from unpack import unpacked
from waiting import fill, later

# libraries that a small Debian lacks included
PACKAGES = ["postfix", "libicu72", "libdb5.3", "libnsl2"]


def test_postqueue_reads_our_queue():
    root = unpacked("postfix", PACKAGES)
    program, lib = root / "usr/sbin/postqueue", [root / "usr/lib/postfix", root / "usr/lib/x86_64-linux-gnu"]
    for long_ids in ("no", "yes"):
        with later(enable_long_queue_ids=long_ids) as hub:
            etc = hub.dir / "pf"
            etc.mkdir()
            (etc / "main.cf").write_text(f"compatibility_level = 3.6\nqueue_directory = {hub.dir}/spool\nmail_owner = daemon\n"
                                         f"setgid_group = mail\ndata_directory = {hub.dir}/data\nenable_long_queue_ids = {long_ids}\n")
            env = dict(os.environ, LD_LIBRARY_PATH=":".join(map(str, lib)))

            def run(flag):
                r = subprocess.run([str(program), "-c", str(etc), flag], capture_output=True, text=True, timeout=30, env=env)
                assert r.returncode == 0, r
                return r.stdout
            assert run("-p") == "Mail queue is empty\n"
            fill(hub)
            assert sorted(re.split(r"\n\n", run("-p"))) == sorted(re.split(r"\n\n", hub.ctl("queue", "list").stdout))
            theirs = sorted((json.loads(x) for x in run("-j").splitlines()), key=lambda m: m["queue_id"])
            ours = sorted(hub.queue(), key=lambda m: m["queue_id"])
            for m in theirs + ours:
                for r in m["recipients"]:
                    if not r.get("orig_address"):  # Postfix before 3.11 does not tell it
                        r.pop("orig_address", None)
            assert theirs == ours, (theirs, ours)


if __name__ == "__main__":
    cases.main(globals())
