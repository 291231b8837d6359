"""The shim of tests/faults/shim_faults.c, built and steered: a Hub whose n-th call of a class fails.

    shim = Shim(directory)                        # compiles it
    block = Block(directory / "block")            # what the test and the daemon share
    hub = FaultHub(shim, block)                   # starts nothing yet
    block.order("write", "ONCE", errno.EIO, n=7)
    ...
    block.hits()                                  # what failed, where
    block.heal()
"""
import mmap
import os
import pathlib
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import BUILD, Hub

HERE = pathlib.Path(__file__).resolve().parent
CLASSES = ["write", "read", "flush", "open", "name", "space", "map", "stat", "descriptor", "thread", "alloc"]
ORDERS = {"OFF": 0, "ONCE": 1, "ON": 2, "STACK": 3, "SHORT": 4, "NOTE": 5}
MAGIC = 0x50484654
CLASS_AT, CLASS_BYTES, CLASSES_MAX = 8, 64, 16
CLOCK_AT = CLASS_AT + CLASS_BYTES * CLASSES_MAX
HIT_AT, HIT_BYTES, HITS_KEPT = CLOCK_AT + 16, 512, 64
WAY_AT, WAY_BYTES, WAYS = HIT_AT + HIT_BYTES * HITS_KEPT, 256, 16384
BLOCK_BYTES = WAY_AT + WAY_BYTES * WAYS


def uses_sanitizer():
    """A sanitizer's allocator is not to be replaced by the shim's."""
    text = (BUILD / "config.status").read_text(errors="replace") if (BUILD / "config.status").exists() else ""
    return "-fsanitize" in text


class Shim:
    def __init__(self, directory):
        if sys.maxsize < 2**32 or not sys.platform.startswith("linux"):
            raise cases.Skip("the shim is made for 64-bit Linux")
        self.path = pathlib.Path(directory) / "shim_faults.so"
        flags = ["-DFAULTS_NO_ALLOC"] if uses_sanitizer() else []
        try:
            subprocess.run([*shlex.split(os.environ.get("CC", "cc")), "-O1", "-g", "-fPIC", "-shared", "-Wall", *flags, "-o", str(self.path),
                            str(HERE / "shim_faults.c"), "-ldl", "-lpthread"], check=True, timeout=60)
        except FileNotFoundError:
            raise cases.Skip("no C compiler")


class Block:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        with open(self.path, "wb") as f:
            f.truncate(BLOCK_BYTES)
        os.chmod(self.path, 0o666)
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), BLOCK_BYTES)
        struct.pack_into("<II", self.map, 0, MAGIC, 0)

    def close(self):
        self.map.close()

    def order(self, cls, order, error=0, n=0, way=0):
        """From now on; the n-th call is counted from this moment."""
        at = CLASS_AT + CLASS_BYTES * CLASSES.index(cls)
        struct.pack_into("<I", self.map, at, 0)
        struct.pack_into("<iQQQQ", self.map, at + 4, error, n, way, 0, 0)
        struct.pack_into("<I", self.map, at, ORDERS[order])

    def heal(self):
        for i in range(len(CLASSES)):
            struct.pack_into("<I", self.map, CLASS_AT + CLASS_BYTES * i, 0)

    def count(self, cls):
        return struct.unpack_from("<Q", self.map, CLASS_AT + CLASS_BYTES * CLASSES.index(cls) + 24)[0]

    def hit_count(self, cls):
        return struct.unpack_from("<Q", self.map, CLASS_AT + CLASS_BYTES * CLASSES.index(cls) + 32)[0]

    def clock(self, seconds):
        """Sets the daemon's wall clock this far ahead of (or behind) the machine's."""
        struct.pack_into("<q", self.map, CLOCK_AT, int(seconds * 1000000))

    def hits(self):
        """What failed: (class, call, errno, thread, path, way), the first HITS_KEPT."""
        found = []
        for i in range(min(struct.unpack_from("<I", self.map, 4)[0], HITS_KEPT)):
            at = HIT_AT + HIT_BYTES * i
            text = self.map[at:at + HIT_BYTES].split(b"\0")[0].decode(errors="replace")
            cls, call, error, thread, path, *way = text.split(" ")
            found.append((CLASSES[int(cls)], call, int(error), thread, path, way))
        return found

    def ways(self):
        """{hash: (calls, return addresses)} of all ways that NOTE has seen."""
        found = {}
        for i in range(WAYS):
            at = WAY_AT + WAY_BYTES * i
            key, n = struct.unpack_from("<QQ", self.map, at)
            if key:
                found[key] = (n, self.map[at + 16:at + WAY_BYTES].split(b"\0")[0].decode(errors="replace").split())
        return found


class FaultHub(Hub):
    """Counts and fails what is below its spool and its Maildirs. The tools run without the shim."""

    def __init__(self, shim, block=None, main=None, start=False, **kw):
        directory = kw.pop("directory", None) or tempfile.mkdtemp(prefix="posthouse-test-")
        os.chmod(directory, 0o755)
        self.block = block or Block(pathlib.Path(directory) / "block")
        asan = os.environ.get("ASAN_OPTIONS", "")
        self.plain_env = dict(os.environ)
        env = {"LD_PRELOAD": str(shim.path), "FAULTS_BLOCK": str(self.block.path), "FAULTS_DIRS": f"{directory}/spool:{directory}/mail",
               "ASAN_OPTIONS": f"{asan}:verify_asan_link_order=0".lstrip(":")}
        super().__init__(main, start=False, directory=directory, env=env, **kw)
        self.hold_dir = False
        if start:
            self.start()

    def spawn(self):
        super().spawn()

    def ctl(self, *args, **kw):
        env, self.env = self.env, self.plain_env
        try:
            return super().ctl(*args, **kw)
        finally:
            self.env = env

    def excuse(self, words):
        """What an ended daemon's library said on standard error is no finding of stop()."""
        path = self.dir / "stderr"
        path.write_text(words.sub("(excused)", self.errors()))

    def errors_seen(self):
        """What is on standard error was looked at."""
        (self.dir / "stderr").write_text("")

    def without_shim(self):
        self.env = self.plain_env

    def close(self, failed=False):
        super().close(failed)
        self.block.close()


def copy_tree(source, target):
    """With owners and permissions."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True, timeout=60)


def remove(path):
    shutil.rmtree(path, ignore_errors=True)
