/*
 * module: what the daemon and a loadable table module know of each other
 *
 * Purpose    ldap, mysql and pgsql tables need libraries that not every site wants installed. A module is the thin layer over
 *            one such library: connect, ask, quote, close. Everything else (settings, pool, fail-over, templates, limits) is in
 *            the daemon and the same for all.
 * Source     ours
 * Threads    open() from any thread; a connection by one thread at a time, not always the same
 * Ownership  strings are borrowed for the call
 * Errors     enum module_status; why->text says what happened, in one line, without secrets
 *
 * A module is DIRECTORY/TYPE.so with one symbol, TABLE_MODULE_SYMBOL: a constant struct table_module. It includes no other
 * header of this project and links none of its libraries.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TABLE_MODULE_ABI 1u
#define TABLE_MODULE_SYMBOL "posthouse_table_module"

enum module_status {
    MODULE_OK,
    MODULE_NONE,     /* what was asked for does not exist (LDAP: no such object; SQL: no result set) */
    MODULE_REFUSED,  /* the server answered with an error; the connection is good */
    MODULE_LOST,     /* the connection is of no use any more */
};

struct module_why {
    char text[400];
    bool timed_out;
};

/* The table's settings, as written; `otherwise` when a name is not there. */
struct module_settings {
    const char *(*text)(void *arg, const char *name, const char *otherwise);
    void *arg;
};

struct table_sql_driver {
    bool sockets_first;        /* hosts that begin with unix: are tried before the others */
    /* host: an item of `hosts`. NULL with *why. */
    void *(*open)(const struct module_settings *s, const char *host, int64_t timeout_ms, struct module_why *why);
    void (*close)(void *conn);
    /* The inside of a string constant; `out` has room for 2 n + 1 bytes. The length, or -1: these bytes cannot be in one. */
    long (*quote)(void *conn, const char *in, size_t n, char *out);
    /* Every column of every row goes to cell(); NULL columns do not. */
    enum module_status (*query)(void *conn, const char *sql, size_t n, int64_t timeout_ms,
                                void (*cell)(void *arg, const char *text, size_t n), void *arg, struct module_why *why);
};

enum ldap_scope { LDAP_IN_SUBTREE, LDAP_IN_BASE, LDAP_IN_ONE_LEVEL };

struct ldap_question {
    const char *base, *filter;
    enum ldap_scope scope;
    const char *const *attributes; /* ended by NULL */
    int64_t size_limit;            /* entries; 0: none */
    int64_t timeout_ms;
};

/* What a search found, in order: an entry, then each value of each of its attributes. */
struct ldap_sink {
    void (*entry)(void *arg, const char *dn);
    void (*value)(void *arg, const char *attribute, const char *value, size_t n);
    void *arg;
};

struct table_ldap_driver {
    /* Connects and binds. NULL with *why. */
    void *(*open)(const struct module_settings *s, int64_t timeout_ms, struct module_why *why);
    void (*close)(void *conn);
    enum module_status (*search)(void *conn, const struct ldap_question *q, const struct ldap_sink *sink, struct module_why *why);
};

struct table_module {
    uint32_t abi;              /* TABLE_MODULE_ABI */
    const char *type;          /* "pgsql" */
    const struct table_sql_driver *sql;   /* one of the two */
    const struct table_ldap_driver *ldap;
};
