noinst_LIBRARIES += libreactor.a
libreactor_a_SOURCES = \
	daemon/deliver.h \
	daemon/reactor.c daemon/reactor.h daemon/reactor_internal.h \
	daemon/sess.h \
	daemon/wheel.c daemon/wheel.h \
	daemon/worker.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_reactor
TESTS += tests/unit/test_reactor
tests_unit_test_reactor_SOURCES = tests/unit/test_reactor.c
tests_unit_test_reactor_LDADD = libreactor.a libnet.a libbase.a $(TEST_LIBS)
check_PROGRAMS += tests/unit/test_last_words
TESTS += tests/unit/test_last_words
tests_unit_test_last_words_SOURCES = tests/unit/test_last_words.c daemon/last_words.c daemon/last_words.h
tests_unit_test_last_words_LDADD = libbase.a $(TEST_LIBS)
check_PROGRAMS += tests/unit/test_logging
TESTS += tests/unit/test_logging
tests_unit_test_logging_SOURCES = tests/unit/test_logging.c daemon/logging.c daemon/logging.h
tests_unit_test_logging_LDADD = libconf.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
check_PROGRAMS += tests/unit/test_trim
TESTS += tests/unit/test_trim
tests_unit_test_trim_SOURCES = tests/unit/test_trim.c daemon/trim.c daemon/trim.h
tests_unit_test_trim_LDADD = libbase.a $(TEST_LIBS)
endif

sbin_PROGRAMS += posthoused
posthoused_SOURCES = \
	daemon/daemon.h \
	daemon/descriptors.c daemon/descriptors.h \
	daemon/last_words.c daemon/last_words.h \
	daemon/lifecycle.c \
	daemon/listeners.c daemon/listeners.h \
	daemon/logging.c daemon/logging.h \
	daemon/main.c \
	daemon/notify.c daemon/notify.h \
	daemon/probe.c daemon/probe.h \
	daemon/trim.c daemon/trim.h \
	daemon/trim_watch.c daemon/trim_watch.h \
	daemon/own_expand.c daemon/own_expand.h daemon/own_inspect.c daemon/own_inspect.h daemon/own_report.c daemon/own_report.h \
	daemon/postmaster.c daemon/postmaster.h \
	daemon/privileges.c daemon/privileges.h
# The parts in the order of their layers: each uses those behind it.
posthoused_LDADD = libcontrol.a libsmtpd.a libdeliver.a libclient.a libhosts.a libdeliver.a libreactor.a \
	libsched.a libspool.a libpolicy.a libtable.a libconf.a libdns.a libmail.a libnet.a libbase.a \
	$(SQLITE_LIBS) $(JANSSON_LIBS) $(IDN2_LIBS) $(PCRE2_LIBS) -lm

dist_man_MANS += man/posthoused.8
EXTRA_DIST += daemon/README.md daemon/etc/main.cf daemon/etc/master.cf daemon/etc/posthoused.service.in

# A first configuration, never over an existing one; the unit for service managers that read such.
install-data-local:
	$(MKDIR_P) "$(DESTDIR)$(posthouse_confdir)" "$(DESTDIR)$(prefix)/lib/systemd/system"
	for f in main.cf master.cf; do \
	  test -e "$(DESTDIR)$(posthouse_confdir)/$$f" || \
	    $(INSTALL_DATA) "$(srcdir)/daemon/etc/$$f" "$(DESTDIR)$(posthouse_confdir)/$$f" || exit 1; \
	done
	sed -e 's|[@]posthouse_confdir[@]|$(posthouse_confdir)|g' -e 's|[@]sbindir[@]|$(sbindir)|g' \
	  "$(srcdir)/daemon/etc/posthoused.service.in" > "$(DESTDIR)$(prefix)/lib/systemd/system/posthoused.service"

uninstall-local:
	rm -f "$(DESTDIR)$(prefix)/lib/systemd/system/posthoused.service"
	for f in main.cf master.cf; do \
	  if cmp -s "$(srcdir)/daemon/etc/$$f" "$(DESTDIR)$(posthouse_confdir)/$$f"; then \
	    rm -f "$(DESTDIR)$(posthouse_confdir)/$$f"; fi; done

installcheck-local:
	"$(DESTDIR)$(sbindir)/posthoused" --version
	"$(DESTDIR)$(sbindir)/posthousectl" -c "$(DESTDIR)$(posthouse_confdir)" conf -d mail_owner
	! grep -q '[@]' "$(DESTDIR)$(prefix)/lib/systemd/system/posthoused.service"
