# Killed, without power, at every step: the short forms are tests like others, `make crash` runs the long ones.
CRASH = tests/crash/kill9.py tests/crash/large.py tests/crash/lists.py tests/crash/steps.py tests/crash/powercut.py
TESTS += $(CRASH) tests/lib/test_repeats.py
EXTRA_DIST += $(CRASH) tests/crash/long tests/lib/crashload.py tests/lib/witness.py tests/lib/repeats.py \
	tests/lib/resultlog.py tests/lib/loopdisk.py tests/lib/shim_kill.c tests/lib/test_repeats.py

crash: posthoused posthousectl sendmail
	POSTHOUSE_BUILD='$(abs_top_builddir)' PYTHONDONTWRITEBYTECODE=1 CC='$(CC)' $(srcdir)/tests/crash/long
.PHONY: crash
