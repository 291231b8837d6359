/*
 * The module of pgsql tables, over libpq.
 *
 * Everything is done with the asynchronous calls, so that a server which does not answer holds a thread no longer than the
 * time limit says.
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/table/modules/module.h"

extern const struct table_module posthouse_table_module;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The library's messages end with a newline, and may have more of them. */
static void say(struct module_why *why, const char *text)
{
    snprintf(why->text, sizeof why->text, "%s", text != NULL && *text != '\0' ? text : "no reason given");
    for (char *p = why->text; *p != '\0'; p++) {
        if ((unsigned char)*p < ' ')
            *p = ' ';
    }
    for (size_t n = strlen(why->text); n > 0 && why->text[n - 1] == ' '; n--)
        why->text[n - 1] = '\0';
}

static bool wait_for(PGconn *c, short events, int64_t deadline, struct module_why *why)
{
    struct pollfd p = { .fd = PQsocket(c), .events = events };
    for (;;) {
        int64_t left = deadline - now_ms();
        int n = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (n > 0)
            return true;
        if (n == 0) {
            why->timed_out = true;
            say(why, "the server does not answer in time");
            return false;
        }
    }
}

static bool finish_connect(PGconn *c, int64_t deadline, struct module_why *why)
{
    PostgresPollingStatusType st = PGRES_POLLING_WRITING;
    while (st != PGRES_POLLING_OK) {
        if (st == PGRES_POLLING_FAILED) {
            say(why, PQerrorMessage(c));
            return false;
        }
        if (!wait_for(c, st == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline, why))
            return false;
        st = PQconnectPoll(c);
    }
    return true;
}

/* "inet:host:port", "unix:/directory", "host", "[::1]:port" into host and port. */
static void split_host(const char *item, char *host, size_t size, const char **port)
{
    *port = NULL;
    if (strncmp(item, "unix:", 5) == 0 || strncmp(item, "inet:", 5) == 0)
        item += 5;
    snprintf(host, size, "%s", item);
    if (host[0] == '/')
        return;
    char *close = host[0] == '[' ? strchr(host, ']') : NULL;
    char *colon = strrchr(close != NULL ? close : host, ':');
    if (colon != NULL) {
        *colon = '\0';
        *port = item + (colon - host) + 1;
    }
    if (close != NULL) {
        *close = '\0';
        memmove(host, host + 1, strlen(host));
    }
}

static PGconn *start(const struct module_settings *s, const char *item)
{
    char host[512];
    const char *port;
    const char *names[8], *values[8];
    int n = 0;
    if (strncmp(item, "postgresql://", 13) == 0 || strncmp(item, "postgres://", 11) == 0) {
        /* dbname is read as a URI; what follows it wins over what is in it only where the URI says nothing */
        names[n] = "dbname";
        values[n++] = item;
        names[n] = NULL;
        return PQconnectStartParams(names, values, 1);
    }
    split_host(item, host, sizeof host, &port);
    const char *const settings[][2] = { { "user", "user" }, { "password", "password" }, { "dbname", "dbname" } };
    names[n] = "host";
    values[n++] = host;
    if (port != NULL) {
        names[n] = "port";
        values[n++] = port;
    }
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        const char *v = s->text(s->arg, settings[i][0], "");
        if (*v != '\0') {
            names[n] = settings[i][1];
            values[n++] = v;
        }
    }
    names[n] = NULL;
    return PQconnectStartParams(names, values, 0);
}

static void *pgsql_open(const struct module_settings *s, const char *host, int64_t timeout_ms, struct module_why *why)
{
    PGconn *c = start(s, host);
    if (c == NULL || PQstatus(c) == CONNECTION_BAD) {
        say(why, c != NULL ? PQerrorMessage(c) : "no memory");
    } else if (finish_connect(c, now_ms() + timeout_ms, why)) {
        if (PQsetClientEncoding(c, s->text(s->arg, "encoding", "UTF8")) == 0 && PQsetnonblocking(c, 1) == 0)
            return c;
        say(why, PQerrorMessage(c));
    }
    PQfinish(c);
    return NULL;
}

static void pgsql_close(void *conn)
{
    PQfinish(conn);
}

static long pgsql_quote(void *conn, const char *in, size_t n, char *out)
{
    int bad = 0;
    size_t length = PQescapeStringConn(conn, out, in, n, &bad);
    return bad ? -1 : (long)length;
}

static bool send_all(PGconn *c, int64_t deadline, struct module_why *why)
{
    int rest;
    while ((rest = PQflush(c)) > 0) {
        if (!wait_for(c, POLLIN | POLLOUT, deadline, why))
            return false;
        if (!PQconsumeInput(c))
            break;
    }
    if (rest == 0)
        return true;
    say(why, PQerrorMessage(c));
    return false;
}

static bool wait_result(PGconn *c, int64_t deadline, struct module_why *why)
{
    while (PQisBusy(c)) {
        if (!wait_for(c, POLLIN, deadline, why))
            return false;
        if (!PQconsumeInput(c)) {
            say(why, PQerrorMessage(c));
            return false;
        }
    }
    return true;
}

static enum module_status take(const PGresult *r, void (*cell)(void *arg, const char *text, size_t n), void *arg,
                               struct module_why *why)
{
    switch (PQresultStatus(r)) {
    case PGRES_TUPLES_OK:
        break;
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        say(why, "the query returns no rows of a table");
        return MODULE_REFUSED;
    default:
        say(why, PQresultErrorMessage(r));
        return MODULE_REFUSED;
    }
    for (int row = 0; row < PQntuples(r); row++) {
        for (int col = 0; col < PQnfields(r); col++) {
            if (!PQgetisnull(r, row, col))
                cell(arg, PQgetvalue(r, row, col), (size_t)PQgetlength(r, row, col));
        }
    }
    return MODULE_OK;
}

static enum module_status pgsql_query(void *conn, const char *sql, size_t n, int64_t timeout_ms,
                                      void (*cell)(void *arg, const char *text, size_t n), void *arg, struct module_why *why)
{
    PGconn *c = conn;
    int64_t deadline = now_ms() + timeout_ms;
    enum module_status status = MODULE_OK;
    PGresult *r;
    (void)n;
    if (!PQsendQuery(c, sql)) {
        say(why, PQerrorMessage(c));
        return MODULE_LOST;
    }
    if (!send_all(c, deadline, why))
        return MODULE_LOST;
    for (;;) {
        if (!wait_result(c, deadline, why))
            return MODULE_LOST;
        if ((r = PQgetResult(c)) == NULL)
            break;
        if (status == MODULE_OK)
            status = take(r, cell, arg, why);
        PQclear(r);
    }
    return PQstatus(c) == CONNECTION_OK ? status : MODULE_LOST;
}

static const struct table_sql_driver driver = {
    .open = pgsql_open, .close = pgsql_close, .quote = pgsql_quote, .query = pgsql_query,
};
const struct table_module posthouse_table_module = { .abi = TABLE_MODULE_ABI, .type = "pgsql", .sql = &driver };
