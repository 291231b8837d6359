#!/usr/bin/env python3
"""What `posthousectl check` and the start of posthoused say of settings, and what they keep to themselves."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub


def test_no_alias_file_is_only_a_note():
    with Hub({"myhostname": "hub.example.net"}, start=False) as hub:
        absent = str(hub.dir / "aliases")
        if os.path.exists("/etc/aliases"):
            raise cases.Skip("this machine has an alias file")
        hub.main["alias_maps"] = "hash:/etc/aliases"  # as many a main.cf repeats the default
        hub.write_conf()
        quiet = hub.ctl("check").stdout
        assert "aliases" not in quiet, quiet
        assert "note: alias_maps: table hash:/etc/aliases" in hub.ctl("check", "-v").stdout
        hub.start()
        assert "aliases" not in hub.errors(), hub.errors()
        hub.stop()
        hub.main["alias_maps"] = f"hash:{absent}"  # asked for, and not there
        hub.write_conf()
        assert f"warning: alias_maps: table hash:{absent}" in hub.ctl("check").stdout


def test_values_that_fail_only_when_mail_comes():
    """Each is told with its line, as a warning: the rest of the configuration works."""
    wrong = [("relayhost", "[1.2.3", "not a destination"), ("relayhost", "[192.0.2.1]:99999", "99999"), ("relayhost", "[mx.example]:nosuchport", "nosuchport"),
             ("relayhost", "mx.example, [::1", "not a destination"), ("default_transport", "smtp:[1.2.3", "not a destination"),
             ("content_filter", "smtp:[127.0.0.1", "not a destination"), ("smtp_fallback_relay", "[1.2", "not a destination"),
             ("address_verify_relayhost", "[1", "not a destination"), ("address_verify_default_transport", "nosuch", "no usable transport"),
             ("defer_transports", "smtp nosuch", '"nosuch"'), ("virtual_uid_maps", "static:abc", '"abc"'), ("virtual_uid_maps", "static:0", "from 100 on"),
             ("virtual_gid_maps", "static:-1", '"-1"'), ("smtp_bind_address", "garbage", "not an IPv4 address"), ("smtp_bind_address", "::1", "not an IPv4"),
             ("smtp_bind_address6", "192.0.2.1", "not an IPv6 address"), ("smtp_tcp_port", "nosuchport", "nosuchport"), ("lmtp_tcp_port", "99999", "99999")]
    right = {"relayhost": "[192.0.2.1]:submission, mx.example", "default_transport": "smtp:mx.example:2525", "smtp_bind_address": "127.0.0.2",
             "content_filter": "lmtp:unix:private/filter", "smtp_bind_address6": "[::1]", "defer_transports": "smtp, lmtp", "virtual_uid_maps": "static:1000",
             "address_verify_relayhost": "", "lmtp_tcp_port": "lmtp"}
    with Hub(start=False) as hub:
        good = dict(hub.main)
        def warnings(change):
            hub.main = {**good, **change}
            hub.write_conf()
            lines = hub.ctl("check").stdout.splitlines()
            return [line for line in lines if "warning" in line and "smtp_tls_security_level" not in line]
        missed = []
        for name, value, words in wrong:
            have = warnings({name: value})
            if len(have) != 1 or f"warning: {name}: " not in have[0] or words not in have[0] or "main.cf, line " not in have[0]:
                missed.append((name, value, have))
        assert not missed, missed
        assert warnings(right) == []
        hub.master = hub.master.replace("-  -  smtp\n", "-  -  smtp -o smtp_bind_address=elsewhere\n", 1)
        have = warnings({})
        assert len(have) == 1 and "master.cf, line " in have[0] and "elsewhere" in have[0], have


def test_a_plain_configuration_is_found_good_without_a_word():
    with Hub() as hub:
        text = hub.ctl("check").stdout
        known = [line for line in text.splitlines() if "warning" in line and "smtp_tls_security_level" not in line]
        assert not known, known
        assert "no errors found" in text


if __name__ == "__main__":
    cases.main(globals())
