#!/usr/bin/env python3
"""Real peers: Dovecot as the mail store behind LMTP, swaks as the client. Skipped where they are not installed."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for

HERE = pathlib.Path(__file__).resolve().parent
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
MAIL = b"From: a@example.org\r\nSubject: s\r\nMessage-ID: <i@example.org>\r\n\r\nhi\r\n.dot\r\n"


def need(program, package):
    found = shutil.which(program, path=PATH)
    if not found:
        raise cases.Skip(f"{program} is not installed (package {package})")
    return found


class Dovecot:
    def __enter__(self):
        need("dovecot", "dovecot-lmtpd")
        if not os.path.exists("/usr/lib/dovecot/lmtp"):
            raise cases.Skip("Dovecot has no lmtp (package dovecot-lmtpd)")
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-dovecot-"))
        os.chmod(self.top, 0o755)
        owner = "nobody" if os.geteuid() == 0 else subprocess.check_output(["id", "-un"], text=True).strip()
        (self.top / "mail").mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.top / "mail", owner)
        self.out = open(self.top / "out", "wb")
        self.proc = subprocess.Popen([str(HERE / "dovecot"), "start", str(self.top / "dovecot"), owner],
                                     stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.out)
        self.socket = self.top / "dovecot" / "lmtp"

        def ready():
            assert self.proc.poll() is None, (self.top / "out").read_text()
            return self.socket.exists()
        wait_for("Dovecot's socket", ready)
        return self

    def mails(self, user):
        return [p.read_bytes() for p in (self.top / "mail" / user).glob("**/new/*")]

    def log(self):
        path = self.top / "dovecot" / "dovecot.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __exit__(self, kind, value, trace):
        if kind:
            print(self.log()[-3000:])
        self.proc.terminate()
        self.proc.wait(30)
        self.out.close()
        shutil.rmtree(self.top, ignore_errors=True)


def hub_before(store):
    return Hub({"minimal_backoff_time": "300s", "relay_domains": "posthouse.test",
                "transport_maps": f"inline:{{ {{ posthouse.test = lmtp:unix:{store.socket} }} }}"})


def test_dovecot_stores_and_refuses():
    with Dovecot() as store, hub_before(store) as hub:
        with hub.client() as c:
            qid = c.send_mail("user@example.com", ["anna@posthouse.test", "ben@posthouse.test", "nosuch@posthouse.test",
                                                   "full@posthouse.test"], MAIL)
            c.quit()
        for user in ("anna", "ben"):
            mail = wait_for(f"{user}'s mail", lambda user=user: store.mails(user))[0].replace(b"\r\n", b"\n")
            assert mail.endswith(b"\n\nhi\n.dot\n") and qid.encode() in mail, mail
            hub.wait_log(rf"lmtp\[\d+\]: {qid}: to=<{user}@posthouse\.test>, relay=hub\.example\.net\[{store.socket}\], .*status=sent "
                         rf"\(250 2\.0\.0 <{user}@posthouse\.test> \S+ Saved\)$")
        hub.wait_log(rf"{qid}: to=<nosuch@posthouse\.test>, .*dsn=5\.1\.1, status=bounced \(host .* said: 550 5\.1\.1 .*in reply to RCPT TO")
        hub.wait_log(rf"{qid}: to=<full@posthouse\.test>, .*status=(deferred|bounced) \(host .* said: [45]52 [45]\.2\.2 ")
        report = hub.wait_mails(1)[0]
        assert b"Final-Recipient: rfc822; nosuch@posthouse.test" in report


def test_dovecot_takes_large_and_many():
    with Dovecot() as store, hub_before(store) as hub:
        big = MAIL + b"".join(b"%070d\r\n" % i for i in range(60000))
        with hub.client() as c:
            c.send_mail("a@example.org", ["anna@posthouse.test"], big)
            for _ in range(100):
                c.send_mail("a@example.org", ["anna@posthouse.test", "ben@posthouse.test"], MAIL)
        wait_for("everything", lambda: len(store.mails("anna")) == 101 and len(store.mails("ben")) == 100)
        wait_for("an empty queue", lambda: not hub.queue())
        size = max(len(m.replace(b"\r\n", b"\n")) for m in store.mails("anna"))
        assert size > len(big.replace(b"\r\n", b"\n"))
        assert len(re.findall(r"status=sent", hub.log())) == 201


def test_dovecot_away_and_back():
    with Dovecot() as store, hub_before(store) as hub:
        store.proc.terminate()
        store.proc.wait(30)
        with hub.client() as c:
            qid = c.send_mail("a@example.org", ["anna@posthouse.test"], MAIL)
        hub.wait_log(rf"{qid}: .*status=deferred \(connect to hub\.example\.net\[{store.socket}\]: ")
        again = subprocess.Popen(store.proc.args, stdin=subprocess.DEVNULL, stdout=store.out, stderr=store.out)
        store.proc = again
        wait_for("Dovecot's log", lambda: store.log().count("starting up") >= 2)
        hub.ctl("queue", "flush")
        wait_for("the mail", lambda: store.mails("anna"))


def swaks(hub, *args):
    tool = need("swaks", "swaks")
    return subprocess.run([tool, "--server", f"127.0.0.1:{hub.port}", "--from", "a@example.org", "--to", "user@example.com",
                           *args], capture_output=True, text=True, timeout=60)


def test_swaks():
    with Hub() as hub:
        for i, args in enumerate((["--header", "Subject: plain"], ["--pipeline"], ["--attach-body", "x" * 1000, "--attach", "@/etc/passwd"],
                                  ["--protocol", "SMTP"])):
            r = swaks(hub, *args)
            assert r.returncode == 0, (args, r.stdout[-3000:] + r.stderr)
            hub.wait_mails(i + 1)
        r = swaks(hub, "--to", "nobody@example.com")
        assert r.returncode == 24 and "550 5.1.1" in r.stdout, r  # swaks: no recipient was accepted


if __name__ == "__main__":
    cases.main(globals())
