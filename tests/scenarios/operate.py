#!/usr/bin/env python3
"""The daemon's life as an administrator sees it: start, reload, stop, users, several instances, the service manager."""
import contextlib
import ctypes
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from client import Client
from hub import BUILD, MASTER, Hub, wait_for
from sink import Sink

MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nhi\r\n"


def banner(hub):
    with hub.client(helo=None) as c:
        return c.banner.text


def test_reload_changes_new_sessions_only():
    with Hub({"smtpd_banner": "one", "message_size_limit": "1000"}) as hub:
        with hub.client() as old:
            hub.main.update({"smtpd_banner": "two", "message_size_limit": "2000"})
            hub.write_conf()
            assert "reload --" in hub.reload()
            assert banner(hub) == "two"
            assert "250-SIZE 1000" in old.cmd("EHLO again.example", 250).lines  # what it began with
            with hub.client() as new:
                assert "250-SIZE 2000" in new.ehlo.lines
            old.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)
        hub.main["smtpd_banner"] = "three"
        hub.write_conf()
        hub.ctl("reload")  # waits for the outcome
        assert banner(hub) == "three"


def test_a_broken_configuration_is_refused():
    broken = [({"message_size_limit": "lots"}, None, "message_size_limit"),
              ({"smtpd_recipient_restrictions": "permit_mynetworkz, reject"}, None, "permit_mynetworkz"),
              ({"virtual_mailbox_maps": "hash:/nonexistent/map"}, None, None),
              ({}, MASTER + "127.0.0.1:999999 inet n - n - - smtpd\n", "999999"),
              ({}, MASTER + "half a line\n", "master.cf"),
              ({"virtual_mailbox_maps": "nosuchtype:/x"}, None, "nosuchtype")]
    with Hub({"smtpd_banner": "good"}) as hub:
        for change, master, word in broken:
            good = dict(hub.main)
            hub.main.update(change, smtpd_banner="bad")
            hub.master = master or MASTER
            hub.write_conf()
            at = len(hub.log())
            r = hub.ctl("reload", check=False)
            if word is None:  # a table that cannot be opened now fails at look-up: either is fine, but not silence
                assert r.returncode or re.search("warning|error", hub.log()[at:] + r.stdout + r.stderr), (change, r)
            else:
                assert r.returncode != 0, (change, r)
                assert word in r.stdout + r.stderr, (change, r)
                wait_for("the log to say so", lambda at=at: "reload failed" in hub.log()[at:])
                assert banner(hub) == "good", change
            hub.main, hub.master = good, MASTER
            hub.write_conf()
            hub.ctl("reload")
        assert banner(hub) == "good"


def test_ports_come_and_go():
    with Hub({"inet_interfaces": "127.0.0.1, 127.0.0.2"}) as hub:
        hub.master = MASTER + "127.0.0.2:0 inet n - n - - smtpd\n  -o smtpd_banner=second\n"
        hub.write_conf()
        hub.reload()
        port = int(hub.wait_log(r"listening on \[127\.0\.0\.2\] port (\d+)")[0])
        with Client("127.0.0.2", port, helo="c.example") as c:
            assert c.banner.text == "second"
            hub.master = MASTER
            hub.write_conf()
            hub.reload()

            def refused():
                try:
                    socket.create_connection(("127.0.0.2", port), 1).close()
                except OSError:
                    return True
            wait_for("the port to be closed", refused)
            c.send_mail("a@example.org", ["user@example.com"], MAIL)  # its session goes on
            hub.wait_mails(1)
        assert hub.client().quit().code == 221


def test_a_new_route_applies_to_queued_mail():
    with Sink() as dead:
        port = dead.port
    with Sink() as sink, Hub(routes={"r.example": f"smtp:[127.0.0.1]:{port}"}) as hub:
        with hub.client() as c:
            qid = c.send_mail("a@example.org", ["x@r.example"], MAIL)
        hub.wait_log(rf"{qid}: .*status=deferred")
        hub.route({"r.example": f"smtp:[127.0.0.1]:{sink.port}"})
        hub.write_conf()
        hub.reload()
        hub.ctl("queue", "flush")
        wait_for("the message", lambda: sink.mails)


def test_sigterm_under_load_loses_and_repeats_nothing():
    with Sink() as sink, Hub({"smtpd_client_connection_count_limit": "0"}, routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        accepted, lock, begun, over = [], threading.Lock(), [0], threading.Event()

        def load():
            while not over.is_set():
                try:
                    with hub.client(timeout=20) as c:
                        while True:
                            with lock:
                                begun[0] += 1
                                n = begun[0]
                            c.send_mail("a@example.org", ["x@r.example"], b"X-Number: %d\r\n\r\nx\r\n" % n)
                            with lock:
                                accepted.append(n)
                except (OSError, EOFError, AssertionError, ValueError):
                    over.wait(0.01)
        threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
        for t in threads:
            t.start()
        for _ in range(3):
            before = len(accepted)
            wait_for("some load", lambda: len(accepted) > before + 50)
            hub.stop()
            hub.start()
        over.set()
        for t in threads:
            t.join(20)
        wait_for("an empty queue", lambda: not hub.queue())
        got = sorted(int(re.search(rb"X-Number: (\d+)", m["data"]).group(1)) for m in sink.mails)
        assert len(got) == len(set(got)), "delivered twice after a clean stop"
        assert set(accepted) <= set(got), f"lost: {sorted(set(accepted) - set(got))[:10]}"


def test_stop_with_idle_clients():
    with Hub() as hub:
        clients = [hub.client() for _ in range(20)]
        clients[0].envelope()
        clients[1].envelope()
        clients[1].cmd("DATA", 354)
        clients[1].raw(b"Subject: half")
        hub.stop()
        for c in clients[2:]:
            assert c.ends_with(421)
            c.close()


def test_several_instances():
    with contextlib.ExitStack() as stack:
        hubs = [stack.enter_context(Hub({"myhostname": f"hub{i}.example.net"})) for i in range(3)]
        for hub in hubs:
            with hub.client() as c:
                c.send_mail("a@example.org", ["user@example.com"], MAIL)
        for i, hub in enumerate(hubs):
            assert b"by hub%d.example.net" % i in hub.wait_mails(1)[0]
            hub.wait_queue([])


class PlainHub(Hub):
    """Wholly as an ordinary user, also when the test runs as root."""

    def write_conf(self):
        super().write_conf()
        if os.geteuid() == 0:
            for root, dirs, files in os.walk(self.dir):
                for p in [root] + [os.path.join(root, f) for f in files]:
                    shutil.chown(p, "nobody")

    def command(self, *args):
        plain = super().command(*args)
        return ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] + plain if os.geteuid() == 0 else plain


def test_as_an_ordinary_user():
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        raise cases.Skip("setpriv is not installed (package util-linux)")
    with PlainHub({"virtual_uid_maps": None, "virtual_gid_maps": None}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)
        uids = {line.split()[1] for line in open(f"/proc/{hub.proc.pid}/status") if line.startswith("Uid:")}
        assert "0" not in uids


def test_root_becomes_mail_owner():
    if os.geteuid() != 0:
        raise cases.Skip("only root can become somebody else")
    with Hub() as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)
        for task in os.listdir(f"/proc/{hub.proc.pid}/task"):
            status = open(f"/proc/{hub.proc.pid}/task/{task}/status").read()
            assert re.search(r"^Uid:\t65534\t65534\t65534\t65534$", status, re.M), status
            caps = int(re.search(r"^CapEff:\t(\w+)$", status, re.M).group(1), 16)
            assert caps & ~((1 << 6) | (1 << 7) | (1 << 0) | (1 << 2) | (1 << 3)) == 0, f"capabilities {caps:x}"
        assert os.stat(hub.dir / "spool").st_uid == 65534


def test_the_service_manager_is_told():

    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        path = os.path.join(d, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(path)
            os.chmod(path, 0o777)
            s.settimeout(20)
            with Hub(env={"NOTIFY_SOCKET": path}) as hub:
                first = s.recv(4096)
                assert b"READY=1" in first, first
                hub.reload()
                said = s.recv(4096) + s.recv(4096)
                assert b"RELOADING=1" in said and b"READY=1" in said, said
                hub.stop()
                assert b"STOPPING=1" in s.recv(4096)


CAP_SYS_RESOURCE, PR_CAPBSET_DROP = 24, 24


class HubWithDescriptors(Hub):
    """Started with this soft and hard RLIMIT_NOFILE, and without the right to raise the hard one."""

    def __init__(self, soft, hard, **more):
        self.limits = (soft, hard)
        super().__init__(**more)

    def spawn(self):
        libc = ctypes.CDLL(None)

        def limit():
            if os.geteuid() == 0:
                libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)
            resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)
        self.log_from = len(self.log())
        self.stderr = open(self.dir / "stderr", "ab")
        self.proc = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.stderr, stderr=self.stderr,
                                     env=self.env, preexec_fn=limit)


def test_descriptors_are_raised_to_what_the_settings_need():
    with HubWithDescriptors(64, 4096, main={"session_limit": "500", "delivery_threads": "10"}) as hub:
        soft = re.search(r"Max open files +(\d+)", open(f"/proc/{hub.proc.pid}/limits").read())[1]
        assert int(soft) >= 1000, soft
        assert "session_limit:" not in hub.log()


def test_few_descriptors_leave_some_for_deliveries():
    main = {"smtpd_client_connection_count_limit": "0"}
    with HubWithDescriptors(80, 80, main=main) as hub, contextlib.ExitStack() as stack:
        sessions = int(hub.wait_log(r"session_limit: (\d+) sessions instead of 10000: 80 descriptors are allowed")[0])
        first = stack.enter_context(hub.client())
        socks = [stack.enter_context(socket.create_connection(("127.0.0.1", hub.port), 10)) for _ in range(70)]
        said = [s.recv(100)[:3] for s in socks]
        assert said.count(b"220") == sessions - 1 and said.count(b"421") == 70 - sessions + 1, said
        first.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)


def test_in_the_background():
    """Without -f the command returns when the daemon serves; posthousectl stop ends it."""
    with Hub(start=False) as hub:
        r = subprocess.run([str(BUILD / "posthoused"), "-c", str(hub.dir / "etc")], timeout=60, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert r.returncode == 0, r
        hub.port = int(hub.wait_log(r"listening on \[127\.0\.0\.1\] port (\d+)")[0])
        with hub.client() as c:
            c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)
        again = subprocess.run([str(BUILD / "posthoused"), "-c", str(hub.dir / "etc")], timeout=60, capture_output=True, text=True)
        assert again.returncode != 0 and again.stderr, again
        hub.ctl("stop")
        wait_for("the log to say so", lambda: re.search(r"stopped$", hub.log(), re.M))
        assert hub.ctl("status", check=False).returncode != 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    cases.main(globals())
