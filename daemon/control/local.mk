noinst_LIBRARIES += libcontrol.a
libcontrol_a_SOURCES = \
	daemon/control/control.c daemon/control/control.h daemon/control/control_internal.h \
	daemon/control/ctl_admin.c daemon/control/requeue.c daemon/control/requeue.h \
	daemon/control/ctl_auth.c \
	daemon/control/ctl_client.c \
	daemon/control/ctl_compact.c \
	daemon/control/ctl_daemon.c \
	daemon/control/ctl_export.c \
	daemon/control/ctl_pause.c \
	daemon/control/ctl_verify.c \
	daemon/control/ctl_queue.c \
	daemon/control/ctl_reply.c \
	daemon/control/ctl_select.c daemon/control/ctl_select.h \
	daemon/control/ctl_submit.c \
	daemon/control/ctl_sync.c \
	daemon/control/envelope_json.c daemon/control/envelope_json.h \
	daemon/control/local_content.c daemon/control/local_content.h \
	daemon/control/local_inspect.c daemon/control/local_inspect.h \
	daemon/control/local_submit.c daemon/control/local_submit.h \
	daemon/control/pickup.c daemon/control/pickup.h \
	daemon/control/queue_json.c daemon/control/queue_json.h \
	daemon/control/showq.c \
	daemon/control/submission.c daemon/control/submission.h \
	daemon/control/user_list.c daemon/control/user_list.h
EXTRA_DIST += daemon/control/README.md
