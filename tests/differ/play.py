"""Plays one talk to one server and notes what was answered, and what the server logged meanwhile."""
import re
import time

from client import Client

SHORT_S = 5


class Ended(Exception):
    pass


def encode(text, latin=False):
    return text.encode("latin-1") if latin else text.encode("utf-8", "surrogateescape")


class Player:
    def __init__(self, c):
        self.c, self.notes = c, []

    def note(self, what, got):
        self.notes.append((what, got))

    def reply(self, what):
        try:
            got = self.c.reply().lines
        except TimeoutError:
            self.note(what, ["TIMEOUT"])
            raise Ended from None
        except (EOFError, OSError, ValueError) as e:
            self.note(what, ["CLOSED" if not isinstance(e, ValueError) else f"BAD {e}"])
            raise Ended from None
        self.note(what, got)
        return got

    def send(self, raw):
        try:
            self.c.raw(raw)
        except OSError:
            pass

    @staticmethod
    def wire(command):
        if isinstance(command, dict):
            chunk = encode(command["bdat"], command.get("latin"))
            return b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if command.get("last") else b"") + chunk
        return encode(command) + b"\r\n"

    def step(self, commands):
        """What is sent together; content only behind a 354."""
        ready = bool(self.notes) and self.notes[-1][1][-1].startswith("354")
        if isinstance(commands[0], dict) and "data" in commands[0]:
            if ready:
                self.send(re.sub(rb"(?m)^\.", b"..", encode(commands[0]["data"])) + b".\r\n")
                self.reply("end of data")
            return
        if ready:
            self.send(b".\r\n")
            self.reply("end of data")
        self.send(b"".join(self.wire(c) for c in commands))
        for c in commands:
            self.reply("BDAT" if isinstance(c, dict) else c)

    def run(self, talk):
        try:
            self.reply("connect")
            if talk["client"]:
                self.send(b"EHLO xclient.test\r\n")
                self.reply("EHLO xclient.test")
                self.send(b"XCLIENT " + " ".join(talk["client"]).encode() + b"\r\n")
                self.reply("XCLIENT")
            for step in talk["steps"]:
                self.step(step)
            if self.notes[-1][1][-1].startswith("354"):
                self.send(b".\r\n")
                self.reply("end of data")
            self.send(b"QUIT\r\n")
            self.reply("QUIT")
            self.note("end", ["closed" if self.c.is_closed() else "open"])
        except Ended:
            pass
        except OSError as e:
            self.note("end", [type(e).__name__])
        return self.notes


def play(side, host, talk):
    """(notes, log text of this talk)"""
    before = len(side.log())
    try:
        c = Client(host, side.port, greet=False, timeout=SHORT_S, source="127.0.0.1")
    except OSError as e:
        return [("connect", [str(e)])], ""
    with c:
        notes = Player(c).run(talk)
    end, text = time.monotonic() + 3, ""
    while time.monotonic() < end:
        text = side.log()[before:]
        if "disconnect from" in text or "fatal:" in text or notes[-1][1] == ["TIMEOUT"]:
            break
        time.sleep(0.005)
    return notes, text
