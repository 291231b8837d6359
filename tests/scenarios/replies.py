#!/usr/bin/env python3
"""Footers of replies, soft_bounce, discarded keywords, ETRN. Replies as Postfix 3.7 gave them, unless noted."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nhi\r\n"
STRICT = {"smtpd_relay_restrictions": "reject_unauth_destination"}


def refused(c, recipient="x@far.example"):
    c.cmd("MAIL FROM:<a@example.org>")
    return c.cmd(f"RCPT TO:<{recipient}>").lines


def test_footer_on_the_same_line():
    with Hub(dict(STRICT, smtpd_reject_footer="\\c. Help: $server_name, $client_address:$client_port, ($localtime)")) as hub, \
            hub.client() as c:
        line, = refused(c)
        port = c.sock.getsockname()[1]
        assert re.fullmatch(r"554 5\.7\.1 <x@far\.example>: Relay access denied\. Help: hub\.example\.net, 127\.0\.0\.1:%d, "
                            r"\(\w{3} [ \d]\d \d\d:\d\d:\d\d\)" % port, line), line
        assert c.cmd("BOGUS").lines[0].startswith("500 5.5.2 Error: command not recognized. Help: hub")
        assert c.cmd("NOOP").lines == ["250 2.0.0 Ok"]
        hub.wait_log(r"554 5\.7\.1 <x@far\.example>: Relay access denied; from=")  # the footer is not in the log


def test_footer_on_lines_of_its_own():
    with Hub(dict(STRICT, smtpd_reject_footer="one $client_name\\ntwo $$x ${nothing}")) as hub, hub.client() as c:
        assert refused(c) == ["554-5.7.1 <x@far.example>: Relay access denied", "554-5.7.1 one unknown", "554 5.7.1 two $x "]
        c.cmd("RSET", 250)
        assert c.cmd("ETRN a..b").lines == ["501-Error: invalid parameter syntax", "501-one unknown", "501 two $x "]


def test_footer_filter():
    with Hub(dict(STRICT, smtpd_reject_footer="\\c $client_address", smtpd_expansion_filter="0123456789")) as hub, hub.client() as c:
        assert refused(c)[0].endswith("denied 127_0_0_1")


def test_footer_tables():
    hub = Hub(dict(STRICT, smtpd_reject_footer="other"), start=False)
    hub.main["smtpd_reject_footer_maps"] = f"pcre:{hub.dir}/footers"
    (hub.dir / "footers").write_text("/^(\\d+) .*Relay access denied/ \\c [$1] $$client_address\n")
    hub.write_conf()
    with hub.start(), hub.client() as c:
        assert refused(c) == ["554 5.7.1 <x@far.example>: Relay access denied [554] 127.0.0.1"]
        assert c.cmd("BOGUS").lines == ["500-5.5.2 Error: command not recognized", "500 5.5.2 other"]
    with Hub(dict(STRICT, smtpd_reject_footer_maps="fail:x", smtpd_reject_footer="other")) as hub, hub.client() as c:
        assert c.cmd("BOGUS").lines == ["500-5.5.2 Error: command not recognized", "500 5.5.2 other"]
        hub.wait_log("warning: smtpd_reject_footer_maps: ")


def test_reject_filter():
    hub = Hub(dict(STRICT), start=False)
    hub.main["smtpd_reject_filter_maps"] = f"pcre:{hub.dir}/filter"
    (hub.dir / "filter").write_text("/^554 5\\.7\\.1 <(.*)>: Relay access denied$/ 550 5.7.0 $1 is not one of ours\n"
                                    "/^501 .* MAIL FROM/ 421 4.7.0 enough\n/^500 / 250 fine\n")
    hub.write_conf()
    with hub.start(), hub.client() as c:
        assert refused(c) == ["550 5.7.0 x@far.example is not one of ours"]
        hub.wait_log(r"554 5\.7\.1 <x@far\.example>: Relay access denied; from=")  # the log has what was meant
        c.cmd("NONSENSE", 500)
        hub.wait_log('warning: smtpd_reject_filter_maps: "250 fine" is no 4xx or 5xx reply')
        c.cmd("RSET", 250)
        c.cmd("MAIL FROM", 421)
        assert c.is_closed()
    with Hub(dict(STRICT, smtpd_reject_filter_maps="fail:x")) as hub, hub.client() as c:
        assert refused(c) == ["554 5.7.1 <x@far.example>: Relay access denied"]
        hub.wait_log("warning: smtpd_reject_filter_maps: ")
    with Hub(dict(STRICT, soft_bounce="yes", smtpd_reject_footer="\\c (help)", smtpd_reject_filter_maps="static:{550 5.7.9 another}")) as hub, \
            hub.client() as c:
        assert refused(c) == ["450 4.7.9 another (help)"]


def test_footer_that_cannot_be_expanded():
    """The reply comes without it."""
    with Hub(dict(STRICT, smtpd_reject_footer="see ${client_name")) as hub, hub.client() as c:
        assert refused(c) == ["554 5.7.1 <x@far.example>: Relay access denied"]
        hub.wait_log("warning: smtpd_reject_footer")


def test_soft_bounce():
    with Hub(dict(STRICT, soft_bounce="yes")) as hub, hub.client() as c:
        assert refused(c) == ["454 4.7.1 <x@far.example>: Relay access denied"]
        hub.wait_log(r"reject: RCPT from .*: 454 4\.7\.1 <x@far\.example>: Relay access denied; from=")
        assert c.cmd("BOGUS").lines == ["400 4.5.2 Error: command not recognized"]


def test_discarded_keywords_are_logged():
    with Hub({"smtpd_discard_ehlo_keywords": "dsn, ETRN"}) as hub, hub.client() as c:
        assert not {"DSN", "ETRN"} & set(c.ehlo.text.split("\n"))
        hub.wait_log("discarding EHLO keywords: ETRN DSN$")
    with Hub({"smtpd_discard_ehlo_keywords": "dsn, silent-discard"}) as hub, hub.client() as c:
        assert "DSN" not in c.ehlo.text.split("\n")
        c.quit()
        hub.wait_log("disconnect from")
        assert "discarding" not in hub.log()


def test_etrn_replies():
    with Hub({"relay_domains": "relay.example", "smtpd_etrn_restrictions": "check_etrn_access inline:{ {no.relay.example=REJECT} }"}) as hub, \
            hub.client() as c:
        for argument, reply in (
                ("relay.example", "250 Queuing started"), ("Sub.Relay.Example", "250 Queuing started"), ("@relay.example", "250 Queuing started"),
                ("#relay.example", "250 Queuing started"), ("far.example", "459 <far.example>: service unavailable"),
                ("@far.example", "459 <far.example>: service unavailable"), ("[192.0.2.1]", "459 <[192.0.2.1]>: service unavailable"),
                ("192.0.2.1", "501 Error: invalid parameter syntax"), ("relay.example x", "500 Syntax: ETRN domain"),
                ("no.relay.example", "554 5.7.1 <no.relay.example>: Etrn command rejected: Access denied")):
            got = c.cmd(f"ETRN {argument}").lines
            assert got == [reply], (argument, got)
        hub.wait_log(r"warning: reject: ETRN far\.example\.\.\. from unknown\[127\.0\.0\.1\]$")
        c.cmd("MAIL FROM:<a@example.org>", 250)
        assert c.cmd("ETRN relay.example").lines == ["503 Error: MAIL transaction in progress"]
    with Hub({"relay_domains": "relay.example", "fast_flush_domains": ""}) as hub, hub.client() as c:
        c.cmd("ETRN relay.example", 459)
    with Hub({"fast_flush_domains": "fail:x"}) as hub, hub.client() as c:
        assert c.cmd("ETRN relay.example").lines == ["458 Unable to queue messages"]


def test_etrn_flushes_what_waits_for_the_domain():
    """Both at the next hop of the domain's name and where a transport sends it."""
    busy = {"on": True}
    with Sink() as sink, Hub({"minimal_backoff_time": "1h", "maximal_backoff_time": "1h", "fast_flush_domains": "$relay_domains"},
                             routes={"relay.example": f"smtp:[127.0.0.1]:{sink.port}", "quiet.example": "retry:later"}) as hub, \
            hub.client() as c:
        sink.on["RCPT"] = lambda s, arg: "450 4.2.1 later" if busy["on"] else None
        c.send_mail("a@example.org", ["user@relay.example"], MAIL)
        hub.wait_log(r"to=<user@relay\.example>.*status=deferred")
        busy["on"] = False
        c.cmd("ETRN far.example", 459)
        assert not sink.mails
        c.cmd("ETRN relay.example", 250)
        wait_for("the mail", lambda: sink.mails)
        hub.wait_log(r"to=<user@relay\.example>.*status=sent")


if __name__ == "__main__":
    cases.main(globals())
