# posthousectl conf and the configuration part of posthousectl check
noinst_LIBRARIES += libctlconf.a
libctlconf_a_SOURCES = \
	daemon/ctl_conf.c daemon/ctl_conf.h daemon/ctl_conf_internal.h \
	daemon/ctl_conf_edit.c \
	daemon/ctl_conf_print.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_ctl_conf
TESTS += tests/unit/test_ctl_conf
tests_unit_test_ctl_conf_SOURCES = tests/unit/test_ctl_conf.c
tests_unit_test_ctl_conf_LDADD = libctlconf.a libconf.a libbase.a $(JANSSON_LIBS) $(IDN2_LIBS) $(TEST_LIBS)
endif
