/*
 * Options may be written together with their value or before it ("-fjoe", "-f joe"); flags may be joined ("-ti"). "--" ends
 * them. The parser is our own because getopt() cannot do -q, whose value exists only when it is attached, and -o.
 */
#include "daemon/cmd/sendmail_options.h"

#include <string.h>
#include <sysexits.h>

#include "common/base/ascii.h"
#include "common/base/span.h"

#define ENVID_MAX 100

struct cursor {
    int argc, at;          /* at: index of the next argument */
    char **argv;
    const char *rest;      /* behind the letter, within its argument */
    struct sendmail_options *o;
    struct err *e;
};

static int bad(struct cursor *c, int status, const char *text, const char *value)
{
    err_set(c->e, "%s%s%s", text, value != NULL ? ": " : "", value != NULL ? value : "");
    return status;
}

/* The value of an option that must have one; NULL when it is missing. */
static const char *value_of(struct cursor *c)
{
    const char *v = NULL;
    if (c->rest[0] != '\0')
        v = c->rest;
    else if (c->at < c->argc)
        v = c->argv[c->at++];
    c->rest = "";
    return v;
}

static int set_mode(struct cursor *c, const char *v)
{
    static const struct { char letter; enum sendmail_mode mode; } modes[] = {
        { 'm', SM_DELIVER }, { 'p', SM_LIST }, { 's', SM_SMTP }, { 'i', SM_ALIASES }, { 'd', SM_DAEMON }, { 'l', SM_DAEMON },
        { 'v', SM_VERIFY },
    };
    if (v[0] == 'h' || v[0] == 'H' || v[0] == 'D')
        return bad(c, EX_UNAVAILABLE, "mode not available", v);
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (modes[i].letter == v[0]) {
            c->o->mode = modes[i].mode;
            return 0;
        }
    }
    return bad(c, EX_USAGE, "unknown mode: -b", v);
}

static int set_notify(struct cursor *c, const char *v)
{
    static const struct { const char *word; uint8_t bit; } words[] = {
        { "never", NOTIFY_NEVER }, { "success", NOTIFY_SUCCESS }, { "failure", NOTIFY_FAILURE }, { "delay", NOTIFY_DELAY },
    };
    struct span rest = span_cstr(v), word;
    uint8_t bits = 0;
    while (span_next_token(&rest, ", ", &word)) {
        uint8_t bit = 0;
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            bit = span_ieq_cstr(word, words[i].word) ? words[i].bit : bit;
        if (bit == 0)
            return bad(c, EX_USAGE, "-N takes never, or some of success,failure,delay; not", v);
        bits |= bit;
    }
    if (bits == 0 || ((bits & NOTIFY_NEVER) && bits != NOTIFY_NEVER))
        return bad(c, EX_USAGE, "-N takes never, or some of success,failure,delay; not", v);
    c->o->notify = bits;
    return 0;
}

static int set_envid(struct cursor *c, const char *v)
{
    for (const char *p = v; *p != '\0'; p++) {
        if (!ascii_is_print(*p))
            return bad(c, EX_USAGE, "-V takes printable ASCII", NULL);
    }
    if (v[0] == '\0' || strlen(v) > ENVID_MAX)
        return bad(c, EX_USAGE, "-V takes 1 to 100 characters", NULL);
    c->o->envid = v;
    return 0;
}

static int set_return(struct cursor *c, const char *v)
{
    if (ascii_casecmp(v, "full") == 0)
        c->o->ret = DSN_RET_FULL;
    else if (ascii_casecmp(v, "hdrs") == 0)
        c->o->ret = DSN_RET_HDRS;
    else
        return bad(c, EX_USAGE, "-R takes full or hdrs, not", v);
    return 0;
}

static int set_body(struct cursor *c, const char *v)
{
    c->o->is_8bitmime = ascii_casecmp(v, "8BITMIME") == 0;
    if (!c->o->is_8bitmime && ascii_casecmp(v, "7BIT") != 0)
        return bad(c, EX_USAGE, "-B takes 7BIT or 8BITMIME, not", v);
    return 0;
}

/* -O name=value is ignored, but for the names that change how the message is sent. */
static int set_long_option(struct cursor *c, const char *v)
{
    if (ascii_casecmp(v, "smtputf8") == 0)
        c->o->is_smtputf8 = true;
    else if (ascii_casecmp(v, "requiretls") == 0)
        return bad(c, EX_UNAVAILABLE, "-O requiretls is not available", NULL);
    return 0;
}

/* -oi, -oAdb, -o7 ...; "-o x value" in three arguments. */
static int set_old_option(struct cursor *c)
{
    bool attached = c->rest[0] != '\0';
    const char *v = value_of(c);
    if (v == NULL)
        return bad(c, EX_USAGE, "option -o needs a value", NULL);
    if (v[0] == 'i') {
        c->o->ignore_dots = true;
    } else if (v[0] == 'A') {
        if (v[1] == '\0')
            return bad(c, EX_USAGE, "-oA needs the name of an alias database", NULL);
        c->o->arg = v + 1;
    } else if (!attached && v[0] != '\0' && v[1] == '\0' && strchr("78m", v[0]) == NULL && c->at < c->argc) {
        c->at++;
    }
    return 0;
}

/* -q is complete by itself; a value must be attached. An interval is for a daemon of another make: ignored. */
static int set_queue(struct cursor *c)
{
    const char *v = c->rest;
    c->rest = "";
    if (v[0] == '\0') {
        c->o->mode = SM_FLUSH;
    } else if (v[0] == 'I' || v[0] == 'R') {
        if (v[1] == '\0')
            return bad(c, EX_USAGE, "-qI and -qR need a value", NULL);
        c->o->mode = v[0] == 'I' ? SM_FLUSH_ID : SM_FLUSH_SITE;
        c->o->arg = v + 1;
    } else if (v[0] == 'S') {
        return bad(c, EX_UNAVAILABLE, "-qS is not available: use -q, or -qR with the destination", NULL);
    } else if (!ascii_is_digit(v[0])) {
        return bad(c, EX_USAGE, "unknown queue option: -q", v);
    }
    return 0;
}

static int set_trace(struct cursor *c, const char *v)
{
    return v[0] == 'V' ? bad(c, EX_UNAVAILABLE, "-XV (variable envelope return paths) is not available", NULL) : 0;
}

static int set_with_value(struct cursor *c, char letter)
{
    const char *v = value_of(c);
    if (v == NULL) {
        char name[3] = { '-', letter, '\0' };
        return bad(c, EX_USAGE, "option needs a value", name);
    }
    switch (letter) {
    case 'B':
        return set_body(c, v);
    case 'C':
        c->o->conf_dir = v;
        return 0;
    case 'F':
        c->o->full_name = v;
        return 0;
    case 'f':
    case 'r':
        c->o->sender = v;
        return 0;
    case 'N':
        return set_notify(c, v);
    case 'O':
        return set_long_option(c, v);
    case 'R':
        return set_return(c, v);
    case 'V':
        return set_envid(c, v);
    case 'X':
        return set_trace(c, v);
    case 'b':
        return set_mode(c, v);
    default: /* A, e, h, L, p: ignored */
        return 0;
    }
}

static int one_letter(struct cursor *c, char letter)
{
    char name[3] = { '-', letter, '\0' };
    switch (letter) {
    case 'I':
        c->o->mode = SM_ALIASES;
        return 0;
    case 'i':
        c->o->ignore_dots = true;
        return 0;
    case 't':
        c->o->extract = true;
        return 0;
    case 'q':
        return set_queue(c);
    case 'o':
        return set_old_option(c);
    case 'G':
    case 'U':
    case 'c':
    case 'm':
    case 'n':
    case 'v':
    case 'x':
        return 0;
    default:
        if (strchr("ABCFLNORVXbefhpr", letter) != NULL)
            return set_with_value(c, letter);
        return bad(c, EX_USAGE, "unknown option", name);
    }
}

static int parse_argument(struct cursor *c, const char *arg)
{
    int status = 0;
    for (c->rest = arg + 1; status == 0 && c->rest[0] != '\0'; ) {
        char letter = c->rest[0];
        c->rest++;
        status = one_letter(c, letter);
    }
    return status;
}

int sendmail_parse(int argc, char **argv, struct sendmail_options *out, struct err *e)
{
    struct cursor c = { .argc = argc, .at = 1, .argv = argv, .o = out, .e = e };
    const char *name = argc > 0 && argv[0] != NULL ? argv[0] : "sendmail";
    const char *base = strrchr(name, '/');
    base = base != NULL ? base + 1 : name;
    *out = (struct sendmail_options){ .mode = strcmp(base, "mailq") == 0        ? SM_LIST
                                              : strcmp(base, "newaliases") == 0 ? SM_ALIASES
                                                                                : SM_DELIVER };
    while (c.at < argc && argv[c.at][0] == '-' && argv[c.at][1] != '\0') {
        const char *arg = argv[c.at++];
        if (strcmp(arg, "--") == 0)
            break;
        int status = parse_argument(&c, arg);
        if (status != 0)
            return status;
    }
    out->rcpts = argv + c.at;
    out->rcpt_count = argc - c.at;
    return 0;
}
