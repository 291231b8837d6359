/*
 * The module of ldap tables, over OpenLDAP's client library.
 *
 * Connecting and binding wait inside the library, which is given the table's timeout for the network and for answers; a
 * search waits in ldap_result() with the time limit of the question.
 */
#include <ldap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#ifdef HAVE_SASL_SASL_H
#include <sasl/sasl.h>
#endif

#include "common/table/modules/module.h"

extern const struct table_module posthouse_table_module;

#define URLS_MAX 4096

static void say(struct module_why *why, int rc, const char *doing, const char *more)
{
    bool has_more = more != NULL && *more != '\0';
    snprintf(why->text, sizeof why->text, "%s: %s%s%.200s%s", doing, ldap_err2string(rc), has_more ? " (" : "", has_more ? more : "",
             has_more ? ")" : "");
    why->timed_out = rc == LDAP_TIMEOUT || rc == LDAP_TIMELIMIT_EXCEEDED;
}

static void say_last(struct module_why *why, LDAP *ld, int rc, const char *doing)
{
    char *more = NULL;
    ldap_get_option(ld, LDAP_OPT_DIAGNOSTIC_MESSAGE, &more);
    say(why, rc, doing, more);
    ldap_memfree(more);
}

static struct timeval timeval_of(int64_t ms)
{
    if (ms < 1)
        ms = 1;
    return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
}

static const char *text(const struct module_settings *s, const char *name, const char *otherwise)
{
    return s->text(s->arg, name, otherwise);
}

static int number(const struct module_settings *s, const char *name, const char *otherwise)
{
    return (int)strtol(text(s, name, otherwise), NULL, 10);
}

static bool is_yes(const struct module_settings *s, const char *name)
{
    return strcasecmp(text(s, name, "no"), "yes") == 0;
}

/* ---- connecting ---- */

/* server_host as the library wants it: URLs with blanks between. */
static bool make_urls(const struct module_settings *s, char *out, struct module_why *why)
{
    const char *p = text(s, "server_host", "localhost"), *port = text(s, "server_port", "389");
    size_t n = 0;
    if (*p == '\0')
        p = "localhost";
    for (;;) {
        p += strspn(p, ", \t\r\n");
        size_t len = strcspn(p, ", \t\r\n");
        if (len == 0)
            break;
        bool is_url = memmem(p, len, "://", 3) != NULL;
        const char *bracket = memchr(p, ']', len), *from = bracket != NULL ? bracket : p;
        bool has_port = memchr(from, ':', len - (size_t)(from - p)) != NULL;
        int more = snprintf(out + n, URLS_MAX - n, "%s%s%.*s%s%s", n > 0 ? " " : "", is_url ? "" : "ldap://", (int)len, p,
                            is_url || has_port ? "" : ":", is_url || has_port ? "" : port);
        if (more < 0 || (size_t)more >= URLS_MAX - n) {
            snprintf(why->text, sizeof why->text, "server_host is too long");
            return false;
        }
        n += (size_t)more;
        p += len;
    }
    return true;
}

static int set_text(LDAP *ld, int option, const struct module_settings *s, const char *name)
{
    const char *v = text(s, name, "");
    return *v != '\0' ? ldap_set_option(ld, option, v) : LDAP_OPT_SUCCESS;
}

static bool set_tls(LDAP *ld, const struct module_settings *s, struct module_why *why)
{
    int demand = is_yes(s, "tls_require_cert") ? LDAP_OPT_X_TLS_DEMAND : LDAP_OPT_X_TLS_NEVER, client = 0;
    static const struct { int option; const char *name; } texts[] = {
        { LDAP_OPT_X_TLS_CACERTFILE, "tls_ca_cert_file" }, { LDAP_OPT_X_TLS_CACERTDIR, "tls_ca_cert_dir" },
        { LDAP_OPT_X_TLS_CERTFILE, "tls_cert" }, { LDAP_OPT_X_TLS_KEYFILE, "tls_key" },
        { LDAP_OPT_X_TLS_RANDOM_FILE, "tls_random_file" }, { LDAP_OPT_X_TLS_CIPHER_SUITE, "tls_cipher_suite" },
    };
    if (ldap_set_option(ld, LDAP_OPT_X_TLS_REQUIRE_CERT, &demand) != LDAP_OPT_SUCCESS)
        return true; /* a library without TLS: a use of it fails by itself */
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (set_text(ld, texts[i].option, s, texts[i].name) == LDAP_OPT_SUCCESS || texts[i].option == LDAP_OPT_X_TLS_RANDOM_FILE)
            continue;
        snprintf(why->text, sizeof why->text, "%s: the library does not take it", texts[i].name);
        return false;
    }
    if (ldap_set_option(ld, LDAP_OPT_X_TLS_NEWCTX, &client) == LDAP_OPT_SUCCESS)
        return true;
    snprintf(why->text, sizeof why->text, "the TLS settings cannot be used: are the files there, and readable?");
    return false;
}

static bool set_options(LDAP *ld, const struct module_settings *s, int64_t timeout_ms, struct module_why *why)
{
    static const int derefs[] = { LDAP_DEREF_NEVER, LDAP_DEREF_SEARCHING, LDAP_DEREF_FINDING, LDAP_DEREF_ALWAYS };
    int version = number(s, "version", "2"), deref = number(s, "dereference", "0"), debug = number(s, "debuglevel", "0");
    struct timeval tv = timeval_of(timeout_ms);
    ldap_set_option(ld, LDAP_OPT_NETWORK_TIMEOUT, &tv);
    ldap_set_option(ld, LDAP_OPT_TIMEOUT, &tv);
    ldap_set_option(ld, LDAP_OPT_RESTART, LDAP_OPT_ON);
    ldap_set_option(ld, LDAP_OPT_REFERRALS, number(s, "chase_referrals", "0") != 0 ? LDAP_OPT_ON : LDAP_OPT_OFF);
    if (debug > 0)
        ldap_set_option(NULL, LDAP_OPT_DEBUG_LEVEL, &debug);
    if (ldap_set_option(ld, LDAP_OPT_PROTOCOL_VERSION, &version) != LDAP_OPT_SUCCESS || deref < 0 || deref > 3
        || ldap_set_option(ld, LDAP_OPT_DEREF, &derefs[deref]) != LDAP_OPT_SUCCESS) {
        snprintf(why->text, sizeof why->text, "version = %d, dereference = %d: the library does not take them", version, deref);
        return false;
    }
    return set_tls(ld, s, why);
}

/* ---- binding ---- */

static int bind_simple(LDAP *ld, const struct module_settings *s, int64_t timeout_ms)
{
    const char *password = text(s, "bind_pw", "");
    struct berval cred = { .bv_len = strlen(password), .bv_val = (char *)(uintptr_t)password };
    struct timeval tv = timeval_of(timeout_ms);
    LDAPMessage *res = NULL;
    int id, code = LDAP_OTHER;
    int rc = ldap_sasl_bind(ld, text(s, "bind_dn", ""), LDAP_SASL_SIMPLE, &cred, NULL, NULL, &id);
    if (rc != LDAP_SUCCESS)
        return rc;
    switch (ldap_result(ld, id, LDAP_MSG_ALL, &tv, &res)) {
    case -1:
        ldap_get_option(ld, LDAP_OPT_RESULT_CODE, &code);
        return code != LDAP_SUCCESS ? code : LDAP_SERVER_DOWN;
    case 0:
        ldap_abandon_ext(ld, id, NULL, NULL);
        return LDAP_TIMEOUT;
    default:
        rc = ldap_parse_result(ld, res, &code, NULL, NULL, NULL, NULL, 1);
        return rc != LDAP_SUCCESS ? rc : code;
    }
}

#ifdef HAVE_SASL_SASL_H
/* Answers what the mechanism asks for; nobody is there to be asked further. */
static int interact_cb(LDAP *ld, unsigned flags, void *defaults, void *in)
{
    const struct module_settings *s = defaults;
    (void)ld;
    (void)flags;
    for (sasl_interact_t *i = in; i->id != SASL_CB_LIST_END; i++) {
        const char *v = i->id == SASL_CB_USER       ? text(s, "sasl_authz_id", "")
                        : i->id == SASL_CB_AUTHNAME ? text(s, "bind_dn", "")
                        : i->id == SASL_CB_PASS     ? text(s, "bind_pw", "")
                        : i->id == SASL_CB_GETREALM ? text(s, "sasl_realm", "")
                                                    : "";
        if (*v == '\0' && i->defresult != NULL)
            v = i->defresult;
        i->result = v;
        i->len = (unsigned)strlen(v);
    }
    return LDAP_SUCCESS;
}

static int bind_sasl(LDAP *ld, const struct module_settings *s)
{
    char properties[40];
    const char *mechs = text(s, "sasl_mechs", "");
    snprintf(properties, sizeof properties, "minssf=%d", number(s, "sasl_minssf", "0"));
    int rc = ldap_set_option(ld, LDAP_OPT_X_SASL_SECPROPS, properties);
    if (rc != LDAP_OPT_SUCCESS)
        return LDAP_PARAM_ERROR;
    return ldap_sasl_interactive_bind_s(ld, NULL, *mechs != '\0' ? mechs : NULL, NULL, NULL, LDAP_SASL_QUIET, interact_cb,
                                        (void *)(uintptr_t)s);
}
#else
static int bind_sasl(LDAP *ld, const struct module_settings *s)
{
    (void)ld;
    (void)s;
    return LDAP_AUTH_METHOD_NOT_SUPPORTED;
}
#endif

static bool bind_to(LDAP *ld, const struct module_settings *s, int64_t timeout_ms, struct module_why *why)
{
    const char *how = text(s, "bind", "yes");
    int rc = LDAP_SUCCESS;
    if (is_yes(s, "start_tls") && (rc = ldap_start_tls_s(ld, NULL, NULL)) != LDAP_SUCCESS) {
        say_last(why, ld, rc, "STARTTLS");
        return false;
    }
    if (strcasecmp(how, "sasl") == 0)
        rc = bind_sasl(ld, s);
    else if (strcasecmp(how, "yes") == 0 || strcasecmp(how, "simple") == 0)
        rc = bind_simple(ld, s, timeout_ms);
    if (rc == LDAP_SUCCESS)
        return true;
    say_last(why, ld, rc, "bind");
    return false;
}

static void *ldap_open_connection(const struct module_settings *s, int64_t timeout_ms, struct module_why *why)
{
    char urls[URLS_MAX];
    LDAP *ld = NULL;
    if (!make_urls(s, urls, why))
        return NULL;
    int rc = ldap_initialize(&ld, urls);
    if (rc != LDAP_SUCCESS) {
        say(why, rc, "server_host", NULL);
        return NULL;
    }
    if (set_options(ld, s, timeout_ms, why) && bind_to(ld, s, timeout_ms, why))
        return ld;
    ldap_unbind_ext(ld, NULL, NULL);
    return NULL;
}

static void ldap_close_connection(void *conn)
{
    ldap_unbind_ext(conn, NULL, NULL);
}

/* ---- searching ---- */

static void tell_entry(LDAP *ld, LDAPMessage *m, const struct ldap_sink *sink)
{
    BerElement *ber = NULL;
    char *dn = ldap_get_dn(ld, m);
    sink->entry(sink->arg, dn != NULL ? dn : "");
    ldap_memfree(dn);
    for (char *a = ldap_first_attribute(ld, m, &ber); a != NULL; a = ldap_next_attribute(ld, m, ber)) {
        struct berval **v = ldap_get_values_len(ld, m, a);
        for (int i = 0; v != NULL && v[i] != NULL; i++)
            sink->value(sink->arg, a, v[i]->bv_val, v[i]->bv_len);
        ldap_value_free_len(v);
        ldap_memfree(a);
    }
    ber_free(ber, 0);
}

static enum module_status judge(LDAP *ld, LDAPMessage *res, const struct ldap_sink *sink, struct module_why *why)
{
    int code = LDAP_OTHER;
    char *more = NULL;
    enum module_status status = MODULE_LOST;
    int rc = ldap_parse_result(ld, res, &code, NULL, &more, NULL, NULL, 0);
    if (rc != LDAP_SUCCESS)
        code = rc;
    switch (code) {
    case LDAP_SUCCESS:
        for (LDAPMessage *m = ldap_first_entry(ld, res); m != NULL; m = ldap_next_entry(ld, m))
            tell_entry(ld, m, sink);
        status = MODULE_OK;
        break;
    case LDAP_NO_SUCH_OBJECT:
        status = MODULE_NONE;
        break;
    case LDAP_SIZELIMIT_EXCEEDED: case LDAP_INVALID_DN_SYNTAX: case LDAP_INSUFFICIENT_ACCESS: case LDAP_ADMINLIMIT_EXCEEDED:
    case LDAP_REFERRAL:
        say(why, code, "search", more);
        status = MODULE_REFUSED;
        break;
    default:
        say(why, code, "search", more);
    }
    ldap_memfree(more);
    return status;
}

static enum module_status ldap_search_for(void *conn, const struct ldap_question *q, const struct ldap_sink *sink, struct module_why *why)
{
    static const int scopes[] = { [LDAP_IN_SUBTREE] = LDAP_SCOPE_SUBTREE, [LDAP_IN_BASE] = LDAP_SCOPE_BASE,
                                  [LDAP_IN_ONE_LEVEL] = LDAP_SCOPE_ONELEVEL };
    LDAP *ld = conn;
    LDAPMessage *res = NULL;
    struct timeval tv = timeval_of(q->timeout_ms), server_tv = timeval_of(q->timeout_ms < 1000 ? 1000 : q->timeout_ms);
    int id, code = LDAP_SERVER_DOWN;
    int rc = ldap_search_ext(ld, q->base, scopes[q->scope], q->filter, (char **)(uintptr_t)q->attributes, 0, NULL, NULL, &server_tv,
                             (int)q->size_limit, &id);
    if (rc != LDAP_SUCCESS) {
        say(why, rc, "search", NULL);
        return rc == LDAP_FILTER_ERROR ? MODULE_REFUSED : MODULE_LOST;
    }
    switch (ldap_result(ld, id, LDAP_MSG_ALL, &tv, &res)) {
    case -1:
        ldap_get_option(ld, LDAP_OPT_RESULT_CODE, &code);
        say_last(why, ld, code != LDAP_SUCCESS ? code : LDAP_SERVER_DOWN, "search");
        return MODULE_LOST;
    case 0:
        ldap_abandon_ext(ld, id, NULL, NULL);
        say(why, LDAP_TIMEOUT, "search", NULL);
        return MODULE_LOST;
    default:
        break;
    }
    enum module_status status = judge(ld, res, sink, why);
    ldap_msgfree(res);
    return status;
}

static const struct table_ldap_driver driver = {
    .open = ldap_open_connection, .close = ldap_close_connection, .search = ldap_search_for,
};
const struct table_module posthouse_table_module = { .abi = TABLE_MODULE_ABI, .type = "ldap", .ldap = &driver };
