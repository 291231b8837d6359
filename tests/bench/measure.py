"""What a server costs: CPU time and memory of its whole process tree.

CPU time of a process is its CPU-time clock (nanoseconds, all threads, also
those that ended), plus the times of its children that ended and were waited
for (kept by the kernel per parent, given in ticks of 10 ms for each parent).
Postfix's master waits for every process it started, so the sum over the tree
misses nothing and counts nothing twice.  What the kernel does in threads of
its own (the file system's journal, write-back) is in neither server's figure.

Memory is the sum of PSS: pages shared by n processes count 1/n in each.
Socket buffers and other kernel memory are not part of it.
"""

import os
import re
import threading
import time

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


def read_stat(pid):
    """(parent, process group, seconds of ended children), or None when gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # fields[0] is number 3 (state) of proc(5); cutime and cstime are 16 and 17.
    return int(fields[1]), int(fields[2]), (int(fields[13]) + int(fields[14])) * TICK_S


def all_processes():
    stats = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := read_stat(name)):
            stats[int(name)] = stat
    return stats


def tree(root):
    """Process ids of root and all below it, children before their parents."""
    children = {}
    for pid, (parent, _, _) in all_processes().items():
        children.setdefault(parent, []).append(pid)
    order = [root]
    for pid in order:
        order += children.get(pid, [])
    return order[::-1]


def group_members(group):
    return [pid for pid, stat in all_processes().items() if stat[1] == group]


def cpu_clock_s(pid):
    # CPUCLOCK_SCHED of another process: what clock_getcpuclockid(3) returns.
    return time.clock_gettime((~pid << 3) | 2)


def cpu_seconds(root):
    """CPU time used by the tree so far.

    A process that ends while we read would be missed in one place and not yet
    counted in the other, so a reading in which one vanished is done again.
    """
    for _ in range(20):
        total = 0.0
        pids = tree(root)
        try:
            for pid in pids:
                total += cpu_clock_s(pid)
                stat = read_stat(pid)
                if stat is None:
                    raise ProcessLookupError
                total += stat[2]
        except OSError:
            continue
        if set(tree(root)) >= set(pids):
            return total
    raise RuntimeError("processes end faster than they can be read")


def memory_kib(root):
    """Sum of PSS over the tree, and how many processes that is."""
    total = count = 0
    for pid in tree(root):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total += int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M).group(1))
                count += 1
        except (OSError, AttributeError):
            pass                        # ended meanwhile, or about to
    return total, count


class MemoryPeak:
    """Samples memory once a second; `with` it, then read peak_kib."""

    def __init__(self, root):
        self.root = root
        self.peak_kib = self.processes = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def sample(self):
        kib, count = memory_kib(self.root)
        if kib > self.peak_kib:
            self.peak_kib, self.processes = kib, count

    def run(self):
        while not self.done.wait(1.0):
            self.sample()

    def __enter__(self):
        self.sample()
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.done.set()
        self.thread.join()
        self.sample()


def machine(path):
    """What the numbers depend on: CPUs, kernel, file system of the spool."""
    real = os.path.realpath(path)
    best = ("", "?", "?")
    with open("/proc/self/mounts") as f:
        for line in f:
            device, mount, kind, options = line.split()[:4]
            inside = real == mount or real.startswith(mount.rstrip("/") + "/")
            if inside and len(mount) >= len(best[0]):
                best = (mount, kind, device)
    model = "?"
    with open("/proc/cpuinfo") as f:
        if found := re.search(r"^model name\s*:\s*(.*)$", f.read(), re.M):
            model = found.group(1)
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_model": model,
        "kernel": " ".join((os.uname().sysname, os.uname().release, os.uname().machine)),
        "file_system": best[1], "device": best[2],
        "load_average": os.getloadavg()[0],
    }
