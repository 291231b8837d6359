"""A policy server (SMTPD_POLICY_README) for scenarios: answers by a function, remembers what it was asked.

    with PolicyServer(lambda request: "DUNNO") as server:      # server.address is "inet:127.0.0.1:PORT"
        server.requests      # [{"request": "smtpd_access_policy", "protocol_state": "RCPT", ...}, ...] in order
        server.connections   # how many were accepted
The function may return None: the server closes the connection without an answer; or bytes: sent as they are.
"""
import os
import socket
import threading


class PolicyServer:
    def __init__(self, answer=lambda request: "DUNNO", path=None):
        self.answer, self.path = answer, path
        self.requests, self.connections = [], 0
        self.lock = threading.Lock()
        if path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(str(path))
            os.chmod(path, 0o666)
        else:
            self.sock = socket.socket()
            self.sock.bind(("127.0.0.1", 0))
            self.port = self.sock.getsockname()[1]
            self.address = f"inet:127.0.0.1:{self.port}"
        self.sock.listen(50)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(5)

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        with conn, conn.makefile("rb") as lines:
            while True:
                request = {}
                try:
                    for line in lines:
                        if line == b"\n":
                            break
                        name, _, value = line.decode().rstrip("\n").partition("=")
                        request[name] = value
                    else:
                        return
                except ConnectionError:
                    return
                with self.lock:
                    self.requests.append(request)
                answer = self.answer(request)
                if answer is None:
                    return
                try:
                    conn.sendall(answer if isinstance(answer, bytes) else f"action={answer}\n\n".encode())
                except OSError:
                    return
