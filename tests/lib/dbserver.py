"""Real database servers of Debian's packages for interop tests: PostgreSQL, MariaDB, slapd, memcached.

Each runs as an ordinary user in a temporary directory, on loopback and a unix socket, and is ended by its pid:

    with Postgres("CREATE TABLE t (k text, v text); INSERT ...") as db:
        db.port, db.socket, db.user, db.password, db.stop(), db.start()
A server that is not installed skips the case.
"""
import glob
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile

import cases
from hub import wait_for

PASSWORD = "s3cret"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def program(*patterns):
    for pattern in patterns:
        found = sorted(glob.glob(pattern))
        if found:
            return found[-1]
    raise cases.Skip(f"{patterns[0]} is not installed")


class Server:
    """Subclasses: prepare() makes the files, command() the arguments, is_up() whether it answers."""
    user, password = "hub", PASSWORD

    def __init__(self):
        self.programs()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-db-"))
        os.chmod(self.dir, 0o755)
        self.port = free_port()
        self.proc = None
        self.owner = {}
        if os.geteuid() == 0:  # none of them wants to be root
            nobody = pwd.getpwnam("nobody")
            self.owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.dir, nobody.pw_uid, nobody.pw_gid)
        self.env = {**os.environ, "HOME": str(self.dir), "LC_ALL": "C.UTF-8"}
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise

    def run(self, *command, stdin=None, timeout=60):
        r = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, cwd=self.dir, env=self.env, **self.owner)
        assert r.returncode == 0, f"{command[0]}: {r.stdout}{r.stderr}"
        return r.stdout

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text)
        if self.owner:
            os.chown(path, self.owner["user"], self.owner["group"])
        return path

    def start(self):
        log = open(self.dir / "log", "ab")
        self.proc = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir, env=self.env, **self.owner)
        log.close()

        def up():
            assert self.proc.poll() is None, f"{self.command()[0]} ended: {(self.dir / 'log').read_text(errors='replace')[-2000:]}"
            return self.is_up()
        wait_for(f"{type(self).__name__} to answer", up, 60)

    def is_up(self):
        with socket.socket() as s:
            s.settimeout(2)
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, how=signal.SIGTERM):
        if self.proc is None:
            return
        self.proc.send_signal(how)
        try:
            self.proc.wait(30)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.proc = None

    def pause(self):
        """It takes connections (the kernel does) and says nothing. Until one thread has seen the signal the others go on: waits for all."""
        self.proc.send_signal(signal.SIGSTOP)

        def stopped():
            states = [(t / "stat").read_text().rpartition(")")[2].split()[0] for t in pathlib.Path(f"/proc/{self.proc.pid}/task").iterdir()]
            return all(s in "Tt" for s in states)
        wait_for(f"{type(self).__name__} to stand still", stopped)

    def resume(self):
        self.proc.send_signal(signal.SIGCONT)

    def close(self):
        if self.proc is not None:
            self.resume()
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


    def make_certificate(self, name="cert"):
        self.run(program("/usr/bin/openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}-key.pem", "-out", f"{name}.pem",
                 "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")


class Postgres(Server):
    def __init__(self, sql):
        self.sql = sql
        super().__init__()

    def programs(self):
        self.bin = os.path.dirname(program("/usr/lib/postgresql/*/bin/postgres"))

    def prepare(self):
        self.socket = self.dir
        password = self.write("password", PASSWORD + "\n")
        self.run(f"{self.bin}/initdb", "-D", "data", "-U", self.user, "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync",
                 "--encoding=UTF8", "--locale=C.UTF-8")
        self.env["PGPASSWORD"] = PASSWORD

    def command(self):
        return [f"{self.bin}/postgres", "-D", "data", "-k", str(self.dir), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                "-c", "fsync=off", "-c", "max_connections=40", "-c", "shared_buffers=16MB"]

    def is_up(self):
        r = subprocess.run([f"{self.bin}/psql", "-q", "-h", str(self.dir), "-p", str(self.port), "-U", self.user, "-d", "postgres",
                            "-v", "ON_ERROR_STOP=1"], input=self.sql or "SELECT 1", capture_output=True, text=True, timeout=30, env=self.env)
        if r.returncode == 0:
            self.sql = None
        elif "connection to server" not in r.stderr:
            raise AssertionError(r.stderr)
        return r.returncode == 0

    def stop(self, how=signal.SIGINT):  # fast: does not wait for clients
        super().stop(how)


class MariaDb(Server):
    """The user `tls` must come over TLS."""
    def __init__(self, sql):
        self.sql = sql
        super().__init__()

    def programs(self):
        self.daemon = program("/usr/sbin/mariadbd")

    def prepare(self):
        self.socket = self.dir / "mysql.sock"
        scripts = [pathlib.Path(program(f"/usr/share/mysql/{n}.sql")).read_text() for n in ("mysql_system_tables", "mysql_system_tables_data")]
        self.run("mkdir", "-p", "data/mysql")
        self.run(self.daemon, "--no-defaults", "--bootstrap", f"--datadir={self.dir}/data", "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=16M",
                 "--skip-name-resolve", f"--tmpdir={self.dir}", stdin="CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
                 "SET @skip_auth_anonymous=1;\n" + "\n".join(scripts), timeout=120)
        self.init = self.write("init.sql", "SET NAMES utf8mb4;\nCREATE DATABASE IF NOT EXISTS mail CHARACTER SET utf8mb4;\nUSE mail;\n"
                               f"CREATE USER IF NOT EXISTS {self.user}@localhost IDENTIFIED BY '{PASSWORD}';\n"
                               f"CREATE USER IF NOT EXISTS {self.user}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
                               f"GRANT ALL ON mail.* TO {self.user}@localhost;\nGRANT ALL ON mail.* TO {self.user}@'127.0.0.1';\n"
                               f"CREATE USER IF NOT EXISTS tls@'127.0.0.1' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL;\nGRANT ALL ON mail.* TO tls@'127.0.0.1';\n"
                               + self.sql)
        self.make_certificate()

    def command(self):
        return [self.daemon, "--no-defaults", f"--datadir={self.dir}/data", f"--socket={self.socket}", f"--port={self.port}",
                "--bind-address=127.0.0.1", f"--tmpdir={self.dir}", f"--init-file={self.init}", "--skip-name-resolve", "--innodb-buffer-pool-size=16M",
                "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0", "--max-connections=40",
                f"--ssl-cert={self.dir}/cert.pem", f"--ssl-key={self.dir}/cert-key.pem"]


class Slapd(Server):
    """ldif: entries below dc=example,dc=org. Anybody may read; the hub binds as cn=hub,dc=example,dc=org."""
    SCHEMA = """
attributetype ( 1.3.6.1.4.1.99999.1.1 NAME 'maildrop' EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.99999.1.2 NAME 'memberurl' EQUALITY caseExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.99999.1.3 NAME 'memberdn' EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )
attributetype ( 1.3.6.1.4.1.99999.1.4 NAME 'route' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.99999.2.1 NAME 'mailthing' SUP top AUXILIARY MAY ( mail $ maildrop $ memberurl $ memberdn $ route ) )
"""

    def __init__(self, ldif, tls=False):
        self.ldif, self.tls = ldif, tls
        super().__init__()

    def programs(self):
        self.daemon = program("/usr/sbin/slapd")
        self.add = program("/usr/sbin/slapadd")

    def prepare(self):
        self.socket = self.dir / "ldapi"
        self.url = f"ldap://127.0.0.1:{self.port}"
        tls = ""
        if self.tls:
            self.make_certificate()
            tls = f"TLSCertificateFile {self.dir}/cert.pem\nTLSCertificateKeyFile {self.dir}/cert-key.pem\n"
        schemas = "".join(f"include /etc/ldap/schema/{n}.schema\n" for n in ("core", "cosine", "inetorgperson"))
        self.conf = self.write("slapd.conf", schemas + self.SCHEMA + f"""
modulepath /usr/lib/ldap
moduleload back_mdb
{tls}allow bind_v2
sasl-secprops none
sasl-host localhost
authz-regexp "^uid=([^,]*),.*cn=auth$" "cn=$1,dc=example,dc=org"
pidfile {self.dir}/pid
access to attrs=userPassword by anonymous auth
access to dn.subtree="ou=locked,dc=example,dc=org" by dn.exact="cn=hub,dc=example,dc=org" read by dn.regex="^gidNumber=.*,cn=peercred,cn=external,cn=auth$" read by * none
access to * by * read
database mdb
suffix "dc=example,dc=org"
maxsize 10485760
directory {self.dir}/data
""")
        data = self.dir / "data"
        data.mkdir()
        if self.owner:
            os.chown(data, self.owner["user"], self.owner["group"])
        head = f"""dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: cn=hub,dc=example,dc=org
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: hub
userPassword: {PASSWORD}

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=locked,dc=example,dc=org
objectClass: organizationalUnit
ou: locked

"""
        self.run(self.add, "-f", str(self.conf), stdin=head + self.ldif)

    def command(self):
        sock = str(self.socket).replace("/", "%2F")
        return [self.daemon, "-d", "0", "-f", str(self.conf), "-h", f"{self.url} ldapi://{sock}"]


class Memcached(Server):
    def programs(self):
        self.daemon = program("/usr/bin/memcached")

    def prepare(self):
        pass

    def command(self):
        return [self.daemon, "-l", "127.0.0.1", "-p", str(self.port), "-m", "8", "-t", "1"]
