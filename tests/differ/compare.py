"""What counts as the same: replies, log lines and mail without what must differ between two servers and two runs."""
import re

QID = re.compile(r"\b(?:[0-9A-F]{8,14}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{12,20})\b")


def reply(lines):
    out = []
    for line in lines:
        line = re.sub(r"(queued as )\S+", r"\1QID", line)
        out.append(re.sub(r"Postfix|Posthouse", "MAILER", line))
    return out


EHLO_ORDER = re.compile(r"^250[- ][A-Z0-9]+( |$|=)")


def notes(talk_notes):
    out = []
    for what, got in talk_notes:
        got = reply(got)
        if what.lower().startswith(("ehlo", "lhlo")) and got[0].startswith("250-"):
            got = got[:1] + sorted("250 " + g[4:] for g in got[1:])
        out.append((what, got))
    return out


KEEP = re.compile(r"(reject|reject_warning|warn|hold|discard|filter|redirect|bcc|info|replace|prepend|strip|delay|permit|client=|disconnect from|lost connection|timeout|warning: non-SMTP|warning: Illegal|too many errors|improper|Illegal address)")
SKIP = re.compile(r"END-OF-MESSAGE.*(message file too big|too many hops)|warning: (?!non-SMTP|Illegal)|connect from (?!.*\b(ehlo|helo|mail|quit|unknown|commands)=)|statistics:|warning: (dict_|database |hash:|btree:|.*is older than source|cdb)")


def log(text):
    """Lines of the server side, without time, host, process and queue id."""
    out = []
    for line in text.splitlines():
        m = re.match(r".*?(?:mail|posthouse\w*)/(smtpd|cleanup|submission)\[[\d-]+\]: (.*)", line)
        if not m or SKIP.search(m[2]) or not KEEP.search(m[2]):
            continue
        t = re.sub(r"^[0-9A-Za-z]{6,20}: ", "QID: ", m[2]) if not m[2].startswith("NOQUEUE") else m[2]
        t = re.sub(r"(differ-\w+)/(postfix|posthouse)/", r"\1/", t)
        t = t.replace("EHLO_MASK_SMTPUTF8", "SMTPUTF8")
        t = re.sub(r"(?<=discarding EHLO keywords: ).*", lambda m: " ".join(sorted(m[0].split())), t)
        t = re.sub(r"(\]:)\d+", r"\1PORT", t)
        t = re.sub(r" (xclient=\S+|commands=\S+)", "", t)  # Postfix counts an XCLIENT that it answered with 220 as failed
        out.append(re.sub(r"queued as \S+", "queued as QID", t))
    return sorted(out)


def hints(text):
    """The lines that may tell why, whole."""
    return [re.sub(r"^.*?(?=(?:mail|posthouse\w*)/)", "", l)[:300] for l in text.splitlines() if re.search(r"warning:|reject|fatal|error:|panic", l) and "fail:" not in l][:4]


def header_lines(data):
    """Unfolded header fields and the body."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = []
    for line in head.split(b"\r\n"):
        if line[:1] in b" \t" and lines and line:
            lines[-1] += b"\r\n" + line
        else:
            lines.append(line)
    return lines, body


def mail(m):
    lines, body = header_lines(m["data"])
    out = []
    for line in lines:
        low = line.lower()
        if low.startswith(b"received: from ") and b"x by y" not in low:
            line = re.sub(rb"\s+", b" ", line)
            line = re.sub(rb"\(Post\w+[^)]*\)", b"(MAILER)", line)
            line = re.sub(rb" id [0-9A-Za-z]+", b" id QID", line)
            line = re.sub(rb"; \w{3}, [^\r]*$", b"; DATE", line)
        elif low.startswith((b"message-id: <", b"resent-message-id: <")):
            line = re.sub(rb"<(2\d+\.[^@]*|[0-9A-Za-z]{12,20})@(?=mx\.)", b"<ID@", line)
        elif low.startswith(b"date: ") and b"1 Jan 2026" not in line:
            line = b"Date: DATE"
        out.append(line)
    args = m["mail_args"] if m["data"].isascii() else m["mail_args"].replace(" BODY=8BITMIME", "")  # that of what was not declared we say
    return (m["sender"], tuple(sorted((a, " ".join(sorted(p.split()))) for a, p in zip(m["rcpts"], m["rcpt_args"]))), re.sub(r"SIZE=\d+", "SIZE=n", args), b"\r\n".join(out), body)


def mark(data):
    """The talk that a mail came from."""
    m = re.search(rb"(?:X-Talk: |end )(s\d+-\d+-\d+)", data)
    return m[1].decode() if m else None
