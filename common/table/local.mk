noinst_LIBRARIES += libtable.a
libtable_a_SOURCES = \
	common/table/dns_filter.c common/table/dns_filter.h \
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
	common/table/modules/module.h \
	common/table/net/ldap_table.c common/table/net/ldap_table.h \
	common/table/net/ldap_text.c common/table/net/ldap_text.h \
	common/table/net/memcache.c \
	common/table/net/module_load.c common/table/net/module_load.h \
	common/table/net/net_answer.c common/table/net/net_answer.h \
	common/table/net/module_open.c common/table/net/module_open.h \
	common/table/net/net_conn.c common/table/net/net_conn.h \
	common/table/net/net_tables.c \
	common/table/net/sql_table.c common/table/net/sql_table.h \
	common/table/net/table_cache.c common/table/net/table_cache.h \
	common/table/net/table_numbers.c common/table/net/table_numbers.h
EXTRA_DIST += common/table/README.md

# What a program that uses tables needs, in link order.
TABLE_LIBS = libtable.a libconf.a libnet.a libbase.a $(IDN2_LIBS) $(PCRE2_LIBS)

if HAVE_CMOCKA
TABLE_TESTS = tests/unit/test_net_tables tests/unit/test_table_types tests/unit/test_table_rules tests/unit/test_table_swap tests/unit/test_table_maps tests/unit/test_match_list
check_PROGRAMS += $(TABLE_TESTS)
TESTS += $(TABLE_TESTS)
tests_unit_test_net_tables_SOURCES = tests/unit/test_net_tables.c
tests_unit_test_net_tables_LDADD = $(TABLE_LIBS) $(TEST_LIBS)
tests_unit_test_table_types_SOURCES = tests/unit/test_table_types.c
tests_unit_test_table_types_LDADD = $(TABLE_LIBS) $(TEST_LIBS)
tests_unit_test_table_rules_SOURCES = tests/unit/test_table_rules.c
tests_unit_test_table_rules_LDADD = $(TABLE_LIBS) $(TEST_LIBS)
tests_unit_test_table_swap_SOURCES = tests/unit/test_table_swap.c
tests_unit_test_table_swap_LDADD = $(TABLE_LIBS) $(TEST_LIBS)
tests_unit_test_table_maps_SOURCES = tests/unit/test_table_maps.c
tests_unit_test_table_maps_LDADD = $(TABLE_LIBS) $(TEST_LIBS)
tests_unit_test_match_list_SOURCES = tests/unit/test_match_list.c
tests_unit_test_match_list_LDADD = $(TABLE_LIBS) $(TEST_LIBS)
endif

if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_net_tables
tests_fuzz_fuzz_net_tables_SOURCES = tests/fuzz/fuzz_net_tables.c
tests_fuzz_fuzz_net_tables_LDADD = $(TABLE_LIBS)
tests_fuzz_fuzz_net_tables_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += tests/fuzz/fuzz_table_text
tests_fuzz_fuzz_table_text_SOURCES = tests/fuzz/fuzz_table_text.c
tests_fuzz_fuzz_table_text_LDADD = $(TABLE_LIBS)
tests_fuzz_fuzz_table_text_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif

# Loadable modules: shared objects of one source each, over a library that the daemon itself does not link.
table_module_cflags = -std=gnu17 $(WARN_CFLAGS) $(SAN_CFLAGS) $(MODULE_HARDEN_CFLAGS) -fPIC
table_module_ldflags = $(SAN_CFLAGS) $(MODULE_HARDEN_LDFLAGS) -shared
moduledir = $(libdir)/posthouse
module_PROGRAMS =
if MODULE_LDAP
module_PROGRAMS += modules/ldap.so
modules_ldap_so_SOURCES = common/table/modules/module_ldap.c common/table/modules/module.h
modules_ldap_so_CFLAGS = $(table_module_cflags) $(LDAP_CFLAGS)
modules_ldap_so_LDFLAGS = $(table_module_ldflags)
modules_ldap_so_LDADD = $(LDAP_LIBS)
endif
if MODULE_MYSQL
module_PROGRAMS += modules/mysql.so
modules_mysql_so_SOURCES = common/table/modules/module_mysql.c common/table/modules/module.h
modules_mysql_so_CFLAGS = $(table_module_cflags) $(MYSQL_CFLAGS)
modules_mysql_so_LDFLAGS = $(table_module_ldflags)
modules_mysql_so_LDADD = $(MYSQL_LIBS)
endif
if MODULE_PGSQL
module_PROGRAMS += modules/pgsql.so
modules_pgsql_so_SOURCES = common/table/modules/module_pgsql.c common/table/modules/module.h
modules_pgsql_so_CFLAGS = $(table_module_cflags) $(PGSQL_CFLAGS)
modules_pgsql_so_LDFLAGS = $(table_module_ldflags)
modules_pgsql_so_LDADD = $(PGSQL_LIBS)
endif
EXTRA_DIST += common/table/modules/README.md common/table/net/README.md
