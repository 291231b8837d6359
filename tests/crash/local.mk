# Killed, without power, at every step: the short forms are tests like others, `make crash` runs the long ones.
CRASH = tests/crash/kill9.py tests/crash/large.py tests/crash/steps.py tests/crash/powercut.py
TESTS += $(CRASH)
EXTRA_DIST += $(CRASH) tests/lib/crashload.py tests/lib/witness.py tests/lib/repeats.py tests/lib/resultlog.py \
	tests/lib/loopdisk.py tests/lib/shim_kill.c

CRASH_ENV = POSTHOUSE_BUILD='$(abs_top_builddir)' PYTHONDONTWRITEBYTECODE=1
crash: posthoused posthousectl sendmail
	$(CRASH_ENV) POSTHOUSE_KILLS=1000 python3 $(srcdir)/tests/crash/kill9.py
	$(CRASH_ENV) POSTHOUSE_KILLS=200 python3 $(srcdir)/tests/crash/large.py
	$(CRASH_ENV) POSTHOUSE_STEPS=0 POSTHOUSE_JOBS=4 CC='$(CC)' python3 $(srcdir)/tests/crash/steps.py
	$(CRASH_ENV) POSTHOUSE_CUTS=100 python3 $(srcdir)/tests/crash/powercut.py
.PHONY: crash
