noinst_LIBRARIES += libspool.a
libspool_a_SOURCES = \
	queue/check.c queue/check.h queue/check_files.c queue/check_index.c queue/check_internal.h \
	queue/checkpoint.c queue/compact.c \
	queue/content.c queue/content.h queue/content_view.c queue/commit.c queue/copy.c queue/copy.h \
	queue/index.c queue/index.h queue/index_fetch.c queue/index_flush.c queue/index_internal.h queue/index_trash.c queue/index_sql.def \
	queue/journal_append.c queue/journal_commit.c queue/journal_flights.c queue/journal_internal.h queue/journal_replay.c \
	queue/keeper.c \
	queue/logfile.c queue/logfile.h \
	queue/msg.c queue/msg.h \
	queue/qid.c queue/qid.h \
	queue/query.c queue/query.h queue/query_internal.h queue/query_overlay.c \
	queue/reason_class.c queue/reason_class.h \
	queue/rebuild.c \
	queue/record.c queue/record.h \
	queue/recover.c queue/recover.h \
	queue/result_log.c \
	queue/select.c queue/select.h \
	queue/segment.c queue/segment.h queue/segment_file.c \
	queue/trouble.c \
	queue/spool.c queue/spool.h queue/spool_internal.h \
	queue/spool_io.c queue/spool_io.h
LIBS_SPOOL = libspool.a $(SQLITE_LIBS)

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_index tests/unit/test_journal tests/unit/test_journal_flights tests/unit/test_qid tests/unit/test_query tests/unit/test_rebuild tests/unit/test_record tests/unit/test_select tests/unit/test_spool tests/unit/test_together
TESTS += tests/unit/test_index tests/unit/test_journal tests/unit/test_journal_flights tests/unit/test_qid tests/unit/test_query tests/unit/test_rebuild tests/unit/test_record tests/unit/test_select tests/unit/test_spool tests/unit/test_together
tests_unit_test_index_SOURCES = tests/unit/test_index.c tests/unit/spool_fixture.h
tests_unit_test_index_LDADD = $(LIBS_SPOOL) libbase.a $(TEST_LIBS)
tests_unit_test_journal_SOURCES = tests/unit/test_journal.c tests/unit/spool_fixture.h tests/unit/spool_shim.h
tests_unit_test_journal_LDADD = $(LIBS_SPOOL) libbase.a $(TEST_LIBS)
tests_unit_test_journal_flights_SOURCES = tests/unit/test_journal_flights.c tests/unit/spool_fixture.h tests/unit/spool_shim.h
tests_unit_test_journal_flights_LDADD = $(LIBS_SPOOL) libbase.a $(TEST_LIBS)
tests_unit_test_together_SOURCES = tests/unit/test_together.c tests/unit/spool_fixture.h tests/unit/spool_shim.h
tests_unit_test_together_LDADD = $(LIBS_SPOOL) libbase.a $(TEST_LIBS)
tests_unit_test_qid_SOURCES = tests/unit/test_qid.c
tests_unit_test_qid_LDADD = libspool.a libbase.a $(TEST_LIBS)
tests_unit_test_query_SOURCES = tests/unit/test_query.c tests/unit/spool_fixture.h
tests_unit_test_query_LDADD = $(LIBS_SPOOL) libbase.a $(TEST_LIBS)
tests_unit_test_rebuild_SOURCES = tests/unit/test_rebuild.c tests/unit/spool_fixture.h
tests_unit_test_rebuild_LDADD = $(LIBS_SPOOL) libbase.a $(TEST_LIBS)
tests_unit_test_record_SOURCES = tests/unit/test_record.c
tests_unit_test_record_LDADD = libspool.a libbase.a $(TEST_LIBS)
tests_unit_test_select_SOURCES = tests/unit/test_select.c tests/unit/select_rows.h
tests_unit_test_select_LDADD = $(LIBS_SPOOL) libbase.a $(TEST_LIBS)
tests_unit_test_spool_SOURCES = tests/unit/test_spool.c tests/unit/spool_fixture.h
tests_unit_test_spool_LDADD = $(LIBS_SPOOL) libbase.a $(TEST_LIBS)
endif

noinst_PROGRAMS += tests/bench/spool_bench
tests_bench_spool_bench_SOURCES = tests/bench/spool_bench.c
tests_bench_spool_bench_LDADD = $(LIBS_SPOOL) libbase.a

if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_journal
tests_fuzz_fuzz_journal_SOURCES = tests/fuzz/fuzz_journal.c
tests_fuzz_fuzz_journal_LDADD = libspool.a libbase.a
tests_fuzz_fuzz_journal_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif

dist_man_MANS += man/posthouse-spool.5 man/posthouse-index.5
