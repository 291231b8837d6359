"""Random dialogues. A talk is {"client": [...], "steps": [step...]}; a step is a list of commands that are sent together,
each answered once; {"data": TEXT} behind a DATA that got 354; a command "BDAT n..." carries its chunk.
"""
import addresses
import words

HEADERS = ["Subject: {w}", "Subject: =?utf-8?q?{w}?=", "From: {a}", "To: {a}, {a}", "Cc: {a}", "Bcc: {a}", "Date: Thu, 1 Jan 2026 00:00:00 +0000", "Message-Id: <{w}@x.test>",
           "Sender: {a}", "Reply-To: {a}", "Return-Path: <{p}>", "Received: from x by y; Thu, 1 Jan 2026 00:00:00 +0000", "X-Test: {w}", "X-Long: " + "z" * 900,
           "Content-Type: text/plain; charset=utf-8", "Content-Type: multipart/mixed; boundary=bb", "Content-Transfer-Encoding: 8bit", "MIME-Version: 1.0",
           "Resent-From: {a}", "Resent-To: {a}", "Errors-To: {a}", "Return-Receipt-To: {a}", "Apparently-To: {a}", "Content-Length: 5", "X-Folded: one\r\n two\r\n\tthree",
           "Delivered-To: {p}", "Auto-Submitted: no", "X-Bad : space", "From {w} Thu Jan 1 00:00:00 2026", ">From x", "No colon here", "X-Empty:", "X-J\u00f6rg: \u00e4", "Disposition-Notification-To: {a}"]
LOGIN = False  # without smtpd_sasl_auth_enable Postfix takes it half
WORDS = ["hello", "viagra", "money", "secret", "test 1", "discard-me", "hold-me", "filter-me", "reject-me", "replace-me", "x" * 80, "w\u00f6rd"]


def header_address(r):
    a = addresses.address(r)
    return r.choice([a, f"<{a}>", f"Joe <{a}>", f'"Joe, Q" <{a}>', f"{a} (comment)", "group: " + a + ";", "undisclosed-recipients:;"])


def message(r, mark):
    lines = [f"X-Talk: {mark}"]
    for h in r.sample(HEADERS, r.randrange(0, 7)):
        while "{a}" in h:
            h = h.replace("{a}", header_address(r), 1)
        lines.append(h.replace("{p}", addresses.address(r)).replace("{w}", r.choice(WORDS)))
    if r.random() < 0.1:
        lines = lines[1:]
    if r.random() < 0.04:
        lines += ["Received: from x by y; Thu, 1 Jan 2026 00:00:00 +0000"] * r.choice([49, 50, 51, 52])
    if r.random() < 0.02:
        lines += ["X-Huge: " + "h" * 70 + "".join("\r\n " + "h" * 76 for _ in range(r.choice([10, 30, 1400])))]
    lines.append("")
    lines += [r.choice(WORDS + [".", "..x", "--bb", "--bb--", "", "Subject: inner", "Content-Type: text/html", "From x", "b" * r.choice([990, 998, 2050])]) for _ in range(r.randrange(0, 5))]
    if r.random() < 0.03:
        lines += ["body " * 20] * 200
    lines.append(f"end {mark}")
    return "\r\n".join(lines) + "\r\n"


def hello(r):
    verb = r.choices(["EHLO", "HELO", "ehlo", "HeLo"], [12, 5, 1, 1])[0]
    name = r.choice(words.HELOS[:5] if r.random() < 0.6 else words.HELOS)
    return verb + " " + name if r.random() < 0.97 else r.choice([verb, verb + " ", verb + " a b c", verb + "  x.test "])


def mail_params(r):
    if addresses.PLAIN:
        return r.choice(["", "", "", "", " SIZE=100", " BODY=8BITMIME", " SMTPUTF8", " RET=HDRS ENVID=abc"])
    out = []
    for p, texts in ((0.2, ["SIZE=100", "SIZE=0", "SIZE=99999999999", "SIZE=20000", "SIZE=x", "SIZE=", "SIZE", "size=5", "SIZE=-1", "SIZE=3 SIZE=4"]),
                     (0.2, ["BODY=8BITMIME", "BODY=7BIT", "BODY=BINARYMIME", "BODY=x", "body=7bit", "BODY"]), (0.1, ["SMTPUTF8", "SMTPUTF8=x", "smtputf8"]),
                     (0.1, ["RET=FULL", "RET=HDRS", "RET=X", "RET=", "RET=hdrs RET=full"]), (0.1, ["ENVID=abc", "ENVID=a+2Bb", "ENVID=a+zz", "ENVID=", "ENVID=" + "e" * 101, "ENVID=a=b"]),
                     (0.03, ["AUTH=<>", "AUTH=x@y", "X=Y", "MT-PRIORITY=3", "REQUIRETLS", "FOO", "HOLDFOR=5", "BY=3;R", "=", "="])):
        if r.random() < p:
            out.append(r.choice(texts))
    r.shuffle(out)
    return "".join(" " + t for t in out)


def rcpt_params(r):
    if addresses.PLAIN:
        return r.choice(["", "", "", "", "", " NOTIFY=FAILURE,DELAY", " NOTIFY=NEVER", " ORCPT=rfc822;joe@x.test"])
    out = []
    for p, texts in ((0.12, ["NOTIFY=NEVER", "NOTIFY=SUCCESS", "NOTIFY=FAILURE,DELAY", "NOTIFY=SUCCESS,NEVER", "NOTIFY=X", "NOTIFY=", "notify=success,failure,delay", "NOTIFY=SUCCESS,SUCCESS"]),
                     (0.12, ["ORCPT=rfc822;joe@x.test", "ORCPT=rfc822;a+2Bb@x", "ORCPT=x", "ORCPT=", "ORCPT=rfc822;a+zz", "ORCPT=utf-8;j\\x{F6}@x", "ORCPT=rfc822;" + "o" * 501, "orcpt=RFC822;X@y", "ORCPT=;x", "ORCPT=rfc822;"]),
                     (0.02, ["FOO", "X=Y", "SIZE=3", "RET=FULL", "SMTPUTF8"])):
        if r.random() < p:
            out.append(r.choice(texts))
    return "".join(" " + t for t in out)


def mail(r):
    a = r.choice(["a@other.test", "joe@local.test", "x@client.test"]) if r.random() < 0.4 else None
    return r.choices(["MAIL FROM:", "mail from:", "MAIL FROM: ", "MAIL  FROM:", "MAIL FROM", "MAIL TO:", "MAIL", "MAIL FROM :", "MAIL\tFROM:"], [40, 3, 3, 0, 0, 0, 0, 0, 0] if addresses.PLAIN else [40, 3, 3, 1, .5, .5, .3, .5, .3])[0] + addresses.path(r, a) + mail_params(r)


def rcpt(r):
    a = r.choice(["joe@local.test", "user@vmail.test", "a@alias.test", "joe@relay.test", "x@other.test", "nobody@local.test", "nobody@vmail.test", "jane+ext@local.test"]) if r.random() < 0.45 else None
    return r.choices(["RCPT TO:", "rcpt to:", "RCPT TO: ", "RCPT  TO:", "RCPT TO", "RCPT FROM:", "RCPT"], [40, 3, 3, 0, 0, 0, 0] if addresses.PLAIN else [40, 3, 3, 1, .5, .5, .3])[0] + addresses.path(r, a) + rcpt_params(r)


def odd(r):
    return r.choice(["NOOP", "NOOP x y", "RSET", "RSET x", "VRFY joe", "VRFY <joe@local.test>", "VRFY nobody@local.test", "VRFY x@other.test", "VRFY", "VRFY a b", "EXPN list", "ETRN relay.test",
                     "ETRN other.test", "ETRN", "ETRN @relay.test", "ETRN #x", "ETRN a b", "ETRN [127.0.0.1]", "AUTH PLAIN", "AUTH", "STARTTLS", "STARTTLS x", "FOO", "", " ", "GET / HTTP/1.0", "CONNECT x:25 HTTP/1.1", "Subject: x",
                     "DATA x", "QUIT x", "XFORWARD NAME=x", "XFORWARD", "XCLIENT", "XCLIENT NAME=x.test FOO=y", "SEND FROM:<x>", "TURN", "DATA", "MAIL", "RCPT", "NOOP\x00x", "N" * 600, "BDAT", "BDAT x", "BDAT 3 FOO", "EHLO again.test", "HELO again.test",
                     "NOOP:", "\tNOOP", "  NOOP", "noop", "HELO", "EHLO", "LHLO x"])


def client(r):
    if r.random() < 0.08:
        return []
    address, name = r.choice(words.CLIENTS)
    out = [("ADDR", "IPV6:" + address if ":" in address else address), ("NAME", name)]
    kind = r.random()
    if kind < 0.15:
        out.append(("REVERSE_NAME", r.choice(["rev.test", "[UNAVAILABLE]", "[TEMPUNAVAIL]", "bad.test", "client.test"])))
    if r.random() < 0.1:
        out.append(("HELO", r.choice(words.HELOS[:8])))
    if r.random() < 0.15:
        out.append(("PROTO", r.choice(["SMTP", "ESMTP"])))
    if r.random() < 0.1:
        out.append(("PORT", r.choice(["12345", "[UNAVAILABLE]", "1"])))
    if LOGIN and r.random() < 0.15:
        out.append(("LOGIN", r.choice(["joe", "jane", "user@vmail.test"])))
    return [f"{k}={v}" for k, v in out]


def transaction(r, mark):
    out, group = [], []
    together = r.random() < 0.3
    cmds = [mail(r)] + [rcpt(r) for _ in range(r.choices([0, 1, 2, 3, 6], [1, 12, 6, 3, 1])[0])]
    if r.random() < 0.08:
        cmds.insert(r.randrange(len(cmds) + 1), odd(r))
    if r.random() < 0.03:
        r.shuffle(cmds)
    text = message(r, mark)
    if r.random() < 0.12:
        ends = chunks(r, text)
    elif r.random() < 0.85:
        ends = ["DATA", {"data": text}]
    else:
        ends = [r.choice(["RSET", "MAIL FROM:<again@other.test>", "QUIT", "NOOP"])]
    for c in cmds + ends[:1]:
        group.append(c)
        if not together:
            out.append(group)
            group = []
    if group:
        out.append(group)
    return out + [[e] for e in ends[1:]]


def chunks(r, text):
    raw = text.encode("utf-8", "surrogateescape")
    cut = r.randrange(len(raw) + 1)
    if r.random() < 0.5:
        return [{"bdat": text, "last": True}]
    first, second = raw[:cut].decode("latin-1"), raw[cut:].decode("latin-1")
    return [{"bdat": first, "latin": True}, {"bdat": second, "latin": True, "last": True}]


def talk(r, mark):
    steps = []
    if r.random() < 0.96:
        steps.append([hello(r)])
    for n in range(r.choices([1, 2, 3], [6, 2, 1])[0]):
        if r.random() < 0.12:
            steps.append([odd(r)])
        steps += transaction(r, f"{mark}.{n}")
    return {"client": client(r), "steps": steps}
