/* The table types by name, ordered for the search and for messages. */
#include "common/table/table_internal.h"

#define TEXT_TYPE(n) { n, TT_FILE | TT_FOLD | TT_CHECKED, table_text_load, NULL, NULL }
#define MISSING(n)   { n, TT_MISSING, NULL, NULL, NULL }
#define SERVER_TYPE(n) { #n, TT_SERVER | TT_SETTINGS | TT_FOLD, table_##n##_load, NULL, table_##n##_settings }

static const struct table_type types[] = {
    TEXT_TYPE("btree"),
    { "cdb", TT_FILE | TT_FOLD, table_cdb_load, ".cdb", NULL },
    { "cidr", TT_FILE | TT_PATTERN, table_cidr_load, NULL, NULL },
    TEXT_TYPE("dbm"),
    { "debug", 0, table_debug_load, NULL, NULL },
    { "environ", 0, table_environ_load, NULL, NULL },
    { "fail", 0, table_fail_load, NULL, NULL },
    TEXT_TYPE("hash"),
    { "inline", TT_FOLD | TT_CHECKED, table_inline_load, NULL, NULL },
    MISSING("internal"),
    SERVER_TYPE(ldap),
    { "lmdb", TT_FILE | TT_FOLD, table_lmdb_load, ".lmdb", NULL },
    SERVER_TYPE(memcache),
    MISSING("mongodb"),
    SERVER_TYPE(mysql),
    MISSING("nis"),
    MISSING("nisplus"),
    { "pcre", TT_FILE | TT_PATTERN, table_pcre_load, NULL, NULL },
    SERVER_TYPE(pgsql),
    { "pipemap", 0, table_pipe_load, NULL, NULL },
    { "randmap", TT_PATTERN, table_rand_load, NULL, NULL },
    { "regexp", TT_FILE | TT_PATTERN, table_regexp_load, NULL, NULL },
    TEXT_TYPE("sdbm"),
    { "socketmap", TT_SERVER | TT_PATTERN, table_socketmap_load, NULL, NULL },
    { "sqlite", TT_SETTINGS | TT_FOLD, table_sqlite_load, NULL, table_sqlite_settings },
    { "static", 0, table_static_load, NULL, NULL },
    { "tcp", TT_SERVER | TT_PATTERN, table_tcp_load, NULL, NULL },
    TEXT_TYPE("texthash"),
    { "unionmap", 0, table_union_load, NULL, NULL },
    { "unix", TT_FOLD | TT_WAITS, table_unix_load, NULL, NULL },
};

const struct table_type *table_type_find(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (span_ieq_cstr(name, types[i].name))
            return &types[i];
    }
    return NULL;
}

const char *table_type_names(void)
{
    return "btree cdb cidr debug environ fail hash inline ldap lmdb memcache mysql pcre pgsql pipemap randmap regexp socketmap sqlite static tcp texthash unionmap unix";
}
