noinst_LIBRARIES += libclient.a
libclient_a_SOURCES = \
	daemon/smtp/command.c \
	daemon/smtp/conn.c daemon/smtp/conn.h \
	daemon/smtp/conn_cache.c daemon/smtp/conn_cache.h \
	daemon/smtp/connect.c \
	daemon/smtp/content.c \
	daemon/smtp/deliver_smtp.c \
	daemon/smtp/hello.c \
	daemon/smtp/outcome.c \
	daemon/smtp/reply.c \
	daemon/smtp/request.h \
	daemon/smtp/transact.c
EXTRA_DIST += daemon/smtp/README.md

if HAVE_CMOCKA
CLIENT_TEST_LIBS = libclient.a libdeliver.a libconf.a libnet.a libmail.a libnet.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
check_PROGRAMS += tests/unit/test_smtp_client
TESTS += tests/unit/test_smtp_client
tests_unit_test_smtp_client_SOURCES = tests/unit/test_smtp_client.c tests/unit/client_fake.c tests/unit/client_fake.h
tests_unit_test_smtp_client_LDADD = $(CLIENT_TEST_LIBS)
endif
