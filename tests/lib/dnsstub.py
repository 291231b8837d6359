#!/usr/bin/env python3
"""An authoritative name server for scenarios: UDP and TCP on loopback, from a dictionary.

    zone = {
        "example.org": {"MX": [(10, "mx.example.org")], "TXT": ["v=spf1 -all"]},
        "mx.example.org": {"A": ["127.0.0.1"], "AAAA": ["::1"]},
        "1.0.0.127.in-addr.arpa": {"PTR": ["mx.example.org"]},
        "alias.example.org": {"CNAME": "mx.example.org"},
        "_submission._tcp.example.org": {"SRV": [(0, 5, 587, "mx.example.org")]},
        "_25._tcp.mx.example.org": {"TLSA": [(3, 1, 1, "ab12...")]},
        "nomail.example.org": {"MX": [(0, "")]},          # null MX
        "broken.example.org": "SERVFAIL",                  # or REFUSED, FORMERR, NXDOMAIN, DROP
        "odd.example.org": {"MX": "SERVFAIL", "A": ["127.0.0.1"]},   # one type only
        "big.example.org": {"TC": True, "A": ["127.0.0.1"]},         # truncated by UDP
        "slow.example.org": {"DELAY": 0.5, "A": ["127.0.0.1"]},      # seconds
        "signed.example.org": {"AD": True, "A": ["127.0.0.1"]},
        "*.wild.example.org": {"A": ["127.0.0.1"]},
    }
    with DnsStub(zone) as stub:
        ...                      # stub.address is "127.0.0.1:PORT", for dns_resolver_addresses
        stub.zone["new.example.org"] = {"A": ["127.0.0.2"]}    # may change at any time
        stub.questions           # [("example.org", "MX"), ...] seen so far
        stub.count("example.org", "MX")

Names are without trailing dot, any case. "TTL": seconds in a name's dictionary replaces the default. A name that is
not there is NXDOMAIN, one without the type NODATA, both with a SOA whose minimum is `negative_ttl`.

As a command: dnsstub.py ZONE.json [PORT] serves until interrupted and prints the address first.
"""
import ipaddress
import json
import socket
import struct
import sys
import threading
import time

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "TLSA": 52}
NAMES = {number: name for name, number in TYPES.items()}
RCODES = {"FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5}
CHAIN_MAX = 16


def encode_name(name):
    """Wire form, uncompressed. Non-ASCII labels must be given as A-labels."""
    out = b""
    for label in name.rstrip(".").split("."):
        if label:
            raw = label.encode("ascii")
            if len(raw) > 63:
                raise ValueError("label over 63 bytes: " + label)
            out += bytes([len(raw)]) + raw
    return out + b"\0"


def decode_question(packet):
    """(name, type, end of the question section). Raises on anything odd."""
    labels, at = [], 12
    while packet[at]:
        length = packet[at]
        if length > 63:
            raise ValueError("compressed question")
        labels.append(packet[at + 1:at + 1 + length].decode("latin-1"))
        at += 1 + length
    qtype, _ = struct.unpack("!HH", packet[at + 1:at + 5])
    return ".".join(labels).lower(), qtype, at + 5


def encode_rdata(kind, value):
    if kind == "A":
        return ipaddress.IPv4Address(value).packed
    if kind == "AAAA":
        return ipaddress.IPv6Address(value).packed
    if kind in ("NS", "CNAME", "PTR"):
        return encode_name(value)
    if kind == "MX":
        return struct.pack("!H", value[0]) + encode_name(value[1])
    if kind == "SRV":
        return struct.pack("!HHH", *value[:3]) + encode_name(value[3])
    if kind == "TLSA":
        return bytes(value[:3]) + bytes.fromhex(value[3])
    if kind == "TXT":
        raw = value if isinstance(value, bytes) else value.encode()
        pieces = [raw[i:i + 255] for i in range(0, len(raw), 255)] or [b""]
        return b"".join(bytes([len(p)]) + p for p in pieces)
    raise ValueError("no such record type: " + kind)


class DnsStub:
    def __init__(self, zone, port=0, host="127.0.0.1", ttl=300, negative_ttl=60):
        self.zone = zone
        self.ttl = ttl
        self.negative_ttl = negative_ttl
        self.questions = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._udp, self._tcp = self._bind(host, port)
        self.host, self.port = self._udp.getsockname()[:2]
        self.address = "%s:%d" % (self.host, self.port)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)]

    @staticmethod
    def _bind(host, port):
        """The same number for UDP and TCP; another process may hold one of them, so try again."""
        for attempt in range(50):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                udp.bind((host, port))
                tcp.bind((host, udp.getsockname()[1]))
                tcp.listen(16)
                udp.settimeout(0.2)
                tcp.settimeout(0.2)
                return udp, tcp
            except OSError:
                udp.close()
                tcp.close()
                if port or attempt == 49:
                    raise
        raise AssertionError("not reached")

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    def count(self, name, kind=None):
        with self._lock:
            return sum(1 for n, k in self.questions if n == name.lower() and kind in (None, k))

    # -- answers --

    def _lookup(self, name):
        zone = {key.lower().rstrip("."): value for key, value in list(self.zone.items())}
        if name in zone:
            return zone[name]
        labels = name.split(".")
        for i in range(1, len(labels)):
            wild = "*." + ".".join(labels[i:])
            if wild in zone:
                return zone[wild]
        return None

    def _soa(self):
        rdata = encode_name("ns.test") + encode_name("root.test") + struct.pack("!IIIII", 1, 60, 60, 60, self.negative_ttl)
        return b"\0" + struct.pack("!HHIH", TYPES["SOA"], 1, self.negative_ttl, len(rdata)) + rdata

    def _resolve(self, name, qtype, records):
        """Adds (owner, type, ttl, rdata) to records and returns rcode or "DROP"."""
        kind = NAMES.get(qtype, "TYPE%d" % qtype)
        for _ in range(CHAIN_MAX):
            node = self._lookup(name)
            if node is None:
                return 3
            if isinstance(node, str):
                return node if node == "DROP" else RCODES[node]
            ttl = node.get("TTL", self.ttl)
            values = node.get(kind)
            if isinstance(values, str) and values in RCODES:
                return RCODES[values]
            if values == "DROP":
                return "DROP"
            if values is not None:
                for value in [values] if isinstance(values, str) else values:
                    records.append((name, qtype, ttl, encode_rdata(kind, value)))
                return 0
            if "CNAME" not in node:
                return 0
            records.append((name, TYPES["CNAME"], ttl, encode_name(node["CNAME"])))
            name = node["CNAME"].lower().rstrip(".")
        return 0

    def reply(self, packet, tcp):
        """The reply's bytes, or None for no reply."""
        name, qtype, end = decode_question(packet)
        with self._lock:
            self.questions.append((name, NAMES.get(qtype, "TYPE%d" % qtype)))
        node = self._lookup(name)
        options = node if isinstance(node, dict) else {}
        if options.get("DELAY"):
            time.sleep(options["DELAY"])
        records = []
        rcode = self._resolve(name, qtype, records)
        if rcode == "DROP":
            return None
        flags = 0x8580 | rcode | (0x20 if options.get("AD") else 0)
        answer = b"".join(encode_name(owner) + struct.pack("!HHIH", kind, 1, ttl, len(rdata)) + rdata
                          for owner, kind, ttl, rdata in records)
        negative = rcode in (0, 3) and not any(kind == qtype for _, kind, _, _ in records)
        authority = self._soa() if negative else b""
        body = packet[12:end] + answer + authority
        counts = (1, len(records), 1 if negative else 0, 0)
        if not tcp and (options.get("TC") or len(body) > 1220):
            flags |= 0x200
            body, counts = packet[12:end], (1, 0, 0, 0)
        return packet[:2] + struct.pack("!HHHHH", flags, *counts) + body

    # -- sockets --

    def _serve_udp(self):
        while not self._stop.is_set():
            try:
                packet, peer = self._udp.recvfrom(4096)
            except (socket.timeout, ConnectionError):
                continue
            # Its own thread, so that DELAY holds up nobody else.
            threading.Thread(target=self._udp_one, args=(packet, peer), daemon=True).start()

    def _udp_one(self, packet, peer):
        try:
            out = self.reply(packet, False)
            if out:
                self._udp.sendto(out, peer)
        except (OSError, IndexError, struct.error) as why:
            print("dnsstub: %r from %s" % (why, peer), file=sys.stderr)

    def _serve_tcp(self):
        while not self._stop.is_set():
            try:
                conn, _ = self._tcp.accept()
            except (socket.timeout, ConnectionError):
                continue
            threading.Thread(target=self._tcp_one, args=(conn,), daemon=True).start()

    def _tcp_one(self, conn):
        with conn:
            conn.settimeout(5)
            try:
                stream = conn.makefile("rb")
                while True:
                    head = stream.read(2)
                    if len(head) < 2:
                        return
                    out = self.reply(stream.read(struct.unpack("!H", head)[0]), True)
                    if not out:
                        return
                    conn.sendall(struct.pack("!H", len(out)) + out)
            except (OSError, IndexError, struct.error) as why:
                print("dnsstub: %r by TCP" % (why,), file=sys.stderr)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        zone = json.load(file)
    with DnsStub(zone, int(sys.argv[2]) if len(sys.argv) > 2 else 0) as stub:
        print(stub.address, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
