noinst_LIBRARIES += libconf.a
libconf_a_SOURCES = \
	common/conf/client_params.def common/conf/other_params.def common/conf/param_status.def \
	common/conf/params.def common/conf/transport_params.def \
	common/conf/conf.h common/conf/conf_internal.h \
	common/conf/conf_check.c \
	common/conf/conf_dict.c common/conf/conf_dict.h \
	common/conf/conf_host.c common/conf/conf_host.h \
	common/conf/conf_ignore.c common/conf/conf_ignore.h \
	common/conf/conf_lines.c common/conf/conf_lines.h \
	common/conf/conf_list.c \
	common/conf/conf_load.c \
	common/conf/conf_names.c \
	common/conf/conf_report.c common/conf/conf_report.h \
	common/conf/conf_scope.c common/conf/conf_scope.h common/conf/conf_status.c common/conf/conf_status.h \
	common/conf/conf_values.c \
	common/conf/expand.c common/conf/expand.h \
	common/conf/master_cf.c common/conf/master_cf.h \
	common/conf/notify_class.c common/conf/notify_class.h \
	common/conf/param_table.c common/conf/param_table.h \
	common/conf/param_value.c common/conf/param_value.h \
	common/conf/params.h common/conf/params_undef.h
EXTRA_DIST += common/conf/README.md tests/conf

# The tables as text: for the ledger and the manual page.
noinst_PROGRAMS += common/conf/param_print
common_conf_param_print_SOURCES = common/conf/param_print.c
common_conf_param_print_LDADD = libconf.a libbase.a $(IDN2_LIBS)

ledger: common/conf/param_print
	$(srcdir)/tests/ledger/ledger common/conf/param_print $(srcdir)
# Is each of them missed? Takes long; see tests/ledger/README.md. make mutate MUTATE='--jobs 4 smtpd_banner'
mutate: all $(check_PROGRAMS)
	$(srcdir)/tests/ledger/mutate --build . $(MUTATE)
.PHONY: ledger mutate
TESTS += tests/ledger/ledger
dist_noinst_SCRIPTS += tests/ledger/ledger tests/ledger/mutate
EXTRA_DIST += tests/ledger/README.md

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_conf_expand tests/unit/test_conf_load tests/unit/test_conf_check \
	tests/unit/test_conf_ledger
TESTS += tests/unit/test_conf_expand tests/unit/test_conf_load tests/unit/test_conf_check tests/unit/test_conf_ledger
CONF_TEST_LIBS = libconf.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
tests_unit_test_conf_expand_SOURCES = tests/unit/test_conf_expand.c
tests_unit_test_conf_expand_LDADD = $(CONF_TEST_LIBS)
tests_unit_test_conf_load_SOURCES = tests/unit/test_conf_load.c
tests_unit_test_conf_load_LDADD = $(CONF_TEST_LIBS)
tests_unit_test_conf_ledger_SOURCES = tests/unit/test_conf_ledger.c
tests_unit_test_conf_ledger_LDADD = $(CONF_TEST_LIBS)
tests_unit_test_conf_check_SOURCES = tests/unit/test_conf_check.c
tests_unit_test_conf_check_LDADD = $(CONF_TEST_LIBS)
endif

if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_main_cf
tests_fuzz_fuzz_main_cf_SOURCES = tests/fuzz/fuzz_main_cf.c
tests_fuzz_fuzz_main_cf_LDADD = libconf.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_main_cf_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif

dist_man_MANS += man/posthouse-master.cf.5
man_MANS += man/posthouse-main.cf.5
CLEANFILES += man/posthouse-main.cf.5
EXTRA_DIST += man/posthouse-main.cf.head man/posthouse-main.cf.tail
man/posthouse-main.cf.5: common/conf/param_print man/posthouse-main.cf.head man/posthouse-main.cf.tail
	$(AM_V_GEN)$(MKDIR_P) man && common/conf/param_print man $(srcdir)/man/posthouse-main.cf.head \
		$(srcdir)/man/posthouse-main.cf.tail >$@.tmp && mv $@.tmp $@
