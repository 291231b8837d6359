noinst_LIBRARIES += libctl.a
libctl_a_SOURCES = \
	daemon/cmd/ctl_client.c daemon/cmd/ctl_client.h \
	daemon/cmd/exported_mail.c daemon/cmd/exported_mail.h \
	daemon/cmd/header_rcpts.c daemon/cmd/header_rcpts.h \
	daemon/cmd/mail_input.c daemon/cmd/mail_input.h \
	daemon/cmd/queue_format.c daemon/cmd/queue_format.h \
	daemon/cmd/queue_offline.c daemon/cmd/queue_offline.h \
	daemon/cmd/sendmail_options.c daemon/cmd/sendmail_options.h \
	daemon/cmd/submit.c daemon/cmd/submit.h
EXTRA_DIST += daemon/cmd/README.md
dist_man_MANS += man/mailq.1 man/posthouse-sendmail.1 man/posthouse-tables.5 man/posthousectl.8

# The parts in the order of their layers: each uses those behind it.
CTL_LIBS = libctl.a libcontrol.a libsched.a libspool.a libpolicy.a libtable.a libconf.a libdns.a libmail.a libnet.a libbase.a \
	$(SQLITE_LIBS) $(JANSSON_LIBS) $(IDN2_LIBS) $(PCRE2_LIBS) -lm

# Where bash-completion looks for it.
completionsdir = $(datadir)/bash-completion/completions
dist_completions_DATA = daemon/etc/completion/posthousectl

sbin_PROGRAMS += posthousectl sendmail
posthousectl_SOURCES = \
	daemon/cmd/cmd_change.c \
	daemon/cmd/cmd_check.c daemon/logging.c daemon/logging.h \
	daemon/cmd/cmd_daemon.c \
	daemon/cmd/cmd_explain.c \
	daemon/cmd/cmd_export.c \
	daemon/cmd/cmd_map.c daemon/cmd/cmd_map.h \
	daemon/cmd/cmd_pause.c \
	daemon/cmd/cmd_cat.c \
	daemon/cmd/cmd_flush.c \
	daemon/cmd/cmd_queue.c \
	daemon/cmd/cmd_tables.c \
	daemon/cmd/cmd_restrictions.c \
	daemon/cmd/cmd_spool.c \
	daemon/cmd/cmd_sql.c \
	daemon/cmd/cmd_verify.c \
	daemon/cmd/cmd_stats.c \
	daemon/cmd/explain.c daemon/cmd/explain.h \
	daemon/cmd/explain_log.c \
	daemon/cmd/explain_print.c \
	daemon/cmd/explain_rewrite.c \
	daemon/cmd/explain_route.c \
	daemon/cmd/long_work.c daemon/cmd/long_work.h \
	daemon/cmd/map_file.c daemon/cmd/map_file.h \
	daemon/cmd/map_make.c \
	daemon/cmd/map_query.c \
	daemon/cmd/map_rows.c daemon/cmd/map_rows.h \
	daemon/cmd/posthousectl.c daemon/cmd/posthousectl.h \
	daemon/cmd/query_source.c daemon/cmd/query_source.h \
	daemon/cmd/select_options.c daemon/cmd/select_options.h
posthousectl_LDADD = libctlconf.a libhosts.a $(CTL_LIBS) $(LMDB_LIBS) $(CDB_LIBS)
sendmail_SOURCES = \
	daemon/cmd/sendmail.c daemon/cmd/sendmail.h \
	daemon/cmd/sendmail_aliases.c \
	daemon/cmd/sendmail_deliver.c \
	daemon/cmd/sendmail_queue.c \
	daemon/cmd/sendmail_verify.c \
	daemon/cmd/sendmail_smtp.c \
	daemon/cmd/sendmail_smtp_down.c
sendmail_LDADD = $(CTL_LIBS)

# The names by which the same program lists the queue and checks the alias files: commands for everybody, hence in bindir.
install-exec-hook: install-mail-names
install-mail-names:
	$(MKDIR_P) "$(DESTDIR)$(bindir)"
	for name in mailq newaliases; do \
	  ln -srf "$(DESTDIR)$(sbindir)/sendmail" "$(DESTDIR)$(bindir)/$$name" || exit 1; \
	done
uninstall-hook:
	rm -f "$(DESTDIR)$(bindir)/mailq" "$(DESTDIR)$(bindir)/newaliases"
.PHONY: install-mail-names

if HAVE_CMOCKA
CTL_TESTS = tests/unit/test_ctl_queue_format tests/unit/test_sendmail_options tests/unit/test_sendmail_input \
	tests/unit/test_ctl_local_content tests/unit/test_ctl_pickup tests/unit/test_ctl_server tests/unit/test_table_database
check_PROGRAMS += $(CTL_TESTS)
TESTS += $(CTL_TESTS)
tests_unit_test_ctl_queue_format_SOURCES = tests/unit/test_ctl_queue_format.c
tests_unit_test_ctl_queue_format_LDADD = $(CTL_LIBS) $(TEST_LIBS)
tests_unit_test_table_database_SOURCES = tests/unit/test_table_database.c daemon/cmd/map_file.c daemon/cmd/map_rows.c
tests_unit_test_table_database_LDADD = $(CTL_LIBS) $(LMDB_LIBS) $(CDB_LIBS) $(TEST_LIBS)
tests_unit_test_sendmail_options_SOURCES = tests/unit/test_sendmail_options.c
tests_unit_test_sendmail_options_LDADD = $(CTL_LIBS) $(TEST_LIBS)
tests_unit_test_sendmail_input_SOURCES = tests/unit/test_sendmail_input.c
tests_unit_test_sendmail_input_LDADD = $(CTL_LIBS) $(TEST_LIBS)
tests_unit_test_ctl_local_content_SOURCES = tests/unit/test_ctl_local_content.c
tests_unit_test_ctl_local_content_LDADD = $(CTL_LIBS) $(TEST_LIBS)
# Their own scheduler stands in for libsched.a.
CTL_SERVER_LIBS = libctl.a libcontrol.a libsmtpd.a libreactor.a libsched.a libspool.a libpolicy.a libtable.a libconf.a libdns.a libmail.a \
	libnet.a libbase.a $(SQLITE_LIBS) $(JANSSON_LIBS) $(LDNS_LIBS) $(IDN2_LIBS) $(PCRE2_LIBS) -lm
tests_unit_test_ctl_pickup_SOURCES = tests/unit/test_ctl_pickup.c tests/unit/ctl_fixture.h
tests_unit_test_ctl_pickup_LDADD = $(CTL_SERVER_LIBS) $(TEST_LIBS)
tests_unit_test_ctl_server_SOURCES = tests/unit/test_ctl_server.c tests/unit/ctl_fixture.h
tests_unit_test_ctl_server_LDADD = $(CTL_SERVER_LIBS) $(TEST_LIBS)
endif

if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_local_mail
tests_fuzz_fuzz_local_mail_SOURCES = tests/fuzz/fuzz_local_mail.c
tests_fuzz_fuzz_local_mail_LDADD = libctl.a $(CTL_SERVER_LIBS) $(TEST_LIBS)
tests_fuzz_fuzz_local_mail_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif
