"""The small world of names that configurations and dialogues share, so that they meet often enough."""

LOCAL, RELAY, VMAIL, ALIAS = "local.test", "relay.test", "vmail.test", "alias.test"
DOMAINS = [LOCAL, RELAY, VMAIL, ALIAS, "other.test", "sub.relay.test", "sub.local.test", "nomx.test", "nodns.test", "servfail.test",
           "null.test", "mx.differ.test", "differ.test", "cname.test", "backup.test", "mxbad.test", "mxloop.test", "deep.sub.other.test"]
ODD_DOMAINS = ["[127.0.0.1]", "[192.0.2.9]", "[IPv6:2001:db8::1]", "[IPv6:::1]", "[1.2.3]", "[not.an.address]", "127.0.0.1", "12345", "x..test", "-x.test",
               "x-.test", "a_b.test", "other.test.", "other", "localhost", "LOCAL.TEST", "Other.Test", "x" * 64 + ".test",
               "a." * 130 + "test", "b\u00fccher.test", "xn--bcher-kva.test", "xn--0.test", "#1", "x,y.test", "x y.test", "", ".", ".other.test", "[]",
               "[127.0.0.1", "127.0.0.1]", "256.1.1.1", "1.2.3.4.5", "2001:db8::1", "[2001:db8::1]", "[IPv6:192.0.2.1]", "[IPv6:fe80::1%lo]"]
USERS = ["joe", "jane", "user", "other", "nobody", "postmaster", "sales-1", "x", "root", "abuse"]
ODD_USERS = ["joe+ext", "joe+", "+ext", "joe-ext", "joe+a+b", "JOE", "Postmaster", '"joe"', '"joe smith"', '"joe@relay.test"', '"joe\\"q"', '"\\joe"',
             "joe.", ".joe", "jo..e", "joe%relay.test", "joe%other.test", "relay.test!joe", "other.test!joe", "owner-list", "list-request", "joe/../x",
             "-joe", "joe#x", "joe=x", "joe'x", "$USER", "`id`", "|prog", "/file", '""', "j\u00f6rg", "x" * 65, "y" * 300, "joe\\x", '"joe', 'joe"', "a,b", "a:b",
             "joe(comment)", "a;b", "joe smith", "user+foo", "mailer-daemon", "double-bounce"]
CLIENTS = [("192.0.2.10", "client.test"), ("192.0.2.11", "mail.other.test"), ("198.51.100.7", "[UNAVAILABLE]"), ("198.51.100.8", "[TEMPUNAVAIL]"),
           ("203.0.113.1", "dyn-203-0-113-1.isp.test"), ("192.0.2.130", "inside.differ.test"), ("2001:db8::10", "six.test"),
           ("2001:db8:1::5", "[UNAVAILABLE]"), ("127.0.0.1", "localhost"), ("192.0.2.99", "bad.test"), ("10.0.0.1", "sub.client.test")]
HELOS = ["client.test", "mail.other.test", "[192.0.2.10]", "[192.0.2.11]", "localhost", "bad_helo", "bad..helo", "12345", "192.0.2.10", "nodns.test", "servfail.test", "null.test", "bad.test",
         "sub.client.test", "mx.differ.test", "[IPv6:2001:db8::10]", "[bad]", "x" * 70, "a.b.", "-x.test", "h\u00e9lo.test", "#7", "other", "[]", "x y", "<x.test>", "six.test"]


def zone():
    return {
        "client.test": {"A": ["192.0.2.10"]}, "10.2.0.192.in-addr.arpa": {"PTR": ["client.test"]},
        "mail.other.test": {"A": ["192.0.2.11"]}, "11.2.0.192.in-addr.arpa": {"PTR": ["mail.other.test"]},
        "1.113.0.203.in-addr.arpa": {"PTR": ["dyn-203-0-113-1.isp.test"]}, "dyn-203-0-113-1.isp.test": {"A": ["203.0.113.1"]},
        "other.test": {"MX": [(10, "mail.other.test")], "NS": ["ns.other.test"], "A": ["192.0.2.12"]}, "ns.other.test": {"A": ["192.0.2.53"]},
        "deep.sub.other.test": {"A": ["192.0.2.12"]},
        "local.test": {"A": ["192.0.2.200"], "MX": [(5, "mx.differ.test")]}, "relay.test": {"MX": [(5, "mx.differ.test"), (10, "mail.other.test")]},
        "sub.relay.test": {"MX": [(5, "mail.other.test")]}, "vmail.test": {"A": ["192.0.2.200"]}, "alias.test": {"A": ["192.0.2.200"]},
        "mx.differ.test": {"A": ["127.0.0.1"]}, "differ.test": {"A": ["127.0.0.1"], "NS": ["mx.differ.test"]},
        "nomx.test": {"A": ["192.0.2.13"]}, "servfail.test": "SERVFAIL", "null.test": {"MX": [(0, "")]},
        "backup.test": {"MX": [(5, "mail.other.test"), (10, "mx.differ.test")]}, "cname.test": {"CNAME": "other.test"}, "mxbad.test": {"MX": [(10, "nodns.test")]}, "mxloop.test": {"MX": [(10, "mx.differ.test")]},
        "six.test": {"AAAA": ["2001:db8::10"], "MX": [(1, "six.test")]}, "bad.test": {"A": ["192.0.2.99"], "NS": ["ns.bad.test"]}, "ns.bad.test": {"A": ["192.0.2.54"]},
        "0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": {"PTR": ["six.test"]},
        "99.2.0.192.rbl.test": {"A": ["127.0.0.2"], "TXT": ["listed, see rbl.test"]}, "10.0.0.10.rbl.test": {"A": ["127.0.0.4"]},
        "11.2.0.192.rbl.test": {"A": ["127.0.0.9", "127.0.0.3"], "TXT": ["two"]}, "7.100.51.198.rbl.test": "SERVFAIL",
        "10.2.0.192.wl.test": {"A": ["127.0.5.2"]},
        "bad.test.rhsbl.test": {"A": ["127.0.0.2"], "TXT": ["bad name"]}, "nomx.test.rhsbl.test": {"A": ["127.0.1.3"]}, "other.test.rhsbl.test": "SERVFAIL",
        "client.test.wl.test": {"A": ["127.0.0.2"]},
    }
