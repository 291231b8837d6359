#!/usr/bin/env python3
"""mysql and pgsql tables against real servers of Debian's packages (MariaDB, PostgreSQL), and memcache against memcached."""
import os
import pathlib
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from dbserver import PASSWORD, MariaDb, Memcached, Postgres, free_port
from hub import BUILD, Hub, wait_for

MAIL = b"Subject: s\r\n\r\nhi\r\n"
ROWS = [("one@example.org", "first"), ("two@example.org", "a@x.example"), ("two@example.org", "b@y.example"), ("o''brien@example.org", "quoted"),
        ("back\\slash@example.org", "slashed"), ("empty@example.org", ""), ("example.net", "domain"), ("unicode-é@example.org", "ü")]
TABLE = "CREATE TABLE IF NOT EXISTS answers (k varchar(200), v varchar(200));\nDELETE FROM answers;\nINSERT INTO answers VALUES (NULL, NULL);\n"


def rows(escape):
    return "".join(f"INSERT INTO answers VALUES ('{k.replace(chr(92), escape)}', '{v}');\n" for k, v in ROWS)


def postgres():
    need_module("pgsql")
    return Postgres(TABLE + rows("\\") + "CREATE FUNCTION answer_of(text) RETURNS SETOF varchar AS 'SELECT v FROM answers WHERE k = $1' LANGUAGE sql;\n"
                    "CREATE FUNCTION slowly(text) RETURNS text AS $$ SELECT pg_sleep(3); SELECT 'REJECT slow'::text $$ LANGUAGE sql;\n")


def mariadb():
    need_module("mysql")
    return MariaDb("DROP PROCEDURE IF EXISTS answer_of;\nDROP PROCEDURE IF EXISTS nothing_of;\n" + TABLE + rows("\\\\")
                   + "CREATE PROCEDURE answer_of(IN p VARCHAR(200)) SQL SECURITY INVOKER SELECT v FROM answers WHERE k = p;\n"
                   + "CREATE PROCEDURE nothing_of(IN p VARCHAR(200)) SQL SECURITY INVOKER SET @x = p;\n")


def need_module(name):
    if not (BUILD / "modules" / f"{name}.so").exists():
        raise cases.Skip(f"the {name} module is not built here")


class Table:
    """A settings file, and what a hub finds in it: keys are senders."""

    def __init__(self, kind, db, **settings):
        self.kind, self.db = kind, db
        self.cf = pathlib.Path(db.dir) / f"{kind}-{time.monotonic_ns()}.cf"
        base = {"hosts": f"127.0.0.1:{db.port}", "user": db.user, "password": PASSWORD, "dbname": "postgres" if kind == "pgsql" else "mail",
                "query": "SELECT v FROM answers WHERE k = '%s'", "result_format": "550 5.7.9 got [%s]"}
        self.settings = {k: v for k, v in {**base, **settings}.items() if v is not None}
        self.write()
        self.spec = f"{kind}:{self.cf}"

    def write(self):
        self.cf.write_text("".join(f"{k} = {v}\n" for k, v in self.settings.items()))

    def hub(self, **main):
        return Hub({"smtpd_recipient_restrictions": f"check_sender_access {self.spec}, permit_mynetworks, reject", **main})


def ask(c, key):
    """What the table says of a sender: text, None, or 451."""
    c.cmd(f"MAIL FROM:<{key}>" + (" SMTPUTF8" if not key.isascii() else ""), 250)
    r = c.cmd("RCPT TO:<user@example.com>")
    c.cmd("RSET", 250)
    if r.code == 550:
        return r.text[r.text.index("[") + 1:r.text.rindex("]")]
    return {250: None, 451: 451}.get(r.code, str(r))


def found(db, kind, keys, **settings):
    with Table(kind, db, **settings).hub() as hub, hub.client() as c:
        return [ask(c, k) for k in keys]


def common(db, kind):
    keys = ["one@example.org", "ONE@Example.ORG", "two@example.org", "o'brien@example.org", '"back\\\\slash"@example.org', "empty@example.org",
            "none@example.org", "x@example.net", '"x\' OR \'1\'=\'1"@example.org', '"\\\\\' OR 1=1 -- "@example.org', '";DROP TABLE answers;"@example.org']
    got = found(db, kind, keys)
    assert got[:4] == ["first", "first", "a@x.example],550 5.7.9 got [b@y.example", "quoted"], got
    assert got[5:] == [None, None, "domain", None, None, None], got  # nothing was injected
    # parts of the key and of the result
    assert found(db, kind, ["one@example.org", "x@org"], query="SELECT '%u %d %1 %2' ", result_format="550 5.7.9 [%S=%s]") == \
        ["one@example.org=one example.org org example", None]
    assert found(db, kind, ["one@example.org", "two@example.org"], result_format="550 5.7.9 [%u]") == ["first", "a],550 5.7.9 [b"]
    assert found(db, kind, ["one@example.org", "two@example.org"], result_format="550 5.7.9 [%d]") == [None, "x.example],550 5.7.9 [y.example"]
    # several columns, NULLs
    assert found(db, kind, ["one@example.org"], query="SELECT 'x', NULL, 'y' FROM answers WHERE k = '%s'", result_format="[%s]") != [None]
    # limits and domains
    assert found(db, kind, ["one@example.org", "two@example.org"], expansion_limit="1") == ["first", 451]
    assert found(db, kind, ["one@example.org", "x@example.net"], domain="example.org, inline:{example.com=x}") == ["first", None]
    assert found(db, kind, ["one@example.org", "x@example.net"], domain="!example.org, static:all") == [None, None]
    # the forms from before there was `query`
    assert found(db, kind, ["one@example.org"], query=None, select_field="v", table="answers", where_field="k",
                 additional_conditions="AND v <> 'second'") == ["first"]
    # mistakes
    for bad in ({"query": "SELECT nothing FROM nowhere"}, {"password": "wrong"}, {"dbname": "nosuch"}):
        assert found(db, kind, ["one@example.org"], **bad) == [451], bad


def fail_over(db, kind):
    """A dead host is passed over; all dead is a temporary failure with a warning; back again without a restart."""
    dead = free_port()
    assert found(db, kind, ["one@example.org"] * 4, hosts=f"127.0.0.1:{dead} inet:127.0.0.1:{db.port}") == ["first"] * 4
    t = Table(kind, db)
    with t.hub() as hub, hub.client() as c:
        assert ask(c, "one@example.org") == "first"
        db.stop()
        for _ in range(3):
            assert ask(c, "one@example.org") == 451
        hub.wait_log(rf"warning: table {kind}:.*127\.0\.0\.1:{db.port}: ")
        assert hub.log().count(f"warning: table {kind}:") == 1
        assert PASSWORD not in hub.log(), "a password in the log"
        db.start()
        assert ask(c, "one@example.org") == "first"
        db.pause()  # takes connections and says nothing
        try:
            begin = time.monotonic()
            with hub.client() as other:  # whom it does not concern
                other.cmd("NOOP", 250)
            assert time.monotonic() - begin < 5
        finally:
            db.resume()
        # new settings are noticed
        t.settings["result_format"] = "550 5.7.9 now [%s]!"
        t.write()
        wait_for("the new settings", lambda: "now" in sender_reply(c, "one@example.org"))


def sender_reply(c, key):
    c.cmd(f"MAIL FROM:<{key}>", 250)
    r = c.cmd("RCPT TO:<user@example.com>")
    c.cmd("RSET", 250)
    return r.text


def in_main_cf(db, kind):
    """The old form: NAME_x of main.cf; $name is expanded there. And virtual aliases."""
    main = {"db_hosts": f"127.0.0.1:{db.port}", "db_user": db.user, "db_password": PASSWORD, "db_dbname": "postgres" if kind == "pgsql" else "mail",
            "db_query": "SELECT '$db_target' FROM answers WHERE k = '%s'", "db_target": "user@example.com", "virtual_alias_maps": f"proxy:{kind}:db",
            "virtual_alias_domains": "example.org"}
    with Hub(main) as hub, hub.client() as c:
        c.send_mail("a@b.example", ["one@example.org"], MAIL)
        hub.wait_log(r"to=<user@example\.com>, orig_to=<one@example\.org>.*status=sent")
        c.cmd("MAIL FROM:<a@b.example>", 250)
        c.cmd("RCPT TO:<none@example.org>", 550)
        c.cmd("RSET", 250)
        db.stop()
        c.cmd("MAIL FROM:<a@b.example>", 250)
        c.cmd("RCPT TO:<one@example.org>", 451)
        db.start()


def test_pgsql():
    with postgres() as db:
        common(db, "pgsql")
        fail_over(db, "pgsql")
        in_main_cf(db, "pgsql")
        assert found(db, "pgsql", ["one@example.org"], hosts="unix:/nonexistent") == [451]
        assert found(db, "pgsql", ["one@example.org"],
                     hosts=f"postgresql://{db.user}:{PASSWORD}@127.0.0.1:{db.port}/postgres?sslmode=disable", user=None, password=None, dbname=None) == ["first"]
        assert found(db, "pgsql", ["one@example.org"], query=None, select_function="answer_of") == ["first"]
        assert found(db, "pgsql", ["one@example.org"], query="UPDATE answers SET v = v WHERE k = '%s'") == [451]
        assert found(db, "pgsql", ["one@example.org"], encoding="LATIN1") == ["first"]
        assert found(db, "pgsql", ["one@example.org"], encoding="NOSUCH") == [451]
        assert found(db, "pgsql", ["unicode-é@example.org"]) == ["ü"]


def test_pgsql_time_limit_of_a_query():
    """Others are served while a slow query runs, and more clients than the table has connections all get their answer."""
    with postgres() as db, Table("pgsql", db, query="SELECT slowly('%s')", result_format="%s").hub() as hub:
        clients = [hub.client() for _ in range(6)]
        begin = time.monotonic()
        for c in clients:
            c.cmd("MAIL FROM:<one@example.org>", 250)
            c.raw(b"RCPT TO:<user@example.com>\r\n")
        for c in clients:
            assert c.reply().code == 554
            c.close()
        assert time.monotonic() - begin < 16, "they waited for each other"


def test_mysql():
    with mariadb() as db:
        common(db, "mysql")
        fail_over(db, "mysql")
        in_main_cf(db, "mysql")
        assert found(db, "mysql", ["one@example.org"], hosts=f"unix:{db.socket}") == ["first"]
        assert found(db, "mysql", ["one@example.org"] * 3, hosts=f"127.0.0.1:{free_port()} unix:{db.socket}") == ["first"] * 3
        assert found(db, "mysql", ["one@example.org"], query="CALL answer_of('%s')") == ["first"]
        assert found(db, "mysql", ["one@example.org"], query="CALL nothing_of('%s')") == [451]
        assert found(db, "mysql", ["one@example.org"], query="CALL nothing_of('%s')", require_result_set="no") == [None]
        assert found(db, "mysql", ["unicode-é@example.org"]) == ["ü"]
        db.make_certificate("other")
        tls = {"user": "tls", "tls_CAfile": f"{db.dir}/cert.pem", "tls_verify_cert": "yes"}
        assert found(db, "mysql", ["one@example.org"], user="tls") == [451]  # the server wants TLS
        assert found(db, "mysql", ["one@example.org"], **tls) == ["first"]
        assert found(db, "mysql", ["one@example.org"], **{**tls, "tls_verify_cert": "no"}) == ["first"]
        assert found(db, "mysql", ["one@example.org"], **{**tls, "tls_CAfile": f"{db.dir}/other.pem"}) == [451]
        assert found(db, "mysql", ["one@example.org"], **{**tls, "tls_CAfile": "/nonexistent"}) == [451]
        assert found(db, "mysql", ["one@example.org"], **tls, tls_ciphers="NO-SUCH-CIPHER") == [451]
        options = pathlib.Path(db.dir) / "my.cnf"
        options.write_text(f"[client]\nuser={db.user}\n[hub]\npassword={PASSWORD}\nport={db.port}\n")
        for group, want in (("hub", "first"), ("client", 451)):
            assert found(db, "mysql", ["one@example.org"], hosts="127.0.0.1", user=None, password=None, option_file=str(options),
                         option_group=group) == [want], group


def test_memcached():
    with Memcached() as db:
        cf = pathlib.Path(db.dir) / "mc.cf"
        cf.write_text(f"memcache = inet:127.0.0.1:{db.port}\nbackup = inline:{{ one@example.org=REJECT }}\nkey_format = t:%s\nttl = 100\n")
        with Hub({"smtpd_recipient_restrictions": f"check_sender_access memcache:{cf}, permit_mynetworks, reject"}) as hub, hub.client() as c:
            c.cmd("MAIL FROM:<one@example.org>", 250)
            c.cmd("RCPT TO:<user@example.com>", 554)
            c.cmd("RSET", 250)
        cf.write_text(f"memcache = inet:127.0.0.1:{db.port}\nkey_format = t:%s\n")  # what the backup said is in memcached now
        with Hub({"smtpd_recipient_restrictions": f"check_sender_access memcache:{cf}, permit_mynetworks, reject"}) as hub, hub.client() as c:
            c.cmd("MAIL FROM:<one@example.org>", 250)
            c.cmd("RCPT TO:<user@example.com>", 554)
            c.cmd("RSET", 250)
            c.cmd("MAIL FROM:<other@example.org>", 250)
            c.cmd("RCPT TO:<user@example.com>", 250)


if __name__ == "__main__":
    cases.main(globals())
