"""A server with a thread a connection, for scenarios; policyserver.py and tableserver.py say what is spoken.

A subclass has reply(file): it reads one request and gives the bytes of the answer; None or b"" ends the connection.
    server.place         # "inet:127.0.0.1:PORT" or "unix:PATH", as main.cf names it
    server.connections   # how many were accepted
stop() ends it and its connections; start() lets it listen again at the same place.
"""
import os
import socket
import threading


class ThreadServer:
    def __init__(self, path=None):
        self.path, self.port, self.connections = path, 0, 0
        self.lock = threading.Lock()
        self.open = set()
        self.start()

    def start(self):
        if self.path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(str(self.path))
            os.chmod(self.path, 0o666)
            self.place = f"unix:{self.path}"
        else:
            self.sock = socket.create_server(("127.0.0.1", self.port))
            self.port = self.sock.getsockname()[1]
            self.place = f"inet:127.0.0.1:{self.port}"
        self.sock.listen(50)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def stop(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(5)
        with self.lock:
            for conn in self.open:
                try:
                    conn.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        except OSError:
            pass  # stopped before

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self.open.add(conn)
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            with conn, conn.makefile("rb") as f:
                while reply := self.reply(f):
                    conn.sendall(reply)
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.discard(conn)
