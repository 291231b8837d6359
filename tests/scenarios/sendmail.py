#!/usr/bin/env python3
"""sendmail, mailq and newaliases: submission while the daemon runs and while it does not, SMTP on standard input."""
import grp
import json
import os
import pwd
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import BUILD, Hub, wait_for
from tableserver import TableServer

LATER = {"relay_domains": "later.example", "transport_maps": "inline:{ { later.example = retry:4.7.0 come back later } }"}
USER = pwd.getpwuid(os.getuid()).pw_name


def header(mail):
    return mail.split(b"\n\n", 1)[0]


def show(hub):
    qid = wait_for("a queued message", lambda: [q["queue_id"] for q in hub.queue()])[0]
    return json.loads(hub.ctl("queue", "show", "-j", qid).stdout)


def test_recipients_from_the_header():
    with Hub() as hub:
        hub.sendmail("-t", stdin=b"To: User <user@example.com>,\n\t\"x, y\" <x@nowhere.example> (not, this)\n"
                     b"Cc: Group: other@example.com;\nBcc: user@example.com\nSubject: s\n\nhi\n", check=False)
        hub.sendmail("-t", "-i", stdin=b"To: user@example.com\nBcc: other@example.com,\n other@example.com\nSubject: t\n\n.\nhi\n")
        one = [m for m in hub.wait_mails(2) if b"Subject: t" in m][0]
        two = [m for m in hub.wait_mails(2, "other") if b"Subject: t" in m]
        assert len(two) == 1  # twice in Bcc, delivered once
        for m in (one, two[0]):
            assert b"\nbcc:" not in header(m).lower() and m.endswith(b"\n\n.\nhi\n"), m


def test_resent_header_wins():
    with Hub() as hub:
        hub.sendmail("-t", stdin=b"To: other@example.com\nFrom: a@b.example\nResent-To: user@example.com\nSubject: r\n\nx\n")
        m = hub.wait_mails(1)[0]
        assert b"\nResent-From: " in m and b"\nResent-Message-Id: <" in m and b"\nTo: other@example.com\n" in m, m
        assert hub.mails("other") == []


def test_what_is_added():
    with Hub({"myorigin": "origin.example"}) as hub:
        hub.sendmail("-F", "Joe Q. User", "user@example.com", stdin=b"Subject: bare\n\nhi\n")
        m = hub.wait_mails(1)[0]
        assert m.startswith(f"Return-Path: <{USER}@origin.example>\n".encode()), m
        assert f'\nFrom: "Joe Q. User" <{USER}@origin.example>\n'.encode() in m
        assert re.search(rb"\nMessage-Id: <\d{14}\.\w+@hub\.example\.net>\n", m) and b"\nDate: " in m
        assert f"(Posthouse, from userid {os.getuid()})\n\tid ".encode() in m
        hub.wait_log(rf"pickup\[\d+\]: \w+: uid={os.getuid()} from=<{USER}@origin\.example>")
        hub.wait_log(r"cleanup\[\d+\]: \w+: message-id=<\d+\.\w+@hub\.example\.net>")
        hub.sendmail("-f", "<>", "user@example.com", stdin=b"From: me\nDate: d\nMessage-ID: <own@x>\n\nhi\n")
        m = [m for m in hub.wait_mails(2) if b"own@x" in m][0]
        assert m.startswith(b"Return-Path: <>\n") and m.count(b"\nFrom: ") == 1 and m.lower().count(b"\nmessage-id: ") == 1


def test_envelope_options():
    with Hub(LATER) as hub:
        hub.sendmail("-f", "a@b.example", "-N", "success,delay", "-V", "env+1", "-R", "hdrs", "-B", "8BITMIME",
                     "u@later.example", stdin=b"\n\xc3\xa4\n")
        m = show(hub)
        assert m["envelope_id"] == "env+1" and m["return"] == "headers" and "8bitmime" in m["flags"], m
        assert m["recipients"][0]["notify"] == ["success", "delay"], m


def test_settings_of_local_mail():
    with Hub({"header_from_format": "obsolete", "message_drop_headers": "x-secret, bcc", "mydomain": "example.com",
              "append_dot_mydomain": "yes", "duplicate_filter_limit": "1", "myorigin": "example.com",
              "virtual_mailbox_maps": "inline:{ user@example.com=user/, user@sub.example.com=sub/ }",
              "virtual_mailbox_domains": "example.com, sub.example.com"}) as hub:
        hub.sendmail("-F", "Joe", "-f", "joe", "user", "user@sub", "user@sub", stdin=b"Subject: x\nX-Secret: y\n\nhi\n")
        m = hub.wait_mails(1)[0]
        assert b"\nFrom: joe@example.com (Joe)\n" in m and b"Secret" not in m, m
        assert len(hub.wait_mails(2, "sub")) == 2  # only the first recipient is remembered


def test_utf8_is_detected():
    for classes, found in (("sendmail, verify", True), ("verify", False)):
        with Hub({**LATER, "smtputf8_autodetect_classes": classes}) as hub:
            hub.sendmail("u@later.example", stdin="Subject: \u00e4\n\nhi\n".encode())
            assert ("smtputf8" in show(hub)["flags"]) == found, classes


def test_maildrop_group():
    with Hub({"setgid_group": "no-such-group"}) as hub:
        assert (hub.dir / "spool" / "maildrop").stat().st_mode & 0o7777 == 0o1733
        if os.getuid() != 0:
            raise cases.Skip("needs root to give a directory to a group")
        hub.stop()
        hub.main["setgid_group"] = "mail"
        hub.write_conf()
        hub.start()
        st = (hub.dir / "spool" / "maildrop").stat()
        assert st.st_mode & 0o7777 == 0o1730 and st.st_gid == grp.getgrnam("mail").gr_gid, (oct(st.st_mode), st.st_gid)
        assert st.st_uid == pwd.getpwnam(hub.main["mail_owner"]).pw_uid


def test_virtual_aliases():
    with Hub({"virtual_alias_domains": "alias.example",
              "virtual_alias_maps": "inline:{ { all@alias.example = user@example.com, other@example.com } }"}) as hub:
        hub.sendmail("all@alias.example", stdin=b"Subject: x\n\nhi\n")
        assert len(hub.wait_mails(1)) == 1 and len(hub.wait_mails(1, "other")) == 1
        hub.wait_log(r"to=<other@example\.com>, orig_to=<all@alias\.example>, relay=virtual")


def test_errors():
    with Hub({"message_size_limit": "5000"}) as hub:
        body = b"Subject: x\n\nhi\n"
        for args, stdin, status in ((["-t"], body, 64), ([], body, 64), (["-Z"], body, 64), (["-bh", "x"], body, 69),
                                    (["not an address"], body, 65), (["-f", "bad sender", "user@example.com"], body, 65),
                                    (["-t"], b"To: x y z\n\nhi\n", 65), (["user@example.com"], b"x" * 6000, 65)):
            r = hub.sendmail(*args, stdin=stdin, check=False)
            assert r.returncode == status and r.stderr.startswith(b"sendmail: "), (args, r)
        assert hub.queue() == [] and hub.mails() == []


def test_while_the_daemon_is_down():
    with Hub() as hub:
        hub.stop()
        for i in range(5):
            hub.sendmail("-f", "joe@example.org", "user@example.com", stdin=f"Subject: number {i}\n\nhi\n".encode())
        drop = hub.dir / "spool" / "maildrop"
        assert len([p for p in drop.iterdir() if p.is_file()]) == 5
        hub.start()
        mails = hub.wait_mails(5)
        hub.wait_log(r"qmgr\[\d+\]: \w+: removed", 5)
        hub.stop()
        hub.start()  # nothing comes again
        assert sorted(re.search(rb"number (\d)", m).group(1) for m in hub.mails()) == [b"0", b"1", b"2", b"3", b"4"]
        assert len(mails) == 5 and [p for p in drop.iterdir() if p.is_file()] == [] and list((drop / "active").iterdir()) == []


def test_killed_again_and_again():
    """kill -9 while maildrop/ is taken in: every message once."""
    with Hub() as hub:
        hub.stop()
        n = 60
        for i in range(n):
            hub.sendmail("user@example.com", stdin=f"Subject: number {i:03}\n\nhi\n".encode())
        drop = hub.dir / "spool" / "maildrop"
        for round_ in range(6):
            hub.start()
            want = len(hub.mails()) + 5
            wait_for("some to be delivered", lambda: len(hub.mails()) >= min(want, n))
            hub.kill()
        hub.start()
        hub.wait_mails(n)
        wait_for("maildrop to be empty", lambda: not any(p.is_file() for p in drop.rglob("*")))
        wait_for("the queue to be empty", lambda: hub.queue() == [])
        seen = {}
        for m in hub.mails():
            number = int(re.search(rb"number (\d+)", m).group(1))
            seen.setdefault(number, set()).add(re.search(rb"\n\tid (\w+);", m).group(1))
        assert sorted(seen) == list(range(n)), sorted(seen)
        # A kill between a Maildir delivery and its result may repeat that delivery; the message itself is taken once.
        assert all(len(ids) == 1 for ids in seen.values()), seen


def test_smtp_on_standard_input():
    with Hub({"mynetworks": "192.0.2.1", **LATER, "relay_domains": ""}) as hub:
        dialogue = (b"EHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<user@example.com>\r\nRCPT TO:<u@later.example>\r\nDATA\r\n"
                    b"Subject: bs\r\n\r\n..x\r\n.\r\nQUIT\r\n")
        r = hub.sendmail("-bs", stdin=dialogue)
        lines = r.stdout.decode().split("\r\n")
        assert lines[0].startswith("220 hub.example.net ESMTP") and lines[-2] == "221 2.0.0 Bye", lines
        assert sum(line == "250 2.1.5 Ok" for line in lines) == 2, lines  # relaying is not restricted for local users
        assert any(line.startswith("250 2.0.0 Ok: queued as ") for line in lines), lines
        assert hub.wait_mails(1)[0].endswith(b"\n\n.x\n")
        r = hub.sendmail("-bs", stdin=b"NOOP\r\n")  # input ends without QUIT
        assert b"250 2.0.0 Ok" in r.stdout, r


def test_smtp_on_standard_input_while_the_daemon_is_down():
    with Hub({"message_size_limit": "2000"}) as hub:
        hub.stop()

        def talk(text, status=0):
            r = hub.sendmail("-bs", stdin=text, check=False)
            assert r.returncode == status, r
            return r.stdout.decode().split("\r\n")

        one = b"MAIL FROM:<a@b.example> SIZE=10\r\nRCPT TO:<user@example.com>\r\nDATA\r\nSubject: first\r\n\r\n..x\n.\n..\r\n.\r\n"
        big = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<user@example.com>\r\nDATA\r\n" + b"0123456789\r\n" * 200 + b".\r\n"
        lines = talk(b"EHLO me\r\n" + one + big + b"MAIL FROM:<>\r\nRCPT TO:<a b@>\r\nDATA\r\nRCPT TO:<\"us\\er\"@example.com>\r\n"
                     b"RCPT TO:<user@example.com> NOTIFY=NEVER\r\nBDAT 5\r\nRSET\r\nRCPT TO:<user@example.com>\r\nMAIL FROM:<x> SIZE=3000\r\nQUIT\r\n")
        assert lines[0].startswith("220 hub.example.net ESMTP") and "250-SIZE 2000" in lines, lines
        odd = talk(b"HELO me\r\nVRFY a\rb\x1b[2J\r\nMAIL FROM:<x> A\x07\xff=1\r\nQUIT\r\n")
        assert odd[2:4] == ["252 2.0.0 a?b?[2J", "555 5.5.4 Unsupported option: A??=1"], odd
        codes = [line[:3] for line in lines if line and line[3] == " "]
        assert codes == ["220", "250", "250", "250", "354", "250", "250", "250", "354", "552", "250", "501", "554", "250", "555",
                         "502", "250", "503", "552", "221"], lines
        talk(b"HELO me\nMAIL FROM:<a@b.example>\nRCPT TO:<user@example.com>\nDATA\nSubject: second\n\nhi\n.\nQUIT\n")
        talk(b"EHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<user@example.com>\r\nDATA\r\nSubject: cut\r\n\r\nhi\r\n.\n", 75)
        hub.start()
        mails = sorted(hub.wait_mails(2))
        hub.wait_log(r"qmgr\[\d+\]: \w+: removed", 2)
        assert len(hub.mails()) == 2
        first = next(m for m in mails if b"Subject: first" in m)
        assert first.endswith(b"\n\n.x\n\n.\n") and any(b"Subject: second" in m for m in mails), mails


def test_flush():
    with Hub(LATER) as hub:
        hub.sendmail("u@later.example", stdin=b"\nx\n")
        hub.wait_log(r"status=deferred")
        qid = show(hub)["queue_id"]
        hub.sendmail("-q")
        hub.wait_log(r"status=deferred", 2)
        hub.sendmail(f"-qI{qid}")
        hub.wait_log(r"status=deferred", 3)
        assert hub.sendmail("-qIF00D", check=False).returncode == 1
        assert hub.sendmail("-qSx", check=False).returncode == 69


def test_mailq_and_newaliases_by_name():
    with Hub(LATER) as hub:
        hub.sendmail("u@later.example", stdin=b"\nx\n")
        hub.wait_log(r"status=deferred")
        etc = str(hub.dir / "etc")
        for name in ("mailq", "newaliases"):
            os.symlink(BUILD / "sendmail", hub.dir / name)
        r = subprocess.run([hub.dir / "mailq"], env=dict(os.environ, MAIL_CONFIG=etc), capture_output=True, timeout=30)
        assert r.returncode == 0 and b"u@later.example" in r.stdout, r
        good, bad = hub.dir / "good", hub.dir / "bad"
        good.write_text("postmaster: root\nroot: joe@example.org,\n  jane\n")
        bad.write_text("postmaster root\n")
        hub.main["alias_database"] = f"hash:{bad}"
        hub.write_conf()
        r = subprocess.run([hub.dir / "newaliases", "-C", etc], capture_output=True, timeout=30)
        assert r.returncode == 0 and f"{bad}, line 1: expected".encode() in r.stderr, r
        for path, status, told in ((good, 0, b""), (bad, 0, b"line 1: expected"), (hub.dir / "none", 78, b"No such file")):
            r = subprocess.run([hub.dir / "newaliases", "-C", etc, f"-oAhash:{path}"], capture_output=True, timeout=30)
            assert r.returncode == status and told in r.stderr and bool(told) == bool(r.stderr), (path, r)
        hub.main.update({"alias_database": "memcache:ali", "ali_max_try": "none"})  # a table whose settings are in main.cf
        hub.write_conf()
        r = subprocess.run([hub.dir / "newaliases", "-C", etc], capture_output=True, timeout=30)
        assert r.returncode == 78 and b"max_try" in r.stderr, r


def as_user(hub, *args, stdin=b"", user="daemon"):
    p = pwd.getpwnam(user)
    return subprocess.run([str(BUILD / "sendmail"), "-C", str(hub.dir / "etc"), *args], input=stdin, capture_output=True,
                          timeout=60, user=p.pw_uid, group=p.pw_gid, extra_groups=[])


def test_other_users():
    if os.getuid() != 0:
        raise cases.Skip("needs root to become another user")
    if subprocess.run(["test", "-x", str(BUILD / "sendmail")], user="daemon", group="daemon", extra_groups=[]).returncode != 0:
        raise cases.Skip("other users cannot reach the build directory")
    with Hub(LATER) as hub:
        uid = pwd.getpwnam("daemon").pw_uid
        body = b"Subject: x\n\nhi\n"
        r = as_user(hub, "u@later.example", stdin=body)
        assert r.returncode == 0, r
        hub.wait_log(rf"pickup\[\d+\]: \w+: uid={uid} from=<daemon@hub.example.net>")
        hub.wait_log(r"status=deferred")
        r = as_user(hub, "-bp")
        assert r.returncode == 0 and b"u@later.example" in r.stdout, r
        assert as_user(hub, "-q").returncode == 0
        hub.wait_log(r"status=deferred", 2)
        r = subprocess.run([str(BUILD / "posthousectl"), "-c", str(hub.dir / "etc"), "status"], capture_output=True,
                           user=uid, group=uid, extra_groups=[])
        assert r.returncode == 77 and b"Permission denied" in r.stderr, r
        hub.main.update({"authorized_mailq_users": "!daemon, static:all", "authorized_flush_users": "root",
                         "authorized_submit_users": "!daemon, static:all"})
        hub.write_conf()
        hub.ctl("reload")
        for args, name in ((["-bp"], b"authorized_mailq_users"), (["-q"], b"authorized_flush_users"),
                           (["u@later.example"], b"authorized_submit_users"), (["-bs"], b"authorized_submit_users")):
            r = as_user(hub, *args, stdin=body)
            assert r.returncode == 77 and name in r.stderr, (args, r)
        with TableServer("memcache", {"daemon": "x"}) as server:  # a table whose settings are in main.cf
            hub.main.update({"authorized_mailq_users": "memcache:users", "authorized_submit_users": "memcache:users",
                             "users_memcache": server.place})
            hub.write_conf()
            hub.ctl("reload")
            assert as_user(hub, "-bp").returncode == 0
            hub.stop()
            r = as_user(hub, "u@later.example", stdin=body)  # into maildrop/
            assert r.returncode == 0, r
            hub.start()
            assert server.asked, "nobody asked the table"
        for name in ("mailq", "flush", "submit"):
            del hub.main[f"authorized_{name}_users"]
        hub.write_conf()
        hub.stop()
        r = as_user(hub, "-f", "me@example.org", "user@example.com", stdin=body)  # into maildrop/
        assert r.returncode == 0, r
        hub.start()
        assert hub.wait_mails(1)[0].startswith(b"Return-Path: <me@example.org>\n")
        hub.wait_log(rf"pickup\[\d+\]: \w+: uid={uid} from=<me@example.org>")


def test_set_gid_is_for_the_own_configuration():
    if os.getuid() != 0:
        raise cases.Skip("needs root to make a set-gid program")
    with Hub({"setgid_group": "mail"}, start=False) as hub:
        program = hub.dir / "sendmail"
        shutil.copy(BUILD / "sendmail", program)
        os.chown(program, 0, grp.getgrnam("mail").gr_gid)
        os.chmod(program, 0o2755)
        hub.start()
        hub.stop()  # now maildrop/ is there, for the group alone
        p = pwd.getpwnam("daemon")
        r = subprocess.run([program, "-C", str(hub.dir / "etc"), "user@example.com"], input=b"\nhi\n", capture_output=True,
                           user=p.pw_uid, group=p.pw_gid, extra_groups=[])
        assert r.returncode == 75 and b"maildrop" in r.stderr and b"Permission denied" in r.stderr, r
        hub.start()
        assert hub.queue() == []


if __name__ == "__main__":
    cases.main(globals())
