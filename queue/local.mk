# One part a file: the spool (journal, results, index) and the scheduler with its notifications.
include queue/spool.mk
include queue/sched.mk
EXTRA_DIST += queue/README.md
