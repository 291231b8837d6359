/*
 * Each option is a row: how its value is checked, what it says of a message or of a recipient. The statement is
 *
 *    SELECT columns FROM messages m WHERE (message terms) AND m.id IN (SELECT r.message FROM recipients r WHERE (recipient terms))
 *
 * Few messages are expected when the sender or the ids are given: then EXISTS asks for the recipients of each, instead
 * of going through all recipients once.
 *
 * '*' in a pattern stands for anything. LIKE knows two special characters, which are escaped; it compares without case
 * in ASCII, as the tables do.
 */
#include "queue/reason_class.h"
#include "queue/select.h"

#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "queue/qid.h"

enum key {
    KEY_ID, KEY_SENDER, KEY_RECIPIENT, KEY_DESTINATION, KEY_TRANSPORT, KEY_REASON, KEY_CODE, KEY_CLIENT, KEY_OLDER, KEY_NEWER,
    KEY_LARGER, KEY_SMALLER, KEY_STATE, KEY_WHERE, KEYS
};

static const struct selection_option options[] = {
    { "sender", "ADDRESS", "of this sender; <> is the null sender" },
    { "recipient", "ADDRESS", "waiting for this recipient" },
    { "destination", "NEXTHOP", "waiting for this next hop" },
    { "transport", "NAME", "waiting for this transport" },
    { "reason", "TEXT", "whose last failure contains the text" },
    { "code", "CODE", "whose last failure had this status (4.4.1), its beginning (4.4), or this reply (451)" },
    { "client", "HOST", "from this client, name or address" },
    { "older", "AGE", "arrived longer ago: 90s, 15m, 2h, 3d, 1w" },
    { "newer", "AGE", "arrived since" },
    { "larger", "SIZE", "more bytes: 500, 10k, 2M" },
    { "smaller", "SIZE", "fewer bytes" },
    { "state", "STATE", "active, deferred, hold or incoming" },
    { "where", "SQL", "for which the SQL condition holds" },
    { NULL, NULL, NULL },
};

static const char *const states[] = { "active", "deferred", "hold", "incoming" };

#define WHERE_COLUMNS "id, queue_id, size, arrival_us, age, sender, message_id, client_name, client_addr, recipients, on_hold," \
                      " recipient, transport, nexthop, attempts, due_us, wait, dsn, host, reason"

struct value {
    enum key key;
    int64_t number;
    char *text; /* owned: LIKE pattern, exact text, or SQL */
    bool is_pattern;
};

struct selection {
    struct value v[SELECT_VALUES_MAX];
    size_t n, options;
};

struct selection *selection_new(void)
{
    return xcalloc(1, sizeof(struct selection));
}

void selection_free(struct selection **sp)
{
    struct selection *s = *sp;
    *sp = NULL;
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i].text);
    free(s);
}

const struct selection_option *selection_options(void)
{
    return options;
}

bool selection_is_empty(const struct selection *s)
{
    return s->n == 0;
}

/* ---- values ---- */

/* Digits, then one of `units` (a letter each, with its factor) or nothing. */
static bool parse_with_unit(struct span t, const char *units, const int64_t *factors, int64_t *out)
{
    int64_t factor = 1, n;
    t = span_trim(t);
    if (t.n > 0 && !ascii_is_digit(t.p[t.n - 1])) {
        const char *u = strchr(units, ascii_lower(t.p[t.n - 1]));
        if (u == NULL || *u == '\0')
            return false;
        factor = factors[u - units];
        t.n--;
    }
    return num_parse(t, 0, INT64_C(1) << 52, &n) && !__builtin_mul_overflow(n, factor, out) && *out <= INT64_C(1) << 52;
}

bool select_parse_age(struct span text, int64_t *seconds)
{
    static const int64_t factors[] = { 1, 60, 3600, 86400, 604800 };
    return parse_with_unit(text, "smhdw", factors, seconds) && *seconds <= INT64_C(1) << 40;
}

bool select_parse_size(struct span text, int64_t *bytes)
{
    static const int64_t factors[] = { 1, 1 << 10, 1 << 20, 1 << 30, INT64_C(1) << 40 };
    return parse_with_unit(text, "bkmgt", factors, bytes);
}

/* '*' becomes '%'; what LIKE would take for special is escaped. Around it, `before` and `after`. */
static char *like_pattern(const char *before, struct span t, const char *after)
{
    struct buf b = BUF_INIT(0);
    buf_puts(&b, before);
    for (size_t i = 0; i < t.n; i++) {
        if (t.p[i] == '%' || t.p[i] == '_' || t.p[i] == '\\')
            buf_putc(&b, '\\');
        buf_putc(&b, t.p[i] == '*' ? '%' : t.p[i]);
    }
    buf_puts(&b, after);
    return buf_detach(&b);
}

static void set_text(struct value *v, struct span t, const char *before, const char *after)
{
    v->is_pattern = *before != '\0' || *after != '\0' || span_find(t, '*') >= 0;
    v->text = v->is_pattern ? like_pattern(before, t, after) : xstrndup(t.p != NULL ? t.p : "", t.n);
}

/* "<user@dom>", "user@dom", "@dom" for everybody there, "<>" for the null sender. */
static bool set_address(struct value *v, struct span t, struct err *e)
{
    bool null = span_eq(t, SPAN_LIT("<>")) || (v->key == KEY_SENDER && span_ieq(t, SPAN_LIT("MAILER-DAEMON")));
    if (t.n >= 2 && t.p[0] == '<' && t.p[t.n - 1] == '>')
        t = span_of(t.p + 1, t.n - 2);
    if ((t.n == 0 && !null) || (null && v->key == KEY_RECIPIENT)) {
        err_set(e, "expected an address, a pattern such as *@example.com%s", v->key == KEY_SENDER ? ", or <> for the null sender" : "");
        return false;
    }
    if (null)
        t = span_of("", 0);
    set_text(v, t, t.n > 0 && t.p[0] == '@' ? "%" : "", "");
    return true;
}

static size_t digits(struct span t, size_t at)
{
    size_t n = 0;
    while (at + n < t.n && ascii_is_digit(t.p[at + n]))
        n++;
    return n;
}

/* "4", "4.4", "4.4.1", or "451". */
static bool is_code(struct span t)
{
    size_t at = 1;
    if (t.n == 0 || t.p[0] < '2' || t.p[0] > '5')
        return false;
    if (t.n == 3 && digits(t, 0) == 3)
        return true;
    for (int part = 0; part < 2 && at < t.n; part++) {
        size_t n = t.p[at] == '.' ? digits(t, at + 1) : 0;
        if (n == 0 || n > 3)
            return false;
        at += 1 + n;
    }
    return at == t.n;
}

static bool set_state(struct value *v, struct span t, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        if (span_ieq_cstr(t, states[i])) {
            v->number = (int64_t)i;
            return true;
        }
    }
    err_set(e, "expected active, deferred, hold or incoming");
    return false;
}

/* The condition stands in parentheses of ours, which it must not close. */
static bool is_balanced(struct span t)
{
    int depth = 0;
    char quote = 0;
    for (size_t i = 0; i < t.n; i++) {
        char c = t.p[i];
        if (quote != 0)
            quote = c == quote ? 0 : quote;
        else if (c == '\'' || c == '"' || c == '`')
            quote = c;
        else if (c == '[')
            quote = ']';
        else if (c == ';' || (c == ')' && --depth < 0))
            return false;
        else
            depth += c == '(';
    }
    return depth == 0 && quote == 0;
}

static bool set_value(struct value *v, struct span t, struct err *e)
{
    uint64_t id;
    switch (v->key) {
    case KEY_ID:
        if (!qid_parse(t, &id)) {
            err_set(e, "expected a queue id");
            return false;
        }
        v->number = (int64_t)id;
        return true;
    case KEY_SENDER:
    case KEY_RECIPIENT:
        return set_address(v, t, e);
    case KEY_DESTINATION:
    case KEY_TRANSPORT:
    case KEY_CLIENT:
        if (t.n == 0) {
            err_set(e, "expected a name, or a pattern with *");
            return false;
        }
        set_text(v, t, "", "");
        return true;
    case KEY_REASON:
        if (t.n == 0) {
            err_set(e, "expected a part of the text");
            return false;
        }
        set_text(v, t, "%", "%");
        return true;
    case KEY_CODE:
        if (!is_code(t)) {
            err_set(e, "expected a status such as 4.4.1, its beginning (4.4), or a reply code of three digits");
            return false;
        }
        v->text = xstrndup(t.p, t.n);
        return true;
    case KEY_OLDER:
    case KEY_NEWER:
        if (select_parse_age(t, &v->number))
            return true;
        err_set(e, "expected an age: a number of seconds, or with one of the units s, m, h, d, w (30m)");
        return false;
    case KEY_LARGER:
    case KEY_SMALLER:
        if (select_parse_size(t, &v->number))
            return true;
        err_set(e, "expected a size: a number of bytes, or with one of the units k, M, G (10k)");
        return false;
    case KEY_STATE:
        return set_state(v, t, e);
    case KEY_WHERE:
        if (t.n == 0 || !is_balanced(t)) {
            err_set(e, "expected one SQL condition, without ';' and with its quotes and parentheses closed");
            return false;
        }
        v->text = xstrndup(t.p, t.n);
        return true;
    case KEYS:
        break;
    }
    return false;
}

bool selection_add(struct selection *s, const char *name, struct span value, struct err *e)
{
    struct value v = { .key = KEYS };
    struct err why = ERR_INIT;
    if (strcmp(name, "id") == 0)
        v.key = KEY_ID;
    for (size_t i = 0; options[i].name != NULL; i++)
        if (strcmp(options[i].name, name) == 0)
            v.key = (enum key)(KEY_SENDER + (int)i);
    if (v.key == KEYS) {
        err_set(e, "unknown selection \"%.40s\"", name);
        return false;
    }
    if (s->n == SELECT_VALUES_MAX || (v.key != KEY_ID && s->options == SELECT_OPTIONS_MAX)) {
        err_set(e, "more than %d values in a selection", v.key == KEY_ID ? SELECT_VALUES_MAX : SELECT_OPTIONS_MAX);
        return false;
    }
    if (value.n > 8192 || memchr(value.n > 0 ? value.p : "", '\0', value.n) != NULL) {
        err_set(e, "the value for %s is too long", name);
        return false;
    }
    if (!set_value(&v, value, &why)) {
        err_set(e, "%s \"%.*s\": %s", name, value.n > 100 ? 100 : (int)value.n, value.n > 0 ? value.p : "", why.text);
        return false;
    }
    s->v[s->n++] = v;
    s->options += v.key != KEY_ID;
    return true;
}

/* ---- the statement ---- */

struct compiler {
    const struct selection *s;
    struct buf sql;
    int64_t now_us;
    const struct value *bound[SELECT_VALUES_MAX * 4]; /* whose text parameter i + 1 is */
    const char *bound_text[SELECT_VALUES_MAX * 4];    /* owned: a text made for it, instead */
    int bound_n;
};

static int bind_value(struct compiler *c, const struct value *v, char *made)
{
    c->bound[c->bound_n] = v;
    c->bound_text[c->bound_n] = made;
    return ++c->bound_n;
}

static void compare(struct compiler *c, const char *column, const struct value *v)
{
    if (v->is_pattern)
        buf_printf(&c->sql, "%s LIKE ?%d ESCAPE '\\'", column, bind_value(c, v, NULL));
    else
        buf_printf(&c->sql, "%s = ?%d", column, bind_value(c, v, NULL));
}

/* A host without brackets and port is meant with and without them. */
static void destination(struct compiler *c, const struct value *v)
{
    compare(c, "r.nexthop", v);
    if (v->is_pattern || strchr(v->text, '[') != NULL || strchr(v->text, ':') != NULL)
        return;
    static const char *const forms[][2] = { { "", ":%" }, { "[", "]" }, { "[", "]:%" } };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        char *t = like_pattern(forms[i][0], span_cstr(v->text), forms[i][1]);
        buf_printf(&c->sql, " OR r.nexthop LIKE ?%d ESCAPE '\\'", bind_value(c, v, t));
    }
}

bool select_is_destination(struct span value, struct span nexthop)
{
    if (span_ieq(value, nexthop))
        return true;
    if (value.n == 0 || span_find(value, '[') >= 0 || span_find(value, ':') >= 0)
        return false;
    struct span rest = nexthop;
    bool braced = span_starts_with(rest, SPAN_LIT("["));
    if (braced)
        rest = span_from(rest, 1);
    if (rest.n < value.n || !span_ieq(span_of(rest.p, value.n), value))
        return false;
    rest = span_from(rest, value.n);
    if (braced && !span_starts_with(rest, SPAN_LIT("]")))
        return false;
    rest = span_from(rest, braced ? 1 : 0);
    return rest.n == 0 || rest.p[0] == ':';
}

static void code(struct compiler *c, const struct value *v)
{
    if (strchr(v->text, '.') == NULL && strlen(v->text) == 3) {
        buf_printf(&c->sql, "reply_code(r.reason) = CAST(?%d AS INTEGER)", bind_value(c, v, NULL));
        return;
    }
    char *t = like_pattern("", span_cstr(v->text), ".%");
    int at = bind_value(c, v, NULL);
    buf_printf(&c->sql, "r.dsn = ?%d OR r.dsn LIKE ?%d", at, bind_value(c, v, t));
}

static void state(struct compiler *c, const struct value *v)
{
    static const char tried[] = "EXISTS (SELECT 1 FROM recipients t WHERE t.message = m.id AND t.attempts > 0)";
    switch (v->number) {
    case 0:
        buf_puts(&c->sql, "m.on_hold = 0 AND is_active(m.id)");
        break;
    case 2:
        buf_puts(&c->sql, "m.on_hold = 1");
        break;
    default:
        buf_printf(&c->sql, "m.on_hold = 0 AND NOT is_active(m.id) AND %s%s", v->number == 1 ? "" : "NOT ", tried);
        break;
    }
}

/* The rows that a condition speaks of, under the names that the manual gives. */
static void where_rows(struct compiler *c, const char *messages, const char *recipients)
{
    buf_printf(&c->sql,
               "SELECT m.id AS id, printf('%%X', m.id) AS queue_id, m.size AS size, m.arrival_us AS arrival_us,"
               " (%lld - m.arrival_us) / 1000000 AS age, m.sender AS sender, m.message_id AS message_id,"
               " m.client_name AS client_name, m.client_addr AS client_addr, m.rcpt_count AS recipients, m.on_hold AS on_hold,"
               " r.address AS recipient, r.transport AS transport, r.nexthop AS nexthop, r.attempts AS attempts, r.due_us AS due_us,"
               " (r.due_us - %lld) / 1000000 AS wait, r.dsn AS dsn, r.mta AS host, r.reason AS reason"
               " FROM %s m JOIN %s r ON r.message = m.id WHERE r.state <> 2",
               (long long)c->now_us, (long long)c->now_us, messages, recipients);
}

static void term(struct compiler *c, const struct value *v)
{
    switch (v->key) {
    case KEY_ID:
        buf_printf(&c->sql, "m.id = %lld", (long long)v->number);
        break;
    case KEY_SENDER:
        compare(c, "m.sender", v);
        break;
    case KEY_CLIENT:
        compare(c, "m.client_name", v);
        buf_puts(&c->sql, " OR ");
        compare(c, "m.client_addr", v);
        break;
    case KEY_RECIPIENT:
        compare(c, "r.address", v);
        break;
    case KEY_DESTINATION:
        destination(c, v);
        break;
    case KEY_TRANSPORT:
        compare(c, "r.transport", v);
        break;
    case KEY_REASON:
        compare(c, "r.reason", v);
        break;
    case KEY_CODE:
        code(c, v);
        break;
    case KEY_OLDER:
    case KEY_NEWER:
        buf_printf(&c->sql, "m.arrival_us %s %lld", v->key == KEY_OLDER ? "<" : ">=", (long long)(c->now_us - v->number * 1000000));
        break;
    case KEY_LARGER:
    case KEY_SMALLER:
        buf_printf(&c->sql, "m.size %s %lld", v->key == KEY_LARGER ? ">" : "<", (long long)v->number);
        break;
    case KEY_STATE:
        state(c, v);
        break;
    case KEY_WHERE:
    case KEYS:
        break;
    }
}

static bool is_of_recipient(enum key k)
{
    return k >= KEY_RECIPIENT && k <= KEY_CODE;
}

static bool has(const struct selection *s, enum key k)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].key == k)
            return true;
    return false;
}

/* "AND (a OR b)" for the values of one option. Many ids are a list, which SQLite looks up one by one. */
static void any_of(struct compiler *c, enum key k)
{
    const struct selection *s = c->s;
    const char *between = "";
    buf_puts(&c->sql, k == KEY_ID ? " AND m.id IN (" : " AND (");
    for (size_t i = 0; i < s->n; i++) {
        if (s->v[i].key != k)
            continue;
        buf_puts(&c->sql, between);
        if (k == KEY_ID)
            buf_printf(&c->sql, "%lld", (long long)s->v[i].number);
        else
            term(c, &s->v[i]);
        between = k == KEY_ID ? "," : " OR ";
    }
    buf_puts(&c->sql, ")");
}

static void recipients(struct compiler *c, const char *table)
{
    bool few = has(c->s, KEY_ID) || has(c->s, KEY_SENDER);
    if (few)
        buf_printf(&c->sql, " AND EXISTS (SELECT 1 FROM %s r WHERE r.message = m.id AND r.state <> 2", table);
    else
        buf_printf(&c->sql, " AND m.id IN (SELECT r.message FROM %s r WHERE r.state <> 2", table);
    for (enum key k = KEY_RECIPIENT; k <= KEY_CODE; k++)
        if (has(c->s, k))
            any_of(c, k);
    buf_puts(&c->sql, ")");
}

static void compile(struct compiler *c, enum selection_of of, const char *columns)
{
    const char *messages = of == SELECT_QUEUE ? "messages" : "deleted_messages";
    const char *rcpts = of == SELECT_QUEUE ? "recipients" : "deleted_recipients";
    bool has_rcpts = false;
    buf_printf(&c->sql, "SELECT %s FROM %s m WHERE 1", columns, messages);
    for (enum key k = KEY_ID; k < KEY_WHERE; k++) {
        if (!has(c->s, k))
            continue;
        if (is_of_recipient(k))
            has_rcpts = true;
        else
            any_of(c, k);
    }
    if (has_rcpts)
        recipients(c, rcpts);
    for (size_t i = 0; i < c->s->n; i++) {
        if (c->s->v[i].key != KEY_WHERE)
            continue;
        buf_puts(&c->sql, " AND m.id IN (SELECT id FROM (");
        where_rows(c, messages, rcpts);
        buf_printf(&c->sql, ") WHERE (%s\n))", c->s->v[i].text);
    }
    buf_puts(&c->sql, " ORDER BY m.id");
}

/* A condition alone, so that what is wrong with it is told, and not what is wrong with our statement. */
static enum query_status check_where(struct compiler *c, struct query *q, const struct value *v, enum selection_of of, struct err *e)
{
    sqlite3_stmt *st = NULL;
    struct err why = ERR_INIT;
    buf_reset(&c->sql);
    buf_puts(&c->sql, "SELECT 1 FROM (");
    where_rows(c, of == SELECT_QUEUE ? "messages" : "deleted_messages", of == SELECT_QUEUE ? "recipients" : "deleted_recipients");
    buf_printf(&c->sql, ") WHERE (%s\n)", v->text);
    enum query_status k = query_prepare(q, buf_span(&c->sql), &st, &why);
    if (k == QUERY_OK && sqlite3_bind_parameter_count(st) > 0) {
        err_set(&why, "parameters have no value here");
        k = QUERY_BAD;
    }
    sqlite3_finalize(st);
    buf_reset(&c->sql);
    if (k != QUERY_OK)
        err_set(e, "where \"%.100s\": %s (columns: " WHERE_COLUMNS ")", v->text, why.text);
    return k;
}

static void bind_all(const struct compiler *c, sqlite3_stmt *st)
{
    for (int i = 0; i < c->bound_n; i++)
        sqlite3_bind_text(st, i + 1, c->bound_text[i] != NULL ? c->bound_text[i] : c->bound[i]->text, -1, SQLITE_TRANSIENT);
}

static void reply_code(sqlite3_context *ctx, int argc UNUSED, sqlite3_value **argv)
{
    const char *text = (const char *)sqlite3_value_text(argv[0]);
    sqlite3_result_int(ctx, text != NULL ? reason_reply_code(span_of(text, (size_t)sqlite3_value_bytes(argv[0]))) : 0);
}

enum query_status selection_prepare(const struct selection *s, struct query *q, enum selection_of of, const char *columns,
                                    int64_t now_us, sqlite3_stmt **out, struct err *e)
{
    struct compiler *c = xcalloc(1, sizeof *c);
    enum query_status k = QUERY_OK;
    c->s = s;
    c->sql = BUF_INIT(0);
    c->now_us = now_us;
    if (has(s, KEY_STATE) && of == SELECT_DELETED) {
        err_set(e, "deleted messages have no state");
        k = QUERY_BAD;
    }
    if (k == QUERY_OK && has(s, KEY_CODE) && !query_add_function(q, "reply_code", 1, reply_code, NULL, NULL, e))
        k = QUERY_FAILED;
    for (size_t i = 0; k == QUERY_OK && i < s->n; i++)
        if (s->v[i].key == KEY_WHERE)
            k = check_where(c, q, &s->v[i], of, e);
    if (k == QUERY_OK) {
        compile(c, of, columns);
        k = query_prepare(q, buf_span(&c->sql), out, e);
    }
    if (k == QUERY_OK)
        bind_all(c, *out);
    for (int i = 0; i < c->bound_n; i++)
        free((char *)(uintptr_t)c->bound_text[i]);
    buf_free(&c->sql);
    free(c);
    return k;
}

/* ---- is_active() ---- */

struct id_set {
    size_t n;
    uint64_t ids[];
};

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void is_active(sqlite3_context *ctx, int argc UNUSED, sqlite3_value **argv)
{
    const struct id_set *set = sqlite3_user_data(ctx);
    uint64_t id = (uint64_t)sqlite3_value_int64(argv[0]);
    sqlite3_result_int(ctx, bsearch(&id, set->ids, set->n, sizeof id, by_number) != NULL);
}

bool selection_set_active(struct query *q, const uint64_t *ids, size_t n, struct err *e)
{
    struct id_set *set = xcalloc(1, sizeof *set + n * sizeof *ids);
    set->n = n;
    if (n > 0)
        memcpy(set->ids, ids, n * sizeof *ids);
    qsort(set->ids, n, sizeof *set->ids, by_number);
    return query_add_function(q, "is_active", 1, is_active, set, free, e);
}
