"""A policy server (SMTPD_POLICY_README) for scenarios: answers by a function, remembers what it was asked.

    with PolicyServer(lambda request: "DUNNO") as server:      # server.address is "inet:127.0.0.1:PORT"
        server.requests      # [{"request": "smtpd_access_policy", "protocol_state": "RCPT", ...}, ...] in order
        server.connections   # how many were accepted
The function may return None: the server closes the connection without an answer; or bytes: sent as they are. Bytes of a kind: Hangup,
the connection ends behind them; Stay, it does not, even if there are none; Trickle(bytes, event), one at a time until the event.
"""
from threadserver import ThreadServer


class Hangup(bytes):
    pass


class Stay(bytes):
    pass


class Trickle(bytes):
    def __new__(cls, data, event):
        self = super().__new__(cls, data)
        self.event = event
        return self


class PolicyServer(ThreadServer):
    def __init__(self, answer=lambda request: "DUNNO", path=None):
        self.answer, self.requests = answer, []
        super().__init__(path)
        self.address = self.place

    def reply(self, lines):
        request = {}
        for line in lines:
            if line == b"\n":
                break
            name, _, value = line.decode().rstrip("\n").partition("=")
            request[name] = value
        else:
            return None
        with self.lock:
            self.requests.append(request)
        answer = self.answer(request)
        return answer if answer is None or isinstance(answer, bytes) else f"action={answer}\n\n".encode()

    def serve(self, conn):
        try:
            with conn, conn.makefile("rb") as f:
                while (reply := self.reply(f)) is not None and (reply or isinstance(reply, Stay)):
                    if isinstance(reply, Trickle):
                        for i in range(len(reply)):
                            conn.sendall(reply[i:i + 1])
                            reply.event.wait(0.2)
                    else:
                        conn.sendall(reply)
                    if isinstance(reply, Hangup):
                        return
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.discard(conn)
