"""Reads the result log of a spool as posthouse-spool(5) describes it, on its own: what was written when the daemon was killed."""
import collections
import pathlib
import struct

Result = collections.namedtuple("Result", "id rcpt outcome when_us")
HEAD = struct.Struct(">8sIIQQQQ")
FRAME = struct.Struct(">IIIBBHQII")
RESULT = struct.Struct(">QQQIB")
SENT = 0
_TABLE = []


def crc32c(data, crc=0):
    if not _TABLE:
        for i in range(256):
            for _ in range(8):
                i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
            _TABLE.append(i)
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def read_file(path):
    """The valid results of one file, up to the first place that holds no valid frame."""
    data = path.read_bytes()
    magic, version, at, generation, salt, size, _ = HEAD.unpack_from(data)
    if magic != b"PHrslt1\n":
        return
    assert version == 1 and generation == int(path.stem, 16), path
    while at + FRAME.size <= len(data):
        mark, meta, content, kind, _, _, of, _, crc = FRAME.unpack_from(data, at)
        if mark != 0x50486631 ^ salt >> 32 or of != generation or at + FRAME.size + meta > len(data):
            return
        body = data[at + FRAME.size:at + FRAME.size + meta]
        if crc32c(body + data[at:at + 28] + struct.pack(">Q", salt)) != crc:
            return
        if kind == 3:
            number, when, _, rcpt, outcome = RESULT.unpack_from(body)
            yield Result(number, rcpt, outcome, when)
        at += FRAME.size + meta + content


class ResultLog:
    """Follows the results of a spool from one start of the daemon to the next: every file is read once it grows no more."""

    def __init__(self, spool):
        self.dir = pathlib.Path(spool) / "results"
        self.upto = 0

    def news(self):
        """Results of the files that began since the last call. Only while no daemon runs."""
        files = sorted(p for p in self.dir.glob("*.res") if int(p.stem, 16) > self.upto)
        for path in files:
            yield from read_file(path)
            self.upto = int(path.stem, 16)
