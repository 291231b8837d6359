noinst_LIBRARIES += libsched.a
libsched_a_SOURCES = \
	queue/bounce.c queue/bounce.h \
	queue/dsn.c queue/dsn.h \
	queue/notice.c queue/notice.h \
	queue/own_address.c queue/own_mail.c queue/own_mail.h queue/own_rcpts.c queue/own_rcpts.h \
	queue/own_content.c queue/own_content.h queue/own_policy.h \
	queue/concurrency.c queue/concurrency.h \
	queue/rates.c queue/rates.h \
	queue/retry.c queue/retry.h \
	queue/sched.c queue/sched.h queue/sched_internal.h \
	queue/sched_admin.c \
	queue/sched_cmd.c \
	queue/sched_heap.c queue/sched_heap.h \
	queue/sched_index.c \
	queue/sched_job.c \
	queue/sched_log.c \
	queue/sched_msg.c \
	queue/pauses.c queue/pauses.h \
	queue/sched_notify.c \
	queue/sched_pause.c \
	queue/sched_park.c \
	queue/sched_queue.c \
	queue/sched_route.c \
	queue/sched_router.c \
	queue/sched_thread.c \
	queue/sched_trash.c \
	queue/sched_why.c
# What a program that schedules links, before libspool.a, libmail.a and libconf.a.
LIBS_SCHED = libsched.a -lm

if HAVE_CMOCKA
SCHED_TESTS = \
	tests/unit/test_bounce \
	tests/unit/test_concurrency \
	tests/unit/test_retry \
	tests/unit/test_sched_basic \
	tests/unit/test_sched_change \
	tests/unit/test_sched_cmd \
	tests/unit/test_sched_index \
	tests/unit/test_sched_params \
	tests/unit/test_sched_park \
	tests/unit/test_sched_queue \
	tests/unit/test_sched_retry \
	tests/unit/test_sched_router \
	tests/unit/test_sched_spool \
	tests/unit/test_sched_threads \
	tests/unit/test_stats
check_PROGRAMS += $(SCHED_TESTS)
TESTS += $(SCHED_TESTS)
SCHED_BENCH = tests/unit/fake_spool.c tests/unit/fake_spool.h tests/unit/sched_bench.c tests/unit/sched_bench.h
SCHED_TEST_LIBS = $(LIBS_SCHED) libconf.a libmail.a libnet.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
tests_unit_test_concurrency_SOURCES = tests/unit/test_concurrency.c
tests_unit_test_concurrency_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_stats_SOURCES = tests/unit/test_stats.c
tests_unit_test_stats_LDADD = libsched.a libspool.a libbase.a $(TEST_LIBS)
tests_unit_test_retry_SOURCES = tests/unit/test_retry.c
tests_unit_test_retry_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_basic_SOURCES = tests/unit/test_sched_basic.c $(SCHED_BENCH)
tests_unit_test_sched_basic_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_park_SOURCES = tests/unit/test_sched_park.c $(SCHED_BENCH)
tests_unit_test_sched_park_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_queue_SOURCES = tests/unit/test_sched_queue.c $(SCHED_BENCH)
tests_unit_test_sched_queue_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_router_SOURCES = tests/unit/test_sched_router.c $(SCHED_BENCH)
tests_unit_test_sched_router_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_threads_SOURCES = tests/unit/test_sched_threads.c $(SCHED_BENCH)
tests_unit_test_sched_threads_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_change_SOURCES = tests/unit/test_sched_change.c $(SCHED_BENCH)
tests_unit_test_sched_change_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_cmd_SOURCES = tests/unit/test_sched_cmd.c $(SCHED_BENCH)
tests_unit_test_sched_cmd_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_index_SOURCES = tests/unit/test_sched_index.c $(SCHED_BENCH)
tests_unit_test_sched_index_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_retry_SOURCES = tests/unit/test_sched_retry.c $(SCHED_BENCH)
tests_unit_test_sched_retry_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_spool_SOURCES = tests/unit/test_sched_spool.c
tests_unit_test_sched_spool_LDADD = $(LIBS_SCHED) $(LIBS_SPOOL) libconf.a libmail.a libnet.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
tests_unit_test_bounce_SOURCES = tests/unit/test_bounce.c $(SCHED_BENCH)
tests_unit_test_bounce_LDADD = $(SCHED_TEST_LIBS)
tests_unit_test_sched_params_SOURCES = tests/unit/test_sched_params.c $(SCHED_BENCH)
tests_unit_test_sched_params_LDADD = $(SCHED_TEST_LIBS)
endif
