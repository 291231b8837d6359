#!/usr/bin/env python3
"""Addresses of envelope and header on their way through: what arrives is what Postfix 3.7 delivers with the same settings."""
import contextlib
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import BUILD, MASTER, Hub, wait_for
from sink import Sink

MAIL = b"From: Joe <a@x>\r\nTo: a@x, u\r\nSubject: s\r\n\r\nhi\r\n"


@contextlib.contextmanager
def world(settings, options=""):
    """A hub that takes mail for x, y and z and sends all mail to one sink."""
    with Sink() as sink:
        to = f"smtp:[127.0.0.1]:{sink.port}"
        main = {"virtual_mailbox_domains": "", "virtual_mailbox_maps": "", "relay_domains": "x y z", "local_recipient_maps": "", "recipient_delimiter": "+",
                "default_transport": to, "relay_transport": to, "local_transport": to, "virtual_transport": to}
        first, rest = MASTER.split("\n", 1)
        with Hub({**main, **settings}, master=f"{first} {options}\n{rest}") as hub:
            hub.sink = sink
            yield hub


def send(hub, sender, rcpts, mail=MAIL):
    """Sends it, waits until nothing is queued; the mails that came out: sender, [(recipient, arguments)], header fields."""
    n = len(hub.sink.mails)
    with hub.client() as c:
        c.send_mail(sender, rcpts, mail)
    wait_for("an empty queue", lambda: len(hub.sink.mails) > n and not hub.queue())
    return [(m["sender"], sorted(zip(m["rcpts"], m["rcpt_args"])), fields(m["data"])) for m in hub.sink.mails[n:]]


def fields(data):
    header = re.sub(rb"\r\n(?=[ \t])", b"\n", data.split(b"\r\n\r\n")[0]).decode()
    return [f for f in header.split("\r\n") if not f.startswith("Received: ")]


def envelope(hub, sender, rcpts, mail=MAIL):
    got = send(hub, sender, rcpts, mail)
    return {g[0] for g in got}, sorted(r for g in got for r, _ in g[1])


def one(hub, sender, rcpts, mail=MAIL):
    got = send(hub, sender, rcpts, mail)
    assert len(got) == 1, got
    return got[0]


def refused(hub, sender, rcpts, mail=MAIL):
    """The reply that ends it."""
    with hub.client() as c:
        c.cmd(f"MAIL FROM:<{sender}>", 250)
        for r in rcpts:
            reply = c.cmd(f"RCPT TO:<{r}>")
            if reply.code != 250:
                return repr(reply)
        c.cmd("DATA", 354)
        c.raw(mail + b".\r\n")
        return repr(c.reply())


def test_canonical():
    with world({"canonical_maps": "inline:{ a@x=b@y, {@z=@zz} }"}) as hub:
        sender, rcpts, header = one(hub, "a+e@x", ["a@x", "q+g@z"])
        assert sender == "b+e@y" and [r for r, _ in rcpts] == ["b@y", "q+g@zz"]
        assert "ORCPT=rfc822;a@x" in dict(rcpts)["b@y"], "the original recipient stays what it was"
        assert header[:3] == ["From: Joe <b@y>", "To: b@y, u@hub.example.net", "Subject: s"], header
        hub.wait_log(r"to=<b@y>, orig_to=<a@x>")


def test_canonical_of_senders_and_recipients():
    with world({"sender_canonical_maps": "inline:{ a@x=s@x }", "recipient_canonical_maps": "inline:{ a@x=r@x }"}) as hub:
        sender, rcpts, header = one(hub, "a@x", ["a@x"])
        assert (sender, rcpts[0][0]) == ("s@x", "r@x") and header[:2] == ["From: Joe <s@x>", "To: r@x, u@hub.example.net"]


def test_classes():
    with world({"canonical_maps": "inline:{ a@x=c@x }", "canonical_classes": "header_sender"}) as hub:
        sender, rcpts, header = one(hub, "a@x", ["a@x"])
        assert (sender, rcpts[0][0]) == ("a@x", "a@x") and header[:2] == ["From: Joe <c@x>", "To: a@x, u@hub.example.net"]
    with world({"sender_canonical_maps": "inline:{ a@x=s@x }", "sender_canonical_classes": "envelope_sender",
                "recipient_canonical_maps": "inline:{ a@x=r@x }", "recipient_canonical_classes": "envelope_recipient"}) as hub:
        sender, rcpts, header = one(hub, "a@x", ["a@x"])
        assert (sender, rcpts[0][0]) == ("s@x", "r@x") and header[:2] == ["From: Joe <a@x>", "To: a@x, u@hub.example.net"]


def test_masquerade():
    mail = b"From: root@h.x\r\nTo: a@h.x\r\n\r\nhi\r\n"
    with world({"masquerade_domains": "x", "masquerade_exceptions": "root", "relay_domains": "x h.x"}) as hub:
        sender, rcpts, header = one(hub, "a@h.x", ["a@h.x"], mail)
        assert (sender, rcpts[0][0]) == ("a@x", "a@h.x") and header[:2] == ["From: root@h.x", "To: a@x"], header
    with world({"masquerade_domains": "x", "masquerade_classes": "envelope_recipient", "relay_domains": "x h.x"}) as hub:
        sender, rcpts, header = one(hub, "a@h.x", ["a@h.x"], mail)
        assert (sender, rcpts[0][0]) == ("a@h.x", "a@x") and header[1] == "To: a@h.x", header


def test_headers_of_strangers_are_left_alone():
    plain = b"From: joe  (x)\r\nTo:  a@x,\r\n   u\r\nSubject: s\r\n\r\nhi\r\n"
    with world({"local_header_rewrite_clients": "", "canonical_maps": "inline:{ a@x=b@y }"}) as hub:
        send(hub, "a@x", ["a@x"], plain)
        assert hub.sink.mails[0]["data"].endswith(plain) and hub.sink.mails[0]["rcpts"] == ["b@y"]
    with world({"local_header_rewrite_clients": "", "remote_header_rewrite_domain": "remote.invalid", "append_dot_mydomain": "yes"}) as hub:
        header = one(hub, "a@x", ["a@x"], b"From: joe\r\nTo: u@h\r\n\r\nhi\r\n")[2]
        assert header[:2] == ["From: joe@remote.invalid", "To: u@h.remote.invalid"], header
        assert any(f.startswith("Message-Id: ") for f in header), header


def test_whose_headers_are_ours():
    for clients, ours in (("permit_mynetworks", True), ("check_address_map inline:{127.0.0.1=x}", True), ("inline:{127.0.0.2=x}", False), ("permit_sasl_authenticated", False),
                          ("permit_inet_interfaces", True)):
        with world({"local_header_rewrite_clients": clients}) as hub:
            assert one(hub, "a@x", ["a@x"], b"From: joe\r\n\r\nhi\r\n")[2][0] == ("From: joe@hub.example.net" if ours else "From: joe"), clients


def test_long_fields_are_folded_and_limited():
    to = "To: " + ", ".join(f"user{i}@some.example.com" for i in range(4)) + ", joe"
    with world({}) as hub:
        header = one(hub, "a@x", ["a@x"], f"{to}\r\n\r\nhi\r\n".encode())[2]
        assert header[0] == "To: user0@some.example.com, user1@some.example.com,\n\tuser2@some.example.com, user3@some.example.com, joe@hub.example.net", header
    with world({"header_address_token_limit": "4"}) as hub:
        header = one(hub, "a@x", ["a@x"], b"To: a, b, c\r\n\r\nhi\r\n")[2]
        assert header[0] == "To: a@hub.example.net, b@hub.example.net, ", header


def test_blind_copies():
    with world({"always_bcc": "all@x", "sender_bcc_maps": "inline:{ a@x=sb@x }", "recipient_bcc_maps": "inline:{ {@y=rb@y} }",
                "virtual_alias_maps": "inline:{ sb@x=sb1@x }", "virtual_alias_domains": "", "recipient_canonical_maps": "inline:{ rb@y=rb2@y }"}) as hub:
        got = dict(one(hub, "a+e@x", ["q@y"])[1])
        assert sorted(got) == ["all@x", "q@y", "rb2@y", "sb1@x"], got
        assert [r for r in got if "NOTIFY=NEVER" in got[r]] == [r for r in got if r != "q@y"], got
        assert envelope(hub, "", ["q@x"]) == ({""}, ["all@x", "q@x"])


def test_no_address_mappings():
    settings = {"canonical_maps": "static:k@z", "always_bcc": "t@x", "virtual_alias_maps": "inline:{ a@x=b@x }", "virtual_alias_domains": "",
                "masquerade_domains": "x"}
    with world(settings, "-o receive_override_options=no_address_mappings") as hub:
        sender, rcpts, header = one(hub, "joe", ["a@x"], b"From: a@h.x\r\nTo: u\r\n\r\nhi\r\n")
        assert (sender, [r for r, _ in rcpts]) == ("joe@hub.example.net", ["a@x"]) and header[:2] == ["From: a@h.x", "To: u@hub.example.net"], header


def test_virtual_aliases():
    with world({"virtual_alias_domains": "v", "virtual_alias_maps":
                'inline:{ {a@v=b@x c@x}, l1@v=l2@v, l2@v=l1@v, e@v=e@x, {@x=@y}, {n@v="a b"@y}, {m@v=1@y 2@y 3@y} }', "virtual_alias_expansion_limit": "2"}) as hub:
        assert envelope(hub, "a@q", ["e+1@v", "a+2@v"])[1] == ["b+2@y", "c+2@y", "e+1@y"]
        assert envelope(hub, "a@q", ["n@v"])[1] == ['"a b"@y']
        assert refused(hub, "a@q", ["l1@v"]) == "451 4.6.0 Alias expansion error"
        assert refused(hub, "a@q", ["m@v"]) == "451 4.6.0 Alias expansion error"


def test_duplicates():
    for keep, want in (("yes", ["a@y", "a@y"]), ("no", ["a@y"])):
        with world({"virtual_alias_domains": "v", "virtual_alias_maps": "inline:{ a@v=a@y, b@v=A@y }", "enable_original_recipient": keep}) as hub:
            got = envelope(hub, "a@q", ["a@v", "b@v", "B@v"])[1]
            assert [r.lower() for r in got] == want, got


def test_relocated():
    with world({"relocated_maps": "inline:{ a@x=new@y, {@y=somewhere else} }"}) as hub:
        assert refused(hub, "a@q", ["a+e@x"]) == "550 5.1.6 <a+e@x>: Recipient address rejected: User has moved to new@y"
        assert refused(hub, "a@q", ["b@y"]).endswith("User has moved to somewhere else")
        assert envelope(hub, "a@q", ["b@x"])[1] == ["b@x"]
    with world({"relocated_maps": "inline:{ a@x=new@y }", "virtual_alias_maps": "inline:{ a@x=c@x }", "virtual_alias_domains": ""}) as hub:
        assert envelope(hub, "a@q", ["a@x"])[1] == ["c@x"], "an alias goes before"


def test_a_table_that_fails_loses_nothing():
    for settings, reply in (({"sender_canonical_maps": "fail:x"}, "451 4.3.0 Error: queue file write error"),
                            ({"sender_canonical_maps": "fail:x", "sender_canonical_classes": "header_sender"}, "451 4.3.0 Error: queue file write error"),
                            ({"recipient_canonical_maps": "fail:x"}, "451 4.3.0 <a@x>: Temporary lookup failure"),
                            ({"recipient_bcc_maps": "fail:x"}, "451 4.3.0 Error: queue file write error"),
                            ({"sender_bcc_maps": "fail:x"}, "451 4.3.0 Error: queue file write error"),
                            ({"masquerade_domains": "x", "masquerade_exceptions": "fail:x"}, "451 4.3.0 Error: queue file write error")):
        with world(settings) as hub:
            assert refused(hub, "a@h.x", ["a@x"]) == reply, settings
            assert not hub.queue() and not hub.sink.mails


def hand_in(hub, sender, rcpts, mail):
    subprocess.run([str(BUILD / "sendmail"), "-C", str(hub.dir / "etc"), "-f", sender, *rcpts], input=mail, check=True, timeout=60)


def submit(hub, sender, rcpts, mail):
    n = len(hub.sink.mails)
    hand_in(hub, sender, rcpts, mail)
    wait_for("an empty queue", lambda: len(hub.sink.mails) > n and not hub.queue())
    return [(m["sender"], sorted(m["rcpts"]), fields(m["data"])) for m in hub.sink.mails[n:]]


def test_local_mail():
    settings = {"canonical_maps": "inline:{ joe@hub.example.net=Joe.User@x }", "always_bcc": "all@x", "recipient_bcc_maps": "inline:{ q@y=rb@y }", "local_header_rewrite_clients": ""}
    with world(settings) as hub:
        sender, rcpts, header = submit(hub, "joe", ["q@y", "joe"], b"From: joe\nTo: joe, q@y\n\nhi\n")[0]
        assert (sender, rcpts) == ("Joe.User@x", ["Joe.User@x", "all@x", "q@y", "rb@y"]), (sender, rcpts)
        assert header[:2] == ["From: Joe.User@x", "To: Joe.User@x, q@y"], header
    with world({**settings, "receive_override_options": "no_address_mappings"}) as hub:
        sender, rcpts, header = submit(hub, "joe", ["q@y"], b"From: joe\n\nhi\n")[0]
        assert (sender, rcpts) == ("joe@hub.example.net", ["q@y"]) and header[0] == "From: joe@hub.example.net"
    with world({"canonical_maps": "fail:x"}) as hub:
        hand_in(hub, "joe", ["q@y"], b"From: joe\n\nhi\n")
        waiting = wait_for("a file that waits", lambda: list((hub.dir / "spool" / "maildrop" / "active").glob("*")))
        assert len(waiting) == 1 and not hub.queue() and not hub.sink.mails


def test_lists():
    with world({"mydestination": "here.example", "myorigin": "here.example", "local_transport": "local", "mailbox_transport": None}) as hub:
        hub.stop()
        (hub.dir / "members").write_text("one@x, two@y\n")
        (hub.dir / "former").write_text("# nobody now\n")
        (hub.dir / "aliases").write_text(f"staff: :include:{hub.dir}/members, |/bin/false, three@z\nformer: :include:{hub.dir}/former\n")
        hub.main["alias_maps"] = f"hash:{hub.dir}/aliases"
        hub.write_conf()
        hub.start()
        assert envelope(hub, "a@q", ["staff@here.example"]) == ({"a@q"}, ["one@x", "three@z", "two@y"])
        hub.wait_log(r'alias "staff": delivery to a command is not done here, ignored: \|/bin/false')
        # Who cannot be trusted to be all of the list is not taken for it; nothing of the message is.
        for change, why in ((lambda: os.chmod(hub.dir / "members", 0o666), "can be written to by anybody"), (lambda: os.unlink(hub.dir / "members"), "No such file")):
            change()
            with hub.client() as c:
                c.envelope("a@q", ["staff@here.example", "two@y"])
                assert "4.3.0" in str(c.content(MAIL, code=451))
            hub.wait_log(rf'warning: .*staff@here\.example.*: lookup failed: alias "staff": :include:{hub.dir}/members:? {why}')
        with hub.client() as c:
            qid = c.send_mail("a@q", ["former@here.example"], MAIL)
        hub.wait_log(rf"{qid}: to=<double-bounce@here\.example>, orig_to=<former@here\.example>, relay=none, .*status=sent")


def test_owners_of_lists():
    with world({"mydestination": "here.example", "myorigin": "here.example", "local_transport": "local", "mailbox_transport": None}) as hub:
        hub.stop()
        (hub.dir / "aliases").write_text("staff: one@x, two@y\nowner-staff: keeper@z\nteam: staff, three@z\n")
        hub.main["alias_maps"] = f"hash:{hub.dir}/aliases"
        hub.write_conf()
        hub.start()
        assert envelope(hub, "a@q", ["staff@here.example", "staff@here.example"]) == ({"owner-staff@here.example"}, ["one@x", "two@y"])
        big = MAIL + b"x" * 70 + b"\r\n" + b"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 8000
        for mail in (MAIL, big):
            n = len(hub.sink.mails)
            got = {}
            for sender, rcpts, _ in send(hub, "a@q", ["team@here.example", "four@x"], mail):
                got.setdefault(sender, []).extend(r for r, _ in rcpts)
            assert {s: sorted(r) for s, r in got.items()} == {"a@q": ["four@x", "three@z"], "owner-staff@here.example": ["one@x", "two@y"]}, got
            assert all(m["data"].split(b"\r\n\r\n", 1)[1] == mail.split(b"\r\n\r\n", 1)[1] for m in hub.sink.mails[n:])
        hub.wait_log(r"mail for a list of owner-staff@here\.example is queued as \w+", count=2)
        got = {s: sorted(r) for s, r, _ in submit(hub, "a@q", ["staff", "four@x"], MAIL)}
        assert got == {"a@q": ["four@x"], "owner-staff@here.example": ["one@x", "two@y"]}, got
        assert submit(hub, "a@q", ["staff"], MAIL)[0][:2] == ("owner-staff@here.example", ["one@x", "two@y"])
        hub.main["expand_owner_alias"] = "yes"
        hub.write_conf()
        hub.reload()
        assert envelope(hub, "a@q", ["staff@here.example"]) == ({"keeper@z"}, ["one@x", "two@y"])


def test_owners_route():
    """Where mail for a list goes is a matter of its owner, who is its sender, at once and after a restart."""
    with Sink() as first, Sink() as second, Hub({
            "mydestination": "here.example", "myorigin": "here.example", "local_recipient_maps": "$alias_maps",
            "alias_maps": "inline:{ { staff=one@far.example }, { owner-staff=keeper@here.example } }",
            "sender_dependent_relayhost_maps": f"inline:{{ {{ owner-staff@here.example=[127.0.0.1]:{first.port} }}, {{ a@q.example=[127.0.0.1]:{second.port} }} }}"}) as hub:
        def submit_both():
            with hub.client() as c:
                c.send_mail("a@q.example", ["staff@here.example", "two@far.example"], MAIL)
        submit_both()
        wait_for("both", lambda: len(first.mails) == len(second.mails) == 1)
        first.on["MAIL"] = second.on["MAIL"] = lambda s, a: "450 4.3.0 later"
        submit_both()
        wait_for("both to wait", lambda: len(hub.queue()) == 2 and all(r.get("delay_reason") for m in hub.queue() for r in m["recipients"]))
        hub.stop()
        hub.start()
        first.on["MAIL"] = second.on["MAIL"] = lambda s, a: None
        hub.ctl("queue", "flush")
        wait_for("both again", lambda: len(first.mails) == len(second.mails) == 2)
        assert {m["sender"] for m in first.mails} == {"owner-staff@here.example"} and {m["sender"] for m in second.mails} == {"a@q.example"}


if __name__ == "__main__":
    cases.main(globals())
