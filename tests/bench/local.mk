# The benchmark is run by hand (README.md); its own check is part of `make check`.
dist_check_SCRIPTS += tests/bench/test_measure.py
TESTS += tests/bench/test_measure.py
EXTRA_DIST += tests/bench/README.md tests/bench/run tests/bench/instructions tests/bench/policy tests/bench/scale tests/bench/disk.py \
	tests/bench/guard.py tests/bench/load.py tests/bench/measure.py tests/bench/servers.py
