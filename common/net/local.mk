noinst_LIBRARIES += libnet.a
libnet_a_SOURCES = \
	common/net/dest.c common/net/dest.h \
	common/net/dial.c common/net/dial.h \
	common/net/endpoint.c common/net/endpoint.h \
	common/net/haproxy.c common/net/haproxy.h \
	common/net/ipaddr.c common/net/ipaddr.h \
	common/net/listen.c common/net/listen.h \
	common/net/pool.c common/net/pool.h \
	common/net/stream.c common/net/stream.h
EXTRA_DIST += common/net/README.md

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_bounded tests/unit/test_haproxy tests/unit/test_net_addr tests/unit/test_net_stream tests/unit/test_pool
TESTS += tests/unit/test_bounded tests/unit/test_haproxy tests/unit/test_net_addr tests/unit/test_net_stream tests/unit/test_pool
tests_unit_test_haproxy_SOURCES = tests/unit/test_haproxy.c
tests_unit_test_haproxy_LDADD = libnet.a libbase.a $(TEST_LIBS)
tests_unit_test_bounded_SOURCES = tests/unit/test_bounded.c
tests_unit_test_bounded_LDADD = libnet.a libbase.a $(TEST_LIBS)
tests_unit_test_net_addr_SOURCES = tests/unit/test_net_addr.c
tests_unit_test_net_addr_LDADD = libnet.a libbase.a $(TEST_LIBS)
tests_unit_test_pool_SOURCES = tests/unit/test_pool.c
tests_unit_test_pool_LDADD = libnet.a libbase.a $(TEST_LIBS)
tests_unit_test_net_stream_SOURCES = tests/unit/test_net_stream.c
tests_unit_test_net_stream_LDADD = libnet.a libbase.a $(TEST_LIBS)
endif
