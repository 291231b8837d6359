# Fuzz targets whose parsers lie in several folders, and what runs all of them. tests/fuzz/run finds the programs itself.
EXTRA_DIST += tests/fuzz/README.md tests/fuzz/run tests/fuzz/corpus tests/fuzz/fuzz.h tests/fuzz/fuzz_wire.h tests/fuzz/record.tsv $(FUZZ_DICTS)
TESTS += tests/fuzz/test_run.py
EXTRA_DIST += tests/fuzz/test_run.py
FUZZ_DICTS = tests/fuzz/fuzz_command_line.dict tests/fuzz/fuzz_content.dict tests/fuzz/fuzz_control.dict \
	tests/fuzz/fuzz_expand.dict tests/fuzz/fuzz_import.dict tests/fuzz/fuzz_local_mail.dict tests/fuzz/fuzz_main_cf.dict \
	tests/fuzz/fuzz_master_cf.dict tests/fuzz/fuzz_mime.dict tests/fuzz/fuzz_pipe.dict tests/fuzz/fuzz_restrictions.dict \
	tests/fuzz/fuzz_rewrite.dict tests/fuzz/fuzz_select.dict tests/fuzz/fuzz_sendmail_smtp.dict tests/fuzz/fuzz_smtp_client.dict \
	tests/fuzz/fuzz_smtp_command.dict tests/fuzz/fuzz_table_text.dict tests/fuzz/fuzz_upstream.dict

# FUZZ_SECONDS for each target, FUZZ_TARGETS for some of them: a build of its own, with clang.
fuzz:
	@if test '$(FUZZERS_ARE_ON)' = yes; then $(MAKE) $(AM_MAKEFLAGS) all && '$(srcdir)/tests/fuzz/run' . $(FUZZ_TARGETS); else \
	  mkdir -p fuzz-build && cd fuzz-build && { test -f Makefile || CC="$${FUZZ_CC:-clang}" '$(abs_srcdir)/configure' -q --enable-fuzzers; } && \
	  $(MAKE) $(AM_MAKEFLAGS) -s all && '$(abs_srcdir)/tests/fuzz/run' . $(FUZZ_TARGETS); fi
.PHONY: fuzz

if FUZZERS
FUZZERS_ARE_ON = yes
FUZZ_LINK = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += tests/fuzz/fuzz_content tests/fuzz/fuzz_encodings tests/fuzz/fuzz_net_text tests/fuzz/fuzz_dsn \
	tests/fuzz/fuzz_master_cf tests/fuzz/fuzz_expand tests/fuzz/fuzz_command_line tests/fuzz/fuzz_smtp_client tests/fuzz/fuzz_pipe \
	tests/fuzz/fuzz_dns_filter tests/fuzz/fuzz_restrictions tests/fuzz/fuzz_select tests/fuzz/fuzz_sendmail_smtp tests/fuzz/fuzz_import
tests_fuzz_fuzz_import_SOURCES = tests/fuzz/fuzz_import.c
tests_fuzz_fuzz_import_LDADD = $(CTL_LIBS)
tests_fuzz_fuzz_import_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_sendmail_smtp_SOURCES = tests/fuzz/fuzz_sendmail_smtp.c daemon/cmd/sendmail_smtp_down.c
tests_fuzz_fuzz_sendmail_smtp_LDADD = libctl.a libmail.a libnet.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_sendmail_smtp_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_select_SOURCES = tests/fuzz/fuzz_select.c tests/unit/select_rows.h
tests_fuzz_fuzz_select_LDADD = $(LIBS_SPOOL) libbase.a
tests_fuzz_fuzz_select_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_pipe_SOURCES = tests/fuzz/fuzz_pipe.c
tests_fuzz_fuzz_pipe_LDADD = libsmtpd.a libpolicy.a libmail.a libnet.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_pipe_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_dns_filter_SOURCES = tests/fuzz/fuzz_dns_filter.c
tests_fuzz_fuzz_dns_filter_LDADD = $(TABLE_LIBS) $(DNS_LIBS)
tests_fuzz_fuzz_dns_filter_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_restrictions_SOURCES = tests/fuzz/fuzz_restrictions.c
tests_fuzz_fuzz_restrictions_LDADD = $(POLICY_LIBS)
tests_fuzz_fuzz_restrictions_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_content_SOURCES = tests/fuzz/fuzz_content.c
tests_fuzz_fuzz_content_LDADD = libsmtpd.a libmail.a libnet.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_content_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_encodings_SOURCES = tests/fuzz/fuzz_encodings.c
tests_fuzz_fuzz_encodings_LDADD = libspool.a libmail.a libnet.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_encodings_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_net_text_SOURCES = tests/fuzz/fuzz_net_text.c
tests_fuzz_fuzz_net_text_LDADD = libsmtpd.a libdns.a libmail.a libnet.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_net_text_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_dsn_SOURCES = tests/fuzz/fuzz_dsn.c
tests_fuzz_fuzz_dsn_LDADD = libsched.a libspool.a libconf.a libmail.a libnet.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_dsn_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_master_cf_SOURCES = tests/fuzz/fuzz_master_cf.c
tests_fuzz_fuzz_master_cf_LDADD = libconf.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_master_cf_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_expand_SOURCES = tests/fuzz/fuzz_expand.c
tests_fuzz_fuzz_expand_LDADD = libconf.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_expand_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_command_line_SOURCES = tests/fuzz/fuzz_command_line.c
tests_fuzz_fuzz_command_line_LDADD = libctl.a libbase.a
tests_fuzz_fuzz_command_line_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_smtp_client_SOURCES = tests/fuzz/fuzz_smtp_client.c tests/unit/client_fake.c tests/unit/client_fake.h
tests_fuzz_fuzz_smtp_client_LDADD = libdeliver.a libclient.a libdeliver.a libhosts.a libsched.a libpolicy.a libtable.a libconf.a libdns.a libmail.a \
	libnet.a libbase.a $(PCRE2_LIBS) $(IDN2_LIBS)
tests_fuzz_fuzz_smtp_client_LDFLAGS = $(FUZZ_LINK)
if HAVE_CMOCKA
noinst_PROGRAMS += tests/fuzz/fuzz_control tests/fuzz/fuzz_spool
tests_fuzz_fuzz_control_SOURCES = tests/fuzz/fuzz_control.c tests/unit/ctl_fixture.h
tests_fuzz_fuzz_control_LDADD = $(CTL_SERVER_LIBS) $(TEST_LIBS)
tests_fuzz_fuzz_control_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_spool_SOURCES = tests/fuzz/fuzz_spool.c tests/unit/spool_fixture.h
tests_fuzz_fuzz_spool_LDADD = $(LIBS_SPOOL) libbase.a $(TEST_LIBS)
tests_fuzz_fuzz_spool_LDFLAGS = $(FUZZ_LINK)
endif
else
FUZZERS_ARE_ON = no
endif
