noinst_LIBRARIES += libdns.a
libdns_a_SOURCES = \
	common/dns/dns.c common/dns/dns.h common/dns/dns_internal.h \
	common/dns/dns_cache.c common/dns/dns_cache.h \
	common/dns/dns_exchange.c \
	common/dns/dns_name.c \
	common/dns/dns_packet.c \
	common/dns/dns_servers.c
EXTRA_DIST += common/dns/README.md tests/lib/dnsstub.py tests/lib/policyserver.py tests/lib/test_dnsstub.py
TESTS += tests/lib/test_dnsstub.py
# What a program that uses libdns.a must also link.
DNS_LIBS = libdns.a libnet.a libbase.a $(IDN2_LIBS)
# ... and a test with tests/unit/dns_responder, or that makes packets: an implementation that is not ours.
DNS_TEST_LIBS = $(LDNS_LIBS) $(TEST_LIBS)

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_dns_packet tests/unit/test_dns_query
TESTS += tests/unit/test_dns_packet tests/unit/test_dns_query
tests_unit_test_dns_packet_SOURCES = tests/unit/test_dns_packet.c
tests_unit_test_dns_packet_LDADD = $(DNS_LIBS) $(DNS_TEST_LIBS)
tests_unit_test_dns_query_SOURCES = tests/unit/test_dns_query.c tests/unit/dns_responder.c tests/unit/dns_responder.h
tests_unit_test_dns_query_LDADD = $(DNS_LIBS) $(DNS_TEST_LIBS)
endif

if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_dns
tests_fuzz_fuzz_dns_SOURCES = tests/fuzz/fuzz_dns.c
tests_fuzz_fuzz_dns_LDADD = $(DNS_LIBS)
tests_fuzz_fuzz_dns_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif
