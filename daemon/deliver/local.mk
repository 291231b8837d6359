noinst_LIBRARIES += libdeliver.a
libdeliver_a_SOURCES = \
	daemon/deliver/agent.c \
	daemon/deliver/dsn_text.c daemon/deliver/dsn_text.h \
	daemon/deliver/error.c \
	daemon/deliver/pool.c \
	daemon/deliver/trace_headers.c daemon/deliver/trace_headers.h
