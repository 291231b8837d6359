#!/usr/bin/env python3
"""The completion of posthousectl, asked of a real bash."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import BUILD, Hub

HERE = os.path.dirname(os.path.abspath(__file__))
FILE = os.path.join(HERE, "..", "..", "daemon", "etc", "completion", "posthousectl")

ASK = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=() COMP_CWORD=0
_posthousectl
printf '%s\n' "${COMPREPLY[@]}"
"""


def complete(line):
    env = dict(os.environ, PATH=f"{BUILD}:{os.environ['PATH']}")
    r = subprocess.run(["bash", "--norc", "-u", "-c", ASK, "bash", FILE, line], capture_output=True, text=True, timeout=60, env=env)
    assert r.returncode == 0 and r.stderr == "", r
    return [x for x in r.stdout.split("\n") if x]


def test_without_a_queue():
    if shutil.which("bash") is None:
        raise cases.Skip("there is no bash")
    assert complete("posthousectl ") == ["queue", "status", "tables", "restrictions", "explain", "reload", "stop", "check", "conf", "map", "verify", "-c", "--help", "--version"]
    assert complete("posthousectl re") == ["restrictions", "reload"]
    assert complete("posthousectl explain --client 192.0.2.1 --h") == ["--helo"] and complete("posthousectl explain --helo ") == []
    assert complete("posthousectl queue re") == ["release", "requeue", "readdress", "resume", "rebuild"]
    assert complete("posthousectl -c /etc/x queue com") == ["compact"]
    assert complete("posthousectl status ") == ["-j"]
    assert complete("posthousectl queue check -") == ["-j", "-v"]
    assert complete("posthousectl queue list --se") == ["--sender"]
    assert complete("posthousectl queue hold --state de") == ["deferred"]
    assert complete("posthousectl queue hold --sender ") == []
    assert complete("posthousectl queue nothing ") == []
    assert complete("posthousectl nothing ") == []
    assert complete("posthousectl map -q a lm") == ["lmdb:"]
    assert complete("posthousectl map -q ") == ["-"]
    assert complete(f"posthousectl map -s hash:{FILE[:-2]}") == [f"hash:{FILE}"] or complete(f"posthousectl map -s hash:{FILE[:-2]}") == [FILE]


def test_every_verb_is_known():
    """The verbs that completion offers are those that the program has."""
    usage = subprocess.run([str(BUILD / "posthousectl"), "queue"], capture_output=True, text=True, timeout=60).stderr
    have = set(re.search(r"usage: queue (\S+)", usage)[1].split("|"))
    assert set(complete("posthousectl queue ")) == have, set(complete("posthousectl queue ")) ^ have
    helped = subprocess.run([str(BUILD / "posthousectl"), "--help"], capture_output=True, text=True, timeout=60).stdout
    commands = set(re.findall(r"^  ([a-z]+) ", helped, re.M))
    offered = {c for c in complete("posthousectl ") if not c.startswith("-")}
    assert offered == commands, offered ^ commands
    for verb in have:
        assert re.search(rf"\b{verb}\b", helped), f"--help does not mention {verb}"


def test_from_the_queue():
    with Hub(routes={"a.example": "smtp:[127.0.0.1]:1"}) as hub:
        with hub.client() as c:
            c.send_mail("joe@example.org", ["u@a.example"], b"Subject: x\r\n\r\nhello\r\n")
        hub.wait_log("status=deferred")
        qid = hub.queue()[0]["queue_id"]
        base = f"posthousectl -c {hub.dir}/etc queue"
        assert complete(f"{base} show ") == [qid]
        assert complete(f"{base} hold {qid[:4]}") == [qid]
        assert complete(f"{base} delete ") == [qid, "ALL"]
        assert complete(f"{base} pause --destination ") == ["[127.0.0.1]:1"]
        assert complete(f"{base} pause --destination [127.0.0.1]:") == ["1"]  # what is before the colon is there already
        assert complete(f"{base} resume --destination ") == []
        hub.ctl("queue", "pause", "--transport", "smtp")
        assert complete(f"{base} resume --transport s") == ["smtp"]


if __name__ == "__main__":
    cases.main(globals())
