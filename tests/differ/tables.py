"""Random lookup tables of every type that both servers have; compiled types are made by postmap before the servers start."""
import addresses
import words

ACTIONS = ["OK", "REJECT", "REJECT no thanks", "REJECT 5.7.9 no thanks", "REJECT 4.1.1 gone", "550 5.1.1 no such user", "550", "450 4.2.1 later", "451 later", "554 5.7.1", "521 5.3.2 bye", "421 4.3.0 busy", "421 bye", "552 5.2.2 full", "DEFER", "DEFER 4.2.2 full",
           "DEFER_IF_PERMIT", "DEFER_IF_PERMIT 4.3.2 hm", "DEFER_IF_REJECT", "DEFER_IF_REJECT odd", "DUNNO", "dunno", "ok", "1", "12345", "DISCARD", "DISCARD gone", "HOLD", "HOLD look", "FILTER smtp:[127.0.0.1]:{SINK}", "REDIRECT new@relay.test", "REDIRECT new+x@other.test", "BCC copy@relay.test",
           "PREPEND X-Added: by table", "PREPEND bad", "INFO seen", "WARN watch", "INFO", "WARN", "permit", "reject", "reject_unauth_destination", "permit_mynetworks", "class1", "class1, reject", "reject_non_fqdn_sender, permit", "warn_if_reject reject_non_fqdn_recipient",
           "defer_if_permit", "permit_auth_destination", "DELAY 3", "x_unknown", "REDIRECT bad", "FILTER bad", "200 fine", "250 2.0.0 fine", "reject_unlisted_recipient", "check_sender_access", "REJECT  two  blanks", "Reject mixed", "5.7.1 no", "550-x", "550 5.7", "REJECT 5.7.1", "BCC a@x.test, b@x.test", "defer text", "discard", "hold", "permit_sasl_authenticated, reject"]
RARE = ACTIONS[-24:]
HOST_KEYS = ["192.0.2.10", "192.0.2", "192.0", "192", "198.51.100", "203.0.113.1", "2001:db8::10", "2001:db8:0:0", "2001:db8", "2001", "client.test", "other.test", "mail.other.test", ".other.test", "test", ".test", "isp.test", "unknown", "localhost", "127.0.0.1", "127", "bad.test",
             "bad_helo", "nodns.test", "mx.differ.test", "ns.other.test", "192.0.2.53", "192.0.2.11", "192.0.2.12", "[192.0.2.10]", "12345", "six.test", "ns.bad.test", "192.0.2.99", "relay.test", "sub.client.test", ".client.test", "[bad]", "<>", "x"]
MAIL_KEYS = ["joe@", "joe@local.test", "local.test", "relay.test", ".relay.test", "sub.relay.test", "other.test", "test", ".test", "user@vmail.test", "<>", "nobody@", "a@other.test", "joe+ext@local.test", "jane@local.test", "vmail.test", "alias.test", "postmaster@", "postmaster", "joe",
             "x@client.test", "client.test", "nodns.test", "[127.0.0.1]", "127.0.0.1", "@", "sales-1@", "deep.sub.other.test", "joe@relay.test", "mx.differ.test", "b\u00fccher.test", "xn--bcher-kva.test", "[192.0.2.9]", "joe smith@local.test", "null.test", "differ.test", "12345", "+ext@", "x@other.test", "JOE@LOCAL.TEST"]
LOGIN_KEYS = ["joe", "jane", "user@vmail.test", "vmail.test"]
KEYS = {"hosts": HOST_KEYS, "mails": MAIL_KEYS, "logins": LOGIN_KEYS}
PATTERNS = {"hosts": [r"/^192\.0\.2\./", r"/unknown/", r"/\.test$/", r"/^dyn-([0-9-]+)\.(.*)/", r"/^(.*)\.test$/", r"/[^a-z]/i", r"!/\./", "/2001:db8/", r"/^\[/"],
            "mails": [r"/^joe@/", r"/^(.*)@(.*)\.test$/", r"/@relay\.test$/", r"/^$/", "/[%!@].*[%!@]/", r"/^<>$/", r"/\+/", "/JOE/", r"!/@/", r"/^(sales)-([0-9]+)@/", r"/ /"], "logins": ["/^joe$/", "/@/"]}
CIDRS = ["192.0.2.0/24", "192.0.2.10", "192.0.2.8/29", "198.51.100.0/24", "0.0.0.0/0", "::/0", "2001:db8::/32", "2001:db8:1::/48", "!192.0.2.0/24", "127.0.0.0/8", "10.0.0.0/8", "203.0.113.1"]
TEXT_TYPES = ["hash", "texthash", "texthash", "lmdb", "cdb", "btree"]


class Tables:
    def __init__(self, r, files):
        self.r, self.files, self.n = r, files, 0

    def action(self):
        r = self.r
        return r.choice(RARE) if r.random() < 0.12 else r.choice(ACTIONS[:-24])

    def file(self, text):
        self.n += 1
        name = f"t{self.n}"
        self.files[name] = text
        return name

    def rows(self, what):
        r = self.r
        keys = r.sample(KEYS[what], min(len(KEYS[what]), r.randrange(2, 9)))
        seen, out = set(), []
        for k in keys:
            if k.lower() not in seen:
                seen.add(k.lower())
                out.append((k, self.action()))
        return out

    def text(self, what):
        kind = self.r.choice(TEXT_TYPES)
        return f"{kind}:{{D}}/" + self.file("".join(f"{quoted(k)}\t{v}\n" for k, v in self.rows(what)))

    def pattern(self, what, kind=None):
        r, out, depth = self.r, "", 0
        for p in r.sample(PATTERNS[what], r.randrange(1, min(4, len(PATTERNS[what]) + 1))):
            if r.random() < 0.1:
                out += f"if {r.choice(PATTERNS[what])}\n{p}\t{self.action()}\nendif\n"
                continue
            v = self.action()
            if "(" in p and r.random() < 0.6:
                v = r.choice(["REJECT got $1", "550 5.7.1 ${1} is bad", "REJECT $(1)x", "PREPEND X-Match: $1", "450 $$1"])
            out += f"{p}\t{v}\n"
        return f"{kind or r.choice(['pcre', 'regexp'])}:{{D}}/" + self.file(out)

    def cidr(self, what):
        r, out = self.r, ""
        for c in r.sample(CIDRS, r.randrange(1, 5)):
            out += f"{c}\t{self.action()}\n"
        if r.random() < 0.15:
            out = f"if {r.choice(CIDRS[:4])}\n{out}endif\n"
        return "cidr:{D}/" + self.file(out)

    def inline(self, what):
        return "inline:{ " + ", ".join("{" + f"{k} = {v}" + "}" for k, v in self.rows(what) if "{" not in v and "," not in k and " " not in k) + " }"

    def sqlite(self, what):
        rows = [(k.lower(), v) for k, v in self.rows(what)]
        db = self.file("sqlite\n" + "".join(f"{k}\t{v}\n" for k, v in rows))
        extra = self.r.choice(["", "", "domain = local.test, other.test\n", "result_format = %s\n", "expansion_limit = 1\n"])
        return "sqlite:{D}/" + self.file(f"dbpath = {{D}}/{db}.db\nquery = SELECT v FROM t WHERE k = '%s'\n{extra}")

    def one(self, what):
        r = self.r
        kind = r.random()
        if kind < 0.5:
            return self.text(what)
        if kind < 0.65:
            return self.pattern(what)
        if kind < 0.75 and what == "hosts":
            return self.cidr(what)
        if kind < 0.85:
            return self.inline(what)
        if kind < 0.88:
            return r.choice(["static:OK", "static:REJECT", "static:DUNNO", "static:{450 4.7.1 static text}", "static:{REJECT all of you}", "static:DEFER_IF_PERMIT", "fail:broken"])
        if kind < 0.93:
            return self.sqlite(what)
        return self.compound(what)

    def compound(self, what):
        r = self.r
        if r.random() < 0.3:
            return "unionmap:{ " + ", ".join(r.choice(["static:OK", self.text(what), self.pattern(what)]) for _ in range(2)) + " }"
        return r.choice(["pipemap:{ " + self.keymap(what) + ", " + self.text(what) + " }", "randmap:{ DUNNO }", "randmap:{ REJECT }"])

    def keymap(self, what):
        return "inline:{ " + ", ".join("{" + f"{k} = {self.r.choice(KEYS[what])}" + "}" for k in self.r.sample(KEYS[what], 3) if "," not in k and " " not in k) + " }"

    def access(self, what):
        return self.one(what)

    def map(self, rows):
        """A table with these rows, of any exact type."""
        kind = self.r.choice(TEXT_TYPES + ["inline"])
        if kind == "inline":
            return "inline:{ " + ", ".join("{" + f"{k} = {v}" + "}" for k, v in rows) + " }"
        return f"{kind}:{{D}}/" + self.file("".join(f"{quoted(k)}\t{v}\n" for k, v in rows))


def quoted(key):
    return f'"{key}"' if " " in key else key
