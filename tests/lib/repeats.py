"""Explains each delivery that was made more than once, or says that it cannot.

A hub that is killed repeats a delivery when it could not know of the answer, or could not write it down any more. Which it was
is seen from outside, by evidence: when the answer was sent and when the kill came, how the connection ended (witness.py),
and what the result log held after the kill (resultlog.py). Anything else is a fault.
"""
import bisect
import collections

LATE = "answered when the hub was dead or being killed"
UNREAD = "answered, not yet read by the hub"
# The kernel gave it to a thread. Mostly that thread had not run since, for want of a processor: the time is the run queue's.
UNWRITTEN = "taken from the socket, its result not yet written"
# A hub that had this long should have written the result: more is no explanation. It is the longest that a thread may wait
# for a processor on a machine that has too much to do.
LAG_MAX = 1.0

# Monotonic seconds: before the signal was sent, and when the process was gone; then {(id, rcpt)} logged as sent.
Kill = collections.namedtuple("Kill", "at dead results")


class Repeats:
    def __init__(self, kills):
        self.kills = kills
        self.dead = [k.dead for k in kills]
        self.written = {}  # by which kill
        for i, k in enumerate(kills):
            for r in k.results:
                self.written.setdefault(r, i)
        self.counts = collections.Counter()
        self.lags = collections.defaultdict(list)
        self.unexplained = []
        self.deliveries = 0

    def kill_after(self, a):
        """The kill that ended the hub which got the answer `a`."""
        return bisect.bisect_left(self.dead, a.begun)

    def is_written(self, a, rcpt, kill):
        return self.written.get((a.qid, rcpt), kill + 1) <= kill

    def explain(self, a, rcpt):
        """Why the delivery that was answered by `a` was not the last one: (kind, seconds from answer to kill), or None."""
        i = self.kill_after(a)
        if i == len(self.kills) or self.is_written(a, rcpt, i):
            return None
        lag = self.kills[i].at - a.at
        if a.end == "gone" or (lag <= 0 and a.end in ("unread", "closed")):
            return LATE, 0.0
        kind = {"unread": UNREAD, "closed": UNWRITTEN}.get(a.end)
        return (kind, lag) if kind and lag < LAG_MAX else None

    def add(self, place, rcpt, answers):
        """`answers` of one next hop, which was recipient `rcpt` of every message. Returns them by message."""
        of = collections.defaultdict(list)
        for a in answers:
            of[a.number].append(a)
        self.deliveries += len(of)
        for several in of.values():
            for a in several[:-1]:
                why = self.explain(a, rcpt)
                if why is None:
                    self.unexplained.append(self.tell(place, rcpt, a, several[-1]))
                    continue
                self.counts[place, why[0]] += 1
                self.lags[why[0]].append(why[1])
        return of

    def tell(self, place, rcpt, a, last):
        i = self.kill_after(a)
        kill = f"killed {1e3 * (self.kills[i].at - a.at):.3f} ms later" if i < len(self.kills) else "not killed afterwards"
        logged = "its result was logged" if self.is_written(a, rcpt, i) else "no result was logged"
        return (f"{place}: message {a.number} ({a.qid:X}) answered, {kill}, connection: {a.end}, {logged};"
                f" answered again {last.at - a.at:.3f} s later")

    @property
    def answered(self):
        """Repeated though the hub lived when they were answered."""
        return sum(n for (_, kind), n in self.counts.items() if kind != LATE) + len(self.unexplained)

    def summary(self):
        lines = [f"  {place}: {n} {kind}" for (place, kind), n in sorted(self.counts.items())]
        for kind in (UNREAD, UNWRITTEN):
            if lags := sorted(self.lags[kind]):
                lines.append(f"  {kind}: from answer to kill median {1e3 * lags[len(lags) // 2]:.3f} ms,"
                             f" longest {1e3 * lags[-1]:.3f} ms")
        lines.append(f"  repeated though answered before the kill: {self.answered} of {self.deliveries}"
                     f" ({100 * self.answered / max(1, self.deliveries):.3f} %, {self.answered / max(1, len(self.kills)):.3f} a kill),"
                     f" {len(self.unexplained)} unexplained")
        return "\n".join(lines)
