#!/usr/bin/env python3
"""Random configurations and dialogues against Postfix and Posthouse: see README.md.

    run --seed N [--count M] --reference ROOT      M worlds from seed N on
    run --case FILE --reference ROOT               one world that was saved, its talks printed in full
"""
import argparse
import json
import os
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib"), str(HERE.parent / "bench"), str(HERE.parent / "golden")]
import addresses
import compare
import golden
import pair
import play
import policy
import shrink
import words
from dnsstub import DnsStub


def only(a, b):
    return [x for x in a if a.count(x) > b.count(x)]


def play_both(p, n, talk):
    """What differs of one talk, as text lines; the mail comes later."""
    notes, logs, texts = [], [], []
    for side in p.sides:
        got, text = play.play(side, pair.address(n), talk)
        notes.append(compare.notes(got))
        logs.append(compare.log(text))
        texts.append(text)
    out = []
    for a, b in zip(*notes):
        if a != b:
            out += [f"C: {a[0][:200]}", *(f"  postfix   {x[:200]}" for x in only(a[1], b[1]) or a[1]), *(f"  posthouse {x[:200]}" for x in only(b[1], a[1]) or b[1])]
            out += [f"    # {h}" for t in texts for h in compare.hints(t)]
            break
    if not out and logs[0] != logs[1]:
        out += ["log"] + [f"  postfix   {x[:300]}" for x in only(*logs)] + [f"  posthouse {x[:300]}" for x in only(*reversed(logs))]
    return out, notes


def drained(p, limit_s=12):
    """Until no mail has come to either next hop for a moment."""
    end, last, since = time.monotonic() + limit_s, None, time.monotonic()
    while time.monotonic() < end:
        now = [len(s.sink.mails) for s in p.sides]
        if now != last:
            last, since = now, time.monotonic()
        if time.monotonic() - since > (0.7 if now[0] == now[1] else 2.5):
            return
        time.sleep(0.05)


def mail_differences(p):
    """By talk: what arrived at one next hop only."""
    sets = []
    for s in p.sides:
        got = {}
        for m in s.sink.mails:
            got.setdefault(compare.mark(m["data"]), []).append(compare.mail(m))
        sets.append(got)
    out = {}
    for mark in set(sets[0]) | set(sets[1]):
        if mark is None:
            continue
        a, b = sets[0].get(mark, []), sets[1].get(mark, [])
        only_a, only_b = [x for x in only(a, b) if not is_notice(x)], [x for x in only(b, a) if not is_notice(x)]
        if only_a or only_b:
            out[mark] = describe(only_a, only_b)
    return out


def is_notice(x):
    return x[0] == "" and b"multipart/report" in x[3]


def describe(only_a, only_b):
    if len(only_a) == 1 and len(only_b) == 1:
        out = ["mail"]
        for x, y in zip(only_a[0], only_b[0]):
            if x != y:
                if isinstance(x, bytes):
                    xs, ys = x.split(b"\r\n"), y.split(b"\r\n")
                    x, y = [t[:200] for t in xs if t not in ys] or xs[:12], [t[:200] for t in ys if t not in xs] or ys[:12]
                out += [f"  postfix   {str(x)[:600]}", f"  posthouse {str(y)[:600]}"]
        return out
    return ["mail"] + [f"  postfix   {str(x[:3])[:200]} {x[3][:300]}" for x in only_a] + [f"  posthouse {str(x[:3])[:200]} {x[3][:300]}" for x in only_b]


def run_world(world, args, found):
    with pair.Pair(world, args.reference, args.build, args.keep) as p:
        for n, l in enumerate(world["listeners"]):
            for i, talk in enumerate(l["talks"]):
                out, notes = play_both(p, n, talk)
                if out and notes[0][-1][1] == ["TIMEOUT"] and notes[0][-1][0] == "connect":
                    print(f"seed {args.now} listener {n}: Postfix does not serve:", *(l for l in p.postfix.log().splitlines()[-6:] if "fatal" in l))
                    break
                if args.case and not args.quiet:
                    show(notes)
                if out and tuple(shrink.kind(out)) in args.seen:
                    args.again += 1
                elif out:
                    args.seen.add(tuple(shrink.kind(out)))
                    small = talk if args.case else shrink.talk(talk, lambda t: play_both(p, n, t)[0], out)
                    found.append((n, i, small, play_both(p, n, small)[0] or out))
        drained(p)
        for mark, out in mail_differences(p).items():
            n, i = (int(x) for x in mark.split("-")[1:3])
            if 0 <= n < len(world["listeners"]):
                found.append((n, i, None, out))
        if args.log:
            for s in p.sides:
                print("----", s.name)
                print(s.log())


def show(notes):
    for k in range(max(len(x) for x in notes)):
        a, b = [x[k] if k < len(x) else ("-", ["-"]) for x in notes]
        print("C:", a[0][:300])
        if a == b:
            print("\n".join("      " + x for x in a[1]))
        else:
            print("\n".join(["  PF: " + x for x in a[1]] + ["  PH: " + x for x in b[1]]))


def report(world, seed, found, args):
    if found and args.verbose:
        print("main:", json.dumps(brief(world)["main"]))
    for n, i, small, out in found:
        l = world["listeners"][n]
        print(f"\n#### seed {seed} listener {n} talk {i}")
        print("\n".join(out))
        if args.verbose:
            print("set:", json.dumps(l["set"])[:700])
        if small:
            print("client:", " ".join(small["client"]))
            for s in small["steps"]:
                print("   ", json.dumps(s)[:250])
    sys.stdout.flush()


def save(world, seed, found, directory):
    """Each differing talk as a world of its own, to be played again with --case."""
    for n, i, small, _ in found:
        l = world["listeners"][n]
        talk = small or l["talks"][i]
        case = dict(world, listeners=[dict(l, talks=[talk])])
        pathlib.Path(directory, f"{seed}-{n}-{i}{'' if small else '-mail'}.json").write_text(json.dumps(case, indent=1))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--reference", default=os.environ.get("POSTFIX_ROOT", "/"))
    p.add_argument("--build", default=os.environ.get("POSTHOUSE_BUILD", "."))
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=1)
    p.add_argument("--listeners", type=int, default=10)
    p.add_argument("--talks", type=int, default=6)
    p.add_argument("--plain", action="store_true", help="no odd addresses and parameters")
    p.add_argument("--save", metavar="DIR")
    p.add_argument("--case", metavar="FILE", action="append", default=[])
    p.add_argument("--shrink", action="store_true", help="with --case: also try without each setting")
    p.add_argument("--log", action="store_true")
    p.add_argument("--keep", action="store_true")
    p.add_argument("--verbose", action="store_true", help="with each difference the listener's settings")
    p.add_argument("--quiet", action="store_true")
    args = p.parse_args()
    golden.own_network(args.reference)
    addresses.PLAIN = args.plain
    worlds = [(f, json.loads(pathlib.Path(f).read_text())) for f in args.case] or \
        [(s, None) for s in range(args.seed, args.seed + args.count)]
    total, args.seen, args.again = 0, set(), 0
    with DnsStub(words.zone(), port=53):
        for seed, world in worlds:
            begin, found, args.now = time.monotonic(), [], seed
            world = world or policy.world(random.Random(seed), seed, args.listeners, args.talks)
            if args.shrink:
                world = shrink.world(world, lambda w: differs(w, args))
                print(json.dumps(brief(world), indent=1))
            try:
                run_world(world, args, found)
            except RuntimeError as e:
                print(f"\n#### seed {seed}: {e}", flush=True)
            report(world, seed, found, args)
            if args.save:
                save(world, seed, found, args.save)
            total += len(found)
            print(f"seed {seed}: {sum(len(l['talks']) for l in world['listeners'])} talks, {len(found)} differ, {args.again} like earlier ones ({time.monotonic() - begin:.1f} s)", flush=True)
    sys.exit(1 if total else 0)


def brief(world):
    import settings
    main = {k: v for k, v in world["main"].items() if settings.BASE.get(k) != v}
    text = json.dumps(main) + json.dumps([l["set"] for l in world["listeners"]])
    return {"main": main, "set": [l["set"] for l in world["listeners"]], "files": {k: v for k, v in world["files"].items() if "/" + k in text}}


def differs(world, args):
    found = []
    try:
        run_world(world, argparse.Namespace(**dict(vars(args), case=["x"], quiet=True, log=False, keep=False)), found)
    except RuntimeError:
        return ["start"] if "start" in str(world.get("want", "")) else []
    return found[0][3] if found else []


if __name__ == "__main__":
    main()
