"""The load: smtp-source into the server, smtp-sink behind it, idle clients."""

import os
import re
import resource
import selectors
import socket
import statistics
import subprocess
import threading
import time

from servers import DOMAIN, free_port, package_environment, wait_for


class Tools:
    """smtp-source and smtp-sink of the unpacked Postfix package."""

    def __init__(self, guard, root):
        self.guard = guard
        self.root = root
        self.env = package_environment(root)

    def path(self, name):
        return f"{self.root}/usr/sbin/{name}"


def send(tools, port, count, size, sessions, keep, limit_s):
    """Run smtp-source to its end; (seconds it took, its own CPU seconds).

    `size` is the length of the body; smtp-source adds a short header.
    It fails at the first answer it did not want, so that when this returns
    every one of the `count` messages was answered 250.
    """
    command = [tools.path("smtp-source"), "-4", "-l", str(size), "-m", str(count),
               "-s", str(sessions), "-f", "from@source.example",
               "-t", f"rcpt@{DOMAIN}", "-M", "source.example"]
    if keep:
        command.append("-d")           # one connection a session, not a message
    command.append(f"127.0.0.1:{port}")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    proc = tools.guard.popen(command, env=tools.env, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
    try:
        said, _ = proc.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"smtp-source had not sent {count} messages after {limit_s} s") from None
    finally:
        if proc.returncode is None:
            proc.kill()
            proc.communicate()
        tools.guard.forget(proc)
    took = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if proc.returncode != 0:
        raise RuntimeError("smtp-source: " + said.strip()[-300:])
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, own


class Sink:
    """smtp-sink on a free port; counts the messages it has taken."""

    def __init__(self, tools, lmtp):
        self.port = free_port()
        command = [tools.path("smtp-sink"), "-4", "-c", "-m", "1000"]
        if lmtp:
            command.append("-L")
        # As root it wants an account to become; it writes nothing.
        if os.geteuid() == 0:
            command += ["-u", "nobody"]
        command += [f"127.0.0.1:{self.port}", "500"]
        self.messages = 0
        self.guard = tools.guard
        self.proc = self.guard.popen(command, env=tools.env, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if not wait_for(self.listens, 10):
            self.stop()
            raise RuntimeError("smtp-sink does not listen")

    def read(self):
        """Its counters come as "sess=1 quit=1 mesg=1" with a CR, at each change."""
        rest = b""
        while chunk := os.read(self.proc.stdout.fileno(), 1 << 16):
            rest += chunk
            if counts := re.findall(rb"mesg=(\d+)\s", rest):
                self.messages = int(counts[-1])
                rest = rest[-40:]

    def listens(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    def stop(self):
        self.proc.kill()
        self.proc.wait()
        self.guard.forget(self.proc)
        self.reader.join(5)
        self.proc.stdout.close()


class RemovedCount:
    """Counts messages that left the queue, by the log's "removed" lines."""

    def __init__(self, log):
        self.file = open(log, "rb")
        self.count = 0
        self.rest = b""

    def __call__(self):
        while chunk := self.file.read(1 << 20):
            lines, newline, self.rest = (self.rest + chunk).rpartition(b"\n")
            self.count += (lines + newline).count(b": removed\n")
        return self.count

    def close(self):
        self.file.close()


class Crowd:
    """Clients that connect, wait for the greeting, say EHLO, and then nothing."""

    def __init__(self, port, size):
        self.port = port
        self.socks = []
        self.connected = self.greeted = self.closed = 0
        self.size = size

    def gather(self, stall_s, limit_s):
        """Returns once all have their EHLO answer, when none had news for
        stall_s, or after limit_s."""
        sel = selectors.DefaultSelector()
        for _ in range(self.size):
            s = socket.socket()
            s.setblocking(False)
            self.socks.append(s)
            s.connect_ex(("127.0.0.1", self.port))
            sel.register(s, selectors.EVENT_WRITE, "connecting")
        end = time.monotonic() + limit_s
        while self.greeted + self.closed < self.size and time.monotonic() < end:
            ready = sel.select(stall_s)
            if not ready:
                break
            for key, _ in ready:
                self.step(sel, key)
        sel.close()

    def step(self, sel, key):
        s, state = key.fileobj, key.data
        if state == "connecting":
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.closed += 1
                sel.unregister(s)
                return
            self.connected += 1
            sel.modify(s, selectors.EVENT_READ, "greeting")
            return
        try:
            answer = s.recv(4096)
        except OSError:
            answer = b""
        if not answer:
            self.closed += 1
            sel.unregister(s)
        elif state == "greeting":
            s.send(b"EHLO idle.example\r\n")
            sel.modify(s, selectors.EVENT_READ, "ehlo")
        elif re.search(rb"^250 .*\n", answer, re.M):
            self.greeted += 1
            sel.unregister(s)

    def disperse(self):
        for s in self.socks:
            s.close()


def newcomer(port, limit_s):
    """(seconds to the greeting, seconds to the 250 after the data), or None if
    no message could be sent within limit_s."""
    begin = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", port), limit_s) as s:
            stream = s.makefile("rb")

            def ask(line, wanted):
                s.settimeout(max(0.01, begin + limit_s - time.monotonic()))
                s.sendall(line)
                while (answer := stream.readline())[3:4] == b"-":
                    pass
                if not answer.startswith(wanted):
                    raise OSError(f"answer {answer!r}")

            ask(b"", b"220")
            greeted = time.monotonic() - begin
            ask(b"EHLO newcomer.example\r\n", b"250")
            ask(b"MAIL FROM:<from@source.example>\r\n", b"250")
            ask(f"RCPT TO:<rcpt@{DOMAIN}>\r\n".encode(), b"250")
            ask(b"DATA\r\n", b"354")
            ask(b"Subject: hello\r\n\r\nhello\r\n.\r\n", b"250")
            done = time.monotonic() - begin
            s.sendall(b"QUIT\r\n")
            return greeted, done
    except OSError:
        return None


def newcomers(port, count, limit_s):
    """One after the other; stops at the first that is shut out."""
    times = []
    for _ in range(count):
        seconds = newcomer(port, limit_s)
        if seconds is None:
            return None
        times.append(seconds)
    return {"greeting_median_s": statistics.median(t[0] for t in times),
            "message_median_s": statistics.median(t[1] for t in times),
            "message_max_s": max(t[1] for t in times)}
