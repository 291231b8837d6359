#!/usr/bin/env python3
"""Policy servers of Debian: postgrey and postfix-policyd-spf-python, unpacked, not installed (their packages would start services).
They run as an ordinary user, on a unix and a TCP socket, and are ended by their process ids."""
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from dnsstub import DnsStub
from hub import Hub, wait_for
from unpack import unpacked

POSTGREY = ["postgrey", "libnet-server-perl", "libberkeleydb-perl", "libio-multiplex-perl", "libnet-dns-perl", "libnetaddr-ip-perl",
            "libnet-ip-perl", "libdb5.3"]
SPF = ["postfix-policyd-spf-python", "python3-spf-engine", "python3-spf", "python3-authres", "python3-dns"]
PYTHON = "/usr/bin/python3"  # Debian's, which an ordinary user may run
MAIL = b"Subject: s\r\n\r\nhi\r\n"
# policyd-spf with a resolver of the test's: py3dns has no setting for a port
SPF_MAIN = """\
import sys, DNS
DNS.ParseResolvConf = DNS.DiscoverNameServers = lambda *a: None
DNS.defaults["server"], DNS.defaults["port"] = ["127.0.0.1"], int(sys.argv.pop(1))
from spf_engine.policyd_spf import main
sys.exit(main())
"""


class Peer:
    """A directory that an ordinary user may write, and a process in it."""

    def __init__(self):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-policy-"))
        self.user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        if os.geteuid() == 0:
            os.chown(self.top, self.user.pw_uid, self.user.pw_gid)
        os.chmod(self.top, 0o755)
        self.procs = []

    def start(self, *command, env=None, **how):
        if os.geteuid() == 0:
            how.update(user=self.user.pw_uid, group=self.user.pw_gid, extra_groups=[])
        proc = subprocess.Popen(command, env=dict(os.environ, **(env or {})), **how)
        self.procs.append(proc)
        return proc

    def __enter__(self):
        return self

    def __exit__(self, *failed):
        for p in self.procs:
            if p.poll() is None:
                p.terminate()
                try:
                    p.wait(2)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()
        shutil.rmtree(self.top, ignore_errors=True)


def readable(root):
    """Whoever the peer runs as must reach what was unpacked."""
    for d in [root, *root.parents]:
        if d == pathlib.Path("/"):
            break
        if not os.stat(d).st_mode & 0o005 and os.stat(d).st_uid == os.geteuid():
            os.chmod(d, os.stat(d).st_mode | 0o005)
    return root


def postgrey(peer, *options):
    root = readable(unpacked("postgrey", POSTGREY))
    libs = [str(p) for p in (root / "usr/lib").glob("*-linux-gnu*/perl5/*")] + [str(root / "usr/share/perl5")]
    so = [str(p) for p in (root / "usr/lib").glob("*-linux-gnu*")]
    sock, log = peer.top / "socket", open(peer.top / "log", "wb")
    peer.start("perl", "-T", *[f"-I{d}" for d in libs], str(root / "usr/sbin/postgrey"), f"--unix={sock}", f"--dbdir={peer.top}",
               f"--user={peer.user.pw_name}", f"--group={peer.user.pw_gid}", f"--pidfile={peer.top}/pid", "--delay=1", "--privacy",
               f"--whitelist-clients={root}/etc/postgrey/whitelist_clients", f"--whitelist-recipients={root}/etc/postgrey/whitelist_recipients",
               *options, env={"LD_LIBRARY_PATH": ":".join(so)}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for("postgrey", lambda: sock.exists())
    except AssertionError:
        print((peer.top / "log").read_text(errors="replace")[-2000:])
        raise
    os.chmod(sock, 0o666)
    return sock


def rcpt(hub, sender, source=None):
    with hub.client(helo=None) as c:
        c.cmd("EHLO golden.test", 250)
        c.cmd("XCLIENT ADDR=192.0.2.7 NAME=mail.client.test", 220)
        c.cmd("EHLO mail.client.test", 250)
        c.cmd(f"MAIL FROM:<{sender}>", 250)
        r = c.cmd("RCPT TO:<user@example.com>")
        if r.code == 250:
            c.content(MAIL)
        return r


def settings(service, **more):
    return {"smtpd_authorized_xclient_hosts": "127.0.0.0/8", "mynetworks": "198.51.100.0/24",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "smtpd_recipient_restrictions": f"check_policy_service {service}", **more}


def test_postgrey():
    with Peer() as peer:
        sock = postgrey(peer, "--greylist-text=Greylisted, come back")
        with Hub(settings(f"unix:{sock}")) as hub:
            r = rcpt(hub, "a@one.test")
            assert r.code == 450 and r.text == "4.2.0 <user@example.com>: Recipient address rejected: Greylisted, come back", r
            assert rcpt(hub, "a@two.test").code == 450, "another sender is another triplet"
            wait_for("the triplet to be accepted", lambda: rcpt(hub, "a@one.test").code == 250)
            mail = hub.wait_mails(1)[0]
            assert b"X-Greylist: delayed " in mail, "PREPEND of postgrey"
            assert rcpt(hub, "a@one.test").code == 250


def test_postgrey_gone():
    with Peer() as peer:
        sock = postgrey(peer)
        with Hub(settings(f"unix:{sock}", smtpd_policy_service_try_limit="1", smtpd_policy_service_timeout="2s")) as hub:
            assert rcpt(hub, "a@one.test").code == 450
            peer.procs[0].kill()  # it would wait for our idle connection
            peer.procs[0].wait(10)
            os.unlink(sock)
            r = rcpt(hub, "a@two.test")
            assert r.code == 451 and r.text == "4.3.5 <user@example.com>: Recipient address rejected: Server configuration problem", r
            assert hub.mails() == []


class Spawner:
    """What spawn(8) does for policyd-spf: a process for each connection, which is its standard input and output."""

    def __init__(self, peer, command, env):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.peer, self.command, self.env = peer, command, env
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            with c:
                self.peer.start(*self.command, env=self.env, stdin=c.fileno(), stdout=c.fileno(), stderr=subprocess.DEVNULL)

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(5)


def test_policyd_spf():
    zone = {"pass.test": {"TXT": ["v=spf1 ip4:192.0.2.7 -all"]}, "fail.test": {"TXT": ["v=spf1 -all"]}, "none.test": {"A": ["192.0.2.1"]},
            "soft.test": {"TXT": ["v=spf1 ~all"]}, "mail.client.test": {"A": ["192.0.2.7"]}}
    with Peer() as peer, DnsStub(zone) as stub:
        root = readable(unpacked("policyd-spf", SPF))
        (peer.top / "conf").write_text("debugLevel = 0\nTestOnly = 1\nHELO_reject = Fail\nMail_From_reject = Fail\nPermError_reject = False\n"
                                       "TempError_Defer = True\nskip_addresses = 198.51.100.0/24\n")
        (peer.top / "main.py").write_text(SPF_MAIN)
        spawner = Spawner(peer, [PYTHON, str(peer.top / "main.py"), str(stub.port), str(peer.top / "conf")],
                          {"PYTHONPATH": str(root / "usr/lib/python3/dist-packages"), "PYTHONDONTWRITEBYTECODE": "1"})
        try:
            with Hub(settings(f"inet:127.0.0.1:{spawner.port}")) as hub:
                r = rcpt(hub, "a@fail.test")
                assert r.code == 550 and r.text.startswith("5.7.23 <user@example.com>: Recipient address rejected: Message rejected due to: SPF fail"), r
                for sender, word in [("a@pass.test", b"Pass"), ("a@soft.test", b"Softfail"), ("a@none.test", b"None")]:
                    before = len(hub.mails())
                    r = rcpt(hub, sender)
                    assert r.code == 250, r
                    mail = hub.wait_mails(before + 1)[-1]
                    head = mail.split(b"\r\n\r\n")[0].replace(b"\n", b" ").lower()
                    assert b"received-spf: " + word.lower() in head, mail
        finally:
            spawner.close()


if __name__ == "__main__":
    cases.main(globals())
