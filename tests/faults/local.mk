# The n-th call fails: a sample in `make check`, every n with `make faults` (three quarters of an hour on two cores).
FAULTS = tests/faults/nth.py tests/scenarios/faults_spool.py tests/scenarios/faults_around.py
TESTS += $(FAULTS)
EXTRA_DIST += $(FAULTS) tests/faults/faults.py tests/faults/shim_faults.c tests/faults/README.md tests/faults/uses.py

.PHONY: faults
faults: all
	POSTHOUSE_BUILD='$(abs_top_builddir)' PYTHONDONTWRITEBYTECODE=1 python3 $(srcdir)/tests/faults/nth.py --long
	POSTHOUSE_BUILD='$(abs_top_builddir)' PYTHONDONTWRITEBYTECODE=1 python3 $(srcdir)/tests/faults/uses.py
