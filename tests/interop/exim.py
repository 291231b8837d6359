#!/usr/bin/env python3
"""Exim as the SMTP next hop: unpacked from Debian's package into a directory of its own, never installed (it would replace the
machine's MTA). Its user exists only for it, by nss_wrapper. $POSTHOUSE_PEERS is where it is unpacked; without that, or when
the packages cannot be had, it is skipped."""
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from unpack import unpacked

# libraries that a small Debian lacks included
PACKAGES = ["exim4-daemon-light", "libidn12", "libgnutls-dane0", "libunbound8", "libevent-2.1-7", "libnss-wrapper"]
CONF = """\
primary_hostname = exim.peer.test
exim_user = Debian-exim
spool_directory = {top}/spool
log_file_path = {top}/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts =
host_lookup =
keep_environment =
queue_only
acl_smtp_rcpt = take
acl_smtp_data = accept
message_size_limit = 20M
{more}
begin acl
take:
  deny local_parts = nosuch
       message = 5.1.1 nobody of that name
  defer local_parts = later
  accept
begin routers
begin transports
"""


def exim_root():
    if os.geteuid() != 0:
        raise cases.Skip("Exim starts as root only")
    root = unpacked("exim", PACKAGES)
    os.chmod(root / "usr/sbin/exim4", 0o755)  # not setuid: the environment below must reach it
    return root


class Exim:
    def __init__(self, more=""):
        self.more = more

    def __enter__(self):
        root = exim_root()
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-exim-"))
        shutil.chown(self.top, "nobody")
        for name, line in (("passwd", "Debian-exim:x:65534:65534::/:/bin/false\n"), ("group", "Debian-exim:x:65534:\n")):
            (self.top / name).write_text(pathlib.Path("/etc", name).read_text() + line)
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        (self.top / "conf").write_text(CONF.format(top=self.top, port=self.port, more=self.more))
        lib = f"{root}/usr/lib/{os.uname().machine}-linux-gnu"
        env = dict(os.environ, LD_LIBRARY_PATH=lib, LD_PRELOAD="libnss_wrapper.so", NSS_WRAPPER_PASSWD=str(self.top / "passwd"),
                   NSS_WRAPPER_GROUP=str(self.top / "group"))
        self.out = open(self.top / "out", "wb")
        self.proc = subprocess.Popen([str(root / "usr/sbin/exim4"), "-C", str(self.top / "conf"), "-bdf", "-oP", str(self.top / "pid")],
                                     stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.out, env=env)

        def ready():
            assert self.proc.poll() is None, (self.top / "out").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            except OSError:
                return False
        wait_for("Exim to listen", ready)
        return self

    def log(self):
        path = self.top / "mainlog"
        return path.read_text(errors="replace") if path.exists() else ""

    def contents(self):
        """Of every message it has queued, the body as it stores it."""
        texts = [p.read_bytes() for p in (self.top / "spool" / "input").glob("**/*-D")]
        return [t.split(b"\n", 1)[1] for t in texts if b"\n" in t]  # one may just be being written

    def __exit__(self, kind, value, trace):
        if kind:
            print(self.log()[-3000:])
        self.proc.terminate()
        self.proc.wait(30)
        self.out.close()
        shutil.rmtree(self.top, ignore_errors=True)


def exchange(exim):
    body = b"hello\r\n.dot\r\n..\r\n" + "grüß\r\n".encode() + b"".join(b"%070d\r\n" % i for i in range(6000))
    with exim, Hub({"minimal_backoff_time": "300s"}, routes={"peer.test": f"smtp:[127.0.0.1]:{exim.port}"}) as hub:
        with hub.client() as c:
            qid = c.send_mail("user@example.com", ["a@peer.test", "b@peer.test", "nosuch@peer.test", "later@peer.test"],
                              b"From: user@example.com\r\nSubject: s\r\n\r\n" + body, mail_args=" BODY=8BITMIME")
            for _ in range(20):
                c.send_mail("user@example.com", ["a@peer.test"], b"Subject: small\r\n\r\nsmall\r\n")
            c.quit()
        hub.wait_log(rf"{qid}: to=<[ab]@peer\.test>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:{exim.port}, .*status=sent \(250.* OK id=", 2)
        hub.wait_log(rf"{qid}: to=<nosuch@peer\.test>, .*dsn=5\.\d\.\d, status=bounced \(host .* said: 550 .*in reply to RCPT TO")
        hub.wait_log(rf"{qid}: to=<later@peer\.test>, .*dsn=4\.\d\.\d, status=deferred \(host .* said: 451 .*in reply to RCPT TO")
        wait_for("21 messages", lambda: len(exim.contents()) >= 21)
        assert body.replace(b"\r\n", b"\n") in exim.contents()
        assert sum(c == b"small\n" for c in exim.contents()) == 20
        return exim.log()


def test_exim_with_chunking():
    assert " K " in exchange(Exim("chunking_advertise_hosts = *"))  # Exim marks what came by BDAT


def test_exim_without_extensions():
    exchange(Exim("chunking_advertise_hosts =\npipelining_advertise_hosts =\naccept_8bitmime = true"))


if __name__ == "__main__":
    cases.main(globals())
