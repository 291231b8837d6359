#!/usr/bin/env python3
"""Lookup tables that are files: every type over SMTP, changes and damage while the daemon runs, and `posthousectl map`."""
import json
import os
import pathlib
import sqlite3
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import BUILD, Hub, wait_for

TEMPORARY = 451


class Site:
    """A hub whose tables are files in its own directory; made first, started when they are written."""

    def __init__(self):
        self.hub = Hub(start=False)
        self.dir = self.hub.dir

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.hub.close(failed=what[0] is not None)

    def put(self, name, text):
        """As an editor does: a new file takes the name."""
        path = self.dir / name
        fresh = self.dir / (name + ".fresh")
        fresh.write_bytes(text if isinstance(text, bytes) else text.encode())
        fresh.rename(path)
        return path

    def start(self, **main):
        self.hub.main.update(main)
        self.hub.write_conf()
        self.hub.start()
        return self.hub

    def answers(self, sender, options=""):
        """The reply to RCPT of a message from there."""
        with self.hub.client() as c:
            c.cmd(f"MAIL FROM:<{sender}>{options}", 250)
            return c.cmd("RCPT TO:<user@example.com>")

    def wait_answer(self, sender, code, text=""):
        wait_for(f"{code} {text} for {sender}", lambda: (r := self.answers(sender)).code == code and text in r.text)


def rows(type_):
    return f"u@{type_}.example REJECT by {type_}\n"


def test_every_type_decides():
    with Site() as s:
        d, ctl = s.dir, s.hub.ctl
        for t in ("hash", "btree", "texthash", "lmdb", "cdb", "sqlite"):
            s.put(t, rows(t))
            ctl("map", f"{t}:{d / t}")
        for name in ("lmdb", "cdb", "sqlite"):
            (d / name).unlink()  # the database alone must do
        s.put("regexp", "if /@regexp/\n/^(u)@REGEXP\\.example$/ REJECT by regexp for $1\nendif\n")
        s.put("pcre", "!/@/ REJECT never\n/^(?<who>u)@pcre\\.example$/ REJECT by pcre for ${1}\n")
        tables = [f"{t}:{d / t}" for t in ("hash", "btree", "texthash", "lmdb", "cdb", "regexp", "pcre")]
        tables += [f"sqlite:{d}/sqlite.cf", "inline:{ { u@inline.example = REJECT by inline } }",
                   "pipemap:{ inline:{u@pipemap.example=x}, inline:{ {x = REJECT by pipemap} } }",
                   "unionmap:{ inline:{ {u@unionmap.example = REJECT by} }, inline:{ u@unionmap.example=unionmap } }",
                   "debug:inline:{ { u@debug.example = REJECT by debug } }", "proxy:inline:{ { u@proxy.example = REJECT by proxy } }"]
        s.start(smtpd_recipient_restrictions=", ".join(f"check_sender_access {t}" for t in tables))
        for t in ("hash", "btree", "texthash", "lmdb", "cdb", "sqlite", "regexp", "pcre", "inline", "pipemap", "debug", "proxy"):
            r = s.answers(f"U@{t}.Example")
            assert r.code == 554 and f"by {t}" in r.text, (t, r)
            assert s.answers(f"v@{t}.example").code == 250, t
        assert "for u" in s.answers("u@pcre.example").text and "for U" in s.answers("U@regexp.example").text
        assert "by,unionmap" in s.answers("u@unionmap.example").text
        s.hub.wait_log(r'(?i)inline:\{ \{ u@debug\.example = REJECT by debug \} \} lookup: "u@debug\.example" = "REJECT by debug"')


def test_clients_users_and_failing_tables():
    with Site() as s:
        s.put("cidr", "if 127.0.0.0/8\n127.0.0.2 REJECT second\n!127.0.0.0/9 REJECT upper\nendif\n127.0.0.1/32 PREPEND X-Cidr: yes\n")
        s.start(mydestination="local.example", local_recipient_maps="unix:passwd.byname", local_transport="discard:",
                smtpd_relay_restrictions="permit_mynetworks, reject",
                smtpd_recipient_restrictions=f"reject_unlisted_recipient, check_client_access cidr:{s.dir}/cidr, "
                "check_sender_access fail:broken")
        with s.hub.client() as c:
            c.cmd("MAIL FROM:<a@x.example>", 250)
            assert c.cmd("RCPT TO:<nobody-is-called-so@local.example>").code == 550
            assert c.cmd("RCPT TO:<Root@local.example>").code == TEMPORARY, "known, and then the table fails"
            s.hub.wait_log(r"fail:broken")
        s.hub.stop()
        s.start(smtpd_recipient_restrictions=f"check_client_access cidr:{s.dir}/cidr")
        with s.hub.client() as c:
            c.send_mail("a@x.example", ["user@example.com"], b"Subject: x\r\n\r\nhi\r\n")
        assert b"X-Cidr: yes" in s.hub.wait_mails(1)[0]


def test_keys_in_utf8():
    with Site() as s:
        s.put("hash", "JÖRG@hash.example REJECT hash\n")
        s.put("utf8", "JÖRG@lmdb.example REJECT lmdb\n")
        s.hub.ctl("map", f"lmdb:{s.dir}/utf8")
        s.start(smtpd_recipient_restrictions=f"check_sender_access hash:{s.dir}/hash, check_sender_access lmdb:{s.dir}/utf8")
        for t in ("hash", "lmdb"):
            assert t in s.answers(f"jörg@{t}.example", " SMTPUTF8").text
            assert t in s.answers(f"Jörg@{t}.example", " SMTPUTF8").text
            assert s.answers(f"jürg@{t}.example", " SMTPUTF8").code == 250


def test_changes_are_noticed():
    with Site() as s:
        kinds = {
            "hash": "{k} REJECT {v}\n", "regexp": "/^{k}$/ REJECT {v}\n", "pcre": "/^{k}$/ REJECT {v}\n", "lmdb": None, "cdb": None,
            "sqlite": None,
        }

        def write(kind, value):
            text = (kinds[kind] or kinds["hash"]).format(k=f"u@{kind}.example", v=value)
            s.put(kind, text)
            if kinds[kind] is None:
                s.hub.ctl("map", f"{kind}:{s.dir / kind}")
        for kind in kinds:
            write(kind, "one")
        names = [f"{kind}:{s.dir / kind}" + (".cf" if kind == "sqlite" else "") for kind in kinds]
        s.start(smtpd_recipient_restrictions=", ".join(f"check_sender_access {n}" for n in names))
        for kind in kinds:
            assert "one" in s.answers(f"u@{kind}.example").text, kind
        time.sleep(0.1)
        for kind in kinds:
            write(kind, "two")
        for kind in kinds:
            s.wait_answer(f"u@{kind}.example", 554, "two")


def test_a_broken_table_keeps_its_content():
    with Site() as s:
        broken = {
            "hash": ("u@hash.example REJECT old\n", "# c\nu@hash.example\n", r"hash, line 2: expected: key, white space, value"),
            "regexp": ("/u@regexp/ REJECT old\n", "/a/ OK\n/u@(regexp/ REJECT new\n", r"regexp, line 2: "),
            "pcre": ("/u@pcre/ REJECT old\n", "\n\n/u@[pcre/ REJECT new\n", r"pcre, line 3: .*at byte"),
            "cidr": ("127.0.0.1 REJECT old\n", "127.0.0.1 OK\n10.0.0.1/8 OK\n", r"cidr, line 2: .*10\.0\.0\.0/8"),
        }
        for kind, (good, _, _) in broken.items():
            s.put(kind, good)
        s.put("lmdb", "u@lmdb.example REJECT old\n")
        s.hub.ctl("map", f"lmdb:{s.dir}/lmdb")
        s.start(smtpd_recipient_restrictions=", ".join(f"check_sender_access {k}:{s.dir / k}" for k in ("hash", "regexp", "pcre", "lmdb"))
                + f", check_client_access cidr:{s.dir}/cidr")
        for kind in ("hash", "regexp", "pcre", "lmdb", "cidr"):
            assert "old" in s.answers(f"u@{kind}.example").text
        time.sleep(0.1)
        for kind, (_, bad, _) in broken.items():
            s.put(kind, bad)
        s.put("lmdb.lmdb", (s.dir / "lmdb.lmdb").read_bytes()[:9000])
        wait_for("the lmdb table to be looked at", lambda: s.answers("u@none.example") and "damaged database" in s.hub.log())
        for kind, (_, _, said) in broken.items():
            s.hub.wait_log(rf"warning: table {kind}:\S+: keeping the old content: .*{said}")
            assert "old" in s.answers(f"u@{kind}.example").text, kind
        assert "old" in s.answers("u@lmdb.example").text
        log = s.hub.reload()
        assert "reload failed" not in log, "the tables in use are good"
        s.put("hash", "u@hash.example REJECT mended\n")
        s.wait_answer("u@hash.example", 554, "mended")


def test_a_missing_table_answers_temporarily():
    with Site() as s:
        (s.dir / "compiled.db").write_bytes(b"not for us")
        names = ["hash:{0}/compiled", "lmdb:{0}/none", "pcre:{0}/none", "cidr:{0}/none", "sqlite:{0}/none.cf"]
        for name in names:
            spec = name.format(s.dir)
            s.start(smtpd_recipient_restrictions=f"check_{'client' if 'cidr' in spec else 'sender'}_access {spec}")
            r = s.answers("u@x.example")
            assert r.code == TEMPORARY, (spec, r)
            s.hub.stop()
        log = s.hub.log()
        assert "compiled.db is there: not the compiled map is read here" in log, log
        assert "none.lmdb nor" in log
        s.start(smtpd_recipient_restrictions=f"check_sender_access hash:{s.dir}/compiled")
        assert s.answers("u@x.example").code == TEMPORARY
        s.put("compiled", "u@x.example REJECT it came\n")
        s.wait_answer("u@x.example", 554, "it came")
        # a database without its table, and a database that is not there
        s.put("q.cf", f"dbpath = {s.dir}/q.sqlite\nquery = SELECT v FROM t WHERE k = '%s'\n")
        s.hub.stop()
        s.start(smtpd_recipient_restrictions=f"check_sender_access sqlite:{s.dir}/q.cf")
        assert s.answers("u@x.example").code == TEMPORARY
        with sqlite3.connect(s.dir / "q.sqlite") as db:
            db.execute("CREATE TABLE t(k, v)")
            db.execute("INSERT INTO t VALUES('u@x.example', 'REJECT from q')")
        os.chmod(s.dir / "q.sqlite", 0o644)
        s.wait_answer("u@x.example", 554, "from q")


def test_a_reload_shares_what_did_not_change():
    with Site() as s:
        s.put("big", "".join(f"user{i}@big.example OK\n" for i in range(200000)) + "u@big.example REJECT found\n")
        s.put("other", "u@other.example REJECT one\n")
        hub = s.start(smtpd_recipient_restrictions=f"check_sender_access hash:{s.dir}/big, check_sender_access hash:{s.dir}/other")
        assert "found" in s.answers("u@big.example").text

        def resident():
            return int(pathlib.Path(f"/proc/{hub.proc.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        before = resident()
        s.put("other", "u@other.example REJECT two\n")
        log = hub.reload()
        assert f"table hash:{s.dir}/other: new content" in hub.log()
        assert f"table hash:{s.dir}/big: new content" not in hub.log(), log
        assert "two" in s.answers("u@other.example").text and "found" in s.answers("u@big.example").text
        assert resident() - before < 5 << 20, "a second copy of the large table"


def test_map_asks():
    with Site() as s:
        ctl = s.hub.ctl
        s.put("h", "Key one\nother two words\n")
        h = f"hash:{s.dir}/h"
        assert ctl("map", "-q", "KEY", h).stdout == "one\n"
        assert ctl("map", "-q", "none", h, "static:last").stdout == "last\n"
        r = ctl("map", "-q", "none", h, check=False)
        assert (r.returncode, r.stdout, r.stderr) == (1, "", "")
        r = ctl("map", "-q", "-", h, stdin="other\nnone\nkey\n")
        assert r.stdout == "other\ttwo words\nkey\tone\n"
        assert ctl("map", "-f", "-q", "key", h, check=False).returncode == 1
        assert [json.loads(x) for x in ctl("map", "-j", "-s", h).stdout.splitlines()] == [
            {"key": "key", "value": "one"}, {"key": "other", "value": "two words"}]
        r = ctl("map", "-q", "x", "fail:why", check=False)
        assert r.returncode == 75 and "fail:why" in r.stderr
        assert ctl("map", "-q", "x", f"hash:{s.dir}/none", check=False).returncode == 75
        assert ctl("map", "-q", "x", "hsah:x", check=False).returncode == 78
        assert ctl("map", "-q", "x", check=False).returncode == 64
        # the options of postmap, by its name: a link to the program
        for name, text, key in (("postmap", "h", "Key"), ("postalias", "al", "list")):
            s.put("al", "list: a, b,\n c\n")
            os.symlink(BUILD / "posthousectl", s.dir / name)
            for args, env in ((["-c", s.hub.dir / "etc"], {}), ([], {"MAIL_CONFIG": str(s.hub.dir / "etc")})):
                r = subprocess.run([s.dir / name, *args, "-vq", key, f"hash:{s.dir}/{text}"], env={**os.environ, **env}, capture_output=True, text=True, timeout=30)
                assert (r.returncode, r.stdout, r.stderr) == (0, {"h": "one\n", "al": "a, b, c\n"}[text], ""), r
            r = subprocess.run([s.dir / name, "status"], env={**os.environ, "MAIL_CONFIG": str(s.hub.dir / "etc")}, capture_output=True, text=True, timeout=30)
            assert r.returncode == 66 and "status" in r.stderr, r  # no word of posthousectl's, but a file
        r = ctl("map", "-m", "-q", "-", h, stdin="key\n")
        assert r.stdout == "key\tone\n" and "-m means nothing" in r.stderr, r
        s.put("checks", "/^Subject:\\s(.*)/ subject $1\n/^body/ BODY\n/^X-Part/ part\n")
        mail = ('Subject: a\n b\nContent-Type: multipart/mixed; boundary="B"\n\nSubject: no\n--B\nX-Part: 1\n\nbody\n--B--\n')
        c = f"pcre:{s.dir}/checks"
        assert ctl("map", "-h", "-q", "-", c, stdin=mail).stdout == "Subject: a\n b\tsubject a\n b\n"
        assert ctl("map", "-hm", "-q", "-", c, stdin=mail).stdout == "Subject: a\n b\tsubject a\n b\nX-Part: 1\tpart\n"
        assert ctl("map", "-bm", "-q", "-", c, stdin=mail).stdout == "Subject: no\tsubject no\nbody\tBODY\n"


def test_map_makes_databases():
    with Site() as s:
        ctl, d = s.hub.ctl, s.dir
        for kind in ("lmdb", "cdb"):
            text = s.put(kind, "A one\nb two\na again\nnovalue\n\"x y\" spaces\n")
            os.chmod(text, 0o640)
            r = ctl("map", f"{kind}:{text}")
            assert "line 3: duplicate entry \"a\"" in r.stderr and "line 4: expected" in r.stderr, r.stderr
            made = d / f"{kind}.{kind}"
            assert stat.S_IMODE(made.stat().st_mode) == 0o640
            assert sorted(ctl("map", "-s", f"{kind}:{text}").stdout.splitlines()) == ['"x y"\tspaces', "a\tone", "b\ttwo"]
            held = made.open("rb")
            assert "duplicate" in ctl("map", "-i", f"{kind}:{text}", stdin="b other\nnew value\n").stderr
            ctl("map", "-r", "-i", f"{kind}:{text}", stdin="a changed\n")
            assert made.stat().st_ino != os.fstat(held.fileno()).st_ino, "a new file takes the place"
            held.close()
            assert ctl("map", "-d", "B", f"{kind}:{text}", check=False).returncode == 0
            assert ctl("map", "-d", "B", f"{kind}:{text}", check=False).returncode == 1
            assert sorted(ctl("map", "-s", f"{kind}:{text}").stdout.splitlines()) == ['"x y"\tspaces', "a\tchanged", "new\tvalue"]
            ctl("map", "-p", "-w", f"{kind}:{text}")
            assert stat.S_IMODE(made.stat().st_mode) == 0o644
            assert not [p for p in d.iterdir() if ".lmdb." in p.name or ".cdb." in p.name], "nothing is left behind"
        s.put("al", "Postmaster: root\nroot@x: no\nlist: a, b,\n c\n")
        assert "without a domain" in ctl("map", "-a", f"lmdb:{d}/al").stderr
        assert ctl("map", "-s", f"lmdb:{d}/al").stdout == "list\ta, b, c\npostmaster\troot\n"
        s.put("one", b"first\n")
        s.put("two", b"second\xff\n")
        s.put("files", f"k {d}/one, {d}/two\n")
        ctl("map", "-F", f"cdb:{d}/files")
        assert ctl("map", "-F", "-q", "k", f"cdb:{d}/files", text=False).stdout == b"first\n\nsecond\xff\n\n"
        assert ctl("map", "-q", "k", f"cdb:{d}/files").stdout == "Zmlyc3QKCnNlY29uZP8K\n"
        assert ctl("map", f"pcre:{d}/one", check=False).returncode == 64
        assert ctl("map", f"lmdb:{d}/absent", check=False).returncode == 66
        s.hub.main["default_database_type"] = "cdb"
        s.hub.write_conf()
        s.put("plain", "k v\n")
        ctl("map", f"{d}/plain")
        assert (d / "plain.cdb").exists() and ctl("map", "-q", "k", f"{d}/plain").stdout == "v\n"
        # sqlite, with a file that says how it is asked
        s.put("sq", "k1 v1\nk2 v'2\n")
        ctl("map", f"sqlite:{d}/sq")
        assert ctl("map", "-q", "K2", f"sqlite:{d}/sq.cf").stdout == "v'2\n"
        ctl("map", "-i", f"sqlite:{d}/sq", stdin="k3 v3\n")
        assert sqlite3.connect(d / "sq.sqlite").execute("SELECT key, value FROM map").fetchall() == [
            ("k1", "v1"), ("k2", "v'2"), ("k3", "v3")]


def test_sqlite_queries():
    with Site() as s:
        ctl, d = s.hub.ctl, s.dir
        with sqlite3.connect(d / "q.sqlite") as db:
            db.execute("CREATE TABLE t(k TEXT, v TEXT)")
            db.executemany("INSERT INTO t VALUES(?, ?)", [("joe", "a@x"), ("joe", "b@y"), ("it's", "quoted"), ("example", "label"),
                                                           ("joe", ""), ("example.com", "domain")])

        def ask(key, query, **more):
            s.put("q.cf", f"dbpath = {d}/q.sqlite\nquery = {query}\n" + "".join(f"{k} = {v}\n" for k, v in more.items()))
            r = ctl("map", "-q", key, f"sqlite:{d}/q.cf", check=False)
            return r.stdout.rstrip("\n") if r.returncode == 0 else r.returncode
        plain = "SELECT v FROM t WHERE k = '%s' ORDER BY v"
        assert ask("joe", plain) == "a@x,b@y"
        assert ask("JOE", plain) == "a@x,b@y", "keys are folded"
        assert ask("it's", plain) == "quoted"
        assert ask("it's", "SELECT v FROM t WHERE k LIKE '%s%%'") == "quoted", "not only what can be prepared"
        assert ask("none", plain) == 1
        assert ask("joe@example.com", "SELECT v FROM t WHERE k = '%u' ORDER BY v", result_format="%u at %d for %S") == \
            "a at x for joe@example.com,b at y for joe@example.com"
        assert ask("joe@example.com", "SELECT v FROM t WHERE k = '%d'") == "domain"
        assert ask("joe", "SELECT v FROM t WHERE k = '%d'") == 1
        assert ask("@example.com", "SELECT v FROM t WHERE k = '%u'") == 1
        assert ask("joe@example.com", "SELECT v FROM t WHERE k = '%2'") == "label"
        assert ask("joe@com", "SELECT v FROM t WHERE k = '%2'") == 1
        assert ask("joe@example.com", "SELECT v FROM t WHERE k = '%u'", domain="example.org") == 1
        assert ask("joe@example.com", "SELECT v FROM t WHERE k = '%u' LIMIT 1", domain="inline:{example.com=x}") == "a@x"
        assert ask("joe", plain, expansion_limit="2") == "a@x,b@y"
        assert ask("joe", plain, expansion_limit="1") == 75
        assert ask("joe", "SELECT nothing FROM t") == 75
        assert ask("joe", "SELECT v FROM t WHERE k = '%x'") == 75
        s.put("old.cf", f"dbpath = {d}/q.sqlite\nselect_field = v\ntable = t\nwhere_field = k\nadditional_conditions = AND v LIKE 'a%%'\n")
        assert ctl("map", "-q", "joe", f"sqlite:{d}/old.cf").stdout == "a@x\n"
        s.hub.main.update(site_dbpath=f"{d}/q.sqlite", site_query="SELECT v FROM t WHERE k = '%s'")
        s.hub.write_conf()
        assert ctl("map", "-q", "it's", "sqlite:site").stdout == "quoted\n", "settings in main.cf"


if __name__ == "__main__":
    cases.main(globals())
