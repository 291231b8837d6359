"""Shared objects of tests/lib/shim_*.c, to be preloaded into the daemon of a test."""
import os
import pathlib
import shlex
import subprocess

import cases

LIB = pathlib.Path(__file__).resolve().parent


def build(name, directory):
    """Path of the shim, made in `directory`, where the daemon's user can read it. Skips the test where there is no compiler."""
    os.chmod(directory, 0o755)
    out = pathlib.Path(directory) / f"{name}.so"
    cc = shlex.split(os.environ.get("CC", "cc"))
    try:
        subprocess.run([*cc, "-O1", "-fPIC", "-shared", "-Wall", "-o", str(out), str(LIB / f"{name}.c"), "-ldl", "-lpthread"],
                       check=True, timeout=60)
    except FileNotFoundError:
        raise cases.Skip("no C compiler")
    return out
