# Hostile clients beside normal traffic: the short form belongs to `make check`, `make hostile` is the long one.
TESTS += tests/hostile/hostile.py
EXTRA_DIST += tests/hostile/README.md tests/hostile/attacks.py tests/hostile/hostile.py tests/hostile/machine.py tests/hostile/trickle.py

.PHONY: hostile
hostile: all
	POSTHOUSE_BUILD='$(abs_top_builddir)' POSTHOUSE_HOSTILE=long python3 $(srcdir)/tests/hostile/hostile.py
