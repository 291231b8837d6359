#!/usr/bin/env python3
"""Tables on servers behind the routing of queued mail: one that does not answer holds up neither other mail nor commands nor the stop."""
import os
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from tableserver import TableServer

MAIL = b"Subject: s\r\n\r\nhi\r\n"
SLOW = [f"u{i}@slow.example" for i in range(8)]
QUICK = [f"user@quick{i}.example" for i in range(4)]


class Gate:
    """The answers for slow.example and what is below it wait until it is open."""

    def __init__(self, answer=None):
        self.answer = answer
        self.event = threading.Event()
        self.event.set()
        self.waiting = 0

    def __call__(self, key):
        if "slow" in key:
            self.waiting += not self.event.is_set()
            self.event.wait(60)
            return self.answer
        return None


def hub_for(server, parameter="transport_maps"):
    lists = {"virtual_mailbox_domains": "quick0.example quick1.example quick2.example quick3.example"}
    if parameter != "virtual_mailbox_domains":
        lists["virtual_mailbox_domains"] += " slow.example"
    table = f"socketmap:{server.place}:routes"
    lists[parameter] = f"{lists.get(parameter, '')} {table}"
    held = "check_sender_access inline:{{ s@example.org = HOLD }}, permit_mynetworks, reject"
    return Hub({**lists, "virtual_mailbox_maps": "static:user/", "smtpd_recipient_restrictions": held})


def accept_and_forget_routes(hub, gate):
    """Held mail whose routes are looked up anew at its release."""
    with hub.client() as c:
        for to in SLOW + QUICK:
            c.send_mail("s@example.org", [to], MAIL)
        c.send_mail("s@example.org", [SLOW[0], QUICK[0]], MAIL)
    hub.wait_queue(SLOW + QUICK + [SLOW[0], QUICK[0]])
    hub.reload()
    gate.event.clear()


def test_a_slow_route_holds_up_no_other_mail():
    for parameter in ("transport_maps", "virtual_mailbox_domains", "relocated_maps"):
        gate = Gate("x" if parameter == "virtual_mailbox_domains" else None)
        with TableServer("socketmap", gate) as server, hub_for(server, parameter) as hub:
            accept_and_forget_routes(hub, gate)
            alone = {q["queue_id"] for q in hub.queue() if [r["address"] for r in q["recipients"]][0] in QUICK}
            assert len(alone) == len(QUICK)
            hub.ctl("queue", "release", "ALL")
            # Each by itself; the one beside a slow recipient may have to wait for that one look-up, if it was among the first.
            wait_for("all the others", lambda: set(re.findall(r": (\w+): to=<user@quick\d\.example>.*status=sent", hub.log())) >= alone)
            assert not re.search(r"to=<u\d@slow\.example>.*status=", hub.log())
            wait_for("a question", lambda: gate.waiting > 0)
            with hub.client() as c:  # new mail, too
                c.send_mail("a@example.org", [QUICK[1]], MAIL)
            hub.wait_log(r"to=<user@quick1\.example>.*status=sent", 2)
            held = next(q for q in hub.queue() if q["recipients"][0]["address"] == SLOW[-1])
            begin = time.monotonic()
            hub.ctl("queue", "hold", held["queue_id"])  # asks the scheduler's thread
            hub.ctl("queue", "sql", "SELECT count(*) FROM messages")
            assert time.monotonic() - begin < 45, "commands wait for the table"
            gate.event.set()
            hub.wait_log(r"to=<u\d@slow\.example>.*status=sent", len(SLOW))
            hub.ctl("queue", "release", held["queue_id"])
            hub.wait_log(r"to=<u\d@slow\.example>.*status=sent", len(SLOW) + 1)
            wait_for("an empty queue", lambda: hub.queue() == [])


def test_the_stop_does_not_wait_for_the_table():
    gate = Gate()
    with TableServer("socketmap", gate) as server, hub_for(server) as hub:
        accept_and_forget_routes(hub, gate)
        hub.ctl("queue", "release", "ALL")
        wait_for("a question", lambda: gate.waiting > 0)
        begin = time.monotonic()
        hub.stop()
        assert time.monotonic() - begin < 30
        gate.event.set()
        hub.start()
        hub.wait_log(r"status=sent", len(SLOW) + len(QUICK) + 2)  # none lost, none twice
        wait_for("an empty queue", lambda: hub.queue() == [])
        assert hub.log().count("status=sent") == len(SLOW) + len(QUICK) + 2


if __name__ == "__main__":
    cases.main(globals())
