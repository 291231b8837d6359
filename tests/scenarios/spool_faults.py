#!/usr/bin/env python3
"""A disk that fails or is full under the running daemon: nothing that was acknowledged is lost, and the postmaster hears.

DESIGN "The spool"; postconf(5) notify_classes, queue_minfree. The disk's failures come from tests/lib/shim_disk.c.
"""
import errno
import os
import pathlib
import pwd
import re
import resource
import shlex
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for

LIB = pathlib.Path(__file__).resolve().parent.parent / "lib"


def build_shim(directory):
    if sys.maxsize < 2**32:
        raise cases.Skip("the shim is made for 64-bit systems")
    out = pathlib.Path(directory) / "shim_disk.so"
    cc = shlex.split(os.environ.get("CC", "cc"))
    try:
        subprocess.run([*cc, "-O1", "-fPIC", "-shared", "-Wall", "-o", str(out), str(LIB / "shim_disk.c"), "-ldl", "-lpthread"],
                       check=True, timeout=60)
    except FileNotFoundError:
        raise cases.Skip("no C compiler")
    return out


class FaultyHub(Hub):
    def __init__(self, main=None, **kw):
        self.extra = tempfile.TemporaryDirectory(prefix="posthouse-shim-")
        os.chmod(self.extra.name, 0o755)
        self.orders = pathlib.Path(self.extra.name) / "orders"
        shim = build_shim(self.extra.name)
        directory = tempfile.mkdtemp(prefix="posthouse-test-")
        asan = os.environ.get("ASAN_OPTIONS", "")
        env = {"LD_PRELOAD": str(shim), "SHIM_DISK": str(self.orders), "SHIM_DISK_DIR": f"{directory}/spool/journal/",
               "ASAN_OPTIONS": f"{asan}:verify_asan_link_order=0".lstrip(":")}
        super().__init__(dict({"error_notice_recipient": "other@example.com"}, **(main or {})), directory=directory, env=env, **kw)
        self.hold_dir = False

    def order(self, text):
        new = self.orders.with_suffix(".new")
        new.write_text(text)
        os.chmod(new, 0o644)
        new.rename(self.orders)

    def heal(self):
        self.orders.unlink()

    def close(self, failed=False):
        super().close(failed)
        self.extra.cleanup()

    # The tools shall not fail with the daemon.
    def ctl(self, *args, **kw):
        env, self.env = self.env, dict(os.environ)
        try:
            return super().ctl(*args, **kw)
        finally:
            self.env = env


def mail(n):
    return f"From: a@example.org\r\nSubject: message {n}\r\n\r\nhi {n}\r\n".encode()


def try_mail(c, n):
    """Sends a message; returns (command that was refused or None, code)."""
    r = c.cmd("MAIL FROM:<a@example.org>")
    if r.code != 250:
        return "MAIL", r
    c.cmd("RCPT TO:<user@example.com>", 250)
    r = c.content(mail(n), code=None)
    return ("DATA", r) if r.code != 250 else (None, r)


def send_until_accepted(c, n):
    """A batch that failed closes the door for a moment: the next attempt of the keeper opens it."""
    def accepted():
        where, r = try_mail(c, n)
        assert r.code in (250, 451, 452), r
        return where is None
    wait_for("mail to be accepted again", accepted)


def delivered(hub, user="user"):
    return sorted(int(re.search(rb"Subject: message (\d+)", m).group(1)) for m in hub.mails(user))


def notice_about(hub, words):
    """The notice whose text has these words."""
    def found():
        return [m for m in hub.mails("other") if words in m]
    return wait_for(f"a notice about {words!r}", found)[0]


def send_until_refused(hub, c, order):
    """Orders one failure at a time until it hits a batch and not the preparation of the next segment. The refused number."""
    for n in range(2, 20):
        hub.wait_log(r"qmgr\[\d+\]: \w+: removed", count=n - 1)  # its result is written: that call is not meant
        hub.order(f"{order} again {n}\n")
        where, r = try_mail(c, n)
        if where is not None:
            assert (where, r.code) == ("DATA", 451), (n, where, r)
            return n, r
    raise AssertionError(f"no batch failed with {order}")


def one_failure(call):
    with FaultyHub() as hub, hub.client() as c:
        assert try_mail(c, 1)[0] is None
        hub.wait_mails(1)
        refused, r = send_until_refused(hub, c, f"{call} {errno.EIO} 1")
        assert r.text == "4.3.0 Error: queue file write error", r
        hub.wait_log(r"posthouse/spool\[\d+\]: error: journal: write or flush of segment [0-9a-f]{16} failed")
        send_until_accepted(c, 100)
        send_until_accepted(c, 101)
        want = [1, *range(2, refused), 100, 101]
        wait_for("what was accepted to be delivered", lambda: set(want) <= set(delivered(hub)))
        notice = notice_about(hub, b"write or flush of segment")
        assert b"Subject: Trouble with the mail queue: the disk failed" in notice, notice
        for field in (rb"Auto-Submitted: auto-replied", rb"Return-Path: <double-bounce@\S+>", rb"To: other@example.com"):
            assert re.search(rb"^" + field + rb"\r?$", notice, re.M), (field, notice)
        hub.wait_log(r"posthouse/notice\[\d+\]: \w+: notice to the postmaster, class resource: ")
        wait_for("an empty queue", lambda: hub.queue() == [])
        # Over the next life too: what was refused may come to life again, what was accepted may not be there twice.
        hub.kill()
        hub.start()
        assert delivered(hub) == sorted(want), (delivered(hub), want)
        hub.wait_queue([])


def test_a_flush_that_fails():
    one_failure("fdatasync")


def test_a_write_that_fails():
    one_failure("pwritev")


def test_a_disk_that_goes_on_failing():
    """Each batch gets 451, or 452 at MAIL while it is known; when the disk is well again all goes on by itself."""
    with FaultyHub() as hub, hub.client() as c:
        hub.order(f"fdatasync {errno.EIO}\n")
        where, r = try_mail(c, 1)
        assert (where, r.code) == ("DATA", 451), r
        for n in range(2, 6):
            where, r = try_mail(c, n)
            assert where is not None and r.code in (451, 452), (where, r)
        hub.heal()
        send_until_accepted(c, 6)
        hub.wait_mails(1)
        assert delivered(hub) == [6]
        notice_about(hub, b"mail of this batch refused")
        assert len(hub.mails("other")) == 1, "one kind of trouble, one notice"


def test_a_list_whose_copies_fail():
    """Mail for a list with an owner is a message of its own: when its file cannot be written nothing is taken, and nothing is left."""
    hub = FaultyHub({"mydestination": "hub.example.net", "local_recipient_maps": "$alias_maps",
                     "alias_maps": "inline:{ { first=user@example.com }, { owner-first=x@example.com }, { second=other@example.com }, { owner-second=y@example.com } }"}, start=False)
    with hub:
        hub.env["SHIM_DISK_DIR"] = f"{hub.dir}/spool/large/"
        hub.start()
        large = mail(1) + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 6000
        for n in (2, 3):  # the second of the three files, then the last
            hub.order(f"fdatasync {errno.EIO} {n}\n")
            with hub.client() as c:
                c.envelope("a@example.org", ["first@hub.example.net", "user@example.com", "second@hub.example.net"])
                assert c.content(large, code=451).text == "4.3.0 Error: queue file write error"
                assert list((hub.dir / "spool/large").iterdir()) == []
        assert delivered(hub) == []
        hub.heal()
        with hub.client() as c:
            c.send_mail("a@example.org", ["first@hub.example.net", "user@example.com", "second@hub.example.net"], large)
        assert len(hub.wait_mails(2)) == 2
        wait_for("the files to go", lambda: list((hub.dir / "spool/large").iterdir()) == [])


def test_no_space_for_the_journal():
    """ENOSPC: 452, at the end of the data and then at MAIL; mail accepted before is delivered; then it is over."""
    with FaultyHub(routes={"relay.example": "smtp:[127.0.0.1]:1"}, main={"defer_transports": "virtual"}) as hub, hub.client() as c:
        assert try_mail(c, 1)[0] is None
        hub.order(f"pwritev {errno.ENOSPC}\nfallocate {errno.ENOSPC}\n")
        where, r = try_mail(c, 2)
        assert (where, r.code, r.text) == ("DATA", 452, "4.3.1 Insufficient system storage"), (where, r)
        where, r = try_mail(c, 3)
        assert (where, r.code, r.text) == ("MAIL", 452, "4.3.1 Insufficient system storage"), (where, r)
        hub.main["defer_transports"] = ""
        hub.write_conf()
        hub.reload()
        hub.ctl("queue", "flush")
        hub.wait_mails(1)
        assert delivered(hub) == [1]
        hub.order("")
        send_until_accepted(c, 4)
        hub.wait_mails(2)
        assert delivered(hub) == [1, 4]
        notice_about(hub, b"No space left on device")


def test_below_queue_minfree():
    with FaultyHub({"queue_minfree": "1000000"}) as hub, hub.client() as c:
        assert try_mail(c, 1)[0] is None
        hub.wait_mails(1)
        hub.order("statvfs 999999\n")

        def refused():
            where, r = try_mail(c, 2)
            return where == "MAIL" and r.code == 452 and r.text == "4.3.1 Insufficient system storage"
        before = len(hub.mails())
        wait_for("MAIL to be refused", refused)
        hub.wait_log(r"error: .*: 999999 bytes are free and queue_minfree is 1000000: new mail is refused with 452")
        notice_about(hub, b"999999 bytes are free")  # the notice itself has the reserve
        hub.order("statvfs 3000000\n")
        # SIZE= counts on top of the reserve
        wait_for("a small message to pass", lambda: try_mail(c, 3)[0] is None)
        c.cmd("MAIL FROM:<a@example.org> SIZE=2500000", 452)
        hub.wait_log(r"3000000 bytes are free: new mail is accepted again")
        wait_for("the mail", lambda: 3 in delivered(hub))
        assert before >= 1


def test_the_classes_choose():
    """Without "resource" nobody is told, though the log is."""
    with FaultyHub({"notify_classes": "software", "queue_minfree": "1000000"}) as hub, hub.client() as c:
        hub.order("statvfs 5\n")
        wait_for("MAIL to be refused", lambda: try_mail(c, 1)[0] == "MAIL")
        hub.wait_log(r"error: .*: 5 bytes are free")
        hub.heal()
        send_until_accepted(c, 2)
        hub.stop()
        hub.start()
        assert "notice to the postmaster" not in hub.log()
        assert hub.mails("other") == []


def test_the_index_is_set_aside():
    with FaultyHub() as hub:
        hub.stop()
        (hub.dir / "spool" / "index.db").write_bytes(b"this is no database " * 400)
        for tail in ("-wal", "-shm"):
            (hub.dir / "spool" / f"index.db{tail}").unlink(missing_ok=True)
        hub.start()
        notice = notice_about(hub, b"set aside as")
        assert b"Subject: Trouble with the mail queue: its index" in notice
        hub.wait_log(r"notice to the postmaster, class software: ")


def lower_descriptors(hub, n):
    """prlimit() wants the same user and group as the daemon's, root or not."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                owner = pwd.getpwnam(hub.main["mail_owner"])
                os.setresgid(owner.pw_gid, owner.pw_gid, owner.pw_gid)
                os.setresuid(owner.pw_uid, owner.pw_uid, owner.pw_uid)
            resource.prlimit(hub.proc.pid, resource.RLIMIT_NOFILE, (n, n))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0, "cannot lower the daemon's limit of descriptors"


def test_too_many_open_files():
    """Connections wait in the kernel's queue; the notice comes when descriptors are there again."""
    with Hub({"error_notice_recipient": "other@example.com", "smtpd_client_connection_count_limit": "0",
              # The notice may be delivered while there are none.
              "minimal_backoff_time": "1s", "maximal_backoff_time": "1s", "queue_run_delay": "1s"}) as hub:
        # Lowered from outside: at its start the daemon would have given out fewer sessions instead.
        lower_descriptors(hub, 60)
        clients = [hub.client(greet=False) for _ in range(70)]
        hub.wait_log(r"warning: accept: Too many open files: no new connections for \d+ ms")
        for c in clients[:40]:
            c.close()
        for c in clients[40:]:
            r = c.reply()
            assert r.code == 220, r
            c.close()
        # The spool may have met the same limit and have told of it in a notice of its own.
        wait_for("the notice", lambda: [m for m in hub.mails("other") if b"accept: Too many open files" in m and
                 b"Subject: Trouble with the mail system: a limit of the operating system" in m])


if __name__ == "__main__":
    cases.main(globals())
