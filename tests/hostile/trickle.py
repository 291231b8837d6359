#!/usr/bin/env python3
"""A well-behaved client: trickle.py PORT MESSAGES_PER_SECOND

Sends real messages, one connection each, until its standard input ends. Prints one JSON object a message: token (also in the
message), when it began (monotonic seconds), ms from connect() to the reply to QUIT, and why it failed when it did.
"""
import json
import os
import select
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from client import Client


def send(port, token):
    with Client("127.0.0.1", port, timeout=60) as c:
        c.send_mail("well@behaved.example", ["someone@good.example"],
                    f"From: well@behaved.example\r\nMessage-ID: <{token}@behaved.example>\r\nSubject: {token}\r\n\r\nhello\r\n"
                    .encode())
        c.quit()


def main():
    port, pause = int(sys.argv[1]), 1 / float(sys.argv[2])
    n = 0
    due = time.monotonic()
    while True:
        n += 1
        token = f"t{os.getpid()}.{n}"
        begin = time.monotonic()
        said = {"token": token, "at": begin}
        try:
            send(port, token)
        except (OSError, EOFError, AssertionError) as why:
            said["why"] = f"{type(why).__name__}: {why}"
        said["ms"] = round((time.monotonic() - begin) * 1000, 2)
        print(json.dumps(said), flush=True)
        due = max(due + pause, time.monotonic() - 1)
        if select.select([sys.stdin], [], [], max(0, due - time.monotonic()))[0]:
            return


if __name__ == "__main__":
    main()
