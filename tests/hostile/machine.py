#!/usr/bin/env python3
"""What the machine itself makes everybody wait: machine.py DIRECTORY

Until its standard input ends: eight round trips with a process that only answers, and a flush of a small file in DIRECTORY, as a
transaction of the well-behaved client has them, but with nothing of posthoused in between. Prints one JSON object a time: at
(monotonic seconds), ms.
"""
import json
import os
import select
import socket
import sys
import time

ROUND_TRIPS = 8
PAUSE_S = 0.05


def echo(s):
    while data := s.recv(64):
        s.sendall(data)


def main():
    mine, other = socket.socketpair()
    child = os.fork()
    if child == 0:
        mine.close()
        echo(other)
        os._exit(0)
    other.close()
    fd = os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR, 0o600)
    os.pwrite(fd, b"x" * 4096, 0)
    os.fsync(fd)
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        begin = time.monotonic()
        for _ in range(ROUND_TRIPS):
            mine.sendall(b"x")
            mine.recv(64)
        talked = time.monotonic()
        os.pwrite(fd, os.urandom(4096), 0)
        os.fdatasync(fd)
        now = time.monotonic()
        print(json.dumps({"at": begin, "ms": round((now - begin) * 1000, 2), "flush_ms": round((now - talked) * 1000, 2)}), flush=True)
    mine.close()
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
