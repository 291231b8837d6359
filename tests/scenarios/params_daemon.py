#!/usr/bin/env python3
"""Parameters of the whole daemon: each is changed once, and what it is for is seen to change."""
import os
import re
import stat
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import MASTER, Hub, wait_for
from sink import Sink

MAIL = b"From: a@example.org\r\nSubject: s\r\nMessage-ID: <1@example.org>\r\nDate: Fri, 1 Jan 2021 00:00:00 +0000\r\n\r\nhi\r\n"
STRANGER = {"mynetworks": "192.0.2.1"}


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def files(directory):
    return [f for f in os.listdir(directory) if not f.startswith(".")] if os.path.isdir(directory) else []


def refuses_to_start(main, text, master=MASTER):
    with Hub(main, master=master, start=False) as hub:
        hub.spawn()
        status = hub.proc.wait(30)
        hub.proc = None
        assert status != 0 and text in hub.errors() + hub.log(), (status, hub.errors())


def test_names():
    with Hub({"myhostname": "mx7.example.net", "mail_name": "Acme", "smtpd_banner": "$myhostname hello from $mail_name",
              "syslog_name": "acme", "enable_long_queue_ids": "yes"}) as hub, hub.client() as c:
        assert c.banner.text == "mx7.example.net hello from Acme", c.banner
        assert c.ehlo.lines[0] == "250-mx7.example.net"
        qid = c.send_mail("a@example.org", ["user@example.com"], MAIL)
        assert re.fullmatch(r"[0-9A-Za-z]{12,}", qid) and re.search("[g-z]", qid), qid  # the short form is hexadecimal
        mail = hub.wait_mails(1)[0]
        assert b"by mx7.example.net (Acme) with ESMTP id " + qid.encode() in mail, mail
        hub.wait_log(r" acme/smtpd\[\d+\]: connect from")
        hub.wait_log(rf" acme/virtual\[\d+\]: {qid}: to=")


def test_values_to_use_in_others():
    with Hub({"multi_instance_name": "second", "virtual_mailbox_maps": "texthash:$config_directory/boxes", "mail_release_date": "20200101", "mail_version": "9.8.7",
              "compatibility_level": "2", "mail_name": "${{$compatibility_level} <level {3.6} ? {old}:{new}}",
              "smtpd_banner": "$myhostname $mail_name $mail_version/$mail_release_date"}, start=False) as hub:
        (hub.dir / "etc" / "boxes").write_text("user@example.com user/\n")
        hub.start()
        with hub.client() as c:
            assert re.fullmatch(r"hub\.example\.net old 9\.8\.7/20200101", c.banner.text), c.banner
            qid = c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_log(rf" second/virtual\[\d+\]: {qid}: to=<user@example\.com>, .*status=sent")


def test_places():
    with Hub(start=False) as hub:
        hub.main.update({"queue_directory": hub.dir / "Q", "data_directory": hub.dir / "D", "maillog_file": hub.dir / "log",
                         "control_socket": hub.dir / "D" / "here", "maillog_file_permissions": "0644"})
        hub.write_conf()
        old = os.umask(0o022)
        hub.start()
        os.umask(old)
        assert files(hub.dir / "Q" / "journal") and mode(hub.dir / "log") == 0o644
        assert stat.S_ISSOCK(os.stat(hub.dir / "D" / "here").st_mode) and mode(hub.dir / "D" / "here") == 0o600
        assert "queued" in hub.ctl("status").stdout or hub.ctl("queue", "list").returncode == 0
        assert not os.path.exists(hub.dir / "spool") and not os.path.exists(hub.dir / "data")


def test_log_file_must_be_where_it_may_be():
    refuses_to_start({"maillog_file_prefixes": "/var/log/nowhere"}, "not below any of maillog_file_prefixes")
    refuses_to_start({"maillog_file_permissions": "0999"}, "maillog_file_permissions = 0999: expected an octal mode")
    refuses_to_start({"syslog_facility": "kitchen"}, "syslog_facility = kitchen: no such facility")


def test_mail_owner():
    if os.geteuid() != 0:
        raise cases.Skip("only a daemon started as root becomes mail_owner")
    with Hub({"mail_owner": "daemon"}) as hub:
        import pwd
        want = pwd.getpwnam("daemon").pw_uid
        assert os.stat(hub.dir / "spool").st_uid == want
        status = open(f"/proc/{hub.proc.pid}/status").read()
        assert int(re.search(r"^Uid:\t\d+\t(\d+)", status, re.M).group(1)) == want, status
        hub.ctl("queue", "list")


def listening(hub):
    return sorted(set(re.findall(r"listening on \[(\S+)\] port", hub.log())))


def test_interfaces_and_protocols():
    anywhere = MASTER.replace("127.0.0.1:0 inet", "0 inet")
    with Hub({"inet_interfaces": "127.0.0.1, 127.0.0.3"}, master=anywhere) as hub:
        assert listening(hub) == ["127.0.0.1", "127.0.0.3"]
    with Hub({"inet_interfaces": "loopback-only", "inet_protocols": "all"}, master=anywhere) as hub:
        both = listening(hub)
    with Hub({"inet_interfaces": "loopback-only", "inet_protocols": "ipv4"}, master=anywhere) as hub:
        assert listening(hub) == ["127.0.0.1"]
    if not os.path.exists("/proc/net/if_inet6"):
        raise cases.Skip("no IPv6 here")
    assert both == ["127.0.0.1", "::1"], both


def test_known_tcp_ports():
    with Sink() as sink, Hub({"known_tcp_ports": f"upstairs=downstairs={sink.port}"}, routes={"r.example": "smtp:[127.0.0.1]:upstairs"}) as hub:
        with hub.client() as c:
            c.send_mail("a@example.org", ["u@r.example"], MAIL)
        wait_for("the mail", lambda: sink.mails)


def test_delivery_threads():
    """One thread: while one next hop hesitates, nothing goes to the other."""
    for threads, want in [("1", 0), ("2", 1)]:
        with Sink() as slow, Sink() as fast, Hub({"delivery_threads": threads}, routes={
                "slow.example": f"smtp:[127.0.0.1]:{slow.port}", "fast.example": f"smtp:[127.0.0.1]:{fast.port}"}) as hub:
            go = []
            slow.on["MAIL"] = lambda s, a: wait_for("leave", lambda: go) and None
            with hub.client() as c:
                c.send_mail("a@example.org", ["u@slow.example"], MAIL)
                wait_for("a session at the slow one", lambda: slow.sessions and any("MAIL" in x for x in slow.sessions[0].commands))
                c.send_mail("a@example.org", ["u@fast.example"], MAIL)
            if want:
                wait_for("the other one", lambda: fast.mails)
            else:
                time.sleep(0.5)  # nothing may happen now
                assert not fast.sessions
            go.append(True)
            wait_for("both", lambda: slow.mails and fast.mails)


def test_session_limit():
    with Hub({"session_limit": "2"}) as hub, hub.client() as one, hub.client() as two:
        with hub.client(greet=False) as c:
            assert c.ends_with(421).text == "4.3.2 All server ports are busy"
        one.cmd("NOOP", 250)
        two.quit()

        def admitted():
            with hub.client(greet=False) as c:
                return c.reply().code == 220
        wait_for("a free place", admitted)


BODY_300K = b"Subject: big\r\n\r\n" + (b"x" * 98 + b"\r\n") * 3000


def test_where_content_is_kept():
    with Hub({"spool_message_buffer_limit": "4K", "defer_transports": "virtual"}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        assert files(hub.dir / "spool" / "large") == []
        c.send_mail("a@example.org", ["user@example.com"], BODY_300K[:20000] + b"\r\n")
        assert len(files(hub.dir / "spool" / "large")) == 1
    with Hub({"spool_message_buffer_limit": "1G", "spool_memory_limit": "1M", "journal_segment_size": "64M"}) as hub:
        clients = [hub.client() for _ in range(6)]
        for c in clients:
            c.envelope()
            c.cmd("DATA", 354)
            c.raw(BODY_300K)
        wait_for("content on disk", lambda: files(hub.dir / "spool" / "large"))
        for c in clients:
            c.raw(b".\r\n")
            assert c.reply().code == 250
            c.close()
        assert all(m.count(b"x" * 98) == 3000 for m in hub.wait_mails(6))


def test_journal_segment_size():
    with Hub({"journal_segment_size": "1M", "defer_transports": "virtual", "spool_message_buffer_limit": "16K"}) as hub:
        journal = hub.dir / "spool" / "journal"
        with hub.client() as c:
            for _ in range(150):
                c.send_mail("a@example.org", ["user@example.com"], BODY_300K[:12000] + b"\r\n")
        sizes = [os.stat(journal / f).st_size for f in files(journal) if f.endswith(".jnl")]
        assert len(sizes) > 1 and set(sizes) == {1 << 20}, sizes


def first_log(hub, qid):
    return hub.wait_log(rf"{qid}: to=<(\S+)>, (?:orig_to=<(\S+)>, )?relay=")[0]


def test_incomplete_addresses():
    here = {"mydestination": "", "virtual_mailbox_domains": "$myorigin host.example.net", "myorigin": "origin.example.com",
            "virtual_mailbox_maps": "static:user/", "mydomain": "example.net"}
    with Hub({**here, "append_dot_mydomain": "yes"}) as hub, hub.client() as c:
        qid = c.send_mail("a@example.org", ["user"], MAIL)
        assert first_log(hub, qid)[0] == "user@origin.example.com"
        qid = c.send_mail("sender", ["user@host"], MAIL)
        assert first_log(hub, qid)[0] == "user@host.example.net"
        hub.wait_log(rf"{qid}: from=<sender@origin\.example\.com>")
        assert b"\nDelivered-To: user@host.example.net\n" in hub.wait_mails(2)[1]
    with Hub({**here, "append_at_myorigin": "no", "append_dot_mydomain": "no", **STRANGER}) as hub, hub.client() as c:
        c.cmd("MAIL FROM:<sender>", 250)
        assert c.cmd("RCPT TO:<user@host>").code in (454, 554)
        c.cmd("RSET", 250)
    with Hub({**here, "append_at_myorigin": "no"}) as hub, hub.client() as c:
        qid = c.send_mail("sender", ["user@host.example.net"], MAIL)
        hub.wait_log(rf"{qid}: from=<sender>")


def test_origin_from_a_file():
    with Hub(start=False) as hub:
        (hub.dir / "mailname").write_text("named.example.com\n")
        hub.main.update({"myorigin": str(hub.dir / "mailname"), "virtual_mailbox_domains": "named.example.com",
                         "virtual_mailbox_maps": "static:user/"})
        hub.write_conf()
        hub.start()
        with hub.client() as c:
            qid = c.send_mail("a@example.org", ["user"], MAIL)
        assert first_log(hub, qid)[0] == "user@named.example.com"


def test_who_is_local_and_who_may_relay():
    with Hub({"mydestination": "here.example", "local_transport": "virtual", "local_recipient_maps": "inline:{ joe=x }",
              "virtual_mailbox_maps": "inline:{ joe@box.example=user/, joe@here.example=user/ }",
              "recipient_delimiter": "+", "relay_domains": "relay.example",
              "relay_recipient_maps": "inline:{ joe@relay.example=x }", "parent_domain_matches_subdomains": "",
              "unknown_local_recipient_reject_code": "551", "unknown_relay_recipient_reject_code": "552",
              "virtual_alias_domains": "alias.example", "virtual_alias_maps": "inline:{ joe@alias.example=joe@here.example }",
              "unknown_virtual_alias_reject_code": "553", "unknown_virtual_mailbox_reject_code": "556",
              "virtual_mailbox_domains": "box.example", "relay_domains_reject_code": "558",
              "smtpd_relay_restrictions": "reject_unauth_destination", "smtpd_error_sleep_time": "0",
              "smtpd_hard_error_limit": "100", **STRANGER}) as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@example.org>", 250)
        for rcpt, code in {"joe@here.example": 250, "joe+tag@here.example": 250, "jim@here.example": 551,
                           "joe@relay.example": 250, "jim@relay.example": 552, "joe@sub.relay.example": 558,
                           "joe@alias.example": 250, "jim@alias.example": 553, "joe@box.example": 250,
                           "jim@box.example": 556, "joe@elsewhere.example": 558}.items():
            c.cmd(f"RCPT TO:<{rcpt}>", code)
    with Hub({"relay_domains": "relay.example", **STRANGER}) as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.cmd("RCPT TO:<joe@sub.relay.example>", 250)  # parent_domain_matches_subdomains has relay_domains


def test_message_size_limit():
    with Hub({"message_size_limit": "2000"}) as hub, hub.client() as c:
        c.envelope()
        c.content(MAIL + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 40, 552)
        c.cmd("MAIL FROM:<a@example.org> SIZE=2001", 552)


if __name__ == "__main__":
    cases.main(globals())
