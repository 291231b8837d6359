"""Both servers with one world, each with its own directory, next hop and port; a network namespace keeps their addresses and resolver apart."""
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "lib"), str(HERE.parent / "bench"), str(HERE.parent / "golden")]
import guard
import servers
from sink import Sink

KEYWORDS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8")
COMPILED = ("hash", "btree", "lmdb", "cdb")


def address(n):
    return f"127.0.{1 + n // 200}.{1 + n % 200}"


class Side:
    """One server: fill() what the world leaves open, start, stop, read the log."""

    def __init__(self, world, top, name, port):
        self.world, self.name, self.port = world, name, port
        self.dir = pathlib.Path(top) / name
        for d in ("", "conf", "spool", "data", "log"):
            (self.dir / d).mkdir(parents=True, exist_ok=True)
        self.sink = Sink(keywords=KEYWORDS)
        self.logfile = self.dir / "log" / "maillog"
        self.proc, self.at = None, 0
        self.owner = servers.first_existing(__import__("pwd").getpwnam, ("postfix", "news", "uucp"), "account")

    def fill(self, text):
        return text.replace("{D}", str(self.dir)).replace("{SINK}", str(self.sink.port))

    def write(self):
        for name, text in self.world["files"].items():
            if text.startswith("sqlite\n"):
                self.database(self.dir / f"{name}.db", self.fill(text))
            else:
                (self.dir / name).write_text(self.fill(text))
        main = dict(self.world["main"], queue_directory=str(self.dir / "spool"), data_directory=str(self.dir / "data"), maillog_file=str(self.logfile), maillog_file_prefixes="/",
                    mail_owner=self.owner.pw_name, syslog_name="mail")
        main.update(self.extra())
        (self.dir / "conf" / "main.cf").write_text("".join(f"{k} = {self.fill(v)}\n" for k, v in main.items()))
        master = ""
        for n, l in enumerate(self.world["listeners"]):
            master += f"{address(n)}:{self.port} inet n - n - - smtpd" + "".join(f" -o {{ {k} = {self.fill(v)} }}" for k, v in l["set"].items()) + "\n"
        (self.dir / "conf" / "master.cf").write_text(master + servers.MASTER_CF.split("\n", 1)[1])
        self.logfile.write_text("")
        for d in ("data", "log", "log/maillog"):
            os.chown(self.dir / d, self.owner.pw_uid, self.owner.pw_gid)

    @staticmethod
    def database(path, text):
        path.unlink(missing_ok=True)
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE t (k TEXT, v TEXT)")
            db.executemany("INSERT INTO t VALUES (?, ?)", [line.split("\t", 1) for line in text.splitlines()[1:]])
        os.chmod(path, 0o644)

    def tables(self):
        """type and file of each compiled table that the world names."""
        text = repr(self.world["main"]) + repr([l["set"] for l in self.world["listeners"]])
        return sorted(set(re.findall(r"\b(hash|btree|lmdb|cdb):\{D\}/(\w+)", text)))

    def spawn(self, guard_, command, env):
        self.guard = guard_
        self.err = open(self.dir / "stderr", "wb")
        self.proc = guard_.popen(command, env=env, stdout=self.err, stderr=self.err)

    def stop(self):
        if self.proc is None:
            return
        members = lambda: [p for p in servers.measure.group_members(self.proc.pid) if p != self.proc.pid]
        self.proc.terminate()
        try:
            self.proc.wait(20)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        servers.wait_for(lambda: not members(), 5)
        for pid in members():
            os.kill(pid, 9)
        self.guard.forget(self.proc)
        self.proc = None
        self.sink.close()

    def log(self):
        return self.logfile.read_text(errors="replace")

    def errors(self):
        return (self.dir / "stderr").read_text(errors="replace")


class Postfix(Side):
    def extra(self):
        root, group = self.root, servers.first_existing(__import__("grp").getgrnam, ("postdrop", "operator", "staff"), "group")
        self.gid = group.gr_gid
        return dict(setgid_group=group.gr_name, default_privs="nobody", command_directory=f"{root}/usr/sbin", daemon_directory=f"{root}/usr/lib/postfix/sbin", shlib_directory=f"{root}/usr/lib/postfix",
                    meta_directory=str(self.dir / "conf"), import_environment="MAIL_CONFIG MAIL_LOGTAG TZ LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME LD_LIBRARY_PATH")

    def start(self, guard_, root):
        self.root = root
        self.write()
        (self.dir / "conf" / "dynamicmaps.cf").write_text("".join(f"{t}\tpostfix-{t}.so\tdict_{t}_open" + (f"\tmkmap_{t}_open\n" if t in ("cdb", "lmdb") else "\n") for t in ("cdb", "lmdb", "pcre", "sqlite")))
        for name in "active bounce corrupt defer deferred flush hold incoming private saved trace pid maildrop public".split():
            d = self.dir / "spool" / name
            d.mkdir(exist_ok=True)
            os.chown(d, 0 if name == "pid" else self.owner.pw_uid, self.gid if name in ("maildrop", "public") else 0)
            d.chmod({"maildrop": 0o730, "public": 0o710, "pid": 0o755}.get(name, 0o700))
        env = servers.package_environment(root)
        for kind, name in self.tables():
            subprocess.run([f"{root}/usr/sbin/postmap", "-c", str(self.dir / "conf"), f"{kind}:{self.dir}/{name}"], env=env, capture_output=True, timeout=20)
        self.spawn(guard_, [f"{root}/usr/lib/postfix/sbin/master", "-d", "-c", str(self.dir / "conf")], env)
        if not servers.wait_for(lambda: "daemon started" in self.log() or self.proc.poll() is not None, 20) or self.proc.poll() is not None:
            raise RuntimeError("Postfix: " + self.errors() + self.log()[-2000:])


class Posthouse(Side):
    def extra(self):
        return dict(dns_resolver_addresses="127.0.0.1:53", dns_timeout="2s", table_module_directory=str(self.build / "modules"), queue_minfree="0")

    def start(self, guard_, build, other):
        self.build = pathlib.Path(build).resolve()
        self.write()
        os.chown(self.dir / "spool", self.owner.pw_uid, self.owner.pw_gid)
        for kind, name in self.tables():  # what postmap made for the other is read as it is
            for made in other.dir.glob(f"{name}.*"):
                if made.suffix in (".lmdb", ".cdb", ".db"):
                    shutil.copy(made, self.dir / made.name)
                    os.chmod(self.dir / made.name, 0o644)
        self.spawn(guard_, [str(self.build / "posthoused"), "-c", str(self.dir / "conf"), "-f"], dict(os.environ))
        n = len(self.world["listeners"])
        if not servers.wait_for(lambda: self.log().count("listening on") >= n or self.proc.poll() is not None, 20) or self.proc.poll() is not None:
            raise RuntimeError("Posthouse: " + self.errors() + self.log()[-2000:])


class Pair:
    def __init__(self, world, root, build, keep=False):
        self.world, self.root, self.build, self.keep = world, root, build, keep

    def __enter__(self):
        self.top = tempfile.mkdtemp(prefix="differ-")
        os.chmod(self.top, 0o755)
        self.guard = guard.Guard(None if self.keep else self.top)
        self.postfix = Postfix(self.world, self.top, "postfix", 2525)
        self.posthouse = Posthouse(self.world, self.top, "posthouse", 2526)
        self.sides = [self.postfix, self.posthouse]
        try:
            self.postfix.start(self.guard, self.root)
            self.posthouse.start(self.guard, self.build, self.postfix)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for s in self.sides:
            s.stop()
        self.guard.close()
        if not self.keep:
            shutil.rmtree(self.top, ignore_errors=True)
        else:
            print("kept:", self.top)
