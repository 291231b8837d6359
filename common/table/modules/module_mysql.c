/*
 * The module of mysql tables, over MariaDB's client library.
 *
 * The library waits by itself; its time-outs are set when connecting, so a query has the time limit that the connection
 * was opened with.
 */
#include <mysql.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <errmsg.h>

#include "common/table/modules/module.h"

extern const struct table_module posthouse_table_module;

#define QUERY_TIMEOUT_S 30

struct connection {
    MYSQL *m;                 /* owned */
    bool requires_result_set;
};

static void begin_library(void)
{
    (void)!mysql_library_init(0, NULL, NULL);
}

/* The first call must not happen in two threads at once. */
static bool library_is_ready(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    return pthread_once(&once, begin_library) == 0;
}

static void say(MYSQL *m, struct module_why *why)
{
    snprintf(why->text, sizeof why->text, "%s", mysql_error(m));
    why->timed_out = strcasestr(why->text, "timed out") != NULL || strcasestr(why->text, "timeout") != NULL
                     || (mysql_errno(m) == CR_CONN_HOST_ERROR && strstr(why->text, "(110)") != NULL);
}

static bool is_yes(const struct module_settings *s, const char *name, const char *otherwise)
{
    return strcasecmp(s->text(s->arg, name, otherwise), "yes") == 0;
}

static const char *or_null(const struct module_settings *s, const char *name)
{
    const char *v = s->text(s->arg, name, "");
    return *v != '\0' ? v : NULL;
}

static void set_options(MYSQL *m, const struct module_settings *s, int64_t timeout_ms)
{
    unsigned connect_s = (unsigned)((timeout_ms + 999) / 1000), query_s = QUERY_TIMEOUT_S;
    const char *file = or_null(s, "option_file"), *group = s->text(s->arg, "option_group", "client");
    const char *charset = s->text(s->arg, "charset", "utf8mb4");
    mysql_options(m, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
    mysql_options(m, MYSQL_OPT_READ_TIMEOUT, &query_s);
    mysql_options(m, MYSQL_OPT_WRITE_TIMEOUT, &query_s);
    if (file != NULL)
        mysql_options(m, MYSQL_READ_DEFAULT_FILE, file);
    if (file != NULL || *group != '\0')
        mysql_options(m, MYSQL_READ_DEFAULT_GROUP, *group != '\0' ? group : "client");
    mysql_options(m, MYSQL_SET_CHARSET_NAME, charset);
    const char *key = or_null(s, "tls_key_file"), *cert = or_null(s, "tls_cert_file"), *ca = or_null(s, "tls_CAfile");
    const char *path = or_null(s, "tls_CApath"), *ciphers = or_null(s, "tls_ciphers");
    if (key != NULL || cert != NULL || ca != NULL || path != NULL || ciphers != NULL)
        mysql_ssl_set(m, key, cert, ca, path, ciphers);
    if (s->text(s->arg, "tls_verify_cert", NULL) != NULL) {
        my_bool verify = is_yes(s, "tls_verify_cert", "no");
        mysql_options(m, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
    }
}

/* Host, port and socket of an item; NULL means the library's default. */
static bool split_host(const char *item, char *host, size_t size, unsigned *port, const char **path)
{
    *port = 0;
    *path = NULL;
    host[0] = '\0';
    if (strncmp(item, "unix:", 5) == 0) {
        *path = item + 5;
        return true;
    }
    if (strncmp(item, "inet:", 5) == 0)
        item += 5;
    int n = snprintf(host, size, "%s", item);
    char *close = host[0] == '[' ? strchr(host, ']') : NULL;
    char *colon = strrchr(close != NULL ? close : host, ':');
    if (colon != NULL) {
        char *end;
        unsigned long v = strtoul(colon + 1, &end, 10);
        if (colon[1] == '\0' || *end != '\0' || v == 0 || v > 65535)
            return false;
        *port = (unsigned)v;
        *colon = '\0';
    }
    if (close != NULL) {
        *close = '\0';
        memmove(host, host + 1, strlen(host));
    }
    return n > 0 && (size_t)n < size;
}

static void mysql_close_connection(void *conn)
{
    struct connection *c = conn;
    mysql_close(c->m);
    free(c);
}

static void *mysql_open_connection(const struct module_settings *s, const char *item, int64_t timeout_ms, struct module_why *why)
{
    char host[512];
    unsigned port;
    const char *path;
    if (!split_host(item, host, sizeof host, &port, &path)) {
        snprintf(why->text, sizeof why->text, "\"%.200s\" is no host, host:port or unix:path", item);
        return NULL;
    }
    struct connection *c = library_is_ready() ? calloc(1, sizeof *c) : NULL;
    if (c == NULL || (c->m = mysql_init(NULL)) == NULL) {
        snprintf(why->text, sizeof why->text, "no memory");
        free(c);
        return NULL;
    }
    c->requires_result_set = is_yes(s, "require_result_set", "yes");
    set_options(c->m, s, timeout_ms);
    if (mysql_real_connect(c->m, host[0] != '\0' ? host : NULL, or_null(s, "user"), or_null(s, "password"),
                           or_null(s, "dbname"), port, path, CLIENT_MULTI_RESULTS) != NULL)
        return c;
    say(c->m, why);
    mysql_close_connection(c);
    return NULL;
}

static long mysql_quote(void *conn, const char *in, size_t n, char *out)
{
    struct connection *c = conn;
    unsigned long length = mysql_real_escape_string(c->m, out, in, n);
    return length == (unsigned long)-1 ? -1 : (long)length;
}

static enum module_status failure(struct connection *c, struct module_why *why)
{
    unsigned code = mysql_errno(c->m);
    say(c->m, why);
    return code >= CR_MIN_ERROR && code <= CR_MAX_ERROR ? MODULE_LOST : MODULE_REFUSED;
}

static void take(MYSQL_RES *r, void (*cell)(void *arg, const char *text, size_t n), void *arg)
{
    MYSQL_ROW row;
    unsigned columns = mysql_num_fields(r);
    while ((row = mysql_fetch_row(r)) != NULL) {
        const unsigned long *lengths = mysql_fetch_lengths(r);
        for (unsigned i = 0; i < columns; i++) {
            if (row[i] != NULL)
                cell(arg, row[i], lengths[i]);
        }
    }
}

/* A procedure's SELECT is followed by a result without columns, its status. */
static enum module_status mysql_query_rows(void *conn, const char *sql, size_t n, int64_t timeout_ms,
                                           void (*cell)(void *arg, const char *text, size_t n), void *arg, struct module_why *why)
{
    struct connection *c = conn;
    int sets = 0, more = 0;
    (void)timeout_ms;
    if (mysql_real_query(c->m, sql, n) != 0)
        return failure(c, why);
    for (; more == 0; more = mysql_next_result(c->m)) {
        MYSQL_RES *r = mysql_store_result(c->m);
        if (r == NULL && mysql_field_count(c->m) != 0)
            return failure(c, why);
        if (r != NULL && ++sets == 1)
            take(r, cell, arg);
        if (r != NULL)
            mysql_free_result(r);
    }
    if (more > 0)
        return failure(c, why);
    if (sets > 1) {
        snprintf(why->text, sizeof why->text, "the query has more than one result set");
        return MODULE_REFUSED;
    }
    if (sets == 0 && c->requires_result_set) {
        snprintf(why->text, sizeof why->text, "the query has no result set (require_result_set = yes)");
        return MODULE_REFUSED;
    }
    return sets == 0 ? MODULE_NONE : MODULE_OK;
}

static const struct table_sql_driver driver = {
    .sockets_first = true, .open = mysql_open_connection, .close = mysql_close_connection, .quote = mysql_quote,
    .query = mysql_query_rows,
};
const struct table_module posthouse_table_module = { .abi = TABLE_MODULE_ABI, .type = "mysql", .sql = &driver };
