/* The table types by name, ordered for the search and for messages. */
#include "common/table/table_internal.h"

#define TEXT_TYPE(n) { n, TT_FILE | TT_FOLD | TT_CHECKED, table_text_load, NULL }
#define MISSING(n)   { n, TT_MISSING, NULL, NULL }

static const struct table_type types[] = {
    TEXT_TYPE("btree"),
    { "cdb", TT_FILE | TT_FOLD, table_cdb_load, ".cdb" },
    { "cidr", TT_FILE | TT_PATTERN, table_cidr_load, NULL },
    TEXT_TYPE("dbm"),
    { "environ", 0, table_environ_load, NULL },
    { "fail", 0, table_fail_load, NULL },
    TEXT_TYPE("hash"),
    { "inline", TT_FOLD, table_inline_load, NULL },
    MISSING("internal"),
    MISSING("ldap"),
    { "lmdb", TT_FILE | TT_FOLD, table_lmdb_load, ".lmdb" },
    MISSING("memcache"),
    MISSING("mongodb"),
    MISSING("mysql"),
    MISSING("nis"),
    MISSING("nisplus"),
    { "pcre", TT_FILE | TT_PATTERN, table_pcre_load, NULL },
    MISSING("pgsql"),
    { "pipemap", 0, table_pipe_load, NULL },
    { "randmap", 0, table_rand_load, NULL },
    { "regexp", TT_FILE | TT_PATTERN, table_regexp_load, NULL },
    TEXT_TYPE("sdbm"),
    MISSING("socketmap"),
    MISSING("sqlite"),
    { "static", 0, table_static_load, NULL },
    MISSING("tcp"),
    TEXT_TYPE("texthash"),
    { "unionmap", 0, table_union_load, NULL },
    { "unix", 0, table_unix_load, NULL },
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
    return "btree cdb cidr environ fail hash inline lmdb pcre pipemap randmap regexp static texthash unionmap unix";
}
