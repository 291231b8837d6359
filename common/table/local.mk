noinst_LIBRARIES += libtable.a
libtable_a_SOURCES = \
	common/table/lines.c common/table/lines.h \
	common/table/maps.c common/table/maps.h \
	common/table/match_list.c common/table/match_list.h \
	common/table/strmap.c common/table/strmap.h \
	common/table/table.c common/table/table.h common/table/table_internal.h \
	common/table/table_simple.c \
	common/table/table_text.c \
	common/table/table_types.c
EXTRA_DIST += common/table/README.md
