noinst_LIBRARIES += libpolicy.a
libpolicy_a_SOURCES = \
	policy/address.c \
	policy/alias_expand.c policy/alias_expand.h \
	policy/answers.c policy/answers.h \
	policy/checks.c policy/checks.h policy/checks_internal.h \
	policy/checks_compile.c \
	policy/checks_mime.c \
	policy/compile.c policy/policy_internal.h \
	policy/compile_check.c \
	policy/dnsbl.c policy/dnsbl.h \
	policy/effect.h \
	policy/pipe.c policy/pipe.h \
	policy/recipient.c \
	policy/rewrite/addr_list.c policy/rewrite/addr_list.h \
	policy/rewrite/local_clients.c \
	policy/rewrite/masquerade.c \
	policy/rewrite/rewrite.c policy/rewrite/rewrite.h policy/rewrite/rewrite_internal.h \
	policy/rewrite/rewrite_header.c \
	policy/rewrite/plain_list.c \
	policy/rewrite/rewrite_map.c \
	policy/rewrite/rewrite_stage.c policy/rewrite/rewrite_stage.h \
	policy/restrict_access.c \
	policy/restrict_backup.c \
	policy/restrict_compile.c \
	policy/restrict_count.c \
	policy/restrict_dns.c \
	policy/restrict_dnsbl.c \
	policy/restrict_eval.c policy/restrict_internal.h \
	policy/restrict_server.c \
	policy/restrict_login.c \
	policy/restrict_service.c \
	policy/restrict_steps.c \
	policy/restrict_tls.c \
	policy/restrict_verify.c \
	policy/restrict_table.c \
	policy/route.h \
	policy/route_expand.c \
	policy/route_resolve.c \
	policy/service.c policy/service.h \
	policy/trace.c policy/trace.h \
	policy/verify.c policy/verify.h policy/verify_internal.h \
	policy/verify_file.c \
	policy/verify_sender.c \
	policy/verify_threads.c
EXTRA_DIST += policy/README.md policy/rewrite/README.md

# What a program that uses policy needs, in link order.
POLICY_LIBS = libpolicy.a libmail.a $(TABLE_LIBS) $(DNS_LIBS) $(SQLITE_LIBS)

if HAVE_CMOCKA
POLICY_TESTS = tests/unit/test_policy_alloc tests/unit/test_pipe tests/unit/test_policy_dns tests/unit/test_policy_relay tests/unit/test_policy_restrictions tests/unit/test_rewrite tests/unit/test_route_resolve tests/unit/test_verify
POLICY_FIXTURE = tests/unit/policy_fixture.c tests/unit/policy_fixture.h
check_PROGRAMS += $(POLICY_TESTS)
TESTS += $(POLICY_TESTS)
tests_unit_test_pipe_SOURCES = tests/unit/test_pipe.c
tests_unit_test_pipe_LDADD = libpolicy.a libmail.a libnet.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
tests_unit_test_policy_alloc_SOURCES = tests/unit/test_policy_alloc.c $(POLICY_FIXTURE)
tests_unit_test_policy_alloc_LDADD = $(POLICY_LIBS) $(TEST_LIBS)
tests_unit_test_policy_alloc_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
tests_unit_test_policy_dns_SOURCES = tests/unit/test_policy_dns.c tests/unit/dns_responder.c tests/unit/dns_responder.h $(POLICY_FIXTURE)
tests_unit_test_policy_dns_LDADD = $(POLICY_LIBS) $(DNS_TEST_LIBS)
tests_unit_test_policy_relay_SOURCES = tests/unit/test_policy_relay.c $(POLICY_FIXTURE)
tests_unit_test_policy_relay_LDADD = $(POLICY_LIBS) $(TEST_LIBS)
tests_unit_test_policy_restrictions_SOURCES = tests/unit/test_policy_restrictions.c $(POLICY_FIXTURE)
tests_unit_test_policy_restrictions_LDADD = $(POLICY_LIBS) $(TEST_LIBS)
tests_unit_test_rewrite_SOURCES = tests/unit/test_rewrite.c tests/unit/rewrite_headers.inc $(POLICY_FIXTURE)
tests_unit_test_rewrite_LDADD = $(POLICY_LIBS) $(TEST_LIBS)
tests_unit_test_route_resolve_SOURCES = tests/unit/test_route_resolve.c $(POLICY_FIXTURE)
tests_unit_test_route_resolve_LDADD = $(POLICY_LIBS) $(TEST_LIBS)
tests_unit_test_verify_SOURCES = tests/unit/test_verify.c $(POLICY_FIXTURE)
tests_unit_test_verify_LDADD = $(POLICY_LIBS) $(TEST_LIBS)
endif

if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_rewrite
tests_fuzz_fuzz_rewrite_SOURCES = tests/fuzz/fuzz_rewrite.c
tests_fuzz_fuzz_rewrite_LDADD = $(POLICY_LIBS)
tests_fuzz_fuzz_rewrite_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif
