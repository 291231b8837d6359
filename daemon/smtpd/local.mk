noinst_LIBRARIES += libsmtpd.a
libsmtpd_a_SOURCES = \
	daemon/smtpd/actions.c \
	daemon/smtpd/ask.c \
	daemon/smtpd/client_count.c daemon/smtpd/client_count.h \
	daemon/smtpd/client_limits.c \
	daemon/smtpd/cmd_bdat.c \
	daemon/smtpd/cmd_data.c \
	daemon/smtpd/cmd_etrn.c \
	daemon/smtpd/cmd_helo.c \
	daemon/smtpd/cmd_mail.c \
	daemon/smtpd/cmd_rcpt.c \
	daemon/smtpd/cmd_simple.c \
	daemon/smtpd/cmd_xclient.c \
	daemon/smtpd/cmd_xforward.c \
	daemon/smtpd/command.c daemon/smtpd/commands.def \
	daemon/smtpd/connect.c \
	daemon/smtpd/content.c daemon/smtpd/content.h \
	daemon/smtpd/footer.c \
	daemon/smtpd/hosts_file.c \
	daemon/smtpd/inspect.c \
	daemon/smtpd/lists.c \
	daemon/smtpd/limits.c daemon/smtpd/limits.def \
	daemon/smtpd/mapping.c \
	daemon/smtpd/message.c \
	daemon/smtpd/notify.c \
	daemon/smtpd/path_arg.c \
	daemon/smtpd/received.c \
	daemon/smtpd/reject_filter.c \
	daemon/smtpd/reply.c \
	daemon/smtpd/run_fds.c \
	daemon/smtpd/service.c \
	daemon/smtpd/session.c \
	daemon/smtpd/slog.c \
	daemon/smtpd/smtpd.h daemon/smtpd/smtpd_internal.h \
	daemon/smtpd/tx.c \
	daemon/smtpd/upstream.c \
	daemon/smtpd/xattr.c daemon/smtpd/xattr.h
EXTRA_DIST += daemon/smtpd/README.md

# What a program with the server session needs besides the spool, in link order.
SMTPD_LIBS = libsmtpd.a libpolicy.a libtable.a libconf.a libdns.a libmail.a libnet.a libbase.a $(IDN2_LIBS) $(PCRE2_LIBS)

if HAVE_CMOCKA
SMTPD_TESTS = tests/unit/test_client_count tests/unit/test_smtpd_content tests/unit/test_smtpd_dialog tests/unit/test_smtpd_session tests/unit/test_xattr
check_PROGRAMS += $(SMTPD_TESTS)
TESTS += $(SMTPD_TESTS)
SMTPD_FIXTURE = tests/unit/smtpd_fixture.c tests/unit/smtpd_fixture.h
tests_unit_test_smtpd_dialog_SOURCES = tests/unit/test_smtpd_dialog.c $(SMTPD_FIXTURE)
tests_unit_test_smtpd_dialog_LDADD = libsmtpd.a libsched.a libspool.a $(SMTPD_LIBS) $(TEST_LIBS)
tests_unit_test_smtpd_session_SOURCES = tests/unit/test_smtpd_session.c $(SMTPD_FIXTURE) tests/unit/dns_responder.c tests/unit/dns_responder.h
tests_unit_test_smtpd_session_LDADD = libsmtpd.a libsched.a libspool.a $(SMTPD_LIBS) $(DNS_TEST_LIBS)
tests_unit_test_xattr_SOURCES = tests/unit/test_xattr.c
tests_unit_test_xattr_LDADD = libsmtpd.a libmail.a libnet.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
tests_unit_test_client_count_SOURCES = tests/unit/test_client_count.c
tests_unit_test_client_count_LDADD = libsmtpd.a libnet.a libbase.a $(TEST_LIBS)
tests_unit_test_smtpd_content_SOURCES = tests/unit/test_smtpd_content.c
tests_unit_test_smtpd_content_LDADD = libsmtpd.a libmail.a libnet.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
endif

if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_upstream
tests_fuzz_fuzz_upstream_SOURCES = tests/fuzz/fuzz_upstream.c
tests_fuzz_fuzz_upstream_LDADD = libsmtpd.a libmail.a libnet.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_upstream_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
if HAVE_CMOCKA
noinst_PROGRAMS += tests/fuzz/fuzz_smtp_command
tests_fuzz_fuzz_smtp_command_SOURCES = tests/fuzz/fuzz_smtp_command.c $(SMTPD_FIXTURE)
tests_fuzz_fuzz_smtp_command_LDADD = libsmtpd.a libsched.a libspool.a $(SMTPD_LIBS) $(TEST_LIBS)
tests_fuzz_fuzz_smtp_command_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif
endif
