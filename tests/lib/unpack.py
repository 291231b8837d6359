"""Programs from Debian packages that cannot be installed beside each other: unpacked below $POSTHOUSE_PEERS, once."""
import os
import pathlib
import shutil
import subprocess

import cases


def unpacked(name, packages):
    """The directory with the files of these packages, fetched with apt-get; skips the case when they cannot be had."""
    if not os.environ.get("POSTHOUSE_PEERS"):
        raise cases.Skip(f"POSTHOUSE_PEERS names no directory to unpack {packages[0]} in (./run-tests does)")
    root = pathlib.Path(os.environ["POSTHOUSE_PEERS"]) / name
    done, what = root / "done", " ".join(packages)
    if done.exists() and done.read_text() == what:
        return root
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise cases.Skip(f"no apt-get here to fetch {packages[0]} with")
    root.mkdir(parents=True, exist_ok=True)
    try:
        r = subprocess.run(["apt-get", "download", *packages], cwd=root, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise cases.Skip("apt-get download takes too long") from None
    if r.returncode != 0:
        raise cases.Skip(f"apt-get download {what}: {(r.stderr.strip().splitlines() or ['failed'])[-1]}")
    for deb in root.glob("*.deb"):
        subprocess.run(["dpkg", "-x", deb.name, "."], cwd=root, check=True, timeout=60)
    done.write_text(what)
    return root
