#!/usr/bin/env python3
"""The stub name server against packets put together here by hand."""
import os
import socket
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from dnsstub import DnsStub, TYPES, encode_name  # noqa: E402

ZONE = {
    "example.org": {"MX": [(10, "mx.example.org"), (20, "alias.example.org")], "TXT": ["x" * 300]},
    "mx.example.org": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
    "alias.example.org": {"CNAME": "mx.example.org"},
    "broken.example.org": "SERVFAIL",
    "half.example.org": {"MX": "SERVFAIL", "A": ["192.0.2.3"]},
    "mute.example.org": "DROP",
    "big.example.org": {"TC": True, "A": ["192.0.2.4"]},
    "*.wild.example.org": {"A": ["192.0.2.5"]},
    "_25._tcp.mx.example.org": {"TLSA": [(3, 1, 1, "ab12")]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["mx.example.org"]},
}


def question(name, kind):
    return struct.pack("!HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + encode_name(name) + struct.pack("!HH", TYPES[kind], 1)


class Stub(unittest.TestCase):
    def setUp(self):
        self.stub = DnsStub(ZONE).start()
        self.addCleanup(self.stub.stop)

    def udp(self, name, kind, timeout=5):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(timeout)
            s.connect((self.stub.host, self.stub.port))
            s.send(question(name, kind))
            return s.recv(4096)

    def tcp(self, name, kind):
        with socket.create_connection((self.stub.host, self.stub.port), 5) as s:
            q = question(name, kind)
            s.sendall(struct.pack("!H", len(q)) + q)
            f = s.makefile("rb")
            return f.read(struct.unpack("!H", f.read(2))[0])

    def expect(self, packet, rcode, answers, authority=0):
        ident, flags, _, an, ns, _ = struct.unpack("!HHHHHH", packet[:12])
        self.assertEqual((ident, flags & 15, an, ns), (0x1234, rcode, answers, authority))

    def test_records(self):
        self.expect(self.udp("example.org", "MX"), 0, 2)
        self.expect(self.udp("MX.Example.Org", "A"), 0, 2)
        self.assertTrue(self.udp("mx.example.org", "AAAA").endswith(bytes.fromhex("20010db8" + "0" * 23 + "1")))
        self.assertIn(b"\xff" + b"x" * 255 + b"\x2d" + b"x" * 45, self.udp("example.org", "TXT"))
        self.assertTrue(self.udp("_25._tcp.mx.example.org", "TLSA").endswith(bytes.fromhex("030101ab12")))
        self.expect(self.udp("1.2.0.192.in-addr.arpa", "PTR"), 0, 1)
        self.expect(self.udp("a.b.wild.example.org", "A"), 0, 1)

    def test_cname_is_followed(self):
        self.expect(self.udp("alias.example.org", "A"), 0, 3)
        self.expect(self.udp("alias.example.org", "MX"), 0, 1, 1)

    def test_failures(self):
        self.expect(self.udp("nothing.example.org", "A"), 3, 0, 1)
        self.expect(self.udp("mx.example.org", "MX"), 0, 0, 1)
        self.expect(self.udp("broken.example.org", "A"), 2, 0)
        self.expect(self.udp("half.example.org", "MX"), 2, 0)
        self.expect(self.udp("half.example.org", "A"), 0, 1)
        with self.assertRaises(socket.timeout):
            self.udp("mute.example.org", "A", 0.3)

    def test_truncated_by_udp_whole_by_tcp(self):
        packet = self.udp("big.example.org", "A")
        self.expect(packet, 0, 0)
        self.assertTrue(packet[2] & 2)
        self.expect(self.tcp("big.example.org", "A"), 0, 1)

    def test_questions_are_counted(self):
        self.udp("Example.org", "MX")
        self.assertEqual(self.stub.questions, [("example.org", "MX")])
        self.assertEqual((self.stub.count("example.org", "MX"), self.stub.count("example.org", "A")), (1, 0))


if __name__ == "__main__":
    unittest.main()
