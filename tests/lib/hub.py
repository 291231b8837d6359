"""A posthoused of its own for one test: directory, configuration, start, stop, queue, log.

    with Hub() as hub:                       # starts it
        with hub.client() as c:
            c.send_mail("a@example.org", ["user@example.com"], b"Subject: x\r\n\r\nhi\r\n")

The build directory comes from $POSTHOUSE_BUILD (default: the current directory). Everything waits for a condition
with a deadline; nothing sleeps for its own sake.
"""
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from client import Client

BUILD = pathlib.Path(os.environ.get("POSTHOUSE_BUILD", os.getcwd()))
WAIT_S = float(os.environ.get("POSTHOUSE_TEST_WAIT", "30"))

MASTER = """\
127.0.0.1:0 inet n - n - - smtpd
smtp     unix  -  -  n  -  -  smtp
relay    unix  -  -  n  -  -  smtp
lmtp     unix  -  -  n  -  -  lmtp
virtual  unix  -  n  n  -  -  virtual
error    unix  -  -  n  -  -  error
retry    unix  -  -  n  -  -  error
discard  unix  -  -  n  -  -  discard
"""


def wait_for(what, condition, seconds=WAIT_S):
    """Polls until condition() is true and returns its value; fails with `what` otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.005)


def lines_of(sanitizer_text):
    """What a sanitizer build had to say, if anything."""
    return [line for line in sanitizer_text.splitlines()
            if re.search(r"Sanitizer|runtime error:|assertion|Assertion", line)]


class Hub:
    """`routes` maps domains to a transport and next hop: {"relay.example": "smtp:[127.0.0.1]:2525"}."""

    def __init__(self, main=None, master=MASTER, start=True, directory=None, env=None, hold_dir=False, routes=None):
        self.hold_dir = hold_dir or directory is not None
        self.dir = pathlib.Path(directory or tempfile.mkdtemp(prefix="posthouse-test-"))
        leaks = f"suppressions={pathlib.Path(__file__).resolve().parents[1] / 'lsan.supp'}:print_suppressions=0"
        self.env = {"LSAN_OPTIONS": leaks, **os.environ, **(env or {})}
        self.main = {
            "myhostname": "hub.example.net",
            "mydomain": "example.net",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8 [::1]/128",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "queue_directory": str(self.dir / "spool"),
            "data_directory": str(self.dir / "data"),
            "maillog_file": str(self.dir / "log"),
            "maillog_file_prefixes": "/",
            "mail_owner": "nobody",
            "virtual_mailbox_domains": "example.com",
            "virtual_mailbox_base": str(self.dir / "mail"),
            "virtual_mailbox_maps": "inline:{ user@example.com=user/, other@example.com=other/ }",
            "virtual_transport": "virtual",
            "smtpd_peername_lookup": "no",
            "smtp_tls_security_level": "none",
            "disable_dns_lookups": "yes",
            "journal_segment_size": "4M",  # each start writes one full of zeros
            "table_module_directory": str(BUILD.resolve() / "modules"),
        }
        if os.geteuid() == 0:  # started as root the virtual transport wants to know whose the mailboxes are
            owner = pwd.getpwnam(self.main["mail_owner"])
            self.main.update({"virtual_uid_maps": f"static:{owner.pw_uid}", "virtual_gid_maps": f"static:{owner.pw_gid}"})
        self.route(routes or {})
        self.main.update(main or {})
        self.master = master
        self.proc = None
        self.port = None
        self.log_from = 0
        self.write_conf()
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close(failed=kind is not None)

    # ---- configuration ----
    def write_conf(self):
        etc = self.dir / "etc"
        etc.mkdir(exist_ok=True)
        text = "".join(f"{k} = {v}\n" for k, v in self.main.items() if v is not None)
        (etc / "main.cf").write_text(text)
        (etc / "master.cf").write_text(self.master)
        (self.dir / "mail").mkdir(exist_ok=True)
        if os.geteuid() == 0:  # mail_owner must reach the files
            os.chmod(self.dir, 0o755)
            shutil.chown(self.dir / "mail", self.main["mail_owner"])

    def route(self, routes):
        if routes:
            self.main["relay_domains"] = " ".join(d for d in routes if not d.startswith(("*", ".")))
            self.main["transport_maps"] = "inline:{ " + " ".join(f"{{ {d} = {t} }}" for d, t in routes.items()) + " }"

    # ---- life ----
    def command(self, *args):
        return [str(BUILD / "posthoused"), "-c", str(self.dir / "etc"), "-f", *args]

    def spawn(self):
        """Starts the process without waiting for anything."""
        self.log_from = len(self.log())
        self.stderr = open(self.dir / "stderr", "ab")
        self.proc = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.stderr, stderr=self.stderr,
                                     env=self.env)

    def start(self):
        self.spawn()

        def listening():
            if self.proc.poll() is not None:
                raise AssertionError(f"posthoused ended with status {self.proc.returncode}: {self.errors()}")
            text = self.log()[self.log_from:]
            return re.search(r"listening on \[127\.0\.0\.1\] port (\d+)", text)
        self.port = int(wait_for("posthoused to listen", listening).group(1))
        return self

    def errors(self):
        try:
            return (self.dir / "stderr").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def kill(self):
        """kill -9: what a crash test does."""
        self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()
        self.proc = None

    def stop(self, expect=0):
        """SIGTERM, and waits for a clean end."""
        if self.proc is None:
            return
        self.proc.send_signal(signal.SIGTERM)
        try:
            status = self.proc.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.proc.send_signal(signal.SIGABRT)
            self.proc.wait()
            raise AssertionError("posthoused did not stop within 60 s of SIGTERM")
        finally:
            self.proc = None
        assert status == expect, f"posthoused ended with status {status}: {self.errors()}"
        findings = lines_of(self.errors())
        assert not findings, f"a sanitizer or an assertion spoke: {findings}"

    def reload(self):
        at = len(self.log())
        self.proc.send_signal(signal.SIGHUP)
        wait_for("the reload", lambda: re.search(r"reload(ed)? (--|failed)", self.log()[at:]))
        return self.log()[at:]

    def close(self, failed=False):
        if failed:
            self.show()
        try:
            if self.proc is not None:
                self.stop()
        except AssertionError:
            if not failed:
                self.show()
                raise
        finally:
            if self.proc is not None:
                self.proc.kill()
                self.proc.wait()
        if not self.hold_dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def show(self):
        ended = self.proc.poll() if self.proc else None
        if ended is not None:
            print(f"---- posthoused ended by itself with status {ended}")
        print(f"---- standard error of posthoused\n{self.errors()[-4000:]}\n---- log\n{self.log()[-6000:]}\n----", flush=True)

    # ---- looking at it ----
    def client(self, **kw):
        return Client("127.0.0.1", self.port, **kw)

    def log(self):
        try:
            return (self.dir / "log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_log(self, pattern, count=1, seconds=WAIT_S):
        """Waits until the log has `count` matches of the regular expression; returns them."""
        def found():
            m = re.findall(pattern, self.log(), re.M)
            return m if len(m) >= count else None
        try:
            return wait_for(f"{count} log lines like {pattern!r}", found, seconds)
        except AssertionError:
            self.show()
            raise

    def mails(self, user="user"):
        """Contents of a user's Maildir, in the order of queue IDs: deliveries run side by side and end in any order."""
        new = self.dir / "mail" / user / "new"
        if not new.is_dir():
            return []
        return [p.read_bytes() for p in sorted(new.iterdir(), key=lambda p: int(re.search(r"Q([0-9a-f]+)R", p.name)[1], 16))]

    def wait_mails(self, n, user="user", seconds=WAIT_S):
        wait_for(f"{n} mails for {user}", lambda: len(self.mails(user)) >= n, seconds)
        return self.mails(user)

    def ctl(self, *args, check=True, text=True, stdin=None):
        """posthousectl; returns the completed process."""
        r = subprocess.run([str(BUILD / "posthousectl"), "-c", str(self.dir / "etc"), *args], capture_output=True,
                           text=text, timeout=60, env=self.env, input=stdin)
        if check and r.returncode != 0:
            raise AssertionError(f"posthousectl {' '.join(args)}: status {r.returncode}: {r.stdout}{r.stderr}")
        return r

    def request(self, op, **members):
        """One request to the control socket (daemon/control/README.md); the answer's lines as objects."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(str(self.dir / "data" / "control"))
            s.sendall(json.dumps(dict(members, op=op)).encode() + b"\n")
            lines = []
            for line in s.makefile("rb"):
                lines.append(json.loads(line))
                if "ok" in lines[-1]:
                    return lines
        raise EOFError(f"the control socket closed during {op}")

    def queue(self):
        """The queue as a list of objects (posthousectl queue list -j)."""
        return [json.loads(line) for line in self.ctl("queue", "list", "-j").stdout.splitlines()]

    def wait_queue(self, rcpts):
        """Waits until these recipients, and no others, are in the queue: notices and results settle after their log lines."""
        def now():
            return sorted(r["address"] for m in self.queue() for r in m["recipients"])
        try:
            wait_for(f"{sorted(rcpts)} in the queue", lambda: now() == sorted(rcpts))
        except AssertionError as e:
            raise AssertionError(f"{e}; there are {now()}") from None

    def sendmail(self, *args, stdin=b"", check=True):
        r = subprocess.run([str(BUILD / "sendmail"), "-C", str(self.dir / "etc"), *args], input=stdin,
                           capture_output=True, timeout=60, env=self.env)
        if check and r.returncode != 0:
            raise AssertionError(f"sendmail {args}: status {r.returncode}: {r.stderr.decode(errors='replace')}")
        return r
