"""Runs the test_* functions of a scenario file and prints what ./run-tests counts.

    if __name__ == "__main__":
        cases.main(globals())

Arguments select cases by name. Exit status: 0 all passed, 1 a case failed, 77 everything was skipped.
"""
import sys
import time
import traceback


class Skip(Exception):
    """Raised by a case that cannot run here; says why."""


def main(names):
    wanted = sys.argv[1:]
    cases = [(n, f) for n, f in names.items() if n.startswith("test_") and callable(f)]
    if wanted:
        cases = [(n, f) for n, f in cases if any(w in n for w in wanted)]
    passed, failed, skipped = [], [], []
    for name, run in cases:
        begin = time.monotonic()
        print(f"[ RUN      ] {name}", flush=True)
        try:
            run()
        except Skip as why:
            skipped.append(name)
            print(f"[  SKIPPED ] {name}: {why}", flush=True)
            continue
        except BaseException:  # an interrupt too: the summary must still be printed
            failed.append(name)
            traceback.print_exc(file=sys.stdout)
            print(f"[  FAILED  ] {name}", flush=True)
            continue
        passed.append(name)
        print(f"[       OK ] {name} ({time.monotonic() - begin:.1f} s)", flush=True)
    print(f"[  PASSED  ] {len(passed)} test(s).")
    if skipped:
        print(f"[  SKIPPED ] {len(skipped)} test(s).")
    if failed:
        print(f"[  FAILED  ] {len(failed)} test(s), listed below: {' '.join(failed)}")
    sys.exit(1 if failed else 77 if not passed and skipped else 0)
