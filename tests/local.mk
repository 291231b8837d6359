# Whole-daemon tests: scenarios (our own client and next hop), interop (real peers), crash.
TEST_EXTENSIONS = .py
PY_LOG_COMPILER = python3
AM_TESTS_ENVIRONMENT = POSTHOUSE_BUILD='$(abs_top_builddir)'; export POSTHOUSE_BUILD; \
	PYTHONDONTWRITEBYTECODE=1; export PYTHONDONTWRITEBYTECODE;

# Real peers; each case says that it is skipped when its peer is not installed.
INTEROP = tests/interop/exim.py tests/interop/peers.py tests/interop/policy.py tests/interop/postqueue.py tests/interop/ldap_tables.py tests/interop/sql_tables.py
EXTRA_DIST += tests/lib/unpack.py tests/lib/dbserver.py tests/lib/waiting.py
TESTS += $(INTEROP)
EXTRA_DIST += $(INTEROP)

# The longest first.
SCENARIOS = \
	tests/scenarios/scale.py \
	tests/scenarios/params_client.py \
	tests/scenarios/spool_faults.py \
	tests/scenarios/net_tables.py \
	tests/scenarios/bad_input.py \
	tests/scenarios/bounces.py \
	tests/scenarios/client_checks.py \
	tests/scenarios/completion.py \
	tests/scenarios/content.py \
	tests/scenarios/content_filter.py \
	tests/scenarios/delivery.py \
	tests/scenarios/downgrade.py \
	tests/scenarios/explain.py \
	tests/scenarios/first_path.py \
	tests/scenarios/header_checks.py \
	tests/scenarios/lmtp.py \
	tests/scenarios/queue_commands.py \
	tests/scenarios/queue_select.py \
	tests/scenarios/queue_export.py \
	tests/scenarios/queue_pause.py \
	tests/scenarios/queue_spool.py \
	tests/scenarios/queue_sql.py \
	tests/scenarios/tables.py \
	tests/scenarios/logs.py \
	tests/scenarios/slow_routes.py \
	tests/scenarios/notices.py \
	tests/scenarios/own_checks.py \
	tests/scenarios/operate.py \
	tests/scenarios/restrictions.py \
	tests/scenarios/retry.py \
	tests/scenarios/dns_restrictions.py \
	tests/scenarios/policy_service.py \
	tests/scenarios/access_actions.py \
	tests/scenarios/rewriting.py \
	tests/scenarios/routing.py \
	tests/scenarios/sendmail.py \
	tests/scenarios/showq.py \
	tests/scenarios/smtp_limits.py \
	tests/scenarios/smtp_server.py \
	tests/scenarios/smuggling.py \
	tests/scenarios/proxy_protocol.py \
	tests/scenarios/verify.py \
	tests/scenarios/rate_limits.py \
	tests/scenarios/replies.py \
	tests/scenarios/xclient.py
# One parameter after the other: what it is for is seen to change.
SCENARIOS += \
	tests/scenarios/params_check.py \
	tests/scenarios/params_daemon.py \
	tests/scenarios/params_mail.py
TESTS += $(SCENARIOS)
EXTRA_DIST += $(SCENARIOS) tests/scenarios/restrictions.json tests/lib/shim_disk.c tests/lib/shim_flush.c tests/lib/shims.py tests/lib/hub.py tests/lib/tableserver.py tests/lib/threadserver.py tests/lib/client.py tests/lib/sink.py tests/lib/cases.py

# Dialogues, played to the daemon.
GOLDEN = tests/golden/access.txt tests/golden/actions.txt tests/golden/dns.txt tests/golden/dnsbl.txt tests/golden/each-client.txt tests/golden/each-generic.txt \
	tests/golden/each-recipient.txt tests/golden/each-sender.txt tests/golden/effects.txt tests/golden/found.txt tests/golden/generic.txt \
	tests/golden/ipv6.txt tests/golden/keys.txt tests/golden/names.txt tests/golden/relay.txt tests/golden/settings.txt tests/golden/syntax.txt
TESTS += tests/golden/golden.py
EXTRA_DIST += tests/golden/README.md tests/golden/golden.py $(GOLDEN)

# Random dialogues, played to Postfix as well; by hand.
EXTRA_DIST += tests/differ/README.md tests/differ/run tests/differ/addresses.py tests/differ/compare.py tests/differ/differ.py tests/differ/pair.py tests/differ/play.py \
	tests/differ/policy.py tests/differ/settings.py tests/differ/shrink.py tests/differ/tables.py tests/differ/talk.py tests/differ/words.py

# What the scripts and the unit tests read besides.
EXTRA_DIST += tests/README.md .ci/run quickstart run-tests tests/interop/dovecot tests/packages tests/tsan.supp tests/lsan.supp tests/unit/unit.h
