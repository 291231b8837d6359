#!/usr/bin/env python3
"""The judge of repeated deliveries itself: what it lets pass, and what it does not."""
import os
import pathlib
import struct
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cases
import resultlog
from repeats import LATE, UNREAD, UNWRITTEN, Kill, Repeats
from witness import Answer

KILLS = [Kill(10.0, 10.1, {(70, 1)}), Kill(20.0, 20.1, {(71, 1)})]
# name, connection begun, answered, how it ended, queue ID, what is expected
CASES = [
    ("answered after the signal", 9.0, 10.05, "unread", 1, LATE),
    ("taken after the signal", 9.0, 10.05, "closed", 1, LATE),
    ("nobody there", 9.0, 9.5, "gone", 1, LATE),
    ("not read", 9.0, 9.999, "unread", 1, UNREAD),
    ("read, not written", 9.0, 9.999, "closed", 1, UNWRITTEN),
    ("in the second life", 12.0, 19.999, "closed", 1, UNWRITTEN),
    ("logged by the next life only", 9.0, 9.999, "closed", 71, UNWRITTEN),
    ("a second to write it", 9.0, 8.9, "closed", 1, None),
    ("the conversation went on", 9.0, 9.999, "went-on", 1, None),
    ("never killed", 21.0, 21.5, "closed", 1, None),
    ("logged, and repeated all the same", 9.0, 9.999, "closed", 70, None),
    ("logged in an earlier life", 12.0, 19.999, "unread", 70, None),
    ("still open", 9.0, 9.999, "open", 1, None),
]


def test_what_is_an_explanation():
    for name, begun, at, end, qid, expected in CASES:
        why = Repeats(KILLS).explain(Answer(5, qid, begun, at, at, end), 1)
        assert (why and why[0]) == expected, f"{name}: {why}"


def test_only_repeats_are_judged():
    r = Repeats(KILLS)
    once = Answer(1, 1, 9.0, 9.5, 9.5, "went-on")
    again = [Answer(2, 2, 9.0, 9.999, 9.999, "closed"), Answer(2, 2, 11.0, 11.5, 11.5, "went-on")]
    wrong = [Answer(3, 3, 9.0, 9.2, 9.2, "went-on"), Answer(3, 3, 11.0, 11.5, 11.5, "went-on")]
    r.add("SMTP", 1, sorted([once, *again, *wrong], key=lambda a: a.at))
    assert (r.deliveries, r.answered, len(r.unexplained)) == (3, 2, 1), (r.deliveries, r.answered, r.unexplained)
    assert "message 3" in r.unexplained[0]


def frame(generation, salt, number, rcpt, outcome):
    body = struct.pack(">QQQIB", number, 0, 0, rcpt, outcome) + bytes(3) + bytes(12)
    head = struct.pack(">IIIBBHQI", 0x50486631 ^ salt >> 32, len(body), 0, 3, 0, 0, generation, 0)
    return head + struct.pack(">I", resultlog.crc32c(body + head + struct.pack(">Q", salt))) + body


def test_the_result_log_is_read_to_its_torn_end():
    assert resultlog.crc32c(b"123456789") == 0xE3069283
    salt = 0x0123456789ABCDEF
    with tempfile.TemporaryDirectory() as spool:
        results = pathlib.Path(spool) / "results"
        results.mkdir()
        log = resultlog.ResultLog(spool)
        head = struct.pack(">8sIIQQQQ", b"PHrslt1\n", 1, 8192, 1, salt, 1 << 20, 0)
        torn = frame(1, salt, 9, 1, 0)
        (results / f"{1:016x}.res").write_bytes(head.ljust(8192, b"\0") + frame(1, salt, 7, 1, 0) + frame(1, salt, 8, 2, 1) +
                                                torn[:-16] + b"\1" * 16)
        assert [(r.id, r.rcpt, r.outcome) for r in log.news()] == [(7, 1, 0), (8, 2, 1)]
        assert list(log.news()) == []


if __name__ == "__main__":
    cases.main(globals())
