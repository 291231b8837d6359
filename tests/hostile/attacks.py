#!/usr/bin/env python3
"""Hostile clients: attacks.py NAME PORT SECONDS SIZE [SEED]

Runs one attack against 127.0.0.1:PORT for about SECONDS with SIZE connections (or whatever the attack counts) and prints one
JSON object: what it did and what it saw. Refusals, resets and closed connections are what an attacker expects and no
errors. Clients come from 127.66.x.y, so that limits per client see as many clients as the attack wants.

    flood.example   its mail is thrown away    seven.example   its next hop knows no 8BITMIME
"""
import asyncio
import json
import random
import resource
import select
import socket
import struct
import sys
import time

RST = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset
LOST = (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError, ValueError)


class Attack:
    def __init__(self, port, seconds, size, seed):
        self.port = port
        self.size = size
        self.begin = time.monotonic()
        self.end = self.begin + seconds
        self.seconds = seconds
        self.rng = random.Random(seed)
        self.seen = {}

    def count(self, what, n=1):
        self.seen[what] = self.seen.get(what, 0) + n

    def left(self):
        return self.end - time.monotonic()

    def source(self, i):
        """Address of the i-th connection: 40 connections an address, below smtpd_client_connection_count_limit."""
        k = i // 40
        return f"127.66.{k // 250}.{k % 250 + 1}"

    def any_source(self):
        r = self.rng
        return f"127.{r.randrange(67, 250)}.{r.randrange(256)}.{r.randrange(1, 255)}"


# ---- one scripted connection (asyncio) ----

class Conn:
    def __init__(self, attack, reader, writer):
        self.a, self.r, self.w = attack, reader, writer

    @classmethod
    async def open(cls, attack, i):
        r, w = await asyncio.open_connection("127.0.0.1", attack.port, local_addr=(attack.source(i), 0), limit=1 << 20)
        w.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        attack.count("connections")
        return cls(attack, r, w)

    async def send(self, data):
        self.w.write(data)
        await self.w.drain()
        self.a.count("bytes", len(data))

    async def code(self, seconds=None):
        """The code of the next reply, counted."""
        while True:
            line = await asyncio.wait_for(self.r.readuntil(b"\n"), seconds or self.a.seconds + 60)
            if len(line) < 4 or line[3:4] != b"-":
                break
        code = int(line[:3])
        self.a.count(f"reply {code}")
        return code

    async def cmd(self, text):
        await self.send(text + b"\r\n")
        return await self.code()

    async def hello(self):
        await self.code()
        return await self.cmd(b"EHLO evil.example.org")

    async def to_data(self, rcpt=b"x@flood.example"):
        await self.hello()
        await self.cmd(b"MAIL FROM:<evil@evil.example.org>")
        await self.cmd(b"RCPT TO:<%s>" % rcpt)
        return await self.cmd(b"DATA")

    def reset(self):
        s = self.w.get_extra_info("socket")
        if s is not None and s.fileno() >= 0:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        self.w.transport.abort()


def swarm(attack, script, width=None):
    """Runs script(conn, i) on `size` connections at a time; a script that is cut off counts as "cut"."""
    async def one(i):
        conn = None
        try:
            conn = await Conn.open(attack, i)
            await script(conn, i)
            attack.count("finished")
        except LOST as why:
            attack.count("cut" if conn else "not connected")
            attack.seen.setdefault("why", f"{type(why).__name__} {why}"[:100])
        finally:
            if conn:
                conn.w.close()

    async def run():
        room = asyncio.Semaphore(width or 200)  # connecting, so that the attack does not trip over its own backlog

        async def limited(i):
            async with room:
                await asyncio.sleep(0)
            await one(i)
        await asyncio.gather(*(limited(i) for i in range(attack.size)))
    asyncio.run(run())


def again(script):
    """The same on each connection over and over until the time is up."""
    def attack(a):
        async def forever(conn, i):
            while a.left() > 0:
                try:
                    await script(conn, i)
                    a.count("finished")
                except LOST:
                    a.count("cut")
                conn.w.close()
                if a.left() > 0:
                    fresh = await Conn.open(a, i)
                    conn.r, conn.w = fresh.r, fresh.w
        swarm(a, forever)
    return attack


# ---- attacks ----

def idle(a):
    """SIZE connections that say nothing; all must be greeted. Holds them until the time is up."""
    ep = select.epoll()
    socks, waiting = {}, set()
    i = 0
    greeted = 0
    greet_s = None
    while a.left() > 0:
        while i < a.size and len(waiting) < 1000:
            s = socket.socket()
            s.setblocking(False)
            s.bind((a.source(i), 0))
            try:
                s.connect(("127.0.0.1", a.port))
            except BlockingIOError:
                pass
            socks[s.fileno()] = s
            waiting.add(s.fileno())
            ep.register(s.fileno(), select.EPOLLIN)
            i += 1
        for fd, _ in ep.poll(0.05):
            try:
                data = socks[fd].recv(4096)
            except OSError:
                data = b""
            if data.startswith(b"220"):
                greeted += 1
            else:
                a.count("cut" if fd not in waiting else "refused")
                ep.unregister(fd)
                socks.pop(fd).close()
            waiting.discard(fd)
        if greet_s is None and greeted == a.size:
            greet_s = time.monotonic() - a.begin
            print(json.dumps({"greeted_s": greet_s}), flush=True)
    a.seen.update(greeted=greeted, greeted_s=greet_s)


async def drip(conn, data):
    """A byte at a time, so that the whole takes far longer than the attack."""
    a = conn.a
    tick = a.tick
    for b in data:
        await conn.send(bytes([b]))
        await asyncio.sleep(tick * a.rng.uniform(0.5, 1.5))
        if conn.r.at_eof() or a.left() < 0:
            break


async def slow_script(conn, i):
    a = conn.a
    began = time.monotonic()
    try:
        if i % 2 == 0:
            await conn.code()
            while a.left() > 0 and not conn.r.at_eof():
                await drip(conn, b"NOOP " + b"a" * 300 + b"\r\n")
        else:
            await conn.to_data()
            kind = i // 2 % 3
            text = [b"X-Long: " + b"a" * 900 + b"\r\n", b"X: y\r\n" * 100, b"\r\n" + b"body\r\n" * 100][kind]
            while a.left() > 0 and not conn.r.at_eof():
                await drip(conn, text)
    finally:
        if a.left() > 0:
            a.count("cut off")
            a.seen["cut_last_s"] = max(a.seen.get("cut_last_s", 0), round(time.monotonic() - began, 2))


def slow(a):
    """SIZE clients that send a byte a second (faster in a short run), half of them commands, half content."""
    a.tick = 1.0 if a.seconds >= 20 else 0.1
    swarm(a, slow_script)


async def endless_script(conn, i):
    """Lines, headers and content without end, as fast as the server takes them."""
    kind = i % 4
    if kind == 0:
        await conn.code()
        chunk = b"A" * 65536
    else:
        await conn.to_data()
        chunk = [None, b"X-Endless: " + b"a" * 65000, b"X-Many: " + b"b" * 60 + b"\r\n", b"no end of it\r\n"][kind]
        chunk = chunk * (65536 // len(chunk) or 1)
        if kind == 3:
            await conn.send(b"\r\n")
    while conn.a.left() > 0:
        await conn.send(chunk)
        await asyncio.sleep(0)


def endless(a):
    swarm(a, endless_script)


def flood(a, source):
    """Connect and close as fast as possible, every other time with a reset, every fourth after a look at the banner."""
    n = 0
    while a.left() > 0:
        n += 1
        s = socket.socket()
        try:
            s.bind((source(), 0))
            s.settimeout(5)
            s.connect(("127.0.0.1", a.port))
            if n % 4 == 0:
                a.count(f"reply {s.recv(100)[:3].decode('ascii', 'replace')}")
            if n % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            a.count("connections")
        except OSError as why:
            a.count("not connected")
            a.seen.setdefault("why", str(why))
        s.close()


def flood_one(a):
    flood(a, lambda: "127.66.0.1")


def flood_many(a):
    flood(a, a.any_source)


def hoard_one(a):
    """One address opens as many as it can and keeps them: beyond the limit per client it is turned away."""
    socks = []
    while a.left() > 0:
        if len(socks) >= a.size:
            socks.pop(0).close()
        s = socket.socket()
        try:
            s.bind(("127.66.0.2", 0))
            s.settimeout(5)
            s.connect(("127.0.0.1", a.port))
            socks.append(s)
            a.count("connections")
        except OSError as why:
            a.count("not connected")
            a.seen.setdefault("why", str(why))


async def rcpts_one_script(conn, i):
    """Recipients without end in one session after the other, pipelined, each address long."""
    a = conn.a
    while a.sent < a.rcpts and a.left() > -30:
        await conn.hello()
        await conn.cmd(b"MAIL FROM:<evil@evil.example.org>")
        try:
            while a.sent < a.rcpts:
                await conn.send(b"".join(b"RCPT TO:<%08d%s@flood.example>\r\n" % (a.sent + k, b"r" * 50) for k in range(100)))
                a.sent += 100
                for _ in range(100):
                    await conn.code()
        except LOST:
            a.count("turned away")
        conn.w.close()
        fresh = await Conn.open(a, i)
        conn.r, conn.w = fresh.r, fresh.w


def rcpts_one(a):
    """SIZE recipients altogether; in one session at a time, or in 25 when that would take too long."""
    a.rcpts, a.sent, a.size = a.size, 0, 1 if a.size < 10000 else 25
    swarm(a, rcpts_one_script)
    a.seen["rcpts"] = a.sent


async def rcpts_many_script(conn, i):
    """1,000 long recipients, and then nothing: the envelope stays in memory."""
    a = conn.a
    await conn.hello()
    await conn.cmd(b"MAIL FROM:<evil@evil.example.org>")
    for begin in range(0, 1000, 100):
        await conn.send(b"".join(b"RCPT TO:<%04d.%04d%s@flood.example> ORCPT=rfc822;%s\r\n" %
                                 (i, begin + k, b"r" * 40, b"o" * 200) for k in range(100)))
        for _ in range(100):
            await conn.code()
    await asyncio.sleep(max(0, a.left()))


def rcpts_many(a):
    swarm(a, rcpts_many_script)


def nested(depth):
    lines = [b"MIME-Version: 1.0", b"Subject: deep"]
    for i in range(depth):
        lines += [b"Content-Type: multipart/mixed; boundary=\"b%d\"" % i, b"", b"--b%d" % i]
    lines += [b"Content-Type: text/plain; charset=utf-8", b"Content-Transfer-Encoding: 8bit", b"", "tief: ä".encode(), b""]
    lines += [b"--b%d--" % i for i in reversed(range(depth))]
    return b"\r\n".join(lines) + b"\r\n"


def attached(depth):
    """message/rfc822 in message/rfc822: no boundary to look for."""
    lines = [b"MIME-Version: 1.0", b"Subject: deep"]
    for _ in range(depth):
        lines += [b"Content-Type: message/rfc822", b"", b"MIME-Version: 1.0"]
    return b"\r\n".join(lines + [b"Content-Transfer-Encoding: 8bit", b"", "tief: ä".encode()]) + b"\r\n"


async def mime_script(conn, i):
    a = conn.a
    await conn.to_data(b"x@seven.example")
    body = nested(a.depth) if i % 2 else attached(a.depth)
    await conn.send(body.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    if await conn.code() == 250:
        a.count("accepted")
    await conn.cmd(b"QUIT")
    await asyncio.sleep(0.2)


@again
async def mime_again(conn, i):
    await mime_script(conn, i)


def mime(a):
    a.depth = 2000
    mime_again(a)


async def big_script(conn, i):
    """A large message that takes all the time there is, and is then complete."""
    a = conn.a
    if await conn.to_data() != 354:
        return
    line = b"x" * 98 + b"\r\n"
    steps = 50
    piece = line * (a.big_bytes // steps // len(line))
    await conn.send(b"Subject: big\r\n\r\n")
    for k in range(steps):
        await conn.send(piece)
        await asyncio.sleep(max(0.0, a.begin + a.seconds * (k + 1) / steps - time.monotonic()))
    await conn.send(b".\r\n")
    if await conn.code() == 250:
        a.count("accepted")


def big(a):
    """SIZE slow messages: of 10 MB in a long run, of 600 kB in a short one."""
    a.big_bytes = 10_000_000 if a.seconds >= 20 else 600_000
    swarm(a, big_script)


@again
async def noise(conn, i):
    """Random bytes, before and after DATA."""
    a = conn.a
    if a.rng.random() < 0.5:
        await conn.to_data()
    for _ in range(a.rng.randrange(1, 20)):
        data = a.rng.randbytes(a.rng.choice([1, 10, 100, 1000, 20000]))
        if a.rng.random() < 0.5:
            data = data.translate(None, bytes(range(128, 256)))
        await conn.send(data + a.rng.choice([b"", b"\n", b"\r\n", b"\r\n.\r\n"]))
        await asyncio.sleep(0)


STEPS = [b"EHLO evil.example.org\r\n", b"MAIL FROM:<evil@evil.example.org>\r\n", b"RCPT TO:<x@flood.example>\r\n", b"DATA\r\n",
         b"Subject: x\r\n\r\nhello\r\n", b".\r\n", b"NOOP\r\n", b"QUIT\r\n"]


@again
async def vanish(conn, i):
    """A proper dialogue that ends at a random byte: with a reset, a half close, a close, or silence."""
    a = conn.a
    stop = a.rng.randrange(len(STEPS))
    if a.rng.random() < 0.7:
        await conn.code()
    for step in STEPS[:stop]:
        await conn.send(step)
        if step[0:1] not in b"S" and a.rng.random() < 0.8:
            await asyncio.wait_for(conn.code(), 2)
    await conn.send(STEPS[stop][:a.rng.randrange(len(STEPS[stop]))])
    how = a.rng.randrange(4)
    if how == 0:
        conn.reset()
    elif how == 1:
        conn.w.write_eof()
        await asyncio.wait_for(conn.r.read(), 2)
    elif how == 2:
        conn.w.close()
    else:
        await asyncio.sleep(a.rng.random())
        conn.reset()
    a.count(("reset", "half closed", "closed", "silent then reset")[how])


JUNK = [b"NOOP", b"VRFY x", b"HELP", b"RSET", b"EHLO a", b"BOGUS", b"MAIL FROM:<a@b.example>", b"RCPT TO:<x@flood.example>",
        b"RCPT TO:<\"" + b"\\a" * 200 + b"\"@flood.example>", b"MAIL FROM:<" + b"<" * 500 + b">", b"DATA", b".", b"",
        b"EXPN list", b"ETRN flood.example", b"XCLIENT NAME=x", b"MAIL FROM:<a@b.example> SIZE=99999999999999999999",
        b"RCPT TO:<@a,@b:x@flood.example> NOTIFY=" + b"NEVER," * 200, b"GET / HTTP/1.0", b"QUIT\r\nQUIT"]


@again
async def pipelined(conn, i):
    """Garbage and real commands without waiting, and (every other one) without ever reading a reply."""
    a = conn.a
    if a.rng.random() < 0.5:
        await conn.code()
        await conn.send(b"EHLO evil.example.org\r\n")
    blast = b"\r\n".join(a.rng.choice(JUNK) for _ in range(300)) + b"\r\n"
    if i % 2:
        conn.w.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        conn.r._transport.pause_reading()  # it will not read
    for _ in range(20):
        await asyncio.wait_for(conn.send(blast), 1)
        await asyncio.sleep(0)


BDATS = [b"99999999999999999999", b"9223372036854775807", b"9223372036854775807 LAST", b"18446744073709551615", b"-1", b"-9223372036854775808",
         b"0", b"0 LAST", b"1", b"1 LAST", b"10240000", b"10240001 LAST", b"4294967296", b"2147483648 LAST", b"0x10", b"1e9", b"", b"LAST",
         b"5 LAST LAST", b"  7"]


@again
async def bdat(conn, i):
    """BDAT with absurd sizes, with and without a transaction, followed by whatever."""
    a = conn.a
    await conn.hello()
    if a.rng.random() < 0.7:
        await conn.cmd(b"MAIL FROM:<evil@evil.example.org>")
        await conn.cmd(b"RCPT TO:<x@flood.example>")
    for _ in range(a.rng.randrange(1, 30)):
        await conn.send(b"BDAT " + a.rng.choice(BDATS) + b"\r\n" + a.rng.randbytes(a.rng.choice([0, 1, 2, 5, 500, 70000])))
        if a.rng.random() < 0.3:
            await asyncio.wait_for(conn.code(), 0.3)


NULS = [b"\0" * 1000 + b"\r\n", b"EHLO a\0b\r\n", b"MAIL FROM:<a\0b@c.example>\r\n", b"MAIL FROM:<a@c.example\0>\r\n",
        b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<x\0y@flood.example>\r\n", b"RCPT TO:<x@flood.example>\r\n", b"RCPT TO:<x@flood.example>\0\r\n",
        b"NOOP \0\0\0\r\n", b"\0\r\n", b"VRFY \0\r\n", b"HELP\0\r\n"]


@again
async def nul(conn, i):
    """NUL bytes in commands, addresses, headers and content."""
    a = conn.a
    if a.rng.random() < 0.5:
        await conn.code()
        for _ in range(a.rng.randrange(1, 12)):
            await conn.cmd(a.rng.choice(NULS)[:-2])
        return
    if await conn.to_data() == 354:
        await conn.send(b"Sub\0ject: x\r\nMessage-ID: <\0@\0>\r\n\0: y\r\n\r\n" + b"\0" * 3000 + b"\r\n.\0\r\n\0.\r\n.\r\n")
        if await conn.code() == 250:
            a.count("accepted")


@again
async def tls_auth(conn, i):
    """STARTTLS and AUTH followed by garbage, whether they are offered or not."""
    a = conn.a
    await conn.hello()
    kind = a.rng.randrange(4)
    if kind == 0:
        await conn.send(b"STARTTLS\r\n")
        await conn.code()
        await conn.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + a.rng.randbytes(508))
    elif kind == 1:
        await conn.send(b"STARTTLS\r\nMAIL FROM:<a@b.example>\r\n" + a.rng.randbytes(300))
    elif kind == 2:
        for text in (b"AUTH PLAIN =", b"AUTH PLAIN " + b"A" * 1900, b"AUTH LOGIN", b"AUTH", b"AUTH NTLM \xff", b"AUTH X " + b"=" * 100):
            await conn.cmd(text)
            await conn.send(b"*\r\n")
            await conn.code()
    else:
        await conn.send(b"AUTH PLAIN\r\n" + b"A" * 100000)
    await asyncio.wait_for(conn.code(), 0.5)


ATTACKS = {f.__name__: f for f in (idle, slow, endless, flood_one, flood_many, hoard_one, rcpts_one, rcpts_many, mime, big)}
ATTACKS.update(noise=noise, vanish=vanish, pipelined=pipelined, bdat=bdat, nul=nul, tls_auth=tls_auth)


def main():
    name, port, seconds, size = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    a = Attack(port, seconds, size, int(sys.argv[5]) if len(sys.argv) > 5 else 1)
    ATTACKS[name](a)
    use = resource.getrusage(resource.RUSAGE_SELF)
    a.seen.update(seconds=round(time.monotonic() - a.begin, 2), cpu_s=round(use.ru_utime + use.ru_stime, 2))
    print(json.dumps(a.seen), flush=True)


if __name__ == "__main__":
    main()
