noinst_LIBRARIES += libdeliver.a
libdeliver_a_SOURCES = \
	daemon/deliver/agent.c \
	daemon/deliver/dsn_text.c daemon/deliver/dsn_text.h \
	daemon/deliver/error.c \
	daemon/deliver/maildir.c daemon/deliver/maildir.h daemon/deliver/maildir_seen.c daemon/deliver/maildir_seen.h \
	daemon/deliver/pool.c \
	daemon/deliver/tables.c daemon/deliver/tables.h \
	daemon/deliver/trace_headers.c daemon/deliver/trace_headers.h \
	daemon/deliver/virtual.c
EXTRA_DIST += daemon/deliver/README.md

if HAVE_CMOCKA
DELIVER_TEST_SOURCES = tests/unit/client_fake.c tests/unit/client_fake.h
check_PROGRAMS += tests/unit/test_deliver_pool tests/unit/test_virtual
TESTS += tests/unit/test_deliver_pool tests/unit/test_virtual
tests_unit_test_deliver_pool_SOURCES = tests/unit/test_deliver_pool.c $(DELIVER_TEST_SOURCES)
tests_unit_test_deliver_pool_LDADD = $(CLIENT_TEST_LIBS)
tests_unit_test_virtual_SOURCES = tests/unit/test_virtual.c $(DELIVER_TEST_SOURCES)
tests_unit_test_virtual_LDADD = $(CLIENT_TEST_LIBS)
endif
