noinst_LIBRARIES += libmail.a
libmail_a_SOURCES = \
	common/mail/address.c common/mail/address.h \
	common/mail/hdr_names.c common/mail/hdr_names.h \
	common/mail/headers.c common/mail/headers.h common/mail/headers.def \
	common/mail/maildate.c common/mail/maildate.h \
	common/mail/mime.c common/mail/mime.h common/mail/mime_field.c \
	common/mail/mime_stack.c common/mail/mime_stack.h \
	common/mail/smtpreply.c common/mail/smtpreply.h \
	common/mail/transcript.c common/mail/transcript.h \
	common/mail/xtext.c common/mail/xtext.h
EXTRA_DIST += common/mail/README.md

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_address tests/unit/test_xtext tests/unit/test_mailtext tests/unit/test_mime
TESTS += tests/unit/test_address tests/unit/test_xtext tests/unit/test_mailtext tests/unit/test_mime
check_PROGRAMS += tests/unit/test_transcript
TESTS += tests/unit/test_transcript
tests_unit_test_transcript_SOURCES = tests/unit/test_transcript.c
tests_unit_test_transcript_LDADD = libmail.a libbase.a $(TEST_LIBS)
tests_unit_test_mime_SOURCES = tests/unit/test_mime.c
tests_unit_test_mime_LDADD = libmail.a libnet.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
tests_unit_test_address_SOURCES = tests/unit/test_address.c
tests_unit_test_address_LDADD = libmail.a libnet.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
tests_unit_test_xtext_SOURCES = tests/unit/test_xtext.c
tests_unit_test_xtext_LDADD = libmail.a libbase.a $(TEST_LIBS)
tests_unit_test_mailtext_SOURCES = tests/unit/test_mailtext.c
tests_unit_test_mailtext_LDADD = libmail.a libnet.a libbase.a $(IDN2_LIBS) $(TEST_LIBS)
endif

if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_address
tests_fuzz_fuzz_address_SOURCES = tests/fuzz/fuzz_address.c
tests_fuzz_fuzz_address_LDADD = libmail.a libnet.a libbase.a $(IDN2_LIBS)
tests_fuzz_fuzz_address_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif
