"""Makes a differing case small: leaves out whatever leaves the difference standing."""
import copy
import json
import re
import time

BUDGET_S = 3


def kind(out):
    """What stays when a case shrinks: the two answers' codes, or the first words of the log lines."""
    return [re.sub(r"[^A-Za-z ]", "", line)[:60] if line.startswith("  ") else line.split(":")[0] for line in out[:4]]


def talk(whole, differences, first):
    want, end = kind(first), time.monotonic() + BUDGET_S
    small = json.loads(json.dumps(whole).replace("Talk: s", "Talk: z").replace("end s", "end z"))  # its mail is not compared
    i = len(small["steps"]) - 1
    while i >= 0 and time.monotonic() < end:
        less = dict(small, steps=small["steps"][:i] + small["steps"][i + 1:])
        if kind(differences(less)) == want:
            small = less
        elif len(small["steps"][i]) > 1:
            for j in range(len(small["steps"][i]) - 1, -1, -1):
                step = small["steps"][i][:j] + small["steps"][i][j + 1:]
                less = dict(small, steps=small["steps"][:i] + [step] + small["steps"][i + 1:])
                if step and kind(differences(less)) == want:
                    small = less
        i -= 1
    return small


def world(whole, differences):
    """Without each setting in turn; a run of both servers each, so for one case at a time."""
    import settings
    want = kind(differences(whole))
    small = copy.deepcopy(whole)
    for name in [k for k in small["main"] if settings.BASE.get(k) != small["main"][k]]:
        less = copy.deepcopy(small)
        if name in settings.BASE:
            less["main"][name] = settings.BASE[name]
        elif not name.startswith("class") and name != "smtpd_restriction_classes":
            del less["main"][name]
        if kind(differences(less)) == want:
            small = less
    for name in list(small["listeners"][0]["set"]):
        less = copy.deepcopy(small)
        del less["listeners"][0]["set"][name]
        if kind(differences(less)) == want:
            small = less
    return small
