#!/usr/bin/env python3
"""ldap tables against a real slapd: filters and quoting, groups, URLs, limits, binding, TLS, dead servers."""
import glob
import os
import pathlib
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from dbserver import PASSWORD, Slapd, free_port
from hub import BUILD, Hub

MAIL = b"Subject: s\r\n\r\nhi\r\n"
BASE = "dc=example,dc=org"


def person(name, *lines, where="people"):
    return "\n".join([f"dn: cn={name},ou={where},{BASE}", "objectClass: inetOrgPerson", "objectClass: mailthing", f"cn: {name}", "sn: x",
                      *lines]) + "\n\n"


LDIF = "".join([
    person("one", "mail: one@example.org", "maildrop: one@box.example"),
    person("two", "mail: two@example.org", "maildrop: two@box.example", "maildrop: zwei@box.example"),
    person("star", "mail: st*r@example.org", "maildrop: star@box.example"),
    person("paren", "mail: p(a)r@example.org", "maildrop: paren@box.example"),
    person("comma\\, the", "mail: comma@example.org", "maildrop: comma@box.example"),
    person("group", "mail: group@example.org", f"memberdn: cn=one,ou=people,{BASE}", f"memberdn: cn=inner,ou=people,{BASE}",
           f"memberdn: cn=nobody,ou=people,{BASE}", "route: plain@box.example"),
    person("inner", "mail: inner@example.org", f"memberdn: cn=two,ou=people,{BASE}"),
    person("circle", "mail: circle@example.org", f"memberdn: cn=circle,ou=people,{BASE}"),
    person("byurl", "mail: byurl@example.org", f"memberurl: ldap:///ou=people,{BASE}?maildrop?one?(|(cn=one)(cn=two))",
           "memberurl: ldap:///%zz", f"memberurl: ldap:///ou=people,{BASE}?telephoneNumber?sub?(cn=star)"),
    person("delegated", "mail: delegated@example.org", "route: elsewhere@box.example", f"memberdn: cn=one,ou=people,{BASE}"),
    person("locked", "mail: locked@example.org", "maildrop: locked@box.example", where="locked"),
])


def slapd(**kw):
    if not (BUILD / "modules" / "ldap.so").exists():
        raise cases.Skip("the ldap module is not built here")
    return Slapd(LDIF, **kw)


class Table:
    def __init__(self, db, **settings):
        self.cf = pathlib.Path(db.dir) / f"ldap-{time.monotonic_ns()}.cf"
        base = {"server_host": db.url, "version": "3", "search_base": BASE, "query_filter": "(mail=%s)", "bind": "no", "timeout": "5",
                "result_format": "550 5.7.9 got [%s]"}
        self.settings = {k: v for k, v in {**base, **settings}.items() if v is not None}
        self.cf.write_text("".join(f"{k} = {v}\n" for k, v in self.settings.items()))
        self.spec = f"ldap:{self.cf}"

    def hub(self, **main):
        return Hub({"smtpd_recipient_restrictions": f"check_sender_access {self.spec}, permit_mynetworks, reject", **main})


def ask(c, key):
    """The results in their order, None, or 451."""
    c.cmd(f"MAIL FROM:<{key}>", 250)
    r = c.cmd("RCPT TO:<user@example.com>")
    c.cmd("RSET", 250)
    if r.code == 550:
        return [x.partition("]")[0] for x in r.text.split("[")[1:]]
    return {250: None, 451: 451}.get(r.code, str(r))


def found(db, keys, **settings):
    with Table(db, **settings).hub() as hub, hub.client() as c:
        return [ask(c, k) for k in keys]


GROUP = {"result_attribute": "maildrop", "special_result_attribute": "memberdn, memberurl"}


def test_questions():
    with slapd() as db:
        keys = ["one@example.org", "ONE@example.org", "two@example.org", "none@example.org", "st*r@example.org", "*@example.org", "o*e@example.org"]
        got = found(db, keys)
        assert got[:2] == [["one@box.example"]] * 2 and sorted(got[2]) == ["two@box.example", "zwei@box.example"], got
        assert got[3:] == [None, ["star@box.example"], None, None], got  # a star is a star
        assert found(db, ['"p(a)r"@example.org', '")(mail=*"@example.org', '"*)(|(mail=*"@example.org'])[1:] == [None, None]
        assert found(db, ["one@example.org"], query_filter="(&(mail=%u@%d)(cn=%u)(!(cn=%1)))") == [["one@box.example"]]
        # the key inside the name of the place
        assert found(db, ["one@x.org", "nobody@x.org", '"comma, the"@x.org'], search_base=f"cn=%u,ou=people,{BASE}", scope="base",
                     query_filter="(objectClass=*)") == [["one@box.example"], None, None]
        assert found(db, ["one@x.org", '"one,ou=people"@x.org', '"one+cn=x"@x.org'], search_base=f"cn=%u,ou=people,dc=example,dc=%1", scope="base",
                     query_filter="(objectClass=*)") == [["one@box.example"], None, None]
        assert found(db, ["one@example.org"], scope="one") == [None]
        assert found(db, ["one@example.org"], scope="one", search_base=f"ou=people,{BASE}") == [["one@box.example"]]
        assert found(db, ["one@example.org", "x@example.net"], domain="example.net") == [None, None]
        assert found(db, ["one@example.org"], result_format="550 5.7.9 [%u]") == [["one"]]
        assert found(db, ["one@example.org"], result_format=None, result_filter="550 5.7.9 [%S]") == [["one@example.org"]]
        assert found(db, ["one@example.org"], search_base="dc=nowhere") == [None]
        assert found(db, ["one@example.org"], result_attribute="telephoneNumber") == [None]
        # mistakes are no answers
        for bad in ({"query_filter": "(mail=%s"}, {"search_base": "not a name"}, {"tls_ca_cert_file": "/nonexistent", "start_tls": "yes"}):
            assert found(db, ["one@example.org"], **bad) == [451], bad


def test_groups():
    with slapd() as db:
        got = found(db, ["group@example.org", "inner@example.org", "one@example.org"], **GROUP)
        assert sorted(got[0]) == ["one@box.example", "two@box.example", "zwei@box.example"], got
        assert sorted(got[1]) == ["two@box.example", "zwei@box.example"] and got[2] == ["one@box.example"], got
        # by URL: only what the URL and the table both name
        got = found(db, ["byurl@example.org"], **GROUP)
        assert sorted(got[0]) == ["one@box.example", "two@box.example", "zwei@box.example"], got
        # limits
        assert found(db, ["group@example.org", "one@example.org"], **GROUP, expansion_limit="2") == [451, ["one@box.example"]]
        assert found(db, ["circle@example.org", "one@example.org"], **GROUP, recursion_limit="20") == [451, ["one@box.example"]]
        assert found(db, ["group@example.org", "inner@example.org"], **GROUP, recursion_limit="1")[0] == 451
        assert found(db, ["x@example.org"], query_filter="(maildrop=*)", size_limit="2") == [451]
        # terminal: nothing else counts; leaf: only where nothing is referred to
        got = found(db, ["delegated@example.org", "inner@example.org"], **GROUP, terminal_result_attribute="route")
        assert got[0] == ["elsewhere@box.example"] and sorted(got[1]) == ["two@box.example", "zwei@box.example"], got
        got = found(db, ["group@example.org", "delegated@example.org"], result_attribute="", special_result_attribute="memberdn",
                    leaf_result_attribute="maildrop, route")
        assert sorted(got[0]) == ["one@box.example", "two@box.example", "zwei@box.example"] and got[1] == ["one@box.example"], got


def test_binding():
    with slapd() as db:
        hub_dn = {"bind": "yes", "bind_dn": f"cn=hub,{BASE}", "bind_pw": PASSWORD}
        assert found(db, ["locked@example.org"]) == [None]
        assert found(db, ["locked@example.org"], **hub_dn) == [["locked@box.example"]]
        assert found(db, ["locked@example.org"], **{**hub_dn, "bind": "simple", "version": "2"}) == [["locked@box.example"]]
        assert found(db, ["one@example.org"], **{**hub_dn, "bind_pw": "wrong"}) == [451]
        ldapi = "ldapi://" + str(db.socket).replace("/", "%2F")
        assert found(db, ["one@example.org"], server_host=ldapi) == [["one@box.example"]]
        assert found(db, ["locked@example.org"], server_host=ldapi, bind="sasl", sasl_mechs="EXTERNAL") == [["locked@box.example"]]
        assert found(db, ["locked@example.org"], server_host=ldapi, bind="sasl", sasl_mechs="NOSUCH") == [451]
        # by name and password through SASL; the library takes no mechanism that gives the password away
        sasl = {"bind": "sasl", "bind_dn": "hub", "bind_pw": PASSWORD, "server_host": f"ldap://localhost:{db.port}"}
        for mech in ("DIGEST-MD5", "CRAM-MD5", "SCRAM-SHA-256"):
            if not glob.glob(f"/usr/lib/*/sasl2/lib{mech.split('-SHA')[0].replace('-', '').lower()}.so*"):
                continue
            assert found(db, ["locked@example.org"], **sasl, sasl_mechs=mech) == [["locked@box.example"]], mech
            assert found(db, ["locked@example.org"], **{**sasl, "bind_pw": "wrong"}, sasl_mechs=mech) == [451], mech
        assert found(db, ["locked@example.org"], **sasl, sasl_mechs="PLAIN") == [451]
        # hosts in order: the first that answers
        assert found(db, ["one@example.org"], server_host=f"ldap://127.0.0.1:{free_port()} {db.url}") == [["one@box.example"]]
        assert found(db, ["one@example.org"], server_host="127.0.0.1", server_port=str(db.port)) == [["one@box.example"]]
        assert found(db, ["one@example.org"], server_host=f"127.0.0.1:{db.port}", server_port="1") == [["one@box.example"]]


def test_tls():
    with slapd(tls=True) as db:
        ca = {"start_tls": "yes", "tls_require_cert": "yes", "tls_ca_cert_file": f"{db.dir}/cert.pem"}
        assert found(db, ["one@example.org"], **ca) == [["one@box.example"]]
        assert found(db, ["one@example.org"], start_tls="yes") == [["one@box.example"]]  # whoever it is
        assert found(db, ["one@example.org"], start_tls="yes", tls_require_cert="yes") == [451]  # nobody vouches for it


def test_dead_server():
    with slapd() as db:
        t = Table(db, timeout="2")
        with t.hub() as hub, hub.client() as c:
            assert ask(c, "one@example.org") == ["one@box.example"]
            db.stop()
            for _ in range(3):
                assert ask(c, "one@example.org") == 451
            hub.wait_log(r"warning: table ldap:.*ldap://127\.0\.0\.1:\d+: .*Can't contact LDAP server")
            assert hub.log().count("warning: table ldap:") == 1
            db.start()
            assert ask(c, "one@example.org") == ["one@box.example"]
            db.pause()  # takes connections and says nothing
            begin = time.monotonic()
            assert ask(c, "one@example.org") == 451
            assert time.monotonic() - begin < 30, "held longer than the time limit"
            db.resume()
            # a new search after the pause: those who come meanwhile do not wait for the same server again
            deadline = time.monotonic() + 30
            while ask(c, "one@example.org") != ["one@box.example"]:
                assert time.monotonic() < deadline
                time.sleep(0.2)


def test_aliases_and_main_cf():
    with slapd() as db:
        main = {"people_server_host": db.url, "people_version": "3", "people_search_base": f"ou=people,{BASE}", "people_query_filter": "(mail=%s)",
                "people_bind": "no", "people_result_attribute": "maildrop", "people_special_result_attribute": "memberdn",
                "virtual_alias_maps": "proxy:ldap:people", "virtual_alias_domains": "example.org",
                "virtual_mailbox_domains": "box.example", "virtual_mailbox_maps": "static:user/"}
        with Hub(main) as hub, hub.client() as c:
            c.send_mail("a@b.example", ["group@example.org"], MAIL)
            for who in ("one", "two", "zwei"):
                hub.wait_log(rf"to=<{who}@box\.example>, orig_to=<group@example\.org>.*status=sent")
            db.stop()
            c.cmd("MAIL FROM:<a@b.example>", 250)
            c.cmd("RCPT TO:<one@example.org>", 451)


if __name__ == "__main__":
    cases.main(globals())
