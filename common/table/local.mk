noinst_LIBRARIES += libtable.a
libtable_a_SOURCES = \
	common/table/fold.c common/table/fold.h \
	common/table/lines.c common/table/lines.h \
	common/table/maps.c common/table/maps.h \
	common/table/match_list.c common/table/match_list.h \
	common/table/rules.h common/table/rules_cidr.c common/table/rules_filter.c common/table/rules_pattern.c \
	common/table/source.c common/table/source.h \
	common/table/strmap.c common/table/strmap.h \
	common/table/table.c common/table/table.h common/table/table_internal.h \
	common/table/table_compound.c \
	common/table/table_config.c common/table/table_config.h \
	common/table/table_database.c common/table/table_database.h \
	common/table/table_file.c common/table/table_file.h \
	common/table/table_query.c common/table/table_query.h \
	common/table/table_rules.c \
	common/table/table_simple.c \
	common/table/table_sqlite.c \
	common/table/table_text.c \
	common/table/table_types.c \
	common/table/net/memcache.c \
	common/table/net/net_answer.c common/table/net/net_answer.h \
	common/table/net/net_conn.c common/table/net/net_conn.h \
	common/table/net/net_tables.c
EXTRA_DIST += common/table/README.md

# What a program that uses tables needs, in link order.
TABLE_LIBS = libtable.a libconf.a libnet.a libbase.a $(IDN2_LIBS) $(PCRE2_LIBS)

if HAVE_CMOCKA
TABLE_TESTS = tests/unit/test_table_types tests/unit/test_table_swap tests/unit/test_table_maps tests/unit/test_match_list
check_PROGRAMS += $(TABLE_TESTS)
TESTS += $(TABLE_TESTS)
tests_unit_test_table_types_SOURCES = tests/unit/test_table_types.c
tests_unit_test_table_types_LDADD = $(TABLE_LIBS) $(TEST_LIBS)
tests_unit_test_table_swap_SOURCES = tests/unit/test_table_swap.c
tests_unit_test_table_swap_LDADD = $(TABLE_LIBS) $(TEST_LIBS)
tests_unit_test_table_maps_SOURCES = tests/unit/test_table_maps.c
tests_unit_test_table_maps_LDADD = $(TABLE_LIBS) $(TEST_LIBS)
tests_unit_test_match_list_SOURCES = tests/unit/test_match_list.c
tests_unit_test_match_list_LDADD = $(TABLE_LIBS) $(TEST_LIBS)
endif

if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_table_text
tests_fuzz_fuzz_table_text_SOURCES = tests/fuzz/fuzz_table_text.c
tests_fuzz_fuzz_table_text_LDADD = $(TABLE_LIBS)
tests_fuzz_fuzz_table_text_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif
