#!/usr/bin/env python3
"""Golden dialogues: what a client says and what the server must answer, for each restriction in each list.

    golden.py [FILE...] [-k WORD]               against posthoused of $POSTHOUSE_BUILD
    golden.py --reference ROOT [FILE...]        against the Postfix below ROOT (as root: it gets a network of its own)
    golden.py --fill ...                        prints the files with the replies that came, for a look with diff

Each file is one server with a listener for each dialogue (`-o`), one DNS zone, and the dialogues. See README.md for the format.
"""
import argparse
import fnmatch
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
sys.path.insert(0, str(HERE.parent / "bench"))
from client import Client
from dnsstub import DnsStub
from hub import Hub, MASTER, wait_for
from policyserver import PolicyServer

COMMON = {
    "myhostname": "mx.golden.test", "mydomain": "golden.test", "myorigin": "golden.test",
    "smtpd_banner": "$myhostname ESMTP", "inet_protocols": "ipv4", "disable_dns_lookups": "no", "smtpd_peername_lookup": "no",
    "mynetworks": "192.0.2.128/25", "smtpd_authorized_xclient_hosts": "127.0.0.0/8",
    "mydestination": "local.test", "local_recipient_maps": "inline:{ joe=x, jane=x }", "local_transport": "discard:", "alias_maps": "",
    "alias_database": "",
    "virtual_mailbox_domains": "vmail.test", "virtual_mailbox_maps": "inline:{ user@vmail.test=x, other@vmail.test=x }",
    "virtual_transport": "discard:", "virtual_mailbox_base": "/", "virtual_uid_maps": None, "virtual_gid_maps": None,
    "virtual_alias_domains": "alias.test", "virtual_alias_maps": "inline:{ a@alias.test=user@vmail.test }",
    "relay_domains": "relay.test", "relay_transport": "discard:", "default_transport": "discard:", "relay_recipient_maps": "",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination", "recipient_delimiter": "+",
    "smtpd_error_sleep_time": "0", "smtpd_soft_error_limit": "100", "smtpd_hard_error_limit": "1000",
    "smtpd_client_connection_count_limit": "0", "smtpd_client_event_limit_exceptions": "127.0.0.0/8",
}
CLIENT = ("192.0.2.10", "client.test", None, None)


class Case:
    def __init__(self, title, line):
        self.title, self.line = title, line
        self.set, self.client, self.talk, self.only = {}, CLIENT, [], None
        self.address = None
        self.log = []   # (line number, "L" or "N", pattern)
        self.each, self.said, self.expects = None, {}, {}


# Where the answer of a list is seen, and what comes before it.
EACH = {
    "client": "rcpt", "helo": "rcpt", "sender": "rcpt", "relay": "rcpt", "recipient": "rcpt", "data": "data", "end_of_data": "end", "etrn": "etrn",
    "client-now": "greeting", "helo-now": "helo", "sender-now": "mail",
}


def expand(case, place, expected):
    """The dialogue that shows what a restriction does in one list."""
    number, text = expected
    name, _, now = place.partition("-")
    c = Case(f"{case.title} in smtpd_{name}_restrictions{', at once' if now else ''}", number)
    guard = ", permit_mynetworks, reject_unauth_destination" if name == "relay" else ""
    c.set = {**case.set, f"smtpd_{name}_restrictions": case.each + guard, **({"smtpd_delay_reject": "no"} if now else {})}
    c.client, c.only = case.client, case.only
    helo, sender, rcpt = (case.said.get(k, v) for k, v in (("helo:", "client.test"), ("from:", "u@x.test"), ("to:", "user@vmail.test")))
    steps = [("greeting", None, "220"), ("helo", f"EHLO {helo}", "250"), ("mail", f"MAIL FROM:<{sender}>", "250"),
             ("rcpt", f"RCPT TO:<{rcpt}>", "250"), ("data", "DATA", "354"), ("end", ".", "250")]
    if name == "etrn":
        steps = steps[:2] + [("etrn", "ETRN relay.test", "250")]
    for at, command, usual in steps:
        if command is not None:
            c.talk.append((number, "C", command))
        c.talk.append((number, "S", text if at == EACH[place] else usual))
        if at == EACH[place]:
            break
    return c


class Script:
    """One file: settings, tables, DNS and dialogues."""

    def __init__(self, path):
        self.path = path
        self.main, self.files, self.zone, self.cases = {}, {}, {}, []
        self.policy = []  # [attribute=value, action]
        self.read()

    def expand(self, is_reference, fills):
        """Dialogues of "each" become one for each list."""
        cases = []
        for case in self.cases:
            if case.each is None:
                cases.append(case)
                continue
            if fills:
                case.expects = {place: (case.line, "...") for place in EACH}
            missing = [place for place in EACH if place not in case.expects]
            if missing:
                raise SyntaxError(f"{self.path}:{case.line}: no E: line for {', '.join(missing)}")
            cases += [expand(case, place, (e[0], e[2] if is_reference and len(e) > 2 else e[1])) for place, e in case.expects.items()]
        self.sources, self.cases = self.cases, cases

    def replace(self, name, value):
        for values in [self.main] + [c.set for c in self.cases]:
            for k, v in values.items():
                values[k] = v.replace(name, value)

    def answer(self, request):
        """What the policy server says: the first line that fits."""
        for what, action in self.policy:
            name, _, value = what.partition("=")
            if fnmatch.fnmatchcase(request.get(name, ""), value):
                return action
        return "DUNNO"

    def read(self):
        case, table, place = None, None, None
        for number, raw in enumerate(self.path.read_text().splitlines(), 1):
            line = raw.rstrip()
            if line.startswith((" ", "\t")) and table is not None:
                self.files[table] += line.strip() + "\n"
                continue
            table = None
            if not line or line.startswith("#"):
                continue
            word, _, rest = line.partition(" ")
            if word == "==":
                case = Case(rest.strip(), number)
                self.cases.append(case)
            elif word in ("main:", "set:"):
                name, _, value = rest.partition("=")
                (self.main if word == "main:" else case.set)[name.strip()] = value.strip()
            elif word == "file:":
                table = rest.strip()
                self.files[table] = ""
            elif word == "dns:":
                self.add_record(*rest.split(None, 2))
            elif word == "client:":
                case.client = self.client(rest.split())
            elif word == "only:":  # posthouse or postfix, and why
                case.only = rest
            elif word in ("L:", "N:"):
                case.log.append((number, word[0], rest))
            elif word == "policy:":
                self.policy.append(rest.split(None, 1))
            elif word == "each:":
                case.each, place = rest, None
            elif word in ("helo:", "from:", "to:"):
                case.said[word] = rest
            elif word == "E:":
                place, _, text = rest.partition(" ")
                case.expects[place] = (number, text)
            elif word == "R:" and case.each is not None:
                case.expects[place] += (rest,)
            elif word in ("C:", "S:", "R:") or line in ("C:", "S:"):
                case.talk.append((number, word[0], rest))
            else:
                raise SyntaxError(f"{self.path}:{number}: {line!r}")

    def add_record(self, name, kind, value=""):
        if kind in ("SERVFAIL", "NXDOMAIN", "REFUSED"):
            self.zone[name] = kind
            return
        node = self.zone.setdefault(name, {})
        if value == "SERVFAIL":
            node[kind] = value
            return
        if kind == "MX":
            pref, host = value.split()
            value = (int(pref), host.rstrip("."))
        elif kind == "TXT":
            value = value.strip('"')
        node.setdefault(kind, []).append(value)

    @staticmethod
    def client(words):
        """ADDRESS NAME [reverse=NAME] [login=USER]; "none": as the connection is."""
        if words[0] == "none":
            return None
        extra = dict(w.split("=", 1) for w in words[2:])
        return words[0], words[1], extra.get("reverse"), extra.get("login")

    def master(self):
        """A listener for each different set of options."""
        lines, seen = [], {}
        for case in self.cases:
            options = "".join(f" -o {{ {k} = {v} }}" for k, v in case.set.items())
            if options not in seen:
                n = len(seen) + 1
                seen[options] = f"127.0.{1 + n // 250}.{1 + n % 250}"
                lines.append((seen[options], options))
            case.address = seen[options]
        return lines


# ---- the servers ----

class Posthouse:
    def __init__(self, script, stub):
        lines = script.master()
        master = "".join(f"{a}:0 inet n - n - - smtpd{o}\n" for a, o in lines) + MASTER.split("\n", 1)[1]
        self.hub = Hub(dict(COMMON, dns_resolver_addresses=stub.address, dns_timeout="2s", inet_interfaces="all", **script.main), master, start=False)
        write_tables(script, self.hub.dir)
        fill_dir(self.hub.main, self.hub.dir)
        self.hub.master = self.hub.master.replace("{D}", str(self.hub.dir))
        self.hub.write_conf()
        self.hub.spawn()
        self.count = len(lines)

    def __enter__(self):
        def listening():
            if self.hub.proc.poll() is not None:
                raise AssertionError(f"posthoused ended: {self.hub.errors()}")
            ports = dict(re.findall(r"listening on \[(127\.0\.\d+\.\d+)\] port (\d+)", self.hub.log()))
            return ports if len(ports) == self.count else None
        self.ports = wait_for("posthoused to listen", listening)
        return self

    def __exit__(self, *failed):
        self.hub.close(failed=failed[0] is not None)

    def port(self, address):
        return int(self.ports[address])

    def log(self):
        return self.hub.log()


class Postfix:
    PORT = 2525

    def __init__(self, script, root):
        import guard
        import servers
        self.top = tempfile.mkdtemp(prefix="golden-reference-")
        os.chmod(self.top, 0o755)

        class Reference(servers.Postfix):
            def main_cf(self):
                values = {k: v for k, v in dict(COMMON, **script.main).items() if v is not None}
                for drop in ("inet_interfaces",):
                    values.pop(drop, None)
                keep = [l for l in servers.MAIN_CF.splitlines() if l.partition("=")[0].strip() not in values and "smtpd_" not in l
                        and "dns" not in l and not l.startswith(("relay_", "inet_interfaces"))]
                text = "\n".join(keep) + "\ninet_interfaces = all\n" + servers.POSTFIX_MAIN_CF
                return text + "".join(f"{k} = {v}\n" for k, v in values.items()).replace("{D}", str(self.work)).replace("{", "{{").replace("}", "}}")

            def greets(self):
                return self.proc.poll() is None and self.log.read_text().find("daemon started") >= 0
        listeners = "".join(f"{a}:{self.PORT} inet n - n - - smtpd{o}\n" for a, o in script.master())
        self.guard = guard.Guard(self.top)
        self.server = Reference(self.top, self.guard, root)
        listeners = listeners.replace("{D}", str(self.server.work))
        old = servers.MASTER_CF
        servers.MASTER_CF = listeners.replace("{", "{{").replace("}", "}}") + old.split("\n", 1)[1]
        self.server.work.mkdir(parents=True)
        write_tables(script, self.server.work)
        try:
            self.server.start("discard:")
        finally:
            servers.MASTER_CF = old

    def __enter__(self):
        return self

    def __exit__(self, *failed):
        self.server.stop()
        self.guard.close()
        shutil.rmtree(self.top, ignore_errors=True)

    def port(self, address):
        return self.PORT

    def log(self):
        return self.server.log.read_text(errors="replace")


def write_tables(script, directory):
    for name, text in script.files.items():
        (pathlib.Path(directory) / name).write_text(text)
        os.chmod(pathlib.Path(directory) / name, 0o644)


def fill_dir(values, directory):
    for k, v in values.items():
        if isinstance(v, str):
            values[k] = v.replace("{D}", str(directory))


# ---- a dialogue ----

class Difference(Exception):
    pass


def fits(expected, reply):
    """A code alone, the whole last line, or a pattern with "..." for anything."""
    last = reply.lines[-1]
    if re.fullmatch(r"\d{3}", expected):
        return last[:3] == expected
    if "..." in expected:
        return re.fullmatch(".*".join(re.escape(p) for p in expected.split("...")), last) is not None
    return last == expected


def become(c, client):
    address, name, reverse, login = client
    text = f"XCLIENT ADDR={'IPV6:' if ':' in address else ''}{address} NAME={name}" + (f" REVERSE_NAME={reverse}" if reverse else "")
    if login:
        text += f" LOGIN={login}"
    c.raw(text.encode() + b"\r\n")


def play(server, case, is_reference):
    """Yields (line number, expected, reply) for each answer; raises at the first that differs."""
    source = "127.0.0.1"
    talk = expectations(case, is_reference)
    with Client(case.address, server.port(case.address), greet=False, source=source) as c:
        if case.client is not None or not (talk and talk[0][1] == "S"):
            c.reply()
        if case.client is not None:
            r = c.cmd("EHLO golden.test")
            become(c, case.client)
            if not (talk and talk[0][1] == "S"):
                r = c.reply()
                if r.code != 220:
                    raise Difference(f"XCLIENT: {r}")
        first = next((t for _, k, t in talk if k == "C"), "")
        if not first.upper().startswith(("HELO", "EHLO")) and not (talk and talk[0][1] == "S"):
            c.cmd("EHLO client.test", 250)
        sending = b""
        for number, kind, text in talk:
            if kind == "C":
                sending += text.encode() + b"\r\n"
                continue
            if sending:
                c.raw(sending)  # what stands together comes together
                sending = b""
            if text == "-":
                if not c.is_closed():
                    raise Difference(f"line {number}: the connection is still open")
                continue
            try:
                r = c.reply()
            except (EOFError, OSError) as e:
                raise Difference(f"line {number}: expected {text}, but {e}") from None
            yield number, text, r
            if not fits(text, r):
                raise Difference(f"line {number}: expected {text!r}\n      got          {r.lines[-1]!r}")


def expectations(case, is_reference):
    """R: behind S: is what Postfix answers instead."""
    talk = []
    for t in case.talk:
        if t[1] != "R":
            talk.append(t)
        elif is_reference:
            talk[-1] = (t[0], "S", t[2])
    return talk


def check_log(server, case, begin):
    """L: a line that comes; N: one that has not come when all of those are there. "..." stands for anything."""
    patterns = [(number, kind, re.compile(".*".join(re.escape(p) for p in text.split("...")))) for number, kind, text in case.log]
    def found(pattern):
        return any(pattern.search(line) for line in server.log()[begin:].splitlines())
    for number, kind, pattern in patterns:
        if kind == "L":
            try:
                wait_for("a log line", lambda: found(pattern))
            except AssertionError:
                raise Difference(f"line {number}: not in the log: {pattern.pattern}") from None
    for number, kind, pattern in patterns:
        if kind == "N" and found(pattern):
            raise Difference(f"line {number}: in the log: {pattern.pattern}")


def run(server, script, args, results):
    for case in script.cases:
        title = f"{script.path.name}:{case.line}: {case.title}"
        if args.k and args.k not in title:
            continue
        who = "postfix" if args.reference else "posthouse"
        if case.only and not case.only.startswith(who):
            results.append((title, None, []))
            continue
        replies, why = [], None
        begin = len(server.log()) if case.log else 0
        try:
            for step in play(server, case, bool(args.reference)):
                replies.append(step)
            check_log(server, case, begin)
        except (Difference, AssertionError, OSError, EOFError) as e:
            why = str(e) or repr(e)
        results.append((title, why, replies))
        if why:
            print(f"[  FAILED  ] {title}\n      {why}", flush=True)


def fill(script, results):
    """The file with the replies that came (of failed dialogues the last one)."""
    lines = script.path.read_text().splitlines()
    if any(case.each for case in script.sources):
        return fill_each(script, lines, results)
    for _, why, replies in results:
        if why and replies:
            number, _, reply = replies[-1]
            lines[number - 1] = "S: " + reply.lines[-1]
    script.path.write_text("\n".join(lines) + "\n")


def fill_each(script, lines, results):
    got = {title.split(": ", 1)[1]: replies[-1][2].lines[-1] if replies else "-" for title, _, replies in results}
    out, case = [], None
    by_line = {c.line: c for c in script.sources}
    for number, line in enumerate(lines, 1):
        if line.startswith("== "):
            case = by_line[number]
        if case is not None and case.each and line.startswith(("E:", "R:")):
            continue
        out.append(line)
        if case is not None and case.each and line.startswith("each:"):
            for place in EACH:
                title = expand(case, place, (0, "")).title
                reply = got.get(title, "-")
                out.append(f"E: {place} {reply if reply[0] in '45' else reply[:3]}")
    script.path.write_text("\n".join(out) + "\n")


# ---- which restriction is in which list ----

LISTS = ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data", "etrn")


def coverage(scripts):
    """Prints the lists in which each name of the language is played; the names that are in none, and holes, are returned."""
    names = re.findall(r'^    \{ "(\w+)", ARG_', (HERE / "../../policy/restrict_table.c").read_text(), re.M)
    seen = {n: set() for n in names}
    for script in scripts:
        for case in script.cases:
            for k, v in {**script.main, **case.set}.items():
                m = re.fullmatch(r"smtpd_(\w+)_restrictions", k)
                for name in re.findall(r"\w+", v) if m else []:
                    if name in seen:
                        seen[name].add(m[1])
    for name in names:
        print(f"  {name}: {' '.join(l for l in LISTS if l in seen[name]) or 'NOWHERE'}")
    return [f"{n}: not in {', '.join(l for l in LISTS if l not in seen[n])}" for n in names if not seen[n] >= set(LISTS)]


def own_network(root):
    """Postfix asks the resolver of /etc/resolv.conf, port 53: both are ours in namespaces of our own."""
    if os.environ.get("GOLDEN_NETWORK"):
        return
    d = tempfile.mkdtemp(prefix="golden-net-")
    pathlib.Path(d, "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
    pathlib.Path(d, "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: dns\nservices: files\n")
    script = (f"ip link set lo up && mount --bind {d}/resolv.conf /etc/resolv.conf && mount --bind {d}/nsswitch.conf /etc/nsswitch.conf && "
              'exec "$@"')
    status = subprocess.run(["unshare", "-m", "-n", "sh", "-c", script, "sh", sys.executable, *sys.argv],
                            env=dict(os.environ, GOLDEN_NETWORK="1")).returncode
    shutil.rmtree(d, ignore_errors=True)
    sys.exit(status)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--reference", metavar="ROOT")
    p.add_argument("--fill", action="store_true")
    p.add_argument("--log", action="store_true", help="print the server's log")
    p.add_argument("-k", metavar="WORD")
    p.add_argument("--coverage", action="store_true", help="print which restriction is played in which list, and nothing else")
    p.add_argument("files", nargs="*", type=pathlib.Path)
    args = p.parse_args()
    if args.reference:
        own_network(args.reference)
    files = args.files or sorted(HERE.glob("*.txt"))
    scripts = [Script(path) for path in files]
    for script in scripts:
        script.expand(bool(args.reference), args.fill)
    holes = coverage(scripts) if args.coverage or not args.files else []
    for hole in holes:
        print(f"[  FAILED  ] {hole}")
    if args.coverage:
        return 1 if holes else 0
    everything = []
    for script in scripts:
        path, results, begin = script.path, [], time.monotonic()
        with DnsStub(script.zone, port=53 if args.reference else 0) as stub, PolicyServer(script.answer) as policy:
            script.replace("{POLICY}", policy.address)
            with (Postfix(script, args.reference) if args.reference else Posthouse(script, stub)) as server:
                run(server, script, args, results)
                if args.log:
                    print(server.log())
                failed = [r for r in results if r[1]]
                if failed and not args.reference and not args.log:
                    print("\n".join(l for l in server.log().splitlines() if " warning: " in l)[-3000:])
        print(f"{path.name}: {len(results)} dialogues, {sum(len(r[2]) for r in results)} replies, {len(failed)} differ "
              f"({time.monotonic() - begin:.1f} s)", flush=True)
        if args.fill:
            fill(script, results)
        everything += results
    bad = sum(1 for r in everything if r[1])
    skipped = sum(1 for r in everything if r[1] is None and not r[2])
    print(f"[  PASSED  ] {len(everything) - bad - skipped} test(s).")
    if skipped:
        print(f"[  SKIPPED ] {skipped} test(s).")
    if bad:
        print(f"[  FAILED  ] {bad} test(s)")
    return 1 if bad or holes or not everything else 0


if __name__ == "__main__":
    sys.exit(main())
