"""The two servers under test, each private to one directory.

Both read the same main.cf and master.cf text, written here; what only one of
them needs is added by its class.  Server.start() returns when the server
greets a client, Server.stop() when no process of it is left.
"""

import grp
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time

import measure

DOMAIN = "bench.example"            # every recipient is rcpt@DOMAIN
START_S = 20
STOP_S = 20

# One value a line, with the reason where it differs from the default.
MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {spool}
data_directory = {data}
maillog_file = {log}
maillog_file_prefixes = {work}
mail_owner = {owner}
syslog_name = bench
myhostname = bench-server.example
mydestination =
# All mail to DOMAIN goes to one transport: discard:, smtp: or lmtp: to the sink.
relay_domains = {domain}
relay_transport = {transport}
default_transport = error:the benchmark sends nothing elsewhere
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
default_process_limit = {limit}
# No resolver is asked, so that DNS is not what is measured.
disable_dns_lookups = yes
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
# No brakes: one loopback client makes all the load.
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_client_recipient_rate_limit = 0
in_flow_delay = 0
# Concurrency for the one next hop stays as it is (20, starting with 5): with 50
# Postfix spends a fifth more CPU time on each message it relays.
# Never give up on a message or report one late during a run.
delay_warning_time = 0
biff = no
"""

# For Postfix alone: where the unpacked package is, and fewer new processes:
# by default one leaves after 100 clients or messages, which costs it a sixth.
POSTFIX_MAIN_CF = """\
setgid_group = {group}
default_privs = nobody
command_directory = {root}/usr/sbin
daemon_directory = {root}/usr/lib/postfix/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {conf}
import_environment = MAIL_CONFIG MAIL_LOGTAG TZ LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME LD_LIBRARY_PATH
max_use = 1000
"""

# The listener and transports have the default process limit ("-").
MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
lmtp      unix - - n - - lmtp
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


class Unavailable(Exception):
    """This server cannot run here; the text says what is missing."""


def first_existing(lookup, names, what):
    for name in names:
        try:
            return lookup(name)
        except KeyError:
            pass
    raise Unavailable(f"none of the {what}s {', '.join(names)} exists")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, limit_s, step_s=0.02):
    """Poll until condition() is true; the last answer, false on time-out."""
    end = time.monotonic() + limit_s
    while True:
        answer = condition()
        if answer or time.monotonic() > end:
            return answer
        time.sleep(step_s)


class Server:
    """A mail server with a configuration and spool of its own."""

    name = "?"

    def __init__(self, top, guard):
        self.guard = guard
        self.work = pathlib.Path(top) / self.name
        self.conf = self.work / "conf"
        self.spool = self.work / "spool"
        self.data = self.work / "data"
        self.log = self.work / "log" / "maillog"
        self.proc = None
        self.port = 0
        self.limit = 100               # default_process_limit
        self.owner = self.find_owner()

    def find_owner(self):
        if os.geteuid() != 0:
            return pwd.getpwuid(os.geteuid())
        # Any account that owns nothing else; Debian has news and uucp.
        return first_existing(pwd.getpwnam, ("postfix", "news", "uucp"), "account")

    def main_cf(self):
        return MAIN_CF

    def command(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def write_files(self, transport):
        for d in (self.conf, self.spool, self.data, self.log.parent):
            d.mkdir(parents=True, exist_ok=True)
        values = dict(
            work=self.work, conf=self.conf, spool=self.spool, data=self.data,
            log=self.log, port=self.port, owner=self.owner.pw_name,
            transport=transport, domain=DOMAIN, limit=self.limit,
            group=getattr(self, "group", ""), root=getattr(self, "root", ""))
        (self.conf / "main.cf").write_text(self.main_cf().format(**values))
        (self.conf / "master.cf").write_text(MASTER_CF.format(**values))
        self.log.write_text("")
        self.own(self.data, self.log.parent, self.log)

    def own(self, *paths):
        if os.geteuid() == 0:
            for p in paths:
                os.chown(p, self.owner.pw_uid, self.owner.pw_gid)

    def start(self, transport):
        self.port = free_port()
        self.write_files(transport)
        with open(self.work / "stderr", "wb") as err:
            self.proc = self.guard.popen(self.command(), env=self.environment(),
                                         stdout=err, stderr=err)
        if not wait_for(self.greets, START_S):
            raise RuntimeError(f"{self.name} does not greet on port {self.port}")

    def greets(self):
        if self.proc.poll() is not None:
            raise RuntimeError(f"{self.name} ended with status {self.proc.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                return s.recv(512).startswith(b"220")
        except OSError:
            return False

    def last_words(self):
        lines = []
        for path in (self.log, self.work / "stderr"):
            if path.exists():
                lines += path.read_text(errors="replace").splitlines()[-8:]
        return "\n".join(lines)

    def stop(self):
        """Ask, then insist: afterwards the whole process group is gone."""
        if self.proc is None:
            return
        group = self.proc.pid
        members = lambda: [p for p in measure.group_members(group) if p != group]
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        wait_for(lambda: not members(), 5)
        for pid in members():
            os.kill(pid, signal.SIGKILL)
        self.guard.forget(self.proc)
        self.proc = None

    def wipe(self):
        """A new spool, after a run that left mail behind."""
        shutil.rmtree(self.spool, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)


class Postfix(Server):
    name = "postfix"

    def __init__(self, top, guard, root):
        if os.geteuid() != 0:
            raise Unavailable("Postfix's master(8) runs only as root")
        super().__init__(top, guard)
        self.root = root
        self.group = first_existing(
            grp.getgrnam, ("postdrop", "operator", "staff"), "group").gr_name

    def main_cf(self):
        return MAIN_CF + POSTFIX_MAIN_CF

    def command(self):
        # -d: stay in the foreground and keep stderr.
        return [f"{self.root}/usr/lib/postfix/sbin/master", "-d", "-c", str(self.conf)]

    def environment(self):
        return package_environment(self.root)

    def write_files(self, transport):
        super().write_files(transport)
        # What postfix-script would make.
        gid = grp.getgrnam(self.group).gr_gid
        uid = self.owner.pw_uid
        (self.spool / "pid").mkdir(exist_ok=True)
        for name in ("active bounce corrupt defer deferred flush hold incoming"
                     " private saved trace").split():
            (self.spool / name).mkdir(mode=0o700, exist_ok=True)
            os.chown(self.spool / name, uid, 0)
        for name, mode in (("maildrop", 0o730), ("public", 0o710)):
            (self.spool / name).mkdir(exist_ok=True)
            (self.spool / name).chmod(mode)
            os.chown(self.spool / name, uid, gid)


class Posthouse(Server):
    name = "posthouse"

    def __init__(self, top, guard, build):
        self.binary = self.find_binary(build)
        super().__init__(top, guard)

    @staticmethod
    def find_binary(build):
        for place in ("posthoused", "daemon/posthoused", "sbin/posthoused"):
            path = pathlib.Path(build) / place
            if path.is_file() and os.access(path, os.X_OK):
                return path.resolve()
        raise Unavailable(f"no posthoused below {build}: build it and name the place with --build")

    def write_files(self, transport):
        super().write_files(transport)
        self.own(self.spool)

    def command(self):
        return [str(self.binary), "-c", str(self.conf), "-f"]


# Debian's package, unpacked and not installed.

def package_environment(root):
    env = dict(os.environ)
    if str(root) != "/":
        libs = [f"{root}/usr/lib/postfix"]
        libs += [str(p) for p in pathlib.Path(root).glob("usr/lib/*-linux-gnu*")]
        env["LD_LIBRARY_PATH"] = ":".join(libs)
    return env


def unpack(packages, root):
    debs = pathlib.Path(root) / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages],
        cwd=debs, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise Unavailable("apt-get download " + " ".join(packages) + " failed "
                          "(is `apt-get update` needed?):\n" + done.stderr[-500:])
    for deb in debs.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(deb), str(root)], check=True, timeout=60)
        deb.unlink()


def find_postfix(top, given):
    """The root below which usr/lib/postfix/sbin/master is; unpacks it if need be."""
    for root in [given] if given else ["/"]:
        if os.access(f"{root}/usr/lib/postfix/sbin/master", os.X_OK):
            return root
        if given:
            raise Unavailable(f"no usr/lib/postfix/sbin/master below {given}")
    root = f"{top}/package"
    unpack(["postfix"], root)
    if "not found" in ldd(root):
        depends = subprocess.run(
            ["apt-cache", "depends", "--no-recommends", "--no-suggests", "postfix"],
            capture_output=True, text=True, timeout=60).stdout.split()
        unpack([w for w in depends if w.startswith("lib")] + ["libtirpc3"], root)
        missing = [line.strip() for line in ldd(root).splitlines() if "not found" in line]
        if missing:
            raise Unavailable("Postfix lacks libraries: " + ", ".join(missing))
    return root


def ldd(root):
    return subprocess.run(["ldd", f"{root}/usr/lib/postfix/sbin/smtpd"],
                          env=package_environment(root), capture_output=True,
                          text=True, timeout=30).stdout
