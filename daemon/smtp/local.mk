noinst_LIBRARIES += libclient.a
libclient_a_SOURCES = \
	daemon/smtp/command.c \
	daemon/smtp/conn.c daemon/smtp/conn.h \
	daemon/smtp/conn_cache.c daemon/smtp/conn_cache.h \
	daemon/smtp/connect.c \
	daemon/smtp/content.c \
	daemon/smtp/deliver_smtp.c \
	daemon/smtp/downgrade.c daemon/smtp/downgrade.h \
	daemon/smtp/hello.c \
	daemon/smtp/inspect.c daemon/smtp/inspect.h \
	daemon/smtp/notify.c \
	daemon/smtp/outcome.c \
	daemon/smtp/reply.c \
	daemon/smtp/request.h \
	daemon/smtp/transact.c
EXTRA_DIST += daemon/smtp/README.md

if HAVE_CMOCKA
CLIENT_TEST_LIBS = libdeliver.a libclient.a libdeliver.a libhosts.a libsched.a libpolicy.a libtable.a libconf.a libdns.a libmail.a libnet.a libbase.a $(PCRE2_LIBS) \
	$(LDNS_LIBS) $(IDN2_LIBS) $(TEST_LIBS)
check_PROGRAMS += tests/unit/test_downgrade tests/unit/test_smtp_client tests/unit/test_smtp_client_hosts
TESTS += tests/unit/test_downgrade tests/unit/test_smtp_client tests/unit/test_smtp_client_hosts
tests_unit_test_downgrade_SOURCES = tests/unit/test_downgrade.c
tests_unit_test_downgrade_LDADD = libclient.a libmail.a libnet.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
tests_unit_test_smtp_client_hosts_SOURCES = tests/unit/test_smtp_client_hosts.c tests/unit/client_fake.c tests/unit/client_fake.h \
	tests/unit/dns_responder.c tests/unit/dns_responder.h
tests_unit_test_smtp_client_hosts_LDADD = $(CLIENT_TEST_LIBS) $(LDNS_LIBS)
tests_unit_test_smtp_client_SOURCES = tests/unit/test_smtp_client.c tests/unit/client_fake.c tests/unit/client_fake.h
tests_unit_test_smtp_client_LDADD = $(CLIENT_TEST_LIBS)
endif

if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_mime
tests_fuzz_fuzz_mime_SOURCES = tests/fuzz/fuzz_mime.c
tests_fuzz_fuzz_mime_LDADD = libclient.a libmail.a libnet.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_mime_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif
