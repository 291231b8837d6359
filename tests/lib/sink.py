"""An SMTP or LMTP next hop that a test scripts.

    sink = Sink(lmtp=False)
    sink.on["RCPT"] = lambda s, arg: "450 4.2.1 later" if "busy@" in arg else None

A hook gets the session and the command's argument and returns a reply, a list of replies (LMTP end of data), CLOSE,
HANG, or None for the default. Received mail is in sink.mails: dicts of sender, rcpts, data (dot-unstuffed), helo,
mail_args, rcpt_args. One thread a connection; everything ends with close().
"""
import os
import socket
import threading

CLOSE = object()
HANG = object()


class Session:
    def __init__(self, sink, sock, number):
        self.sink = sink
        self.sock = sock
        self.number = number
        self.buffer = b""
        self.helo = None
        self.commands = []
        self.reset()

    def reset(self):
        self.sender = None
        self.mail_args = ""
        self.rcpts = []
        self.rcpt_args = []
        self.chunks = b""

    def recv(self):
        data = self.sock.recv(262144)
        if not data:
            raise EOFError
        self.buffer += data

    def line(self):
        while b"\n" not in self.buffer:
            self.recv()
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def take(self, n):
        while len(self.buffer) < n:
            self.recv()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def say(self, text):
        self.sock.sendall(text.encode() + b"\r\n")

    def answer(self, stage, arg, default):
        hook = self.sink.on.get(stage)
        reply = hook(self, arg) if hook else None
        if reply is None:
            reply = default
        if reply is CLOSE:
            raise EOFError
        if reply is HANG:
            self.sink.stopping.wait()
            raise EOFError
        for one in reply if isinstance(reply, list) else [reply]:
            if one is CLOSE:
                raise EOFError
            if one is HANG:
                self.sink.stopping.wait()
                raise EOFError
            self.say(one)
        return reply

    def run(self):
        self.answer("CONNECT", "", "220 sink.example.com ESMTP")
        while True:
            line = self.line().decode("utf-8", "replace")
            self.commands.append(line)
            verb, _, arg = line.partition(" ")
            handler = getattr(self, "do_" + verb.upper(), None)
            if handler is None:
                self.say("500 5.5.2 unknown command")
            elif handler(arg) == "quit":
                return

    def hello(self, arg):
        self.helo = arg
        self.reset()
        lines = ["sink.example.com"] + self.sink.keywords
        text = "\r\n".join(f"250{'-' if i + 1 < len(lines) else ' '}{k}" for i, k in enumerate(lines))
        self.answer("EHLO", arg, text)

    do_EHLO = do_LHLO = hello

    def do_HELO(self, arg):
        self.helo = arg
        self.reset()
        self.answer("HELO", arg, "250 sink.example.com")

    def do_MAIL(self, arg):
        r = self.answer("MAIL", arg, "250 2.1.0 Ok")
        if r.startswith("2"):
            path, _, self.mail_args = arg.partition(":")[2].partition(">")
            self.sender = path.strip().lstrip("<")

    def do_RCPT(self, arg):
        if self.sender is None:
            self.say("503 5.5.1 need MAIL")
            return
        r = self.answer("RCPT", arg, "250 2.1.5 Ok")
        if r.startswith("2"):
            path, _, args = arg.partition(":")[2].partition(">")
            self.rcpts.append(path.strip().lstrip("<"))
            self.rcpt_args.append(args.strip())

    def finish(self, data):
        default = "250 2.0.0 Ok: queued as SINK"
        with self.sink.lock:
            self.sink.attempts += 1
        if self.sink.lmtp:
            default = [default] * len(self.rcpts)
        mail = dict(sender=self.sender, rcpts=list(self.rcpts), data=data, helo=self.helo,
                    mail_args=self.mail_args.strip(), rcpt_args=list(self.rcpt_args), session=self.number)
        self.mail = mail
        hook = self.sink.on.get("END")
        reply = hook(self, mail) if hook else None
        replies = reply if isinstance(reply, list) else [reply] if reply is not None else \
            (default if isinstance(default, list) else [default])
        for i, one in enumerate(replies):
            if one is CLOSE:
                raise EOFError
            if one is HANG:
                self.sink.stopping.wait()
                raise EOFError
            if one.startswith("2"):
                taken = dict(mail, rcpts=[self.rcpts[i]]) if self.sink.lmtp else mail
                with self.sink.lock:  # before the reply: what the client saw answered is always recorded
                    self.sink.mails.append(taken)
            self.say(one)
        self.reset()

    def do_DATA(self, arg):
        if not self.rcpts:
            self.say("503 5.5.1 no recipients")
            return
        r = self.answer("DATA", arg, "354 go ahead")
        if not r.startswith("3"):
            return
        self.finish(self.content())

    def content(self):
        """Up to the line with the dot, whose own dots are taken away."""
        data, end, since = bytearray(b"\n" + self.buffer), b"\n.\r\n", 0
        while (at := data.find(end, since)) < 0:
            since = max(0, len(data) - len(end) + 1)
            self.buffer = b""
            self.recv()
            data += self.buffer
        self.buffer = bytes(data[at + len(end):])
        return bytes(data[:at + 1]).replace(b"\n.", b"\n")[1:]

    def do_BDAT(self, arg):
        size, _, last = arg.partition(" ")
        self.chunks += self.take(int(size))
        if last.upper() == "LAST":
            self.finish(self.chunks)
        else:
            self.say("250 2.0.0 Ok")

    def do_RSET(self, arg):
        self.reset()
        self.answer("RSET", arg, "250 2.0.0 Ok")

    def do_XFORWARD(self, arg):
        self.answer("XFORWARD", arg, "250 2.0.0 Ok")

    def do_NOOP(self, arg):
        self.say("250 2.0.0 Ok")

    def do_QUIT(self, arg):
        self.answer("QUIT", arg, "221 2.0.0 Bye")
        return "quit"


def several(hosts, **kw):
    """Sinks on several loopback addresses with one port number."""
    for attempt in range(50):
        sinks = [Sink(host=hosts[0], **kw)]
        try:
            for host in hosts[1:]:
                sinks.append(Sink(host=host, port=sinks[0].port, **kw))
            return sinks
        except OSError:
            for s in sinks:
                s.close()
            if attempt == 49:
                raise


class Sink:
    session_class = Session

    def __init__(self, lmtp=False, keywords=("PIPELINING", "SIZE 50000000", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN"),
                 port=0, path=None, host="127.0.0.1"):
        self.lmtp = lmtp
        self.keywords = list(keywords)
        self.on = {}
        self.mails = []
        self.attempts = 0
        self.sessions = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            os.chmod(path, 0o777)
            self.listener.listen(512)
            self.port = None
        else:
            self.listener = socket.create_server((host, port), backlog=512,
                                                 family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    @property
    def connections(self):
        return len(self.sessions)

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = self.session_class(self, sock, len(self.sessions))
            self.sessions.append(session)
            threading.Thread(target=self._serve, args=(session,), daemon=True).start()

    def _serve(self, session):
        try:
            session.run()
        except (EOFError, OSError, ValueError):
            pass
        finally:
            try:
                session.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            session.sock.close()

    def close(self):
        self.stopping.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
