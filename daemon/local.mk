noinst_LIBRARIES += libreactor.a
libreactor_a_SOURCES = \
	daemon/deliver.h \
	daemon/reactor.c daemon/reactor.h daemon/reactor_internal.h \
	daemon/sess.h \
	daemon/wheel.c daemon/wheel.h \
	daemon/worker.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_reactor
TESTS += tests/unit/test_reactor
tests_unit_test_reactor_SOURCES = tests/unit/test_reactor.c
tests_unit_test_reactor_LDADD = libreactor.a libnet.a libbase.a $(TEST_LIBS)
endif
