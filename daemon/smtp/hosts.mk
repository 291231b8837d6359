# The host search of the SMTP client: a library of its own, because its tests need neither queue nor spool.
noinst_LIBRARIES += libhosts.a
libhosts_a_SOURCES = \
	daemon/smtp/hosts.c daemon/smtp/hosts.h daemon/smtp/hosts_internal.h \
	daemon/smtp/hosts_lookup.c \
	daemon/smtp/hosts_options.c \
	daemon/smtp/hosts_order.c \
	daemon/smtp/hosts_search.c \
	daemon/smtp/hosts_self.c
# What a program that uses libhosts.a must also link: $(DNS_LIBS).

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_hosts
TESTS += tests/unit/test_hosts
tests_unit_test_hosts_SOURCES = tests/unit/test_hosts.c tests/unit/dns_responder.c tests/unit/dns_responder.h
tests_unit_test_hosts_LDADD = libhosts.a libconf.a $(DNS_LIBS) $(DNS_TEST_LIBS)
endif
