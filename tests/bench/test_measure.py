#!/usr/bin/env python3
"""The benchmark's own check: CPU time of a process tree is added up exactly.

A parent burns CPU, starts children that burn CPU and end, and one that burns
and stays; each tells what it used.  measure.cpu_seconds() must see the sum.
"""

import os
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import measure


def burn(seconds, end_w):
    end = time.process_time() + seconds
    while time.process_time() < end:
        os.getppid()
    os.write(end_w, b"%f\n" % time.process_time())


def family(out_w, go_r):
    """Child of the test: two children that end, one that stays."""
    for _ in range(2):
        if (pid := os.fork()) == 0:
            burn(0.2, out_w)
            os._exit(0)
        os.waitpid(pid, 0)
    if os.fork() == 0:
        burn(0.3, out_w)
        os.read(go_r, 1)               # until the test closes its end
        os._exit(0)
    burn(0.1, out_w)
    os.read(go_r, 1)
    os._exit(0)


class CpuSeconds(unittest.TestCase):
    def test_sum_of_live_and_ended_processes(self):
        out_r, out_w = os.pipe()
        go_r, go_w = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(go_w)
            os.close(out_r)
            family(out_w, go_r)
        os.close(out_w)
        text = b""
        while text.count(b"\n") < 4:
            text += os.read(out_r, 4096)
        time.sleep(0.05)               # the last writers go on to their read()
        seen = measure.cpu_seconds(pid)
        _, processes = measure.memory_kib(pid)
        os.close(go_w)
        os.waitpid(pid, 0)
        told = sum(float(line) for line in text.split())
        self.assertGreater(told, 0.79)
        # A tick for each of user and system time of ended children, and exits.
        self.assertAlmostEqual(seen, told, delta=0.04)
        self.assertEqual(processes, 2)

    def test_gone_process_is_an_error(self):
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        with self.assertRaises(RuntimeError):
            measure.cpu_seconds(pid)


if __name__ == "__main__":
    unittest.main()
