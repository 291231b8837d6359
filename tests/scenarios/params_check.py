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


def test_a_plain_configuration_is_found_good_without_a_word():
    with Hub() as hub:
        text = hub.ctl("check").stdout
        known = [line for line in text.splitlines() if "warning" in line and "smtp_tls_security_level" not in line]
        assert not known, known
        assert "no errors found" in text


if __name__ == "__main__":
    cases.main(globals())
