"""Nothing is left behind, even when the benchmark itself is killed.

A child waits at a pipe that only we hold open.  It is told of each process
group we start and end; when the pipe closes it kills what is still there and
removes the work directory.  (PR_SET_PDEATHSIG would not do: the kernel drops
it when a server changes its user id.)
"""

import os
import shutil
import signal
import subprocess
import time


class Guard:
    def __init__(self, directory):
        """Call before any thread is started: it forks."""
        read_fd, self.write_fd = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()                # out of reach of an interrupt at the terminal
            os.close(self.write_fd)
            try:
                self.watch(read_fd, directory)
            finally:
                os._exit(0)
        os.close(read_fd)

    @staticmethod
    def watch(read_fd, directory):
        groups = set()
        with os.fdopen(read_fd) as lines:
            for line in lines:
                group = int(line[1:])
                groups.add(group) if line[0] == "+" else groups.discard(group)
        for sig in (signal.SIGTERM, signal.SIGKILL):
            for group in groups:
                try:
                    os.killpg(group, sig)
                except ProcessLookupError:
                    pass
            if groups:
                time.sleep(1)
        if directory:
            shutil.rmtree(directory, ignore_errors=True)

    def tell(self, sign, group):
        os.write(self.write_fd, b"%s%d\n" % (sign, group))

    def popen(self, command, **how):
        """subprocess.Popen() in a process group of its own, known to the guard."""
        proc = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **how)
        self.tell(b"+", proc.pid)
        return proc

    def forget(self, proc):
        """Call when no process of the group is left."""
        self.tell(b"-", proc.pid)

    def close(self):
        os.close(self.write_fd)
        os.waitpid(self.pid, 0)
