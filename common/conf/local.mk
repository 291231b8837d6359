noinst_LIBRARIES += libconf.a
libconf_a_SOURCES = \
	common/conf/client_params.def common/conf/other_params.def common/conf/param_status.def \
	common/conf/params.def common/conf/transport_params.def \
	common/conf/conf.h common/conf/conf_internal.h \
	common/conf/conf_check.c \
	common/conf/conf_dict.c common/conf/conf_dict.h \
	common/conf/conf_host.c common/conf/conf_host.h \
	common/conf/conf_lines.c common/conf/conf_lines.h \
	common/conf/conf_list.c \
	common/conf/conf_load.c \
	common/conf/conf_names.c \
	common/conf/conf_report.c common/conf/conf_report.h \
	common/conf/conf_scope.c common/conf/conf_scope.h \
	common/conf/conf_values.c \
	common/conf/expand.c common/conf/expand.h \
	common/conf/master_cf.c common/conf/master_cf.h \
	common/conf/param_table.c common/conf/param_table.h \
	common/conf/param_value.c common/conf/param_value.h \
	common/conf/params.h common/conf/params_undef.h
EXTRA_DIST += common/conf/README.md
