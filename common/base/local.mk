noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	common/base/arena.c common/base/arena.h \
	common/base/ascii.c common/base/ascii.h \
	common/base/attrs.h \
	common/base/base64.c common/base/base64.h \
	common/base/buf.c common/base/buf.h common/base/hash.h \
	common/base/bounded.c common/base/bounded.h \
	common/base/clock.c common/base/clock.h \
	common/base/crc32c.c common/base/crc32c.h \
	common/base/err.c common/base/err.h \
	common/base/io.c common/base/io.h \
	common/base/limit.c common/base/limit.h \
	common/base/lock.c common/base/lock.h common/base/locks.def \
	common/base/log.c common/base/log.h \
	common/base/mem.c common/base/mem.h \
	common/base/num.c common/base/num.h \
	common/base/printable.c common/base/printable.h \
	common/base/span.c common/base/span.h \
	common/base/span_set.c common/base/span_set.h
EXTRA_DIST += common/base/README.md

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_base tests/unit/test_log
TESTS += tests/unit/test_base tests/unit/test_log
tests_unit_test_base_SOURCES = tests/unit/test_base.c
tests_unit_test_base_LDADD = libbase.a $(TEST_LIBS)
tests_unit_test_log_SOURCES = tests/unit/test_log.c
tests_unit_test_log_LDADD = libbase.a $(TEST_LIBS)
endif
