noinst_LIBRARIES += libsched.a
libsched_a_SOURCES = \
	queue/bounce.c queue/bounce.h \
	queue/concurrency.c queue/concurrency.h \
	queue/dsn.c queue/dsn.h \
	queue/retry.c queue/retry.h \
	queue/sched_heap.c queue/sched_heap.h
