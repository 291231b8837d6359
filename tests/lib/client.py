"""A plain SMTP client that does exactly what a test says, byte for byte."""
import os
import socket


class Reply:
    def __init__(self, lines):
        self.lines = lines
        self.code = int(lines[-1][:3])
        self.text = "\n".join(line[4:] for line in lines)

    def __repr__(self):
        return " / ".join(self.lines)


class Client:
    def __init__(self, host, port, timeout=None, greet=True, helo="client.example.org", source=None):
        if timeout is None:
            timeout = float(os.environ.get("POSTHOUSE_TEST_WAIT", "30"))
        self.sock = socket.create_connection((host, port), timeout=timeout,
                                             source_address=(source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.banner = None
        self.ehlo = None
        if greet:
            self.banner = self.reply()
            assert self.banner.code == 220, f"banner: {self.banner}"
            if helo:
                self.ehlo = self.cmd(f"EHLO {helo}")
                assert self.ehlo.code == 250, f"EHLO: {self.ehlo}"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def raw(self, data):
        self.sock.sendall(data)

    def line(self):
        while b"\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the server closed the connection")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def reply(self):
        lines = []
        while True:
            line = self.line()
            lines.append(line)
            if len(line) < 4 or line[3] != "-":
                return Reply(lines)

    def is_closed(self):
        """True when the server has closed (and sent nothing more)."""
        try:
            return self.buffer == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def cmd(self, text, code=None):
        """Sends one command and returns its reply; checks the code when one is given."""
        self.raw(text.encode() + b"\r\n")
        r = self.reply()
        assert code is None or r.code == code, f"{text}: {r}, expected {code}"
        return r

    def content(self, body, code=250):
        """DATA with dot-stuffing; body has CRLF line ends."""
        self.cmd("DATA", 354)
        stuffed = body.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        if not stuffed.endswith(b"\r\n"):
            stuffed += b"\r\n"
        self.raw(stuffed + b".\r\n")
        r = self.reply()
        assert code is None or r.code == code, f"end of data: {r}, expected {code}"
        return r

    def data(self, raw, code=250):
        """DATA and exactly these bytes, the end of data included."""
        self.cmd("DATA", 354)
        self.raw(raw)
        r = self.reply()
        assert code is None or r.code == code, f"end of data: {r}, expected {code}"
        return r

    def ends_with(self, code):
        """The next reply has this code and the server then closes."""
        r = self.reply()
        assert r.code == code, f"{r}, expected {code}"
        assert self.is_closed(), "the server did not close"
        return r

    def envelope(self, sender="a@example.org", recipients=("user@example.com",)):
        self.cmd(f"MAIL FROM:<{sender}>", 250)
        for rcpt in recipients:
            self.cmd(f"RCPT TO:<{rcpt}>", 250)

    def send_mail(self, sender, recipients, body, mail_args="", rcpt_args=""):
        """One whole transaction; returns the queue ID of the 250 reply."""
        self.cmd(f"MAIL FROM:<{sender}>{mail_args}", 250)
        for rcpt in recipients:
            self.cmd(f"RCPT TO:<{rcpt}>{rcpt_args}", 250)
        r = self.content(body)
        return r.text.rsplit(" ", 1)[-1]

    def quit(self):
        r = self.cmd("QUIT", 221)
        self.close()
        return r
