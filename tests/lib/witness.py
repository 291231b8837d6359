#!/usr/bin/env python3
"""A next hop in a process of its own that writes down when it answered the content of each message, and what came of it. It
refuses the recipients no@.

    with Witness(file, lmtp=True) as hop:    # hop.port
        ...
    for a in hop.answers(): ...              # after the end: Answer objects, in the order of the answers

How a conversation ends tells how far its client was. When a process is killed the kernel closes its sockets: with a reset
when it had not read everything, orderly when it had.
"""
import collections
import errno
import os
import re
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from sink import Session, Sink

# number: X-Number of the message; qid: its queue ID at the hub; begun, at, done: monotonic seconds, of the connection, before and
# after the answer was sent; end: what followed the answer on the connection:
#   went-on   a command: the hub had read the answer
#   closed    the orderly end of a client that had read everything
#   unread    a reset: the answer, or something before it, lay unread in the hub's socket
#   gone      there was nobody any more when the answer was sent
#   open      nothing, until the next hop itself ended
Answer = collections.namedtuple("Answer", "number qid begun at done end")


class WitnessSession(Session):
    def __init__(self, *args):
        super().__init__(*args)
        self.begun = time.monotonic()
        self.last = None
        self.is_over = False

    def run(self):
        try:
            super().run()
        finally:
            self.note("open")
            self.is_over = True

    def note(self, end):
        if self.last is not None:
            os.write(self.sink.out, (" ".join(str(v) for v in (*self.last, end)) + "\n").encode())
            self.last = None

    def recv(self):
        try:
            data = self.sock.recv(262144)
        except OSError as e:
            self.note("gone" if e.errno == errno.EPIPE else "unread")  # EPIPE: closed first, reset by our answer
            raise
        # Closed before our answer came, which was then answered by a reset: the orderly end comes first, the error lies behind it.
        is_gone = not data and self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        self.note("went-on" if data else "gone" if is_gone else "closed")
        if not data:
            raise EOFError
        self.buffer += data

    def do_DATA(self, arg):
        if not self.rcpts:
            self.say("503 5.5.1 no recipients")
            return
        self.say("354 go ahead")
        begin = 0
        while (at := self.buffer.find(b"\r\n.\r\n", begin)) < 0:
            begin = max(0, len(self.buffer) - 4)
            self.recv()
        data, self.buffer = self.buffer[:at], self.buffer[at + 5:]
        self.finish(data)

    def finish(self, data):
        number = re.search(rb"^X-Number: (\d+)", data, re.M).group(1).decode()
        qid = re.search(rb"\bid ([0-9A-F]+)", data).group(1).decode()
        at = time.monotonic()
        for _ in range(len(self.rcpts) if self.sink.lmtp else 1):
            try:
                self.say("250 2.0.0 Ok")
            except OSError:
                self.last = (number, qid, self.begun, at, time.monotonic())
                self.note("gone")
                raise
        self.last = (number, qid, self.begun, at, time.monotonic())
        if self.buffer:
            self.note("went-on")  # was there before the answer: proves nothing, but a pipelining client does not do that
        self.reset()


class WitnessSink(Sink):
    session_class = WitnessSession


class Witness:
    def __init__(self, path, lmtp=False, host="127.0.0.1", port=0):
        self.path = path
        open(path, "wb").close()
        self.proc = subprocess.Popen([sys.executable, os.path.abspath(__file__), str(path), "lmtp" if lmtp else "smtp", host, str(port)],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.proc.stdout.readline())

    def answers(self):
        """What has been written so far."""
        with open(self.path) as f:
            rows = [line.split() for line in f]
        return sorted((Answer(int(n), int(q, 16), float(b), float(a), float(d), e) for n, q, b, a, d, e in rows),
                      key=lambda a: a.at)

    def close(self):
        self.proc.stdin.close()
        self.proc.stdout.close()
        self.proc.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def main():
    with WitnessSink(lmtp=sys.argv[2] == "lmtp", host=sys.argv[3], port=int(sys.argv[4])) as sink:
        sink.on["RCPT"] = lambda session, arg: "550 5.1.1 no such user" if arg.startswith("TO:<no@") else None
        sink.out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
        print(sink.port, flush=True)
        sys.stdin.read()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not all(s.is_over for s in sink.sessions):
            time.sleep(0.01)  # their ends are on their way
        for s in sink.sessions:
            s.note("open")
    os._exit(0)


if __name__ == "__main__":
    main()
