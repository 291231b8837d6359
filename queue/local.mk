include queue/spool.mk
