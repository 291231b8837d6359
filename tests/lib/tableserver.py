"""Servers of lookup tables for scenarios: socketmap, tcp_table, memcache.

    with TableServer("socketmap", {"key": "value"}) as server:   # server.port; server.place is "inet:127.0.0.1:PORT"
        server.asked          # the keys, in order
        server.connections    # how many were accepted
        server.content        # may be changed while it runs
`answer(key)` may be given instead of a dict: a str is the value, None says "not found", bytes are sent as they are, b"" closes
the connection, "TEMP" in Failure(...) is the server's own temporary failure. Any of the three stops and starts again at the
same port with stop() and start().
"""
import re
import urllib.parse

from threadserver import ThreadServer


class Failure(str):
    """A temporary failure, with the server's words."""


def read_netstring(f):
    head = b""
    while not head.endswith(b":"):
        b = f.read(1)
        if not b:
            return None
        head += b
    data = f.read(int(head[:-1]) + 1)
    return data[:-1].decode()


def netstring(text):
    return f"{len(text.encode())}:{text},".encode()


class TableServer(ThreadServer):
    def __init__(self, kind, answer, path=None):
        self.reply = getattr(self, kind)
        self.content = answer if isinstance(answer, dict) else None
        self.answer = answer if callable(answer) else lambda key: self.content.get(key)
        self.asked, self.maps, self.stored = [], [], {}
        super().__init__(path)

    def look(self, key):
        with self.lock:
            self.asked.append(key)
        return self.answer(key)

    # ---- the protocols: read one request, give the bytes of the reply; None ends the connection ----
    def socketmap(self, f):
        request = read_netstring(f)
        if request is None:
            return None
        name, _, key = request.partition(" ")
        self.maps.append(name)
        v = self.look(key)
        if isinstance(v, bytes):
            return v
        return netstring("NOTFOUND " if v is None else f"TEMP {v}" if isinstance(v, Failure) else f"OK {v}")

    def tcp(self, f):
        line = f.readline()
        m = re.fullmatch(rb"get (\S*)\n", line)
        if not m:
            return None
        v = self.look(urllib.parse.unquote(m.group(1).decode()))
        if isinstance(v, bytes):
            return v
        code, text = (500, "no") if v is None else (400, v) if isinstance(v, Failure) else (200, v)
        return f"{code} {urllib.parse.quote(text, safe='@:/,[]')}\n".encode()

    def memcache(self, f):
        line = f.readline()
        if m := re.fullmatch(rb"set (\S+) (\d+) (\d+) (\d+)\r\n", line):
            value = f.read(int(m.group(4)) + 2)[:-2]
            self.stored[m.group(1).decode()] = (int(m.group(2)), int(m.group(3)), value.decode())
            return b"STORED\r\n"
        m = re.fullmatch(rb"get (\S+)\r\n", line)
        if not m:
            return None
        key = m.group(1).decode()
        v = self.look(key)
        if v is None and key in self.stored:
            v = self.stored[key][2]
        if isinstance(v, bytes):
            return v
        if isinstance(v, Failure):
            return f"SERVER_ERROR {v}\r\n".encode()
        return b"END\r\n" if v is None else f"VALUE {key} 0 {len(v.encode())}\r\n{v}\r\nEND\r\n".encode()
